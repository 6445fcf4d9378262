"""The containers that travel: annotations from a reader to a dataset, a batch from the loader to the evaluator."""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypedDict, overload

import numpy as np
import torch

from mlcls.errors import DataError

#: The three values of a label, everywhere.
PRESENT, ABSENT, UNKNOWN = 1, 0, -1
#: Rows, strings or entries that are worked on at a time, where all at once would take several times their memory.
_BLOCK = 1 << 16


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


class MappedFile(mmap.mmap):
    """A file of arrays, mapped into memory for reading, so that all processes share its pages.

    The first `HEAD` bytes must identify the content: by them a process that is handed an array's place in the file
    knows that it is still the same file.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is empty.
    """

    HEAD = 64

    path: str

    def __new__(cls, path: str | os.PathLike[str]) -> MappedFile:
        with open(path, 'rb') as file:
            made = super().__new__(cls, file.fileno(), 0, access=mmap.ACCESS_READ)
        made.path = os.path.abspath(path)
        return made

    def array(self, dtype: np.dtype | type | str, offset: int, count: int) -> np.ndarray:
        """A read-only view (count,) of what lies ``offset`` bytes from the beginning.

        Raises:
            TypeError: If it would end behind the file.
        """
        # Not np.memmap: taking rows out of that is several times slower, and happens for every image.
        return np.ndarray((count,), dtype, self, offset)

    def head(self) -> bytes:
        """The bytes that identify the content."""
        return self[: self.HEAD]

    def release_pages(self) -> None:
        """Give back the memory of pages looked at so far; they come back, from the system's cache, when needed."""
        if hasattr(mmap, 'MADV_DONTNEED'):
            self.madvise(mmap.MADV_DONTNEED)


class _InFile(NamedTuple):
    path: str
    head: bytes
    dtype: str
    offset: int
    length: int


class _Repeated(NamedTuple):
    value: np.ndarray
    length: int


_Packed = np.ndarray | _InFile | _Repeated


def _pack(array: np.ndarray) -> _Packed:
    """What to pickle of a one-dimensional array: its place in a file where it lies in one that is still there."""
    if array.strides == (0,) and len(array):
        return _Repeated(array[:1].copy(), len(array))
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, MappedFile) or not array.flags.c_contiguous:
        return array
    try:
        with open(base.path, 'rb') as file:
            same = file.read(base.HEAD) == base.head()
    except OSError:
        same = False
    offset = array.ctypes.data - base.array(np.uint8, 0, 1).ctypes.data
    return _InFile(base.path, base.head(), array.dtype.str, offset, len(array)) if same else array


def _unpack(packed: _Packed) -> np.ndarray:
    if isinstance(packed, _Repeated):
        return np.broadcast_to(packed.value[0], packed.length)
    if not isinstance(packed, _InFile):
        return packed
    try:
        file = MappedFile(packed.path)
        if file.head() == packed.head:
            return file.array(packed.dtype, packed.offset, packed.length)
    except (OSError, ValueError, TypeError):
        pass
    raise DataError(
        f'{packed.path}: this file of annotations was removed or changed while processes started; try again'
    )


def _unpack_matrix(arrays: Sequence[_Packed], num_classes: int, default: int) -> LabelMatrix:
    indptr, indices, values = map(_unpack, arrays)
    return LabelMatrix(indptr, indices, values, num_classes, default)


