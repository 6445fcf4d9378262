"""Calibration: does a score of 0.7 mean that seven in ten such labels are present?

Each class is a binary question here: its score is compared with how often the label is present among images of about
that score. (Guo et al. look at the confidence of one winning class instead, which multi-label data does not have.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mlcls.errors import ConfigError, DataError

from .blocks import check_rows, class_blocks, columns, image_blocks, images, real_scores, share_out, whole_numbers

#: How far a score may leave [0, 1] before it cannot be a probability that was rounded to a half type.
_SLACK = 0.01


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Known labels of each class, grouped by score.

    Bin m holds the scores in (edge m, edge m + 1]; the first takes in its lower edge, too.

    Args:
        edges: float64 (C, B + 1), ascending.
        count: Known labels in each bin, int64 (C, B).
        positives: Those that are present, int64 (C, B).
        score_sum: Sum of their scores, float64 (C, B).
    """

    edges: torch.Tensor
    count: torch.Tensor
    positives: torch.Tensor
    score_sum: torch.Tensor

    @property
    def mean_score(self) -> torch.Tensor:
        """Mean score of each bin, float64 (C, B) in [0, 1]; NaN for an empty bin."""
        return self.score_sum / self.count

    @property
    def frequency(self) -> torch.Tensor:
        """Share of present labels in each bin, float64 (C, B) in [0, 1]; NaN for an empty bin."""
        return self.positives.double() / self.count

    def pooled(self) -> ReliabilityBins:
        """All classes as one, (1, B).

        Raises:
            ConfigError: The classes have edges of their own (equal-mass bins), so that their bins do not belong
                together.
        """
        if bool((self.edges != self.edges[:1]).any()):
            raise ConfigError('only bins of equal width can be pooled: equal-mass bins differ from class to class')
        parts = (self.count, self.positives, self.score_sum)
        return ReliabilityBins(self.edges[:1], *(part.sum(dim=0, keepdim=True) for part in parts))


def reliability_bins(scores: torch.Tensor, targets: torch.Tensor, bins: int = 15) -> ReliabilityBins:
    """Group known labels into bins of equal width over [0, 1], as Guo et al. (2017).

    Args:
        scores: (N, C), probabilities; any real type. A score that rounding took out of [0, 1] (by at most 0.01) falls
            into the outermost bin.
        targets: (N, C) of 1, 0 and -1.
        bins: B, at least 1.

    Returns:
        Bins on the CPU, the same edges for every class.

    Raises:
        ConfigError: ``bins`` is not an integer of at least 1.
        DataError: Shapes differ, a score is NaN or not a probability, or a label is not 1, 0 or -1.
    """
    edges = np.linspace(0.0, 1.0, _check_bins(bins) + 1)
    return _binned(scores, targets, bins, lambda known: edges)


def equal_mass_bins(scores: torch.Tensor, targets: torch.Tensor, bins: int = 15) -> ReliabilityBins:
    """Group known labels into bins that hold equally many each: edges are quantiles of the class's scores.

    Most scores of a rare class lie near 0, where bins of equal width put them all into one. Quantiles are interpolated
    linearly, as in scikit-learn's ``calibration_curve(strategy='quantile')``. Equal scores always share a bin, so bins
    differ in size, and some are empty, where there are ties. Source: Nguyen and O'Connor, "Posterior calibration and
    exploratory analysis for natural language processing models" (2015).

    Args:
        scores: See ``reliability_bins``.
        targets: See there.
        bins: B, at least 1.

    Returns:
        Bins on the CPU; the edges of a class without a known label are NaN.

    Raises:
        ConfigError: See ``reliability_bins``.
        DataError: See there.
    """
    percentiles = 100.0 * np.linspace(0.0, 1.0, _check_bins(bins) + 1)  # as scikit-learn, to the last bit
    none = np.full(bins + 1, np.nan)
    return _binned(
        scores,
        targets,
        bins,
        lambda known: np.percentile(known.astype(np.float64), percentiles) if known.size else none,
    )


