"""Scores to decisions, decisions to counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import multilabel_confusion_matrix

from mlcls.errors import ConfigError, DataError, UserError
from mlcls.evaluation.functional import blocks, confusion_counts, decide

# Few distinct values, so that ties are the rule.
TIED = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 6)), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
)


def test_threshold_is_inclusive() -> None:
    scores = torch.tensor([[0.49999997, 0.5, 0.50000006]])
    assert decide(scores).tolist() == [[False, True, True]]
    assert decide(scores, thr=0.5).tolist() == [[False, True, True]]


@pytest.mark.parametrize('dtype', [torch.bool, torch.uint8, torch.int64])
def test_whole_numbers_are_scores_too(dtype: torch.dtype) -> None:
    assert decide(torch.tensor([[0, 1]], dtype=dtype), 0.5).tolist() == [[False, True]]


def test_zero_is_a_threshold_and_not_none() -> None:
    scores = torch.tensor([[0.0, 0.1, 0.9]])
    assert decide(scores, thr=0).all()
    assert decide(scores, thr=0.0, topk=1).all(), 'thr decides where both are given, 0 included'
    assert decide(scores, thr=1.0).sum() == 0


def test_topk_only_without_thr() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.1]])
    assert decide(scores, topk=1).tolist() == [[True, False, False]]
    assert decide(scores, thr=0.5, topk=1).tolist() == [[True, True, False]]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('thr', [0.1, 0.3, 0.5, 0.7, 0.9])
def test_one_threshold_equals_the_same_per_class(dtype: torch.dtype, thr: float) -> None:
    # 0.7 in float32 lies below 0.7 in float64: comparing in the wrong type flips exactly the scores at the threshold.
    scores = torch.tensor([[thr, thr, 0.2], [thr, 0.0, 1.0]], dtype=dtype)
    alone = decide(scores, thr)
    assert torch.equal(alone, decide(scores, [thr] * 3))
    assert torch.equal(alone, decide(scores, (thr,) * 3))
    assert torch.equal(alone, decide(scores, torch.full((3,), thr, dtype=torch.float64)))
    if dtype in (torch.float32, torch.float64):
        assert alone[0, 0]


def test_one_threshold_per_class() -> None:
    scores = torch.full((2, 3), 0.5)
    assert decide(scores, [0.4, 0.5, 0.6]).tolist() == [[True, True, False]] * 2


@given(TIED, st.data())
@settings(max_examples=60, deadline=None)
def test_topk_against_a_stable_sort(scores: np.ndarray, data: st.DataObject) -> None:
    topk = data.draw(st.integers(1, scores.shape[1]))
    expected = np.zeros(scores.shape, bool)
    order = np.argsort(-scores, axis=1, kind='stable')[:, :topk]
    np.put_along_axis(expected, order, True, axis=1)
    assert np.array_equal(decide(torch.from_numpy(scores), topk=topk).numpy(), expected)


@pytest.mark.parametrize('topk', [0, -1, 4])
def test_topk_out_of_range(topk: int) -> None:
    with pytest.raises(ConfigError, match=r'topk must be between 1 and the number of classes \(3\), not'):
        decide(torch.rand(2, 3), topk=topk)


def test_wrong_number_of_thresholds() -> None:
    with pytest.raises(ConfigError, match='2 thresholds are given for 3 classes'):
        decide(torch.rand(2, 3), [0.1, 0.2])
    with pytest.raises(ConfigError, match='1 thresholds are given for 3 classes'):
        decide(torch.rand(2, 3), [0.1])
    with pytest.raises(ConfigError, match='6 thresholds'):
        decide(torch.rand(2, 3), torch.rand(2, 3))


def test_nan_and_shape_are_named() -> None:
    scores = torch.rand(4, 3)
    scores[1, 2] = scores[3, 0] = float('nan')
    with pytest.raises(DataError, match='2 of 4 images contain NaN'):
        decide(scores)
    with pytest.raises(DataError, match=r'shape \(images, classes\), not \(3,\)'):
        decide(torch.rand(3))


@given(st.integers(1, 12), st.integers(2, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_counts_against_scikit_learn(images: int, classes: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    decisions = draw.random((images, classes)) < 0.5
    targets = draw.integers(0, 2, (images, classes))
    counts = confusion_counts(torch.from_numpy(decisions), torch.from_numpy(targets))
    matrix = multilabel_confusion_matrix(targets, decisions)
    for ours, (row, column) in zip(counts, [(1, 1), (0, 1), (1, 0), (0, 0)], strict=True):
        assert ours.dtype == torch.int64
        assert ours.tolist() == matrix[:, row, column].tolist()


def test_unknown_labels_count_nowhere() -> None:
    decisions = torch.tensor([[True, False], [True, False], [False, True]])
    targets = torch.tensor([[1, 0], [-1, -1], [-1, 1]], dtype=torch.int8)
    tp, fp, fn, tn = confusion_counts(decisions, targets)
    assert (tp.tolist(), fp.tolist(), fn.tolist(), tn.tolist()) == ([1, 1], [0, 0], [0, 0], [0, 1])


@pytest.mark.parametrize('dtype', [torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32])
def test_label_types(dtype: torch.dtype) -> None:
    targets = torch.tensor([[1, 0, -1], [0, 1, 1]]).to(dtype)
    counts = confusion_counts(torch.ones(2, 3, dtype=torch.bool), targets)
    assert counts.tp.tolist() == [1, 1, 1]
    assert counts.fp.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ('value', 'dtype', 'shown'),
    [
        (2, torch.int8, '2'),
        (-2, torch.int8, '-2'),
        (257, torch.int64, '257'),
        (255, torch.int64, '255'),
        (0.7, torch.float32, '0.7'),
        (float('nan'), torch.float32, 'nan'),
        (1e30, torch.float32, '1e'),
    ],
)
def test_other_labels_are_refused(value: float, dtype: torch.dtype, shown: str) -> None:
    targets = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    targets[1, 1] = value
    with pytest.raises(DataError, match=f'a label must be 1 .present., 0 .absent. or -1 .unknown., not {shown}'):
        confusion_counts(torch.ones(2, 2, dtype=torch.bool), targets)


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r'\(2, 3\), but targets are \(2, 4\)'):
        confusion_counts(torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4))
    assert issubclass(DataError, UserError)


def test_no_images_and_inputs_untouched() -> None:
    counts = confusion_counts(decide(torch.empty(0, 3)), torch.empty(0, 3, dtype=torch.int8))
    assert all(value.tolist() == [0, 0, 0] for value in counts)
    scores, targets = torch.rand(5, 3, requires_grad=True), torch.randint(-1, 2, (5, 3))
    before = scores.detach().clone(), targets.clone()
    decisions = decide(scores, topk=2)
    confusion_counts(decisions, targets)
    assert not decisions.requires_grad
    assert torch.equal(scores.detach(), before[0]) and torch.equal(targets, before[1])


def test_slices_that_are_not_contiguous() -> None:
    scores, targets = torch.rand(6, 8), torch.randint(-1, 2, (6, 8))
    for view in (slice(None, None, 2), slice(1, 7, 3)):
        expected = confusion_counts(decide(scores[:, view].clone()), targets[:, view].clone())
        found = confusion_counts(decide(scores[:, view]), targets[:, view])
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize('entries', [1, 100, 1 << 30])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, entries: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scores = (4 * torch.rand(700, 5)).round().to(dtype)
    targets = torch.randint(-1, 2, (700, 5))
    limits = torch.tensor([0, 1, 2, 3, 4.5])
    monkeypatch.setattr(blocks, '_ENTRIES', entries)
    assert torch.equal(decide(scores, limits), scores.double() >= limits.double())
    order = torch.sort(scores.double(), dim=1, descending=True, stable=True).indices[:, :2]
    decisions = decide(scores, topk=2)
    assert torch.equal(decisions, torch.zeros(700, 5).scatter(1, order, 1).bool())
    # 700 images: more than a byte can count.
    expected = [
        (decisions & (targets == 1)).sum(0),
        (decisions & (targets == 0)).sum(0),
        (~decisions & (targets == 1)).sum(0),
        (~decisions & (targets == 0)).sum(0),
    ]
    assert all(torch.equal(a, b) for a, b in zip(confusion_counts(decisions, targets), expected, strict=True))


@pytest.mark.parametrize('images', [0, 1, 254, 255, 256, 510, 511])
def test_counts_beyond_a_byte(images: int) -> None:
    ones = torch.ones(images, 3, dtype=torch.bool)
    assert confusion_counts(ones, ones).tp.tolist() == [images] * 3
    assert confusion_counts(ones, ~ones).fp.tolist() == [images] * 3
    assert confusion_counts(~ones, ones).fn.tolist() == [images] * 3
    assert confusion_counts(~ones, ~ones).tn.tolist() == [images] * 3


def test_no_classes() -> None:
    decisions = decide(torch.rand(300, 0))
    assert decisions.shape == (300, 0)
    assert [len(counts) for counts in confusion_counts(decisions, torch.zeros(300, 0))] == [0, 0, 0, 0]


def test_thresholds_that_learn() -> None:
    limits = torch.tensor([0.5, 0.7], requires_grad=True)
    assert decide(torch.tensor([[0.6, 0.6]]), limits).tolist() == [[True, False]]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_nan_is_counted_over_all_images(dtype: torch.dtype) -> None:
    scores = torch.rand(5000, 2).to(dtype)
    scores[[3, 3, 4999], [0, 1, 1]] = float('nan')
    with pytest.raises(DataError, match='the scores of 2 of 5000 images contain NaN'):
        decide(scores)
