"""Weights of images under which classes are drawn as evenly as their co-occurrence allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlcls.structures import PRESENT, LabelMatrix

_CHUNK = 65536
_MAX_STEPS = 20_000
#: Steps between two looks at how far the best possible is.
_CHECK_EVERY = 25


@dataclass(frozen=True, eq=False)
class LabelSets:
    """The distinct sets of present classes in a data set (unknown labels count as absent), and who has them.

    Images with equal labels are alike to everything that balances classes, so that only sets need be looked at.

    Args:
        rows: int64 (entries,): the set of each entry.
        columns: int32 (entries,): its class.
        images: int64 (S,): number of images with each set.
        set_of: int64 (N,): the set of each image.
        num_classes: C.
    """

    rows: np.ndarray
    columns: np.ndarray
    images: np.ndarray
    set_of: np.ndarray
    num_classes: int

    @classmethod
    def of(cls, labels: LabelMatrix) -> LabelSets:
        """The label sets of (N, C) labels."""
        count = len(labels)
        packed = np.empty((count, -(-labels.num_classes // 8)), np.uint8)
        for start in range(0, count, _CHUNK):
            part = np.arange(start, min(start + _CHUNK, count))
            packed[part] = np.packbits(labels.select(part).dense() == PRESENT, axis=1)
        # Bytes of one length: that numpy ignores trailing zeros in comparing them makes no two rows equal.
        keys = packed.view(f'S{packed.shape[1]}').ravel()
        _, first, set_of, images = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        rows, columns = np.nonzero(np.unpackbits(packed[first], axis=1, count=labels.num_classes))
        return cls(rows, columns.astype(np.int32), images, set_of.ravel(), labels.num_classes)

    def exposure(self, per_set: np.ndarray) -> np.ndarray:
        """Sum per class of a number per set, over the sets with the class; float64 (C,)."""
        return np.bincount(self.columns, per_set[self.rows], self.num_classes)

    def sums(self, per_class: np.ndarray) -> np.ndarray:
        """Sum per set of a number per class, over its classes; float64 (S,)."""
        return np.bincount(self.rows, per_class[self.columns], len(self.images))

    def largest(self, per_class: np.ndarray, empty: float) -> np.ndarray:
        """Largest number per class of each set's classes, and ``empty`` for less or the empty set; float64 (S,)."""
        result = np.full(len(self.images), empty)
        np.maximum.at(result, self.rows, per_class[self.columns])
        return result


def imbalance(exposure: np.ndarray) -> float:
    """How unevenly classes are drawn: log of the arithmetic over the geometric mean of their exposures, in nats.

    It is the Kullback-Leibler divergence of the classes' shares of all labels drawn from equal shares: 0 if all are
    drawn equally often, and it does not change with the length of an epoch. Classes that are never drawn do not count.

    Args:
        exposure: Draws (or share of the draws) in which each class is present, (C,), at least 0.
    """
    drawn = exposure[exposure > 0]
    return float(np.log(drawn.mean()) - np.log(drawn).mean()) if drawn.size else 0.0


@dataclass(frozen=True, eq=False)
class BalancedWeights:
    """What `balanced_weights` finds.

    Args:
        multipliers: float64 (N,), mean 1: how many times as often as without balancing each image is drawn.
        imbalance: `imbalance` of the classes under them.
        bound: Below this, no multipliers within the limits bring it.
    """

    multipliers: np.ndarray
    imbalance: float
    bound: float


def balanced_weights(
    labels: LabelMatrix, max_repeat: float, min_share: float, tolerance: float = 1e-3
) -> BalancedWeights:
    """The multipliers of images that make `imbalance` smallest.

    Multipliers lie in [min_share, max_repeat] and have mean 1; images without a present class keep 1. With v = w /
    (labels drawn), the objective is convex in v and the limits are a polytope, so every local minimum is global.
    Method: mirror descent with the entropy as distance (multiplicative steps, Beck and Teboulle 2003), projected on the
    limits, from equal weights, with backtracking; of equally even weights it ends near those closest to equal ones. It
    stops when the linearisation in v, minimised over the limits, proves that less than ``tolerance`` can be gained.
    Deterministic.

    Args:
        labels: Labels of the N images.
        max_repeat: Largest multiplier, at least 1.
        min_share: Smallest multiplier, in [0, 1].
        tolerance: Largest distance from the best possible, in nats.
    """
    sets = LabelSets.of(labels)
    if not len(sets.rows):
        return BalancedWeights(np.ones(len(labels)), 0.0, 0.0)
    problem, multipliers = _Problem(sets, max_repeat, min_share), np.ones(len(sets.images))
    weights = np.full(int(problem.labelled.sum()), 1 / problem.total)
    value, step, bound = problem.value(weights), 0.1, -np.inf
    for number in range(_MAX_STEPS):
        if number % _CHECK_EVERY == 0:
            bound = max(bound, problem.bound(weights))
            if value - bound <= tolerance or problem.high <= problem.low:
                break
        weights, value, step = problem.descend(weights, value, step)
    multipliers[problem.labelled] = weights * problem.total
    return BalancedWeights(multipliers[sets.set_of], value, max(bound, 0.0))


