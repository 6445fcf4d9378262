"""Ranking, exact match, AUROC, calibration and frequency groups as a config names them: names, settings, messages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation import functional as F
from mlcls.evaluation.build import build_metrics
from mlcls.evaluation.metrics import (
    AUROCMetric,
    AveragePrecision,
    CalibrationMetric,
    ExactMatchMetric,
    FrequencyGroupMetric,
    Metric,
    RankingMetric,
    ThresholdMetric,
)
from mlcls.registry import METRICS

COUNTS = [500, 50, 5, 5]
EVERY: list[Metric] = [
    RankingMetric(k=(1, 3)),
    RankingMetric(k=2, prefix='x'),
    ExactMatchMetric(),
    ExactMatchMetric(thr=[0.2, 0.5, 0.5, 0.9]),
    ExactMatchMetric(topk=2),
    AUROCMetric(),
    AUROCMetric('micro'),
    AUROCMetric(()),
    CalibrationMetric(),
    CalibrationMetric(bins=4, binning='equal-mass'),
    FrequencyGroupMetric(counts=COUNTS),
    FrequencyGroupMetric(
        ('mAP', 'macro_F1', 'CP', 'CR', 'CF1', 'AUROC', 'ECE', 'Brier'), counts=COUNTS, thr=0.3, prefix='y'
    ),
]


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    scores, targets = torch.rand(40, 4), torch.randint(0, 2, (40, 4), dtype=torch.int8)
    targets[::7, 1] = -1
    return scores, targets


@pytest.mark.parametrize('metric', EVERY, ids=lambda metric: type(metric).__name__)
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_every_metric_keeps_the_protocol(
    metric: Metric, dtype: torch.dtype, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    scores, targets = data[0].to(dtype), data[1]
    before = scores.clone(), targets.clone()
    found = metric.compute(scores, targets)
    assert list(found.numbers) == metric.names(4), 'names() must be what compute() gives, in its order'
    assert all(type(value) is float and math.isfinite(value) for value in found.numbers.values())
    assert all(name.endswith('_classwise') and values.shape == (4,) for name, values in found.per_class.items())
    assert all(name.startswith(metric.prefix + '/') for name in [*found.numbers, *found.per_class])
    for key, value in metric.protocol().items():
        assert isinstance(key, str) and isinstance(value, (str, float, list))
    assert torch.equal(scores, before[0]) and torch.equal(targets, before[1])
    assert metric.compute(scores, targets).numbers == found.numbers, 'a metric holds no rows'


@pytest.mark.parametrize(
    'name', ['RankingMetric', 'ExactMatchMetric', 'AUROCMetric', 'CalibrationMetric', 'FrequencyGroupMetric']
)
def test_registered(name: str) -> None:
    assert isinstance(METRICS.build({'type': name, 'prefix': 'x', 'collect_device': 'gpu'}), Metric)
    assert build_metrics({'type': name})[0].prefix == 'multi-label'
    with pytest.raises(ConfigError, match='prefix must be a string, not 3'):
        METRICS.build({'type': name, 'prefix': 3})


@pytest.mark.parametrize(
    ('metric', 'names'),
    [
        (
            RankingMetric(k=(1, 3)),
            'LRAP coverage ranking_loss one_error precision@1 precision@3 recall@1 recall@3 nDCG@1 nDCG@3 '
            'images_without_known_positive',
        ),
        (ExactMatchMetric(), 'subset_accuracy hamming_loss jaccard images_without_known_label'),
        (
            ExactMatchMetric(topk=3),
            'subset_accuracy_top3 hamming_loss_top3 jaccard_top3 images_without_known_label_top3',
        ),
        (AUROCMetric(), 'AUROC_macro AUROC_micro'),
        (CalibrationMetric(), 'ECE ECE_pooled Brier'),
        (CalibrationMetric(binning='equal-mass'), 'ECE Brier'),
        (
            FrequencyGroupMetric(),
            'mAP_head mAP_medium mAP_tail macro_F1_head macro_F1_medium macro_F1_tail',
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_names(metric: Metric, names: str) -> None:
    assert metric.names(4) == [f'multi-label/{name}' for name in names.split()]


def test_numbers_are_those_of_the_functions(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    counts = F.image_counts(data[0] >= 0.3, data[1])
    found = ExactMatchMetric(thr=0.3).compute(*data).numbers
    assert found['multi-label/jaccard'] == F.exact_match(counts).jaccard
    assert found['multi-label/hamming_loss'] == F.exact_match(counts).hamming_loss
    assert found['multi-label/subset_accuracy'] == F.exact_match(counts).subset_accuracy
    numbers, columns = AUROCMetric().compute(*data)
    assert torch.equal(columns['multi-label/AUROC_classwise'], F.auroc(*data))
    assert numbers['multi-label/AUROC_micro'] == F.micro_auroc(*data)
    numbers, columns = CalibrationMetric(bins=7).compute(*data)
    bins = F.reliability_bins(*data, bins=7)
    assert torch.equal(columns['multi-label/ECE_classwise'], F.expected_calibration_error(bins))
    assert torch.equal(columns['multi-label/MCE_classwise'], F.maximum_calibration_error(bins))
    assert torch.equal(columns['multi-label/Brier_classwise'], F.brier_score(*data))
    assert numbers['multi-label/ECE_pooled'] == F.expected_calibration_error(bins.pooled()).item()
    assert (
        RankingMetric(k=2).compute(*data).numbers['multi-label/recall@2']
        == F.ranking_measures(*data, ks=(2,))['recall@2']
    )


def test_images_without_a_label_are_counted() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.1, 0.2]])
    targets = torch.tensor([[1, 0], [-1, -1], [0, -1], [0, 0]], dtype=torch.int8)
    matched = ExactMatchMetric().compute(scores, targets).numbers
    assert (matched['multi-label/subset_accuracy'], matched['multi-label/images_without_known_label']) == (100.0, 1.0)
    ranked = RankingMetric(k=1).compute(scores, targets).numbers
    assert (ranked['multi-label/LRAP'], ranked['multi-label/images_without_known_positive']) == (100.0, 3.0)


def test_ranking_loss_alone_may_be_undefined() -> None:
    found = RankingMetric(k=1).compute(torch.rand(3, 2), torch.tensor([[1, -1]] * 3, dtype=torch.int8)).numbers
    assert [name for name, value in found.items() if math.isnan(value)] == ['multi-label/ranking_loss']


# ------------------------------------------------------------------------------------------ operating points
@pytest.mark.parametrize('kind', [ExactMatchMetric, FrequencyGroupMetric])
def test_operating_points_are_followed(kind: type[Any], data: tuple[torch.Tensor, torch.Tensor]) -> None:
    extra = {'counts': COUNTS} if kind is FrequencyGroupMetric else {}
    metric, thresholds = kind(**extra), [0.2, 0.3, 0.8, 0.9]
    assert metric.follows_points and metric.topk is None and not kind(thr=0.5, **extra).follows_points
    assert metric.protocol()['thr_kind'] == 'default'
    assert kind(thr=0.5, thr_source='by hand', **extra).protocol()['threshold source'] == 'by hand'
    before = metric.compute(*data).numbers
    metric.use_points(thresholds, 'fitted', 'f1', 'best F1 on val')
    assert metric.compute(*data).numbers == kind(thr=thresholds, **extra).compute(*data).numbers != before
    words = metric.protocol()
    assert (words['thr'], words['thr_kind'], words['threshold source'], words['objective']) == (
        thresholds,
        'fitted',
        'best F1 on val',
        'f1',
    )
    with pytest.raises(ConfigError, match=f"{kind.__name__}: source of the thresholds must be one of .* not 'fited'"):
        metric.use_points(0.5, 'fited')
    with pytest.raises(ConfigError, match=rf'{kind.__name__}: thr must be in \[0, 1\], not 2'):
        metric.use_points(2.0)
    metric.use_points([0.5] * 3)
    with pytest.raises(ConfigError, match=f'{kind.__name__}: 3 thresholds are given for 4 classes'):
        metric.names(4)


def test_topk_takes_no_thresholds() -> None:
    metric = ExactMatchMetric(topk=2)
    assert not metric.follows_points and 'thr' not in metric.protocol()
    with pytest.raises(ConfigError, match='ExactMatchMetric: topk=2 decides here, and takes no thresholds'):
        metric.use_points(0.4)


# ------------------------------------------------------------------------------------------ frequency groups
def test_groups_are_means_over_classes(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = FrequencyGroupMetric(('mAP', 'macro_F1', 'CF1'), counts=COUNTS).compute(*data).numbers
    ap = AveragePrecision().compute(*data).per_class['multi-label/AP_classwise']
    assert found['multi-label/mAP_head'] == ap[0].item() and found['multi-label/mAP_medium'] == ap[1].item()
    assert found['multi-label/mAP_tail'] == pytest.approx(ap[2:].mean().item(), abs=1e-12)
    tail = ThresholdMetric().compute(data[0][:, 2:], data[1][:, 2:]).numbers
    for name in ('macro_F1', 'CF1'):
        assert found[f'multi-label/{name}_tail'] == pytest.approx(tail[f'multi-label/{name}'], abs=1e-10)


def test_empty_groups_are_named(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    metric = FrequencyGroupMetric('mAP', counts=[500, 500, 30, 500])
    numbers = metric.compute(*data).numbers
    assert math.isnan(numbers['multi-label/mAP_tail']) and not math.isnan(numbers['multi-label/mAP_medium'])
    words = metric.protocol()
    assert words['classes in the groups'] == 'head 3, medium 1, tail 0'
    assert words['empty groups, without a number'] == 'tail'
    assert 'thr' not in words, 'AP takes no decisions'
    assert 'empty groups, without a number' not in FrequencyGroupMetric(counts=COUNTS).protocol()


def test_absent_classes_are_left_out_of_their_group(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, targets = data
    targets[:, 3] = 0
    found = FrequencyGroupMetric('mAP', counts=COUNTS).compute(scores, targets).numbers
    assert found['multi-label/mAP_tail'] == F.average_precision(scores, targets)[2].item()


def test_classes_without_a_known_label_are_left_out_of_their_group(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, targets = data
    targets[:, 3] = -1
    numbers = FrequencyGroupMetric(('macro_F1', 'CP', 'CF1'), counts=COUNTS).compute(scores, targets).numbers
    alone = ThresholdMetric().compute(scores[:, [2]], targets[:, [2]]).numbers
    for name in ('macro_F1', 'CP', 'CF1'):
        assert numbers[f'multi-label/{name}_tail'] == pytest.approx(alone[f'multi-label/{name}'], abs=1e-10)


def test_training_counts_come_from_the_data_set(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    metric = FrequencyGroupMetric()
    assert len(metric.names(4)) == 6, 'names are known before any data set'
    assert 'classes in the groups' not in metric.protocol()
    metric.use_meta({'classes': ['a', 'b', 'c', 'd'], 'train_counts': torch.tensor(COUNTS)})
    assert metric.compute(*data).numbers == FrequencyGroupMetric(counts=COUNTS).compute(*data).numbers
    given = FrequencyGroupMetric(counts=[500] * 4)
    given.use_meta({'classes': ['a', 'b', 'c', 'd'], 'train_counts': COUNTS})
    assert given.counts == [500] * 4, 'counts of the config come first'


def test_without_training_counts(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    message = r'does not know how often training showed each class: give counts=\[...\], one number of training images'
    metric = FrequencyGroupMetric()
    with pytest.raises(ConfigError, match=message):
        metric.compute(*data)
    metric.use_meta({'classes': ['a', 'b', 'c', 'd']})
    assert len(metric.names(4)) == 6, 'a test learns the counts later, with the checkpoint'
    with pytest.raises(ConfigError, match=message):
        metric.compute(*data)


def test_training_counts_of_other_classes(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    for metric, call in ((FrequencyGroupMetric(counts=[1, 2]), lambda m: m.check(4)), (FrequencyGroupMetric(), None)):
        metric.use_meta({'train_counts': [1, 2]})
        with pytest.raises(ConfigError, match='2 training counts are given for 4 classes: give one per class'):
            call(metric) if call else metric.compute(*data)
    with pytest.raises(ConfigError, match=r'train_counts of the data set\[1\] must be a number of training images'):
        FrequencyGroupMetric().use_meta({'train_counts': [1, -1]})


# ------------------------------------------------------------------------------------------ messages
@pytest.mark.parametrize(
    ('kind', 'settings', 'message'),
    [
        (RankingMetric, {'k': 0}, 'RankingMetric: k must be an integer of at least 1, not 0'),
        (RankingMetric, {'k': (1, 2.0)}, 'RankingMetric: k must be an integer of at least 1, not 2.0'),
        (RankingMetric, {'k': ()}, r'RankingMetric: k must be different numbers of labels, .* not \(\)'),
        (RankingMetric, {'k': (3, 3)}, r'k must be different numbers of labels, for example \(1, 3, 5\), not \(3, 3\)'),
        (ExactMatchMetric, {'thr': 1.5}, r'ExactMatchMetric: thr must be in \[0, 1\], not 1.5'),
        (ExactMatchMetric, {'topk': 0}, 'ExactMatchMetric: topk must be an integer of at least 1'),
        (ExactMatchMetric, {'thr': 0.5, 'topk': 1}, 'ExactMatchMetric: give thr or topk, not both'),
        (AUROCMetric, {'average': 'marco'}, "AUROCMetric: average must be one of .* did you mean 'macro'"),
        (AUROCMetric, {'average': ('micro', 'micro')}, r"average names one twice: \['micro', 'micro'\]"),
        (CalibrationMetric, {'bins': 0}, 'CalibrationMetric: bins must be an integer of at least 1, not 0'),
        (CalibrationMetric, {'binning': 'equal_mass'}, "binning must be one of .* did you mean 'equal-mass'"),
        (FrequencyGroupMetric, {'measures': ('map',)}, "measures must be one of .* not 'map'; did you mean 'mAP'"),
        (FrequencyGroupMetric, {'measures': ()}, r'measures must be different names, for example .* not \(\)'),
        (FrequencyGroupMetric, {'measures': ['CP', 'CP']}, 'measures must be different names'),
        (FrequencyGroupMetric, {'limits': (100, 20)}, 'FrequencyGroupMetric: limits must be two ascending numbers'),
        (FrequencyGroupMetric, {'counts': [1, -1]}, r'FrequencyGroupMetric: counts\[1\] must be a number of training'),
        (FrequencyGroupMetric, {'thr': -1}, r'FrequencyGroupMetric: thr must be in \[0, 1\], not -1'),
    ],
)
def test_settings_are_refused_at_construction(kind: type[Metric], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ('metric', 'message'),
    [
        (RankingMetric(), r'RankingMetric: k=5, but there are only 4 classes; choose k=\(1, 3\)'),
        (RankingMetric(k=9), r'choose k=\(4,\)'),
        (ExactMatchMetric(thr=[0.1, 0.2]), 'ExactMatchMetric: 2 thresholds are given for 4 classes'),
        (ExactMatchMetric(topk=5), 'ExactMatchMetric: topk=5, but there are only 4 classes'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_are_checked_against_the_classes(metric: Metric, message: str) -> None:
    for call in (metric.names, metric.check):
        with pytest.raises(ConfigError, match=message):
            call(4)


@pytest.mark.parametrize(
    ('metric', 'targets', 'message'),
    [
        (RankingMetric(k=1), 0, 'label ranking is not defined: none of the 3 images has a known positive label'),
        (ExactMatchMetric(), -1, 'subset accuracy is not defined: no label of the 3 images is known'),
        (AUROCMetric(), 0, 'AUROC_macro is not defined: no class has both a known positive and a known negative'),
        (AUROCMetric('micro'), 1, 'AUROC_micro is not defined: the 2 classes together do not have both'),
        (CalibrationMetric(), -1, 'calibration is not defined: no label of the 3 images is known'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_defined_is_refused(metric: Metric, targets: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        metric.compute(torch.rand(3, 2), torch.full((3, 2), targets, dtype=torch.int8))


def test_logits_are_no_probabilities() -> None:
    with pytest.raises(DataError, match='were logits given'):
        CalibrationMetric().compute(torch.tensor([[3.0]]), torch.tensor([[1]], dtype=torch.int8))
