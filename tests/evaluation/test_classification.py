"""CP, CR, CF1, OP, OR, OF1, macro F1 and mmpretrain's averages."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from mlcls.errors import ConfigError
from mlcls.evaluation.functional import averaged_scores, confusion_counts, decide, precision_recall_f1

CLASSIC = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')


def draw(
    seed: int, images: int, classes: int, unknown: float = 0.0, positive: float = 0.3
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores on a coarse grid (ties) and labels."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, classes)) < positive).astype(np.int8)
    targets[rng.random((images, classes)) < unknown] = -1
    scores = (rng.integers(0, 21, (images, classes)) / 20).astype(np.float32)
    return torch.from_numpy(scores), torch.from_numpy(targets)


def by_hand(scores: torch.Tensor, targets: torch.Tensor, thr: float) -> dict[str, float]:
    """The definitions, one label at a time, without a line of the code under test."""
    images, classes = scores.shape
    precisions, recalls, f1s, sums = [], [], [], [0, 0, 0]
    for c in range(classes):
        correct = predicted = actual = 0
        for n in range(images):
            label, given = int(targets[n, c]), float(scores[n, c]) >= thr
            if label == -1:
                continue
            correct += given and label == 1
            predicted += given
            actual += label == 1
        p = 100 * correct / predicted if predicted else 0.0
        r = 100 * correct / actual if actual else 0.0
        precisions.append(p)
        recalls.append(r)
        f1s.append(2 * p * r / (p + r) if p + r else 0.0)
        sums = [total + more for total, more in zip(sums, (correct, predicted, actual), strict=True)]
    cp, cr = sum(precisions) / classes, sum(recalls) / classes
    op = 100 * sums[0] / sums[1] if sums[1] else 0.0
    overall_recall = 100 * sums[0] / sums[2] if sums[2] else 0.0
    return {
        'CP': cp,
        'CR': cr,
        'CF1': 2 * cp * cr / (cp + cr) if cp + cr else 0.0,
        'OP': op,
        'OR': overall_recall,
        'OF1': 2 * op * overall_recall / (op + overall_recall) if op + overall_recall else 0.0,
        'macro_F1': sum(f1s) / classes,
    }


def measure(scores: torch.Tensor, targets: torch.Tensor, thr: float = 0.5):
    tp, fp, fn, _ = confusion_counts(decide(scores, thr), targets)
    return precision_recall_f1(tp, fp, fn)


@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 12),
    classes=st.integers(1, 6),
    unknown=st.sampled_from([0.0, 0.3, 1.0]),
    positive=st.sampled_from([0.0, 0.3, 1.0]),
    thr=st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_against_the_definitions(
    seed: int, images: int, classes: int, unknown: float, positive: float, thr: float
) -> None:
    scores, targets = draw(seed, images, classes, unknown, positive)
    found, expected = measure(scores, targets, thr), by_hand(scores, targets, thr)
    for name in CLASSIC:
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.parametrize('images', [1, 50])
@pytest.mark.parametrize('classes', [2, 7])
@pytest.mark.parametrize('positive', [0.0, 0.2, 1.0])
def test_against_scikit_learn(images: int, classes: int, positive: float) -> None:
    scores, targets = draw(images * classes, images, classes, positive=positive)
    decisions = decide(scores)
    found = measure(scores, targets)
    p, r, f, support = precision_recall_fscore_support(targets.numpy(), decisions.numpy(), zero_division=0)
    np.testing.assert_allclose(found.precision.numpy(), 100 * p, atol=1e-6)
    np.testing.assert_allclose(found.recall.numpy(), 100 * r, atol=1e-6)
    np.testing.assert_allclose(found.f1.numpy(), 100 * f, atol=1e-6)
    counts = confusion_counts(decisions, targets)
    assert averaged_scores(counts, None)['support'].tolist() == support.tolist()
    for average in ('macro', 'micro'):
        expected = precision_recall_fscore_support(targets.numpy(), decisions.numpy(), average=average, zero_division=0)
        ours = averaged_scores(counts, average)
        for name, value in zip(('precision', 'recall', 'f1-score'), expected, strict=False):
            assert float(ours[name]) == pytest.approx(100 * value, abs=1e-6), (average, name)
        assert float(ours['support']) == float((targets == 1).sum())


@pytest.mark.parametrize('seed', range(4))
def test_against_torchmetrics_with_unknown_labels(seed: int) -> None:
    scores, targets = draw(seed, 60, 5, unknown=0.2)
    # torchmetrics decides score > thr; half a grid step lower is the same decision as ours at score >= thr.
    settings_ = {'num_labels': 5, 'threshold': 0.475, 'ignore_index': -1}
    found = measure(scores, targets)
    for name, function in (
        ('precision', tm.multilabel_precision),
        ('recall', tm.multilabel_recall),
        ('f1', tm.multilabel_f1_score),
    ):
        expected = 100 * function(scores, targets.int(), average='none', **settings_)
        torch.testing.assert_close(getattr(found, name).float(), expected, atol=1e-4, rtol=0)
    micro = tm.multilabel_f1_score(scores, targets.int(), average='micro', **settings_)
    assert math.isclose(found.OF1, 100 * float(micro), abs_tol=1e-4)


def test_classic_cf1_is_not_the_mean_of_the_f1() -> None:
    # Class 0: precision 1, recall 1/2. Class 1: precision 1/2, recall 1. Each F1 is 2/3, but CP = CR = CF1 = 3/4.
    targets = torch.tensor([[1, 1], [1, 0]])
    scores = torch.tensor([[0.9, 0.9], [0.1, 0.9]])
    found = measure(scores, targets)
    assert (found.CP, found.CR, found.CF1) == (75.0, 75.0, 75.0)
    assert found.macro_F1 == pytest.approx(200 / 3)
    assert float(averaged_scores(confusion_counts(decide(scores), targets))['f1-score']) == pytest.approx(200 / 3)


def test_mmpretrain_documented_example() -> None:
    """The numbers in the docstring of mmpretrain's MultiLabelMetric."""
    predicted = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    actual = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    found = averaged_scores(confusion_counts(predicted.bool(), actual))
    assert [round(float(value), 4) for value in found.values()] == [43.75, 31.25, 33.3333, 8.0]
    predicted = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
    actual = torch.tensor([[1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    found = averaged_scores(confusion_counts(predicted.bool(), actual))
    assert [round(float(value), 4) for value in found.values()] == [50.0, 50.0, 45.8333, 6.0]


def test_nothing_decided_and_nothing_present_give_zero() -> None:
    zero = torch.zeros(3, dtype=torch.int64)
    found = precision_recall_f1(zero, zero, zero)
    assert all(getattr(found, name) == 0.0 for name in CLASSIC)
    assert not torch.cat([found.precision, found.recall, found.f1]).isnan().any()


def test_perfect_is_exactly_100() -> None:
    counts = torch.tensor([3, 7, 11])
    zero = torch.zeros(3, dtype=torch.int64)
    found = precision_recall_f1(counts, zero, zero)
    assert all(getattr(found, name) == 100.0 for name in CLASSIC)


def test_large_counts_stay_exact() -> None:
    # float32 would lose the last images of a large evaluation.
    big = 2**30 + 1
    found = precision_recall_f1(torch.tensor([big]), torch.tensor([1]), torch.tensor([0]))
    assert found.OP == 100 * big / (big + 1) != 100.0


def test_unknown_average() -> None:
    counts = confusion_counts(torch.ones(2, 2, dtype=torch.bool), torch.ones(2, 2))
    with pytest.raises(ConfigError, match="'macro', 'micro' or None, not 'marco'; did you mean 'macro'"):
        averaged_scores(counts, 'marco')
