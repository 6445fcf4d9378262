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
from mlcls.evaluation.functional import average_precision, blocks
from mlcls.evaluation.metrics import shared
from mlcls.evaluation.metrics.average_precision import VARIANTS
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
    AveragePrecision(variant='voc07'),
    AveragePrecision(variant='voc10'),
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
    found, columns = metric.compute(*data)
    assert list(found) == metric.names(3), 'names() must be what compute() gives, in its order'
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert columns and all(name.endswith('_classwise') and values.shape == (3,) for name, values in columns.items())
    assert all(name.startswith(metric.prefix + '/') for name in [*found, *columns])
    for key, value in metric.protocol().items():
        assert isinstance(key, str) and isinstance(value, (str, float, list))
    assert all(torch.equal(a, b) for a, b in zip(before, data, strict=True))
    assert metric.compute(*data).numbers == found, 'a metric holds no state'


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
    assert list(MultiLabelMetric(topk=1, average=None, items=['precision', 'support']).compute(*data).per_class) == [
        'multi-label/precision_top1_classwise',
        'multi-label/support_top1_classwise',
    ]
    assert list(AveragePrecision(average=None).compute(*data).per_class) == ['multi-label/AP_classwise']
    assert AveragePrecision(average=None).names(3) == []


def test_names_of_our_own() -> None:
    assert ThresholdMetric().names(3) == [f'multi-label/{name}' for name in SIX]
    assert ThresholdMetric(thr=[0.1, 0.2, 0.3]).names(3) == [f'multi-label/{name}' for name in SIX]
    assert ThresholdMetric(topk=3, prefix='voc').names(3) == [f'voc/{name}_top3' for name in SIX]
    assert AveragePrecision().names(3) == ['multi-label/mAP']


