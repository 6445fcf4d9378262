"""Which labels go together: in the labels, in the decisions, and where the two disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .histograms import row_blocks

#: Pairs in a report, and the least score that one of them needs.
MAX_PAIRS, MIN_SCORE = 300, 2.0
#: Up to so many classes, counts of all pairs are one table; beyond, only pairs that occur are kept.
_DENSE = 1024
#: Beyond, an image with more labels (or decisions) than this is left out: it would make thousands of pairs.
_CROWDED = 64
#: Different pairs kept at a time; when there are more, those seen once are dropped.
_MAX_KEYS = 4_000_000
#: A matrix product makes so many pairs in the time in which one is made from lists.
_FASTER = 500


class PairCounts:
    """How many images show each ordered pair of classes (a, b), as ``a * C + b``.

    Args:
        classes: C.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        #: Whether pairs seen once were dropped to save memory.
        self.pruned = False
        self._table = np.zeros((classes, classes), np.int64) if classes <= _DENSE else None
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Count the pairs of two bool matrices (n, C): a in the first and b in the second, of the same image."""
        number = first.sum(axis=1, dtype=np.int64) @ second.sum(axis=1, dtype=np.int64)
        if self._table is None:
            self._merge(*np.unique(_joined(first, second), return_counts=True))
        elif number * _FASTER > first.size * self.classes:
            self._table += (first.astype(np.float32).T @ second.astype(np.float32)).astype(np.int64)
        else:
            keys = _joined(first, second)
            self._table += np.bincount(keys, minlength=self._table.size).reshape(self._table.shape)

    def _merge(self, keys: np.ndarray, counts: np.ndarray) -> None:
        every, place = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        total = np.bincount(place, np.concatenate([self._counts, counts]), len(every)).astype(np.int64)
        if len(every) > _MAX_KEYS:
            self.pruned = True
            every, total = every[total > 1], total[total > 1]
        self._keys, self._counts = every, total

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs that occur, ascending, and their counts, int64 (n,) each."""
        if self._table is None:
            return self._keys, self._counts
        keys = np.flatnonzero(self._table)
        return keys, self._table.reshape(-1)[keys]

    def at(self, keys: np.ndarray) -> np.ndarray:
        """Counts of the given pairs, int64 (n,); 0 for those that do not occur."""
        known, counts = self.items()
        if not len(known):
            return np.zeros(len(keys), np.int64)
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[place] == keys, counts[place], 0)


@dataclass(frozen=True, eq=False)
class PairTables:
    """Counts of pairs over the images that are used. Unknown labels take part in nothing.

    Args:
        observed: Both present in the labels.
        predicted: Both decided, both labels known.
        both: Both present and both decided.
        swapped: (a, b): a is present and not decided, b is absent and decided.
        decided: Decisions about known labels of each class, int64 (C,).
        known: Known labels of each class, int64 (C,).
        missed: Positives that are not decided, int64 (C,).
        alarms: Negatives that are decided, int64 (C,).
        used: bool (N,): images that take part.
    """

    observed: PairCounts
    predicted: PairCounts
    both: PairCounts
    swapped: PairCounts
    decided: np.ndarray
    known: np.ndarray
    missed: np.ndarray
    alarms: np.ndarray
    used: np.ndarray

    @property
    def classes(self) -> int:
        """C."""
        return len(self.decided)


def count_pairs(scores: torch.Tensor, targets: torch.Tensor, thresholds: Sequence[float]) -> PairTables:
    """Count pairs of labels and of decisions in one pass over the images.

    Args:
        scores: (N, C), float32 or float16.
        targets: int8 (N, C) of 1, 0 and -1.
        thresholds: One a class.
    """
    images, classes = scores.shape
    limits = np.asarray(thresholds, np.float64).astype(np.float32)
    counts = [PairCounts(classes) for _ in range(4)]
    sums = np.zeros((4, classes), np.int64)
    used = np.ones(images, bool)
    for start, block, labels in row_blocks(scores, targets):
        marks = labels.numpy()
        decided = (block.numpy() >= limits) & (marks >= 0)
        present = marks == 1
        if classes > _DENSE:
            fits = np.maximum(decided.sum(axis=1), present.sum(axis=1)) <= _CROWDED
            used[start : start + len(block)] = fits
            marks, decided, present = marks[fits], decided[fits], present[fits]
        found, missed = present & decided, present & ~decided
        alarms = decided & ~present
        for table, pair in zip(counts, ((present, present), (decided, decided), (found, found), (missed, alarms))):
            table.add(*pair)
        for total, mask in zip(sums, (decided, marks >= 0, missed, alarms)):
            total += mask.sum(axis=0)
    observed, predicted, both, swapped = counts
    taken, known, misses, false = sums
    return PairTables(observed, predicted, both, swapped, taken, known, misses, false, used)


