"""Subset accuracy, Hamming loss and Jaccard index against sets written out naively."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import (
    decide,
    exact_match,
    exact_matches,
    image_counts,
    image_counts_from_scores,
    image_jaccard,
)

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 6))


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    labels = draw(st.sampled_from([[0, 1], [-1, 0, 1], [-1, 0], [0], [-1]]))
    decisions = draw(hnp.arrays(np.bool_, shape))
    return decisions, draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(labels)))


def naive(decisions: np.ndarray, targets: np.ndarray) -> tuple[list[float], list[float], list[int], int]:
    """Right images, Jaccard index of each, [wrong labels, known labels], images without a known label."""
    right, overlap, wrong, known, left_out = [], [], 0, 0, 0
    for decided, labels in zip(decisions, targets):
        places = [c for c in range(len(labels)) if labels[c] != -1]
        if not places:
            right.append(math.nan)
            overlap.append(math.nan)
            left_out += 1
            continue
        present = {c for c in places if labels[c] == 1}
        given_ = {c for c in places if decided[c]}
        right.append(100.0 * (present == given_))
        overlap.append(100.0 * len(present & given_) / len(present | given_) if present | given_ else 100.0)
        wrong, known = wrong + len(present ^ given_), known + len(places)
    return right, overlap, [wrong, known], left_out


@given(cases())
@settings(max_examples=200)
def test_by_definition(case: tuple[np.ndarray, np.ndarray]) -> None:
    counts = image_counts(*map(torch.from_numpy, case))
    right, overlap, (wrong, known), left_out = naive(*case)
    np.testing.assert_allclose(exact_matches(counts).numpy(), right, atol=0)
    np.testing.assert_allclose(image_jaccard(counts).numpy(), overlap, atol=1e-12)
    found = exact_match(counts)
    assert (found.num_images, found.left_out) == (len(right) - left_out, left_out)
    if not found.num_images:
        assert all(math.isnan(value) for value in found[:3])
        return
    assert found.subset_accuracy == pytest.approx(np.nanmean(right), abs=1e-10)
    assert found.jaccard == pytest.approx(np.nanmean(overlap), abs=1e-10)
    assert found.hamming_loss == pytest.approx(100 * wrong / known, abs=1e-10)


@given(cases())
@settings(max_examples=50)
def test_the_complement_is_all_wrong(case: tuple[np.ndarray, np.ndarray]) -> None:
    decisions, targets = map(torch.from_numpy, case)
    one, other = image_counts(decisions, targets), image_counts(~decisions, targets)
    assert torch.equal(one.wrong + other.wrong, one.known) and torch.equal(one.known, other.known)


@pytest.mark.parametrize('rule', [{}, {'thr': 0.3}, {'thr': [0.1, 0.9, 0.5]}, {'topk': 2}])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_from_scores(rule: dict[str, object], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scores, targets = torch.rand(50, 3).to(dtype), torch.randint(-1, 2, (50, 3))
    for found, expected in zip(
        image_counts_from_scores(scores, targets, **rule),  # type: ignore[arg-type]
        image_counts(decide(scores, **rule), targets),  # type: ignore[arg-type]
    ):
        assert found.dtype == torch.int64 and torch.equal(found, expected)


def test_more_images_than_a_block_holds() -> None:
    torch.manual_seed(0)
    scores, targets = torch.rand(3000, 700), torch.randint(-1, 2, (3000, 700), dtype=torch.int8)
    counts = image_counts_from_scores(scores, targets, 0.4)
    decided, known = (scores >= 0.4).numpy(), (targets >= 0).numpy()
    wrong = ((decided != (targets == 1).numpy()) & known).sum(axis=1)
    assert counts.known.tolist() == known.sum(axis=1).tolist() and counts.wrong.tolist() == wrong.tolist()


def test_by_hand() -> None:
    decisions = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    targets = torch.tensor([[1, 0, -1], [1, 0, 0], [0, 0, 0], [-1, -1, -1]])
    found = exact_match(image_counts(decisions, targets))
    assert found == (pytest.approx(200 / 3), pytest.approx(100 / 8), pytest.approx((100 + 50 + 100) / 3), 3, 1)


def test_values_of_images_mean_the_same_as_the_whole() -> None:
    """What a bootstrap over images relies on."""
    torch.manual_seed(1)
    counts = image_counts(torch.rand(40, 4) > 0.5, torch.randint(-1, 2, (40, 4)))
    found = exact_match(counts)
    assert float(exact_matches(counts).nanmean()) == found.subset_accuracy
    assert 100 * int(counts.wrong.sum()) / int(counts.known.sum()) == found.hamming_loss


def test_errors() -> None:
    with pytest.raises(DataError, match='but targets are'):
        image_counts(torch.zeros(2, 3, dtype=torch.bool), torch.zeros(3, 2))
    with pytest.raises(DataError, match='not 2'):
        image_counts(torch.zeros(1, 1, dtype=torch.bool), torch.tensor([[2]]))
    with pytest.raises(DataError, match='1 of 2 images contain NaN'):
        image_counts_from_scores(torch.tensor([[0.1], [math.nan]]), torch.tensor([[0], [1]]))
    with pytest.raises(ConfigError, match='topk must be between 1 and the number of classes'):
        image_counts_from_scores(torch.rand(0, 2), torch.zeros(0, 2), topk=3)
