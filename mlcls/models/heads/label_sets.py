"""The label sets that occur in training labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlcls.structures import PRESENT, UNKNOWN, LabelMatrix


@dataclass(frozen=True)
class LabelSets:
    """The distinct sets of present classes among the images whose labels are all known.

    Args:
        counts: int64 (S,), images of each set, falling; equally frequent ones by their first image.
        images: int64 (S,), the first image that has the set.
        unknown: Images left out, since a label of theirs is unknown.
    """

    counts: np.ndarray
    images: np.ndarray
    unknown: int

    def dense(self, labels: LabelMatrix, number: int) -> np.ndarray:
        """The first ``number`` sets, bool (number, C)."""
        return labels.select(self.images[:number]).dense() == PRESENT


def find_label_sets(labels: LabelMatrix) -> LabelSets:
    """Find the distinct label sets, in memory proportional to the labels that are stored.

    Rows are compared by the sum of 128 random bits of each class, in which two sets of a billion agree by chance with
    probability below 1e-20.
    """
    bits = np.random.default_rng(0).integers(0, 2**64, (labels.num_classes, 2), np.uint64)
    # A class counts where its being present differs from the default; sums wrap around, which does no harm.
    changed = (labels.values == PRESENT) != (labels.default == PRESENT)
    keys = np.stack([_sums_of_rows(labels.indptr, np.where(changed, half[labels.indices], 0)) for half in bits.T], 1)
    unsure = _sums_of_rows(labels.indptr, (labels.values == UNKNOWN).astype(np.int64))
    if labels.default == UNKNOWN:
        unsure = unsure + labels.num_classes - np.diff(labels.indptr)
    known = np.flatnonzero(unsure == 0)
    rows = np.ascontiguousarray(keys[known]).view(np.dtype((np.void, 16)))[:, 0]
    _, first, counts = np.unique(rows, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    return LabelSets(counts[order], known[first[order]], len(labels) - len(known))


def most_labels(labels: LabelMatrix) -> int:
    """The largest number of classes that are present in one image."""
    present = _sums_of_rows(labels.indptr, (labels.values == PRESENT).astype(np.int64))
    if labels.default == PRESENT:
        present = present + labels.num_classes - np.diff(labels.indptr)
    return int(present.max(initial=0))


def _sums_of_rows(indptr: np.ndarray, values: np.ndarray) -> np.ndarray:
    ends = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values, dtype=values.dtype)])
    return ends[indptr[1:]] - ends[indptr[:-1]]
