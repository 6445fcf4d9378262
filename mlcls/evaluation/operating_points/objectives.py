"""What thresholds are chosen for, read from a text such as ``'f1'`` or ``'precision>=0.9'``.

An objective gives every candidate threshold a value; the best value of each class is its optimum. ``joint.py`` has the
objectives of all classes together, ``rates.py`` those that fix how many labels are given.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mlcls.errors import ConfigError, did_you_mean

from .curves import Counts, Curves, Grid

#: How objectives are written; the number may be another.
EXAMPLES = ('f1', 'f0.5', 'f2', 'CF1', 'OF1', 'precision>=0.9', 'recall>=0.95', 'labels=2.9', 'cost=5:1', 'alarms=200')
#: Differences of ratios below this are rounding.
_TINY = 1e-12


class Optimum(NamedTuple):
    """The place of each class's candidate in ``Curves``, int64 (C,); the multiplier of ``values``; notes."""

    places: np.ndarray
    multiplier: float
    notes: list[str]


class Objective(ABC):
    """Anything that thresholds can be chosen for.

    Args:
        name: As ``parse_objective`` reads it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def words(self) -> str:
        """What it asks for, in words that follow "thresholds chosen for"."""


class CurveObjective(Objective):
    """An objective that the counts at each threshold decide."""

    #: The values of candidates that meet the constraint are at least 1, those of others below 1; None: no constraint.
    constraint: str | None = None

    @abstractmethod
    def values(self, counts: Counts, multiplier: float = 0.0) -> np.ndarray:
        """How good each candidate is for its class, float64; higher is better.

        ``multiplier`` ties the classes of a joint objective together: with the one that ``optimum`` gave, the best
        candidate of each class by these values is its optimum.
        """

    def optimum(self, curves: Curves) -> Optimum:
        """The best candidate of each class; meaningless for classes that are not ``choosable``."""
        return Optimum(curves.best(self.values(curves.counts())), 0.0, [])

    def group_values(self, grid: Grid) -> np.ndarray:
        """How good each common threshold is for all classes together, float64 (G,): the mean over classes."""
        present = grid.positives > 0
        return self.values(grid.counts())[present].mean(axis=0)

    def group(self, grid: Grid) -> np.ndarray:
        """The best common threshold, float32 (C,), once for each class."""
        if not grid.positives.any():  # a fold may be left without: nothing to go by
            return np.full(len(grid.positives), 0.5, dtype=np.float32)
        return np.full(len(grid.positives), grid.thresholds[middle_of_best(self.group_values(grid))])


def middle_of_best(values: np.ndarray) -> int:
    """Index in the middle of the first stretch of the highest values, where a small change does no harm."""
    best = values >= values.max() - _TINY
    start = int(best.argmax())
    stop = start + int(np.argmin(np.append(best[start:], False)))
    return (start + stop - 1) // 2


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, 0 where whole is 0."""
    return part / np.maximum(whole, _TINY)


def total(grid: Grid) -> Counts:
    """The counts of all classes together at each common threshold."""
    return Counts(
        grid.tp.sum(axis=0),
        grid.fp.sum(axis=0),
        grid.positives.sum(),
        grid.negatives.sum(),
        np.zeros(1, dtype=np.int64),
    )


class FBeta(CurveObjective):
    """The highest F-beta of each class, and so the highest mean: recall counts ``beta`` times as much as precision.

    Group: the common threshold of the highest mean F-beta. Of equally good thresholds the highest is taken.
    """

    def __init__(self, name: str, beta: float) -> None:
        super().__init__(name)
        self._square = beta * beta

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        return f'the best {self.name.upper()} of each class'

    def values(self, counts: Counts, multiplier: float = 0.0) -> np.ndarray:
        """F-beta in [0, 1]."""
        top = (1 + self._square) * counts.tp
        return ratio(top, counts.tp + counts.fp + self._square * counts.positives)


class _Constrained(CurveObjective):
    """At least so much of one measure, and as much as possible of the other."""

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(name)
        self.limit = limit

    def group_values(self, grid: Grid) -> np.ndarray:
        """The constraint is asked of the counts of all classes together."""
        return self.values(total(grid))


class PrecisionAtLeast(_Constrained):
    """The most recall of each class at no less than a precision; if that is out of reach, the highest precision."""

    constraint = 'precision'

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        return f'precision of at least {self.limit:g} of each class at the most recall'

    def values(self, counts: Counts, multiplier: float = 0.0) -> np.ndarray:
        """1 + recall where the precision is met, else the precision less a little, below 1."""
        precision = ratio(counts.tp, counts.tp + counts.fp)
        recall = ratio(counts.tp, counts.positives)
        met = (precision >= self.limit - _TINY) & (counts.tp > 0)
        # Of equal precisions out of reach the one with more recall.
        return np.where(met, 1 + recall, (precision + 1e-9 * recall) * (1 - 1e-8))


class RecallAtLeast(_Constrained):
    """The most precision of each class at no less than a recall, which every class with a positive can reach."""

    constraint = 'recall'

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        return f'recall of at least {self.limit:g} of each class at the most precision'

    def values(self, counts: Counts, multiplier: float = 0.0) -> np.ndarray:
        """1 + precision where the recall is met, else the recall less a little, below 1."""
        precision = ratio(counts.tp, counts.tp + counts.fp)
        recall = ratio(counts.tp, counts.positives)
        met = (recall >= self.limit - _TINY) & (counts.tp > 0)
        return np.where(met, 1 + precision, recall * (1 - 1e-8))


