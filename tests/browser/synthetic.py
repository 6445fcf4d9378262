"""A report's payload made up from random scores, written naively from its definition, not by the code under test."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

#: Thresholds that lie on no step of a page.
AWKWARD = (0.31274, 0.5, 0.61803, 0.123457)


class Case(NamedTuple):
    """Scores float32 (N, C) and targets int8 (N, C) of 1, 0 and -1, and the payload that describes them."""

    scores: np.ndarray
    targets: np.ndarray
    payload: dict[str, Any]


def make_case(
    classes: list[str], images: int, seed: int = 0, steps: int = 1000, gallery: int = 8, pictures: int = 60
) -> Case:
    """A data set with rare and common classes, some of them hard; the last of four or more has no positive."""
    rng = np.random.default_rng(seed)
    count = len(classes)
    share = np.clip(0.4 / (1 + np.arange(count)) ** 0.6, 2 / images, None)
    skill = rng.uniform(0.8, 3.5, count).astype(np.float32)
    targets = (rng.random((images, count), np.float32) < share).astype(np.int8)
    logits = rng.standard_normal((images, count), np.float32) + skill * (targets - 0.6)
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    # Ties, and scores that are exactly steps.
    scores[::7] = np.round(scores[::7], 2)
    targets[rng.random((images, count), np.float32) < 0.03] = -1
    if count >= 4:
        targets[:, -1] = np.minimum(targets[:, -1], 0)
    thresholds = [float(np.float32(AWKWARD[c % len(AWKWARD)])) for c in range(count)]
    return Case(scores, targets, _payload(classes, scores, targets, thresholds, steps, gallery, pictures))


def limits(steps: int) -> np.ndarray:
    """The thresholds of a page, float32 (K + 1,)."""
    return (np.arange(steps + 1) / steps).astype(np.float32)


def _payload(
    classes: list[str],
    scores: np.ndarray,
    targets: np.ndarray,
    thresholds: list[float],
    steps: int,
    gallery: int,
    pictures: int,
) -> dict[str, Any]:
    decided = scores >= np.asarray(thresholds, np.float32)
    positive, negative = targets == 1, targets == 0
    home = np.stack(
        [(decided & positive).sum(0), (decided & negative).sum(0), (~decided & positive).sum(0)], axis=1
    ).tolist()
    images, galleries = _pictures(scores, targets, decided, gallery, pictures)
    rows = [
        {
            'name': name,
            'positives': int(positive[:, c].sum()),
            'negatives': int(negative[:, c].sum()),
            'unknown': int((targets[:, c] < 0).sum()),
            'threshold': thresholds[c],
            'interval': [max(0.0, thresholds[c] - 0.08), min(1.0, thresholds[c] + 0.1)] if c % 2 else None,
            'ap': _average_precision(scores[:, c], targets[:, c]),
            'auroc': None if not positive[:, c].any() else 88.25,
            'ece': 3.5 + c % 5,
            'brier': 9.25,
            'train': 4 * int(positive[:, c].sum()) + 3,
            'note': 'Fewer than 20 positives: the threshold is a guess.' if positive[:, c].sum() < 20 else None,
        }
        for c, name in enumerate(classes)
    ]
    return {
        'title': 'resnet50 on synthetic photographs, validation',
        'facts': [['checkpoint', 'work_dirs/resnet50/best.pth'], ['epoch', '12'], ['date', '2026-07-03 14:20']],
        'protocol': [
            ['average precision', 'exact area under the step curve; equal scores count together'],
            ['unknown labels (-1)', 'ignored in every figure'],
            ['absent classes', 'left out of mAP; 0 in CP, CR and macro F1'],
            ['thresholds', 'fitted for F1 on other images, stored in the checkpoint'],
        ],
        'data_hash': '0123456789abcdef',
        'num_images': len(scores),
        'notes': ['1 image could not be read and is left out.'],
        'headline': _headline(home, [row['ap'] for row in rows]),
        'steps': steps,
        'histograms': _histograms(scores, targets, steps),
        'home': home,
        'classes': rows,
        'reliability': _reliability(scores, targets),
        'images': images,
        'galleries': galleries,
        'confusions': _confusions(decided, targets),
        'pairs': _pairs(decided, targets),
        'suspects': _suspects(scores, targets, images),
    }


def _average_precision(scores: np.ndarray, targets: np.ndarray) -> float | None:
    known = targets >= 0
    scores, hits = scores[known], targets[known] == 1
    if not hits.any():
        return None
    order = np.argsort(-scores, kind='stable')
    found = np.cumsum(hits[order])
    return float(100 * (found / np.arange(1, len(found) + 1))[hits[order]].mean())


def _headline(home: list[list[int]], ap: list[float | None]) -> list[dict[str, Any]]:
    tp, fp, fn = np.asarray(home, np.float64).T
    cp, cr = 100 * (tp / np.maximum(tp + fp, 1)).mean(), 100 * (tp / np.maximum(tp + fn, 1)).mean()
    op, recall = 100 * tp.sum() / max((tp + fp).sum(), 1), 100 * tp.sum() / max((tp + fn).sum(), 1)
    values = {
        'CP': cp,
        'CR': cr,
        'CF1': 2 * cp * cr / (cp + cr),
        'OP': op,
        'OR': recall,
        'OF1': 2 * op * recall / (op + recall),
        'macro_F1': 100 * (2 * tp / np.maximum(2 * tp + fp + fn, 1)).mean(),
        'mAP': np.mean([value for value in ap if value is not None]),
    }
    return [
        {
            'name': name,
            'value': float(value),
            'low': None if name == 'mAP' else float(value - 1.3),
            'high': None if name == 'mAP' else float(value + 1.2),
        }
        for name, value in values.items()
    ]


def _histograms(scores: np.ndarray, targets: np.ndarray, steps: int) -> str:
    """Counts in bins, each row coded by itself."""
    data = bytearray()
    edges = limits(steps)
    for c in range(scores.shape[1]):
        for label in (1, 0):
            places = np.searchsorted(edges, scores[targets[:, c] == label, c], side='right') - 1
            _encode(np.bincount(places, minlength=steps + 1).tolist(), data)
    return base64.b64encode(bytes(data)).decode()


def _encode(counts: list[int], data: bytearray) -> None:
    zeros = 0
    for value in [*counts, None]:
        if value == 0:
            zeros += 1
            continue
        if zeros:
            data.append(0)
            _varint(zeros, data)
            zeros = 0
        if value is not None:
            _varint(value, data)


def _varint(value: int, data: bytearray) -> None:
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)


def _reliability(scores: np.ndarray, targets: np.ndarray) -> list[list[list[float | None]]]:
    found = []
    for c in range(scores.shape[1]):
        known = targets[:, c] >= 0
        values, labels = scores[known, c], targets[known, c]
        bins = np.minimum((values * 10).astype(int), 9)
        found.append(
            [
                [int(mask.sum()), int(labels[mask].sum()), float(values[mask].mean())] if mask.any() else [0, 0, None]
                for mask in (bins == b for b in range(10))
            ]
        )
    return found


def _pictures(
    scores: np.ndarray, targets: np.ndarray, decided: np.ndarray, gallery: int, pictures: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Galleries among the first images, so that their pictures are few."""
    pool = min(pictures, len(scores))
    near, labels, yes = scores[:pool], targets[:pool], decided[:pool]
    galleries = {}
    for c in range(scores.shape[1]):
        wrong = {
            'false_positives': (-near[:, c], (labels[:, c] == 0) & yes[:, c]),
            'false_negatives': (near[:, c], (labels[:, c] == 1) & ~yes[:, c]),
            'uncertain': (np.abs(near[:, c] - 0.4), labels[:, c] >= 0),
        }
        galleries[str(c)] = {
            kind: [
                [int(row), float(near[row, c])]
                for row in np.argsort(np.where(allowed, key, np.inf), kind='stable')[: min(gallery, int(allowed.sum()))]
            ]
            for kind, (key, allowed) in wrong.items()
        }
    images = []
    for row in range(pool):
        present = np.flatnonzero(labels[row] == 1).tolist()
        top = np.argsort(-near[row])[:6].tolist()
        listed = list(dict.fromkeys([*present, *np.flatnonzero(yes[row]).tolist(), *top]))[:12]
        images.append(
            {
                'name': f'val/photograph_{row:05d}.jpg',
                'thumb': None if row == 3 else picture(row),
                'width': 640,
                'height': 480,
                'present': present,
                'unknown': np.flatnonzero(labels[row] < 0).tolist(),
                'scores': [[c, float(near[row, c])] for c in listed],
            }
        )
    return images, galleries


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> str:
    """A smooth coloured picture as a data URI."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=70)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _confusions(decided: np.ndarray, targets: np.ndarray, most: int = 40) -> list[dict[str, int]]:
    chosen = range(min(targets.shape[1], 30))
    found = []
    for missed in chosen:
        misses = (targets[:, missed] == 1) & ~decided[:, missed]
        for instead in chosen:
            number = int((misses & decided[:, instead] & (targets[:, instead] == 0)).sum())
            if number and instead != missed:
                found.append({'missed': missed, 'instead': instead, 'count': number, 'of': int(misses.sum())})
    return sorted(found, key=lambda row: -row['count'])[:most]


def _pairs(decided: np.ndarray, targets: np.ndarray, most: int = 30) -> list[dict[str, Any]]:
    chosen = range(min(targets.shape[1], 30))
    found = []
    for a in chosen:
        for b in range(a + 1, len(chosen)):
            both = {
                'observed': int(((targets[:, a] == 1) & (targets[:, b] == 1)).sum()),
                'predicted': int((decided[:, a] & decided[:, b]).sum()),
                'expected': float(decided[:, a].mean() * decided[:, b].mean() * len(decided)),
            }
            found.append({'a': a, 'b': b, **both})
    return sorted(found, key=lambda row: -abs(row['predicted'] - row['observed']))[:most]


def _suspects(scores: np.ndarray, targets: np.ndarray, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for kind, label, sign in (('missing', 0, -1), ('wrong', 1, 1)):
        for row in range(len(images) + 5):
            for c in range(min(scores.shape[1], 12)):
                if row < len(scores) and targets[row, c] == label:
                    found.append((sign, sign * float(scores[row, c]), row, c, kind, 1 - label))
    rows = [item for sign in (-1, 1) for item in sorted(item for item in found if item[0] == sign)[:30]]
    return [
        {
            'name': images[row]['name'] if row < len(images) else f'val/photograph_{row:05d}.jpg',
            'class': c,
            'label': label,
            'score': float(scores[row, c]),
            'image': row if row < len(images) else None,
            'kind': kind,
        }
        for _, _, row, c, kind, label in rows
    ]
