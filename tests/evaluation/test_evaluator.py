"""The evaluator in one process: streaming, order, configs, messages."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.errors import ConfigError, DataError, TrainingError
from mlcls.evaluation import (
    AveragePrecision,
    Evaluator,
    Measured,
    Metric,
    Rows,
    ThresholdMetric,
    build_evaluator,
    gather,
    to_json,
)
from mlcls.evaluation.metrics.base import Protocol
from mlcls.registry import EVALUATORS

ALL = [
    {'type': 'AveragePrecision'},
    {'type': 'ThresholdMetric'},
    {'type': 'ThresholdMetric', 'topk': 2},
    {'type': 'MultiLabelMetric', 'average': 'micro'},
    {'type': 'MultiLabelMetric'},
]
CLASSES = ('cat', 'dog', 'cow')


def make(images: int = 23, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.rand(images, 3), torch.randint(-1, 2, (images, 3), dtype=torch.int8)


def run(evaluator: Evaluator, scores: torch.Tensor, targets: torch.Tensor, order: Any = None, batch: int = 5):
    order = torch.arange(len(scores)) if order is None else torch.as_tensor(order)
    for part in order.split(batch):
        evaluator.process(scores[part], targets[part], part)
    return evaluator.evaluate(len(scores))


def fresh(metrics: Any = None, classes: Any = CLASSES) -> Evaluator:
    evaluator = Evaluator(ALL if metrics is None else metrics)
    evaluator.dataset_meta = {'classes': classes}
    evaluator.prepare()
    return evaluator


@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 9), room=st.integers(0, 40), twice=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_order_batches_and_duplicates_change_nothing(seed: int, batch: int, room: int, twice: int) -> None:
    scores, targets = make()
    expected = run(fresh(), scores, targets, batch=23)
    order = np.random.default_rng(seed).permutation(23)
    evaluator = fresh()
    evaluator.prepare(room)
    found = run(evaluator, scores, targets, np.concatenate([order, order[:twice]]), batch)
    assert found.metrics == expected.metrics
    assert json.dumps(found.per_class) == json.dumps(expected.per_class)
    assert torch.equal(found.scores, scores) and torch.equal(found.targets, targets)
    assert found.scores.dtype == torch.float32 and found.targets.dtype == torch.int8


def test_result_says_all() -> None:
    scores, targets = make()
    targets[:, 1] = targets[:, 1].clamp(max=0)
    result = run(fresh(), scores, targets)
    assert result.num_images == 23 and result.classes == CLASSES and result.absent == ('dog',)
    assert list(result.metrics) == fresh().names(3)
    assert result.positives == (targets == 1).sum(0).tolist() and result.unknown == (targets == -1).sum(0).tolist()
    assert np.isnan(result.per_class['multi-label/AP_classwise'][1])
    assert [entry['metric'] for entry in result.protocol] == [config['type'] for config in ALL]
    with pytest.raises(AttributeError):
        result.num_images = 4  # type: ignore[misc]


def test_the_first_of_two_rows_of_one_image_stays() -> None:
    evaluator = fresh(ALL[0])
    evaluator.process(torch.tensor([[0.1] * 3, [0.2] * 3]), torch.ones(2, 3), torch.tensor([1, 0]))
    evaluator.process(torch.tensor([[0.9] * 3]), torch.zeros(1, 3), torch.tensor([1]))
    result = evaluator.evaluate(2)
    assert result.scores[:, 0].tolist() == pytest.approx([0.2, 0.1])
    assert result.targets.tolist() == [[1] * 3, [1] * 3]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_score_types(dtype: torch.dtype) -> None:
    scores, targets = make()
    result = run(fresh(), scores.to(dtype), targets.long())
    assert torch.equal(result.scores, scores.to(dtype).float()) and torch.equal(result.targets, targets)


def test_batches_are_copied() -> None:
    scores, targets = make(4)
    evaluator, index = fresh(), torch.arange(4)
    held = scores.clone().requires_grad_()
    evaluator.process(held, targets, index)
    with torch.no_grad():
        held.zero_()
    index.zero_()
    result = evaluator.evaluate(4)
    assert torch.equal(result.scores, scores) and not result.scores.requires_grad


def test_rows_are_forgotten_after_a_run_and_after_a_failure() -> None:
    evaluator, (scores, targets) = fresh(), make()
    first = run(evaluator, scores, targets)
    second = run(evaluator, 1 - scores, targets)
    assert first.metrics != second.metrics
    assert torch.equal(first.scores, scores), 'a later run must not write into an earlier result'
    evaluator.process(scores[:2], targets[:2], torch.arange(2))
    with pytest.raises(DataError):
        evaluator.evaluate(23)
    assert run(evaluator, scores, targets).metrics == first.metrics
    evaluator.process(1 - scores, targets, torch.arange(23))
    evaluator.prepare(23)
    assert run(evaluator, scores, targets).metrics == first.metrics


def test_threads_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        run(fresh(), *make())
        assert torch.get_num_threads() == 3
        scores, targets = make()
        with pytest.raises(TrainingError):
            run(fresh(), scores * float('nan'), targets)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_no_image_object_is_kept() -> None:
    evaluator = fresh()
    evaluator.prepare(1000)
    for start in range(0, 1000, 10):
        evaluator.process(torch.rand(10, 3), torch.ones(10, 3), torch.arange(start, start + 10))
    scores, targets, _ = evaluator._buffer.rows()
    assert scores.shape == (1000, 3) and (scores.element_size(), targets.element_size()) == (4, 1)
    assert len(evaluator._buffer._scores) == 1000, 'prepare() allocates once'


def test_growing_copies_rarely() -> None:
    evaluator, places = fresh(), []
    for image in range(500):
        evaluator.process(torch.rand(1, 3), torch.ones(1, 3), torch.tensor([image]))
        places.append(len(evaluator._buffer._scores))
    assert len(set(places)) < 12
    assert evaluator.evaluate(500).num_images == 500


def test_without_class_names() -> None:
    scores, targets = make()
    assert run(Evaluator(ALL), scores, targets).classes == ('0', '1', '2')


# --- messages ---------------------------------------------------------------------------------------------------------


def test_missing_images() -> None:
    scores, targets = make()
    evaluator = fresh()
    evaluator.process(scores[4:20], targets[4:20], torch.arange(4, 20))
    with pytest.raises(DataError, match=r'7 of 23 images were not evaluated \(the first: index 0\)'):
        evaluator.evaluate(23)


@pytest.mark.parametrize('index', [23, -1, 10**9])
def test_index_outside_the_dataset(index: int) -> None:
    scores, targets = make()
    evaluator = fresh()
    evaluator.process(scores[:1], targets[:1], torch.tensor([index]))
    evaluator.process(scores, targets, torch.arange(23))
    with pytest.raises(DataError, match=f'1 rows have an index outside the dataset of 23 images .the first: {index}.'):
        evaluator.evaluate(23)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_scores_that_are_not_finite(value: float) -> None:
    scores, targets = make()
    scores[5, 1] = scores[7, 0] = scores[7, 2] = value
    with pytest.raises(TrainingError, match=r'not finite \(NaN or infinite\) for 2 of 23 images \(the first: index 5'):
        run(fresh(), scores, targets)


def test_logits_are_refused_and_rounding_is_not() -> None:
    scores, targets = make()
    with pytest.raises(ConfigError, match='scores run from -4 to 5, but must be probabilities'):
        run(
            fresh(),
            scores.mul(9).sub(4).clamp(-4, 5).index_fill(0, torch.tensor([0]), -4).index_fill(0, torch.tensor([1]), 5),
            targets,
        )
    run(fresh(), scores * 0 + 1.0000001, targets)


@pytest.mark.parametrize('width', [2, 4])
def test_wrong_number_of_classes(width: int) -> None:
    with pytest.raises(
        ConfigError,
        match=rf'the model gives {width} scores per image, but the dataset has 3 classes '
        r'\(cat, dog, cow\)',
    ):
        fresh().process(torch.rand(2, width), torch.ones(2, width), torch.arange(2))


@pytest.mark.parametrize(
    ('scores', 'targets', 'index'),
    [
        ((2, 3), (3, 3), (2,)),
        ((2, 3), (2, 3), (3,)),
        ((2, 3), (2, 3), (2, 1)),
        ((3,), (3,), (3,)),
        ((2, 3), (2, 1), (2,)),
    ],
)
def test_shapes_of_a_batch(scores: tuple[int, ...], targets: tuple[int, ...], index: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r'a batch needs scores \(n, C\), targets \(n, C\) and index \(n,\), not'):
        fresh().process(torch.rand(scores), torch.ones(targets), torch.zeros(index, dtype=torch.int64))


def test_classes_change_between_batches() -> None:
    evaluator = Evaluator(ALL)
    evaluator.process(torch.rand(2, 3), torch.ones(2, 3), torch.arange(2))
    with pytest.raises(DataError, match='a batch has 4 classes, the ones before had 3'):
        evaluator.process(torch.rand(2, 4), torch.ones(2, 4), torch.arange(2))


@pytest.mark.parametrize('value', [0.5, 0.9999, 2, -3])
def test_labels_that_are_none(value: float) -> None:
    scores, targets = make()
    with pytest.raises(DataError, match=f'a label must be 1 .* not {value:g}; soft labels cannot be evaluated'):
        run(fresh(), scores, targets.float().index_fill(0, torch.tensor([3]), value))


def test_nothing_to_evaluate() -> None:
    with pytest.raises(DataError, match='nothing to evaluate: the dataset is empty'):
        fresh().evaluate(0)
    with pytest.raises(DataError, match='nothing to evaluate: no image was processed'):
        fresh().evaluate(5)


def test_settings_are_checked_when_the_classes_are_known() -> None:
    with pytest.raises(ConfigError, match='AveragePrecision needs at least one class, not 0'):
        fresh(classes=[])
    with pytest.raises(ConfigError, match='2 thresholds are given for 3 classes'):
        fresh({'type': 'ThresholdMetric', 'thr': [0.5, 0.5]})
    with pytest.raises(ConfigError, match="two metrics give a number called 'multi-label/CP': give one of"):
        fresh([{'type': 'ThresholdMetric', 'thr': 0.5}, {'type': 'ThresholdMetric', 'thr': 0.3}])
    assert len(fresh([ThresholdMetric(), ThresholdMetric(thr=0.3, prefix='low')]).names(3)) == 14
    evaluator = Evaluator(ThresholdMetric(topk=5))
    evaluator.dataset_meta = None
    with pytest.raises(ConfigError, match='topk=5, but there are only 3 classes'):
        run(evaluator, *make())


def test_wrong_meta_is_found_at_the_latest_in_evaluate() -> None:
    evaluator = Evaluator(ALL)
    evaluator.process(*make(2), torch.arange(2))
    evaluator.dataset_meta = {'classes': ['cat', 'dog']}
    with pytest.raises(ConfigError, match=r'scores have 3 classes, but the dataset has 2 \(cat, dog\)'):
        evaluator.evaluate(2)


@pytest.mark.parametrize(
    ('metrics', 'message'),
    [
        ([], 'an evaluator needs at least one metric'),
        ('AveragePrecision', "metrics must be a dict or a list of dicts, not 'AveragePrecision'"),
        (None, 'metrics must be a dict or a list of dicts, not None'),
        (['AveragePrecision'], "a metric must be a dict with a 'type', not 'AveragePrecision'"),
        ({'thr': 0.5}, "a metric must be a dict with a 'type'"),
        ({'type': 'AveragePrecison'}, "no metric is called 'AveragePrecison'; did you mean 'AveragePrecision'"),
        ({'type': 'Accuracy'}, "no metric is called 'Accuracy'; choose from"),
        ({'type': 'mlcls.nowhere.Metric'}, "no metric is called 'mlcls.nowhere.Metric'"),
        ({'type': 'mmengine.evaluator.DumpResults'}, 'is not a metric of mlcls'),
        ({'type': dict}, 'is not a metric of mlcls'),
        ({'type': 3}, 'is not a metric of mlcls'),
        (
            {'type': 'AveragePrecision', 'avrage': None},
            "AveragePrecision has no argument 'avrage'; did you mean 'average'",
        ),
        ({'type': 'ThresholdMetric', 'thr': 3}, r'thr must be in \[0, 1\]'),
    ],
)
def test_configs_that_are_refused(metrics: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Evaluator(metrics)


class Own(Metric):
    """A user's metric with a required setting."""

    def __init__(self, wanted: int, **others: Any) -> None:
        super().__init__(**others)
        self.wanted = wanted

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        return Measured({self.key('own'): float(self.wanted)}, {'multi-label/AP_classwise': torch.full((3,), -1.0)})

    def names(self, num_classes: int) -> list[str]:
        return [self.key('own')]

    def protocol(self) -> Protocol:
        return {}


