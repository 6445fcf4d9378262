"""The order of an epoch."""

from __future__ import annotations

import mmengine.dist
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from mlcls.datasets import ClassBalancedDataset, EpochSampler
from mlcls.datasets.balance_weights import balanced_weights
from mlcls.datasets.samplers import MultiLabelBalancedSampler
from mlcls.engine.dataloader import build_dataloader
from mlcls.errors import ConfigError
from mlcls.registry import DATA_SAMPLERS
from mlcls.structures import LabelMatrix, SampleIndex


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


class Labelled(Dataset):
    """Images that are their numbers, with labels."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = LabelMatrix.from_dense(np.asarray(labels, np.int8))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SampleIndex) -> tuple[int, tuple[int, ...]]:
        return int(index), index.key


def skewed(count: int = 300, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, 5)) < [0.7, 0.3, 0.1, 0.04, 0.02]).astype(np.int8)


def balanced(labels: np.ndarray, **arguments) -> MultiLabelBalancedSampler:
    return MultiLabelBalancedSampler(Labelled(labels), **{'seed': 0, **arguments})


def test_balanced_draws_are_their_expectation_rounded():
    sampler, mean = balanced(skewed(), num_images=500), np.zeros(300)
    expected = sampler.draws
    assert expected.sum() == pytest.approx(500) and len(sampler) == 500
    for epoch in range(400):
        drawn = np.bincount(sampler.order(epoch), minlength=300)
        assert drawn.sum() == 500
        assert (drawn >= np.floor(expected - 1e-9)).all() and (drawn <= np.ceil(expected + 1e-9)).all()
        mean += drawn / 400
    np.testing.assert_allclose(mean, expected, atol=5 * 0.5 / np.sqrt(400))


def test_balanced_classes_are_more_even():
    labels = skewed()
    before = labels.sum(0)
    after = np.mean([labels[balanced(labels).order(epoch)].sum(0) for epoch in range(10)], axis=0)
    assert after.max() / after.min() < before.max() / before.min() / 3
    assert after[-1] > 2 * before[-1] and after[0] < before[0]


def test_balanced_limits():
    sampler = balanced(skewed(), max_repeat=3.0, min_share=0.5)
    assert sampler.draws.min() >= 0.5 - 1e-9 and sampler.draws.max() <= 3 + 1e-9
    np.testing.assert_array_equal(sampler.draws, balanced_weights(sampler.dataset.labels, 3.0, 0.5).multipliers)
    assert max(np.bincount(sampler.order(epoch)).max() for epoch in range(20)) == 3
    even = balanced(skewed(), max_repeat=1)
    assert sorted(even.order(0).tolist()) == list(range(300))


def test_balanced_images_without_labels_are_drawn_as_often_as_before():
    labels = skewed()
    labels[:100] = 0
    labels[:10, 0] = -1
    np.testing.assert_allclose(balanced(labels, num_images=600).draws[:100], 2)
    assert sorted(balanced(np.zeros((7, 2))).order(3).tolist()) == list(range(7))


def test_balanced_epochs_are_keyed_and_shuffled():
    sampler = balanced(skewed(), seed=3)
    sampler.set_epoch(2)
    drawn = list(sampler)
    assert [index.key for index in drawn] == [(3, 2, position) for position in range(300)]
    assert drawn == sampler.order(2).tolist() == balanced(skewed(), seed=3).order(2).tolist()
    assert drawn != sorted(drawn)
    others = [sampler.order(3), balanced(skewed(), seed=4).order(2)]
    assert all(drawn != other.tolist() for other in others)
    assert all(
        np.bincount(other, minlength=300).tolist() != np.bincount(drawn, minlength=300).tolist() for other in others
    )


@pytest.mark.parametrize('world_size', [2, 3, 7])
def test_balanced_ranks_share_one_epoch_and_resume_in_it(monkeypatch, world_size):
    samplers = []
    for rank in range(world_size):
        monkeypatch.setattr(mmengine.dist, 'get_dist_info', lambda rank=rank: (rank, world_size))
        samplers.append(balanced(skewed(), num_images=50, seed=1))
    shares = []
    for sampler in samplers:
        sampler.set_epoch(4)
        shares.append([(int(index), index.key) for index in sampler])
        assert len(sampler) == len(shares[-1]) == -(-50 // world_size)
        sampler.set_epoch(4, start=3)
        assert [(int(index), index.key) for index in sampler] == shares[-1][3:]
    order = samplers[0].order(4)
    for image, (_, _, position) in (draw for share in shares for draw in share):
        assert image == order[position % 50]
    assert {key[2] for share in shares for _, key in share} == set(range(-(-50 // world_size) * world_size))


def test_balanced_persistent_workers_see_the_epoch():
    sampler = balanced(skewed())
    loader = DataLoader(sampler.dataset, 16, sampler=sampler, num_workers=2, persistent_workers=True, collate_fn=list)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert [image for batch in loader for image, _ in batch] == sampler.order(epoch).tolist()


def test_balanced_says_how_even():
    sampler = balanced(skewed(), num_images=77)
    assert sampler.summary() == (
        f'balanced to 77 draws an epoch; imbalance of classes {sampler.weights.imbalance:.3f} '
        f'(least possible within the limits: {sampler.weights.bound:.3f})'
    )


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'num_images': 0}, 'num_images must be a whole number of at least 1, got 0'),
        ({'num_images': 1.5}, 'num_images must be a whole number of at least 1, got 1.5'),
        ({'num_images': True}, 'num_images must be a whole number of at least 1, got True'),
        ({'max_repeat': 0.5}, 'max_repeat must be a number of at least 1, got 0.5'),
        ({'max_repeat': '5'}, "max_repeat must be a number of at least 1, got '5'"),
        ({'max_repeat': float('inf')}, 'max_repeat must be a number of at least 1, got inf'),
        ({'min_share': -0.1}, r'min_share must be a number in \[0, 1\], got -0.1'),
        ({'min_share': float('nan')}, r'min_share must be a number in \[0, 1\], got nan'),
        ({'shuffle': False}, 'draws at random; shuffle=False is not supported'),
    ],
)
def test_balanced_refuses(arguments, message):
    with pytest.raises(ConfigError, match='MultiLabelBalancedSampler: ' + message):
        balanced(skewed(), **arguments)


def test_balanced_refuses_what_is_balanced_already_or_has_no_labels():
    class Wrapped:
        def __init__(self, dataset):
            self.dataset = dataset

    for data in (ClassBalancedDataset(Labelled(skewed()), 0.3), Wrapped(ClassBalancedDataset(Labelled(skewed()), 0.3))):
        with pytest.raises(ConfigError, match='is balanced by ClassBalancedDataset already; take one of them'):
            MultiLabelBalancedSampler(data, seed=0)
    with pytest.raises(ConfigError, match="needs a dataset with 'labels' of its images.*; range has none"):
        MultiLabelBalancedSampler(range(5), seed=0)


def test_balanced_from_a_config(tiny_data):
    loader = build_dataloader(
        dict(
            batch_size=8,
            num_workers=0,
            dataset=dict(type='MultiLabelDataset', data_root=str(tiny_data), ann_file='train.json'),
            sampler=dict(type='MultiLabelBalancedSampler', shuffle=True, num_images=20),
        ),
        seed=5,
    )
    assert isinstance(loader.sampler, EpochSampler) and loader.sampler.seed == 5 and len(loader) == 3
    assert loader.sampler.draws.shape == (48,)
