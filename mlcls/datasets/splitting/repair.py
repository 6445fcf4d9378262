"""Moves and exchanges that mend what a first split leaves: sizes, classes that a part lacks, uneven shares."""

from __future__ import annotations

import numpy as np

from .units import Units

#: A class in a part that lacked it outweighs any evenness.
_LACKING = 1e6
#: Ways tried to bring a class to a part, or to better the sizes by one move or exchange.
_TRIES = 50
_MAX_EXCHANGES = 300


class Assignment:
    """Units in parts, with what there is of each class in each part.

    Unevenness is the sum over parts and classes of (images - wanted)^2 / (images of the class), wanted being the part's
    share of the class.

    Args:
        units: The units.
        parts: int64 (U,): the part of each unit; changed in place.
        sizes: int64 (P,): wanted number of images of each part.
    """

    def __init__(self, units: Units, parts: np.ndarray, sizes: np.ndarray) -> None:
        self.units, self.parts, self.wanted_sizes = units, parts, sizes
        totals = units.images_of_classes()
        self.counts = units.counts_in_parts(parts, len(sizes))
        self.sizes = np.bincount(parts, units.sizes, len(sizes)).astype(np.int64)
        self._wanted = np.outer(sizes / sizes.sum(), totals)
        self._weights = 1 / np.maximum(totals, 1)
        #: Classes that every part could have.
        self.required = units.units_of_classes() >= len(sizes)
        self._bounds = np.searchsorted(units.rows, np.arange(len(units) + 1))
        # What a move adds to the unevenness whatever the parts hold.
        squares = 2 * units.counts**2 * self._weights[units.columns]
        self._squares = np.bincount(units.rows, squares, len(units))

    def missing(self) -> int:
        """Number of pairs of a part and a class that it lacks and could have."""
        return int((self.required & (self.counts == 0)).sum())

    def unevenness(self) -> float:
        """See the class."""
        return float(((self.counts - self._wanted) ** 2 * self._weights).sum())

    def cost(self) -> tuple[int, int, float]:
        """To compare splits: pairs missing, images in too large parts, unevenness."""
        return self.missing(), int(np.abs(self.sizes - self.wanted_sizes).sum()) // 2, self.unevenness()

    def improve(self) -> None:
        """Mend sizes, then classes that parts lack, then shares."""
        self._mend_sizes()
        self._bring_classes()
        self._mend_sizes()
        self._even_out()

    def _move(self, unit: int, part: int) -> None:
        entries = slice(self._bounds[unit], self._bounds[unit + 1])
        columns, counts, old = self.units.columns[entries], self.units.counts[entries], self.parts[unit]
        self.counts[old, columns] -= counts
        self.counts[part, columns] += counts
        self.sizes[old] -= self.units.sizes[unit]
        self.sizes[part] += self.units.sizes[unit]
        self.parts[unit] = part

    def _scores(self, old: int, new: int) -> np.ndarray:
        """What moving each unit of part ``old`` to ``new`` adds to the unevenness, inf for other units; (U,).

        A class that ``new`` lacks and could have counts `_LACKING` less, one that ``old`` would then lack so much more.
        """
        units = self.units
        excess = (self.counts[new] - self._wanted[new]) - (self.counts[old] - self._wanted[old])
        gained = self.required & (self.counts[new] == 0)
        lost = self.required[units.columns] & (self.counts[old][units.columns] == units.counts)
        each = (2 * excess * self._weights)[units.columns] * units.counts
        each += _LACKING * (lost.astype(np.float64) - gained[units.columns])
        scores = np.bincount(units.rows, each, len(units)) + self._squares
        return np.where(self.parts == old, scores, np.inf)

    def _mend_sizes(self) -> None:
        while (self.sizes != self.wanted_sizes).any():
            missing = self.missing()
            options = self._size_changes()
            if any(self._change(*option, missing) for option in options):
                continue
            # Images alone can always be shared out exactly, if need be at the cost of a class.
            if not self.units.single or not self._change(*options[0], missing + len(self._weights)):
                return

    def _size_changes(self) -> list[tuple[int, int, int, int]]:
        """Moves and exchanges that bring sizes nearer, best first: (from, to, size of the unit, size of the return)."""
        excess = self.sizes - self.wanted_sizes
        found = []
        for old in np.flatnonzero(excess > 0).tolist():
            for new in np.flatnonzero(excess < excess[old]).tolist():
                out = np.unique(self.units.sizes[self.parts == old])
                back = np.concatenate([[0], np.unique(self.units.sizes[self.parts == new])])
                moved = out[:, None] - back
                before = abs(excess[old]) + abs(excess[new])
                gains = before - np.abs(excess[old] - moved) - np.abs(excess[new] + moved)
                for place in np.argsort(-gains, axis=None, kind='stable')[:_TRIES].tolist():
                    row, column = divmod(place, len(back))
                    if gains[row, column] > 0:
                        found.append((int(gains[row, column]), old, new, int(out[row]), int(back[column])))
        found.sort(key=lambda change: (-change[0], change[4] > 0))
        return [change[1:] for change in found[:_TRIES]]

    def _change(self, old: int, new: int, size: int, back: int, most_missing: int) -> bool:
        """Move a unit of a size, and if ``back`` one of that size in return, unless more than so many pairs miss."""
        scores = np.where(self.units.sizes == size, self._scores(old, new), np.inf)
        unit = int(np.argmin(scores))
        self._move(unit, new)
        returned = -1
        if back:
            scores = np.where(self.units.sizes == back, self._scores(new, old), np.inf)
            scores[unit] = np.inf
            returned = int(np.argmin(scores))
            if np.isfinite(scores[returned]):
                self._move(returned, old)
        if self.missing() <= most_missing:
            return True
        if returned >= 0 and self.parts[returned] == old:
            self._move(returned, new)
        self._move(unit, old)
        return False

    def _bring_classes(self) -> None:
        """Bring classes to parts that lack them and could have them, rarest class first."""
        progress = True
        while progress:
            progress = False
            lacking = np.argwhere(self.required & (self.counts == 0))
            rarity = np.argsort(-self._weights[lacking[:, 1]], kind='stable')
            for part, column in lacking[rarity].tolist():
                if self.counts[part, column] == 0:
                    progress |= self._bring(part, column)

    def _bring(self, part: int, column: int) -> bool:
        holders = self.units.rows[self.units.columns == column]
        offers = []
        for old in np.unique(self.parts[holders]).tolist():
            scores = self._scores(old, part)[holders]
            offers += [(float(score), int(unit), old) for score, unit in zip(scores, holders) if np.isfinite(score)]
        before = self.missing()
        for _, unit, old in sorted(offers)[:_TRIES]:
            self._move(unit, part)
            returned = self._best_return(unit, part, old)
            if returned >= 0:
                self._move(returned, old)
            if self.missing() < before:
                return True
            if returned >= 0:
                self._move(returned, part)
            self._move(unit, old)
        return False

    def _best_return(self, unit: int, part: int, old: int) -> int:
        """The unit to give back for one that came to ``part``: fewest classes lost, nearest in size; -1 for none."""
        scores = self._scores(part, old)
        scores[unit] = np.inf
        others = np.flatnonzero(np.isfinite(scores))
        size = self.units.sizes[unit]
        lost = np.round(scores[others] / _LACKING)
        order = np.lexsort((scores[others], np.abs(self.units.sizes[others] - size), lost))
        if not len(order):
            return -1
        best = order[0]
        if not self.units.single and (lost[best] > 0 or abs(self.units.sizes[others[best]] - size) >= size):
            return -1  # giving nothing is better
        return int(others[best])

    def _even_out(self) -> None:
        """Exchange units of equal size between parts while that lowers the unevenness."""
        num_parts = len(self.wanted_sizes)
        pairs = [(old, new) for old in range(num_parts) for new in range(num_parts) if old != new]
        exchanges, failures, turn = 0, 0, 0
        while failures < len(pairs) and exchanges < _MAX_EXCHANGES:
            old, new = pairs[turn % len(pairs)]
            turn += 1
            if self._exchange(old, new):
                exchanges, failures = exchanges + 1, 0
            else:
                failures += 1

    def _exchange(self, old: int, new: int) -> bool:
        before = (self.missing(), self.unevenness())
        unit = int(np.argmin(self._scores(old, new)))
        self._move(unit, new)
        scores = np.where(self.units.sizes == self.units.sizes[unit], self._scores(new, old), np.inf)
        scores[unit] = np.inf
        other = int(np.argmin(scores))
        found = bool(np.isfinite(scores[other]))
        if found:
            self._move(other, old)
            if (self.missing(), self.unevenness() + 1e-9) < before:
                return True
            self._move(other, new)
        self._move(unit, old)
        return False
