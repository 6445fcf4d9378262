"""Setting up a loader's worker process."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
from typing import Any

import torch

from mlcls.registry import FUNCTIONS

#: glibc's parameters (malloc.h): free memory at the top of the heap that is kept, and the size from which memory is
#: asked of the system directly.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Larger than the temporary arrays of a pipeline; glibc allows at most 32 MiB for the second.
KEPT_BYTES = 256 << 20
MMAP_BYTES = 32 << 20

#: What the fields of a worker's line in the loader's record mean: number of the image that it is reading, or `NOTHING`;
#: and how many it has begun to read.
READING, BEGUN = 0, 1
NOTHING = -1
#: int64 fields of a line; one is a cache line long, so that workers do not slow each other down.
LINE = 8
#: prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1

_line: Any = None  # this worker's line as a memoryview; None in a process that is no loader's worker


@FUNCTIONS.register_module()
def init_worker(worker_id: int = 0) -> None:
    """One thread for OpenCV and torch each, since there is a process a core; and memory that is kept.

    Images are temporary arrays of megabytes. By default glibc gives each back to the system, which clears the pages of
    the next one; decoding a large photograph then takes nearly twice as long.

    Nothing is seeded: randomness comes from the key of each draw.

    Args:
        worker_id: Given by torch; of no meaning.
    """
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_memory()


def keep_memory() -> bool:
    """Let this process keep the memory of large temporary arrays; False where the C library is not glibc."""
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) and kept)


def make_record(workers: int) -> torch.Tensor:
    """Where each worker of a loader notes what it reads, int64 (workers, `LINE`) in shared memory."""
    record = torch.zeros(workers, LINE, dtype=torch.int64)
    record[:, READING] = NOTHING
    return record.share_memory_()


def keep_record(line: torch.Tensor) -> None:
    """Let `note_reading` write into a line of a record, int64 (`LINE`,), from now on."""
    global _line
    _line = memoryview(line.numpy())  # type: ignore[arg-type]


def note_reading(number: int = NOTHING) -> None:
    """Note which image this worker begins to read, or that it has read it; nothing in other processes.

    Data sets call it for each picture: two stores into shared memory, without a lock or a system call. If a worker is
    lost, the main process says which image was to blame.

    Args:
        number: Position of the image in the innermost data set; `NOTHING` at its end.
    """
    if _line is not None:
        _line[READING] = number
        if number != NOTHING:
            _line[BEGUN] += 1


def leave_signals_to_parent(parent: int) -> None:
    """Let signals to all processes of a job (of a scheduler, or Ctrl-C on a terminal) stop only the main process, which
    still needs its workers to finish; a SIGTERM from the main process itself ends this one.

    Args:
        parent: Number of the main process.
    """
    for number in (signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if not hasattr(signal, 'sigwaitinfo'):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_asked_by, args=(parent,), daemon=True).start()


def _end_when_asked_by(parent: int) -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)


def end_with(parent: int) -> bool:
    """Let this process be killed as soon as its parent has ended, however that came about.

    torch's workers look for their parent only while they wait for work: one that hangs, or whose results nobody takes
    any more, would stay for ever. Linux only.

    Args:
        parent: Process id of the main process. Nothing is done in a process that is not its child.

    Returns:
        Whether the system will do so.
    """
    if sys.platform != 'linux' or os.getppid() != parent:
        return False
    done = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    if os.getppid() != parent:  # it ended just before
        os._exit(1)
    return bool(done)
