"""Copies of a run's state for a writer in the background."""

from __future__ import annotations

from typing import Any

import torch


class Snapshots:
    """Copies tensors into memory of its own, which is used again for the next copy.

    New memory would cost more than the copy: the system clears every page of it. Tensors that share memory share it in
    the copy. From a GPU, copies go to pinned memory beside the computation; `wait` tells when they are complete.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        self._free: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        self._seen: dict[tuple[Any, ...], torch.Tensor] = {}
        self._event: Any = None

    def begin(self) -> None:
        """A new copy: memory of the last one may be overwritten."""
        self._free = {key: list(found) for key, found in self._buffers.items()}
        self._seen = {}
        self._event = None

    def copy(self, value: torch.Tensor) -> torch.Tensor:
        """A copy in host memory, with the strides of the original."""
        value = value.detach()
        if hasattr(value, 'full_tensor'):  # shared out over the ranks; gathered into memory that is free again soon
            return self._copied(value.full_tensor())
        place = (value.device, value.untyped_storage().data_ptr(), value.storage_offset(), tuple(value.shape))
        same = (*place, value.stride(), value.dtype)
        if value.numel() and same in self._seen:
            return self._seen[same]
        self._seen[same] = self._copied(value)
        return self._seen[same]

    def _copied(self, value: torch.Tensor) -> torch.Tensor:
        target = self._memory(value)
        return target.copy_(value, non_blocking=value.is_cuda)

    def _memory(self, value: torch.Tensor) -> torch.Tensor:
        key = (tuple(value.shape), value.stride(), value.dtype, value.is_cuda)
        free = self._free.get(key)
        if free:
            return free.pop()
        new = torch.empty_like(value, device='cpu', pin_memory=value.is_cuda)
        self._buffers.setdefault(key, []).append(new)
        return new

    def end(self) -> None:
        """All copies of this round have been asked for."""
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> None:
        """Until the copies are complete; called by the writer."""
        if self._event is not None:
            self._event.synchronize()
