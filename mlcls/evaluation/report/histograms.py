"""Counts of scores in bins, from which a page gives the exact confusion counts at every threshold k / K."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlcls.evaluation.functional import (
    ConfusionCounts,
    PrecisionRecallF1,
    precision_recall_f1,
)
from mlcls.evaluation.metrics.shared import decision_counts

#: Bins of a reliability diagram.
RELIABILITY_BINS = 10
#: Elements of the score matrix that are worked on at a time.
_BLOCK = 1 << 21


@dataclass(frozen=True, eq=False)
class ScoreHistograms:
    """How the scores of the known labels of each class are distributed.

    Args:
        positives: int64 (C, K + 1): bin k counts labels of 1 whose score s has ``t(k) <= s < t(k + 1)``, the last bin
            those with ``t(K) <= s``, where ``t(k)`` is k / K as float32.
        negatives: int64 (C, K + 1): the same of labels of 0.
        counts: int64 (C, 10): known labels in ten equal bins of the score.
        hits: int64 (C, 10): those of them that are 1.
        sums: float64 (C, 10): sum of their scores.
    """

    positives: np.ndarray
    negatives: np.ndarray
    counts: np.ndarray
    hits: np.ndarray
    sums: np.ndarray

    @property
    def steps(self) -> int:
        """K."""
        return self.positives.shape[1] - 1

    @property
    def ece(self) -> np.ndarray:
        """Expected calibration error of each class, in percent, float64 (C,); NaN without a known label.

        The mean, weighted by the labels in a bin, of the distance between the mean score and the share of positives
        (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017), here of ten equal bins of the score of the label.
        """
        total = self.counts.sum(axis=1)
        with np.errstate(invalid='ignore', divide='ignore'):
            return np.where(total > 0, 100 * np.abs(self.sums - self.hits).sum(axis=1) / total, np.nan)


def limits_of(steps: int) -> np.ndarray:
    """The thresholds k / K, k = 0 .. K, float32 (K + 1,): each the float32 nearest to the fraction."""
    return (np.arange(steps + 1, dtype=np.float64) / steps).astype(np.float32)


def row_blocks(scores: torch.Tensor, targets: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Blocks of whole rows: first row, scores as float32 (n, C), targets (n, C), all in memory."""
    size = max(1, _BLOCK // max(scores.shape[1], 1))
    for start in range(0, len(scores), size):
        part = slice(start, start + size)
        yield start, scores[part].float(), targets[part]


def column_blocks(
    scores: torch.Tensor, targets: torch.Tensor, columns: Sequence[int] | np.ndarray
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """Blocks of the chosen columns, a row a class: numbers (n,), scores as float32 (n, N), targets (n, N)."""
    numbers = np.asarray(columns, np.int64)
    size = max(1, 2 * _BLOCK // max(len(scores), 1))
    for start in range(0, len(numbers), size):
        chosen = torch.from_numpy(numbers[start : start + size])
        part = (tensor.index_select(1, chosen).t().contiguous() for tensor in (scores, targets))
        block, labels = part
        yield numbers[start : start + size], block.float(), labels


def score_histograms(scores: torch.Tensor, targets: torch.Tensor, steps: int) -> ScoreHistograms:
    """Count the scores of each class in K + 1 bins.

    Args:
        scores: float32 or float16 (N, C) in [0, 1].
        targets: int8 (N, C) of 1, 0 and -1; labels of -1 count nowhere.
        steps: K, a multiple of 10.
    """
    classes, width = scores.shape[1], steps + 1
    limits = limits_of(steps)
    above = np.append(limits[1:], np.float32(np.inf))  # where the next bin begins
    found = np.zeros(classes * 2 * width, np.int64)
    sums = np.zeros(classes * RELIABILITY_BINS)
    column = np.arange(classes, dtype=np.int64)
    for _, block, labels in row_blocks(scores, targets):
        values, marks = block.numpy(), labels.numpy()
        bins = np.clip((values * np.float32(steps)).astype(np.int32), 0, steps)
        # The product is rounded, so the bin may be one off; its limits decide.
        bins -= (values < limits[bins]) & (bins > 0)
        bins += values >= above[bins]
        taken = marks >= 0
        places = (column * (2 * width) + bins + np.where(marks == 1, 0, width))[taken]
        found += np.bincount(places, minlength=len(found))
        tenth = np.minimum(bins * RELIABILITY_BINS // steps, RELIABILITY_BINS - 1)
        places = (column * RELIABILITY_BINS + tenth)[taken]
        sums += np.bincount(places, values[taken].astype(np.float64), len(sums))
    counts = found.reshape(classes, 2, width)
    positives, negatives = counts[:, 0], counts[:, 1]
    hits = _tenths(positives)
    by_class = sums.reshape(classes, RELIABILITY_BINS)
    return ScoreHistograms(positives, negatives, hits + _tenths(negatives), hits, by_class)


def _tenths(counts: np.ndarray) -> np.ndarray:
    """Sums of a tenth of the bins each, (C, 10); what lies on the last limit joins the last."""
    merged = counts[:, :-1].reshape(len(counts), RELIABILITY_BINS, -1).sum(axis=2)
    merged[:, -1] += counts[:, -1]
    return merged


def counts_at(scores: torch.Tensor, targets: torch.Tensor, thresholds: Sequence[float]) -> ConfusionCounts:
    """Exact counts of right and wrong decisions at one threshold a class, int64 (C,) each."""
    return decision_counts(scores, targets, [float(value) for value in thresholds])


def measures_of(counts: ConfusionCounts) -> PrecisionRecallF1:
    """Precision, recall and F1 from counts of each class; a class without a known label is in no mean."""
    known = torch.stack(list(counts)).sum(dim=0) > 0
    return precision_recall_f1(counts.tp[known], counts.fp[known], counts.fn[known])


def encode_counts(counts: np.ndarray) -> str:
    """Counts as base64 of unsigned LEB128 numbers, short where most are zero.

    Numbers follow each other row by row. A run of zeros is written as 0 and the length of the run; no run goes beyond
    its row.

    Args:
        counts: int64 (R, W) of numbers from 0 to 2 ** 35 - 1.
    """
    width = counts.shape[1]
    flat = counts.reshape(-1)
    zero = flat == 0
    # A run begins where a zero follows no zero or begins a row.
    before = np.roll(zero, 1)
    before[::width] = False
    begins = zero & ~before
    kept = ~zero | begins
    places = np.flatnonzero(kept)
    lengths = np.diff(np.append(places, flat.size))  # of a run: all until the next number that is kept
    is_run = zero[places]
    out = np.repeat(flat[places], 1 + is_run)
    out[np.cumsum(1 + is_run)[is_run] - 1] = lengths[is_run]
    return base64.b64encode(_leb128(out)).decode('ascii')


def _leb128(numbers: np.ndarray) -> bytes:
    """Unsigned LEB128: seven bits a byte, the lowest first, the high bit set on all bytes of a number but its last."""
    size = np.ones(len(numbers), np.int64)
    for more in range(1, 5):
        size += numbers >= 1 << 7 * more
    ends = np.cumsum(size)
    data = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for place in range(5):
        has = size > place
        value = (numbers[has] >> 7 * place) & 0x7F
        data[(ends - size)[has] + place] = value | np.where(size[has] > place + 1, 0x80, 0)
    return data.tobytes()
