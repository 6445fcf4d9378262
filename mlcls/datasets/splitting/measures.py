"""How good a split is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlcls.structures import LabelMatrix

from .stratify import part_sizes
from .units import Units


@dataclass(frozen=True, eq=False)
class SplitQuality:
    """Measures of a split of N images and C classes into P parts.

    Args:
        sizes: int64 (P,): images of each part.
        wanted: int64 (P,): what they should be, see `part_sizes`.
        counts: int64 (P, C): images of each class in each part.
        units: int64 (C,): in how many groups (without groups: images) each class is.
        grouped: Whether images were kept together in groups.
    """

    sizes: np.ndarray
    wanted: np.ndarray
    counts: np.ndarray
    units: np.ndarray
    grouped: bool

    @property
    def labels_distribution(self) -> float:
        """LD of Sechidis et al. (2011): mean difference of the odds of a class in a part and in all; 0 is best.

        A class that all images of a part show counts as absent from one of them, or its odds would be infinite.
        """
        odds = self.counts / np.maximum(self.sizes[:, None] - self.counts, 1)
        totals, images = self.counts.sum(0), self.sizes.sum()
        return float(np.abs(odds - totals / np.maximum(images - totals, 1)).mean())

    @property
    def deviations(self) -> np.ndarray:
        """Share of a class in a part over its share in all, less 1; (P, C), nan for classes without images."""
        overall = self.counts.sum(0) / self.sizes.sum()
        with np.errstate(invalid='ignore', divide='ignore'):
            return self.counts / self.sizes[:, None] / overall - 1

    @property
    def mean_deviation(self) -> float:
        """Mean size of the deviations, over parts and classes that have images; 0 without any."""
        known = self.counts.sum(0) > 0
        return float(np.abs(self.deviations[:, known]).mean()) if known.any() else 0.0

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Pairs (part, class) of a class that has images, but none in the part."""
        found = np.argwhere((self.counts == 0) & (self.counts.sum(0) > 0))
        return [(int(part), int(number)) for part, number in found]

    def shortcomings(self, names: Sequence[str], classes: Sequence[str]) -> list[str]:
        """A sentence for everything that the split does not give.

        Args:
            names: Names of the parts.
            classes: Names of the classes.
        """
        sentences = []
        for size, wanted, name in zip(self.sizes, self.wanted, names):
            if size != wanted:
                images = _several(int(size), 'image')
                sentences.append(f"part '{name}' has {images} instead of {wanted}, because groups stay whole")
        totals = self.counts.sum(0)
        for number in np.flatnonzero((self.counts == 0).any(0)).tolist():
            lacking = ', '.join(f"'{name}'" for name, count in zip(names, self.counts[:, number]) if count == 0)
            if totals[number] == 0:
                sentences.append(f"class '{classes[number]}' has no images")
                continue
            reason = 'no way was found to give every part one'
            if self.units[number] < len(names):
                groups = f' in {_several(int(self.units[number]), "group")}' if self.grouped else ''
                reason = f'{_several(int(totals[number]), "image")}{groups} cannot serve {len(names)} parts'
            sentences.append(f"class '{classes[number]}' is not in {lacking}: {reason}")
        return sentences


def _several(count: int, what: str) -> str:
    return f'{count} {what}' if count == 1 else f'{count} {what}s'


def measure_split(
    labels: LabelMatrix, parts: np.ndarray, shares: Sequence[float], groups: np.ndarray | None = None
) -> SplitQuality:
    """Measure any split.

    Args:
        labels: Labels of the N images; unknown ones count as absent.
        parts: (N,): the part of each image.
        shares: Share wanted of each part.
        groups: (N,): the group of each image, if images were kept together.
    """
    images = Units.of(labels)
    num_parts = len(shares)
    return SplitQuality(
        sizes=np.bincount(parts, minlength=num_parts),
        wanted=part_sizes(len(labels), shares),
        counts=images.counts_in_parts(parts, num_parts),
        units=Units.of(labels, groups).units_of_classes(),
        grouped=groups is not None,
    )
