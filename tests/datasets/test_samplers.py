"""The order of an epoch."""

from __future__ import annotations

import mmengine.dist
import numpy as np
import pytest

from mlcls.datasets import EpochSampler
from mlcls.errors import ConfigError
from mlcls.registry import DATA_SAMPLERS
from mlcls.structures import SampleIndex


@pytest.fixture
def ranks(monkeypatch):
    """Make the samplers of all ranks of a run."""

    def _ranks(world_size: int, length: int, **arguments) -> list[EpochSampler]:
        samplers = []
        for rank in range(world_size):
            monkeypatch.setattr(mmengine.dist, 'get_dist_info', lambda rank=rank: (rank, world_size))
            samplers.append(EpochSampler(range(length), **arguments))
        return samplers

    return _ranks


def test_every_image_once_in_an_order_of_its_epoch():
    sampler = EpochSampler(range(50), seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([int(index) for index in sampler])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != [int(index) for index in EpochSampler(range(50), seed=4)]
    expected = np.random.Generator(np.random.PCG64([3, 1])).permutation(50)
    assert orders[1] == expected.tolist()


def test_keys():
    sampler = EpochSampler(range(5), seed=3)
    sampler.set_epoch(7)
    drawn = list(sampler)
    assert all(isinstance(index, SampleIndex) for index in drawn)
    assert [index.key for index in drawn] == [(3, 7, position) for position in range(5)]
    assert all(type(number) is int for index in drawn for number in index.key)


def test_in_order():
    assert list(EpochSampler(range(4), shuffle=False)) == [0, 1, 2, 3]
    assert [index.key for index in EpochSampler(range(2), shuffle=False)] == [(0, 0, 0), (0, 0, 1)]


@pytest.mark.parametrize('world_size', [1, 2, 3, 7, 8])
@pytest.mark.parametrize('length', [1, 5, 8, 21])
@pytest.mark.parametrize('shuffle', [True, False])
def test_ranks_in_training(ranks, world_size, length, shuffle):
    samplers = ranks(world_size, length, shuffle=shuffle, seed=1)
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    assert len({len(share) for share in shares}) == 1
    drawn = sorted(index for share in shares for index in share)
    counts = np.bincount(drawn, minlength=length)
    assert counts.min() >= 1 and counts.max() <= -(-world_size // length) + 1
    assert len(drawn) == -(-length // world_size) * world_size
    assert len({index.key for share in shares for index in share}) == len(drawn)


@pytest.mark.parametrize('world_size', [1, 2, 3, 7, 8])
@pytest.mark.parametrize('length', [1, 5, 8, 21])
def test_ranks_in_evaluation_draw_every_image_once(ranks, world_size, length):
    samplers = ranks(world_size, length, shuffle=False, round_up=False)
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    assert sorted(index for share in shares for index in share) == list(range(length))
    assert all(index % world_size == rank for rank, share in enumerate(shares) for index in share)


def test_draws_do_not_depend_on_the_number_of_ranks(ranks):
    """Position and key of a draw are those of the whole epoch."""
    alone = {index.key: int(index) for index in ranks(1, 24, seed=2)[0]}
    shared = {index.key: int(index) for sampler in ranks(4, 24, seed=2) for index in sampler}
    assert alone == shared


def test_resume_inside_an_epoch(ranks):
    for sampler in ranks(3, 20, seed=2):
        sampler.set_epoch(4)
        whole = [(int(index), index.key) for index in sampler]
        sampler.set_epoch(4, start=3)
        assert [(int(index), index.key) for index in sampler] == whole[3:]
        assert len(sampler) == len(whole)
        sampler.set_epoch(5)
        assert len(list(sampler)) == len(whole)


def test_seed():
    assert EpochSampler(range(3), seed=None).seed >= 0
    assert EpochSampler(range(3), seed=np.int64(5)).seed == 5
    with pytest.raises(ConfigError, match='seed must be at least 0, got -1'):
        EpochSampler(range(3), seed=-1)


@pytest.mark.parametrize('name', ['EpochSampler', 'DefaultSampler'])
def test_names(name):
    assert DATA_SAMPLERS.get(name) is EpochSampler
