"""What makes two evaluations comparable, and how far apart they are."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlcls.errors import DataError
from mlcls.evaluation.comparison import (
    Side,
    check_predictions,
    class_differences,
    method_differences,
    pair_rows,
    paired_intervals,
    protocol_differences,
    rebuild_metric,
)
from mlcls.evaluation.functional.bootstrap import resample_counts
from mlcls.evaluation.intervals import centred_percentiles, headline_intervals
from mlcls.evaluation.metrics import (
    AveragePrecision,
    FittedThresholdMetric,
    Metric,
    MultiLabelMetric,
    ThresholdMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from mlcls.evaluation.metrics.exact_match import ExactMatchMetric
from mlcls.evaluation.predictions import Predictions
from mlcls.evaluation.result import EvaluationResult, RunFacts, to_json

CLASSES = ('cat', 'dog', 'ant')


def data(num_images: int = 40, seed: int = 0, noise: float = 0.25) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels are those of every seed; the scores are a model's."""
    targets = (np.random.default_rng(99).random((num_images, 3)) < 0.4).astype(np.int8)
    scores = np.clip(np.random.default_rng(seed).normal(0.3 + 0.4 * targets, noise), 0, 1)
    return torch.from_numpy(scores).float(), torch.from_numpy(targets)


def predictions(num_images: int = 40, seed: int = 0) -> Predictions:
    scores, targets = data(num_images, seed)
    return Predictions(scores, targets, [f'{n}.jpg' for n in range(num_images)], CLASSES, None, 'a' * 16)


def content(metrics: list[Metric] | None = None, seed: int = 0, **facts: object) -> dict:
    """The content of a results file."""
    metrics = metrics or [ThresholdMetric(), AveragePrecision()]
    scores, targets = data(seed=seed)
    numbers: dict[str, float] = {}
    columns: dict[str, list[float]] = {}
    protocol = []
    for metric in metrics:
        found = metric.compute(scores, targets)
        numbers |= found.numbers
        columns |= {name: values.tolist() for name, values in found.per_class.items()}
        words = {'metric': type(metric).__name__, 'numbers': ', '.join(found.numbers)}
        protocol.append({**words, **metric.protocol()})
    result = EvaluationResult(numbers, columns, scores, targets, CLASSES, len(scores), protocol)
    thresholds = {'source': 'default', 'objective': '', 'words': '', 'data_hash': ''}
    given = {
        'checkpoint': 'best.pth',
        'data_hash': 'a' * 16,
        'weights_hash': 'b' * 16,
        'thresholds': thresholds,
        **facts,
    }
    return json.loads(json.dumps(to_json(result, RunFacts(**given))))


def said(first: dict, second: dict) -> list[str]:
    return [str(difference) for difference in protocol_differences(first, second)]


# --- what is measured ---


def test_the_same_protocol_has_no_difference() -> None:
    assert said(content(), content(seed=1)) == []


@pytest.mark.parametrize(
    'metrics, words',
    [
        ([AveragePrecision(variant='voc07')], 'AveragePrecision: variant: exact | voc07'),
        (
            [AveragePrecision(absent='zero')],
            'AveragePrecision: classes without a known positive: left out of mAP | count as 0 in mAP',
        ),
        ([VOCAveragePrecision()], "metric behind 'multi-label/mAP': AveragePrecision | VOCAveragePrecision"),
        ([VOCAveragePrecision()], 'AveragePrecision: difficult labels: not said | ignored'),
        ([ThresholdMetric(thr=0.3)], 'ThresholdMetric: thresholds: 0.5 | 0.3'),
        ([ThresholdMetric(thr=[0.5, 0.4, 0.5])], 'ThresholdMetric: thresholds: 0.5 | 0.5, 0.4, 0.5'),
    ],
)
def test_differences_of_metrics_are_named(metrics: list[Metric], words: str) -> None:
    assert words in said(content(), content(metrics))


def test_a_tie_rule_of_another_version_is_a_difference() -> None:
    other = content()
    other['protocol']['metrics'][1]['ties'] = 'in the order of the images'
    rule = 'images with equal scores form one step, whatever their order'
    assert said(content(), other) == [f'AveragePrecision: ties: {rule} | in the order of the images']


