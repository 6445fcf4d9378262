"""Label ranking against scikit-learn and against the definitions, over every order of tied labels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import coverage_error, label_ranking_average_precision_score, label_ranking_loss, ndcg_score

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import blocks, ranking
from mlcls.evaluation.functional.ranking import ranked_images, ranking_measures

KS = (1, 2, 3, 7)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores, often tied, and labels, often unknown or all alike."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    numbers = draw(st.sampled_from([st.floats(0, 1, width=32), st.sampled_from([0.0, 0.3, 1.0]), st.just(0.25)]))
    labels = draw(st.sampled_from([[0, 1], [-1, 0, 1], [-1, 1], [0], [1], [-1]]))
    scores = draw(hnp.arrays(np.float32, shape, elements=numbers))
    return scores, draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(labels)))


def ours(scores: np.ndarray, targets: np.ndarray, ks: tuple[int, ...] = KS) -> dict[str, float]:
    return ranking_measures(torch.from_numpy(scores), torch.from_numpy(targets), ks)


def naive(scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The definitions, label by label; what depends on the order of ties is averaged over all orders."""
    sums: dict[str, list[float]] = {}
    for row, labels in zip(scores.astype(float), targets, strict=True):
        known = [(s, y == 1) for s, y in zip(row, labels, strict=True) if y != -1]
        positives, negatives = [s for s, y in known if y], [s for s, y in known if not y]
        if not positives:
            continue
        found = {
            'LRAP': 100
            * np.mean([sum(p >= s for p in positives) / sum(other >= s for other, _ in known) for s in positives]),
            'coverage': max(sum(other >= s for other, _ in known) for s in positives),
        }
        if negatives:
            found['ranking_loss'] = 100 * np.mean([n >= p for n in negatives for p in positives])
        orders = [
            [y for _, y in order]
            for order in itertools.permutations(known)
            if all(a[0] >= b[0] for a, b in itertools.pairwise(order))
        ]
        found['one_error'] = 100 * np.mean([not order[0] for order in orders])
        for k in KS:
            best = sum(1 / math.log2(1 + place) for place in range(1, min(k, len(positives)) + 1))
            found[f'precision@{k}'] = 100 * np.mean([sum(order[:k]) / k for order in orders])
            found[f'recall@{k}'] = 100 * np.mean([sum(order[:k]) / len(positives) for order in orders])
            gains = [
                sum(y / math.log2(1 + place) for place, y in enumerate(order[:k], start=1)) / best for order in orders
            ]
            found[f'nDCG@{k}'] = 100 * np.mean(gains)
        for name, value in found.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


