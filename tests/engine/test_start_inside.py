"""Loaders that begin inside an epoch: the batches are those of a whole epoch, from there on."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, SequentialSampler

from mlcls.apis.packing import PackFlags, pack_data
from mlcls.datasets import EpochSampler
from mlcls.datasets.packs import PackSettings
from mlcls.datasets.shards import ShardDataset, ShardSize
from mlcls.engine.dataloader import batch_size_of, build_dataloader, order_of, start_at
from mlcls.errors import ConfigError
from tests.conftest import TINY_CONFIG, make_squares

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.5),
    dict(type='PackInputs'),
]
SHUFFLED = dict(type='DefaultSampler', shuffle=True)


class Uneven:
    """A batch sampler of its own kind: batches of 1, 2, 3, 1, 2, 3, ... draws."""

    def __init__(self, sampler: Any, batch_size: int) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[list[int]]:
        draws, size = iter(self.sampler), 0
        while batch := list(islice(draws, size % 3 + 1)):
            yield batch
            size += 1

    def __len__(self) -> int:
        return len(self.sampler) // 2


class OfEpochs(Uneven):
    """One that is told the epoch itself, and hides its sampler."""

    def __init__(self, sampler: Any, batch_size: int) -> None:
        super().__init__(list(sampler), batch_size)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(super().__iter__())
        return iter(batches[self.epoch :] + batches[: self.epoch])


KINDS: dict[str, dict[str, Any]] = {
    'epochs': dict(sampler=SHUFFLED),
    'in order': dict(sampler=dict(type='DefaultSampler', shuffle=False)),
    'drop last': dict(sampler=SHUFFLED, drop_last=True),
    'balanced': dict(sampler=dict(type='MultiLabelBalancedSampler', num_images=23)),
    'class balanced': dict(sampler=SHUFFLED, oversample=0.6),
    'no sampler': dict(shuffle=True),
    'of torch': dict(sampler=dict(type=SequentialSampler)),
    'distributed': dict(sampler=dict(type=DistributedSampler, num_replicas=1, rank=0)),
    'plain batches': dict(sampler=SHUFFLED, batch_sampler=dict(type=BatchSampler, drop_last=True)),
    'other batches': dict(sampler=SHUFFLED, batch_sampler=dict(type=Uneven)),
    'other batches of torch': dict(sampler=dict(type=SequentialSampler), batch_sampler=dict(type=Uneven)),
    'batches of epochs': dict(sampler=SHUFFLED, batch_sampler=dict(type=OfEpochs)),
    'shards': dict(sampler=SHUFFLED, shards=5),
    'shards without buffer': dict(sampler=SHUFFLED, shards=0),
    'shards in order': dict(sampler=dict(type='DefaultSampler', shuffle=False), shards=5, drop_last=True),
}


QUICK = ('epochs', 'other batches', 'shards')
CASES = [(kind, workers, live_on) for kind in KINDS for workers, live_on in ((0, False), (2, True))] + [
    pytest.param(kind, 2, False, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS
]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images, as files and in shards of 3."""
    root = tmp_path_factory.mktemp('data')
    make_squares(root, train=20, val=20)
    (root / 'config.py').write_text(TINY_CONFIG.format(root=str(root), work_dir=str(root / 'run')))
    pack_data(root / 'config.py', root / 'shards', PackFlags('train', settings=PackSettings(0), shards=ShardSize(3)))
    return root


def loader_of(data: Path, kind: str, **settings: Any) -> DataLoader:
    config = {'batch_size': 3, **KINDS[kind], **settings}
    buffer, threshold = config.pop('shards', None), config.pop('oversample', None)
    dataset: dict[str, Any] = dict(type='MultiLabelDataset', data_root=str(data), ann_file='train.json')
    if buffer is not None:
        dataset = dict(type='ShardDataset', root=str(data / 'shards'), shuffle_buffer=buffer)
    dataset['pipeline'] = PIPELINE
    if threshold is not None:
        dataset = dict(type='ClassBalancedDataset', dataset=dataset, oversample_thr=threshold)
    sampler = config.get('sampler')
    if sampler and sampler['type'] is SequentialSampler:
        config['sampler'] = SequentialSampler(range(20))
    elif sampler and sampler['type'] is DistributedSampler:
        config['sampler'] = DistributedSampler(range(20), num_replicas=1, rank=0, seed=5)  # type: ignore[arg-type]
    return build_dataloader(dict(dataset=dataset, **config), seed=4)


def shards_of(loader: DataLoader) -> ShardDataset:
    assert isinstance(loader.dataset, ShardDataset)
    return loader.dataset


def equal(found: list[dict[str, torch.Tensor]], expected: list[dict[str, torch.Tensor]]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(one[key], other[key])
        for one, other in zip(found, expected)
        for key in ('inputs', 'targets', 'index')
    )


