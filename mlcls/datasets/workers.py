"""Setting up a loader's worker process."""

from __future__ import annotations

import ctypes
import platform

import torch

from mlcls.registry import FUNCTIONS

#: glibc's parameters (malloc.h): free memory at the top of the heap that is kept, and the size from which memory is
#: asked of the system directly.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Larger than the temporary arrays of a pipeline; glibc allows at most 32 MiB for the second.
KEPT_BYTES = 256 << 20
MMAP_BYTES = 32 << 20


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
