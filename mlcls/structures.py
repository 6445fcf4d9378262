"""The containers that travel: annotations from a reader to a dataset, a batch from the loader to the evaluator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict, overload

import numpy as np
import torch

#: The three values of a label, everywhere.
PRESENT, ABSENT, UNKNOWN = 1, 0, -1


class Batch(TypedDict):
    """What the loader hands to the model.

    ``inputs``: uint8 (N, 3, H, W), RGB. ``targets``: int8 (N, C) of 1, 0 and -1 (float where an augmentation mixed
    images). ``index``: int64 (N,), position of each image in its dataset.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    index: torch.Tensor


class SampleIndex(int):
    """An index into a dataset that also says of which draw it is, so that augmentation can be repeated exactly.

    Args:
        index: Position in the dataset.
        key: Integers that name the draw: (seed, epoch, position in the epoch).
    """

    key: tuple[int, ...]

    def __new__(cls, index: int, key: tuple[int, ...] = ()) -> SampleIndex:
        made = super().__new__(cls, index)
        made.key = key
        return made

    def __reduce__(self) -> tuple[type[SampleIndex], tuple[int, tuple[int, ...]]]:
        return SampleIndex, (int(self), self.key)


@dataclass(frozen=True, eq=False)
class LabelMatrix:
    """Labels of N images and C classes, {1, 0, -1}; only those that differ from ``default`` are stored (CSR).

    A few large arrays instead of a list of lists: worker processes share them, and memory is proportional to the
    labels that exist.

    Args:
        indptr: int64 (N + 1,): the entries of image i are ``indptr[i]:indptr[i + 1]``.
        indices: int32 (number of entries,): class of each entry.
        values: int8 (number of entries,): its label.
        num_classes: C.
        default: Label of every pair that is not stored.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    num_classes: int
    default: int = ABSENT

    @classmethod
    def from_dense(cls, labels: np.ndarray) -> LabelMatrix:
        """Make one from an (N, C) array of 1, 0 and -1."""
        rows, columns = np.nonzero(labels)
        indptr = np.zeros(len(labels) + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(labels)), out=indptr[1:])
        return cls(indptr, columns.astype(np.int32), labels[rows, columns].astype(np.int8), labels.shape[1])

    @classmethod
    def from_lists(
        cls, present: Sequence[Sequence[int]], num_classes: int, unknown: Sequence[Sequence[int]] | None = None
    ) -> LabelMatrix:
        """Make one from the ids of the present (and, if given, the unknown) classes of every image.

        Ids are taken as valid and free of duplicates; readers check them, since they can name file and line.
        """
        rows = [list(ids) for ids in present]
        marks = [[PRESENT] * len(ids) for ids in rows]
        if unknown is not None:
            for ids, row_marks, more in zip(rows, marks, unknown):
                ids.extend(more)
                row_marks.extend([UNKNOWN] * len(more))
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(ids) for ids in rows], out=indptr[1:])
        indices = np.fromiter((i for ids in rows for i in ids), np.int32, int(indptr[-1]))
        values = np.fromiter((v for row in marks for v in row), np.int8, int(indptr[-1]))
        return cls(indptr, indices, values, num_classes)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(N, C)."""
        return len(self), self.num_classes

    def row(self, index: int) -> np.ndarray:
        """Labels of one image, int8 (C,)."""
        labels = np.full(self.num_classes, self.default, np.int8)
        part = slice(self.indptr[index], self.indptr[index + 1])
        labels[self.indices[part]] = self.values[part]
        return labels

    def present(self, index: int) -> np.ndarray:
        """Ids of the classes present in one image, int32, in stored order."""
        part = slice(self.indptr[index], self.indptr[index + 1])
        return self.indices[part][self.values[part] == PRESENT]

    def dense(self) -> np.ndarray:
        """All labels, int8 (N, C)."""
        labels = np.full(self.shape, self.default, np.int8)
        labels[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.indices] = self.values
        return labels

    def counts(self, value: int = PRESENT) -> np.ndarray:
        """Number of images per class whose label is ``value``, int64 (C,)."""
        counts = np.bincount(self.indices[self.values == value], minlength=self.num_classes)
        if value == self.default:
            counts = counts + len(self) - np.bincount(self.indices, minlength=self.num_classes)
        return counts

    def select(self, images: np.ndarray) -> LabelMatrix:
        """The rows of the given image numbers, in that order."""
        lengths = np.diff(self.indptr)[images]
        indptr = np.zeros(len(images) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][images] - indptr[:-1], lengths)
        return LabelMatrix(indptr, self.indices[entries], self.values[entries], self.num_classes, self.default)


