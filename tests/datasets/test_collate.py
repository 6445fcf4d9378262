"""Making batches."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mlcls.datasets import collate_batch
from mlcls.errors import ConfigError, DataError
from mlcls.registry import FUNCTIONS


def sample(index: int, height: int = 4, width: int = 6, soft: bool = False) -> dict:
    inputs = torch.full((3, height, width), index, dtype=torch.uint8)
    targets = torch.tensor([0.5, 1.0, -1.0]) if soft else torch.tensor([1, 0, -1], dtype=torch.int8)
    return {'inputs': inputs, 'targets': targets, 'index': index}


class Samples(Dataset):
    def __init__(self, soft: int = -1) -> None:
        self.soft = soft

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        return sample(index, soft=index == self.soft)


class ChannelsLast(Samples):
    def __getitem__(self, index: int) -> dict:
        packed = sample(index)
        return {**packed, 'inputs': packed['inputs'].permute(1, 2, 0).contiguous().permute(2, 0, 1)}


def test_batch():
    batch = collate_batch([sample(5), sample(3)])
    assert list(batch) == ['inputs', 'targets', 'index']
    assert batch['inputs'].shape == (2, 3, 4, 6) and batch['inputs'].dtype == torch.uint8
    assert batch['inputs'][:, 0, 0, 0].tolist() == [5, 3]
    assert batch['targets'].tolist() == [[1, 0, -1]] * 2 and batch['targets'].dtype == torch.int8
    assert batch['index'].tolist() == [5, 3] and batch['index'].dtype == torch.int64


@pytest.mark.parametrize('workers', [0, 1])
def test_channels_last_samples_make_a_channels_last_batch(workers):
    loader = DataLoader(ChannelsLast(), 4, num_workers=workers, collate_fn=collate_batch)
    for start, batch in zip((0, 4), loader, strict=True):
        assert batch['inputs'].shape == (4, 3, 4, 6)
        assert batch['inputs'].is_contiguous(memory_format=torch.channels_last)
        assert batch['inputs'][:, 2, 3, 5].tolist() == list(range(start, start + 4))


def test_soft_targets_make_the_batch_float():
    batch = collate_batch([sample(0), sample(1, soft=True)])
    assert batch['targets'].dtype == torch.float32
    assert batch['targets'].tolist() == [[1.0, 0.0, -1.0], [0.5, 1.0, -1.0]]


def test_soft_targets_in_workers():
    batches = list(DataLoader(Samples(soft=6), 4, num_workers=1, collate_fn=collate_batch))
    assert [batch['targets'].dtype for batch in batches] == [torch.int8, torch.float32]
    assert batches[1]['targets'].tolist() == [[1, 0, -1], [1, 0, -1], [0.5, 1, -1], [1, 0, -1]]


def test_in_workers_in_shared_memory():
    loader = DataLoader(Samples(), 4, num_workers=1, collate_fn=collate_batch)
    batches = list(loader)
    assert [batch['index'].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert all(batch['inputs'].is_shared() and batch['inputs'].is_contiguous() for batch in batches)


def test_images_of_different_size():
    with pytest.raises(
        DataError,
        match=r'the images of a batch differ in size .6x4, 8x4.; add Resize, or '
        'ResizeEdge and CenterCrop',
    ):
        collate_batch([sample(0), sample(1, width=8)])
    with pytest.raises(DataError, match=r'6x4, 7x4, 8x4, ...'):
        collate_batch([sample(0, width=width) for width in (6, 7, 8, 9)])


@pytest.mark.parametrize('broken', [{'img_path': 'a.jpg', 'targets': None}, None, {'inputs': torch.zeros(1)}])
def test_samples_that_are_not_packed(broken):
    with pytest.raises(ConfigError, match='the pipeline must end with PackInputs'):
        collate_batch([broken])


@pytest.mark.parametrize('name', ['collate_batch', 'default_collate', 'pseudo_collate', 'mlcls.default_collate'])
def test_names(name):
    assert FUNCTIONS.get(name) is collate_batch
