"""Where an evaluation collects its rows: three tensors on the CPU."""

from __future__ import annotations

import torch

from mlcls.errors import DataError

from .functional.validate import whole_labels


class RowBuffer:
    """Scores, targets and dataset indices, appended batch by batch; grows by doubling.

    Args:
        capacity: Number of rows to allocate at the first batch, where it is known.
    """

    def __init__(self, capacity: int = 0) -> None:
        self._capacity = max(capacity, 1)
        self._rows = 0
        self._scores = torch.empty(0, 0)
        self._targets = torch.empty(0, 0, dtype=torch.int8)
        self._index = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._rows

    def append(self, scores: torch.Tensor, targets: torch.Tensor, index: torch.Tensor) -> None:
        """Copy a batch in.

        Args:
            scores: (n, C), any floating type and device; kept as float32.
            targets: (n, C) of 1, 0 and -1, any type and device; kept as int8.
            index: (n,), position of each image in its dataset.

        Raises:
            DataError: The three do not belong together, or a label is not a whole number.
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
        self._scores = torch.empty(room, classes)
        self._targets = torch.empty(room, classes, dtype=torch.int8)
        self._index = torch.empty(room, dtype=torch.int64)
        if self._rows:
            for new, old in zip((self._scores, self._targets, self._index), kept, strict=True):
                new[: self._rows] = old

    def rows(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What was collected: float32 (n, C), int8 (n, C), int64 (n,); views, not copies."""
        return self._scores[: self._rows], self._targets[: self._rows], self._index[: self._rows]
