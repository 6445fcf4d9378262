"""Objectives of all classes together: OF1 and CF1, found without trying combinations of thresholds."""

from __future__ import annotations

import numpy as np

from .curves import Counts, Curves, Grid
from .objectives import CurveObjective, Optimum, ratio, total


class OF1(CurveObjective):
    """The highest F1 of the counts summed over all classes. The optimum over all combinations of candidates is exact.

    F = 2 TP / (TP + FP + P). At the best value L, every class on its own maximises 2 tp - L (tp + fp); L is found by
    Dinkelbach's method ("On Nonlinear Fractional Programming", Management Science 13, 1967), which rises to it from
    any start in a few steps. Group: the common threshold of the highest OF1.
    """

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        return 'the best OF1 (F1 of the counts of all classes together)'

    def values(self, counts: Counts, multiplier: float = 0.0) -> np.ndarray:
        """The class's part of the numerator less ``multiplier`` times its part of the denominator."""
        return 2 * counts.tp - multiplier * (counts.tp + counts.fp)

    def optimum(self, curves: Curves) -> Optimum:
        """See ``CurveObjective.optimum``; over the classes that are choosable."""
        counts, chosen = curves.counts(), curves.choosable
        positives = curves.positives[chosen].sum()
        best = 0.0
        while True:
            index = curves.best(self.values(counts, best))
            at = index[chosen]
            reached = 2 * curves.tp[at].sum() / max(1.0, curves.tp[at].sum() + curves.fp[at].sum() + positives)
            if reached <= best + 1e-15:
                return Optimum(index, best, [])
            best = float(reached)

    def group_values(self, grid: Grid) -> np.ndarray:
        """OF1 at each common threshold."""
        counts = total(grid)
        return ratio(2 * counts.tp, counts.tp + counts.fp + counts.positives)


class CF1(CurveObjective):
    """The highest harmonic mean of mean precision P and mean recall R over the classes.

    The harmonic mean is concave and grows with both, so for every weight w the candidates that maximise
    w precision + (1 - w) recall in each class bound it from above: it is at most the largest
    [2 r^2 P + 2 R] / (1 + r)^2 for every r = R / P. The w at which bound and value are nearest is found by bisection;
    then single thresholds are changed while that helps. What is guaranteed: no change of a single threshold gives a
    higher CF1, and the optimum over all combinations is not above the bound (a note says so where the two are more
    than 0.05 percentage points apart; the gap shrinks with the number of classes). Group: the common threshold of the
    highest CF1.

    The measure rewards giving up the recall of some classes and the precision of others, so its optimum may have a far
    lower OF1 and macro_F1 than ``'f1'``: compare the cross-fitted figures.
    """

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        return 'the best CF1 (harmonic mean of mean precision and mean recall)'

    def values(self, counts: Counts, multiplier: float = 0.5) -> np.ndarray:
        """``multiplier`` times the precision plus the rest times the recall."""
        precision = ratio(counts.tp, counts.tp + counts.fp)
        return multiplier * precision + (1 - multiplier) * ratio(counts.tp, counts.positives)

    def optimum(self, curves: Curves) -> Optimum:
        """See ``CurveObjective.optimum``; over the classes that are choosable."""
        counts, chosen = curves.counts(), curves.choosable
        if not chosen.any():
            return Optimum(curves.best(self.values(counts)), 0.5, [])
        precision, recall = ratio(counts.tp, counts.tp + counts.fp), ratio(counts.tp, counts.positives)
        low, high = 0.0, 1.0
        best_index, best, weight, bound = curves.best(self.values(counts)), -1.0, 0.5, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            index = curves.best(middle * precision + (1 - middle) * recall)
            mean_p, mean_r = precision[index[chosen]].mean(), recall[index[chosen]].mean()
            # w = r^2 / (1 + r^2) makes (w, 1 - w) the gradient of the harmonic mean at R / P = r.
            slope = np.sqrt(middle / (1 - middle))
            bound = min(bound, float(2 * (slope**2 * mean_p + mean_r) / (1 + slope) ** 2))
            value = float(_harmonic(mean_p, mean_r))
            if value > best:
                best_index, best, weight = index, value, middle
            # More weight on precision lowers recall, and with it the weight that the reached point asks for.
            if mean_r**2 * (1 - middle) > mean_p**2 * middle:
                low = middle
            else:
                high = middle
        index, best = _improve(best_index.copy(), precision, recall, counts.cls, chosen)
        gap = 100 * (bound - best)
        notes = (
            [f'CF1: the thresholds chosen are within {gap:.2f} percentage points of the optimum'] if gap > 0.05 else []
        )
        return Optimum(index, weight, notes)

    def group_values(self, grid: Grid) -> np.ndarray:
        """CF1 at each common threshold."""
        counts, present = grid.counts(), grid.positives > 0
        precision = ratio(counts.tp, counts.tp + counts.fp)[present].mean(axis=0)
        return _harmonic(precision, ratio(counts.tp, counts.positives)[present].mean(axis=0))


def _harmonic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return ratio(2 * first * second, first + second)


def _improve(
    index: np.ndarray, precision: np.ndarray, recall: np.ndarray, cls: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, float]:
    """Change the one threshold that helps CF1 most, until none does."""
    number, usable = chosen.sum(), chosen[cls]
    while True:
        sums = precision[index[chosen]].sum(), recall[index[chosen]].sum()
        now = float(_harmonic(sums[0] / number, sums[1] / number))
        mean_p = (sums[0] - precision[index][cls] + precision) / number
        mean_r = (sums[1] - recall[index][cls] + recall) / number
        changed = np.where(usable, _harmonic(mean_p, mean_r), -1)
        place = int(changed.argmax())
        if changed[place] <= now + 1e-12:
            return index, now
        index[cls[place]] = place