class Cost(CurveObjective):
    """The least cost, where a miss (false negative) and a false alarm (false positive) cost different amounts.

    Right decisions cost nothing; any 2 x 2 cost matrix in which they are the cheaper ones comes to such a pair.
    Group: the common threshold of the least cost of all classes together, computed for each pair of costs that occurs
    as if all classes had it.

    Args:
        name: As parsed.
        miss: Cost of a false negative, above 0.
        alarm: Cost of a false positive, above 0.
        per_class: float64 (C, 2) of (miss, alarm) in class order, where classes differ.
    """

    def __init__(self, name: str, miss: float, alarm: float, per_class: np.ndarray | None = None) -> None:
        super().__init__(name)
        self._pair = miss, alarm
        self._costs = np.array([[miss, alarm]]) if per_class is None else per_class

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        costs = f'the least cost (a miss {self._pair[0]:g}, a false alarm {self._pair[1]:g}'
        return costs + ('; some classes have their own)' if len(self._costs) > 1 else ')')

    def values(self, counts: Counts, multiplier: float = 0.0) -> np.ndarray:
        """Minus the cost."""
        cls = counts.cls if len(self._costs) > 1 else np.zeros_like(counts.cls)
        return -(self._costs[cls, 0] * (counts.positives - counts.tp) + self._costs[cls, 1] * counts.fp)

    def group(self, grid: Grid) -> np.ndarray:
        """The best common threshold under the costs of each class, float32 (C,)."""
        together = total(grid)
        found = np.empty(len(grid.positives), dtype=np.float32)
        costs = np.broadcast_to(self._costs, (len(found), 2))
        for pair in np.unique(costs, axis=0):
            values = -(pair[0] * (together.positives - together.tp) + pair[1] * together.fp)
            found[(costs == pair).all(axis=1)] = grid.thresholds[middle_of_best(values)]
        return found


def parse_objective(
    text: str, classes: Sequence[str] = (), costs: Mapping[str, tuple[float, float]] | None = None
) -> Objective:
    """Read an objective.

    Args:
        text: ``'f1'`` (any beta: ``'f0.5'``, ``'f2'``), ``'CF1'``, ``'OF1'``, ``'precision>=0.9'``, ``'recall>=0.95'``,
            ``'labels=2.9'`` (mean labels an image), ``'cost=5:1'`` (a miss to a false alarm) or ``'alarms=200'``
            (labels given in all images together).
        classes: Names, in class order; only used with ``costs``.
        costs: For ``'cost=...'``: other costs (miss, false alarm) for some classes.

    Raises:
        ConfigError: Not an objective, a number outside its range, costs for an unknown class or another objective.
    """
    from .joint import CF1, OF1
    from .rates import Alarms, Labels

    written = text.strip() if isinstance(text, str) else repr(text)
    if costs and not written.startswith('cost='):
        raise ConfigError(f"costs of single classes need the objective 'cost=MISS:ALARM', not '{written}'")
    for name, joint in (('CF1', CF1), ('OF1', OF1)):
        if written.upper() == name:
            return joint(name)
    beta = re.fullmatch(r'[fF](\d*\.?\d+)', written)
    if beta and float(beta[1]) > 0:
        return FBeta(f'f{float(beta[1]):g}', float(beta[1]))
    found = re.fullmatch(r'(precision|recall)\s*>=\s*(.*)', written)
    if found:
        limit = _number(found[2], written, found[1], 'above 0 and at most 1', lambda value: 0 < value <= 1)
        kind = PrecisionAtLeast if found[1] == 'precision' else RecallAtLeast
        return kind(f'{found[1]}>={limit:g}', limit)
    found = re.fullmatch(r'(labels|alarms|cost)\s*=\s*(.*)', written)
    if found and found[1] == 'cost':
        return _cost(found[2], written, classes, costs or {})
    if found and found[1] == 'labels':
        mean = _number(found[2], written, 'labels', 'above 0', lambda value: value > 0)
        return Labels(f'labels={mean:g}', mean)
    if found:
        whole = 'a whole number of at least 1'
        budget = _number(found[2], written, 'alarms', whole, lambda value: value >= 1 and value == int(value))
        return Alarms(f'alarms={int(budget)}', int(budget))
    raise ConfigError(f"unknown objective '{written}'" + did_you_mean(written, EXAMPLES))


def _number(text: str, written: str, what: str, wanted: str, fits: object) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not fits(value):  # type: ignore[operator]
        raise ConfigError(f"objective '{written}': {what} must be {wanted}, not '{text}'")
    return value


def _cost(text: str, written: str, classes: Sequence[str], costs: Mapping[str, tuple[float, float]]) -> Cost:
    parts = text.split(':')
    if len(parts) != 2:
        raise ConfigError(f"objective '{written}': give the costs of a miss and of a false alarm, as in 'cost=5:1'")
    miss, alarm = (_number(part, written, 'a cost', 'above 0', lambda value: value > 0) for part in parts)
    name = f'cost={miss:g}:{alarm:g}'
    if not costs:
        return Cost(name, miss, alarm)
    table = np.tile([miss, alarm], (len(classes), 1)).astype(np.float64)
    for cls, pair in costs.items():
        if cls not in classes:
            raise ConfigError(f"costs: '{cls}' is no class" + did_you_mean(str(cls), classes))
        values = list(pair) if isinstance(pair, (list, tuple)) else []
        good = [isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and v > 0 for v in values]
        if len(values) != 2 or not all(good):
            raise ConfigError(f"costs of '{cls}' must be two numbers above 0, a miss and a false alarm, not {pair!r}")
        table[list(classes).index(cls)] = values
    return Cost(name, miss, alarm, table)