def _binned(
    scores: torch.Tensor, targets: torch.Tensor, bins: int, edges_of: Callable[[np.ndarray], np.ndarray]
) -> ReliabilityBins:
    """``edges_of`` takes the known scores of a class in ascending order and gives its B + 1 edges."""
    scores, targets = check_rows(scores, targets)
    classes = scores.shape[1]
    edges = np.full((classes, bins + 1), np.nan)
    count, positives = (np.zeros((classes, bins), np.int64) for _ in range(2))
    score_sum = np.zeros((classes, bins))

    def work(block: slice) -> None:
        values = real_scores(columns(scores, block), scores)
        labels = whole_numbers(columns(targets, block), targets)
        for c, column, label in zip(range(block.start, classes), values, labels):
            # Sorted, the bins are slices, and sums do not depend on the order of the images.
            known, present = np.sort(column[label >= 0]), np.sort(column[label == 1])
            if known.size:
                _check_probabilities(known[0], known[-1])
            edges[c] = edges_of(known)
            inner = _at_most(edges[c, 1:-1], known.dtype)
            ends = _ends(known, inner)
            count[c], positives[c] = np.diff(ends), np.diff(_ends(present, inner))
            score_sum[c] = np.diff(np.concatenate([[0.0], np.cumsum(known, dtype=np.float64)])[ends])

    share_out(work, class_blocks(scores))
    return ReliabilityBins(*map(torch.from_numpy, (edges, count, positives, score_sum)))


def _ends(ordered: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Where each bin begins and the last one ends, (B + 1,)."""
    return np.concatenate([[0], np.searchsorted(ordered, inner, side='right'), [ordered.size]])


def _at_most(edges: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The highest numbers of this type that are not above the edges: comparing with them is comparing in float64."""
    rounded = edges.astype(dtype)
    return np.where(rounded > edges, np.nextafter(rounded, dtype.type(-np.inf)), rounded)


def expected_calibration_error(bins: ReliabilityBins) -> torch.Tensor:
    """ECE: mean distance between score and frequency over the bins, weighted by their size.

    ``sum_b count_b / n * |frequency_b - mean_score_b|``. Sources: Naeini, Cooper and Hauskrecht, "Obtaining Well
    Calibrated Probabilities Using Bayesian Binning" (2015); Guo et al., "On Calibration of Modern Neural Networks"
    (2017).

    Args:
        bins: From ``reliability_bins`` or ``equal_mass_bins``.

    Returns:
        float64 (C,) in percent; NaN for a class without a known label. It is defined for a class without positives,
        whose scores should all be near 0.
    """
    distance = (bins.positives - bins.score_sum).abs().sum(dim=1)
    return 100.0 * distance / bins.count.sum(dim=1)


def maximum_calibration_error(bins: ReliabilityBins) -> torch.Tensor:
    """MCE: the largest distance between score and frequency over the bins that are not empty (same sources).

    A bin of a single label counts like a large one, so that it says more about coarse bins than about the model where
    labels are few.

    Args:
        bins: From ``reliability_bins`` or ``equal_mass_bins``.

    Returns:
        float64 (C,) in percent; NaN for a class without a known label.
    """
    distance = (bins.frequency - bins.mean_score).abs().nan_to_num(nan=0.0).amax(dim=1)
    return torch.where(bins.count.sum(dim=1) > 0, 100.0 * distance, float('nan'))


def brier_score(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Brier score of each class: mean squared distance between score and label.

    scikit-learn's ``brier_score_loss``. Brier, "Verification of Forecasts Expressed in Terms of Probability" (1950),
    sums over both outcomes, which doubles it.

    Args:
        scores: (N, C), probabilities; any real type.
        targets: (N, C) of 1, 0 and -1.

    Returns:
        float64 (C,), times 100 as every measure here: 0 is perfect, 25 is what a constant 0.5 gets. NaN for a class
        without a known label.

    Raises:
        DataError: Shapes differ, a score is NaN or not a probability, or a label is not 1, 0 or -1.
    """
    scores, targets = check_rows(scores, targets)
    total, known = np.zeros(scores.shape[1]), np.zeros(scores.shape[1], np.int64)
    for rows in image_blocks(scores):
        values = real_scores(images(scores, rows), scores)
        labels = whole_numbers(images(targets, rows), targets)
        mask = labels >= 0
        _check_probabilities(values.min(where=mask, initial=0.0), values.max(where=mask, initial=0.0))
        squares = np.where(mask, values.astype(np.float64) - labels, 0.0)
        total += np.einsum('nc,nc->c', squares, squares)
        known += mask.sum(axis=0)
    return torch.from_numpy(100.0 * total) / torch.from_numpy(known)


def _check_bins(bins: object) -> int:
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ConfigError(f'bins must be an integer of at least 1, not {bins!r}')
    return bins


def _check_probabilities(low: float, high: float) -> None:
    if low < -_SLACK or high > 1 + _SLACK:
        raise DataError(
            f'calibration is of probabilities in [0, 1], but scores run from {low:.3g} to {high:.3g}: '
            'were logits given?'
        )
