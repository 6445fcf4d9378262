"""Repeat-factor sampling."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from mlcls.datasets import ClassBalancedDataset, EpochSampler, MultiLabelDataset
from mlcls.datasets.balance import auto_threshold, repeat_factors
from mlcls.datasets.class_balanced import systematic_draw
from mlcls.errors import ConfigError
from mlcls.registry import DATASETS
from mlcls.structures import LabelMatrix, SampleIndex


class Inner(Dataset):
    """Says which image and draw it was asked for."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = LabelMatrix.from_dense(np.asarray(labels, np.int8))
        self.classes = tuple(f'c{number}' for number in range(self.labels.num_classes))
        self.metainfo, self.notes = {'classes': self.classes}, ('a note',)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SampleIndex) -> tuple[int, tuple[int, ...]]:
        return int(index), index.key

    def get_cat_ids(self, index: int) -> list[int]:
        return self.labels.present(index).tolist()

    def get_data_info(self, index: int) -> dict:
        return {'sample_idx': index}

    def summary(self) -> str:
        return f'{len(self)} images'


def long_tail(count: int = 400, classes: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, classes)) < 0.5 * 0.4 ** np.arange(classes)).astype(np.int8)
    labels[rng.random(labels.shape) < 0.05] = -1
    return labels


def formula(labels: np.ndarray, threshold: float) -> list[float]:
    """By hand, image by image."""
    count = len(labels)
    by_class = [
        max(1.0, math.sqrt(threshold / (sum(row[c] == 1 for row in labels) / count)))
        if any(row[c] == 1 for row in labels)
        else None
        for c in range(labels.shape[1])
    ]
    return [max([by_class[c] for c in range(labels.shape[1]) if row[c] == 1], default=1.0) for row in labels]


@pytest.mark.parametrize('threshold', [0.001, 0.05, 0.3, 1.0])
def test_factors_follow_the_formula(threshold):
    labels = long_tail()
    factors = repeat_factors(LabelMatrix.from_dense(labels), threshold)
    np.testing.assert_allclose(factors, formula(labels, threshold), rtol=1e-12)


def test_factors_where_labels_are_present_by_default():
    labels = np.array([[1, 1], [1, 0]], np.int8)
    stored = LabelMatrix(np.array([0, 0, 1]), np.array([1], np.int32), np.array([0], np.int8), 2, default=1)
    np.testing.assert_allclose(repeat_factors(stored, 0.9), formula(labels, 0.9))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=50), st.integers(0, 2**32))
def test_systematic_draw_adds_up_and_stays_near_the_expectation(shares, seed):
    values = np.array(shares)
    count = round(values.sum())
    drawn = systematic_draw(values, count, np.random.default_rng(seed))
    assert drawn.sum() == count and drawn.min() >= 0
    if count:
        expected = values * count / values.sum()
        assert (drawn >= np.floor(expected - 1e-9)).all() and (drawn <= np.ceil(expected + 1e-9)).all()


@pytest.mark.parametrize('shares', [[0.3, 0.7], [0.1, 0.2, 0.7], [0.9, 0.9, 0.1, 0.1]])
def test_systematic_draw_is_unbiased(shares):
    values, rng = np.array(shares), np.random.default_rng(0)
    drawn = sum(systematic_draw(values, round(values.sum()), rng) for _ in range(5000)) / 5000
    np.testing.assert_allclose(drawn, values, atol=5 * 0.5 / math.sqrt(5000))


def test_stochastic_rounding_is_right_on_average():
    data = ClassBalancedDataset(Inner(long_tail(200)), 0.3)
    factors, epochs = data.repeat_factors, 3000
    counts = np.zeros(200)
    for epoch in range(epochs):
        table = data.epoch_indices(epoch)
        assert len(table) == len(data)
        drawn = np.bincount(table, minlength=200)
        assert (drawn >= np.floor(factors)).all() and (drawn <= np.ceil(factors) + 1).all()
        counts += drawn
    fractions = factors - np.floor(factors)
    scaled = np.floor(factors) + fractions * round(fractions.sum()) / fractions.sum()
    np.testing.assert_allclose(counts / epochs, scaled, atol=5 * 0.5 / math.sqrt(epochs))
    assert len(data) == int(np.floor(factors).sum() + round(fractions.sum()))