def test_thresholds_that_were_set_are_measured_and_those_that_were_chosen_are_compared() -> None:
    first, second = ([ThresholdMetric(thr=thr)] for thr in (0.3, 0.5))
    assert said(content(first), content(second)) == ['ThresholdMetric: thresholds: 0.3 | 0.5']
    same = [
        content([ThresholdMetric()]),
        content([ThresholdMetric(thr=0.5)]),
        content([ThresholdMetric(thr=[0.5] * 3)]),
    ]
    same[1]['protocol']['thresholds']['source'] = 'number'
    assert said(same[0], same[1]) == [] and said(same[1], same[2]) == []  # who said 0.5 does not matter
    fitted = []
    for thr in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]):
        metric = ThresholdMetric()
        metric.use_points(thr, 'fitted', 'f1', f'best F1: {thr}')
        facts = {'source': 'fitted', 'objective': 'f1', 'words': f'best F1: {thr}', 'data_hash': 'c' * 16}
        fitted.append(content([metric], thresholds=facts))
    assert said(*fitted) == []
    assert [str(each) for each in method_differences(*fitted)] == [
        'thresholds: best F1: [0.1, 0.2, 0.3] | best F1: [0.4, 0.5, 0.6]'
    ]
    other = copy.deepcopy(fitted[1])
    other['protocol']['thresholds']['objective'] = other['protocol']['metrics'][0]['objective'] = 'CF1'
    assert said(fitted[0], other) == ['objective of the thresholds: f1 | CF1']
    assert said(fitted[0], content([ThresholdMetric()])) == [
        'source of the thresholds: fitted | default',
        'objective of the thresholds: f1 | not said',
    ]
    other = copy.deepcopy(fitted[1])
    other['protocol']['thresholds']['data_hash'] = 'a' * 16
    assert said(fitted[0], other) == ['thresholds chosen on the tested data: no | yes']
    assert 'data that thresholds were chosen on: cccccccccccccccc | aaaaaaaaaaaaaaaa' in [
        str(each) for each in method_differences(fitted[0], other)
    ]


def test_cross_fitted_numbers_of_other_objectives_do_not_compare() -> None:
    first, second = (content([FittedThresholdMetric(objective=objective)]) for objective in ('f1', 'OF1'))
    assert said(first, second) == [
        'FittedThresholdMetric: threshold source: chosen for f1 on the other folds of the same images | '
        'chosen for OF1 on the other folds of the same images'
    ]


def test_other_data_are_a_difference() -> None:
    other = content(data_hash='f' * 16)
    assert said(content(), other) == [
        f'data (hash of classes, image names and labels): {"a" * 16} | {"f" * 16}',
    ]
    other = content() | {'num_images': 39, 'num_images_left_out': 1}
    assert said(content(), other) == ['number of images: 40 | 39', 'images left out: 0 | 1']
    other = content() | {'classes': ['cat', 'ant', 'dog']}
    assert said(content(), other) == ['order of classes (class 2): dog | ant']
    other = content() | {'classes': ['cat', 'dog', 'ant', 'cow', 'pig']}
    assert said(content(), other) == ['classes that the other has not: none | cow, pig']
    other = content()
    other['protocol']['unit'] = 'fractions'
    other['protocol']['unknown labels (-1)'] = 'count as absent'
    assert said(content(), other) == [
        'unit: percent, except counts | fractions',
        'unknown labels (-1): ignored by every metric that does not say otherwise | count as absent',
    ]


def test_what_may_differ_between_methods() -> None:
    facts = {
        'tta': 'mirrored',
        'members': 2,
        'dtype': 'float16',
        'calibration': 'platt',
        'checkpoint': ['a.pth', 'b.pth'],
    }
    other = content(**facts, weights_hash=['1' * 16, '2' * 16])
    assert said(content(), other) == []
    assert [str(each) for each in method_differences(content(), other)] == [
        'checkpoint: best.pth | a.pth, b.pth',
        'precision of the model: float32 | float16',
        'test-time augmentation: none | mirrored',
        'number of checkpoints: 1 | 2',
        'calibration: none | platt',
        f'weights: {"b" * 16} | {"1" * 16}, {"2" * 16}',
    ]


# --- from a protocol back to its metric ---

