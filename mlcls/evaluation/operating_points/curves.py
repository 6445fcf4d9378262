"""What every threshold would count: for each class the counts at all thresholds worth having.

Only thresholds just below a positive are kept (and "never"): between two of them the false positives alone grow, so
none of them is better under any objective that is not hurt by more true positives or fewer false ones. A class with
n positives has at most n + 1 candidates, however many images there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .calibration import sigmoid
from .view import Piece, View

_ONE = 0x3F800000  # the bits of float32 1.0, the highest score
_UNKNOWN = np.uint32(0xFFFFFFFE)  # sorts behind every known label


class Counts(NamedTuple):
    """Counts that broadcast against each other, float64, and the index of the class of each, int64."""

    tp: np.ndarray
    fp: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    cls: np.ndarray


@dataclass(frozen=True, eq=False)
class Curves:
    """The candidates of all classes in one row; those of class c are ``starts[c]`` to ``starts[c + 1] - 1``.

    Args:
        starts: int64 (C + 1,).
        thresholds: float32, falling within a class.
        tp: Known positives with score >= threshold, float64.
        fp: Known negatives with score >= threshold, float64.
        positives: Known positives of each class, float64 (C,).
        negatives: Known negatives of each class, float64 (C,).
    """

    starts: np.ndarray
    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.starts) - 1

    @property
    def choosable(self) -> np.ndarray:
        """bool (C,): the class has a known positive and a known negative, so that its data say something."""
        return (self.positives > 0) & (self.negatives > 0)

    def classes(self) -> np.ndarray:
        """Class of each candidate, int64."""
        return np.repeat(np.arange(self.num_classes), np.diff(self.starts))

    def counts(self) -> Counts:
        """Counts of all candidates."""
        cls = self.classes()
        return Counts(self.tp, self.fp, self.positives[cls], self.negatives[cls], cls)

    def best(self, values: np.ndarray) -> np.ndarray:
        """Index of the candidate of the highest value of each class, int64 (C,); the highest threshold if several."""
        highest = np.maximum.reduceat(values, self.starts[:-1])
        cls = self.classes()
        places = np.flatnonzero(values == highest[cls])
        found = np.empty(self.num_classes, dtype=np.int64)
        found[cls[places[::-1]]] = places[::-1]  # the first of each class is written last
        return found


class Grid(NamedTuple):
    """Counts of every class at the same thresholds.

    thresholds float32 (G,) falling; tp, fp float64 (C, G); positives, negatives float64 (C,).
    """

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    def counts(self) -> Counts:
        """Counts (C, G)."""
        return Counts(
            self.tp, self.fp, self.positives[:, None], self.negatives[:, None], np.arange(len(self.positives))[:, None]
        )


def sort_keys(piece: Piece) -> np.ndarray:
    """Scores with their labels as one integer each, which sort several times faster than pairs.

    Scores in [0, 1] order as their float32 bits do. A key is twice the distance of the bits from those of 1.0, plus 1
    for a positive: the highest score has the lowest key, and of equal scores the positives come last. Unknown labels
    have a key behind all others.

    Returns:
        uint32 (c, n), not sorted.
    """
    keys = (np.uint32(_ONE) - piece.scores.view(np.uint32)) << np.uint32(1)
    keys |= piece.labels == 1
    if (piece.labels < 0).any():
        keys[piece.labels < 0] = _UNKNOWN
    return keys


def sorted_keys(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """``sort_keys`` in order: uint32 (c, n), and the number of known labels of each class, int64 (c,)."""
    keys = sort_keys(piece)
    keys.sort(axis=1)
    return keys, (piece.labels >= 0).sum(axis=1)


def key_scores(keys: np.ndarray) -> np.ndarray:
    """The scores of keys, float32."""
    return (np.uint32(_ONE) - (keys >> np.uint32(1))).view(np.float32)


def midway(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """float32 thresholds t with below < t <= above, midway where the type has a number there."""
    middle = ((above.astype(np.float64) + below.astype(np.float64)) / 2).astype(np.float32)
    return np.where(middle > below, middle, above).astype(np.float32)


def common_grid(view: View, size: int = 256) -> np.ndarray:
    """Thresholds at which all classes are compared: quantiles of the scores of positives, and even steps of log-odds.

    Returns:
        float32 (G,), falling, each once, 0.5 among them.
    """
    step = max(1, view.num_images * view.num_classes // (1 << 19))
    sample = view.only(np.arange(0, view.num_images, step)) if step > 1 else view
    scores = np.concatenate([piece.scores[piece.labels == 1] for piece in sample.pieces()])
    even = sigmoid(np.linspace(-16, 16, size // 2 + 1)).astype(np.float32)
    if len(scores):
        even = np.concatenate([even, np.quantile(scores, np.linspace(0, 1, size)).astype(np.float32)])
    return np.unique(even)[::-1].copy()


def build_curves(view: View, grid: np.ndarray) -> tuple[Curves, Grid]:
    """Count everything that the choice of thresholds needs, in one pass over the scores.

    Args:
        view: Scores and labels.
        grid: Common thresholds, float32 (G,), falling.

    Returns:
        The candidates of each class, and the counts of all classes at ``grid``.
    """
    return _join([_piece_curves(*sorted_keys(piece), grid) for piece in view.pieces()], grid)


def build_curves_without(view: View, fold: np.ndarray, grids: list[np.ndarray]) -> list[tuple[Curves, Grid]]:
    """``build_curves`` of the view without each fold in turn, from one sort.

    Args:
        view: Scores and labels.
        fold: Fold of each image, int64 (n,), 0 to len(grids) - 1 and below 256.
        grids: Common thresholds for each fold that is left out.
    """
    parts: list[list[_Part]] = [[] for _ in grids]
    for piece in view.pieces():
        keys = sort_keys(piece).astype(np.uint64)
        keys <<= np.uint64(8)
        keys |= fold.astype(np.uint64)
        keys.sort(axis=1)
        folds, keys32 = keys.astype(np.uint8), (keys >> np.uint64(8)).astype(np.uint32)
        for number, grid in enumerate(grids):
            # Every class has every image once, so that equally many stay of each.
            rest = keys32[folds != number].reshape(len(keys), -1)
            parts[number].append(_piece_curves(rest, (rest != _UNKNOWN).sum(axis=1), grid))
    return [_join(part, grid) for part, grid in zip(parts, grids)]


def _join(parts: list[_Part], grid: np.ndarray) -> tuple[Curves, Grid]:
    sizes, thresholds, tp, fp, positives, negatives, grid_tp, grid_fp = (
        np.concatenate([getattr(part, name) for part in parts]) for name in _Part._fields
    )
    positives, negatives = positives.astype(np.float64), negatives.astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Curves(starts, thresholds, tp, fp, positives, negatives), Grid(grid, grid_tp, grid_fp, positives, negatives)


class _Part(NamedTuple):
    sizes: np.ndarray
    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    grid_tp: np.ndarray
    grid_fp: np.ndarray


def _piece_curves(keys: np.ndarray, known: np.ndarray, grid: np.ndarray) -> _Part:
    """Candidates and counts on the grid of some classes; keys as from ``sorted_keys``."""
    classes, length = keys.shape
    rows, places = np.nonzero(keys & np.uint32(1))
    per_class = np.bincount(rows, minlength=classes)
    first = np.cumsum(per_class) - per_class
    tp = np.arange(len(rows)) - first[rows] + 1
    # Positives are the last of equal scores, so a positive ends its group unless another positive follows it there.
    has_next = places + 1 < known[rows]
    after = keys[rows, np.minimum(places + 1, length - 1)]
    ends = ~has_next | (after != keys[rows, places])
    rows, places, tp, after, has_next = rows[ends], places[ends], tp[ends], after[ends], has_next[ends]
    above = key_scores(keys[rows, places])
    below = np.where(has_next, key_scores(after), np.float32(0))
    thresholds = np.where(above > 0, midway(above, below), np.float32(0))

    # "Never" is 1.0, which decides only scores that are exactly 1; where there are some, those are what it costs.
    ones = np.stack([np.searchsorted(row, np.uint32(2)) for row in keys])
    ones_fp = np.stack([np.searchsorted(row[:end], np.uint32(1)) for row, end in zip(keys, ones)])
    next_lower = np.where(ones < known, key_scores(keys[np.arange(classes), np.minimum(ones, length - 1)]), 0)
    never = np.where(ones > 0, midway(np.ones(classes, np.float32), next_lower.astype(np.float32)), np.float32(1))

    sizes = np.bincount(rows, minlength=classes) + 1
    starts = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    at = np.ones(total, dtype=bool)
    at[starts] = False
    merged = [np.empty(total, dtype=kind) for kind in (np.float32, np.float64, np.float64)]
    columns = ((never, ones - ones_fp, ones_fp), (thresholds, tp, places + 1 - tp))
    for target, head, rest in zip(merged, *columns):
        target[starts], target[at] = head, rest
    return _Part(sizes, merged[0], merged[1], merged[2], per_class, known - per_class, *_on_grid(keys, grid))


def _on_grid(keys: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """tp and fp, float64 (c, G), at falling thresholds."""
    limits = ((np.uint32(_ONE) - grid.view(np.uint32)) << np.uint32(1)) | np.uint32(1)
    tp, fp = np.empty((2, len(keys), len(grid)))
    for c, row in enumerate(keys):
        decided = np.searchsorted(row, limits, side='right')
        tp[c] = np.searchsorted(row[(row & np.uint32(1)).astype(bool)], limits, side='right')
        fp[c] = decided - tp[c]
    return tp, fp