def test_own_metric() -> None:
    assert run(fresh({'type': Own, 'wanted': 3, 'prefix': 'my'}), *make()).metrics == {'my/own': 3.0}
    with pytest.raises(ConfigError, match="Own: missing a required argument: 'wanted'"):
        Evaluator({'type': Own})
    with pytest.raises(ConfigError, match="two metrics give different values called 'multi-label/AP_classwise'"):
        run(fresh([{'type': 'AveragePrecision'}, {'type': Own, 'wanted': 1}]), *make())


class Broken(Own):
    """What a metric of the user's own may get wrong."""

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        good = {'my/own': 1.0}
        return [good, Measured({'my/other': 1.0}, {}), Measured(good, {'my/x_classwise': torch.ones(2)})][self.wanted]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        (0, r'Broken: compute\(\) must return Measured\(numbers, per_class\), not dict'),
        (1, r"Broken: compute\(\) gives \['my/other'\], but names\(\) says \['my/own'\]"),
        (2, r"Broken: 'my/x_classwise' has the shape \(2,\), but there are 3 classes"),
    ],
)
def test_own_metric_that_breaks_a_promise(wanted: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(fresh({'type': Broken, 'wanted': wanted, 'prefix': 'my'}), *make())


class Fits(Own):
    """A metric that gives operating points."""

    seen: Any = None

    def operating_points(self, scores: torch.Tensor, targets: torch.Tensor, classes: Any) -> Any:
        return (self.wanted, tuple(classes), float(scores.sum()))

    def use_meta(self, meta: Any) -> None:
        self.seen = meta


def test_points_and_facts_about_the_data() -> None:
    scores, targets = make()
    evaluator = fresh([{'type': Own, 'wanted': 1}, *({'type': Fits, 'wanted': n, 'prefix': f'p{n}'} for n in (2, 3))])
    evaluator.dataset_meta = {'classes': CLASSES, 'train_counts': torch.tensor([3, 0, 5])}
    result = run(evaluator, scores, targets)
    assert result.points == (2, CLASSES, float(scores.sum())), 'those of the first metric that fits any'
    assert run(fresh(), scores, targets).points is None
    assert evaluator.metrics[2].seen['train_counts'].tolist() == [3, 0, 5]
    evaluator.dataset_meta = None
    assert evaluator.metrics[2].seen == {}


@pytest.mark.parametrize(
    ('counts', 'message'),
    [
        ([1, 2], r'train_counts has 2 counts, but the dataset has 3 classes \(cat, dog, cow\)'),
        (torch.ones(4), 'train_counts has 4 counts, but the dataset has 3 classes'),
        ('abc', "train_counts must be one count a class, not 'abc'"),
        (7, 'train_counts must be one count a class, not 7'),
        ([1, -2, 3], "train_counts: the count of class 'dog' must be a whole number, not -2"),
        ([1, 2, 0.5], "train_counts: the count of class 'cow' must be a whole number, not 0.5"),
        ([1, None, 3], "train_counts: the count of class 'dog' must be a whole number, not None"),
        ([1, 2, float('nan')], "the count of class 'cow' must be a whole number, not nan"),
    ],
)
def test_train_counts_that_do_not_fit(counts: Any, message: str) -> None:
    evaluator = Evaluator(ALL)
    with pytest.raises(ConfigError, match=message):
        evaluator.dataset_meta = {'classes': CLASSES, 'train_counts': counts}


# --- memory -----------------------------------------------------------------------------------------------------------


def test_rows_in_order_are_not_copied() -> None:
    scores, targets = make()
    for order in (torch.arange(23), torch.cat([torch.arange(23), torch.arange(4)])):
        evaluator = fresh()
        evaluator.prepare(27)
        for part in order.split(5):
            evaluator.process(scores[part], targets[part], part)
        held = evaluator._buffer._scores.data_ptr(), evaluator._buffer._targets.data_ptr()
        rows = evaluator.collect(23)
        assert (rows.scores.data_ptr(), rows.targets.data_ptr()) == held
        assert torch.equal(rows.scores, scores) and rows.left_out == ()


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(['float32', 'float16']),
    memory=st.sampled_from([0.0, 4.0]),
    chunk=st.sampled_from([1, 150, 2**26]),
)
@settings(max_examples=30)
def test_any_order_type_and_place_gives_the_same_bits(seed: int, dtype: str, memory: float, chunk: int) -> None:
    scores, targets = make()
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(np.concatenate([rng.permutation(23), rng.integers(0, 23, rng.integers(0, 9))]))
    evaluator = Evaluator(ALL, score_dtype=dtype, memory_limit=memory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, '_CHUNK', chunk)
        found = run(evaluator, scores, targets, order, int(rng.integers(1, 8)))
    stored = scores.to(getattr(torch, dtype))
    assert torch.equal(found.scores, stored) and found.scores.dtype == stored.dtype
    assert torch.equal(found.targets, targets)
    expected = run(Evaluator(ALL), stored.float(), targets)
    assert found.metrics == expected.metrics, 'a file, blocks and half types (whose values are exact) change no bit'
    assert json.dumps(found.per_class) == json.dumps(expected.per_class)