def test_thr_beats_topk_with_a_warning_as_in_mmpretrain(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.warns(UserWarning, match='both thr and topk are given; thr decides'):
        both = MultiLabelMetric(thr=0.4, topk=1)
    assert both.compute(*data).numbers == MultiLabelMetric(thr=0.4).compute(*data).numbers
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        MultiLabelMetric(thr=0.4)
        MultiLabelMetric(topk=1)


def test_zero_threshold_decides_all(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert ThresholdMetric(thr=0).compute(*data).numbers['multi-label/CR'] == 100.0
    assert MultiLabelMetric(thr=0).compute(*data).numbers['multi-label/recall_thr-0.00'] == 100.0


def test_a_list_of_thresholds_acts_per_class(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    thr = [0.2, 0.5, 0.9]
    together = ThresholdMetric(thr=thr).compute(*data).per_class
    for c, value in enumerate(thr):
        alone = ThresholdMetric(thr=value).compute(*data).per_class
        for name in together:
            assert together[name][c] == alone[name][c]
    assert (
        ThresholdMetric(thr=np.array(thr)).compute(*data).numbers
        == ThresholdMetric(thr=torch.tensor(thr, dtype=torch.float64)).compute(*data).numbers
        == ThresholdMetric(thr=tuple(thr)).compute(*data).numbers
    )


@pytest.mark.parametrize('variant', ['exact', 'voc07', 'voc10'])
@pytest.mark.parametrize(('difficult', 'value'), [(None, -1), (True, 1), (False, 0)])
def test_difficult_labels_of_voc(
    data: tuple[torch.Tensor, torch.Tensor], difficult: bool | None, value: int, variant: str
) -> None:
    scores, targets = data
    mapped = torch.where(targets == -1, value, targets).to(torch.int8)
    found = VOCAveragePrecision(difficult_as_positive=difficult, variant=variant).compute(scores, targets)
    expected = AveragePrecision(variant=variant).compute(scores, mapped)
    assert found.numbers == expected.numbers
    assert torch.equal(found.per_class['multi-label/AP_classwise'], average_precision(scores, mapped, variant))
    for average in ('macro', 'micro'):
        found = VOCMultiLabelMetric(average=average, difficult_as_positive=difficult).compute(scores, targets)
        expected = MultiLabelMetric(average=average).compute(scores, mapped)
        assert found.numbers == expected.numbers
        for name, values in found.per_class.items():
            assert torch.equal(values, expected.per_class[name])
    words = {None: 'ignored', True: 'count as present', False: 'count as absent'}[difficult]
    assert VOCAveragePrecision(difficult_as_positive=difficult).protocol()['difficult labels'] == words
    assert VOCMultiLabelMetric(difficult_as_positive=difficult).protocol()['difficult labels'] == words


def test_a_class_of_difficult_labels_alone_is_labelled_once_they_count() -> None:
    scores, targets = torch.tensor([[0.9, 0.8], [0.2, 0.7]]), torch.tensor([[1, -1], [0, -1]], dtype=torch.int8)
    found = VOCMultiLabelMetric(difficult_as_positive=True).compute(scores, targets)
    assert found.numbers['multi-label/recall'] == 100.0
    assert VOCAveragePrecision(difficult_as_positive=True).compute(scores, targets).numbers == {
        'multi-label/mAP': 100.0
    }
    counted = VOCAveragePrecision(difficult_as_positive=False, absent='zero').compute(scores, targets)
    assert counted.numbers == {'multi-label/mAP': 50.0}, 'all absent: a class without positives, no longer unlabelled'
    left_out = VOCAveragePrecision(absent='zero').compute(scores, targets)
    assert left_out.numbers == {'multi-label/mAP': 100.0}


def interpolated(scores: list[float], labels: list[int], points: list[float] | None) -> float:
    """AP with interpolation, by its definition: the highest precision at this or a higher recall."""
    positives = sum(label == 1 for label in labels)
    curve = []
    for cut in sorted(set(scores), reverse=True):
        retrieved = [label for score, label in zip(scores, labels, strict=True) if score >= cut]
        curve.append((retrieved.count(1) / positives, retrieved.count(1) / len(retrieved)))
    if points is not None:
        best = [max((p for r, p in curve if r >= point - 1e-12), default=0.0) for point in points]
        return 100 * sum(best) / len(points)
    area, before = 0.0, 0.0
    for recall, _ in curve:
        area += (recall - before) * max(p for r, p in curve if r >= recall)
        before = recall
    return 100 * area


@pytest.mark.parametrize('seed', range(5))
def test_variants_against_their_definitions(seed: int) -> None:
    torch.manual_seed(seed)
    scores, targets = torch.rand(30, 2).mul(12).round().div(12), torch.randint(0, 2, (30, 2), dtype=torch.int8)
    for variant, points in (('voc07', [n / 10 for n in range(11)]), ('voc10', None)):
        metric = AveragePrecision(variant=variant)
        expected = [interpolated(scores[:, c].tolist(), targets[:, c].tolist(), points) for c in range(2)]
        found = metric.compute(scores, targets)
        assert found.per_class['multi-label/AP_classwise'].tolist() == pytest.approx(expected, abs=1e-9)
        assert found.numbers['multi-label/mAP'] == pytest.approx(sum(expected) / 2, abs=1e-9)
        assert metric.protocol()['variant'] == variant
    words = {variant: str(AveragePrecision(variant=variant).protocol()['AP']) for variant in VARIANTS}
    assert '11 points' in words['voc07'] and '2010' in words['voc10'] and 'without interpolation' in words['exact']


def test_absent_classes() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    targets = torch.tensor([[1, 0], [0, 0]], dtype=torch.int8)
    assert AveragePrecision().compute(scores, targets).numbers == {'multi-label/mAP': 100.0}
    zero = AveragePrecision(absent='zero').compute(scores, targets)
    assert zero.numbers == {'multi-label/mAP': 50.0}
    assert math.isnan(zero.per_class['multi-label/AP_classwise'][1])
    assert 'left out' in str(AveragePrecision().protocol()['classes without a known positive'])
    assert 'count as 0' in str(AveragePrecision(absent='zero').protocol()['classes without a known positive'])


@pytest.mark.parametrize(
    'metric',
    [
        ThresholdMetric(),
        ThresholdMetric(topk=1),
        MultiLabelMetric(items=('precision', 'recall', 'f1-score', 'support')),
        MultiLabelMetric(average='micro'),
        MultiLabelMetric(average=None),
        AveragePrecision(),
        AveragePrecision(absent='zero', variant='voc07'),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_a_class_without_a_known_label_does_not_count(metric: Metric, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, targets = data[0], data[1].clone()
    targets[:, 1] = -1
    found = metric.compute(scores, targets)
    if not (isinstance(metric, ThresholdMetric) and metric.topk):  # topk decides across the classes
        alone = metric.compute(scores[:, [0, 2]], targets[:, [0, 2]])
        assert found.numbers == alone.numbers
        for name, values in found.per_class.items():
            assert torch.equal(values[[0, 2]], alone.per_class[name])
    for name, values in found.per_class.items():
        assert values[1] == 0 if 'support' in name else math.isnan(values[1]), name
    assert metric.protocol()['classes without a known label'] == 'left out'


@pytest.mark.parametrize(
    'metric', [ThresholdMetric(), MultiLabelMetric(), MultiLabelMetric(average=None), AveragePrecision(absent='zero')]
)
def test_no_known_label_at_all(metric: Metric) -> None:
    with pytest.raises(DataError, match=r'no label is known: all labels of the 3 images and 2 classes are -1 \(unkn'):
        metric.compute(torch.rand(3, 2), torch.full((3, 2), -1, dtype=torch.int8))


def test_map_of_nothing_is_refused() -> None:
    nothing = torch.zeros(3, 2, dtype=torch.int8)
    with pytest.raises(DataError, match='none of the 2 classes has a known positive label in the 3 images'):
        AveragePrecision().compute(torch.rand(3, 2), nothing)
    assert AveragePrecision(absent='zero').compute(torch.rand(3, 2), nothing).numbers == {'multi-label/mAP': 0.0}


@pytest.mark.parametrize('metric', [ThresholdMetric(), MultiLabelMetric(), AveragePrecision()])
def test_shapes_that_differ(metric: Metric) -> None:
    with pytest.raises(DataError, match=r'\(4, 3\), but targets are \(3, 3\)'):
        metric.compute(torch.rand(4, 3), torch.zeros(3, 3, dtype=torch.int8))


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('metric', EVERY, ids=lambda metric: type(metric).__name__)
def test_blocks_of_rows_change_nothing(metric: Metric, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    scores = torch.rand(100, 3).mul(20).round().div(20).to(dtype)
    targets = torch.randint(-1, 2, (100, 3), dtype=torch.int8)
    whole = metric.compute(scores, targets)
    monkeypatch.setattr(blocks, '_ENTRIES', 100)  # 8 images, or 16 classes, at a time
    parts = metric.compute(scores, targets)
    assert parts.numbers == whole.numbers
    assert all(torch.equal(parts.per_class[name], values) for name, values in whole.per_class.items())


def test_nothing_is_computed_twice(data: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ('average_precision', 'confusion_counts'):
        real = getattr(shared, name)
        monkeypatch.setattr(shared, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    metrics = [
        *(
            ThresholdMetric(),
            ThresholdMetric(thr=0.5, prefix='b'),
            MultiLabelMetric(),
            MultiLabelMetric(average='micro'),
        ),
        *(AveragePrecision(), AveragePrecision(prefix='b'), VOCAveragePrecision(), VOCMultiLabelMetric()),
    ]
    alone = [metric.compute(*data).numbers for metric in metrics]
    assert len(calls) == 8
    calls.clear()
    with shared.sharing():
        assert [metric.compute(*data).numbers for metric in metrics] == alone
    assert sorted(calls) == ['average_precision', 'confusion_counts']
    calls.clear()
    with shared.sharing():
        ThresholdMetric(thr=[0.5, 0.5, 0.4]).compute(*data)
        ThresholdMetric(topk=1).compute(*data)
        VOCMultiLabelMetric(difficult_as_positive=False).compute(*data)
        AveragePrecision(variant='voc10').compute(*data)
        VOCAveragePrecision(difficult_as_positive=True).compute(*data)
        AveragePrecision().compute(data[0].flip(0), data[1])
        AveragePrecision().compute(data[0].flip(0), data[1])
    assert len(calls) == 7, 'other settings and other tensors are other quantities'
    AveragePrecision().compute(*data)
    assert len(calls) == 8, 'nothing is kept'


def test_points_of_the_model() -> None:
    metric = ThresholdMetric()
    assert metric.follows_points and metric.protocol()['thr_kind'] == 'default'
    metric.use_points([0.25, 0.75], 'fitted', 'f1', 'chosen on val.json')
    told = metric.protocol()
    assert metric.thr == [0.25, 0.75] and metric.follows_points
    assert (told['thr_kind'], told['objective'], told['threshold source']) == ('fitted', 'f1', 'chosen on val.json')
    metric.use_points(0.3, 'number')
    told = metric.protocol()
    assert (told['thr'], told['thr_kind'], told['threshold source']) == (0.3, 'number', 'number')
    assert 'objective' not in told
    fixed = ThresholdMetric(thr=0.5)
    assert not fixed.follows_points and not ThresholdMetric(topk=3).follows_points
    assert fixed.protocol()['thr_kind'] == 'config'
    fixed.use_points([0.1], 'file')
    assert fixed.thr == [0.1] and fixed.protocol()['thr_kind'] == 'file'
    with pytest.raises(ConfigError, match='1 thresholds are given for 2 classes'):
        fixed.check(2)


def test_points_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match='topk=3 decides here, and takes no thresholds'):
        ThresholdMetric(topk=3).use_points(0.5, 'number')
    with pytest.raises(ConfigError, match="source of the thresholds must be one of .*'fited'; did you mean 'fitted'"):
        ThresholdMetric().use_points(0.5, 'fited')
    metric = ThresholdMetric()
    with pytest.raises(ConfigError, match=r'thr\[1\] must be in \[0, 1\], not 1.5'):
        metric.use_points([0.5, 1.5], 'file')
    assert metric.thr == 0.5 and metric.protocol()['thr_kind'] == 'default', 'a failure changes nothing'


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
        (AveragePrecision, {'variant': 'voc7'}, "variant must be one of .* not 'voc7'; did you mean 'voc07'"),
        (VOCAveragePrecision, {'difficult_as_positive': 1}, 'must be None, True or False, not 1'),
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
