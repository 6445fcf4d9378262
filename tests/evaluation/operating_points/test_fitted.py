"""The metric that reports cross-fitted figures in each evaluation."""

from __future__ import annotations

import pytest
import torch

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.metrics.fitted import FittedThresholdMetric
from mlcls.evaluation.metrics.shared import sharing
from mlcls.evaluation.operating_points import FitSettings, fit, fit_operating_points
from mlcls.registry import METRICS

from . import naive


def test_gives_cross_fitted_figures_and_thresholds():
    scores, targets = naive.world(400, 5, 1, rare=0.05)
    metric = METRICS.build({'type': 'FittedThresholdMetric', 'objective': 'OF1', 'folds': 4})
    assert isinstance(metric, FittedThresholdMetric)
    found = metric.compute(scores, targets)
    points = fit_operating_points(scores, targets, 'abcde', FitSettings('OF1', folds=4, bootstrap=0))
    assert list(found.numbers) == metric.names(5)
    assert found.numbers['multi-label/CF1_fitted'] == points.figures['cross-fitted']['CF1']
    column = found.per_class['multi-label/threshold_classwise']
    assert tuple(column.tolist()) == points.thresholds
    kept = metric.operating_points(scores, targets, tuple('abcde'))
    assert kept.to_dict() == points.to_dict() and kept.intervals == ()


def test_names_the_classes_of_the_data_in_its_notes():
    scores, targets = naive.world(60, 3, 2, rare=0.2)
    targets[:, 0] = 0
    metric = FittedThresholdMetric()
    metric.use_meta({'classes': ('cat', 'dog', 'cow')})
    metric.compute(scores, targets)
    kept = metric.operating_points(scores, targets, ('cat', 'dog', 'cow'))
    assert "no known positive label, so the group's threshold: cat" in kept.notes and kept.classes[0] == 'cat'
    metric.use_meta({})
    assert metric.compute(scores, targets).numbers


def test_fits_once_within_an_evaluation(monkeypatch):
    scores, targets = naive.world(60, 3, 3, rare=0.2)
    calls = []
    real = fit.choose
    monkeypatch.setattr(fit, 'choose', lambda *args: calls.append(1) or real(*args))
    metric = FittedThresholdMetric()
    metric.use_meta({'classes': ('a', 'b', 'c')})
    with sharing():
        metric.compute(scores, targets)
        metric.operating_points(scores, targets, ('a', 'b', 'c'))
    assert len(calls) == 1


def test_says_how():
    words = FittedThresholdMetric('f2', 3, 'platt', prefix='val').protocol()
    assert words['threshold source'] == 'chosen for f2 on the other folds of the same images'
    assert words['folds'] == 3 and words['calibration'] == 'platt'
    assert words['shrinkage'] == '5 positives weigh as much as the group'
    assert FittedThresholdMetric(shrink=False).protocol()['shrinkage'] == 'none'
    assert FittedThresholdMetric(prefix='val').names(2)[0] == 'val/CP_fitted'


def test_what_is_refused():
    with pytest.raises(DataError, match='needs at least 2 images, one to choose on and one to measure, not 1'):
        FittedThresholdMetric().compute(torch.rand(1, 2), torch.ones(1, 2, dtype=torch.int8))
    with pytest.raises(DataError, match='none of the 2 classes has a known positive label'):
        FittedThresholdMetric().compute(torch.rand(4, 2), torch.zeros(4, 2, dtype=torch.int8))
    with pytest.raises(ConfigError, match='FittedThresholdMetric: folds must be at least 2, not 0'):
        FittedThresholdMetric(folds=0)
    with pytest.raises(ConfigError, match="unknown objective 'f3x'"):
        FittedThresholdMetric('f3x')


def test_half_precision_scores():
    scores, targets = naive.world(100, 3, 4, rare=0.1)
    found = FittedThresholdMetric().compute(scores.half(), targets)
    assert all(0 <= value <= 100 for value in found.numbers.values())
