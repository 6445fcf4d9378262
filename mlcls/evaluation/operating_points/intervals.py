"""How far each threshold would move on other images of the same kind: a bootstrap over images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from .choosing import Choice
from .curves import Counts, Curves
from .draws import draw_counts, image_weights
from .objectives import CurveObjective, Objective
from .rates import RateObjective
from .shrinkage import class_weights, mix, precise_distance
from .view import Piece, View

#: Weights of one round of draws take 128 MB at most.
_ROUND = 1 << 25
#: A class with more candidates is looked at through this many of them, evenly spaced: far finer than the interval.
_CANDIDATES = 1000


def threshold_intervals(
    view: View, objective: Objective, choice: Choice, strength: float, draws: int, seed: int
) -> tuple[tuple[float, float], ...]:
    """Percentile intervals of 95 %, resampling images with replacement.

    Each draw chooses every threshold anew, with the calibration, the group's threshold and what ties the classes of a
    joint objective together held as they are: these rest on all classes and hardly move. A threshold is a jumpy
    statistic, for which the bootstrap is a guide to the spread and no exact confidence statement. The interval is
    widened, where needed, to contain the threshold. A class without known positives or negatives has (0, 1).

    Args:
        view: Scores (calibrated, if they are to be) and labels.
        objective: What for.
        choice: Made on ``view``.
        strength: See ``shrinkage.shrink``.
        draws: How many, at least 1.
        seed: Of the draws.

    Returns:
        (low, high) for each class.
    """
    rng = np.random.default_rng(seed)
    each = max(1, _ROUND // view.num_images)
    found = np.concatenate(
        [
            _drawn(view, objective, choice, strength, image_weights(view.num_images, min(each, draws - start), rng))
            for start in range(0, draws, each)
        ],
        axis=1,
    )
    low, high = np.quantile(found, [0.025, 0.975], axis=1)
    low, high = np.minimum(low, choice.thresholds), np.maximum(high, choice.thresholds)
    positives, negatives = view.label_counts
    known = (positives > 0) & (negatives > 0)
    return tuple(zip(np.where(known, low, 0.0).tolist(), np.where(known, high, 1.0).tolist()))


def _drawn(view: View, objective: Objective, choice: Choice, strength: float, weights: torch.Tensor) -> np.ndarray:
    """Thresholds chosen in each draw, float32 (C, draws)."""
    if isinstance(objective, RateObjective):
        return objective.redraw(view, choice.thresholds, weights)
    assert isinstance(objective, CurveObjective)  # there is no third kind: see ``choose``
    found = np.empty((view.num_classes, weights.shape[1]), dtype=np.float32)
    for piece in view.pieces():
        for row in range(len(piece.scores)):
            found[piece.first + row] = _class_draws(piece, row, choice, objective, strength, weights)
    return found


def _class_draws(
    piece: Piece, row: int, choice: Choice, objective: CurveObjective, strength: float, weights: torch.Tensor
) -> np.ndarray:
    """Thresholds of one class in each draw, float32 (draws,)."""
    c = piece.first + row
    assert choice.curves is not None and choice.group is not None  # a CurveObjective has both
    curve = _thinned(choice.curves, c)
    scores, labels = piece.scores[row], piece.labels[row]
    stop = _reach(curve, objective, choice.multiplier)
    found = None
    if stop < len(curve.thresholds):
        # Only the images that these candidates decide, and the positives, need counting.
        rows = np.flatnonzero((labels == 1) | ((labels == 0) & (scores >= curve.thresholds[stop - 1])))
        some = weights.index_select(0, torch.from_numpy(rows))
        counts = draw_counts(scores[rows], labels[rows], curve.thresholds[:stop], some, c)
        counts = counts._replace(negatives=curve.negatives)
        values = objective.values(counts, choice.multiplier)
        if (_bound(counts, objective, choice.multiplier)[-1] < values.max(axis=0)).all():
            found = counts, values
    if found is None:
        counts = draw_counts(scores, labels, curve.thresholds, weights, c)
        found = counts, objective.values(counts, choice.multiplier)
    return _pick(curve.thresholds, *found, objective, choice.group[c], strength)


def _pick(
    thresholds: np.ndarray,
    counts: Counts,
    values: np.ndarray,
    objective: CurveObjective,
    group: np.float32,
    strength: float,
) -> np.ndarray:
    """The threshold of each draw, as ``shrinkage.shrink`` finds it: float32 (draws,)."""
    thresholds = thresholds[: len(values)]
    best = values.argmax(axis=0)
    own = thresholds[best]
    mixed = mix(own, np.full(len(own), group), class_weights(counts.positives, counts.negatives, strength))
    if objective.constraint is None:
        return mixed
    both = (counts.positives > 0) & (counts.negatives > 0)
    if objective.constraint == 'recall':
        highest = np.where(values >= 1, thresholds[:, None], np.float32(-1)).max(axis=0)
        return np.where(both, np.minimum(mixed, highest), mixed)
    place = precise_distance(thresholds[:, None], values, own, mixed).argmin(axis=0)
    met = values[best, np.arange(len(best))] >= 1
    return np.where(both, np.where(met, thresholds[place], own), mixed)


class _Curve(NamedTuple):
    """Candidates of one class, (M,) each, and its numbers of positives and negatives, (1,) each."""

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    cls: np.ndarray


def _thinned(curves: Curves, c: int) -> _Curve:
    """The candidates of class c, at most ``_CANDIDATES`` of them."""
    places = np.arange(curves.starts[c], curves.starts[c + 1])
    if len(places) > _CANDIDATES:
        places = places[np.linspace(0, len(places) - 1, _CANDIDATES).astype(np.int64)]
    counts = (curves.positives[c : c + 1], curves.negatives[c : c + 1], np.array([c]))
    return _Curve(curves.thresholds[places], curves.tp[places], curves.fp[places], *counts)


def _bound(counts: Counts, objective: CurveObjective, multiplier: float) -> np.ndarray:
    """What no lower candidate can exceed: all positives found, and no more false positives than here."""
    return objective.values(counts._replace(tp=counts.positives + np.zeros_like(counts.fp)), multiplier)


def _reach(curve: _Curve, objective: CurveObjective, multiplier: float) -> int:
    """How many candidates to look at first, from the highest: with some to spare, those that may be best in a draw."""
    if curve.negatives[0] < 2 * curve.positives[0] + 100:
        return len(curve.thresholds)
    counts = Counts(*curve[1:])
    hopeless = _bound(counts, objective, multiplier) <= objective.values(counts, multiplier).max()
    if not hopeless.any():
        return len(curve.thresholds)
    return int(np.searchsorted(curve.fp, 1.5 * curve.fp[hopeless.argmax()] + 30)) + 1
