"""Fitting a calibration: one temperature, Platt scaling or isotonic regression of each class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .calibration import Calibration, logit, sigmoid
from .curves import key_scores, sorted_keys
from .view import View

#: Log-odds from -16.2 to 16.2 are gathered in so many bins; each bin stands for the mean of what fell into it, so that
#: the mean log loss of a smooth curve is off by less than 1e-5.
_BINS = 2048
_RANGE = 16.2
#: A slope is never lower (scores would lose their order) nor higher (separable data ask for an infinite one).
_SLOPES = (0.01, 20.0)


class _Histogram(NamedTuple):
    """Mean log-odds, and number of positives and negatives, of each bin: float64 (c, bins) each."""

    odds: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


class _Line(NamedTuple):
    slope: np.ndarray
    offset: np.ndarray


def fit_calibration(kind: str, view: View, strength: float) -> tuple[Calibration, list[str]]:
    """Fit a calibration to the known labels.

    Temperature (Guo et al., "On Calibration of Modern Neural Networks", 2017): the one slope of the log-odds that
    gives all known labels together the least log loss. Platt (Platt, "Probabilistic Outputs for Support Vector
    Machines", 1999): slope and offset of the log-odds for each class, against labels smoothed to (n+ + 1) / (n+ + 2)
    and 1 / (n- + 2). Isotonic (Zadrozny and Elkan, 2002): the rising step function of least squared error of each
    class, straight between its steps.

    A class with few labels leans on all classes together: with n the smaller of its numbers of positives and
    negatives, its own curve has the weight n / (n + strength), and Platt scaling of all labels together has the rest
    (in slope and offset for Platt, in probability for isotonic).

    Args:
        kind: ``'temperature'``, ``'platt'`` or ``'isotonic'``.
        view: Scores, not calibrated, and labels.
        strength: See above; 0: every class that has both labels stands alone.

    Returns:
        The calibration, and notes on classes that could not be calibrated on their own.
    """
    number = view.num_classes
    positives, negatives = view.label_counts
    fewest = np.minimum(positives, negatives).astype(np.float64)
    weights = np.where(fewest > 0, fewest / np.maximum(fewest + strength, 1e-9), 0.0)
    if kind == 'isotonic':
        line = _pooled(view, smooth=1.0, offset=True)
        knots, values = _isotonic(view)
        slopes, offsets = (float(line.slope[0]),) * number, (float(line.offset[0]),) * number
        return Calibration(kind, slopes, offsets, tuple(knots), tuple(values), tuple(weights.tolist())), []
    if kind == 'platt':
        return _platt(view, weights)
    line = _pooled(view, smooth=0.0, offset=False)
    return Calibration(kind, (float(line.slope[0]),) * number, (0.0,) * number), []


def _platt(view: View, weights: np.ndarray) -> tuple[Calibration, list[str]]:
    pooled = _pooled(view, smooth=1.0, offset=True)
    own = [_fit_lines(piece, smooth=1.0, offset=True) for piece in _histograms(view)]
    slope, offset = (np.concatenate([getattr(line, name) for line in own]) for name in ('slope', 'offset'))
    turned = (slope <= _SLOPES[0]) & (weights > 0)
    weights = np.where(turned, 0, weights)
    slope = weights * slope + (1 - weights) * pooled.slope
    offset = weights * offset + (1 - weights) * pooled.offset
    notes = []
    if turned.any():
        notes.append(
            f'the scores of {turned.sum()} classes are no higher for their positives than for their negatives; '
            'they are calibrated as all classes together'
        )
    return Calibration('platt', tuple(slope.tolist()), tuple(offset.tolist())), notes


def _histograms(view: View) -> list[_Histogram]:
    """Histograms of the log-odds of each class."""
    found = []
    for piece in view.pieces():
        for row in range(0, len(piece.scores), step := max(1, (1 << 20) // max(1, view.num_images))):
            scores, labels = piece.scores[row : row + step], piece.labels[row : row + step]
            odds = logit(scores)
            bins = ((odds + _RANGE) * (_BINS / (2 * _RANGE))).astype(np.int64)
            bins += np.arange(len(bins))[:, None] * _BINS
            shape, size = (len(scores), _BINS), len(scores) * _BINS
            positive, negative = (
                np.bincount(bins[labels == wanted], minlength=size).reshape(shape).astype(np.float64)
                for wanted in (1, 0)
            )
            known = labels >= 0
            sums = np.bincount(bins[known], weights=odds[known], minlength=size).reshape(shape)
            found.append(_Histogram(sums / np.maximum(positive + negative, 1), positive, negative))
    return found


def _pooled(view: View, smooth: float, offset: bool) -> _Line:
    """One line for the labels of all classes together."""
    pieces = _histograms(view)
    positives = np.sum([piece.positives.sum(axis=0) for piece in pieces], axis=0)
    negatives = np.sum([piece.negatives.sum(axis=0) for piece in pieces], axis=0)
    sums = np.sum([(piece.odds * (piece.positives + piece.negatives)).sum(axis=0) for piece in pieces], axis=0)
    odds = sums / np.maximum(positives + negatives, 1)
    return _fit_lines(_Histogram(odds[None], positives[None], negatives[None]), smooth, offset)


def _fit_lines(data: _Histogram, smooth: float, offset: bool) -> _Line:
    """Least log loss of sigmoid(slope odds + offset), by Newton's method with halved steps, all classes at once.

    Follows Lin, Lin and Weng, "A Note on Platt's Probabilistic Outputs for Support Vector Machines" (2007).

    Args:
        data: Histograms of c classes.
        smooth: 1 for Platt's targets, 0 for the labels themselves.
        offset: Whether there is one; else it is 0.
    """
    used = (data.positives + data.negatives).any(axis=0)  # most bins are empty in every class
    odds, positive, negative = (part[:, used] for part in data)
    count = positive + negative
    high, low = positive.sum(axis=1, keepdims=True), negative.sum(axis=1, keepdims=True)
    wanted = positive * (high + smooth) / (high + 2 * smooth + 1e-300) + negative * smooth / (low + 2 * smooth + 1e-300)
    slope, shift = np.ones((len(odds), 1)), np.zeros((len(odds), 1))

    def loss(slope: np.ndarray, shift: np.ndarray) -> np.ndarray:
        raised = slope * odds + shift
        return (count * np.logaddexp(0, raised) - wanted * raised).sum(axis=1, keepdims=True)

    now = loss(slope, shift)
    for _ in range(50):
        chance = sigmoid(slope * odds + shift)
        residual, curvature = count * chance - wanted, count * chance * (1 - chance)
        by_slope, by_shift = (np.sum(residual * part, axis=1, keepdims=True) for part in (odds, 1.0))
        h_ss = np.sum(curvature * odds * odds, axis=1, keepdims=True) + 1e-9
        h_st = np.sum(curvature * odds, axis=1, keepdims=True) if offset else np.zeros_like(h_ss)
        h_tt = curvature.sum(axis=1, keepdims=True) + 1e-9
        by_shift = by_shift if offset else np.zeros_like(by_shift)
        det = h_ss * h_tt - h_st * h_st
        step_slope, step_shift = (h_tt * by_slope - h_st * by_shift) / det, (h_ss * by_shift - h_st * by_slope) / det
        scale = np.ones_like(now)
        for _ in range(30):
            trial = np.clip(slope - scale * step_slope, -_SLOPES[1], _SLOPES[1]), shift - scale * step_shift
            then = loss(*trial)
            worse = then > now + 1e-10 * np.abs(now)
            if not worse.any():
                break
            scale = np.where(worse, scale / 2, scale)
        moved = np.abs(trial[0] - slope) + np.abs(trial[1] - shift)
        slope, shift, now = *trial, then
        if moved.max() < 1e-8:
            break
    return _Line(np.clip(slope[:, 0], *_SLOPES), shift[:, 0])


def _isotonic(view: View) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Knots and values of the isotonic regression of each class; (0,) and (0,) for a class without known labels."""
    knots: list[tuple[float, ...]] = []
    values: list[tuple[float, ...]] = []
    for piece in view.pieces():
        for keys, known in zip(*sorted_keys(piece)):
            rising = keys[:known][::-1]
            curve = isotonic_curve(key_scores(rising), rising & np.uint32(1)) if known else (np.zeros(1), np.zeros(1))
            knots.append(tuple(curve[0].tolist()))
            values.append(tuple(curve[1].tolist()))
    return knots, values


def isotonic_curve(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Isotonic regression by pooling adjacent violators, many at a time.

    A stretch of blocks whose means do not rise is constant in the solution, so each pass may pool all such stretches.

    Args:
        scores: (n,), rising, n >= 1.
        labels: 1 or 0, (n,).

    Returns:
        Knots (ends of the blocks, rising) and the values there, float64.
    """
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    ends = np.append(starts[1:], len(scores)) - 1
    sums = np.add.reduceat(labels.astype(np.float64), starts)
    sizes = (ends - starts + 1).astype(np.float64)
    while True:
        means = sums / sizes
        begins = np.append(True, means[1:] > means[:-1])
        if begins.all():
            break
        first = np.flatnonzero(begins)
        sums, sizes = np.add.reduceat(sums, first), np.add.reduceat(sizes, first)
        starts, ends = starts[first], ends[np.append(first[1:], len(ends)) - 1]
    knots = np.stack([scores[starts], scores[ends]], axis=1).astype(np.float64).ravel()
    values = np.repeat(means, 2)
    keep = np.append(True, knots[1:] > knots[:-1])
    return knots[keep], values[keep]
