"""Memory that a loader's worker and the main process share, used again for batch after batch.

Fresh shared memory for every batch costs more than many pipelines: the system clears each of its pages and maps it in
two processes. So a worker keeps a few slots of memory. A slot is taken when a batch is begun and is free again when the
last tensor of that batch is gone in the process that received it, however long it was kept. Where no slot is free,
nobody waits: the batch is made in plain memory, and torch copies it to the other process.

The first bytes of a slot say what becomes of it:

- ``BUSY``: set by the worker when it takes the slot, cleared by the receiver (by the worker itself, if the batch was
  never sent). So there is one writer at any time.
- ``KNOWN``: set by the receiver once it has mapped the slot; until then the worker sends the mapping along.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import uuid
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info

BUSY, KNOWN = 0, 1
#: Bytes before the pixels; pixels begin on a cache line.
HEADER = 64
#: Slots a worker may have. It makes one more only when all are busy, which torch's own way would need as well.
MAX_SLOTS = 8


class SlotName(NamedTuple):
    """What names a slot everywhere."""

    pid: int
    number: str


class Slot:
    """A slot of this worker.

    Args:
        size: Bytes of pixels that it must hold.
    """

    def __init__(self, size: int) -> None:
        storage = torch.UntypedStorage._new_shared(HEADER + size, device='cpu')
        self.shared = torch.empty(0, dtype=torch.uint8).set_(storage)
        self.memory: np.ndarray = self.shared.numpy()
        self.memory[:HEADER] = 0
        self.name = SlotName(os.getpid(), uuid.uuid4().hex)

    def holds(self, size: int) -> bool:
        """Whether it is large enough."""
        return len(self.memory) >= HEADER + size


class _Worker:
    """The slots of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.slots: list[Slot] = []

    def take(self, size: int) -> Slot | None:
        free = [slot for slot in self.slots if not slot.memory[BUSY]]
        slot = next((slot for slot in free if slot.holds(size)), None)
        if slot is None:
            if len(self.slots) >= MAX_SLOTS:
                if not free:
                    return None
                self.slots.remove(free[0])  # too small
            slot = Slot(size)
            self.slots.append(slot)
        slot.memory[BUSY] = 1
        return slot


_worker: _Worker | None = None
#: Slots of other processes that are mapped here.
_mapped: dict[SlotName, np.ndarray] = {}


def _clear(memory: np.ndarray, pid: int) -> None:
    if os.getpid() == pid:  # a process forked meanwhile has a copy of the batch, but the slot is not its own to free
        memory[BUSY] = 0


def _view(memory: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, weakref.finalize]:
    """Pixels of a slot, which is free when they, and all tensors made of them, are gone."""
    pixels = memory[HEADER : HEADER + int(np.prod(shape))].reshape(shape)
    done = weakref.finalize(pixels, _clear, memory, os.getpid())
    done.atexit = False
    return pixels, done


class Pixels:
    """Room for the images of a batch: in a slot if this process is a loader's worker and one is free.

    Args:
        count: Images.
        height: Of each.
        width: Of each.
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        global _worker
        shape = (count, height, width, 3)
        self._slot: Slot | None = None
        if get_worker_info() is not None:
            if _worker is None or _worker.pid != os.getpid():
                _worker = _Worker()
            self._slot = _worker.take(int(np.prod(shape)))
        if self._slot is None:
            self.array = np.empty(shape, np.uint8)
        else:
            self.array, self._done = _view(self._slot.memory, shape)
        #: uint8 (count, height, width, 3), the same memory as ``array``.
        self.tensor = torch.from_numpy(self.array)

    def batch(self, count: int, targets: torch.Tensor, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The batch of the first ``count`` images."""
        batch = {'inputs': self.tensor[:count].permute(0, 3, 1, 2), 'targets': targets, 'index': index}
        return batch if self._slot is None else _Outgoing(batch, self._slot, self._done)


class _Outgoing(dict[str, torch.Tensor]):
    """A batch in a slot; it is pickled once, on its way to the process that uses it."""

    def __init__(self, batch: dict[str, torch.Tensor], slot: Slot, done: weakref.finalize) -> None:
        super().__init__(batch)
        self._slot, self._done = slot, done

    def __copy__(self) -> dict[str, torch.Tensor]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, torch.Tensor]:
        return copy.deepcopy(dict(self), memo)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._done.detach() is None:  # sent already: this one goes by value
            return dict, (list(self.items()),)
        shape = self['inputs'].permute(0, 2, 3, 1).shape
        mapping = None if self._slot.memory[KNOWN] else self._slot.shared
        # As arrays the small ones go as bytes; tensors would need shared memory each.
        return _receive, (self._slot.name, mapping, tuple(shape), self['targets'].numpy(), self['index'].numpy())


def _receive(
    name: SlotName, mapping: torch.Tensor | None, shape: tuple[int, ...], targets: np.ndarray, index: np.ndarray
) -> dict[str, torch.Tensor]:
    """The batch, in the process that uses it."""
    if mapping is not None and name not in _mapped:
        _forget_finished()
        _mapped[name] = mapping.numpy()
    memory = _mapped[name]
    memory[KNOWN] = 1
    pixels, _ = _view(memory, shape)
    return {
        'inputs': torch.from_numpy(pixels).permute(0, 3, 1, 2),
        'targets': torch.from_numpy(targets),
        'index': torch.from_numpy(index),
    }


def _forget_finished() -> None:
    """Let go of the slots of workers that have ended. A batch that is in use keeps its slot's memory by itself, and
    none is on its way any more: a worker ends when its last batch was received, or is not wanted.
    """
    running = {process.pid for process in multiprocessing.active_children()}
    for name in list(_mapped):
        if name.pid not in running:
            _mapped.pop(name, None)
