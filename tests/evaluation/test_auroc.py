"""AUROC against its definition, and the counting that keeps memory bounded."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.errors import DataError
from mlcls.evaluation.functional import auroc, mean_auroc, micro_auroc
from mlcls.evaluation.functional import auroc as auroc_function

module = __import__(auroc_function.__module__, fromlist=['_FEW'])


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores, often tied, and labels, often unknown or all alike."""
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 4)))
    numbers = draw(st.sampled_from([st.floats(-2, 2, width=16), st.sampled_from([0.0, -0.0, 0.5, 1.0]), st.just(0.25)]))
    labels = draw(st.sampled_from([[0, 1], [-1, 0, 1], [0], [1], [-1]]))
    scores = draw(hnp.arrays(np.float32, shape, elements=numbers))
    targets = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(labels)))
    return torch.from_numpy(scores), torch.from_numpy(targets)


def by_definition(scores: np.ndarray, labels: np.ndarray) -> float:
    """Every pair of a positive and a negative, one by one."""
    pairs = [(float(p), float(n)) for p in scores[labels == 1] for n in scores[labels == 0]]
    if not pairs:
        return math.nan
    return float(100 * Fraction(sum(2 * (p > n) + (p == n) for p, n in pairs), 2 * len(pairs)))


@given(cases())
@settings(max_examples=150)
def test_by_definition(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, targets = case
    expected = [by_definition(scores.numpy()[:, c], targets.numpy()[:, c]) for c in range(scores.shape[1])]
    np.testing.assert_allclose(auroc(scores, targets).numpy(), expected, atol=1e-12, rtol=0)
    # Half floats hold these scores exactly, and go another way.
    for typed in (scores, scores.half(), scores.double()):
        np.testing.assert_allclose(
            micro_auroc(typed, targets), by_definition(scores.numpy().ravel(), targets.numpy().ravel()), atol=1e-12
        )


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_order_of_images_and_classes_changes_no_bit(case: tuple[torch.Tensor, torch.Tensor], random: object) -> None:
    scores, targets = case
    rows = torch.randperm(len(scores), generator=torch.Generator().manual_seed(random.randrange(99)))  # type: ignore[attr-defined]
    assert np.array_equal(auroc(scores[rows], targets[rows]), auroc(scores, targets), equal_nan=True)
    shuffled = scores[rows].flip(1), targets[rows].flip(1)
    assert np.array_equal(micro_auroc(*shuffled), micro_auroc(scores, targets), equal_nan=True)


@given(cases())
@settings(max_examples=50)
def test_reversed_scores_mirror(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, targets = case
    np.testing.assert_allclose((100 - auroc(-scores, targets)).numpy(), auroc(scores, targets).numpy(), atol=1e-10)
    np.testing.assert_allclose(100 - micro_auroc(-scores, targets), micro_auroc(scores, targets), atol=1e-10)


@pytest.mark.parametrize('share', [0.02, 0.5, 0.98])
@pytest.mark.parametrize('sizes', [(1, 1), (7, 3), (64, 1000), (10**6, 10**6)])
def test_any_size_of_sorted_parts_gives_the_same_bits(
    share: float, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(60, 9, generator=generator).mul(50).round().div(50)
    targets = (torch.rand(60, 9, generator=generator) < share).to(torch.int8)
    targets[::5] = -1
    expected = by_definition(scores.numpy().ravel(), targets.numpy().ravel())
    monkeypatch.setattr(module, '_FEW', sizes[0])
    monkeypatch.setattr(module, '_MANY', sizes[1])
    monkeypatch.setattr(module, '_LOOKUPS', 5)
    assert micro_auroc(scores, targets) == pytest.approx(expected, abs=1e-12)
    assert auroc(scores, targets)[3] == pytest.approx(by_definition(scores[:, 3].numpy(), targets[:, 3].numpy()))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_every_value_of_a_half_type_has_its_place(dtype: torch.dtype) -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[~every.isnan()].reshape(-1, 2)
    targets = torch.randint(0, 2, every.shape, generator=torch.Generator().manual_seed(1), dtype=torch.int8)
    assert micro_auroc(every, targets) == micro_auroc(every.float(), targets)
    # Ordered by value, and 0 ties with -0.
    assert micro_auroc(torch.tensor([[0.0, -0.0]], dtype=dtype), torch.tensor([[1, 0]])) == 50.0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_types(dtype: torch.dtype) -> None:
    scores, targets = torch.tensor([[3], [1], [2], [2]]).to(dtype), torch.tensor([[1], [0], [0], [1]])
    assert auroc(scores, targets).dtype == torch.float64
    assert auroc(scores, targets).item() == micro_auroc(scores, targets) == 87.5


def test_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.2], [0.8, 0.9], [0.3, 0.4]])
    targets = torch.tensor([[1, 1], [0, 1], [1, -1]])
    assert auroc(scores, targets).tolist() == pytest.approx([50.0, math.nan], nan_ok=True)
    assert mean_auroc(auroc(scores, targets)) == 50.0
    # Positives .9 .3 .2 .9 against the one negative .8: two of four pairs.
    assert micro_auroc(scores, targets) == 50.0
    assert math.isnan(mean_auroc(torch.full((3,), math.nan)))


def test_float64_scores_keep_differences_below_float32() -> None:
    scores, targets = torch.tensor([[0.5], [0.5 + 1e-12]], dtype=torch.float64), torch.tensor([[0], [1]])
    assert auroc(scores, targets).item() == micro_auroc(scores, targets) == 100.0
    assert auroc(scores.float(), targets).item() == micro_auroc(scores.float(), targets) == 50.0


@pytest.mark.parametrize('measure', [auroc, micro_auroc])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_errors(measure: object, dtype: torch.dtype) -> None:
    assert callable(measure)
    scores, targets = torch.rand(3, 2).to(dtype), torch.tensor([[0, 1]] * 3)
    with pytest.raises(DataError, match='1 of 3 images contain NaN'):
        measure(scores.index_fill(0, torch.tensor([1]), math.nan), targets)
    with pytest.raises(DataError, match='but targets are'):
        measure(scores, targets[:2])
    with pytest.raises(DataError, match='not 2'):
        measure(scores, targets * 2)
    with pytest.raises(DataError, match='must have the shape'):
        measure(scores[0], targets[0])


def test_inputs_untouched_and_views_allowed() -> None:
    scores, targets = torch.rand(20, 6), torch.randint(-1, 2, (20, 6))
    before = scores.clone(), targets.clone()
    found = auroc(scores[:, ::2].requires_grad_(), targets[:, ::2])
    torch.testing.assert_close(found, auroc(scores, targets)[::2], equal_nan=True, atol=0, rtol=0)
    assert torch.equal(scores, before[0]) and torch.equal(targets, before[1])