def test_float16_makes_ties_of_close_scores_and_keeps_thresholds() -> None:
    close = torch.tensor([[0.7], [0.7001], [0.99990], [1e-9]])
    targets = torch.tensor([[1], [0], [1], [0]])
    found = run(Evaluator({'type': 'AveragePrecision'}, score_dtype='float16'), close, targets)
    assert found.scores[0] == found.scores[1] and found.scores[2] == 1 and found.scores[3] == 0
    assert found.metrics['multi-label/mAP'] == pytest.approx(100 * (1 + 2 / 3) / 2)
    # 0.7 as float16 is 0.7002, so it still reaches 0.7, but 0.69997 does so too.
    counted = run(Evaluator({'type': 'ThresholdMetric', 'thr': 0.7}, score_dtype='float16'), close - 3e-5, targets)
    assert counted.metrics['multi-label/OR'] == 100.0
    exact = run(Evaluator({'type': 'ThresholdMetric', 'thr': 0.7}), close - 3e-5, targets)
    assert exact.metrics['multi-label/OR'] == 50.0


def test_collect_hands_over_and_result_computes() -> None:
    scores, targets = make()
    expected = run(fresh(), scores, targets)
    evaluator = fresh()
    evaluator.process(scores, targets, torch.arange(23))
    rows = evaluator.collect(23)
    assert isinstance(rows, Rows) and len(evaluator._buffer) == 0, 'the rows belong to the caller now'
    evaluator.process(1 - scores, targets, torch.arange(23))
    assert torch.equal(rows.scores, scores)
    found = evaluator.result(rows)
    assert found.metrics == expected.metrics and torch.equal(found.scores, scores)
    other = evaluator.result(rows._replace(scores=1 - rows.scores))
    assert other.metrics == run(fresh(), 1 - scores, targets).metrics != found.metrics


