"""Bring the rows of all processes together, as tensors, and put them in the order of the dataset."""

from __future__ import annotations

import torch
from torch import distributed as dist

from mlcls.errors import ConfigError, DataError

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

#: Bytes of scores that one process sends at a time: bounds what a gather holds on an accelerator.
_CHUNK = 64 * 2**20


def gather_rows(scores: torch.Tensor, targets: torch.Tensor, index: torch.Tensor) -> Rows:
    """Collect the rows of every process on every process, in the order of the ranks.

    Tensors go over the wire, never pickled objects: for 40,000 images and 80 classes on two processes that was
    measured as 0.03 s against 8 s.

    Args:
        scores: float32 (n, C) of this process; n may differ between processes and be 0.
        targets: int8 (n, C).
        index: int64 (n,).

    Returns:
        The same three on the CPU with the rows of all processes; the arguments themselves in a single process.

    Raises:
        ConfigError: Processes have different numbers of classes (raised on each of them).
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return scores, targets, index
    device = _wire_device()
    shape = torch.tensor([len(scores), scores.shape[1]], dtype=torch.int64, device=device)
    shapes = torch.stack(_all_gather(shape)).cpu()
    lengths = shapes[:, 0].tolist()
    found = sorted(set(shapes[shapes[:, 0] > 0, 1].tolist()))
    if len(found) > 1:
        raise ConfigError(f'the processes scored different numbers of classes: {found}')
    classes = found[0] if found else scores.shape[1]
    if not len(scores):  # a process without images does not know the number of classes
        scores, targets = scores.new_empty(0, classes), targets.new_empty(0, classes)
    step = max(1, _CHUNK // max(1, 4 * classes))
    scores, targets, index = (_gather(rows, lengths, step, device) for rows in (scores, targets, index))
    return scores, targets, index


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


def _gather(local: torch.Tensor, lengths: list[int], step: int, device: torch.device) -> torch.Tensor:
    """Gather rows of unequal number: equal, padded blocks are sent, and the padding is dropped on arrival."""
    starts = [sum(lengths[:rank]) for rank in range(len(lengths))]
    gathered = torch.empty(sum(lengths), *local.shape[1:], dtype=local.dtype)
    for begin in range(0, max(lengths, default=0), step):
        size = min(step, max(lengths) - begin)
        block = torch.zeros(size, *local.shape[1:], dtype=local.dtype, device=device)
        mine = local[begin : begin + size]
        block[: len(mine)].copy_(mine)
        for part, start, length in zip(_all_gather(block), starts, lengths, strict=True):
            count = max(0, min(size, length - begin))
            gathered[start + begin : start + begin + count].copy_(part[:count])
    return gathered


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
