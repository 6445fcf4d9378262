"""Bring the rows of all processes together, as tensors, in the order of the dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import distributed as dist

from mlcls.errors import ConfigError, DataError

from .buffers import Limits, empty_rows

#: Bytes that are copied or sent at a time: bounds what ordering and gathering hold beside the rows themselves.
_CHUNK = 64 * 2**20


class Rows(NamedTuple):
    """A whole evaluation: a row an image, in the order of the dataset.

    ``scores``: float32 or float16 (N, C). ``targets``: int8 (N, C) of 1, 0 and -1. ``left_out``: positions in the
    dataset, ascending, of images that have no row.
    """

    scores: torch.Tensor
    targets: torch.Tensor
    left_out: tuple[int, ...] = ()


def gather_rows(
    scores: torch.Tensor,
    targets: torch.Tensor,
    index: torch.Tensor,
    size: int,
    left_out: bool = False,
    limits: Limits = Limits(),
) -> Rows:
    """Collect the rows of every process on every process, each image once, in the order of the dataset.

    Of an image with several rows (a sampler that fills up the last round) the first in rank order counts. In one
    process nothing is copied where the rows are in order; else they change places, in the very tensors given. With
    several processes the indices travel first; then each row that counts is sent once, as tensors, never as pickled
    objects, straight to its place.

    Args:
        scores: (n, C) of this process; n may differ between processes and be 0.
        targets: int8 (n, C).
        index: int64 (n,): position of each row in the dataset.
        size: Number of images in the dataset.
        left_out: Images without a row are no error.
        limits: How the rows of several processes are kept. Each process holds all of them.

    Returns:
        The same on every process, on the CPU.

    Raises:
        ConfigError: Processes have different numbers of classes.
        DataError: No row at all, an image without a row, an index outside the dataset, or no room on the disk of one
            process. All errors are raised by every process.
    """
    alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
    if alone:
        first, missing = _choose(index, size, left_out)
        return Rows(_in_order(scores, first), _in_order(targets, first), missing)
    device = _wire_device()
    lengths, classes = _agree(scores, device)
    if not len(scores):  # a process without images does not know the number of classes
        scores, targets = scores.new_empty(0, classes), targets.new_empty(0, classes)
    joined = torch.empty(sum(lengths), dtype=torch.int64)
    _send(index, torch.arange(len(index)), torch.arange(len(joined)).split(lengths), joined, device)
    first, missing = _choose(joined, size, left_out)
    taken, places = _shares(first, lengths)
    room = _room(len(first), classes, limits, device)
    for mine, everything in zip((scores, targets), room, strict=True):
        _send(mine, taken[dist.get_rank()], places, everything, device)
    return Rows(*room, missing)


def _choose(index: torch.Tensor, size: int, left_out: bool) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The row of each image that has one, in the order of the dataset, and the positions of those that have none."""
    if size <= 0 or not len(index):
        why = 'no image was processed' if size > 0 else 'the dataset is empty'
        raise DataError(f'there is nothing to evaluate: {why}')
    first = first_rows(index, size)
    found = first < len(index)
    missing = tuple((~found).nonzero().flatten().tolist())
    if missing and not left_out:
        raise DataError(
            f'{len(missing)} of {size} images were not evaluated (the first: index {missing[0]}); '
            'does the data loader drop its last batch, or its sampler skip images?'
        )
    return first[found], missing


def first_rows(index: torch.Tensor, size: int) -> torch.Tensor:
    """The row of each image of the dataset, so that the result does not depend on who computed it, or when.

    A sampler that fills up the last round gives some images twice: of those the first in rank order counts.

    Args:
        index: int64 (n,): dataset index of each row.
        size: Number of images in the dataset.

    Returns:
        int64 (size,): numbers of rows; n where no process scored the image.

    Raises:
        DataError: An index outside the dataset.
    """
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < size:
        wrong = index[(index < 0) | (index >= size)]
        raise DataError(
            f'{len(wrong)} rows have an index outside the dataset of {size} images (the first: {int(wrong[0])})'
        )
    # A plain assignment to repeated indices leaves open which one stays; the smallest row number does not.
    first = torch.full((size,), len(index), dtype=torch.int64)
    return first.scatter_reduce_(0, index, torch.arange(len(index)), 'amin')


def _in_order(rows: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """``rows[order]`` without repetitions, in place: a view where that is the beginning of ``rows`` as it is.

    Some columns of all rows at a time, so that a whole second matrix is never held.
    """
    count = len(order)
    if not torch.equal(order, torch.arange(count)):
        step = max(1, _CHUNK // (rows.element_size() * count))
        for start in range(0, rows.shape[1], step):
            columns = rows[:, start : start + step]
            columns[:count] = columns.index_select(0, order)
    return rows[:count]


# --- several processes ------------------------------------------------------------------------------------------------


def _wire_device() -> torch.device:
    """The device that the process group can send from."""
    backend = str(dist.get_backend())
    if backend == 'nccl':
        return torch.device('cuda', torch.cuda.current_device())
    return torch.device('cpu')


def _all_gather(local: torch.Tensor) -> list[torch.Tensor]:
    parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local)
    return parts


def _agree(scores: torch.Tensor, device: torch.device) -> tuple[list[int], int]:
    """Number of rows of each process, and the number of classes, which must be one."""
    shape = torch.tensor([len(scores), scores.shape[1]], dtype=torch.int64, device=device)
    shapes = torch.stack(_all_gather(shape)).cpu()
    lengths: list[int] = shapes[:, 0].tolist()
    found = sorted(set(shapes[shapes[:, 0] > 0, 1].tolist()))
    if len(found) > 1:
        raise ConfigError(f'the processes scored different numbers of classes: {found}')
    return lengths, found[0] if found else scores.shape[1]


def _shares(first: torch.Tensor, lengths: Sequence[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """For each process the numbers of its rows that count, and their places in the result."""
    taken, places, start = [], [], 0
    for length in lengths:
        place = ((first >= start) & (first < start + length)).nonzero().flatten()
        taken.append(first[place] - start)
        places.append(place)
        start += length
    return taken, places


def _room(rows: int, classes: int, limits: Limits, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """``empty_rows``; where one process has no room, all stop, instead of waiting for it."""
    room, problem = None, None
    try:
        room = empty_rows(rows, classes, limits)
    except DataError as error:
        problem = error
    failed = [int(part) for part in _all_gather(torch.tensor([room is None], dtype=torch.uint8, device=device))]
    if problem is not None:
        raise problem
    if room is None or any(failed):
        raise DataError(f'process {failed.index(1)} has no room on its disk for the scores and labels; see its message')
    return room


def _send(
    local: torch.Tensor,
    rows: torch.Tensor,
    places: Sequence[torch.Tensor],
    everything: torch.Tensor,
    device: torch.device,
) -> None:
    """Put ``local[rows]`` of every process to its places in ``everything``, on every process.

    Blocks of one size are sent: what a process has less is filled up, and dropped on arrival.
    """
    width = everything.element_size() * everything[:1].numel() * dist.get_world_size()
    step, most = max(1, _CHUNK // max(1, width)), max(len(place) for place in places)
    for begin in range(0, most, step):
        block = torch.zeros(min(step, most - begin), *local.shape[1:], dtype=local.dtype)
        mine = rows[begin : begin + step]
        torch.index_select(local, 0, mine, out=block[: len(mine)])
        for place, part in zip(places, _all_gather(block.to(device)), strict=True):
            place = place[begin : begin + step]
            everything[place] = part[: len(place)].to(everything.device)
