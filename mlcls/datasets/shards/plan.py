"""Who reads what: the images of an epoch, cut into even parts for ranks and workers.

All shards of an epoch, in its order, make one long row of images. Each rank takes a stretch of it and each of its
workers a stretch of that, so every one has its own shards; only a shard on a border is opened by both neighbours, each
for its own part. That also works with fewer shards than ranks or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """Images ``start`` to ``stop - 1`` of a shard."""

    shard: int
    start: int
    stop: int


def rank_range(total: int, rank: int, world_size: int, round_up: bool) -> tuple[int, int]:
    """The stretch of a rank, from a first position to one behind its last.

    With ``round_up`` all ranks have equally many, ``ceil(total / world_size)``, and positions behind the
    row begin again at its start. Otherwise each position is in exactly one stretch.
    """
    if round_up:
        each = -(-total // world_size)
        return rank * each, (rank + 1) * each
    return total * rank // world_size, total * (rank + 1) // world_size


def worker_range(start: int, stop: int, batch_size: int, worker: int, workers: int) -> tuple[int, int]:
    """The stretch of a worker: whole batches, so that only the last batch of a rank can be smaller."""
    batches = -(-(stop - start) // batch_size)
    first, last = (start + batch_size * (batches * number // workers) for number in (worker, worker + 1))
    return min(first, stop), min(last, stop)


def taken(batches: Sequence[int], done: int) -> tuple[int, list[int]]:
    """How far workers have come when the loader has given some batches.

    A loader takes a batch of each worker in turn, leaving out those that have no more.

    Args:
        batches: Batches of each worker.
        done: Batches that were given.

    Returns:
        The worker whose turn it is, and how many batches of each were given.
    """
    done = min(done, sum(batches))
    whole = min(done // len(batches), min(batches))  # rounds in which each gives one
    counts = [whole] * len(batches)
    done -= whole * len(batches)
    worker = 0
    while done or (counts[worker] == batches[worker] and counts != list(batches)):
        if counts[worker] < batches[worker]:
            counts[worker] += 1
            done -= 1
        worker = (worker + 1) % len(batches)
    return worker, counts


def cut(counts: Sequence[int] | np.ndarray, order: Sequence[int] | np.ndarray, start: int, stop: int) -> list[Piece]:
    """The pieces of shards at positions ``start`` to ``stop - 1``, in the order in which they are read.

    Args:
        counts: Images of each shard.
        order: Numbers of the shards, in the order of the row.
        start: First position; positions beyond the row begin again at its start.
        stop: Position behind the last.
    """
    counts = np.asarray(counts, np.int64)
    ends = np.cumsum(counts[order])
    total = int(ends[-1])
    pieces = []
    while start < stop:
        position = start % total
        place = int(np.searchsorted(ends, position, side='right'))
        shard = int(order[place])
        inside = position - (int(ends[place]) - int(counts[shard]))
        length = min(int(counts[shard]) - inside, stop - start)
        pieces.append(Piece(shard, inside, inside + length))
        start += length
    return pieces
