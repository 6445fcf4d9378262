"""Writing checkpoints in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from mlcls.engine.checkpoint import POINTER, points_path
from mlcls.errors import CheckpointError
from mlcls.fileio import write_atomic, write_checked, write_json


@dataclass
class SaveJob:
    """A checkpoint to be written.

    Args:
        path: The file.
        payload: What it holds, as plain data that nobody changes any more.
        points: Thresholds for the JSON file beside it; None removes that file.
        is_newest: The pointer ``last_checkpoint`` is to name it.
        weights_as: File for the weights alone, as safetensors; None writes none.
        afterwards: Called once all is written and was read back: deletes what the new file takes the place of.
        given_up: Called if it could not be written and something newer is to be.
    """

    path: Path
    payload: dict[str, Any]
    points: dict[str, Any] | None = None
    is_newest: bool = False
    weights_as: Path | None = None
    afterwards: Callable[[], None] = field(default=lambda: None)
    given_up: Callable[[], None] = field(default=lambda: None)
    #: Whether the file itself is complete under its name.
    is_there: bool = False


def write_job(job: SaveJob) -> None:
    """Write a checkpoint and what belongs to it; the pointer last, and old files go after that.

    Raises:
        OSError: Something cannot be written; files that were there are untouched.
    """
    write_checked(job.path, lambda file: torch.save(job.payload, file))
    job.is_there = True
    if job.points is None:
        points_path(job.path).unlink(missing_ok=True)  # those of an older file of this name
    else:
        write_json(points_path(job.path), job.points)
    if job.weights_as is not None:
        _write_safetensors(job.weights_as, job.payload)
    if job.is_newest:
        write_atomic(job.path.parent / POINTER, lambda file: file.write(f'{job.path.name}\n'.encode()))


def _write_safetensors(path: Path, payload: dict[str, Any]) -> None:
    import json

    from safetensors.torch import save

    meta = payload.get('meta', {})
    weights, seen = {}, set()
    for name, value in payload['state_dict'].items():
        if not isinstance(value, torch.Tensor):
            continue
        place = (value.untyped_storage().data_ptr(), value.storage_offset())
        own = value.contiguous()  # the format knows neither strides nor shared memory
        weights[name] = own.clone() if place in seen else own
        seen.add(place)
    notes = {key: json.dumps(meta[key]) for key in ('classes', 'epoch', 'iter') if key in meta}
    content = save(weights, {'format': 'pt', **notes})
    write_atomic(path, lambda file: file.write(content))


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread, and tries again where the disk is full or cannot be written.

    Args:
        warn: Called, in the thread, with a message about a write that failed.
        retry_seconds: Wait before the next try.
        last_tries: Tries that `close` still makes before it gives up.
    """

    def __init__(self, warn: Callable[[str], None], retry_seconds: float = 30.0, last_tries: int = 3) -> None:
        self._warn, self._retry_seconds, self._last_tries = warn, retry_seconds, last_tries
        #: Seconds that the last complete write took, in the background; 0 before the first.
        self.last_seconds = 0.0
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()  # stop waiting between tries
        self._failed: tuple[SaveJob, Exception] | None = None
        self._is_last = False

    def submit(self, job: SaveJob, ready: Callable[[], None] = lambda: None) -> None:
        """Write a checkpoint in the background; waits for an earlier one, and drops it if it could not be written.

        Args:
            job: What to write.
            ready: Called in the background first: waits until the state is copied.
        """
        self.give_up()
        self._hurry.clear()
        self._thread = threading.Thread(target=self._work, args=(job, ready), name='checkpoint writer', daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Wait until nothing is being written; a checkpoint that fails to be written is given up."""
        if self._thread is not None:
            self._hurry.set()
            self._thread.join()
            self._thread = None

    def give_up(self) -> None:
        """Wait as `settle` does; a checkpoint that could not be written will not be."""
        self.settle()
        if self._failed is not None:
            if not self._failed[0].is_there:
                self._failed[0].given_up()
            self._failed = None

    @property
    def has_failed(self) -> bool:
        """Whether the last checkpoint is not on the disk (so far)."""
        return self._failed is not None

    def write(self, job: SaveJob) -> None:
        """Write a checkpoint now.

        Raises:
            OSError: It cannot be written.
        """
        self.give_up()
        began = perf_counter()
        write_job(job)
        self.last_seconds, self._failed = perf_counter() - began, None
        self._tidy(job)

    def close(self) -> None:
        """Wait for the last checkpoint.

        Raises:
            CheckpointError: It could not be written, and the last tries failed, too.
        """
        self._is_last = True
        self.settle()
        if self._failed is not None:
            job, error = self._failed
            self._failed = None
            raise CheckpointError(
                f'{job.path}: the last checkpoint could not be written ({_reason(error)}); what was written before is '
                f'in {job.path.parent}: free some space there, and go on with --resume'
            ) from error

    def _tidy(self, job: SaveJob) -> None:
        try:
            job.afterwards()
        except OSError as error:
            self._warn(f'{job.path} is written, but older checkpoints could not be deleted ({_reason(error)})')

    def _work(self, job: SaveJob, ready: Callable[[], None]) -> None:
        ready()
        tries = 0
        while True:
            try:
                began = perf_counter()
                write_job(job)
                self.last_seconds, self._failed = perf_counter() - began, None
                self._tidy(job)
                return
            except Exception as error:  # whatever it is, training goes on
                self._failed = (job, error)
                self._warn(
                    f'CHECKPOINT NOT WRITTEN: {job.path}: {_reason(error)}. Training goes on, earlier checkpoints '
                    'stay as they are, and it is tried again'
                )
            if self._hurry.wait(self._retry_seconds):
                tries += 1
                if not self._is_last or tries >= self._last_tries:
                    return


def _reason(error: Exception) -> str:
    return str(getattr(error, 'strerror', None) or error)
