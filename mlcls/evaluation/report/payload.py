"""Everything that a report shows, as plain data; the page is made from it and from nothing else.

Classes are meant by their number, images by their place in ``images``. Measures are percent, scores and thresholds are
in [0, 1] and written as the shortest decimal of a float32 (``Math.fround`` gives it back). A figure that is not defined
is None. The keys:

``title``, ``facts``, ``protocol``, ``notes``, ``data_hash``, ``num_images``
    Words: facts and protocol are pairs of a label and a text, notes are sentences.
``headline``
    ``[{name, value, low, high}]`` of CP, CR, CF1, OP, OR, OF1 and macro_F1 at the thresholds in use, and mAP.
``steps``, ``histograms``
    K, and what `encode_counts` makes of K + 1 counts of positives and K + 1 of negatives of each class.
``home``
    ``[[tp, fp, fn]]`` of each class at the thresholds in use, exact.
``classes``
    ``[{name, positives, negatives, unknown, threshold, interval, ap, auroc, ece, brier, train, note}]``.
``reliability``
    Of each class ten times ``[count, positives, mean score]``.
``images``
    ``[{name, thumb, width, height, present, unknown, unknown_count, scores}]``, see `Album`.
``galleries``
    By class number (a string): ``{false_positives, false_negatives, uncertain}`` of ``[[image, score]]``. Each list is
    the beginning of the true order.
``maps``
    None, or ``{words, pictures}``: by the number of an image and then of a class (strings), where the network saw the
    class in it, see `add_maps`.
``confusions``
    ``[{missed, instead, count, of, expected, score}]``, see `find_confusions`.
``pairs``
    ``[{a, b, observed, predicted, expected, both, score}]``, see `wrong_pairs`.
``suspects``
    ``[{name, class, label, score, image, kind, strength}]``, see `find_suspects`; ``label`` is the label in the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from mlcls.evaluation.functional import average_precision, mean_average_precision
from mlcls.evaluation.functional.auroc import auroc
from mlcls.evaluation.functional.calibration import brier_score
from mlcls.evaluation.functional.decisions import ConfusionCounts
from mlcls.evaluation.operating_points.points import short
from mlcls.evaluation.result import EvaluationResult

from .confusions import find_confusions
from .galleries import KINDS, find_galleries
from .histograms import ScoreHistograms, counts_at, encode_counts, measures_of, score_histograms
from .maps import MAPS_SHARE, add_maps
from .pairs import PairTables, count_pairs, wrong_pairs
from .source import ReportSource
from .suspects import find_suspects
from .thumbnails import MAX_PICTURES, Album
from .words import class_notes, notes_of, protocol_of

#: Resolution of the thresholds of a page, for up to so many classes.
_STEPS = ((1500, 400), (4000, 200), (math.inf, 100))
#: Classes that have galleries: those with the most positives.
MAX_GALLERY_CLASSES = 1000
#: Suspects that are shown with a picture before galleries get theirs, and the share of the room they may take.
_SUSPECTS_FIRST, _SUSPECTS_SHARE = 150, 0.15
#: Bytes kept for notes that are written last.
_RESERVE = 4096
HEADLINE = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')


def build_payload(result: EvaluationResult, source: ReportSource) -> dict[str, Any]:
    """Work out what a report shows.

    The score matrix is read in blocks and never copied whole; pictures are read one at a time.

    Args:
        result: The evaluation. Its scores are those that the thresholds are compared with.
        source: Names, pictures, thresholds and facts.

    Returns:
        Plain data, see the module. As JSON at most ``source.max_bytes`` long, unless the figures alone are longer;
        then there are no pictures.

    Raises:
        DataError: See `ReportSource.check`.
        ConfigError: See there.
    """
    source.check(result)
    scores, targets = result.scores, result.targets
    histograms = score_histograms(scores, targets, steps_for(len(result.classes)))
    home = counts_at(scores, targets, source.thresholds)
    tables = count_pairs(scores, targets, source.thresholds)
    ap = average_precision(scores, targets)
    payload: dict[str, Any] = {
        'title': source.title,
        'facts': [[str(label), str(text)] for label, text in source.facts],
        'protocol': protocol_of(result, source, histograms.steps),
        'data_hash': source.data_hash,
        'calibration': _calibration(source),
        'num_images': len(scores),
        'notes': [],
        'headline': headline(result, source, home, ap),
        'steps': histograms.steps,
        'histograms': encode_counts(_interleaved(histograms)),
        'home': torch.stack(home[:3], dim=1).tolist(),
        'classes': _classes(result, source, histograms, ap),
        'reliability': reliability(histograms),
        'images': [],
        'galleries': {},
        'maps': None,
        'confusions': [_rounded(asdict(entry)) for entry in find_confusions(tables)],
        'pairs': [_rounded(asdict(entry)) for entry in wrong_pairs(tables, targets)],
        'suspects': _suspects(result, source),
    }
    shown = _fill(payload, result, source)
    payload['notes'] = [*_table_notes(tables), *shown]
    payload['notes'] = notes_of(result, source, payload['notes'])
    return payload


def steps_for(classes: int) -> int:
    """K: how fine the thresholds of a page are."""
    return next(steps for most, steps in _STEPS if classes <= most)


def headline(
    result: EvaluationResult, source: ReportSource, home: ConfusionCounts, ap: torch.Tensor
) -> list[dict[str, Any]]:
    """The headline numbers, with those intervals that belong to these very numbers."""
    measures = measures_of(home)
    values = {**{name: getattr(measures, name) for name in HEADLINE}, 'mAP': mean_average_precision(ap)}
    rows = []
    for name, value in values.items():
        low, high = _interval(result, source, name, value) or (None, None)
        rows.append({'name': name, 'value': _plain(value), 'low': low, 'high': high})
    return rows


def _calibration(source: ReportSource) -> dict[str, Any] | None:
    """What was applied to the scores before the thresholds: it goes with thresholds that are copied from the page."""
    calibration = None if source.points is None else source.points.calibration
    return None if calibration is None else calibration.to_dict()


def _interval(result: EvaluationResult, source: ReportSource, name: str, value: float) -> tuple[float, float] | None:
    """The interval given for a number; not one of a metric of the same name at other thresholds, with another value."""
    for key, (low, high) in source.intervals.items():
        if key.rsplit('/', 1)[-1] != name:
            continue
        own = result.metrics.get(key, value)
        if math.isfinite(low) and math.isfinite(high) and math.isclose(own, value, abs_tol=1e-4):
            return float(low), float(high)
    return None


def reliability(histograms: ScoreHistograms) -> list[list[list[float | None]]]:
    """Of each class ten bins of the score: labels, positives among them, mean score (None where there are none)."""
    with np.errstate(invalid='ignore'):
        means = histograms.sums / histograms.counts
    rows = zip(histograms.counts.tolist(), histograms.hits.tolist(), means.tolist())
    return [[[count, hits, round(mean, 4) if count else None] for count, hits, mean in zip(*row)] for row in rows]


def _classes(
    result: EvaluationResult, source: ReportSource, histograms: ScoreHistograms, ap: torch.Tensor
) -> list[dict[str, Any]]:
    positives, negatives = histograms.positives.sum(axis=1), histograms.negatives.sum(axis=1)
    area, brier = auroc(result.scores, result.targets), brier_score(result.scores, result.targets)
    intervals = source.points.intervals if source.points is not None else ()
    notes = class_notes(positives, negatives)
    rows = []
    for c, name in enumerate(result.classes):
        rows.append(
            {
                'name': name,
                'positives': int(positives[c]),
                'negatives': int(negatives[c]),
                'unknown': len(result.scores) - int(positives[c] + negatives[c]),
                'threshold': short(source.thresholds[c]),
                'interval': [short(value) for value in intervals[c]] if intervals else None,
                'ap': _plain(ap[c], 4),
                'auroc': _plain(area[c], 4),
                'ece': _plain(histograms.ece[c], 4),
                'brier': _plain(brier[c], 4),
                'train': None if source.train_counts is None else int(source.train_counts[c]),
                'note': notes[c],
            }
        )
    return rows


def _suspects(result: EvaluationResult, source: ReportSource) -> list[dict[str, Any]]:
    missing, wrong = find_suspects(result.scores, result.targets, source.thresholds)
    return [
        {
            'name': str(source.names[row]),
            'class': column,
            'label': int(kind == 'wrong'),
            'score': short(score),
            'image': row,  # of the result, until pictures are chosen
            'kind': kind,
            'strength': round(strength, 3),
        }
        for kind, found in (('missing', missing), ('wrong', wrong))
        for row, column, score, strength in zip(*(values.tolist() for values in found))
    ]


def _fill(payload: dict[str, Any], result: EvaluationResult, source: ReportSource) -> list[str]:
    """Put pictures and galleries into a payload as long as there is room; says what did not fit."""
    room = source.max_bytes - _length(payload) - _RESERVE
    kept = 0 if source.look is None else int(room * MAPS_SHARE)
    room -= kept
    album = Album(result, source, int(room * _SUSPECTS_SHARE))
    suspects = payload['suspects']
    for entry in suspects[:_SUSPECTS_FIRST]:
        album.place(entry['image'])
    album.room, album.full = room - (int(room * _SUSPECTS_SHARE) - album.room), False
    notes = _fill_galleries(payload, result, source, album)
    for entry in suspects:  # what is left
        album.place(entry['image'])
    for entry in suspects:
        entry['image'] = album.find(entry['image'])
    payload['images'] = album.images
    if album.unreadable:
        notes.append(f'The pictures of {album.unreadable} of the {len(album.images)} images shown cannot be read.')
    return [*notes, *add_maps(payload, source, album.rows, kept + album.room)]


def _fill_galleries(payload: dict[str, Any], result: EvaluationResult, source: ReportSource, album: Album) -> list[str]:
    """First the first image of each gallery of each class, then the second, and so on; a gallery has no gaps."""
    classes = gallery_classes(payload['classes'])
    found = find_galleries(result.scores, result.targets, source.thresholds, classes)
    galleries: dict[str, dict[str, list[Any]]] = {str(c): {kind: [] for kind in KINDS} for c in classes}
    waiting = [(c, kind, iter(zip(*(v.tolist() for v in getattr(found[c], kind))))) for c in classes for kind in KINDS]
    total, shown = sum(len(getattr(found[c], kind).rows) for c in classes for kind in KINDS), 0
    while waiting:
        going = []
        for c, kind, entries in waiting:
            row, score = next(entries, (None, None))
            number = None if row is None else album.place(row)
            if number is None:
                continue
            entry = [number, short(score)]
            album.room -= len(json.dumps(entry)) + 1
            galleries[str(c)][kind].append(entry)
            shown += 1
            going.append((c, kind, entries))
        waiting = going
    payload['galleries'] = galleries
    notes = []
    if len(classes) < len(payload['classes']):
        notes.append(f'Galleries are of the {len(classes):,} classes with the most positives.')
    if shown < total:
        notes.append(
            f'{total - shown:,} of {total:,} places in the galleries are left out, to keep the page below '
            f'{source.max_bytes / 1e6:g} MB and {MAX_PICTURES:,} images; each gallery shows the beginning of its order.'
        )
    return notes


def gallery_classes(classes: list[dict[str, Any]]) -> list[int]:
    """Numbers of the classes with galleries, those with the most positives first."""
    return sorted(range(len(classes)), key=lambda c: (-classes[c]['positives'], c))[:MAX_GALLERY_CLASSES]


def _table_notes(tables: PairTables) -> list[str]:
    notes = []
    crowded = int((~tables.used).sum())
    if crowded:
        notes.append(
            f'Pairs of labels and confusions leave out {crowded:,} images with more than 64 labels or decisions.'
        )
    if any(counts.pruned for counts in (tables.observed, tables.predicted, tables.both, tables.swapped)):
        notes.append('Of the pairs of labels, some that occur in a single image are not counted.')
    return notes


def _interleaved(histograms: ScoreHistograms) -> np.ndarray:
    """Rows of positives and negatives in turn, (2 C, K + 1)."""
    return np.stack([histograms.positives, histograms.negatives], axis=1).reshape(-1, histograms.steps + 1)


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in entry.items()}


def _length(payload: dict[str, Any]) -> int:
    return len(json.dumps(payload, separators=(',', ':')))


def _plain(value: float | torch.Tensor | np.floating, digits: int | None = None) -> float | None:
    number = float(value)
    if not math.isfinite(number):
        return None
    return number if digits is None else round(number, digits)