REBUILT = [
    ThresholdMetric(),
    ThresholdMetric(thr=[0.25, 0.5, 0.75], prefix='mine/own'),
    ThresholdMetric(topk=2),
    ExactMatchMetric(thr=0.3),
    ExactMatchMetric(topk=1),
    AveragePrecision(),
    AveragePrecision(variant='voc10', absent='zero', prefix='other'),
    VOCAveragePrecision(difficult_as_positive=True, variant='voc07'),
    VOCAveragePrecision(difficult_as_positive=False),
    MultiLabelMetric(),
    MultiLabelMetric(topk=2, average='micro', items=('support', 'f1-score')),
    MultiLabelMetric(thr=0.3, average='micro'),
    VOCMultiLabelMetric(thr=0.4, difficult_as_positive=True),
    VOCMultiLabelMetric(difficult_as_positive=False, average='micro'),
]


@pytest.mark.parametrize('metric', REBUILT, ids=lambda metric: ' '.join(metric.names(3)))
def test_a_metric_is_found_again_from_its_protocol(metric: Metric) -> None:
    entry = content([metric])['protocol']['metrics'][0]
    found = rebuild_metric(entry, 3)
    assert type(found) is type(metric) and found.protocol().keys() == metric.protocol().keys()
    scores, targets = data(seed=3)
    targets[::3, 1] = -1
    assert found.compute(scores, targets).numbers == metric.compute(scores, targets).numbers


def test_thresholds_from_the_model_are_found_again() -> None:
    metric = ThresholdMetric()
    metric.use_points([0.1, 0.2, 0.3], 'fitted', 'f1', 'words')
    assert rebuild_metric(content([metric])['protocol']['metrics'][0], 3).thr == [0.1, 0.2, 0.3]


def test_a_metric_that_is_not_known_is_not_guessed() -> None:
    entry = content()['protocol']['metrics'][1]
    assert rebuild_metric(entry | {'metric': 'MyMetric'}, 3) is None
    assert rebuild_metric(entry | {'variant': 'trapezoid'}, 3) is None
    assert rebuild_metric(entry | {'numbers': ''}, 3) is None
    assert rebuild_metric(entry | {'numbers': 'multi-label/mAP_tail'}, 3) is None
    assert rebuild_metric(content([ThresholdMetric(thr=[0.5] * 3)])['protocol']['metrics'][0], 4) is None


# --- predictions ---


def test_predictions_of_the_same_run() -> None:
    metrics = check_predictions(content(), predictions(), 'p.npz')
    assert [type(metric) for metric in metrics] == [ThresholdMetric, AveragePrecision]