@dataclass(frozen=True, eq=False)
class LabelStatistics:
    """How often classes are present and absent in what a training epoch draws; losses and heads are fitted to it.

    Args:
        labels: Labels of the N training images.
        draws: (N,) mean number of times that an epoch draws each image; once each if None.
    """

    labels: LabelMatrix
    draws: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        """C."""
        return self.labels.num_classes

    def with_unknown_as_absent(self) -> LabelStatistics:
        """The same labels with 0 in place of -1."""
        labels = self.labels
        values = np.where(labels.values == UNKNOWN, ABSENT, labels.values).astype(np.int8)
        default = ABSENT if labels.default == UNKNOWN else labels.default
        absent = LabelMatrix(labels.indptr, labels.indices, values, labels.num_classes, default)
        return LabelStatistics(absent, self.draws)

    @cached_property
    def _image_draws(self) -> np.ndarray:
        return np.ones(len(self.labels)) if self.draws is None else np.asarray(self.draws, np.float64)

    def _count(self, value: int) -> np.ndarray:
        labels = self.labels
        draws = np.repeat(self._image_draws, np.diff(labels.indptr))
        chosen = labels.values == value
        counts = np.bincount(labels.indices[chosen], draws[chosen], self.num_classes).astype(np.float64)
        if value == labels.default:
            counts += self._image_draws.sum() - np.bincount(labels.indices, draws, self.num_classes)
        return counts

    @cached_property
    def positives(self) -> np.ndarray:
        """Draws of an epoch in which each class is present, float64 (C,)."""
        return self._count(PRESENT)

    @cached_property
    def negatives(self) -> np.ndarray:
        """Draws of an epoch in which each class is known to be absent, float64 (C,)."""
        return self._count(ABSENT)

    @cached_property
    def prevalence(self) -> np.ndarray:
        """Share of the known labels of each class that are positive, inside (0, 1) by Laplace's rule, float64 (C,)."""
        return (self.positives + 1) / (self.positives + self.negatives + 2)

    @cached_property
    def labels_per_image(self) -> float:
        """Mean number of labels that are present in an image drawn."""
        return float(self.positives.sum() / self._image_draws.sum())


class StringList(Sequence[str]):
    """A read-only list of strings in two arrays, so that worker processes share it instead of copying it."""

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode() for string in strings]
        self._bounds = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(item) for item in encoded], out=self._bounds[1:])
        self._bytes = np.frombuffer(b''.join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self._bytes[self._bounds[index] : self._bounds[index + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a reader finds in an annotation file.

    Args:
        classes: Class names; their order is the order of the label columns.
        img_paths: Path of each image, as written in the file (relative to its root).
        labels: (N, C) labels.
        notes: Sentences about what was found and mended (duplicate ids, images without labels, ...), to be shown.
    """

    classes: tuple[str, ...]
    img_paths: StringList
    labels: LabelMatrix
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.img_paths)

    def select(self, images: np.ndarray) -> Annotations:
        """The annotations of the given image numbers, in that order."""
        paths = StringList(self.img_paths[int(i)] for i in images)
        return Annotations(self.classes, paths, self.labels.select(images), self.notes)