def test_epochs_depend_on_seed_and_number_alone():
    first, second, other = (ClassBalancedDataset(Inner(long_tail()), 0.3, seed=seed) for seed in (1, 1, 2))
    second.epoch_indices(9)
    for epoch in (0, 3, 0):
        np.testing.assert_array_equal(first.epoch_indices(epoch), second.epoch_indices(epoch))
    assert (first.epoch_indices(0) != first.epoch_indices(1)).any()
    assert (first.epoch_indices(0) != other.epoch_indices(0)).any()


def test_rounding_up_repeats_the_ceiling():
    labels = long_tail()
    data = ClassBalancedDataset(Inner(labels), 0.3, rounding='up')
    expected = np.repeat(np.arange(400), np.ceil(formula(labels, 0.3)).astype(int))
    np.testing.assert_array_equal(data.epoch_indices(0), expected)
    np.testing.assert_array_equal(data.epoch_indices(5), expected)


def test_rounding_up_is_mmengines():
    from mmengine.dataset import ClassBalancedDataset as Theirs

    theirs = Theirs.__new__(Theirs)  # its constructor takes only datasets of mmengine
    theirs.dataset = Inner(long_tail())
    factors = theirs._get_repeat_factors(theirs.dataset, 0.3)
    ours = ClassBalancedDataset(theirs.dataset, 0.3, 'up')
    np.testing.assert_allclose(ours.repeat_factors, factors, rtol=1e-12)
    repeated = [image for image, factor in enumerate(factors) for _ in range(math.ceil(factor))]
    assert ours.epoch_indices(0).tolist() == repeated


def test_the_index_says_the_epoch():
    data = ClassBalancedDataset(Inner(long_tail()), 0.3, seed=4)
    for epoch in (0, 2, 1):
        table = ClassBalancedDataset(Inner(long_tail()), 0.3, seed=4).epoch_indices(epoch)
        for position in (0, 17, len(data) - 1):
            assert data[SampleIndex(position, (0, epoch, 99))] == (table[position], (0, epoch, 99))
    assert data[5] == (data.epoch_indices(0)[5], (0, 0, 5))
    assert data[-1] == (data.epoch_indices(0)[-1], (0, 0, len(data) - 1))
    with pytest.raises(IndexError):
        data[len(data)]


def test_the_runs_seed_changes_the_draw():
    data = ClassBalancedDataset(Inner(long_tail()), 0.3)
    tables = [[data[SampleIndex(i, (seed, 1, i))][0] for i in range(len(data))] for seed in (0, 1, 1)]
    assert tables[0] != tables[1] == tables[2] and tables[0] == data.epoch_indices(1).tolist()


def test_repeats_of_an_image_are_different_draws():
    data = ClassBalancedDataset(Inner(np.eye(20, dtype=np.int8)), 1.0)
    drawn = [data[index] for index in EpochSampler(data, seed=0)]
    assert len({image for image, _ in drawn}) == 20 < len(drawn) == len({key for _, key in drawn})


def test_persistent_workers_see_the_epoch():
    data = ClassBalancedDataset(Inner(long_tail()), 0.3)
    sampler = EpochSampler(data, seed=0)
    loader = DataLoader(data, 16, sampler=sampler, num_workers=2, persistent_workers=True, collate_fn=list)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        images = sorted(image for batch in loader for image, _ in batch)
        assert images == data.epoch_indices(epoch).tolist()


def test_what_it_passes_on():
    inner = Inner(long_tail())
    data = ClassBalancedDataset(inner, 0.3)
    assert data.classes == inner.classes and data.metainfo == inner.metainfo and data.labels is inner.labels
    image = int(data.epoch_indices(0)[30])
    assert data.get_cat_ids(30) == inner.get_cat_ids(image) and data.get_data_info(30) == {'sample_idx': image}
    assert data.notes == ('a note',) and data.full_init() is None
    assert data.summary() == f'400 images; class-balanced to {len(data)} draws an epoch (x{len(data) / 400:.2f})'


