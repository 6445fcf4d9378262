"""Weights of images: limits, and that nothing better exists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlcls.datasets.balance_weights import LabelSets, balanced_weights, imbalance
from mlcls.structures import LabelMatrix

matrices = st.tuples(st.integers(1, 30), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.sampled_from([0, 0, 1, -1]))
)


def kl_from_even(exposure: np.ndarray) -> float:
    """Kullback-Leibler divergence of the exposure shares from equal shares, written out."""
    shares = exposure[exposure > 0] / exposure.sum()
    return float(sum(np.log((1 / len(shares)) / share) / len(shares) for share in shares))


@pytest.mark.parametrize('exposure', [[1, 1, 1], [5, 1, 0.25], [3, 0, 1], [7]])
def test_imbalance_is_a_divergence(exposure):
    values = np.array(exposure, float)
    assert imbalance(values) == pytest.approx(kl_from_even(values), abs=1e-12)
    assert imbalance(10 * values) == pytest.approx(imbalance(values), abs=1e-12)


def test_imbalance_of_nothing():
    assert imbalance(np.zeros(3)) == 0


@settings(max_examples=60)
@given(matrices)
def test_label_sets(labels):
    sets = LabelSets.of(LabelMatrix.from_dense(labels))
    rows = [tuple(row) for row in (labels == 1).astype(int)]
    assert len(sets.images) == len(set(rows)) and sets.images.sum() == len(rows)
    own = np.zeros((len(sets.images), labels.shape[1]), int)
    own[sets.rows, sets.columns] = 1
    assert [tuple(own[number]) for number in sets.set_of] == rows
    np.testing.assert_array_equal(np.bincount(sets.set_of), sets.images)
    np.testing.assert_allclose(sets.exposure(sets.images), (labels == 1).sum(0))
    per_class = np.arange(1.0, labels.shape[1] + 1)
    np.testing.assert_allclose(sets.sums(per_class), own @ per_class)
    np.testing.assert_allclose(sets.largest(per_class, 0.5), np.maximum((own * per_class).max(1), 0.5))


def test_label_sets_of_labels_that_are_present_by_default():
    stored = LabelMatrix(np.array([0, 0, 1, 1]), np.array([1], np.int32), np.array([0], np.int8), 2, default=1)
    sets = LabelSets.of(stored)
    assert sets.set_of[0] == sets.set_of[2] != sets.set_of[1]
    np.testing.assert_allclose(sets.exposure(sets.images), [3, 2])


def test_label_sets_across_blocks(monkeypatch):
    labels = (np.random.default_rng(0).random((50, 9)) < 0.2).astype(np.int8)
    whole = LabelSets.of(LabelMatrix.from_dense(labels))
    monkeypatch.setattr('mlcls.datasets.balance_weights._CHUNK', 7)
    np.testing.assert_array_equal(LabelSets.of(LabelMatrix.from_dense(labels)).set_of, whole.set_of)


@settings(max_examples=60)
@given(matrices, st.sampled_from([(1, 0.5), (2, 1), (2, 0.5), (5, 0.2), (50, 0)]))
def test_weights_keep_the_limits_and_prove_how_good_they_are(labels, limits):
    high, low = limits
    found = balanced_weights(LabelMatrix.from_dense(labels), high, low)
    present = labels == 1
    assert found.multipliers.mean() == pytest.approx(1, abs=1e-9)
    assert found.multipliers.min() >= low - 1e-9 and found.multipliers.max() <= high + 1e-9
    np.testing.assert_allclose(found.multipliers[~present.any(1)], 1)
    assert found.imbalance == pytest.approx(imbalance(found.multipliers @ present), abs=1e-9)
    assert found.imbalance <= imbalance(present.sum(0)) + 1e-12
    assert found.bound <= found.imbalance + 1e-9 and found.imbalance - found.bound <= 1e-3 + 1e-9


@pytest.mark.parametrize('seed', range(6))
def test_nothing_better_is_found_by_a_general_solver(seed):
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    labels = (rng.random((25, 5)) < [0.7, 0.4, 0.3, 0.15, 0.1]).astype(np.int8)
    labels[labels.sum(1) == 0, 0] = 1
    labels[:2, 4] = 1
    high, low = ((3, 0.3), (10, 0.05))[seed % 2]
    found = balanced_weights(LabelMatrix.from_dense(labels), high, low, tolerance=1e-6)

    def objective(weights: np.ndarray) -> float:
        return kl_from_even(weights @ labels)

    for start in (np.ones(25), rng.uniform(0.5, 1.5, 25)):
        theirs = minimize(
            objective,
            start / start.mean(),
            method='SLSQP',
            bounds=[(low, high)] * 25,
            constraints={'type': 'eq', 'fun': lambda weights: weights.mean() - 1},
            options={'maxiter': 500, 'ftol': 1e-10},
        )
        assert found.bound <= theirs.fun + 1e-7  # the bound is one
        assert found.imbalance <= theirs.fun + 2e-6


def test_even_where_every_class_has_images_of_its_own():
    labels = np.repeat(np.eye(3, dtype=np.int8), [60, 10, 2], axis=0)
    found = balanced_weights(LabelMatrix.from_dense(labels), 100, 0, tolerance=1e-6)
    np.testing.assert_allclose(found.multipliers @ labels, [24, 24, 24], rtol=0.01)


def test_co_occurrence_prevents_evenness():
    """The rare class is only seen with the frequent one, so that it can at best be as frequent."""
    labels = np.array([[1, 0, 0]] * 50 + [[1, 1, 0]] * 5 + [[0, 0, 1]] * 45, np.int8)
    found = balanced_weights(LabelMatrix.from_dense(labels), 1000, 0, tolerance=1e-7)
    np.testing.assert_allclose(found.multipliers @ labels, [50, 50, 50], rtol=0.01)
    always = np.array([[1, 1, 0]] * 5 + [[1, 0, 1]] * 5, np.int8)
    found = balanced_weights(LabelMatrix.from_dense(always), 1000, 0)
    assert found.imbalance == pytest.approx(kl_from_even(np.array([2, 1, 1.0])), abs=1e-6)
    assert found.bound == pytest.approx(found.imbalance, abs=1e-3)


def test_images_with_equal_labels_are_weighted_equally_and_the_result_repeats():
    labels = (np.random.default_rng(1).random((300, 6)) < [0.6, 0.4, 0.2, 0.1, 0.05, 0.02]).astype(np.int8)
    first, second = (balanced_weights(LabelMatrix.from_dense(labels), 5, 0.2).multipliers for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for row in np.unique(labels, axis=0):
        assert np.ptp(first[(labels == row).all(1)]) == 0


def test_without_labels_all_stay_as_they_are():
    found = balanced_weights(LabelMatrix.from_dense(np.zeros((4, 3), np.int8)), 5, 0.2)
    assert found.multipliers.tolist() == [1, 1, 1, 1] and found.imbalance == found.bound == 0
