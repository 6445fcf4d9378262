"""Choosing thresholds on some rows, and counting what thresholds decide on others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ..functional.classification import precision_recall_f1
from .curves import Curves, Grid, build_curves, common_grid
from .objectives import CurveObjective, Objective
from .rates import RateObjective
from .shrinkage import shrink
from .view import Piece, View

#: Names of the figures, all in percent.
FIGURES = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')


@dataclass(frozen=True, eq=False)
class Choice:
    """Thresholds and how they came about.

    Args:
        thresholds: float32 (C,).
        group: The group's threshold, float32 (C,), or None where there is none.
        multiplier: See ``CurveObjective.values``.
        curves: The candidates, or None for objectives that need none.
        missed: bool (C,): the constraint of the objective is out of reach.
        notes: What to tell the user.
    """

    thresholds: np.ndarray
    group: np.ndarray | None
    multiplier: float
    curves: Curves | None
    missed: np.ndarray
    notes: list[str] = field(default_factory=list)


def choose(view: View, objective: Objective, strength: float, share: float = 1.0) -> Choice:
    """Choose thresholds.

    Args:
        view: Scores (calibrated, if they are to be) and labels.
        objective: What for.
        strength: See ``shrinkage.shrink``.
        share: Part of the images that these are.
    """
    if isinstance(objective, RateObjective):
        thresholds, notes = objective.place(view, share)
        return Choice(thresholds, None, 0.0, None, np.zeros(view.num_classes, dtype=bool), notes)
    if not isinstance(objective, CurveObjective):
        raise TypeError(f'{type(objective).__name__} can neither be placed nor read from curves')
    return choose_on(*build_curves(view, common_grid(view)), objective, strength)


def choose_on(curves: Curves, grid: Grid, objective: CurveObjective, strength: float) -> Choice:
    """Choose thresholds where everything is counted already; see ``choose``."""
    none = np.zeros(curves.num_classes, dtype=bool)
    group = objective.group(grid)
    optimum = objective.optimum(curves)
    values = objective.values(curves.counts(), optimum.multiplier)
    thresholds = shrink(objective, curves, values, optimum.places, group, strength)
    missed = none if objective.constraint is None else (values[optimum.places] < 1) & curves.choosable
    return Choice(thresholds, group, optimum.multiplier, curves, missed, optimum.notes)


def count_decisions(view: View, thresholds: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives of each class, int64 (3, C); thresholds (C,)."""
    found = np.zeros((3, view.num_classes), dtype=np.int64)
    for piece in view.pieces():
        chosen = slice(piece.first, piece.first + len(piece.scores))
        found[:, chosen] = count_piece(piece, thresholds[chosen].astype(np.float32)[:, None])
    return found


def count_piece(piece: Piece, thresholds: np.ndarray) -> np.ndarray:
    """The same for some classes, int64 (3, c); thresholds float32, (c, 1) or (c, n)."""
    decided, positive = piece.scores >= thresholds, piece.labels == 1
    tp = np.count_nonzero(decided & positive, axis=1)
    fp = np.count_nonzero(decided & (piece.labels == 0), axis=1)
    return np.stack([tp, fp, np.count_nonzero(positive, axis=1) - tp])


def figures(counts: np.ndarray) -> dict[str, float]:
    """CP, CR, CF1, OP, OR, OF1 and macro_F1 in percent, from counts (3, C)."""
    found = precision_recall_f1(*(torch.from_numpy(row) for row in counts))
    return {name: float(getattr(found, name)) for name in FIGURES}
