"""Splits: exact sizes, every class in every part, groups whole, shares alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.datasets.splitting import k_folds, part_sizes, split_images, stratify
from mlcls.errors import DataError
from mlcls.structures import LabelMatrix

SHARES = [[0.5, 0.5], [0.8, 0.1, 0.1], [1 / 3] * 3, [0.9, 0.1], [0.2] * 5, [7, 2, 1]]


def made(labels: np.ndarray) -> LabelMatrix:
    return LabelMatrix.from_dense(np.asarray(labels, np.int8))


def random_labels(seed: int, images: int, classes: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, classes)) < rng.uniform(0.02, 0.6, classes)).astype(np.int8)
    labels[rng.random(labels.shape) < 0.05] = -1
    return labels


def skewed(seed: int = 0) -> np.ndarray:
    """200 images, 10 classes with 3 to 100 of them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((200, 10), np.int8)
    for number, count in enumerate(np.geomspace(3, 100, 10).round().astype(int)):
        labels[rng.choice(200, count, replace=False), number] = 1
    return labels


def counts_of(labels: np.ndarray, parts: np.ndarray, num_parts: int) -> np.ndarray:
    return np.array([(labels[parts == part] == 1).sum(0) for part in range(num_parts)])


@settings(max_examples=100)
@given(st.integers(0, 500), st.lists(st.floats(0.01, 10), min_size=1, max_size=8))
def test_part_sizes_are_largest_remainders(total, shares):
    sizes = part_sizes(total, shares)
    exact = np.array(shares) / sum(shares) * total
    assert sizes.sum() == total and (np.abs(sizes - exact) < 1 + 1e-6).all()
    remainders = exact - np.floor(exact + 1e-9)
    up = sizes > np.floor(exact + 1e-9)
    if up.any() and not up.all():
        assert remainders[up].min() >= remainders[~up].max() - 1e-6


@pytest.mark.parametrize(
    'total, shares, sizes',
    [
        (10, [0.8, 0.1, 0.1], [8, 1, 1]),
        (11, [0.8, 0.1, 0.1], [9, 1, 1]),
        (7, [1, 1, 1], [3, 2, 2]),
        (10, [3, 7], [3, 7]),
    ],
)
def test_part_sizes_by_hand(total, shares, sizes):
    assert part_sizes(total, shares).tolist() == sizes


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(10, 120), st.integers(1, 12), st.sampled_from(SHARES))
def test_sizes_are_exact_and_the_split_repeats(seed, images, classes, shares):
    labels = random_labels(seed, images, classes)
    if (part_sizes(images, shares) == 0).any():
        return
    parts = split_images(made(labels), shares, seed=seed)
    assert parts.dtype == np.int64 and parts.shape == (images,)
    assert np.bincount(parts, minlength=len(shares)).tolist() == part_sizes(images, shares).tolist()
    np.testing.assert_array_equal(parts, split_images(made(labels), shares, seed=seed))


@pytest.mark.parametrize('seed', range(40))
@pytest.mark.parametrize('grouped', [False, True])
def test_no_split_has_more_classes_in_more_parts(seed, grouped):
    """All assignments of a few images (or groups) are tried: none lacks fewer pairs of a class and a part."""
    rng = np.random.default_rng(seed)
    images, num_parts = int(rng.integers(4, 8)), int(rng.integers(2, 4))
    labels = (rng.random((images, rng.integers(1, 6))) < rng.uniform(0.2, 0.7)).astype(np.int8)
    groups = rng.integers(0, images, images) if grouped else np.arange(images)
    names, unit_of = np.unique(groups, return_inverse=True)
    shares = [[0.6, 0.4], [0.5, 0.25, 0.25]][num_parts - 2]
    sizes = part_sizes(images, shares)
    if len(names) < num_parts:
        return
    possible = np.array([len(np.unique(unit_of[labels[:, c] == 1])) >= num_parts for c in range(labels.shape[1])])

    def lacking(parts: np.ndarray) -> int:
        return int((counts_of(labels, parts, num_parts)[:, possible] == 0).sum())

    fewest = min(
        lacking(np.array(chosen)[unit_of])
        for chosen in itertools.product(range(num_parts), repeat=len(names))
        if grouped or np.bincount(chosen, minlength=num_parts).tolist() == sizes.tolist()
    )
    found = split_images(made(labels), shares, groups if grouped else None, seed)
    assert lacking(found) == fewest


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('shares', [[0.8, 0.1, 0.1], [1 / 3] * 3])
def test_rare_classes_are_in_every_part(seed, shares):
    labels = skewed(seed)
    counts = counts_of(labels, split_images(made(labels), shares, seed=seed), 3)
    assert counts.min() >= 1 and counts[:, 0].tolist() == [1, 1, 1]


def test_more_even_than_the_package_alone():
    from iterstrat.ml_stratifiers import IterativeStratification

    labels = random_labels(3, 2000, 20)
    present, shares = labels == 1, np.array([0.8, 0.1, 0.1])

    def uneven(parts: np.ndarray) -> float:
        counts = counts_of(labels, parts, 3)
        return float((np.abs(counts / np.bincount(parts)[:, None] / present.mean(0) - 1)).mean())

    alone = IterativeStratification(present, shares.copy(), np.random.RandomState(0))
    rng = np.random.default_rng(0)
    drawn = rng.permutation(np.repeat([0, 1, 2], [1600, 200, 200]))
    assert uneven(split_images(made(labels), shares)) < uneven(alone) < uneven(drawn)


