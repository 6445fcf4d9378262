"""The result as text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.errors import ConfigError
from mlcls.evaluation import EvaluationResult, Evaluator, Rows, format_table
from mlcls.evaluation.table import fit, text_width

CLASSIC = [{'type': 'AveragePrecision'}, {'type': 'ThresholdMetric'}]


def result(metrics: Any, classes: list[str], images: int = 30) -> EvaluationResult:
    torch.manual_seed(1)
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = {'classes': classes}
    targets = torch.randint(0, 2, (images, len(classes)), dtype=torch.int8)
    targets[0], targets[:, -1] = 1, 0
    evaluator.process(torch.rand(targets.shape), targets, torch.arange(images))
    return evaluator.evaluate(images)


def rows_of(text: str, names: list[str]) -> dict[str, list[str]]:
    """The cells of the class table, by class, in the order shown."""
    lines = text.split('\n')
    start = next(i for i, line in enumerate(lines) if line.startswith('class '))
    listed = [line.split() for line in lines[start + 1 :]]
    return {cells[0]: cells[1:] for cells in listed if cells and cells[0] in names and len(cells) > 1}


def test_classic_table() -> None:
    found = result(CLASSIC, ['cat', 'dog', 'unicorn'])
    text = format_table(found)
    lines = text.split('\n')
    assert lines[0].split() == ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1', 'mAP']
    assert lines[1].split() == [f'{found.metrics[f"multi-label/{name}"]:.2f}' for name in lines[0].split()]
    header = next(line for line in lines if line.startswith('class'))
    assert header.split() == ['class', 'AP', 'precision', 'recall', 'F1', 'threshold', 'support']
    rows = rows_of(text, ['cat', 'dog', 'unicorn'])
    for number, name in enumerate(('cat', 'dog')):
        assert rows[name] == [
            *(f'{found.per_class[f"multi-label/{part}_classwise"][number]:.2f}' for part in ('AP', 'P', 'R', 'F1')),
            '0.5000',
            str(found.positives[number]),
        ]
    assert rows['unicorn'][0] == '-' and rows['unicorn'][-1] == '0'
    assert lines[-2] == 'Classes without a known positive image: 1 of 3; left out of mAP; count as 0 in CR'
    assert lines[-1] == 'unicorn'
    assert 'ThresholdMetric: score >= 0.5' in lines
    assert len({len(line) for line in lines if line.startswith(('class', 'cat', 'dog', 'unicorn '))}) == 1, 'aligned'


def test_a_rule_is_said_once() -> None:
    metrics = [
        *CLASSIC,
        {'type': 'ThresholdMetric', 'topk': 1},
        {'type': 'MultiLabelMetric'},
        {'type': 'MultiLabelMetric', 'average': 'micro'},
    ]
    lines = format_table(result(metrics, ['cat', 'dog'])).split('\n')
    assert 'ThresholdMetric, MultiLabelMetric: score >= 0.5' in lines
    assert [line.split(':')[0] for line in lines if 'highest scores of each image' in line] == ['ThresholdMetric']


def test_absent_classes_that_count() -> None:
    text = format_table(result({'type': 'AveragePrecision', 'absent': 'zero'}, ['cat', 'unicorn']))
    assert 'count as 0 in mAP' in text and 'in CR' not in text


def test_classes_without_a_known_label() -> None:
    found = result(CLASSIC, ['cat', 'dog', 'unicorn'])
    found.targets[:, 0] = -1
    evaluator = Evaluator(CLASSIC)
    evaluator.dataset_meta = {'classes': found.classes}
    text = format_table(evaluator.result(Rows(found.scores, found.targets)))
    assert text.endswith(
        '\nClasses without a known positive image: 1 of 3; left out of mAP; count as 0 in CR\nunicorn'
        '\n\nClasses without a known label: 1 of 3; left out of every mean\ncat'
    )
    assert rows_of(text, ['cat'])['cat'] == ['-', '-', '-', '-', '0.5000', '0']


@pytest.mark.parametrize(
    ('metrics', 'headline', 'columns'),
    [
        ([{'type': 'AveragePrecision'}], ['mAP'], ['AP']),
        (
            [{'type': 'ThresholdMetric'}],
            ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1'],
            ['precision', 'recall', 'F1', 'threshold'],
        ),
        ([{'type': 'AveragePrecision', 'average': None}], [], ['AP']),
        ([{'type': 'MultiLabelMetric', 'items': ['recall']}], [], ['recall', 'threshold']),
        ([{'type': 'ThresholdMetric', 'topk': 1}], [], ['precision', 'recall', 'F1']),
    ],
)
def test_some_metrics_alone(metrics: Any, headline: list[str], columns: list[str]) -> None:
    found = result(metrics, ['cat', 'dog', 'unicorn'])
    lines = format_table(found).split('\n')
    assert next(line for line in lines if line.startswith('class')).split() == ['class', *columns, 'support']
    if headline:
        assert lines[0].split() == headline
    for name, value in found.metrics.items():
        assert f'{value:.2f}' in format_table(found), name


def test_columns_belong_to_the_headline() -> None:
    metrics = [
        {'type': 'MultiLabelMetric', 'thr': 0.9},
        {'type': 'MultiLabelMetric'},
        {'type': 'ThresholdMetric', 'topk': 1},
        {'type': 'ThresholdMetric', 'thr': [0.1, 0.2, 0.3]},
    ]
    for count, name, thr in ((4, 'P', '0.1000'), (3, 'precision', '0.5000'), (1, 'precision_thr-0.90', '0.9000')):
        found = result(metrics[:count], ['cat', 'dog', 'unicorn'])
        row = rows_of(format_table(found), ['cat'])['cat']
        assert (row[0], row[3]) == (f'{found.per_class[f"multi-label/{name}_classwise"][0]:.2f}', thr)


def test_the_first_metric_is_shown() -> None:
    found = result(
        [{'type': 'ThresholdMetric', 'thr': 0.2}, {'type': 'ThresholdMetric', 'thr': 0.8, 'prefix': 'high'}],
        ['cat', 'dog'],
    )
    text = format_table(found)
    assert text.split('\n')[1].split()[0] == f'{found.metrics["multi-label/CP"]:.2f}'
    row = rows_of(text, ['cat'])['cat']
    assert row[0] == f'{found.per_class["multi-label/P_classwise"][0]:.2f}' and row[3] == '0.2000'


@pytest.mark.parametrize('first', [0, 1])
def test_what_half_would_give_is_a_row_of_its_own(first: int) -> None:
    metrics = [{'type': 'ThresholdMetric'}, {'type': 'ThresholdMetric', 'thr': 0.5, 'prefix': 'at_0.5'}]
    evaluator = Evaluator([*(metrics if first == 0 else metrics[::-1]), {'type': 'AveragePrecision'}])
    evaluator.dataset_meta = {'classes': ['cat', 'dog']}
    evaluator.metrics[first].use_points([0.25, 0.125], 'fitted', 'f1', 'chosen on val')
    rows = result(CLASSIC, ['cat', 'dog'])
    found = evaluator.result(Rows(rows.scores, rows.targets))
    intervals = {'multi-label/CF1': (40.04, 60.06), 'multi-label/mAP': (100.0, 100.0), 'multi-label/OR': (99.0, 100.0)}
    text = format_table(found, intervals=intervals)
    lines = text.split('\n')
    assert lines[0].split() == ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1', 'mAP']
    assert [line[:8].strip() for line in lines[1:4]] == ['in use', 'interval', 'at 0.5']
    assert lines[1].split()[4] == f'{found.metrics["multi-label/CF1"]:.2f}'
    assert lines[3].split()[4] == f'{found.metrics["at_0.5/CF1"]:.2f}'
    assert lines[2].split() == ['interval', '40.0-60.1', '99.0-100.0', '100.0']
    ends = [lines[0].index(title) + len(title) for title in ('CF1', 'OR', 'mAP')]
    assert [lines[2].index(cell) + len(cell) for cell in ('40.0-60.1', '99.0-100.0')] == ends[:2], 'below its number'
    assert len(lines[2]) == ends[2]
    row = rows_of(text, ['cat'])['cat']
    assert row[1] == f'{found.per_class["multi-label/P_classwise"][0]:.2f}' and row[4] == '0.2500'
    assert max(map(len, lines)) <= 100


def test_cross_fitted_numbers_are_a_row_of_their_own() -> None:
    found = result(CLASSIC, ['cat', 'dog'])
    found = replace(found, metrics=found.metrics | {'multi-label/CF1_fitted': 12.345, 'multi-label/odd_fitted': 7.0})
    lines = format_table(found, intervals={'multi-label/odd_fitted': (6, 8.25)}).split('\n')
    assert lines[2].split() == ['cross-fitted', '12.35'] or lines[2].split() == ['cross-fitted', '12.34']
    assert lines[2].index('12.3') + 5 == lines[0].index('CF1') + 3
    assert lines[3] == 'multi-label/odd_fitted 7.00 [6.0-8.2]'


def test_given_thresholds_are_shown() -> None:
    found = result(CLASSIC, ['cat', 'dog'])
    rows = rows_of(format_table(found, thresholds=(0.25, 0.12345)), ['cat', 'dog'])
    assert (rows['cat'][4], rows['dog'][4]) == ('0.2500', '0.1235')


COUNTS = {'rare': 2, 'often': 20, 'never': 0, 'same': 2}


def unequal() -> EvaluationResult:
    found = result([{'type': 'AveragePrecision'}], list(COUNTS))
    targets = torch.zeros(30, 4, dtype=torch.int8)
    for column, count in enumerate(COUNTS.values()):
        targets[:count, column] = 1
    columns = {'x/F1_classwise': [50.0, 10.0, 0.0, 50.0], 'x/AP_classwise': [80.0, 5.0, float('nan'), 70.0]}
    return replace(found, targets=targets, per_class=columns, absent=('never',))


@pytest.mark.parametrize(
    ('order', 'expected'),
    [
        ('support', ['often', 'rare', 'same', 'never']),
        ('worst', ['often', 'same', 'rare', 'never']),
        ('data', ['rare', 'often', 'never', 'same']),
    ],
)
def test_order_of_the_classes(order: str, expected: list[str]) -> None:
    assert list(rows_of(format_table(unequal(), order=order), list(COUNTS))) == expected
    shown = format_table(unequal(), order=order, limit=3)
    assert list(rows_of(shown, list(COUNTS))) == expected[:3]
    assert '... and 1 more of the 4 classes' in shown
    assert 'more of the' not in format_table(unequal(), order=order, limit=4)
    assert next(iter(rows_of(format_table(unequal()), list(COUNTS)))) == 'often'


def test_worst_without_f1_goes_by_ap() -> None:
    found = unequal()
    found.per_class.pop('x/F1_classwise')
    assert list(rows_of(format_table(found, order='worst'), list(COUNTS))) == ['often', 'same', 'rare', 'never']
    found.per_class.clear()
    assert list(rows_of(format_table(found, order='worst'), list(COUNTS))) == ['rare', 'often', 'same', 'never']


def test_a_long_list_is_whole() -> None:
    names = [f'c{number}' for number in range(700)]
    assert list(rows_of(format_table(result(CLASSIC, names), order='data'), names)) == names


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'order': 'best'}, "order of the classes must be one of 'support', 'worst', 'data', not 'best'"),
        ({'order': 'suport'}, "did you mean 'support'"),
        ({'limit': 0}, 'the number of classes to show must be an integer of at least 1, not 0'),
        ({'limit': True}, 'the number of classes to show must be an integer of at least 1, not True'),
        ({'thresholds': [0.5]}, '1 thresholds are given for 2 classes'),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        format_table(result(CLASSIC, ['cat', 'dog']), **settings)


NAMES = [
    'a' * 300,
    'traffic light seen from very far away and behind, at night: red',
    'traffic light seen from very far away and behind, at night: green',
    '犬' * 60,
    'e\u0301' * 80,
    '👩‍👩‍👧 family',
    'two\nlines\tand\x1b[31m colour',
    '',
    'العربية',
    '\ud800 lone surrogate',
    'x',
]


def test_long_and_wide_names() -> None:
    text = format_table(result([*CLASSIC, {'type': 'MultiLabelMetric', 'thr': 0.123, 'average': 'micro'}], NAMES))
    lines = text.split('\n')
    assert max(text_width(line) for line in lines) <= 100
    start = next(i for i, line in enumerate(lines) if line.startswith('class  '))
    assert len({text_width(line) for line in lines[start : start + 1 + len(NAMES)]}) == 1, 'aligned, one line a class'
    assert '\x1b' not in text and '\t' not in text
    assert len({line for line in lines if line.startswith('traffic light')}) == 2
    assert any('red ' in line for line in lines) and any('green ' in line for line in lines)


def test_many_absent_classes_are_wrapped() -> None:
    classes = [f'class number {c}' for c in range(50)] + ['z' * 200]
    found = result(CLASSIC, classes)
    found = replace(found, absent=tuple(classes))
    text = format_table(found)
    assert max(map(len, text.split('\n'))) <= 100
    assert all(name in text.split('Classes without')[1] for name in classes[:50])


@given(st.text(max_size=40), st.integers(2, 30))
@settings(max_examples=200, deadline=None)
def test_fit_never_exceeds(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert text_width(fitted) <= width
    assert '\n' not in fitted
    if text.isascii() and text.isprintable() and len(text) <= width:
        assert fitted == text
