"""Iterative stratification of multi-label data (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlcls.errors import DataError
from mlcls.structures import LabelMatrix

from .repair import Assignment
from .units import Units

#: Changes whenever the same labels, shares and seed would be split otherwise.
ALGORITHM = 'iterative stratification with repairs, version 1'
#: Up to so many steps (images x classes x classes) the package is quick enough; our own form needs entries only.
_PACKAGE_STEPS = 2e10
#: Splits of at most so many labels are tried from other beginnings while classes that could be in all parts are not.
_RETRY_ENTRIES, _RETRIES = 20_000, 8


def part_sizes(total: int, shares: Sequence[float]) -> np.ndarray:
    """Whole sizes that add up to ``total``, by the method of largest remainders; int64, one a part.

    Args:
        total: Number of images.
        shares: Share of each part, above 0; they are divided by their sum.
    """
    exact = np.asarray(shares, np.float64) / np.sum(shares) * total
    sizes = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - sizes), kind='stable')
    sizes[order[: total - int(sizes.sum())]] += 1
    return sizes


def split_images(
    labels: LabelMatrix, shares: Sequence[float], groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Share out images so that every part has each class in proportion.

    Iterative stratification (the package ``iterative-stratification``; with groups, or where it would take minutes, the
    same rule over whole groups) begins. Then images change parts: until sizes are those of `part_sizes` (with groups:
    until no move or exchange of groups brings them nearer), until every class that can be is in every part, and until
    no exchange between two parts makes the shares of classes more equal.

    Args:
        labels: Labels of the N images; unknown ones count as absent.
        shares: Share of each of the P parts, such as ``[0.8, 0.1, 0.1]``; they are divided by their sum.
        groups: (N,): images with equal numbers stay together. None: every image for itself.
        seed: At least 0. The split is a function of the arguments alone.

    Returns:
        The part of each image, int64 (N,), 0 to P - 1.

    Raises:
        DataError: Impossible shares, a part that would be empty, or groups of another number of images.
    """
    units = _check(labels, shares, groups, seed)
    sizes = part_sizes(len(labels), shares)

    def attempt(number: int) -> Assignment:
        made = Assignment(units, _begin(labels, units, sizes, [seed, number]), sizes)
        made.improve()
        return made

    best = attempt(0)
    for number in range(1, _RETRIES):
        if best.missing() == 0 or len(units.rows) > _RETRY_ENTRIES:
            break
        best = min(best, attempt(number), key=Assignment.cost)
    return best.parts[units.unit_of]


def k_folds(labels: LabelMatrix, k: int, groups: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """The fold of each image, int64 (N,), 0 to k - 1: `split_images` into k equal parts.

    Raises:
        DataError: If k is less than 2 or more than there are images (or groups).
    """
    if not 2 <= k <= len(labels):
        raise DataError(f'{len(labels)} images can make 2 to {len(labels)} folds, not {k}')
    return split_images(labels, [1 / k] * k, groups, seed)


def _check(labels: LabelMatrix, shares: Sequence[float], groups: np.ndarray | None, seed: int) -> Units:
    values = np.asarray(shares, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f'a split needs the shares of at least 2 parts, got {shares!r}')
    if not np.isfinite(values).all() or (values <= 0).any():
        raise DataError(f'shares of parts must be above 0, got {", ".join(f"{share:g}" for share in values)}')
    if seed < 0:
        raise DataError(f'the seed of a split must be at least 0, got {seed}')
    if groups is not None and np.shape(groups) != (len(labels),):
        raise DataError(f'groups must be one number an image, {len(labels)}, got an array of {np.shape(groups)}')
    sizes = part_sizes(len(labels), shares)
    if (sizes == 0).any():
        raise DataError(
            f'part {int(np.argmin(sizes))} (counted from 0), a share of {values[np.argmin(sizes)] / values.sum():.3g}, '
            f'would have none of the {len(labels)} images'
        )
    units = Units.of(labels, groups)
    if len(units) < len(values):
        groups_text = '1 group' if len(units) == 1 else f'{len(units)} groups'
        raise DataError(f'{groups_text} of images cannot be shared out over {len(values)} parts')
    return units


def _begin(labels: LabelMatrix, units: Units, sizes: np.ndarray, seed: list[int]) -> np.ndarray:
    """The part of each unit, int64 (U,), to begin with."""
    steps = len(labels) * float(labels.num_classes) ** 2
    if not units.single or steps > _PACKAGE_STEPS:
        return _stratify_units(units, sizes, np.random.Generator(np.random.PCG64(seed)))
    from iterstrat.ml_stratifiers import IterativeStratification

    dense = np.zeros(labels.shape, bool)
    dense[units.rows, units.columns] = True
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    return np.asarray(IterativeStratification(dense, sizes / sizes.sum(), random), np.int64)


def _stratify_units(units: Units, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same rule for units of several images: those of the rarest class first, each where most of it is wanted."""
    wanted = np.outer(sizes / sizes.sum(), units.images_of_classes())  # (P, C), what each part still wants
    room = sizes.astype(np.float64)
    parts = np.full(len(units), -1, np.int64)
    left = units.images_of_classes()
    bounds = np.searchsorted(units.rows, np.arange(len(units) + 1))
    shuffled = rng.permutation(len(units.rows))
    order = shuffled[np.lexsort((-units.counts[shuffled], units.columns[shuffled]))]
    starts = np.searchsorted(units.columns[order], np.arange(units.num_classes + 1))

    def place(unit: int, want: np.ndarray) -> None:
        best = np.flatnonzero(want == want.max())
        best = best[room[best] == room[best].max()]
        part = int(best[rng.integers(len(best))]) if len(best) > 1 else int(best[0])
        entries = slice(bounds[unit], bounds[unit + 1])
        wanted[part, units.columns[entries]] -= units.counts[entries]
        left[units.columns[entries]] -= units.counts[entries]
        room[part] -= units.sizes[unit]
        parts[unit] = part

    while left.any():
        rarest = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        for unit in units.rows[order[starts[rarest] : starts[rarest + 1]]].tolist():
            if parts[unit] < 0:
                place(unit, wanted[:, rarest])
    unlabelled = rng.permutation(np.flatnonzero(parts < 0))
    for unit in unlabelled[np.argsort(-units.sizes[unlabelled], kind='stable')].tolist():
        place(unit, room)
    return parts
