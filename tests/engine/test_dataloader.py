"""Loaders from their configs."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, TensorDataset

from mlcls.datasets import EpochSampler, collate_batch, init_worker
from mlcls.engine.dataloader import build_dataloader
from mlcls.errors import ConfigError, DataError

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]


def config(root: Path, **settings: Any) -> dict[str, Any]:
    dataset = dict(type='MultiLabelDataset', data_root=str(root), ann_file='val.json', pipeline=PIPELINE)
    return dict(dataset=dataset, batch_size=4, sampler=dict(type='DefaultSampler', shuffle=True), **settings)


def test_parts(tiny_data: Path) -> None:
    given = config(tiny_data, num_workers=2, persistent_workers=True, drop_last=True)
    loader = build_dataloader(given, seed=7)
    assert isinstance(loader.sampler, EpochSampler) and loader.sampler.seed == 7 and loader.sampler.shuffle
    assert loader.collate_fn is collate_batch and loader.worker_init_fn is init_worker
    assert loader.persistent_workers and loader.drop_last and len(loader) == 5
    assert given['sampler'] == dict(type='DefaultSampler', shuffle=True)  # the config is not changed


@pytest.mark.skipif(sys.platform != 'linux', reason='workers are forked on Linux')
def test_workers_are_forked_unless_said_otherwise(tiny_data: Path) -> None:
    loader = build_dataloader(config(tiny_data, num_workers=1))
    assert loader.multiprocessing_context.get_start_method() == 'fork'
    loader = build_dataloader(config(tiny_data, num_workers=1, multiprocessing_context='spawn'))
    assert loader.multiprocessing_context.get_start_method() == 'spawn'


def test_spawned_workers_give_the_same_batches(tiny_data: Path) -> None:
    """Everything a worker needs can be sent to it."""
    expected = next(iter(build_dataloader(config(tiny_data), seed=1)))
    spawned = build_dataloader(config(tiny_data, num_workers=1, multiprocessing_context='spawn'), seed=1)
    found = next(iter(spawned))
    assert (expected['inputs'] == found['inputs']).all() and (expected['index'] == found['index']).all()


def test_settings_of_workers_are_dropped_without_workers(tiny_data: Path) -> None:
    loader = build_dataloader(config(tiny_data, num_workers=0, persistent_workers=True, prefetch_factor=4))
    assert loader.num_workers == 0 and not loader.persistent_workers


def test_functions_may_have_arguments_and_samplers_may_be_objects(tiny_data: Path) -> None:
    given = config(tiny_data, num_workers=1, worker_init_fn=dict(type=print, sep='-'))
    given['sampler'] = range(3)
    loader = build_dataloader(given)
    assert isinstance(loader.worker_init_fn, partial) and loader.worker_init_fn.keywords == {'sep': '-'}
    assert loader.sampler == range(3)


def test_batch_sampler(tiny_data: Path) -> None:
    from torch.utils.data import BatchSampler

    given = config(tiny_data, batch_sampler=dict(type=BatchSampler, drop_last=True))
    loader = build_dataloader(given, seed=0)
    assert isinstance(loader.batch_sampler, BatchSampler) and len(loader) == 5
    assert isinstance(loader.batch_sampler.sampler, EpochSampler)


def test_a_loader_stays_as_it_is() -> None:
    import torch

    loader = DataLoader(TensorDataset(torch.zeros(2)))
    assert build_dataloader(loader) is loader


def test_refusals(tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="num_batch_per_epoch is not available; give the dataset 'indices'"):
        build_dataloader(config(tiny_data, num_batch_per_epoch=3))
    with pytest.raises(ConfigError, match='the data loader cannot be built: .*prefetch'):
        build_dataloader(config(tiny_data, num_workers=1, prefetch_factor=-1))
    with pytest.raises(
        ConfigError, match='collate_fn: MultiLabelDataset makes its batches itself; leave collate_fn out'
    ):
        build_dataloader(config(tiny_data, collate_fn=dict(type=list)))
    (tiny_data / 'val' / '0.png').unlink()
    with pytest.raises(DataError, match='1 of 20 images do not exist'):
        build_dataloader(config(tiny_data))
