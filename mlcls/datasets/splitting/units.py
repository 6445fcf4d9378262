"""What a split assigns whole: single images, or groups of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlcls.structures import PRESENT, LabelMatrix


@dataclass(frozen=True, eq=False)
class Units:
    """Images or groups of images, and how many images of each class they hold.

    Args:
        unit_of: int64 (N,): the unit of each image; units are numbered by their first image.
        sizes: int64 (U,): images of each unit.
        rows: int64 (entries,), sorted: the unit of each entry.
        columns: int64 (entries,): its class.
        counts: int64 (entries,): images of the unit with the class, at least 1.
        num_classes: C.
    """

    unit_of: np.ndarray
    sizes: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    num_classes: int

    @classmethod
    def of(cls, labels: LabelMatrix, groups: np.ndarray | None = None) -> Units:
        """The units of a data set: its groups, or its images where there are none; unknown labels count as absent."""
        if labels.default == PRESENT:
            labels = LabelMatrix.from_dense(labels.dense())
        unit_of = np.arange(len(labels)) if groups is None else by_first_image(groups)
        images = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))
        present = labels.values == PRESENT
        keys = unit_of[images[present]] * labels.num_classes + labels.indices[present]
        keys, counts = np.unique(keys, return_counts=True)
        rows, columns = np.divmod(keys, labels.num_classes)
        return cls(unit_of, np.bincount(unit_of), rows, columns, counts, labels.num_classes)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def single(self) -> bool:
        """Whether every unit is one image."""
        return len(self.sizes) == len(self.unit_of)

    def images_of_classes(self) -> np.ndarray:
        """Number of images of each class, int64 (C,)."""
        return np.bincount(self.columns, self.counts, self.num_classes).astype(np.int64)

    def units_of_classes(self) -> np.ndarray:
        """Number of units with each class, int64 (C,)."""
        return np.bincount(self.columns, minlength=self.num_classes)

    def counts_in_parts(self, parts: np.ndarray, num_parts: int) -> np.ndarray:
        """Images of each class in each part, int64 (P, C), from the part of each unit."""
        keys = parts[self.rows] * self.num_classes + self.columns
        found = np.bincount(keys, self.counts, num_parts * self.num_classes)
        return found.astype(np.int64).reshape(num_parts, self.num_classes)


def by_first_image(groups: np.ndarray) -> np.ndarray:
    """Groups numbered 0, 1, ... in the order of their first images, so that their names do not matter; int64 (N,)."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[inverse.ravel()]


def join_groups(*groups: np.ndarray) -> np.ndarray:
    """The finest groups in which images that any of the groupings puts together are together, int64 (N,).

    Union-find over images and groups: in each grouping, the images of a group are tied to its first image.

    Args:
        *groups: At least one grouping, each (N,): equal numbers (or strings) are one group.
    """
    parents = list(range(len(groups[0])))

    def root(image: int) -> int:
        while parents[image] != image:
            parents[image] = parents[parents[image]]
            image = parents[image]
        return image

    for grouping in groups:
        _, first, inverse = np.unique(grouping, return_index=True, return_inverse=True)
        for image, earlier in enumerate(first[inverse.ravel()].tolist()):
            one, other = root(image), root(earlier)
            parents[max(one, other)] = min(one, other)
    return by_first_image(np.array([root(image) for image in range(len(parents))]))
