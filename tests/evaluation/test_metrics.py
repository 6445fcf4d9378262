"""The registered metrics: names, settings, messages."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation import (
    AveragePrecision,
    Metric,
    MultiLabelMetric,
    ThresholdMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from mlcls.evaluation.functional import average_precision
from mlcls.registry import METRICS

SIX = ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1']
EVERY: list[Metric] = [
    ThresholdMetric(),
    ThresholdMetric(thr=0.0),
    ThresholdMetric(thr=[0.1, 0.5, 1.0]),
    ThresholdMetric(topk=2),
    AveragePrecision(),
    AveragePrecision(average=None),
    AveragePrecision(absent='zero', prefix='voc'),
    MultiLabelMetric(),
    MultiLabelMetric(thr=0.3, average='micro'),
    MultiLabelMetric(topk=1, average=None),
    MultiLabelMetric(items=['support', 'precision']),
    VOCMultiLabelMetric(difficult_as_positive=False),
    VOCAveragePrecision(difficult_as_positive=True),
]


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    scores, targets = torch.rand(40, 3), torch.randint(0, 2, (40, 3), dtype=torch.int8)
    targets[::7, 1] = -1
    return scores, targets


@pytest.mark.parametrize('metric', EVERY, ids=lambda metric: type(metric).__name__)
def test_every_metric_keeps_the_protocol(metric: Metric, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    before = tuple(tensor.clone() for tensor in data)
    found = metric.compute(*data)
    assert list(found) == metric.names(3), 'names() must be what compute() gives, in its order'
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    columns = metric.per_class(*data)
    assert columns and all(name.endswith('_classwise') and values.shape == (3,) for name, values in columns.items())
    assert all(name.startswith(metric.prefix + '/') for name in [*found, *columns])
    for key, value in metric.protocol().items():
        assert isinstance(key, str) and isinstance(value, (str, float, list))
    assert all(torch.equal(a, b) for a, b in zip(before, data, strict=True))
    assert metric.compute(*data) == found, 'a metric holds no state'


@pytest.mark.parametrize(
    'name', ['ThresholdMetric', 'AveragePrecision', 'MultiLabelMetric', 'VOCMultiLabelMetric', 'VOCAveragePrecision']
)
def test_registered(name: str) -> None:
    assert isinstance(METRICS.build({'type': name, 'prefix': 'x', 'collect_device': 'gpu'}), Metric)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({}, ['precision', 'recall', 'f1-score']),
        ({'thr': 0.5}, ['precision', 'recall', 'f1-score']),
        ({'thr': 0.3}, ['precision_thr-0.30', 'recall_thr-0.30', 'f1-score_thr-0.30']),
        ({'thr': 0}, ['precision_thr-0.00', 'recall_thr-0.00', 'f1-score_thr-0.00']),
        ({'topk': 3}, ['precision_top3', 'recall_top3', 'f1-score_top3']),
        ({'average': 'micro'}, ['precision_micro', 'recall_micro', 'f1-score_micro']),
        ({'average': 'micro', 'thr': 0.25, 'items': ('support',)}, ['support_thr-0.25_micro']),
        (
            {'average': 'micro', 'topk': 1, 'items': ['f1-score', 'recall']},
            ['f1-score_top1_micro', 'recall_top1_micro'],
        ),
        ({'items': 'recall'}, ['recall']),
        ({'average': None}, []),
    ],
)
def test_names_of_mmpretrain(settings: dict[str, Any], expected: list[str]) -> None:
    assert MultiLabelMetric(**settings).names(5) == [f'multi-label/{name}' for name in expected]


def test_class_wise_names_of_mmpretrain(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert list(MultiLabelMetric(topk=1, average=None, items=['precision', 'support']).per_class(*data)) == [
        'multi-label/precision_top1_classwise',
        'multi-label/support_top1_classwise',
    ]
    assert list(AveragePrecision(average=None).per_class(*data)) == ['multi-label/AP_classwise']
    assert AveragePrecision(average=None).names(3) == []


def test_names_of_our_own() -> None:
    assert ThresholdMetric().names(3) == [f'multi-label/{name}' for name in SIX]
    assert ThresholdMetric(thr=[0.1, 0.2, 0.3]).names(3) == [f'multi-label/{name}' for name in SIX]
    assert ThresholdMetric(topk=3, prefix='voc').names(3) == [f'voc/{name}_top3' for name in SIX]
    assert AveragePrecision().names(3) == ['multi-label/mAP']


def test_thr_beats_topk_with_a_warning_as_in_mmpretrain(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.warns(UserWarning, match='both thr and topk are given; thr decides'):
        both = MultiLabelMetric(thr=0.4, topk=1)
    assert both.compute(*data) == MultiLabelMetric(thr=0.4).compute(*data)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        MultiLabelMetric(thr=0.4)
        MultiLabelMetric(topk=1)


def test_zero_threshold_decides_all(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert ThresholdMetric(thr=0).compute(*data)['multi-label/CR'] == 100.0
    assert MultiLabelMetric(thr=0).compute(*data)['multi-label/recall_thr-0.00'] == 100.0


def test_a_list_of_thresholds_acts_per_class(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    thr = [0.2, 0.5, 0.9]
    together = ThresholdMetric(thr=thr).per_class(*data)
    for c, value in enumerate(thr):
        alone = ThresholdMetric(thr=value).per_class(*data)
        for name in together:
            assert together[name][c] == alone[name][c]
    assert (
        ThresholdMetric(thr=np.array(thr)).compute(*data)
        == ThresholdMetric(thr=torch.tensor(thr, dtype=torch.float64)).compute(*data)
        == ThresholdMetric(thr=tuple(thr)).compute(*data)
    )


def test_difficult_labels_of_voc(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, targets = data
    for difficult, value in ((None, -1), (True, 1), (False, 0)):
        mapped = torch.where(targets == -1, value, targets).to(torch.int8)
        metric = VOCAveragePrecision(difficult_as_positive=difficult)
        assert (
            metric.per_class(scores, targets)['multi-label/AP_classwise'].tolist()
            == average_precision(scores, mapped).tolist()
        )
        assert VOCMultiLabelMetric(difficult_as_positive=difficult).compute(
            scores, targets
        ) == MultiLabelMetric().compute(scores, mapped)
    assert VOCAveragePrecision().protocol()['difficult labels'] == 'ignored'


def test_absent_classes() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    targets = torch.tensor([[1, 0], [0, 0]], dtype=torch.int8)
    assert AveragePrecision().compute(scores, targets) == {'multi-label/mAP': 100.0}
    assert AveragePrecision(absent='zero').compute(scores, targets) == {'multi-label/mAP': 50.0}
    assert math.isnan(AveragePrecision(absent='zero').per_class(scores, targets)['multi-label/AP_classwise'][1])
    assert 'left out' in str(AveragePrecision().protocol())
    assert 'count as 0' in str(AveragePrecision(absent='zero').protocol())


def test_map_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match='none of the 2 classes has a known positive label in the 3 images'):
        AveragePrecision().compute(torch.rand(3, 2), torch.zeros(3, 2, dtype=torch.int8))
    assert AveragePrecision(absent='zero').compute(torch.rand(3, 2), torch.zeros(3, 2)) == {'multi-label/mAP': 0.0}


def test_source_of_thresholds_is_told() -> None:
    assert ThresholdMetric().protocol()['threshold source'] == 'default'
    assert ThresholdMetric(thr=0.5).protocol()['threshold source'] == 'config'
    told = ThresholdMetric(thr=[0.5, 0.25], thr_source='validation set').protocol()
    assert (told['threshold source'], told['thr']) == ('validation set', [0.5, 0.25])
    assert told['decision'] == 'score >= threshold of the class'
    assert 'thr' not in ThresholdMetric(topk=3).protocol()


@pytest.mark.parametrize(
    ('kind', 'settings', 'message'),
    [
        (ThresholdMetric, {'thr': 1.5}, r'ThresholdMetric: thr must be in \[0, 1\], not 1.5'),
        (ThresholdMetric, {'thr': -0.1}, r'thr must be in \[0, 1\], not -0.1'),
        (ThresholdMetric, {'thr': float('nan')}, r'thr must be in \[0, 1\], not nan'),
        (ThresholdMetric, {'thr': '0.5'}, r"thr must be a number in \[0, 1\], not '0.5'"),
        (ThresholdMetric, {'thr': True}, r'thr must be a number in \[0, 1\], not True'),
        (ThresholdMetric, {'thr': [0.5, 2]}, r'thr\[1\] must be in \[0, 1\], not 2.0'),
        (ThresholdMetric, {'thr': [0.5, None]}, r'thr\[1\] must be a number in \[0, 1\], not None'),
        (ThresholdMetric, {'thr': []}, 'thr is an empty list'),
        (ThresholdMetric, {'thr': [[0.5]]}, r'thr\[0\] must be a number'),
        (ThresholdMetric, {'topk': 0}, 'topk must be an integer of at least 1, not 0'),
        (ThresholdMetric, {'topk': 2.0}, 'topk must be an integer of at least 1, not 2.0'),
        (ThresholdMetric, {'topk': True}, 'topk must be an integer of at least 1, not True'),
        (ThresholdMetric, {'thr': 0.5, 'topk': 1}, 'give thr or topk, not both'),
        (ThresholdMetric, {'collect_device': 'cuda'}, "collect_device must be one of 'cpu', 'gpu', not 'cuda'"),
        (ThresholdMetric, {'prefix': 3}, 'prefix must be a string, not 3'),
        (
            AveragePrecision,
            {'average': 'marco'},
            "average must be one of 'macro', None, not 'marco'; did you mean 'macro'",
        ),
        (AveragePrecision, {'average': 'micro'}, "average must be one of 'macro', None, not 'micro'"),
        (AveragePrecision, {'absent': 'exlude'}, "not 'exlude'; did you mean 'exclude'"),
        (MultiLabelMetric, {'items': ('precison',)}, "not 'precison'; did you mean 'precision'"),
        (MultiLabelMetric, {'items': ('f1',)}, "items must be one of .* not 'f1'"),
        (MultiLabelMetric, {'average': 'weighted'}, "average must be one of 'macro', 'micro', None, not 'weighted'"),
        (MultiLabelMetric, {'average': ['macro']}, 'average must be one of'),
        (MultiLabelMetric, {'thr': 7}, r'MultiLabelMetric: thr must be in \[0, 1\], not 7.0'),
        (MultiLabelMetric, {'thr': [0.5]}, 'for one threshold per class use ThresholdMetric'),
        (MultiLabelMetric, {'topk': -3}, 'topk must be an integer of at least 1, not -3'),
        (VOCMultiLabelMetric, {'difficult_as_positive': 'yes'}, "must be None, True or False, not 'yes'"),
        (VOCAveragePrecision, {'average': 'x'}, 'VOCAveragePrecision: average must be'),
    ],
)
def test_settings_are_refused_at_construction(kind: type[Metric], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ('metric', 'message'),
    [
        (ThresholdMetric(thr=[0.1, 0.2]), '2 thresholds are given for 3 classes'),
        (ThresholdMetric(topk=4), 'ThresholdMetric: topk=4, but there are only 3 classes'),
        (MultiLabelMetric(topk=9), 'MultiLabelMetric: topk=9, but there are only 3 classes'),
    ],
)
def test_settings_are_checked_against_the_classes(metric: Metric, message: str) -> None:
    for call in (metric.names, metric.check):
        with pytest.raises(ConfigError, match=message):
            call(3)