@dataclass(frozen=True)
class LabelPair:
    """Two classes whose joint frequency the model gets wrong.

    Args:
        a: Number of a class.
        b: Number of the other, above ``a``.
        observed: Images with both in the labels.
        predicted: Images for which both are decided.
        expected: How many these would be if decisions about the two were independent of each other.
        both: Images with both in the labels and both decided.
        score: Above 0 where they are decided together too often; see `wrong_pairs`.
    """

    a: int
    b: int
    observed: int
    predicted: int
    expected: float
    both: int
    score: float


def wrong_pairs(tables: PairTables, targets: torch.Tensor, limit: int = MAX_PAIRS) -> list[LabelPair]:
    """Pairs of classes that are decided together clearly more or less often than the labels have them.

    The two counts are of the same images, so agreement says nothing: of the images on which labels and decisions differ
    about the pair, those with both decided and those with both labelled should be equally many. The score is their
    difference in standard errors (McNemar's test, 1947)::

        (predicted - observed) / sqrt(predicted + observed - 2 both)

    Args:
        tables: From `count_pairs`.
        targets: int8 (N, C), those that were counted.
        limit: Number of pairs, at most.

    Returns:
        Pairs with a score beyond two standard errors, the largest first.
    """
    classes = tables.classes
    keys = np.union1d(tables.observed.items()[0], tables.predicted.items()[0])
    keys = keys[keys // classes < keys % classes]
    observed, predicted, both = (table.at(keys) for table in (tables.observed, tables.predicted, tables.both))
    differing = observed + predicted - 2 * both
    scores = (predicted - observed) / np.sqrt(np.maximum(differing, 1))
    order = np.argsort(-np.abs(scores), kind='stable')[:limit]
    order = order[np.abs(scores[order]) >= MIN_SCORE]
    known = _known_together(tables, targets, keys[order])
    pairs = []
    for place, together in zip(order.tolist(), known):
        a, b = divmod(int(keys[place]), classes)
        shares = [tables.decided[c] / max(int(tables.known[c]), 1) for c in (a, b)]
        counts = (int(observed[place]), int(predicted[place]))
        expected = float(math.prod(shares)) * together
        pairs.append(LabelPair(a, b, *counts, expected, int(both[place]), float(scores[place])))
    return pairs


def _known_together(tables: PairTables, targets: torch.Tensor, keys: np.ndarray) -> list[int]:
    """In how many images both labels of each pair are known."""
    images = int(tables.used.sum())
    used = torch.from_numpy(tables.used)
    columns: dict[int, torch.Tensor] = {}
    found = []
    for key in keys.tolist():
        pair = divmod(key, tables.classes)
        if all(tables.known[c] == images for c in pair):
            found.append(images)
            continue
        for c in pair:
            if c not in columns:
                columns[c] = (targets[:, c] >= 0) & used
        found.append(int((columns[pair[0]] & columns[pair[1]]).sum()))
    return found


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``a * C + b`` of all pairs of a True of a row of the first matrix and one of the same row of the second."""
    rows, left = np.nonzero(first)
    _, right = np.nonzero(second)
    lengths = second.sum(axis=1, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    repeats = lengths[rows]
    # Of each left class, the right ones of its row, one after the other.
    shift = starts[rows] - (np.cumsum(repeats) - repeats)
    places = np.arange(int(repeats.sum())) + np.repeat(shift, repeats)
    return np.repeat(left * first.shape[1], repeats) + right[places]
