"""What thresholds are worth on images they were not chosen on."""

from __future__ import annotations

import numpy as np

from .calibration_fit import fit_calibration
from .choosing import choose, choose_on, count_decisions, count_piece
from .curves import build_curves_without, common_grid
from .objectives import CurveObjective, Objective
from .view import View


def make_folds(view: View, folds: int, seed: int) -> np.ndarray:
    """Deal the images out so that every class's positives, the rare ones' first, are spread evenly.

    In the manner of Sechidis et al., "On the Stratification of Multi-Label Data" (2011): from the class with the
    fewest positives on, its images that have no fold yet go to the folds with the fewest positives of it, the smallest
    fold first among equals.

    Args:
        view: Labels.
        folds: How many, 2 to the number of images.
        seed: The same seed and the same order of rows give the same folds.

    Returns:
        int64 (n,): fold of each image, 0 to folds - 1. The sizes of the folds differ little, and by 1 at most where
        images without labels are left to even them out.
    """
    rng = np.random.default_rng(seed)
    rows, cls = view.positive_cells()
    bounds = np.searchsorted(cls, np.arange(view.num_classes + 1))
    fold = np.full(view.num_images, -1, dtype=np.int64)
    sizes = np.zeros(folds, dtype=np.int64)
    for c in np.argsort(np.diff(bounds), kind='stable'):
        images = rows[bounds[c] : bounds[c + 1]]
        taken = fold[images]
        have = np.bincount(taken[taken >= 0], minlength=folds)
        _deal(images[taken < 0], have, fold, sizes, rng)
    _deal(np.flatnonzero(fold < 0), sizes.copy(), fold, sizes, rng)
    return fold


def _deal(images: np.ndarray, have: np.ndarray, fold: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> None:
    """Give ``images`` to folds, each time to the one that has least of this kind, then to the smallest one."""
    if not len(images):
        return
    folds = len(have)
    order = np.lexsort((rng.random(folds), sizes))
    places = have[order] + np.arange(len(images))[:, None]  # each fold's next places, falling behind in rows
    chosen = order[np.argsort(places.ravel(), kind='stable')[: len(images)] % folds]
    fold[rng.permutation(images)] = chosen
    sizes += np.bincount(chosen, minlength=folds)


def cross_fit(
    view: View, objective: Objective, calibration: str | None, strength: float, folds: int, seed: int
) -> np.ndarray:
    """Count the decisions on each fold of thresholds (and calibration) fitted on the others.

    Args:
        view: Scores, not calibrated, and labels.
        objective: What thresholds are chosen for.
        calibration: Kind, or None.
        strength: See ``shrinkage.shrink``.
        folds: How many, 2 to the number of images.
        seed: Of the folds.

    Returns:
        int64 (3, C): true positives, false positives and false negatives, summed over the folds.
    """
    fold = make_folds(view, folds, seed)
    if calibration is None and isinstance(objective, CurveObjective) and folds <= 256:
        return count_folds(view, fold, fast_thresholds(view, objective, strength, fold, folds))
    counts = np.zeros((3, view.num_classes), dtype=np.int64)
    for number in range(folds):
        rest, held = view.only(np.flatnonzero(fold != number)), view.only(np.flatnonzero(fold == number))
        if calibration is not None:
            fitted, _ = fit_calibration(calibration, rest, strength)
            rest, held = rest.calibrated(fitted), held.calibrated(fitted)
        choice = choose(rest, objective, strength, rest.num_images / view.num_images)
        counts += count_decisions(held, choice.thresholds)
    return counts


def fast_thresholds(view: View, objective: CurveObjective, strength: float, fold: np.ndarray, folds: int) -> np.ndarray:
    """The thresholds of each fold, from one sort of all scores: float32 (C, folds)."""
    grids = [common_grid(view.only(np.flatnonzero(fold != number))) for number in range(folds)]
    counted = build_curves_without(view, fold, grids)
    return np.stack([choose_on(*each, objective, strength).thresholds for each in counted], axis=1)


def count_folds(view: View, fold: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Count decisions where each image has the thresholds of its fold: int64 (3, C); thresholds (C, folds)."""
    counts = np.zeros((3, view.num_classes), dtype=np.int64)
    for piece in view.pieces():
        chosen = slice(piece.first, piece.first + len(piece.scores))
        counts[:, chosen] = count_piece(piece, thresholds[chosen][:, fold])
    return counts