def test_images_left_out() -> None:
    scores, targets = make()
    kept = torch.tensor([n for n in range(23) if n not in (0, 7, 22)])
    evaluator = fresh()
    for part in kept.flip(0).split(4):
        evaluator.process(scores[part], targets[part], part)
    rows = evaluator.collect(23, left_out=True)
    assert rows.left_out == (0, 7, 22) and torch.equal(rows.scores, scores[kept])
    assert evaluator.result(rows).left_out == (0, 7, 22) and evaluator.result(rows).num_images == 20
    rows.scores[6, 1] = float('nan')
    with pytest.raises(TrainingError, match=r'for 1 of 20 images \(the first: index 8\)'):
        evaluator.result(rows)


def test_a_class_without_any_known_label_is_named_and_left_out() -> None:
    scores, targets = make()
    targets[:, 1] = -1
    result = run(fresh(ALL[:2]), scores, targets)
    assert result.unlabelled == ('dog',) and result.absent == ('dog',)
    alone = run(fresh(ALL[:2], classes=('cat', 'cow')), scores[:, [0, 2]], targets[:, [0, 2]])
    assert result.metrics == alone.metrics
    assert all(np.isnan(values[1]) for values in result.per_class.values())
    assert to_json(result)['unlabelled_classes'] == ['dog']
    assert alone.unlabelled == ()
    with pytest.raises(DataError, match='no label is known: all labels of the 23 images and 3 classes are -1'):
        run(fresh(), scores, targets.fill_(-1))


