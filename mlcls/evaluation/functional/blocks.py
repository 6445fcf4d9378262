"""A matrix of scores in blocks of classes or images: bounded memory, the same result for any blocks and threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from .validate import check_pair, check_scores, check_targets, not_a_label

_Part = TypeVar('_Part')
_Found = TypeVar('_Found')
#: Entries of a block. Those that all threads hold take 10 bytes an entry at most, the result of a sort included.
_ENTRIES = 1 << 22
#: Fewest classes copied at a time: fewer would use a part of each cache line that is read.
_CLASSES = 16
#: Rows turned into columns at a time: as many as a core's own cache holds.
_TILE = 512


def share_out(work: Callable[[_Part], _Found], parts: Sequence[_Part]) -> list[_Found]:
    """``work`` of each part, in their order, on as many threads as torch may use.

    numpy works on one thread and lets others run meanwhile, so whole parts are shared out; torch works on one thread
    in each of them.

    Args:
        work: Called with a part; its results must not depend on the other parts.
        parts: What there is to do.
    """
    allowed = torch.get_num_threads()
    threads = min(allowed, os.cpu_count() or 1, len(parts))
    if threads <= 1:
        return [work(part) for part in parts]
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(allowed)


def check_rows(scores: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Check the shapes and bring both to the CPU; values are checked block by block.

    Args:
        scores: (N, C), any real type and device.
        targets: (N, C), any type and device.

    Raises:
        DataError: Not two-dimensional, or shapes differ.
    """
    if scores.ndim != 2:
        check_scores(scores)
    if targets.ndim != 2:
        check_targets(targets)
    check_pair(scores, targets)
    return scores.detach().cpu(), targets.detach().cpu()


def class_blocks(rows: torch.Tensor) -> list[slice]:
    """Slices of the classes of (N, C) rows."""
    num_images, num_classes = rows.shape
    threads = max(1, torch.get_num_threads())
    width = max(_CLASSES, min(_ENTRIES // max(1, num_images), num_classes // (4 * threads)))
    return [slice(start, start + width) for start in range(0, num_classes, width)]


def image_blocks(rows: torch.Tensor, multiple: int = 1) -> list[slice]:
    """Slices of the images of (N, C) rows, each of a multiple of ``multiple`` images but for the last."""
    height = max(1, (_ENTRIES >> 2) // (max(1, rows.shape[1]) * multiple)) * multiple
    return [slice(start, min(start + height, len(rows))) for start in range(0, len(rows), height)]


def columns(rows: torch.Tensor, block: slice) -> np.ndarray:
    """Some columns of (N, C) rows as contiguous rows: (b, N), of the same type, half types as their bits.

    A tile of rows at a time stays in the cache while its columns are written: that is five times as fast as column
    after column where rows are long.
    """
    values = _bits(rows[:, block])
    found = np.empty(values.shape[::-1], values.dtype)
    for start in range(0, len(values), _TILE):
        found[:, start : start + _TILE] = values[start : start + _TILE].T
    return found


def images(rows: torch.Tensor, block: slice) -> np.ndarray:
    """Some rows of (N, C) rows as they are, half types as their bits: (b, C)."""
    return _bits(rows[block])


def _bits(rows: torch.Tensor) -> np.ndarray:
    return (rows.view(torch.int16) if rows.dtype in (torch.float16, torch.bfloat16) else rows).numpy()


def real_scores(values: np.ndarray, scores: torch.Tensor) -> np.ndarray:
    """Scores in a type in which they compare exactly, as ``check_scores`` gives it.

    Args:
        values: Any shape, from ``columns`` or ``images``.
        scores: The whole matrix: its type, and what is said of it where a score is NaN.

    Returns:
        float32 (from half types) or float64 (from integers); ``values`` itself where nothing changes.

    Raises:
        DataError: A score is NaN.
    """
    if scores.dtype in (torch.float16, torch.bfloat16):
        real = torch.from_numpy(values).view(scores.dtype).float().numpy()
    else:
        real = values if scores.is_floating_point() else values.astype(np.float64)
    # The smallest value is NaN where any is: one cheap pass instead of a mask.
    if real.size and np.isnan(real.min()):
        check_scores(scores)  # raises, with the number of images
    return real


def whole_numbers(values: np.ndarray, targets: torch.Tensor) -> np.ndarray:
    """Labels as int8.

    Args:
        values: Any shape, from ``columns`` or ``images``.
        targets: The whole matrix, for its type.

    Raises:
        DataError: A value that is not 1, 0 or -1.
    """
    if targets.dtype in (torch.float16, torch.bfloat16):
        values = torch.from_numpy(values).view(targets.dtype).float().numpy()
    if values.dtype != np.int8:
        wrong = (values != 1) & (values != 0) & (values != -1)
        if wrong.any():
            raise not_a_label(values[wrong][0])
        return values.astype(np.int8)
    if values.size and (values.min() < -1 or values.max() > 1):
        raise not_a_label(values[(values < -1) | (values > 1)][0])
    return values
