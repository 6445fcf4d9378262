"""Calibration against definitions written out naively, and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import (
    brier_score,
    equal_mass_bins,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores on and off the edges, in two types; labels; number of bins."""
    shape = draw(st.tuples(st.integers(1, 15), st.integers(1, 3)))
    bins = draw(st.integers(1, 12))
    edges = [k / bins for k in range(bins + 1)]
    numbers = draw(st.sampled_from([st.floats(0, 1, width=32), st.sampled_from(edges)]))
    labels = draw(st.sampled_from([[0, 1], [-1, 0, 1], [0], [-1]]))
    scores = draw(hnp.arrays(np.float64, shape, elements=numbers))
    scores = scores.astype(draw(st.sampled_from([np.float32, np.float64])))
    return scores, draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(labels))), bins


def naive(scores: np.ndarray, labels: np.ndarray, edges: np.ndarray) -> list[tuple[int, int, float]]:
    """Count, positives and sum of scores of each bin of one class; scores compared with the edges in float64."""
    found = [(0, 0, 0.0)] * (len(edges) - 1)
    for score, label in zip(scores.astype(np.float64), labels):
        if label == -1:
            continue
        place = next((m for m, edge in enumerate(edges[1:-1]) if score <= edge), len(edges) - 2)
        count, positives, total = found[place]
        found[place] = (count + 1, positives + int(label), total + score)
    return found


def naive_ece(table: list[tuple[int, int, float]]) -> tuple[float, float]:
    size = sum(count for count, *_ in table)
    if not size:
        return math.nan, math.nan
    distances = [(count, abs(positives / count - total / count)) for count, positives, total in table if count]
    return 100 * sum(count / size * d for count, d in distances), 100 * max(d for _, d in distances)


