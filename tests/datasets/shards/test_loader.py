"""The loader of shards, and what of its config reaches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from mlcls.datasets import collate_batch
from mlcls.datasets.shards import ShardDataset, ShardLoader, configure_order
from mlcls.errors import ConfigError

from .conftest import IMAGES, PIPELINE


def test_the_data_set_stands_where_a_sampler_does(shards: Path) -> None:
    dataset = ShardDataset(shards, PIPELINE)
    dataset.configure(shuffle=True, seed=1, round_up=True, batch_size=4)
    loader = ShardLoader(dataset, batch_size=4, num_workers=1, collate_fn=collate_batch, persistent_workers=True)
    assert isinstance(loader, DataLoader) and loader.sampler is dataset
    assert (len(loader.sampler), len(loader)) == (IMAGES, 12)
    orders = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # as mmengine's DistSamplerSeedHook does
        orders.append([index for batch in loader for index in batch['index'].tolist()])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(IMAGES))
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    'settings, expected',
    [
        ({'batch_size': 8}, (True, 5, True, 8)),
        ({'sampler': None, 'batch_sampler': None}, (True, 5, True, 1)),
        ({'sampler': {'type': 'DefaultSampler', 'shuffle': False, 'round_up': False}}, (False, 5, False, 1)),
        ({'sampler': {'type': 'mlcls.EpochSampler', 'seed': 7}}, (True, 7, True, 1)),
        ({'sampler': {'type': 'DefaultSampler', 'seed': None}}, (True, 5, True, 1)),
    ],
)
def test_a_sampler_of_the_usual_kind_says_how(
    shards: Path, settings: dict[str, Any], expected: tuple[bool, int, bool, int]
) -> None:
    dataset = ShardDataset(shards, PIPELINE)
    configure_order(dataset, settings, 5)
    assert (dataset.shuffle, dataset.seed, dataset.round_up, dataset.batch_size) == expected
    assert 'sampler' not in settings and 'batch_sampler' not in settings


@pytest.mark.parametrize(
    'settings',
    [
        {'sampler': {'type': 'MultiLabelBalancedSampler'}},
        {'sampler': {'type': 'DefaultSampler', 'power': 1}},
        {'batch_sampler': {'type': 'DefaultSampler'}},
    ],
)
def test_other_orders_are_refused(shards: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r'a ShardDataset orders its images itself; of a sampler it takes only shuffle'
    ):
        configure_order(ShardDataset(shards, PIPELINE), settings)