@pytest.mark.parametrize('seed', range(8))
def test_groups_stay_whole_and_sizes_near(seed):
    rng = np.random.default_rng(seed)
    labels = random_labels(seed, 400, 8)
    groups = rng.integers(0, 60, 400)
    parts = split_images(made(labels), [0.7, 0.2, 0.1], groups, seed)
    for group in np.unique(groups):
        assert len(set(parts[groups == group])) == 1
    assert np.abs(np.bincount(parts) - [280, 80, 40]).max() <= 1
    counts = counts_of(labels, parts, 3)
    for number in range(8):
        if len(np.unique(groups[labels[:, number] == 1])) >= 3:
            assert counts[:, number].min() >= 1


def test_names_of_groups_do_not_matter():
    labels, rng = made(random_labels(0, 100, 5)), np.random.default_rng(0)
    groups = rng.integers(0, 30, 100)
    renamed = rng.permutation(1000)[groups]
    np.testing.assert_array_equal(split_images(labels, [0.5, 0.5], groups), split_images(labels, [0.5, 0.5], renamed))
    words = np.array([f'patient {group}' for group in groups])
    np.testing.assert_array_equal(split_images(labels, [0.5, 0.5], groups), split_images(labels, [0.5, 0.5], words))


def test_one_giant_group():
    labels = made(random_labels(1, 50, 3))
    groups = np.array([0] * 40 + list(range(1, 11)))
    parts = split_images(labels, [0.5, 0.5], groups)
    assert sorted(np.bincount(parts)) == [10, 40]


@pytest.mark.parametrize('k', [2, 3, 5, 10])
def test_folds(k):
    labels = skewed()
    folds = k_folds(made(labels), k, seed=1)
    assert sorted(np.bincount(folds)) == sorted(part_sizes(200, [1] * k))
    counts = counts_of(labels, folds, k)
    for number, total in enumerate((labels == 1).sum(0)):
        assert (counts[:, number] == 0).sum() == max(0, k - total)
    assert np.ptp(counts[:, -1]) <= 2


def test_the_seed_changes_the_split():
    labels = made(skewed())
    splits = [split_images(labels, [0.5, 0.5], seed=seed).tolist() for seed in range(3)]
    assert splits[0] != splits[1] != splits[2]


def test_unknown_labels_count_as_absent():
    labels = random_labels(2, 80, 6)
    np.testing.assert_array_equal(
        split_images(made(labels), [0.5, 0.5]), split_images(made(np.maximum(labels, 0)), [0.5, 0.5])
    )
    stored = LabelMatrix(np.zeros(7, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int8), 2, default=-1)
    assert sorted(np.bincount(split_images(stored, [0.5, 0.5]))) == [3, 3]
    present = LabelMatrix(np.zeros(7, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int8), 2, default=1)
    assert sorted(np.bincount(split_images(present, [0.5, 0.5]))) == [3, 3]


@pytest.mark.parametrize('labels', [np.zeros((9, 2)), np.ones((9, 1)), np.eye(9), np.zeros((9, 1))])
def test_extreme_labels(labels):
    assert np.bincount(split_images(made(labels), [1, 1, 1])).tolist() == [3, 3, 3]


def test_the_form_for_large_data_keeps_the_promises(monkeypatch):
    """Without the package, by the rule over units."""
    labels = skewed()
    monkeypatch.setattr(stratify, '_PACKAGE_STEPS', 0)
    parts = split_images(made(labels), [0.8, 0.1, 0.1])
    assert np.bincount(parts).tolist() == [160, 20, 20]
    counts = counts_of(labels, parts, 3)
    assert counts.min() >= 1
    np.testing.assert_allclose(counts[:, -1] / [160, 20, 20], 0.5, atol=0.1)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(shares=[1.0]), 'a split needs the shares of at least 2 parts'),
        (dict(shares=[0.8, 0]), 'shares of parts must be above 0, got 0.8, 0'),
        (dict(shares=[0.8, float('nan')]), 'shares of parts must be above 0, got 0.8, nan'),
        (dict(shares=[0.5, 0.5], seed=-1), 'the seed of a split must be at least 0, got -1'),
        (
            dict(shares=[0.5, 0.5], groups=np.zeros(3)),
            r'groups must be one number an image, 20, got an array of \(3,\)',
        ),
        (dict(shares=[0.99, 0.01]), r'part 1 \(counted from 0\), a share of 0.01, would have none of the 20 images'),
        (dict(shares=[0.5, 0.5], groups=np.zeros(20)), '1 group of images cannot be shared out over 2 parts'),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        split_images(made(np.ones((20, 2))), **arguments)


@pytest.mark.parametrize('k, message', [(1, '20 images can make 2 to 20 folds, not 1'), (21, 'folds, not 21')])
def test_folds_that_are_refused(k, message):
    with pytest.raises(DataError, match=message):
        k_folds(made(np.ones((20, 2))), k)


def test_coco(test_data):
    """82,081 images: sizes exact, and no class further than 5 % from its share in any part."""
    path = test_data / 'datasets/coco14_train_labels.npz'
    if not path.exists():
        pytest.skip(f'no {path.name} in the test data')
    labels = np.unpackbits(np.load(path)['full'], axis=1)[:, :80].astype(np.int8)
    parts = split_images(made(labels), [0.8, 0.1, 0.1])
    assert np.bincount(parts).tolist() == [65665, 8208, 8208]
    shares = counts_of(labels, parts, 3) / np.bincount(parts)[:, None] / labels.mean(0)
    assert np.abs(shares - 1).max() < 0.05