def _gather(data: np.ndarray, bounds: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate ``data[bounds[row] : bounds[row + 1]]`` of the rows, and say where each begins and the last ends."""
    starts = bounds[:-1][rows]
    taken_bounds = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(bounds[1:][rows] - starts, out=taken_bounds[1:])
    if data.strides == (0,):
        return np.broadcast_to(data[:1], taken_bounds[-1]) if len(data) else data, taken_bounds
    taken = np.empty(taken_bounds[-1], data.dtype)
    for first in range(0, len(rows), _BLOCK):
        ends = taken_bounds[first : first + _BLOCK + 1]
        shifts = np.repeat(starts[first : first + _BLOCK] - ends[:-1], np.diff(ends))
        np.take(data, np.arange(ends[0], ends[-1]) + shifts, out=taken[ends[0] : ends[-1]])
    return taken, taken_bounds


@dataclass(frozen=True, eq=False)
class LabelMatrix:
    """Labels of N images and C classes, {1, 0, -1}; only those that differ from ``default`` are stored (CSR).

    A few large arrays instead of a list of lists: worker processes share them, and memory is proportional to the
    labels that exist.

    Args:
        indptr: int64 (N + 1,): the entries of image i are ``indptr[i]:indptr[i + 1]``.
        indices: int32 (number of entries,): class of each entry.
        values: int8 (number of entries,): its label. Where all are alike, `LabelMatrix.alike` makes it without memory.
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

    @staticmethod
    def alike(value: int, count: int) -> np.ndarray:
        """Values for ``count`` entries with the same label, read-only int8 (count,), which take one byte in all."""
        return np.broadcast_to(np.int8(value), count)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        arrays = tuple(map(_pack, (self.indptr, self.indices, self.values)))
        return _unpack_matrix, (arrays, self.num_classes, self.default)

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
        counts = np.zeros(self.num_classes, np.int64)
        if value == self.default:
            counts += len(self)
        for first in range(0, len(self.indices), _BLOCK):
            part = slice(first, first + _BLOCK)
            indices = self.indices[part]
            counts += np.bincount(indices[self.values[part] == value], minlength=self.num_classes)
            if value == self.default:
                counts -= np.bincount(indices, minlength=self.num_classes)
        return counts

    @classmethod
    def concatenate(cls, parts: Sequence[LabelMatrix]) -> LabelMatrix:
        """The rows of several matrices of the same classes and default, one after the other."""
        ends = np.cumsum([part.indptr[-1] for part in parts])
        bounds = [part.indptr[1:] + end - part.indptr[-1] for part, end in zip(parts, ends)]
        indptr = np.concatenate([np.zeros(1, np.int64), *bounds])
        indices, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ('indices', 'values'))
        return cls(indptr, indices, values, parts[0].num_classes, parts[0].default)

    def select(self, images: np.ndarray) -> LabelMatrix:
        """The rows of the given image numbers, in that order."""
        indices, indptr = _gather(self.indices, self.indptr, images)
        values, _ = _gather(self.values, self.indptr, images)
        return LabelMatrix(indptr, indices, values, self.num_classes, self.default)


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
    """A read-only list of strings in two arrays, so that worker processes share it instead of copying it.

    Args:
        strings: Its strings; they are taken one at a time. Half surrogates, by which Python spells names of files that
            are not UTF-8, are kept.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        data, bounds = bytearray(), array('q', [0])
        for string in strings:
            data += string.encode('utf-8', 'surrogatepass')
            bounds.append(len(data))
        self._bytes, self._bounds = np.frombuffer(data, np.uint8), np.frombuffer(bounds, np.int64)

    @classmethod
    def from_arrays(cls, data: np.ndarray, bounds: np.ndarray) -> StringList:
        """Make one from its arrays, which are kept, not copied.

        Args:
            data: uint8 (number of bytes,): the strings in UTF-8, one behind the other.
            bounds: int64 (N + 1,), ascending from 0 to the number of bytes: where each begins and the last ends.
        """
        made = cls.__new__(cls)
        made._bytes, made._bounds = data, bounds
        return made

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Data and bounds, see `from_arrays`."""
        return self._bytes, self._bounds

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _unpack_strings, (_pack(self._bytes), _pack(self._bounds))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            numbers = range(len(self))[index]
            return list(self.select(np.arange(numbers.start, numbers.stop, numbers.step)))
        index = range(len(self))[index]
        return _text(self._bytes[self._bounds[index] : self._bounds[index + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            bounds = self._bounds[first : first + _BLOCK + 1]
            data = self._bytes[bounds[0] : bounds[-1]].tobytes()
            ends = (bounds - bounds[0]).tolist()
            for start, end in pairwise(ends):
                yield _text(data[start:end])

    def select(self, numbers: np.ndarray) -> StringList:
        """The strings of the given numbers, in that order."""
        return StringList.from_arrays(*_gather(self._bytes, self._bounds, numbers))


def _text(data: bytes) -> str:
    return data.decode('utf-8', 'surrogatepass')


def _unpack_strings(data: _Packed, bounds: _Packed) -> StringList:
    return StringList.from_arrays(_unpack(data), _unpack(bounds))


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a reader finds in an annotation file.

    Args:
        classes: Class names; their order is the order of the label columns.
        img_paths: Path of each image, as written in the file (relative to its root).
        labels: (N, C) labels.
        notes: Sentences about what was found and mended (duplicate ids, images without labels, ...), to be shown.
        source: The format they were read from and, if it was not named, how it was recognised.
    """

    classes: tuple[str, ...]
    img_paths: StringList
    labels: LabelMatrix
    notes: tuple[str, ...] = field(default=())
    source: str = ''

    def __len__(self) -> int:
        return len(self.img_paths)

    @property
    def format(self) -> str:
        """Name of the format they were read from; empty if they were made otherwise."""
        return self.source.partition(':')[0]

    def select(self, images: np.ndarray) -> Annotations:
        """The annotations of the given image numbers, in that order."""
        return replace(self, img_paths=self.img_paths.select(images), labels=self.labels.select(images))
