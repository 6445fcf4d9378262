"""Intervals of whole evaluations, against metrics of really resampled rows and against known populations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation import intervals
from mlcls.evaluation.functional.bootstrap import resample_counts
from mlcls.evaluation.intervals import (
    affordable_draws,
    centred_percentiles,
    headline_intervals,
    resample,
    resampler,
)
from mlcls.evaluation.metrics import (
    AveragePrecision,
    Metric,
    MultiLabelMetric,
    ThresholdMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from mlcls.evaluation.metrics.base import Measured
from mlcls.evaluation.metrics.exact_match import ExactMatchMetric
from mlcls.evaluation.result import EvaluationResult

METRICS = {
    'threshold': lambda: ThresholdMetric(),
    'thresholds': lambda: ThresholdMetric(thr=[0.2, 0.5, 0.8]),
    'topk': lambda: ThresholdMetric(topk=2),
    'AP': lambda: AveragePrecision(),
    'AP zero': lambda: AveragePrecision(absent='zero'),
    'voc07': lambda: AveragePrecision(variant='voc07'),
    'voc10': lambda: AveragePrecision(variant='voc10', prefix='other'),
    'difficult AP': lambda: VOCAveragePrecision(difficult_as_positive=True),
    'macro': lambda: MultiLabelMetric(thr=0.3),
    'micro': lambda: MultiLabelMetric(topk=1, average='micro', items=('f1-score', 'recall')),
    'difficult': lambda: VOCMultiLabelMetric(difficult_as_positive=False),
    'exact match': lambda: ExactMatchMetric(),
    'exact match topk': lambda: ExactMatchMetric(topk=1),
}


def data(num_images: int, num_classes: int, seed: int, unknown: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, num_classes)) < 0.3).astype(np.int8)
    scores = np.clip(np.round(rng.normal(0.35 + 0.25 * targets, 0.2) * 40) / 40, 0, 1)
    targets[rng.random(targets.shape) < unknown] = -1
    return torch.from_numpy(scores).float(), torch.from_numpy(targets)


def evaluated(metrics: list[Metric], scores: torch.Tensor, targets: torch.Tensor) -> EvaluationResult:
    numbers = {name: value for metric in metrics for name, value in metric.compute(scores, targets).numbers.items()}
    classes = tuple(f'class {c}' for c in range(scores.shape[1]))
    return EvaluationResult(numbers, {}, scores, targets, classes, len(scores))


@settings(max_examples=15)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.sampled_from((torch.float32, torch.float16)))
@pytest.mark.parametrize('kind', METRICS)
def test_draws_are_the_metric_of_resampled_rows(kind: str, num_images: int, seed: int, dtype: torch.dtype) -> None:
    metric = METRICS[kind]()
    scores, targets = data(num_images, 3, seed, 0.3)
    scores = scores.to(dtype)
    taker = resampler(metric, scores, targets)
    found = resample([taker], num_images, 3, seed)
    assert set(found) <= set(metric.names(3))
    assert not [name for name in set(metric.names(3)) - set(found) if 'images_without_known_label' not in name]
    for draw, count in enumerate(torch.cat(list(resample_counts(num_images, 3, seed)))):
        rows = torch.repeat_interleave(torch.arange(num_images), count.long())
        try:
            expected = metric.compute(scores[rows], targets[rows]).numbers
        except DataError:  # not defined for these rows
            assert all(not math.isfinite(values[draw]) for values in found.values())
            continue
        for name, values in found.items():
            assert float(values[draw]) == pytest.approx(expected[name], abs=1e-9, nan_ok=True)


def test_intervals_hold_the_numbers_and_narrow_with_more_images() -> None:
    metrics = [ThresholdMetric(), AveragePrecision(), ThresholdMetric(topk=3), ExactMatchMetric()]
    widths = []
    for num_images in (200, 800):
        result = evaluated(metrics, *data(num_images, 8, 1))
        found = headline_intervals(result, metrics, draws=300)
        assert set(found.bounds) == set(result.metrics) - {'multi-label/images_without_known_label'}
        assert all(low < result.metrics[name] < high for name, (low, high) in found.bounds.items())
        widths.append(np.mean([high - low for low, high in found.bounds.values()]))
    assert 1.7 < widths[0] / widths[1] < 2.3  # four times the images, half the width


def test_the_same_seed_gives_the_same_intervals_and_a_higher_confidence_wider_ones() -> None:
    metrics = [ThresholdMetric(), AveragePrecision()]
    result = evaluated(metrics, *data(100, 3, 2))
    found = headline_intervals(result, metrics, draws=200, seed=5)
    assert found == headline_intervals(result, metrics, draws=200, seed=5)
    assert (found.draws, found.seed, found.confidence) == (200, 5, 0.95)
    assert found.bounds != headline_intervals(result, metrics, draws=200, seed=6).bounds
    wider = headline_intervals(result, metrics, draws=200, seed=5, confidence=0.99)
    assert all(
        wider.bounds[name][0] <= low and high <= wider.bounds[name][1] for name, (low, high) in found.bounds.items()
    )


def test_rows_on_disk_and_half_precision() -> None:
    metrics = [ThresholdMetric(thr=0.25), AveragePrecision()]
    scores, targets = data(60, 4, 3)
    half = headline_intervals(evaluated(metrics, scores.half(), targets), metrics, draws=100)
    assert half == headline_intervals(evaluated(metrics, scores.half().float(), targets), metrics, draws=100)


def population(num_images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Six classes, of which the rarest is in every twentieth image."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(num_images, 6, generator=generator) < torch.tensor([0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
    scores = torch.sigmoid(torch.randn(num_images, 6, generator=generator) + 1.5 * targets - 0.75)
    return scores, targets.to(torch.int8)


def test_intervals_cover_the_population() -> None:
    """CF1 of infinitely many images, and the mean mAP of test sets of this size, lie within 95 % intervals in about
    95 % of 120 test sets: with chance alone below 89 % in one of 400 seeds, which are fixed."""
    metrics = [ThresholdMetric(), AveragePrecision()]
    size = 300
    cf1 = evaluated(metrics, *population(400_000, 10**6)).metrics['multi-label/CF1']
    many = [evaluated(metrics, *population(size, 10**4 + seed)).metrics['multi-label/mAP'] for seed in range(400)]
    truth = {'multi-label/CF1': cf1, 'multi-label/mAP': float(np.mean(many))}
    covered = dict.fromkeys(truth, 0)
    for seed in range(120):
        bounds = headline_intervals(evaluated(metrics, *population(size, seed)), metrics, draws=200, seed=seed).bounds
        for name, value in truth.items():
            covered[name] += bounds[name][0] <= value <= bounds[name][1]
    assert all(0.89 * 120 <= count < 120 for count in covered.values()), covered


def test_a_perfect_model_has_no_spread() -> None:
    metrics = [ThresholdMetric(), AveragePrecision()]
    targets = torch.eye(3, dtype=torch.int8).repeat(40, 1)
    found = headline_intervals(evaluated(metrics, targets.float(), targets), metrics, draws=100)
    assert all(bound == (100.0, 100.0) for bound in found.bounds.values())


def test_bounds_of_percentages_stay_percentages() -> None:
    metrics = [AveragePrecision()]
    scores, targets = data(12, 2, 4, 0)
    low, high = headline_intervals(evaluated(metrics, scores, targets), metrics, draws=400).bounds['multi-label/mAP']
    assert 0 <= low < high <= 100


def test_the_middle_of_the_draws_is_moved_to_the_number() -> None:
    values = torch.arange(101, dtype=torch.float64)
    assert centred_percentiles(values, 50.0, 0.9) == pytest.approx((5, 95))
    assert centred_percentiles(values, 40.0, 0.9) == pytest.approx((-5, 85))
    half = torch.cat([values, torch.full((101,), torch.nan)])
    assert centred_percentiles(half, 50.0, 0.9) == pytest.approx((5, 95))
    assert centred_percentiles(torch.cat([half, half[-3:]]), 50.0, 0.9) is None
    assert centred_percentiles(values, math.nan) is None


class Other(Metric):
    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        return Measured({self.key('other'): 1.0}, {})

    def names(self, num_classes: int) -> list[str]:
        return [self.key('other')]

    def protocol(self) -> dict:
        return {}


def test_another_metric_has_no_interval_and_is_no_error() -> None:
    scores, targets = data(30, 3, 0)
    metrics = [Other(), AveragePrecision(average=None), MultiLabelMetric(average=None)]
    found = headline_intervals(evaluated(metrics, scores, targets), metrics)
    assert (found.bounds, found.draws) == ({}, 0)
    assert found.words == 'no intervals: no metric here can be resampled'
    metrics = [Other(), AveragePrecision()]
    assert set(headline_intervals(evaluated(metrics, scores, targets), metrics, 100).bounds) == {'multi-label/mAP'}


def test_support_has_no_interval() -> None:
    metrics = [MultiLabelMetric(items=('support', 'precision'))]
    result = evaluated(metrics, *data(30, 3, 0))
    assert set(headline_intervals(result, metrics, 100).bounds) == {'multi-label/precision'}


# --- how many draws, and what is said ---


def test_words(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = [ThresholdMetric(), AveragePrecision()]
    result = evaluated(metrics, *data(300, 3, 0))
    found = headline_intervals(result, metrics)
    assert found.draws == 1000
    assert found.words == (
        '95 % intervals for other test sets of this size: percentiles of 1,000 resamplings of the images with '
        'replacement (seed 0), centred on the number, thresholds held fixed'
    )
    cost = sum(resampler(metric, result.scores, result.targets).cost for metric in metrics)
    monkeypatch.setattr(intervals, '_BUDGET', cost * 250.5)
    found = headline_intervals(result, metrics)
    assert found.draws == 250 and found.words.endswith(
        '; 250 instead of 1,000 resamplings because of the size of the data'
    )
    monkeypatch.setattr(intervals, '_BUDGET', cost)
    assert headline_intervals(result, metrics).draws == 200
    monkeypatch.setattr(intervals, '_PATIENCE', cost)
    found = headline_intervals(result, metrics)
    assert (found.bounds, found.draws) == ({}, 0)
    assert found.words == (
        'no intervals: 200 resamplings of 300 images of 3 classes would take minutes; ask for a number to have them'
    )
    assert headline_intervals(result, metrics, 300).draws == 300
    assert headline_intervals(result, metrics, 0).words == 'no intervals were asked for'


def test_few_images_and_few_positives_are_said() -> None:
    metrics = [ThresholdMetric(), AveragePrecision()]
    scores, targets = data(19, 3, 0, 0)
    targets[:, 0] = 0
    targets[0, 0] = 1
    words = headline_intervals(evaluated(metrics, scores, targets), metrics, 100).words
    assert 'of 3 classes have fewer than 10 positive images: AP of so few leans upwards' in words
    assert words.endswith('; only 19 images: the intervals are unreliable')
    assert 'unreliable' not in headline_intervals(evaluated(metrics, *data(20, 3, 0)), metrics, 100).words


def test_the_size_decides_how_many_draws_are_made() -> None:
    assert affordable_draws(0.001) == 1000 and affordable_draws(0.0) == 1000
    assert affordable_draws(0.1) == 300
    assert affordable_draws(0.2) == 200
    assert affordable_draws(0.4) == 0


@pytest.mark.parametrize('draws', [99, -1, True, 'many', 2.5])
def test_draws_that_cannot_be(draws: object) -> None:
    result = evaluated([ThresholdMetric()], *data(5, 3, 0))
    with pytest.raises(ConfigError, match=f"resamplings must be 'auto', 0 or at least 100, not {draws!r}"):
        headline_intervals(result, [ThresholdMetric()], draws)


@pytest.mark.parametrize('confidence', [0, 1, 95, True, '0.9'])
def test_confidences_that_cannot_be(confidence: object) -> None:
    result = evaluated([ThresholdMetric()], *data(5, 3, 0))
    with pytest.raises(ConfigError, match='confidence must be a number between 0 and 1, not'):
        headline_intervals(result, [ThresholdMetric()], 100, confidence=confidence)
