"""The result as text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.evaluation import EvaluationResult, Evaluator, format_table
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


def test_classic_table() -> None:
    found = result(CLASSIC, ['cat', 'dog', 'unicorn'])
    lines = format_table(found).split('\n')
    assert lines[0].split() == ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'mAP']
    assert lines[1].split()[-1] == f'{found.metrics["multi-label/mAP"]:.2f}'
    assert lines[1].split()[2] == f'{found.metrics["multi-label/CF1"]:.2f}'
    assert 'multi-label/macro_F1' in lines[2]
    header = next(line for line in lines if line.startswith('class'))
    assert header.split() == ['class', 'images', 'precision', 'recall', 'F1', 'AP']
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(('cat', 'dog', 'unicorn '))}
    assert rows['cat'] == [
        str(found.positives[0]),
        *(f'{found.per_class[f"multi-label/{name}_classwise"][0]:.2f}' for name in ('P', 'R', 'F1', 'AP')),
    ]
    assert rows['unicorn'][0] == '0' and rows['unicorn'][-1] == '-'
    assert lines[-2] == 'Classes without a known positive image: 1 of 3; left out of mAP; count as 0 in CR'
    assert lines[-1] == 'unicorn'
    assert 'ThresholdMetric: score >= 0.5' in lines
    assert len({len(line) for line in lines if line.startswith(('class', 'cat', 'dog', 'unicorn '))}) == 1, 'aligned'


def test_absent_classes_that_count() -> None:
    text = format_table(result({'type': 'AveragePrecision', 'absent': 'zero'}, ['cat', 'unicorn']))
    assert 'count as 0 in mAP' in text and 'in CR' not in text


@pytest.mark.parametrize(
    ('metrics', 'headline', 'columns'),
    [
        ([{'type': 'AveragePrecision'}], ['mAP'], ['AP']),
        ([{'type': 'ThresholdMetric'}], ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1'], ['precision', 'recall', 'F1']),
        ([{'type': 'AveragePrecision', 'average': None}], [], ['AP']),
        ([{'type': 'MultiLabelMetric', 'items': ['recall']}], [], ['recall']),
        ([{'type': 'ThresholdMetric', 'topk': 1}], [], ['precision', 'recall', 'F1']),
    ],
)
def test_some_metrics_alone(metrics: Any, headline: list[str], columns: list[str]) -> None:
    found = result(metrics, ['cat', 'dog', 'unicorn'])
    lines = format_table(found).split('\n')
    assert next(line for line in lines if line.startswith('class')).split() == ['class', 'images', *columns]
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
    found = result(metrics, ['cat', 'dog', 'unicorn'])
    row = next(line for line in format_table(found).split('\n') if line.startswith('cat')).split()
    assert row[2] == f'{found.per_class["multi-label/P_classwise"][0]:.2f}'
    found = result(metrics[:3], ['cat', 'dog', 'unicorn'])
    row = next(line for line in format_table(found).split('\n') if line.startswith('cat')).split()
    assert row[2] == f'{found.per_class["multi-label/precision_classwise"][0]:.2f}'


def test_the_first_metric_is_shown() -> None:
    found = result(
        [{'type': 'ThresholdMetric', 'thr': 0.2}, {'type': 'ThresholdMetric', 'thr': 0.8, 'prefix': 'high'}],
        ['cat', 'dog'],
    )
    lines = format_table(found).split('\n')
    assert lines[1].split()[0] == f'{found.metrics["multi-label/CP"]:.2f}'
    row = next(line for line in lines if line.startswith('cat')).split()
    assert row[2] == f'{found.per_class["multi-label/P_classwise"][0]:.2f}'


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
    found = EvaluationResult(
        **{
            **{
                name: getattr(found, name)
                for name in ('metrics', 'per_class', 'scores', 'targets', 'classes', 'num_images', 'protocol')
            },
            'absent': tuple(classes),
        }
    )
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