class _Problem:
    """The objective and the limits, over the label sets that are not empty; weights are an image's, one a set."""

    def __init__(self, sets: LabelSets, max_repeat: float, min_share: float) -> None:
        self.sizes = np.bincount(sets.rows, minlength=len(sets.images)).astype(np.float64)
        self.labelled = self.sizes > 0
        self.sizes, self.images = self.sizes[self.labelled], sets.images[self.labelled].astype(np.float64)
        numbers = np.cumsum(self.labelled) - 1
        seen = np.unique(sets.columns)  # a class without images cannot be balanced
        self.num_classes = len(seen)
        columns = np.searchsorted(seen, sets.columns).astype(np.int32)
        self.sets = LabelSets(numbers[sets.rows], columns, self.images, numbers[sets.set_of], self.num_classes)
        self.total = self.images.sum()
        # A weight of nought would stay nought.
        self.low, self.high = max(min_share, 1e-9) / self.total, max_repeat / self.total

    def _exposure(self, weights: np.ndarray) -> np.ndarray:
        return self.sets.exposure(self.images * weights)

    def value(self, weights: np.ndarray) -> float:
        return imbalance(self._exposure(weights))

    def descend(self, weights: np.ndarray, value: float, step: float) -> tuple[np.ndarray, float, float]:
        """One step: the new weights, their objective, and the step to try next."""
        exposure = self._exposure(weights)
        slopes = self.sizes / exposure.sum() - self.sets.sums(1 / exposure) / self.num_classes
        slopes -= slopes.min()
        while True:
            moved = self._project(weights * np.exp(-np.minimum(step * slopes, 600.0)))
            distance = (self.images * (moved * np.log(moved / weights) - moved + weights)).sum()
            # Weights sum to 1 before and after, so that a constant in the slopes does not matter.
            promised = value + (self.images * slopes * (moved - weights)).sum() + distance / step
            reached = self.value(moved)
            if reached <= promised + 1e-15 or step < 1e-12:
                return (moved, reached, step * 1.3) if reached <= value else (weights, value, step / 2)
            step /= 2

    def _project(self, wanted: np.ndarray) -> np.ndarray:
        """Nearest weights in entropy: ``clip(a * wanted, low, high)`` with the ``a`` that makes them sum to 1."""
        bends = np.concatenate([self.low / wanted, self.high / wanted])
        order = np.argsort(bends, kind='stable')
        change = np.concatenate([self.images * wanted, -self.images * wanted])[order]
        bends, slopes = bends[order], np.cumsum(change)
        sums = self.low * self.total + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(bends))])
        piece = max(int(np.searchsorted(sums, 1.0)) - 1, 0)
        scale = bends[piece] + (max((1.0 - sums[piece]) / slopes[piece], 0.0) if slopes[piece] > 0 else 0.0)
        return np.clip(scale * wanted, self.low, self.high)

    def bound(self, weights: np.ndarray) -> float:
        """A lower bound of the objective within the limits, from the tangent at these weights.

        In v = w / (labels drawn) the objective is -mean(log(C * exposure)), whose tangent is linear; over the limits a
        linear function of v is a ratio of two of w, minimised by Dinkelbach's method, each step by sorting.
        """
        exposure = self._exposure(weights)
        gains = -self.sets.sums(1 / (exposure / exposure.sum())) / self.num_classes
        ratio = -1.0
        for _ in range(50):
            order = np.argsort(gains - ratio * self.sizes, kind='stable')
            room = self.images[order] * (self.high - self.low)
            before = np.cumsum(room) - room
            best = np.full(len(order), self.low)
            best[order] += np.clip(1 - self.total * self.low - before, 0, room) / self.images[order]
            found = float((self.images * best * gains).sum() / (self.images * best * self.sizes).sum())
            if ratio - found <= 1e-12:
                break
            ratio = found
        return imbalance(exposure) + 1 + min(ratio, -1.0)
