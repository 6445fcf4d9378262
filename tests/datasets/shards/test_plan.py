"""Who reads what, against the plain way: a list of all images that is cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets.shards.plan import cut, rank_range, taken, worker_range

SHARDS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    counts = draw(SHARDS)
    return counts, draw(st.permutations(range(len(counts))))


def row(counts: list[int], order: list[int]) -> list[tuple[int, int]]:
    """All images of an epoch: shard and place in it."""
    return [(shard, place) for shard in order for place in range(counts[shard])]


@given(layouts(), st.integers(0, 100), st.integers(0, 100))
def test_pieces_are_a_stretch_of_the_row(layout: tuple[list[int], list[int]], start: int, length: int) -> None:
    images = row(*layout)
    pieces = cut(*layout, start, start + length)
    found = [(piece.shard, place) for piece in pieces for place in range(piece.start, piece.stop)]
    assert found == [images[position % len(images)] for position in range(start, start + length)]
    assert all(piece.start < piece.stop for piece in pieces)


@given(layouts(), st.integers(1, 9), st.integers(0, 5), st.integers(1, 7), st.booleans())
def test_every_image_is_read_by_ranks_and_workers_together(
    layout: tuple[list[int], list[int]], world: int, workers: int, batch_size: int, round_up: bool
) -> None:
    images = row(*layout)
    found: list[tuple[int, int]] = []
    per_rank = []
    for rank in range(world):
        start, stop = rank_range(len(images), rank, world, round_up)
        per_rank.append(stop - start)
        batches = 0
        for worker in range(max(workers, 1)):
            stretch = worker_range(start, stop, batch_size, worker, max(workers, 1))
            pieces = cut(*layout, *stretch)
            mine = [(piece.shard, place) for piece in pieces for place in range(piece.start, piece.stop)]
            found += mine
            batches += -(-len(mine) // batch_size)
        assert batches == -(-(stop - start) // batch_size)  # what len(DataLoader) says
    assert max(per_rank) - min(per_rank) <= (0 if round_up else 1)
    assert len(found) == (len(per_rank) * per_rank[0] if round_up else len(images))
    assert set(found) == set(images)
    _, repeats = np.unique(found, axis=0, return_counts=True)
    assert np.sum(repeats - 1) == len(found) - len(images)
    if not round_up:
        assert repeats.max() == 1


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 8), st.integers(1, 4))
def test_shards_that_divide_belong_to_one_rank_each(world: int, each: int, images: int, batch_size: int) -> None:
    counts = [images] * (world * each)
    order = list(range(len(counts)))
    owners = []
    for rank in range(world):
        pieces = cut(counts, order, *rank_range(sum(counts), rank, world, True))
        owners.append({piece.shard for piece in pieces})
    assert all(len(mine) == each for mine in owners)
    assert len(set().union(*owners)) == len(counts)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 22))
def test_whose_turn_it_is(batches: list[int], done: int) -> None:
    """Against workers that are asked in turn, one after the other, as torch asks them."""
    rounds = [worker for number in range(max(batches)) for worker, count in enumerate(batches) if number < count]
    turn, counts = taken(batches, done)
    assert counts == [rounds[:done].count(worker) for worker in range(len(batches))]
    rest = [number - counts[worker] for worker, number in enumerate(batches)]
    if done < len(rounds):
        assert turn == rounds[done]
        order = [(turn + place) % len(batches) for place in range(len(batches))]
        later = [worker for number in range(max(rest)) for worker in order if number < rest[worker]]
        # What asking the workers from this one on gives, is what was left.
        assert later == rounds[done:] or max(batches) - min(batches) > 1
