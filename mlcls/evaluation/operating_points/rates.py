"""Objectives that fix how many labels are given: so many an image, or so many in all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from .curves import key_scores, midway, sorted_keys
from .draws import draw_labels, draws_given
from .objectives import Objective
from .view import Piece, View


class RateObjective(Objective):
    """An objective about the number of labels given. Not shrunk: that would change the number."""

    @abstractmethod
    def place(self, view: View, share: float) -> tuple[np.ndarray, list[str]]:
        """Choose.

        Args:
            view: Scores and labels.
            share: Which part of the images that the objective speaks of these are, above 0, at most 1.

        Returns:
            Thresholds, float32 (C,), and notes.
        """

    @abstractmethod
    def redraw(self, view: View, thresholds: np.ndarray, weights: torch.Tensor) -> np.ndarray:
        """Choose anew in each bootstrap draw, among some candidates around the thresholds chosen.

        Args:
            view: Scores and labels.
            thresholds: Chosen on all of ``view``, float32 (C,).
            weights: How often each image is in each draw, float32 (n, draws).

        Returns:
            float32 (C, draws).
        """


class Labels(RateObjective):
    """So many labels an image on average, each class as often as it occurs (Yang 2001 calls this PCut).

    Class c is given to the share k * share_c / sum(share) of the images, where share_c is its share of positives among
    the known labels. So k equal to the mean number of positives gives every class its own frequency; another k
    scales all alike.
    """

    def __init__(self, name: str, mean: float) -> None:
        super().__init__(name)
        self._mean = mean

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        return f'{self._mean:g} labels an image, each class in proportion to its positives'

    def wanted(self, positives: np.ndarray, known: np.ndarray) -> np.ndarray:
        """How many images each class is to be given to, float64, at most ``known``; classes are the first axis."""
        shares = positives / np.maximum(known, 1)
        return np.minimum(known, known * self._mean * shares / np.maximum(shares.sum(axis=0), 1e-300))

    def place(self, view: View, share: float) -> tuple[np.ndarray, list[str]]:
        """See ``RateObjective.place``."""
        positives, negatives = view.label_counts
        known = (positives + negatives).astype(np.float64)
        wanted = self.wanted(positives, known)
        thresholds = np.ones(view.num_classes, dtype=np.float32)
        reached = 0.0
        for first, keys, count in _sorted_columns(view):
            thresholds[first], given = _cut(key_scores(keys[:count]), wanted[first])
            reached += given / max(1, count)
        if abs(reached - self._mean) > 0.05 * self._mean:
            return thresholds, [f'{self._mean:g} labels an image are asked for; the nearest reached is {reached:.2f}']
        return thresholds, []

    def redraw(self, view: View, thresholds: np.ndarray, weights: torch.Tensor) -> np.ndarray:
        """See ``RateObjective.redraw``."""
        levels = self._nearby(view, thresholds)
        wanted = self.wanted(*draw_labels(view.pieces(), weights))
        found = np.empty((view.num_classes, weights.shape[1]), dtype=np.float32)
        for c, given in draws_given(view.pieces(), levels, weights):
            found[c] = levels[c][np.abs(given - wanted[c]).argmin(axis=0)]
        return found

    def _nearby(self, view: View, thresholds: np.ndarray) -> np.ndarray:
        """Scores of each class around its threshold, six standard errors of the count wide; float32 (C, 129)."""
        found = np.empty((view.num_classes, 129), dtype=np.float32)
        for first, keys, count in _sorted_columns(view):
            scores = key_scores(keys[:count])
            rank = np.searchsorted(-scores, -thresholds[first], side='right')
            width = 6 * np.sqrt(rank) + 20
            ranks = np.linspace(max(0, rank - width), min(count - 1, rank + width), 128).astype(np.int64)
            found[first] = thresholds[first]
            if count:
                found[first] = np.sort(np.append(scores[ranks], thresholds[first]))[::-1]
        return found


class Alarms(RateObjective):
    """At most so many labels in all images and classes together: those of the highest scores.

    One threshold for all classes, so scores of different classes must mean the same: calibrate them. Labels are not
    read, and images count whether their label is known or not. For new data the number holds per image: the same
    thresholds give twice as many alarms on twice as many images.
    """

    def __init__(self, name: str, budget: int) -> None:
        super().__init__(name)
        self._budget = budget

    @property
    def words(self) -> str:
        """See ``Objective.words``."""
        return f'at most {self._budget} labels in all images together, those of the highest scores'

    def place(self, view: View, share: float) -> tuple[np.ndarray, list[str]]:
        """See ``RateObjective.place``."""
        budget = round(self._budget * share)
        if budget >= view.num_images * view.num_classes:
            return np.zeros(view.num_classes, dtype=np.float32), []
        edge = scores_at_ranks(view, np.array([budget]))[0]  # the highest score that must stay out
        higher = _count(view, np.nextafter(edge, np.float32(2)))
        if higher > 0:
            above = scores_at_ranks(view, np.array([higher - 1]))[0]
            return np.full(view.num_classes, midway(above, edge), dtype=np.float32), []
        notes = []
        if edge == 1:
            ones = _count(view, edge)
            notes = [
                f'{ones} scores are exactly 1, so no threshold gives fewer labels than that; {budget} are asked for'
            ]
        return np.ones(view.num_classes, dtype=np.float32), notes

    def redraw(self, view: View, thresholds: np.ndarray, weights: torch.Tensor) -> np.ndarray:
        """See ``RateObjective.redraw``."""
        cells = view.num_images * view.num_classes
        middle = max(1, _count(view, thresholds[0]))
        ranks = np.unique(np.geomspace(max(1, middle / 3), min(cells, middle * 3 + 30), 64).astype(np.int64)) - 1
        levels = np.unique(np.append(scores_at_ranks(view, ranks), thresholds[0]))[::-1]
        levels = np.broadcast_to(levels, (view.num_classes, len(levels)))
        unread = (Piece(piece.first, piece.scores, np.zeros_like(piece.labels)) for piece in view.pieces())
        given = sum(given for _, given in draws_given(unread, levels, weights))
        fits = np.asarray(given) <= self._budget
        # The lowest threshold that keeps to the budget; the highest candidate where none does.
        place = np.maximum(fits.sum(axis=0) - 1, 0)
        return np.broadcast_to(levels[0][place], (view.num_classes, weights.shape[1])).copy()


def _sorted_columns(view: View) -> Iterator[tuple[int, np.ndarray, int]]:
    """Class, its sorted keys and the number of known labels among them."""
    for piece in view.pieces():
        for row, (keys, known) in enumerate(zip(*sorted_keys(piece))):
            yield piece.first + row, keys, int(known)


def _cut(scores: np.ndarray, wanted: float) -> tuple[float, int]:
    """The threshold that gives the label to the number of images nearest to ``wanted``, and that number.

    Args:
        scores: float32 (n,), falling.
        wanted: In [0, n].
    """
    count = len(scores)
    rank = round(wanted)
    if not 0 < rank < count:
        lower = upper = rank
    else:
        lower = int(np.searchsorted(-scores, -scores[rank], side='left'))  # before and behind those equal to it
        upper = int(np.searchsorted(-scores, -scores[rank], side='right'))
        lower, upper = (rank, rank) if lower == rank else (lower, upper)
    given = lower if wanted - lower <= upper - wanted else upper
    if given == 0:
        if count and scores[0] == 1:  # 1.0 is no refusal of these
            ones = int(np.searchsorted(-scores, -1.0, side='right'))
            return 1.0, ones
        return 1.0, 0
    if given == count:
        return float(scores[-1] / 2), given
    return float(midway(scores[given - 1], scores[given])), given


def scores_at_ranks(view: View, ranks: np.ndarray) -> np.ndarray:
    """The scores at some ranks among all scores of all classes, without sorting or copying them.

    Counts the upper half of the float32 bits first, then the lower half where it matters.

    Args:
        view: Scores.
        ranks: int64, 0 for the highest score.

    Returns:
        float32, one a rank.
    """
    upper = np.zeros(1 << 15, dtype=np.int64)
    for piece in view.pieces():
        upper += np.bincount(_bits(piece) >> 15, minlength=1 << 15)
    rising = np.asarray(view.num_images * view.num_classes - 1 - ranks)  # ranks from the lowest
    ends = np.cumsum(upper)
    bins = np.searchsorted(ends, rising, side='right')
    needed, slots = np.unique(bins, return_inverse=True)
    slot_of = np.full(1 << 15, -1, dtype=np.int64)
    slot_of[needed] = np.arange(len(needed))
    lower = np.zeros(len(needed) << 15, dtype=np.int64)
    for piece in view.pieces():
        bits = _bits(piece)
        slot = slot_of[bits >> 15]
        chosen = slot >= 0
        lower += np.bincount((slot[chosen] << 15) + (bits[chosen] & 0x7FFF), minlength=len(lower))
    fine = np.cumsum(lower.reshape(len(needed), 1 << 15), axis=1)
    within = rising - (ends[bins] - upper[bins])
    low = np.array([np.searchsorted(fine[slot], rank, side='right') for slot, rank in zip(slots, within)])
    return ((bins << 15) + low).astype(np.uint32).view(np.float32)


def _bits(piece: Piece) -> np.ndarray:
    return piece.scores.view(np.uint32).ravel().astype(np.int64)


def _count(view: View, threshold: np.floating) -> int:
    """How many scores are at least ``threshold``."""
    return sum(int(np.count_nonzero(piece.scores >= threshold)) for piece in view.pieces())
