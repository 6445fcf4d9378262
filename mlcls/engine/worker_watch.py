"""A loader whose worker processes are watched: one that dies or hangs ends the run with its image's name."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

from mlcls.datasets import innermost
from mlcls.datasets.shards import ShardLoader
from mlcls.datasets.workers import (
    BEGUN,
    NOTHING,
    READING,
    end_with,
    keep_record,
    leave_signals_to_parent,
    make_record,
)
from mlcls.errors import DataError

#: Seconds that a worker may be silent when the loader's ``timeout`` is 0.
TIMEOUT = 60.0
#: Seconds between two looks at the workers while a batch is waited for, at most.
LOOK = 1.0


class WatchedLoader(DataLoader[Any]):
    """torch's loader, whose workers note which image they read.

    The loss of a worker, or one that is silent for ``timeout`` seconds (60 if that is 0) while the next batch is waited
    for, is a `DataError` that names the image; all workers have ended when it is raised. A worker counts as silent if
    it is on the same image all that time, so slow storage does no harm. Of data sets that do not note what they read,
    only a ``timeout`` that was given counts, and it is the time without a batch.

    Args:
        dataset: The data set.
        **settings: As torch's DataLoader.
    """

    def __init__(self, dataset: Any, **settings: Any) -> None:
        self._under_way: WeakSet[WatchedIterator] = WeakSet()
        super().__init__(dataset, **settings)

    def _get_iterator(self) -> _BaseDataLoaderIter:
        if not self.num_workers:
            return super()._get_iterator()
        iterator = WatchedIterator(self)
        self._under_way.add(iterator)
        return iterator

    def close(self) -> None:
        """End all workers, also those of iterations that were left early; the next iteration has new ones.

        Left to the garbage collector, each would be waited for in vain for five seconds: it takes queues away before
        the iterators that tell workers of the end through them.
        """
        for iterator in list(self._under_way):
            iterator._shutdown_workers()
        self._iterator = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if getattr(self._iterator, '_shutdown', False):  # workers that were to live on are lost
            self._iterator = None
        return cast(Iterator[Any], super().__iter__())


class WatchedShardLoader(WatchedLoader, ShardLoader):
    """The loader of shards, watched."""


class WatchedIterator(_MultiProcessingDataLoaderIter):
    """The iterator of a `WatchedLoader` with workers.

    torch raises an error about a lost worker from a signal handler, wherever the main process happens to be: inside an
    optimiser's step, or where errors are ignored. Here workers are registered for that only while a batch is fetched.

    Raises:
        DataError: A worker is lost or silent; from the constructor, or when the next batch is asked for.
    """

    def __init__(self, loader: WatchedLoader) -> None:
        dataset = innermost(loader.dataset)
        self._name: Callable[[int], str] | None = getattr(dataset, 'img_path', None)
        self._shared = make_record(loader.num_workers)
        self._record: np.ndarray = self._shared.numpy()
        in_main = threading.current_thread() is threading.main_thread()  # the system counts the thread as the parent
        given = loader.worker_init_fn
        loader.worker_init_fn = partial(_begin, self._shared, given, os.getpid() if in_main else -1)
        try:
            super().__init__(loader)
        except RuntimeError as error:  # one died at once
            lost = self._dead((True,) * loader.num_workers)
            if lost is None:
                raise
            raise self._failed(self._death_of(lost)) from error
        finally:
            loader.worker_init_fn = given
        self._pids = tuple(worker.pid or 0 for worker in self._workers)
        self._unregister()

    def _get_data(self) -> Any:
        active = tuple(self._workers_status)
        try:
            try:
                self._register()  # before the look, so that no death falls in between
                signal_handling._error_if_any_worker_fails()  # type: ignore[attr-defined]
                return self._wait()
            finally:
                self._unregister()
        # torch's errors about workers, and what comes of reading what one has not finished sending.
        except (RuntimeError, EOFError, OSError) as error:
            lost = self._dead(active, patience=0.0 if isinstance(error, RuntimeError) else 1.0)
            if lost is None:
                raise
            raise self._failed(self._death_of(lost)) from error

    def _wait(self) -> Any:
        limit = float(self._timeout) or (TIMEOUT if self._name is not None else float('inf'))
        look = min(LOOK, limit / 4)
        found, data = self._try_get_data(look)
        if found:
            return data
        silence, lines, before = np.zeros(len(self._record)), self._record.copy(), time.monotonic() - look
        while not found:
            now = time.monotonic()
            silence += min(now - before, 2 * look)  # more, if this process was suspended itself
            silence[(self._record != lines).any(1)] = 0
            lines, before = self._record.copy(), now
            silent = self._silent(silence >= limit)
            if silent is not None:
                raise self._failed(self._silence_of(silent, float(silence[silent])))
            if self._pin_memory and not self._pin_memory_thread.is_alive():
                raise RuntimeError('the thread that pins memory has ended')
            found, data = self._try_get_data(look)
        return data

    def _silent(self, candidates: np.ndarray) -> int | None:
        """A worker that is on the same image, or that owes the next batch and is on none."""
        owing = self._task_info.get(self._rcvd_idx, (None,))[0]
        for worker in np.flatnonzero(candidates).tolist():
            if self._record[worker, READING] != NOTHING or worker == owing:
                return int(worker)
        return None

    def _register(self) -> None:
        self._worker_pids_set = True
        signal_handling._set_worker_pids(id(self), self._pids)  # type: ignore[attr-defined]

    def _unregister(self) -> None:
        if self._worker_pids_set:
            self._worker_pids_set = False
            with suppress(ValueError):  # it was not
                signal_handling._remove_worker_pids(id(self))  # type: ignore[attr-defined]

    def _dead(self, active: tuple[bool, ...], patience: float = 0.0) -> int | None:
        """A worker that has ended though it had work, or in disorder; waits ``patience`` seconds for it to show."""
        until = time.monotonic() + patience
        while True:
            for number, worker in enumerate(self._workers):
                if not worker.is_alive() and (worker.exitcode != 0 or active[number]):
                    return number
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def _image_of(self, worker: int) -> str | None:
        """The image that a worker is on."""
        number = int(self._record[worker, READING])
        return None if number == NOTHING or self._name is None else f'{self._name(number)} (index {number})'

    def _place_of(self, worker: int) -> str:
        """Where a worker is that is on no image."""
        if self._name is None:
            return 'while making a batch'
        return 'between two images' if self._record[worker, BEGUN] else 'before its first image'

    def _death_of(self, worker: int) -> str:
        cause, advice = _cause(self._workers[worker].exitcode or 0)
        image = self._image_of(worker)
        if image is not None:
            advice += '; if it is the same image each time, remove it from the annotations'
        place = self._place_of(worker) if image is None else f'while reading {image}'
        return f'data worker {worker + 1} of {len(self._workers)} died ({cause}) {place}; {advice}'

    def _silence_of(self, worker: int, seconds: float) -> str:
        name, image = f'data worker {worker + 1} of {len(self._workers)}', self._image_of(worker)
        if image is not None:
            what = f'{name} has been reading {image} for {seconds:.0f} s'
        else:
            what = f'{name} has given nothing for {seconds:.0f} s, {self._place_of(worker)}'
        return (
            f'{what}; look whether its storage answers and whether a transform waits for something. If it only needs '
            "longer, raise 'timeout' of this dataloader (seconds)"
        )

    def _failed(self, message: str) -> DataError:
        """End all workers; the error to raise."""
        self._unregister()
        self._shutdown = True  # torch's own way can wait for locks that the dead one held
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.join(timeout=5)
            for left in Path('/dev/shm').glob(f'torch_{worker.pid}_*'):  # killed before it could take the name away
                with suppress(OSError):
                    left.unlink()
        queues = [*self._index_queues, self._worker_result_queue]
        if hasattr(self, '_pin_memory_thread'):
            self._pin_memory_thread_done_event.set()
            queues.pop()  # the thread still reads from it, until it sees the event
        for queue in queues:
            queue.cancel_join_thread()
            queue.close()
        return DataError(message)


def _begin(record: torch.Tensor, set_up: Callable[[int], None] | None, parent: int, worker: int) -> None:
    """Set up a worker."""
    keep_record(record[worker])
    leave_signals_to_parent(os.getppid())
    if parent > 0:
        end_with(parent)
    if set_up is not None:
        set_up(worker)


def _cause(exit_code: int) -> tuple[str, str]:
    """How a process ended, and what to do about it."""
    smaller = 'use fewer workers (num_workers), a smaller prefetch_factor or smaller images'
    if exit_code >= 0:
        return f'exit code {exit_code}', 'what it wrote before this may say why'
    if -exit_code == signal.SIGKILL:
        return 'killed by signal 9: out of memory?', smaller
    name = next((member.name for member in signal.Signals if member == -exit_code), 'unknown')
    words = f'killed by signal {-exit_code}, {name}'
    if -exit_code == signal.SIGBUS:
        return f'{words}: shared memory full?', f'enlarge /dev/shm (docker run --shm-size), or {smaller}'
    if -exit_code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE):
        return f'{words}: a library crashed', 'try another backend of the transform that was at work'
    return words, 'find out who sent it'