@given(cases())
@settings(max_examples=200)
def test_by_definition(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    scores, targets, bins = case
    found = reliability_bins(torch.from_numpy(scores), torch.from_numpy(targets), bins)
    pooled = found.pooled()
    edges = np.linspace(0, 1, bins + 1)
    everything = naive(scores.ravel(), targets.ravel(), edges)
    for binned, tables in (
        (found, [naive(scores[:, c], targets[:, c], edges) for c in range(scores.shape[1])]),
        (pooled, [everything]),
    ):
        assert binned.count.tolist() == [[count for count, *_ in table] for table in tables]
        assert binned.positives.tolist() == [[positives for _, positives, _ in table] for table in tables]
        np.testing.assert_allclose(binned.score_sum, [[total for *_, total in table] for table in tables], atol=1e-12)
        expected = np.array([naive_ece(table) for table in tables])
        np.testing.assert_allclose(expected_calibration_error(binned), expected[:, 0], atol=1e-10)
        np.testing.assert_allclose(maximum_calibration_error(binned), expected[:, 1], atol=1e-10)


@given(cases(), st.sampled_from(['uniform', 'quantile']))
@settings(max_examples=150)
def test_bins_of_scikit_learn(case: tuple[np.ndarray, np.ndarray, int], strategy: str) -> None:
    scores, targets, bins = case
    scores = scores.astype(np.float64)
    make = {'uniform': reliability_bins, 'quantile': equal_mass_bins}[strategy]
    found = make(torch.from_numpy(scores), torch.from_numpy(targets), bins)
    for c in range(scores.shape[1]):
        known = targets[:, c] >= 0
        if not known.any():
            assert not found.count[c].any() and found.mean_score[c].isnan().all()
            continue
        share, score = calibration_curve(
            targets[known, c], scores[known, c], n_bins=bins, strategy=strategy, pos_label=1
        )
        full = found.count[c] > 0
        np.testing.assert_allclose(found.frequency[c][full], share, atol=1e-12)
        np.testing.assert_allclose(found.mean_score[c][full], score, atol=1e-12)
        assert int(found.count[c].sum()) == known.sum()


@given(cases())
@settings(max_examples=100)
def test_brier_by_definition(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    scores, targets, _ = case
    expected = []
    for c in range(scores.shape[1]):
        known = targets[:, c] >= 0
        difference = scores[known, c].astype(np.float64) - targets[known, c]
        expected.append(100 * (difference**2).mean() if known.any() else math.nan)
    found = brier_score(torch.from_numpy(scores), torch.from_numpy(targets))
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize('make', [reliability_bins, equal_mass_bins])
def test_order_of_images_changes_no_bit(make: object) -> None:
    assert callable(make)
    torch.manual_seed(0)
    scores, targets = torch.rand(500, 3), torch.randint(-1, 2, (500, 3))
    rows = torch.randperm(500)
    one, other = make(scores, targets), make(scores[rows], targets[rows])
    for name in ('edges', 'count', 'positives', 'score_sum'):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_equal_mass() -> None:
    torch.manual_seed(0)
    scores = torch.rand(600, 2) ** 8  # nearly all near 0
    targets = (torch.rand(600, 2) < scores).to(torch.int8)
    assert equal_mass_bins(scores, targets, 6).count.tolist() == [[100] * 6] * 2
    assert reliability_bins(scores, targets, 6).count[0, 0] > 400
    tied = equal_mass_bins(torch.full((7, 1), 0.4), torch.tensor([[1], [0], [1], [0], [0], [0], [0]]), 3)
    assert sorted(tied.count[0].tolist()) == [0, 0, 7], 'equal scores share a bin'
    assert expected_calibration_error(tied).item() == pytest.approx(100 * (0.4 - 2 / 7), abs=1e-5)


def test_perfect_and_worst() -> None:
    targets = torch.tensor([[1], [0], [1], [0]])
    right, wrong = targets.float(), 1 - targets.float()
    for scores, expected in ((right, 0.0), (wrong, 100.0)):
        bins = reliability_bins(scores, targets)
        assert expected_calibration_error(bins).item() == maximum_calibration_error(bins).item() == expected
        assert brier_score(scores, targets).item() == expected
    assert brier_score(torch.full((4, 1), 0.5), targets).item() == 25.0
    # Calibrated though it tells nothing.
    assert expected_calibration_error(reliability_bins(torch.full((4, 1), 0.5), targets)).item() == 0.0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scores, targets = torch.rand(300, 4).to(dtype), torch.randint(-1, 2, (300, 4), dtype=torch.int8)
    exact = scores.double()
    for make in (reliability_bins, equal_mass_bins):
        found, expected = make(scores, targets), make(exact, targets)
        assert torch.equal(found.count, expected.count) and torch.equal(found.positives, expected.positives)
        torch.testing.assert_close(found.score_sum, expected.score_sum, atol=1e-9, rtol=0)
    torch.testing.assert_close(brier_score(scores, targets), brier_score(exact, targets), atol=1e-9, rtol=0)


def test_a_class_without_positives_has_an_error_but_one_without_labels_has_none() -> None:
    scores, targets = torch.tensor([[0.3, 0.3], [0.1, 0.1]]), torch.tensor([[0, -1], [0, -1]])
    bins = reliability_bins(scores, targets)
    assert expected_calibration_error(bins).tolist() == pytest.approx([20.0, math.nan], nan_ok=True)
    assert brier_score(scores, targets).tolist() == pytest.approx([5.0, math.nan], nan_ok=True)


def test_scores_that_rounding_took_out_of_range() -> None:
    scores, targets = torch.tensor([[1.004], [-0.004]]), torch.tensor([[1], [0]])
    assert reliability_bins(scores, targets, 4).count.tolist() == [[1, 0, 0, 1]]


@pytest.mark.parametrize('measure', [reliability_bins, equal_mass_bins, brier_score])
def test_errors_of_data(measure: object) -> None:
    assert callable(measure)
    targets = torch.tensor([[1], [0]])
    with pytest.raises(DataError, match=r'calibration is of probabilities in \[0, 1\], .* to 2.5: were logits given'):
        measure(torch.tensor([[2.5], [0.5]]), targets)
    with pytest.raises(DataError, match=r'scores run from -1'):
        measure(torch.tensor([[-1.0], [0.5]]), targets)
    with pytest.raises(DataError, match='1 of 2 images contain NaN'):
        measure(torch.tensor([[math.nan], [0.5]]), targets)
    with pytest.raises(DataError, match='but targets are'):
        measure(torch.rand(3, 1), targets)
    with pytest.raises(DataError, match='not 3'):
        measure(torch.rand(2, 1), targets * 3)


@pytest.mark.parametrize('make', [reliability_bins, equal_mass_bins])
@pytest.mark.parametrize('bins', [0, -1, 2.0, True, '15'])
def test_number_of_bins(make: object, bins: object) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match='bins must be an integer of at least 1, not'):
        make(torch.rand(2, 1), torch.zeros(2, 1), bins)


def test_equal_mass_bins_are_not_pooled() -> None:
    bins = equal_mass_bins(torch.rand(9, 2), torch.ones(9, 2), 3)
    with pytest.raises(ConfigError, match='only bins of equal width can be pooled'):
        bins.pooled()
