"""Where an evaluation keeps its rows: tensors on the CPU, in memory or, past a limit, in a temporary file."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import BinaryIO, NamedTuple

import torch

from mlcls.errors import DataError

from .functional.validate import whole_labels

GIB = 2**30
_ZEROS = bytes(2**20)


class Limits(NamedTuple):
    """How rows are kept.

    ``dtype``: type of the scores, float32 or float16. ``memory``: bytes of scores and labels that may lie in memory;
    more than that lies in a file.
    """

    dtype: torch.dtype = torch.float32
    memory: float = 4 * GIB


class RowBuffer:
    """Scores, targets and dataset indices, appended batch by batch; grows by doubling.

    Args:
        capacity: Number of rows to allocate at the first batch, where it is known.
        limits: How they are kept.
    """

    def __init__(self, capacity: int = 0, limits: Limits = Limits()) -> None:
        self._capacity, self._limits = max(capacity, 1), limits
        self._rows = 0
        self._scores = torch.empty(0, 0, dtype=limits.dtype)
        self._targets = torch.empty(0, 0, dtype=torch.int8)
        self._index = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._rows

    def append(self, scores: torch.Tensor, targets: torch.Tensor, index: torch.Tensor) -> None:
        """Copy a batch in.

        Args:
            scores: (n, C), any floating type and device.
            targets: (n, C) of 1, 0 and -1, any type and device; kept as int8.
            index: (n,), position of each image in its dataset.

        Raises:
            DataError: The three do not belong together, a label is not a whole number, or there is no room on the disk.
        """
        if scores.ndim != 2 or targets.shape != scores.shape or index.shape != scores.shape[:1]:
            raise DataError(
                'a batch needs scores (n, C), targets (n, C) and index (n,), not '
                f'{tuple(scores.shape)}, {tuple(targets.shape)} and {tuple(index.shape)}'
            )
        if self._rows and scores.shape[1] != self._scores.shape[1]:
            raise DataError(f'a batch has {scores.shape[1]} classes, the ones before had {self._scores.shape[1]}')
        end = self._rows + len(scores)
        self._reserve(end, scores.shape[1])
        part = slice(self._rows, end)
        self._scores[part].copy_(scores.detach())
        self._targets[part].copy_(whole_labels(targets.detach()))
        self._index[part].copy_(index.detach())
        self._rows = end

    def _reserve(self, rows: int, classes: int) -> None:
        """Make room for ``rows`` rows, keeping those that are there."""
        if self._scores.shape[1] == classes and len(self._scores) >= rows:
            return
        room = max(rows, self._capacity, 2 * len(self._scores) if self._rows else 0)
        kept = self.rows()
        self._scores, self._targets = empty_rows(room, classes, self._limits)
        self._index = torch.empty(room, dtype=torch.int64)
        if self._rows:
            for new, old in zip((self._scores, self._targets, self._index), kept, strict=True):
                new[: self._rows] = old

    def rows(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What was collected: scores (n, C), int8 targets (n, C), int64 index (n,); views, not copies."""
        return self._scores[: self._rows], self._targets[: self._rows], self._index[: self._rows]


def empty_rows(rows: int, classes: int, limits: Limits) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for scores and targets, not initialised.

    Past ``limits.memory`` both lie in one file in the folder for temporary files (``TMPDIR``), mapped into memory. It
    has no name, so that nothing of it can stay behind, however the process ends; its space is free again when the last
    tensor that looks into it is gone.

    Args:
        rows: N.
        classes: C.
        limits: Type of the scores, and bytes that may lie in memory.

    Returns:
        Scores (N, C) and targets, int8 (N, C).

    Raises:
        DataError: There is no room for the file.
    """
    count = rows * classes
    size = count * (limits.dtype.itemsize + 1)
    if size <= limits.memory:
        return torch.empty(rows, classes, dtype=limits.dtype), torch.empty(rows, classes, dtype=torch.int8)
    mapped = _mapped_file(size, limits.memory)
    scores = torch.frombuffer(mapped, dtype=limits.dtype, count=count)
    targets = torch.frombuffer(mapped, dtype=torch.int8, count=count, offset=count * limits.dtype.itemsize)
    return scores.view(rows, classes), targets.view(rows, classes)


def _mapped_file(size: int, limit: float) -> mmap.mmap:
    try:
        with tempfile.TemporaryFile(prefix='mlcls-') as file:
            _fill(file, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        folder = tempfile.tempdir or os.environ.get('TMPDIR', 'the folder for temporary files')
        raise DataError(
            f'{folder}: no room for a temporary file of {size / GIB:.3g} GiB ({error.strerror or error}), which is to '
            f'hold the scores and labels past memory_limit={limit / GIB:.3g} (GiB) of the evaluator; free some space, '
            "set TMPDIR to another folder, raise memory_limit, or take score_dtype='float16'"
        ) from None


def _fill(file: BinaryIO, size: int) -> None:
    """Take the space on the disk now: a full disk, met later on writing into the map, would kill the process."""
    if hasattr(os, 'posix_fallocate'):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, len(_ZEROS)):  # macOS
        file.write(_ZEROS[: size - start])
    file.flush()