@pytest.mark.parametrize(
    'change, message',
    [
        ({'classes': ('cat', 'ant', 'dog')}, 'p.npz: the predictions are of other classes than the results'),
        ({'data_hash': 'f' * 16}, r'p.npz: the predictions are of other data \(f{16}\) than the results \(a{16}\)'),
        ({'scores': data(seed=1)[0]}, 'p.npz: these predictions give multi-label/CP .* are of another run'),
    ],
)
def test_predictions_of_another_run(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_predictions(content(), replace(predictions(), **change), 'p.npz')


def test_predictions_of_another_number_of_images_or_without_a_number() -> None:
    with pytest.raises(DataError, match='p.npz: predictions of 39 images, but the results are of 40'):
        check_predictions(content(), predictions(39), 'p.npz')
    stored = content()
    stored['metrics']['multi-label/mAP'] = None
    with pytest.raises(DataError, match='give multi-label/mAP .*, but the results file says no number'):
        check_predictions(stored, predictions(), 'p.npz')
    stored['metrics']['multi-label/mAP'] = content()['metrics']['multi-label/mAP'] + 1e-4
    with pytest.raises(DataError, match='they are of another run'):
        check_predictions(stored, predictions(), 'p.npz')


def test_images_are_paired_by_name() -> None:
    first = predictions()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = replace(
        first,
        scores=first.scores[order],
        targets=first.targets[order],
        names=[first.names[row] for row in order],
    )
    rows, why = pair_rows(first, shuffled)
    assert why == '' and [shuffled.names[row] for row in rows] == list(first.names)
    assert pair_rows(first, first)[0].tolist() == list(range(40))


@pytest.mark.parametrize(
    'change, why',
    [
        ({'classes': ('a', 'b', 'c')}, 'the classes or their order differ'),
        ({'data_hash': 'f' * 16}, 'they are of other data'),
        ({'names': [f'{n}.jpg' for n in range(1, 41)]}, 'they are of other images'),
        ({'names': ['0.jpg'] * 40}, 'image names occur more than once'),
        ({'targets': 1 - data()[1]}, 'the labels of the same images differ'),
    ],
)
def test_images_that_cannot_be_paired(change: dict, why: str) -> None:
    assert pair_rows(predictions(), replace(predictions(), **change)) == (None, why)


# --- intervals of differences ---


def test_paired_intervals_are_those_of_the_difference_on_resampled_rows() -> None:
    metrics = [ThresholdMetric(), AveragePrecision()]
    (first, targets), (second, _) = data(seed=0), data(seed=1)
    differences = {'multi-label/CF1': 1.0, 'multi-label/mAP': -2.0}
    found = paired_intervals(Side(metrics, first, targets), Side(metrics, second, targets), differences, 100, 3)
    draws: dict[str, list[float]] = {name: [] for name in differences}
    for count in torch.cat(list(resample_counts(40, 100, 3))):
        rows = torch.repeat_interleave(torch.arange(40), count.long())
        for metric in metrics:
            numbers = [metric.compute(scores[rows], targets[rows]).numbers for scores in (first, second)]
            for name in set(numbers[0]) & set(differences):
                draws[name].append(numbers[1][name] - numbers[0][name])
    for name, difference in differences.items():
        expected = centred_percentiles(torch.tensor(draws[name], dtype=torch.float64), difference)
        assert found[name] == pytest.approx(expected, abs=1e-9)


def test_a_model_does_not_differ_from_itself() -> None:
    side = Side([ThresholdMetric()], *data())
    assert paired_intervals(side, side, {'multi-label/CF1': 0.0}, 100, 0) == {'multi-label/CF1': (0.0, 0.0)}


def test_pairing_tells_small_differences_from_chance() -> None:
    scores, targets = data(400, 0)
    better = torch.where(targets == 1, scores + 0.01, scores).clamp(max=1)
    metric = AveragePrecision()
    numbers = [metric.compute(each, targets).numbers['multi-label/mAP'] for each in (scores, better)]
    name, difference = 'multi-label/mAP', numbers[1] - numbers[0]
    found = paired_intervals(
        Side([metric], scores, targets), Side([metric], better, targets), {name: difference}, 200, 0
    )
    result = EvaluationResult({name: numbers[0]}, {}, scores, targets, CLASSES, 400)
    alone = headline_intervals(result, [metric], 200).bounds[name]
    assert 0 < found[name][0] < difference < found[name][1]
    assert found[name][1] - found[name][0] < (alone[1] - alone[0]) / 5


def test_each_side_has_its_own_metric_and_others_have_no_interval() -> None:
    scores, targets = data()
    first = Side([AveragePrecision()], scores, targets)
    second = Side([AveragePrecision(variant='voc07'), ThresholdMetric()], scores, targets)
    differences = {'multi-label/mAP': -1.0, 'multi-label/CF1': 0.0, 'multi-label/other': 0.0}
    assert set(paired_intervals(first, second, differences, 100, 0)) == {'multi-label/mAP'}


# --- classes ---


def test_the_classes_that_differ_most_come_first() -> None:
    first, second = content(), content()
    columns = second['per_class']
    for place, step in enumerate((1, -5, 2)):
        columns['multi-label/AP_classwise'][place] += step
    columns['multi-label/F1_classwise'][0] = None
    found = class_differences(first, second)
    assert [each.name for each in found] == ['dog', 'ant', 'cat']
    assert [each.largest for each in found] == pytest.approx([5, 2, 1])
    assert found[0].positives == int((data()[1][:, 1] == 1).sum())
    assert math.isnan(found[2].f1[1])


def test_classes_of_metrics_that_the_two_do_not_share() -> None:
    first, second = content([MultiLabelMetric()]), content([AveragePrecision()])
    assert all(each.largest == 0 and math.isnan(each.ap[0]) for each in class_differences(first, second))
    found = class_differences(first, content([MultiLabelMetric()], seed=1))
    assert found[0].largest > 0 and math.isnan(found[0].ap[0]) and not math.isnan(found[0].f1[0])