@pytest.mark.parametrize(
    ('scores', 'targets', 'message'),
    [
        ((4, 3), (4, 2), r'scores are \(4, 3\), but targets are \(4, 2\)'),
        ((4, 3), (3, 3), r'scores are \(4, 3\), but targets are \(3, 3\)'),
        ((4,), (4,), r'scores are \(4,\), but targets are'),
        ((0, 3), (0, 3), 'nothing to evaluate: 0 images and 3 classes'),
        ((3, 0), (3, 0), 'nothing to evaluate: 3 images and 0 classes'),
    ],
)
def test_rows_that_cannot_be_measured(scores: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fresh().result(Rows(torch.rand(scores), torch.ones(targets, dtype=torch.int8)))


def test_accumulating_is_cheap() -> None:
    """Far below the time of scoring an image: 20 microseconds each at 80 classes, with room for a busy machine."""
    scores, targets = torch.rand(64, 80), torch.zeros(64, 80, dtype=torch.int8)
    evaluator = Evaluator({'type': 'AveragePrecision'})
    evaluator.prepare(64 * 60)
    taken = []
    for number in range(60):
        index = torch.arange(64 * number, 64 * (number + 1))
        started = time.perf_counter()
        evaluator.process(scores, targets, index)
        taken.append((time.perf_counter() - started) / 64)
    assert sorted(taken)[30] < 20e-6, f'{1e6 * sorted(taken)[30]:.1f} microseconds an image'


def test_every_form_of_config() -> None:
    assert isinstance(EVALUATORS.build({'type': 'Evaluator', 'metrics': ALL}), Evaluator)
    made = build_evaluator({'type': 'mlcls.Evaluator', 'metrics': {'type': 'mlcls.AveragePrecision'}})
    assert isinstance(made.metrics[0], AveragePrecision)
    assert build_evaluator(made) is made
    assert len(build_evaluator(ALL).metrics) == 5
    assert len(build_evaluator({'type': AveragePrecision}).metrics) == 1
    config = {'type': 'AveragePrecision', '_scope_': 'mlcls'}
    build_evaluator(config)
    assert config == {'type': 'AveragePrecision', '_scope_': 'mlcls'}, 'a config is not used up'
    made = build_evaluator({'type': 'Evaluator', 'metrics': ALL, 'score_dtype': 'float16', 'memory_limit': 1})
    assert run(made, *make()).scores.dtype == torch.float16


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'metrics': ALL, 'metric_names': 1}, "Evaluator has no argument 'metric_names'; did you mean 'metrics'"),
        ({'metrics': ALL, 'score_type': 1}, "Evaluator has no argument 'score_type'; did you mean 'score_dtype'"),
        ({'score_dtype': 'float16'}, "Evaluator: missing a required argument: 'metrics'"),
        ({'metrics': []}, 'an evaluator needs at least one metric'),
        (
            {'metrics': ALL, 'score_dtype': 'bfloat16'},
            "score_dtype must be one of 'float32', 'float16', not 'bfloat16'",
        ),
        ({'metrics': ALL, 'memory_limit': -1}, 'memory_limit must be a number of GiB, 0 or more, not -1'),
        ({'metrics': ALL, 'memory_limit': '4GB'}, "memory_limit must be a number of GiB, 0 or more, not '4GB'"),
        ({'metrics': ALL, 'memory_limit': True}, 'memory_limit must be a number of GiB, 0 or more, not True'),
        ({'metrics': ALL, 'memory_limit': float('nan')}, 'memory_limit must be a number of GiB, 0 or more, not nan'),
    ],
)
def test_settings_of_the_evaluator_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_evaluator({'type': 'Evaluator', **settings})


def test_evaluators_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="no evaluator of mlcls is called 'Evaluater'"):
        build_evaluator({'type': 'Evaluater', 'metrics': ALL})


def test_json() -> None:
    scores, targets = make()
    targets[:, 1] = 0
    plain = to_json(run(fresh(), scores, targets))
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert again['num_images'] == 23 and again['classes'] == list(CLASSES) and again['absent_classes'] == ['dog']
    assert again['per_class']['multi-label/AP_classwise'][1] is None
    assert again['protocol']['unknown labels in the data'] == int((targets == -1).sum())
    words = json.dumps(again['protocol'])
    for word in (
        'without interpolation',
        'equal scores form one step',
        'left out of mAP',
        'threshold source',
        'ignored',
    ):
        assert word in words