def copied(batches: Any) -> list[dict[str, torch.Tensor]]:
    return [{key: value.clone() for key, value in batch.items()} for batch in batches]


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
@pytest.mark.parametrize(('kind', 'workers', 'live_on'), CASES)
def test_the_rest_of_an_epoch(data: Path, kind: str, workers: int, live_on: bool) -> None:
    settings = dict(num_workers=workers, persistent_workers=live_on)
    loader = loader_of(data, kind, **settings)
    start_at(loader, 2, 0)
    whole = copied(loader)
    assert len(whole) >= 6
    again = loader_of(data, kind, **settings)  # of a process that has not seen the epoch's beginning
    for start in (4, 1):
        start_at(again, 2, start)
        assert equal(whole[:start] + copied(again), whole)
    assert equal(copied(again), whole), 'a start holds for one iteration'
    if workers and not live_on:
        return  # the rest has nothing to do with processes
    start_at(again, 2, len(whole))
    assert copied(again) == []
    start_at(again, 3, 0)
    assert equal(copied(again), whole) == (kind in ('of torch', 'other batches of torch')), 'another epoch'
    start_at(again, 2, 3)
    order = order_of(again)
    if hasattr(order, 'set_epoch'):  # as mmengine's DistSamplerSeedHook, of an epoch that begins at its beginning
        order.set_epoch(2)
        if kind not in ('distributed', 'other batches'):
            assert equal(copied(again), whole)


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
@pytest.mark.parametrize('workers', [1, 2, 3])
@pytest.mark.parametrize('kind', ['shards', 'shards without buffer', 'shards in order'])
def test_shards_from_every_batch(data: Path, kind: str, workers: int) -> None:
    """Seven batches on up to three workers: stretches of unequal length, and turns in the midst of a round."""
    loader = loader_of(data, kind, num_workers=workers, persistent_workers=True)
    start_at(loader, 1, 0)
    whole = copied(loader)
    for start in range(len(whole) + 1):
        start_at(loader, 1, start)
        assert equal(whole[:start] + copied(loader), whole)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind', ['epochs', 'other batches', 'of torch', 'shards', 'shards in order'])
def test_what_is_left_out_is_not_loaded(data: Path, kind: str, workers: int, tmp_path: Path) -> None:
    loader = loader_of(data, kind, num_workers=workers)
    dataset: Any = loader.dataset
    pipeline, log = dataset.pipeline, tmp_path / 'log'

    def counted(sample: Any, rng: Any) -> Any:
        with log.open('a') as file:
            file.write('x')
        return pipeline(sample, rng)

    dataset.pipeline = counted
    start_at(loader, 0, 4)
    images = sum(len(batch['index']) for batch in loader)
    assert 0 < images < 20
    # Without drop_last all that is loaded is given.
    assert len(log.read_text()) == images + (2 if kind == 'shards in order' else 0)


def test_shards_with_nothing_to_read_are_not_opened(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module('webdataset.gopen')
    opened: list[str] = []
    real = module.gopen

    def noted(path: str) -> Any:
        opened.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(module, 'gopen', noted)
    loader = loader_of(data, 'shards in order', batch_size=5)
    start_at(loader, 0, 3)
    assert [batch['index'].tolist() for batch in loader] == [[15, 16, 17, 18, 19]]
    assert opened == ['shard-000005.tar', 'shard-000006.tar']


def test_draws_that_are_no_whole_batches(data: Path) -> None:
    loader = loader_of(data, 'shards', num_workers=0)
    shards_of(loader).set_epoch(1)
    order = [int(index) for batch in loader for index in batch['index']]
    shards_of(loader).set_epoch(1, start=7)
    assert [int(index) for batch in loader for index in batch['index']] == order[7:]
    loader = loader_of(data, 'shards', num_workers=2)
    shards_of(loader).set_epoch(1)
    order = [int(index) for batch in loader for index in batch['index']]
    shards_of(loader).set_epoch(1, start=7)
    assert sorted(int(index) for batch in loader for index in batch['index']) == sorted(order[7:])


def test_without_batches_a_draw_is_one(data: Path) -> None:
    loader = loader_of(data, 'epochs', batch_size=None)
    whole = copied({key: value for key, value in sample.items() if key == 'inputs'} for sample in loader)
    start_at(loader, 0, 6)
    rest = [sample['inputs'] for sample in loader]
    assert len(rest) == 14 and all(torch.equal(a, b['inputs']) for a, b in zip(rest, whole[6:]))


def test_a_wrapped_batch_sampler_stays_what_it_was_to_others(data: Path) -> None:
    loader = loader_of(data, 'other batches')
    start_at(loader, 0, 0)
    assert type(loader.batch_sampler) is Uneven
    start_at(loader, 0, 2)
    assert len(loader) == 10 and isinstance(order_of(loader), EpochSampler)
    assert batch_size_of(loader) is None


def test_other_streams_are_refused() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

    loader = DataLoader(Stream())
    start_at(loader, 1, 0)
    assert len(list(loader)) == 5
    with pytest.raises(ConfigError, match='Stream is read as a stream and cannot be taken up inside an epoch; resume'):
        start_at(loader, 1, 1)