def test_a_threshold_that_does_nothing_is_said():
    labels = np.zeros((100, 3), np.int8)
    labels[:50, 0], labels[:20, 1] = 1, 1
    data = ClassBalancedDataset(Inner(labels), 0.1)
    assert len(data) == 100
    assert data.notes[-1] == (
        "ClassBalancedDataset: oversample_thr=0.1 repeats nothing; the share of the rarest class, 'c1', is 0.2"
    )


def test_the_threshold_can_be_found():
    labels = long_tail()
    data = ClassBalancedDataset(Inner(labels), 'auto')
    assert data.oversample_thr == auto_threshold(LabelMatrix.from_dense(labels))
    np.testing.assert_allclose(data.repeat_factors, formula(labels, data.oversample_thr), rtol=1e-12)
    assert 400 < len(data) <= 600
    found = f"oversample_thr='auto', found to be {data.oversample_thr:.3g}"
    assert (
        data.summary()
        == f'400 images; class-balanced by {found}, to {len(data)} draws an epoch (x{len(data) / 400:.2f})'
    )


def test_images_without_labels_count_once():
    data = ClassBalancedDataset(Inner(np.array([[0, 0], [-1, 0], [1, 0], [0, 0]])), 1.0)
    assert data.repeat_factors.tolist() == [1, 1, 2, 1] and len(data) == 5
    assert ClassBalancedDataset(Inner(np.zeros((3, 2))), 1.0).epoch_indices(0).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'oversample_thr': 0}, r'oversample_thr must be a share in \(0, 1\], got 0'),
        ({'oversample_thr': 1.5}, r'oversample_thr must be a share in \(0, 1\], got 1.5'),
        ({'oversample_thr': '0.1'}, r"oversample_thr must be a share in \(0, 1\], got '0.1'; 'auto' takes it from the"),
        ({'oversample_thr': float('nan')}, 'oversample_thr must be a share'),
        ({'oversample_thr': 0.1, 'rounding': 'upp'}, "unknown rounding 'upp'; did you mean 'up'"),
        ({'oversample_thr': 0.1, 'seed': -1}, 'seed must be at least 0'),
        ({'oversample_thr': 0.1, 'lazy_init': True}, 'lazy_init=True is not supported'),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ConfigError, match='ClassBalancedDataset: ' + message):
        ClassBalancedDataset(Inner(long_tail()), **arguments)


def test_from_a_config(tiny_data):
    config = dict(
        type='ClassBalancedDataset',
        oversample_thr=0.9,
        dataset=dict(type='MultiLabelDataset', data_root=str(tiny_data), ann_file='train.json'),
    )
    data = DATASETS.build(config)
    assert isinstance(data.dataset, MultiLabelDataset) and len(data) > len(data.dataset) == 48


@pytest.fixture(scope='module')
def coco(test_data) -> Inner:
    path = test_data / 'datasets/coco14_train_labels.npz'
    if not path.exists():
        pytest.skip(f'no {path.name} in the test data')
    return Inner(np.unpackbits(np.load(path)['full'], axis=1)[:, :80])


@pytest.mark.parametrize('threshold, intended, rounded_up', [(0.02, 1.06, 1.33), (0.05, 1.50, 2.04), (0.001, 1.0, 1.0)])
def test_coco(coco, threshold, intended, rounded_up):
    start = time.perf_counter()
    data = ClassBalancedDataset(coco, threshold)
    assert time.perf_counter() - start < 1
    assert len(data) / len(coco) == pytest.approx(intended, abs=0.005)
    assert len(data) / len(coco) == pytest.approx(data.repeat_factors.mean(), abs=1e-5)
    assert len(ClassBalancedDataset(coco, threshold, 'up')) / len(coco) == pytest.approx(rounded_up, abs=0.005)
