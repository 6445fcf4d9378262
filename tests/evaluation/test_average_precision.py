"""Average precision against scikit-learn, torchmetrics and its definition."""

from __future__ import annotations

import math
import time
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import average_precision, blocks, mean_average_precision

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 5))


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores, often tied, and labels, often unknown or all alike."""
    shape = draw(SHAPES)
    numbers = draw(st.sampled_from([st.floats(0, 1, width=32), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.just(0.25)]))
    labels = draw(st.sampled_from([[0, 1], [-1, 0, 1], [-1, 1], [0], [1], [-1]]))
    scores = draw(hnp.arrays(np.float32, shape, elements=numbers))
    return scores, draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(labels)))


def sklearn_ap(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """scikit-learn on the known labels of each column; NaN where no positive is known."""
    found = np.full(scores.shape[1], np.nan)
    for c in range(scores.shape[1]):
        known = targets[:, c] >= 0
        if (targets[:, c] == 1).any():
            found[c] = 100 * average_precision_score(targets[known, c], scores[known, c])
    return found


def ours(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return average_precision(torch.from_numpy(scores), torch.from_numpy(targets)).numpy()


@given(cases())
@settings(max_examples=200, deadline=None)
def test_against_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(ours(*case), sklearn_ap(*case), atol=1e-6, rtol=0)


def by_definition(scores: np.ndarray, targets: np.ndarray, variant: str) -> np.ndarray:
    """The variants in fractions: one point of the curve for each distinct score, whatever the labels there."""
    found = np.full(scores.shape[1], np.nan)
    for c in range(scores.shape[1]):
        known = [(float(s), int(y)) for s, y in zip(scores[:, c], targets[:, c], strict=True) if y != -1]
        total = sum(y for _, y in known)
        if not total:
            continue
        points = []
        for level in sorted({s for s, _ in known}, reverse=True):
            entered = [y for s, y in known if s >= level]
            points.append((Fraction(sum(entered), total), Fraction(sum(entered), len(entered))))
        if variant == 'voc07':
            tops = [max(p for r, p in points if r >= Fraction(tenths, 10)) for tenths in range(11)]
            found[c] = 100 * sum(tops) / 11
            continue
        area, before = Fraction(0), Fraction(0)
        for position, (recall, precision) in enumerate(points):
            height = max(p for _, p in points[position:]) if variant == 'voc10' else precision
            area, before = area + (recall - before) * height, recall
        found[c] = 100 * area
    return found


@given(cases(), st.sampled_from(['exact', 'voc07', 'voc10']))
@settings(max_examples=200, deadline=None)
def test_variants_against_their_definitions(case: tuple[np.ndarray, np.ndarray], variant: str) -> None:
    found = average_precision(torch.from_numpy(case[0]), torch.from_numpy(case[1]), variant).numpy()
    np.testing.assert_allclose(found, by_definition(*case, variant), atol=1e-9, rtol=0)


def development_kit(scores: np.ndarray, labels: np.ndarray, year: int) -> float:
    """The steps of VOCpr.m (2007) and of VOCevalcls.m (2010), for scores without ties."""
    hit = labels[np.argsort(-scores)] == 1
    recall = np.cumsum(hit) / hit.sum()
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    if year == 2007:
        return 100 * sum(precision[recall >= t].max() / 11 for t in np.linspace(0, 1, 11))
    recall, precision = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return 100 * float(((recall[steps] - recall[steps - 1]) * precision[steps]).sum())


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize(('variant', 'year'), [('voc07', 2007), ('voc10', 2010)])
def test_variants_against_the_development_kit(seed: int, variant: str, year: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros(400, np.int8)
    labels[rng.choice(400, 37, replace=False)] = 1  # no recall is a multiple of 0.1, where rounding would decide
    scores = rng.permutation(400) + 150.0 * labels * rng.random(400)
    found = average_precision(torch.from_numpy(scores)[:, None], torch.from_numpy(labels)[:, None], variant)
    assert found.item() == pytest.approx(development_kit(scores, labels, year), abs=1e-9)


def test_eleven_points_compare_recall_exactly() -> None:
    # Ten positives first, of which the third is followed by a negative: recall 0.3 is reached with precision 1. In
    # floats 3 / 10 is below 3 * 0.1, and the point would be lost.
    labels = torch.tensor([1, 1, 1] + [0] * 50 + [1] * 7)[:, None]
    scores = torch.linspace(1, 0, len(labels))[:, None]
    tail = max((3 + more) / (53 + more) for more in range(1, 8))
    assert average_precision(scores, labels, 'voc07').item() == pytest.approx(100 * (4 + 7 * tail) / 11, abs=1e-9)
    assert 3 / 10 < 3 * 0.1


def test_variants_differ_and_the_envelope_is_above() -> None:
    torch.manual_seed(3)
    scores, targets = torch.rand(300, 20), (torch.rand(300, 20) < 0.2).to(torch.int8)
    exact, voc10 = average_precision(scores, targets), average_precision(scores, targets, 'voc10')
    assert bool((voc10 > exact).all())
    assert bool((average_precision(scores, targets, 'voc07') != voc10).all())


@pytest.mark.parametrize('variant', ['exact', 'voc07', 'voc10'])
@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize(('entries', 'classes'), [(1, 1), (1, 7), (1 << 30, 1000)])
def test_blocks_and_threads_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, variant: str, threads: int, entries: int, classes: int
) -> None:
    torch.manual_seed(1)
    scores, targets = torch.rand(700, 40).half(), torch.randint(-1, 2, (700, 40), dtype=torch.int8)
    targets[:, 5], targets[:, 6] = 0, -1
    expected = average_precision(scores, targets, variant)
    monkeypatch.setattr(blocks, '_ENTRIES', entries)
    monkeypatch.setattr(blocks, '_CLASSES', classes)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = average_precision(scores, targets, variant)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize('positives', [1, 15, 16, 17, 40])
def test_few_positives_are_counted_as_many_are(positives: int) -> None:
    rng = np.random.default_rng(positives)
    labels = np.zeros((200, 1), np.int8)
    labels[rng.choice(200, positives, replace=False)] = 1
    labels[rng.choice(200, 20, replace=False)] *= -1
    scores = rng.random((200, 1)).round(2).astype(np.float32)
    np.testing.assert_allclose(ours(scores, labels), sklearn_ap(scores, labels), atol=1e-9)


@pytest.mark.parametrize('label_dtype', [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16])
def test_label_types(label_dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scores, targets = torch.rand(50, 3), torch.randint(0, 2, (50, 3))
    assert torch.equal(average_precision(scores, targets.to(label_dtype)), average_precision(scores, targets))


@pytest.mark.parametrize(
    ('value', 'label_dtype'),
    [
        (2, torch.int8),
        (-3, torch.int8),
        (200, torch.uint8),
        (257, torch.int64),
        (0.5, torch.float16),
        (0.5, torch.bfloat16),
        (float('nan'), torch.float16),
        (float('nan'), torch.float32),
    ],
)
def test_other_labels_are_refused(value: float, label_dtype: torch.dtype) -> None:
    targets = torch.zeros(40, 3).to(label_dtype)
    targets[33, 2] = value
    with pytest.raises(DataError, match=f'-1 .unknown., not {value:g}; soft labels cannot be evaluated'):
        average_precision(torch.rand(40, 3), targets)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_at_an_unknown_label_is_named_too(dtype: torch.dtype) -> None:
    scores = torch.rand(3000, 2).to(dtype)
    scores[[5, 2900, 2900], [0, 0, 1]] = float('nan')
    with pytest.raises(DataError, match='the scores of 2 of 3000 images contain NaN'):
        average_precision(scores, torch.full((3000, 2), -1))


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_order_of_images_changes_no_bit(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    scores, targets = case
    order = np.random.default_rng(seed).permutation(len(scores))
    assert np.array_equal(ours(scores[order], targets[order]), ours(scores, targets), equal_nan=True)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_a_column_does_not_know_its_neighbours(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = case
    alone = [ours(scores[:, [c]], targets[:, [c]])[0] for c in range(scores.shape[1])]
    assert np.array_equal(ours(scores, targets), alone, equal_nan=True)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_only_the_order_of_scores_counts(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = case
    # A power of two moves exponents alone: strictly monotone, no new ties; subnormal values would lose bits.
    scores = np.where(scores < 1e-30, np.float32(0), scores)
    assert np.array_equal(ours(scores * 2, targets), ours(scores, targets), equal_nan=True)


@pytest.mark.parametrize(('images', 'classes'), [(1, 1), (1, 4), (37, 1), (500, 3), (200, 70)])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_and_shapes(images: int, classes: int, dtype: torch.dtype) -> None:
    torch.manual_seed(images + classes)
    scores = torch.rand(images, classes).to(dtype)  # bfloat16: many ties
    targets = torch.randint(-1, 2, (images, classes), dtype=torch.int8)
    found = average_precision(scores, targets)
    assert found.dtype == torch.float64 and found.shape == (classes,)
    np.testing.assert_allclose(found.numpy(), sklearn_ap(scores.double().numpy(), targets.numpy()), atol=1e-6, rtol=0)


@pytest.mark.parametrize('seed', range(3))
def test_against_torchmetrics(seed: int) -> None:
    torch.manual_seed(seed)
    scores, targets = torch.rand(80, 6).round(decimals=1), torch.randint(-1, 2, (80, 6))
    expected = 100 * tm.multilabel_average_precision(scores, targets, num_labels=6, average='none', ignore_index=-1)
    torch.testing.assert_close(average_precision(scores, targets).float(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
def test_constant_scores_give_the_share_of_positives(value: float) -> None:
    targets = torch.zeros(1000, 1, dtype=torch.int8)
    targets[:97] = 1
    targets[500:520] = -1
    scores = torch.full((1000, 1), value)
    expected = pytest.approx(100 * 97 / 980, abs=1e-12)
    assert average_precision(scores, targets).item() == expected
    assert average_precision(scores, targets.flip(0)).item() == expected


def test_float64_scores_keep_differences_below_float32() -> None:
    scores = torch.tensor([[0.5], [0.5 + 1e-12]], dtype=torch.float64)
    assert average_precision(scores, torch.tensor([[0], [1]])).item() == 100.0
    assert average_precision(scores.float(), torch.tensor([[0], [1]])).item() == 50.0


def test_half_types_are_averaged_in_float64() -> None:
    torch.manual_seed(0)
    targets = (torch.rand(5000, 2) < 0.3).to(torch.int8)
    scores = torch.rand(5000, 2).bfloat16()
    torch.testing.assert_close(
        average_precision(scores, targets), average_precision(scores.double(), targets), atol=0, rtol=0
    )


def test_by_hand() -> None:
    # Ranks of the positives: 1 and 3 of 4: (1/1 + 2/3) / 2.
    scores, targets = torch.tensor([[0.9], [0.8], [0.7], [0.1]]), torch.tensor([[1], [0], [1], [0]])
    assert average_precision(scores, targets).item() == pytest.approx(100 * (1 + 2 / 3) / 2)
    # The first three tied: one step of precision 2/3.
    tied = torch.tensor([[0.9], [0.9], [0.9], [0.1]])
    assert average_precision(tied, targets).item() == pytest.approx(100 * 2 / 3)


def test_documented_example_of_mmpretrain() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.3, 0.2], [0.1, 0.2, 0.2, 0.1], [0.7, 0.5, 0.9, 0.3], [0.8, 0.1, 0.1, 0.2]])
    targets = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    ap = average_precision(scores, targets)
    assert mean_average_precision(ap, absent='zero') == pytest.approx(70.8333, abs=1e-4)
    assert mean_average_precision(ap) == pytest.approx(94.4444, abs=1e-4)


def test_negative_zero_is_tied_with_zero() -> None:
    targets = torch.tensor([[1], [0]])
    assert average_precision(torch.tensor([[0.0], [-0.0]]), targets).item() == 50.0
    assert average_precision(torch.tensor([[-0.0], [0.0]]), targets).item() == 50.0


def test_infinite_scores_are_ordered() -> None:
    scores = torch.tensor([[float('inf')], [0.0], [-float('inf')]])
    assert average_precision(scores, torch.tensor([[1], [1], [0]])).item() == 100.0


def test_classes_without_a_known_positive() -> None:
    scores = torch.rand(6, 3)
    targets = torch.tensor([[1, 0, -1]] * 3 + [[0, 0, -1]] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ap = average_precision(scores, targets)
    assert ap.isnan().tolist() == [False, True, True]
    assert mean_average_precision(ap) == ap[0].item()
    assert mean_average_precision(ap, 'zero') == pytest.approx(ap[0].item() / 3)


def test_all_absent_is_nan_or_zero() -> None:
    ap = average_precision(torch.rand(3, 2), torch.zeros(3, 2))
    assert math.isnan(mean_average_precision(ap))
    assert mean_average_precision(ap, 'zero') == 0.0
    assert average_precision(torch.rand(0, 2), torch.zeros(0, 2)).isnan().all()


def test_errors() -> None:
    with pytest.raises(
        ConfigError, match="variant must be 'exact', 'voc07' or 'voc10', not 'voc7'; did you mean 'voc07'"
    ):
        average_precision(torch.rand(2, 1), torch.ones(2, 1), 'voc7')
    with pytest.raises(ConfigError, match="absent must be 'exclude' or 'zero', not 'exclud'; did you mean 'exclude'"):
        mean_average_precision(torch.ones(2), 'exclud')
    with pytest.raises(DataError, match='1 of 2 images contain NaN'):
        average_precision(torch.tensor([[0.1], [float('nan')]]), torch.tensor([[0], [1]]))
    with pytest.raises(DataError, match='but targets are'):
        average_precision(torch.rand(2, 3), torch.zeros(3, 2))
    with pytest.raises(DataError, match='not 2'):
        average_precision(torch.rand(1, 1), torch.tensor([[2]]))


def test_inputs_untouched_and_views_allowed() -> None:
    scores, targets = torch.rand(20, 6), torch.randint(-1, 2, (20, 6))
    before = scores.clone(), targets.clone()
    found = average_precision(scores[:, ::2].requires_grad_(), targets[:, ::2])
    torch.testing.assert_close(found, average_precision(scores, targets)[::2], equal_nan=True, atol=0, rtol=0)
    assert torch.equal(scores, before[0]) and torch.equal(targets, before[1])


def test_fast_enough_to_run_every_epoch() -> None:
    torch.manual_seed(0)
    scores, targets = torch.rand(40_000, 80), (torch.rand(40_000, 80) < 0.04).to(torch.int8)
    taken = []
    for _ in range(3):
        started = time.process_time()
        average_precision(scores, targets)
        taken.append(time.process_time() - started)
    assert min(taken) < 2.0, f'{min(taken):.2f} s: a sort of positions has crept in'