@given(cases())
@settings(max_examples=150, deadline=None)
def test_against_the_definitions(case: tuple[np.ndarray, np.ndarray]) -> None:
    found, expected = ours(*case), naive(*case)
    for name, value in found.items():
        assert value == pytest.approx(expected.get(name, math.nan), abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize(('images', 'classes'), [(1, 2), (60, 5), (300, 80), (40, 700)])
@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('share', [0.02, 0.5])
def test_against_scikit_learn(images: int, classes: int, ties: bool, share: float) -> None:
    rng = np.random.default_rng(images + classes)
    targets = (rng.random((images, classes)) < share).astype(np.int8)
    targets[np.arange(images), rng.integers(0, classes, images)] = 1
    targets[:, 0] = 1 - targets[:, 1]  # a positive and a negative in each image: nothing is left out
    scores = rng.random((images, classes)).astype(np.float32)
    if ties:
        scores = np.round(scores, 1)
    found = ours(scores, targets)
    assert found['LRAP'] == pytest.approx(100 * label_ranking_average_precision_score(targets, scores), abs=1e-8)
    assert found['coverage'] == pytest.approx(coverage_error(targets, scores), abs=1e-8)
    assert found['ranking_loss'] == pytest.approx(100 * label_ranking_loss(targets, scores), abs=1e-8)
    for k in KS:
        assert found[f'nDCG@{k}'] == pytest.approx(100 * ndcg_score(targets, scores, k=k), abs=1e-8)
    if not ties:
        order = np.argsort(-scores, axis=1)
        ranked = np.take_along_axis(targets, order, axis=1)
        for k in KS:
            assert found[f'precision@{k}'] == pytest.approx(100 * (ranked[:, :k].sum(1) / k).mean(), abs=1e-8)
            assert found[f'recall@{k}'] == pytest.approx(100 * (ranked[:, :k].sum(1) / targets.sum(1)).mean(), abs=1e-8)
        assert found['one_error'] == pytest.approx(100 - 100 * ranked[:, 0].mean(), abs=1e-8)


def test_images_that_cannot_be_ranked_change_nothing() -> None:
    scores = np.float32([[0.9, 0.5, 0.1], [0.2, 0.8, 0.4], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    targets = np.int8([[0, 1, 0], [1, 1, 1], [0, 0, -1], [-1, -1, -1]])
    found = ours(scores, targets)
    assert found['LRAP'] == pytest.approx((50 + 100) / 2)
    assert found['coverage'] == pytest.approx((2 + 3) / 2)
    assert found['ranking_loss'] == pytest.approx(50.0), 'only the first image has both'
    assert found['one_error'] == pytest.approx(50.0)
    assert ranked_images(torch.from_numpy(targets)) == (2, 1)
    # scikit-learn counts the images without a positive as perfect.
    complete = targets[[0, 1, 2]].clip(0)
    assert label_ranking_average_precision_score(complete, scores[:3]) == pytest.approx((0.5 + 1 + 1) / 3)


@pytest.mark.parametrize('shape', [(0, 3), (4, 0), (3, 2)])
def test_nothing_to_rank_is_nan(shape: tuple[int, int]) -> None:
    found = ours(np.zeros(shape, np.float32), np.zeros(shape, np.int8))
    assert all(math.isnan(value) for value in found.values())
    assert ranked_images(torch.zeros(shape)) == (0, 0)


def test_names_and_their_order() -> None:
    assert list(ours(np.float32([[0.5]]), np.int8([[1]]), (5, 1))) == [
        'LRAP',
        'coverage',
        'ranking_loss',
        'one_error',
        'precision@5',
        'precision@1',
        'recall@5',
        'recall@1',
        'nDCG@5',
        'nDCG@1',
    ]
    assert list(ours(np.float32([[0.5]]), np.int8([[1]]), ())) == ['LRAP', 'coverage', 'ranking_loss', 'one_error']


def test_one_class_and_k_above_the_number_of_classes() -> None:
    found = ours(np.float32([[0.5], [0.1]]), np.int8([[1], [0]]))
    assert (found['LRAP'], found['coverage'], found['one_error']) == (100.0, 1.0, 0.0)
    assert math.isnan(found['ranking_loss'])
    assert found['precision@7'] == pytest.approx(100 / 7)
    assert found['recall@7'] == found['nDCG@7'] == 100.0


def test_constant_scores_are_chance() -> None:
    targets = np.zeros((1, 10), np.int8)
    targets[0, :3] = 1
    found = ours(np.full((1, 10), 0.5, np.float32), targets)
    assert found['LRAP'] == pytest.approx(30.0) and found['precision@1'] == pytest.approx(30.0)
    assert found['coverage'] == 10
    assert found['ranking_loss'] == 100.0
    assert found['one_error'] == pytest.approx(70.0)
    assert found['recall@7'] == pytest.approx(70.0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('label_dtype', [torch.int8, torch.int64, torch.float16, torch.bfloat16])
def test_types(dtype: torch.dtype, label_dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scores = torch.rand(150, 9).to(dtype)
    targets = torch.randint(-1, 2, (150, 9), dtype=torch.int8)
    expected = ranking_measures(scores.double(), targets, KS)
    assert ranking_measures(scores, targets.to(label_dtype), KS) == expected


def test_float64_keeps_differences_below_float32() -> None:
    scores = torch.tensor([[0.5, 0.5 + 1e-12]], dtype=torch.float64)
    targets = torch.tensor([[0, 1]])
    assert ranking_measures(scores, targets)['ranking_loss'] == 0.0
    assert ranking_measures(scores.float(), targets)['ranking_loss'] == 100.0


def test_infinite_scores_beside_unknown_labels() -> None:
    inf = math.inf
    scores = torch.tensor([[inf, inf, 0.5, -inf, 3.0], [inf, -inf, inf, inf, 0.0]])
    targets = torch.tensor([[1, -1, 0, 1, -1], [0, 1, 1, -1, -1]])
    finite = scores.clamp(-10, 10)
    assert ranking_measures(scores, targets, KS) == ranking_measures(finite, targets, KS)
    assert ranking_measures(scores, targets)['one_error'] == pytest.approx((0 + 50) / 2)


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_order_of_classes_changes_no_bit(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    scores, targets = case
    order = np.random.default_rng(seed).permutation(scores.shape[1])
    shuffled = ours(np.ascontiguousarray(scores[:, order]), np.ascontiguousarray(targets[:, order]))
    assert shuffled == pytest.approx(ours(scores, targets), abs=0, rel=0, nan_ok=True)


@pytest.mark.parametrize('threads', [1, 2, 5])
@pytest.mark.parametrize('entries', [1, 40_000, 1 << 30])
@pytest.mark.parametrize('many', [0, 10**9])
def test_blocks_threads_and_kind_of_search_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, threads: int, entries: int, many: int
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((1000, 23)).round(2).astype(np.float32)
    targets = rng.choice([-1, 0, 0, 0, 1], (1000, 23)).astype(np.int8)
    expected = ours(scores, targets)
    monkeypatch.setattr(blocks, '_ENTRIES', entries)
    monkeypatch.setattr(ranking, '_MANY', many)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert ours(scores, targets) == expected
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_views_and_untouched_inputs() -> None:
    scores, targets = torch.rand(70, 8), torch.randint(-1, 2, (70, 8))
    before = scores.clone(), targets.clone()
    found = ranking_measures(scores[:, ::2].requires_grad_(), targets[:, ::2])
    assert found == ranking_measures(scores[:, ::2].clone(), targets[:, ::2].clone())
    assert torch.equal(scores, before[0]) and torch.equal(targets, before[1])


@pytest.mark.parametrize('wrong', [0, -1, 1.0, True, '3'])
def test_ks_that_are_no_positive_integers(wrong: object) -> None:
    with pytest.raises(ConfigError, match=f'ks must be integers of at least 1, not {wrong!r}'):
        ranking_measures(torch.rand(2, 2), torch.ones(2, 2), (1, wrong))


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r'ks must be different from each other, not \[3, 1, 3\]'):
        ranking_measures(torch.rand(2, 2), torch.ones(2, 2), (3, 1, 3))
    with pytest.raises(DataError, match='1 of 2 images contain NaN'):
        ranking_measures(torch.tensor([[0.1, 0.2], [float('nan'), 0.3]]), torch.tensor([[0, 1], [-1, 1]]))
    with pytest.raises(DataError, match='but targets are'):
        ranking_measures(torch.rand(2, 3), torch.zeros(3, 2))
    with pytest.raises(DataError, match=r'scores must have the shape \(images, classes\), not \(3,\)'):
        ranking_measures(torch.rand(3), torch.zeros(3, 2))
    with pytest.raises(DataError, match=r'targets must have the shape \(images, classes\), not \(3,\)'):
        ranking_measures(torch.rand(3, 1), torch.zeros(3))
    for value, dtype in ((2, torch.int8), (0.5, torch.float32), (0.5, torch.float16), (255, torch.uint8)):
        with pytest.raises(DataError, match=f'-1 .unknown., not {value:g}; soft labels cannot be evaluated'):
            ranking_measures(torch.rand(1, 1), torch.tensor([[value]], dtype=dtype))
    with pytest.raises(DataError, match='not 7'):
        ranked_images(torch.tensor([[7]]))
