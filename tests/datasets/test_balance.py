"""The threshold that is found, and the table of what balancing does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlcls.datasets.balance import auto_threshold, balance_row, balance_table, format_balance, repeat_factors
from mlcls.datasets.balance_weights import imbalance
from mlcls.structures import LabelMatrix


def made(labels) -> LabelMatrix:
    return LabelMatrix.from_dense(np.asarray(labels, np.int8))


def tail(count: int, shares: list[float], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, len(shares))) < shares).astype(np.int8)


def fall(labels: np.ndarray, threshold: float) -> tuple[float, float]:
    """Fall in imbalance and length of the epoch, from the factors of all images."""
    factors = repeat_factors(made(labels), threshold)
    return imbalance((labels == 1).sum(0)) - imbalance(factors @ (labels == 1)), factors.mean()


@pytest.mark.parametrize('shares', [[0.6, 0.3, 0.1, 0.02], [0.9, 0.01], [0.3, 0.2, 0.1, 0.09, 0.05, 0.004]])
def test_auto_is_the_smallest_threshold_that_brings_most_of_what_can_be_had(shares):
    labels = tail(3000, shares)
    found = auto_threshold(made(labels))
    gain, length = fall(labels, found)
    rarest = labels.mean(0).min()
    possible = [fall(labels, threshold) for threshold in np.geomspace(rarest, 1, 150)]
    most = max(fallen for fallen, longer in possible if longer <= 1.5)
    assert rarest < found <= 1 and length <= 1.5
    assert gain >= 0.9 * most - 1e-4
    assert fall(labels, found * 0.96)[0] < 0.9 * most + 1e-4


@settings(max_examples=60)
@given(arrays(np.int8, st.tuples(st.integers(1, 40), st.integers(1, 6)), elements=st.sampled_from([0, 0, 1, -1])))
def test_auto_is_a_threshold_for_any_labels(labels):
    found = auto_threshold(made(labels))
    counts = (labels == 1).sum(0)
    assert 0 < found <= 1
    if counts.any():
        assert found >= counts[counts > 0].min() / len(labels) - 1e-12
    assert repeat_factors(made(labels), found).mean() <= 1.5 + 1e-9
    assert fall(labels, found)[0] >= -1e-12


def test_auto_repeats_nothing_where_classes_are_even():
    labels = np.repeat(np.eye(4, dtype=np.int8), 10, axis=0)
    assert auto_threshold(made(labels)) == pytest.approx(0.25)
    assert repeat_factors(made(labels), 0.25).tolist() == [1] * 40


def test_auto_without_labels():
    assert auto_threshold(made(np.zeros((5, 2)))) == 1.0


def test_a_row_by_hand():
    labels = np.array([[1, 0, 0]] * 6 + [[1, 1, 0]] * 2 + [[0, 0, 0]] * 2)
    row = balance_row(made(labels), 'x', np.array([1.0] * 6 + [3.0] * 2 + [1.0] * 2))
    assert row.length == pytest.approx(1.4)
    np.testing.assert_allclose(row.shares, [12 / 14, 6 / 14, 0])
    assert row.ratio == pytest.approx(2) and row.dragged == 1
    assert row.imbalance == pytest.approx(math.log(9) - (math.log(12) + math.log(6)) / 2)
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / math.log(2)
    assert row.entropy == pytest.approx(entropy)


def test_what_is_dragged_along():
    """Two images of the rare class, one with the head class; each drawn 1 + extra times."""
    labels = [[1, 0]] * 8 + [[1, 1], [0, 1]]
    rows = balance_table(made(labels), [0.8])
    assert rows[0].length == 1 and math.isnan(rows[0].dragged) and rows[0].ratio == pytest.approx(9 / 2)
    assert rows[1].length == pytest.approx((8 + 2 * math.sqrt(0.8 / 0.2)) / 10)
    assert rows[1].dragged == pytest.approx(0.5)


def test_one_class_and_none():
    row = balance_table(made([[1], [0]]), [])[0]
    assert row.ratio == 1 and row.imbalance == 0 and row.entropy == 1
    assert balance_table(made([[0], [0]]), [0.5])[1].shares.tolist() == [0]


def test_thresholds_in_the_table():
    labels = made(tail(500, [0.7, 0.2, 0.03]))
    rows = balance_table(labels, [0.1, 'auto'])
    assert [row.threshold for row in rows] == [None, 0.1, auto_threshold(labels)]
    assert rows[1].length == pytest.approx(repeat_factors(labels, 0.1).mean())


def test_table_for_people():
    labels = made([[1, 0, 0]] * 30 + [[1, 1, 0]] * 5 + [[0, 1, 0]] * 5)
    text = format_balance(labels, ['person', 'toaster', 'ghost'], [0.5, 'auto'])
    lines = text.splitlines()
    assert lines[0].split() == ['images', 'each', 'image', 'once', 'threshold', '0.5', *lines[0].split()[-3:]]
    assert lines[0].split()[-3] == 'auto' and lines[0].split()[-1] == 'sampler'
    assert [line.split()[0] for line in lines[1:4]] == ['ghost', 'toaster', 'person']
    assert lines[2].split()[1:3] == ['10', '25.00%'] and lines[3].split()[1:3] == ['35', '87.50%']
    assert "also show 'person', the most frequent" in text
    assert '1 class without images cannot be balanced' in text
    assert 'No weights of images from 0.2 to 5 bring the imbalance below' in text


@pytest.fixture(scope='module')
def coco(test_data) -> LabelMatrix:
    path = test_data / 'datasets/coco14_train_labels.npz'
    if not path.exists():
        pytest.skip(f'no {path.name} in the test data')
    return made(np.unpackbits(np.load(path)['full'], axis=1)[:, :80])


def test_coco(coco):
    """The class 'person' is dragged along: 55.0 % of the images, 53.5 % of the draws at threshold 0.05."""
    rows = balance_table(coco, [0.05, 'auto'])
    assert rows[0].shares.max() == pytest.approx(0.550, abs=5e-4)
    assert rows[1].shares.max() == pytest.approx(0.535, abs=5e-4) and rows[1].length == pytest.approx(1.50, abs=0.005)
    assert rows[0].ratio == pytest.approx(45174 / 128)
    assert rows[2].length < 1.5 and rows[2].ratio < rows[0].ratio / 3
