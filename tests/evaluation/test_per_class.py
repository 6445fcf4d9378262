"""The table of the classes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from mlcls.errors import DataError
from mlcls.evaluation import EvaluationResult
from mlcls.evaluation.per_class import write_per_class

ODD = 'a "cat", or\nnot'
NOT_UTF8 = b'\xff'.decode('utf-8', 'surrogateescape')


def result() -> EvaluationResult:
    return EvaluationResult(
        metrics={},
        per_class={
            'multi-label/AP_classwise': [61.7283945061728, float('nan'), 100.0],
            'multi-label/P_classwise': [50.0, 0.0, 25.0],
            'at_0.5/P_classwise': [49.0, 1.0, 24.0],
            'multi-label/threshold_classwise': [0.25, 0.5, 0.75],
            'multi-label/class_classwise': [1.0, 2.0, 3.0],
        },
        scores=torch.zeros(4, 3),
        targets=torch.tensor([[1, -1, 0], [1, -1, 0], [0, -1, 1], [-1, 0, 1]], dtype=torch.int8),
        classes=('dog', ODD, NOT_UTF8),
        num_images=4,
    )


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline='', encoding='utf-8', errors='surrogatepass') as file:
        return list(csv.DictReader(file))


def test_all_columns_in_class_order(tmp_path: Path) -> None:
    write_per_class(tmp_path / 'new/per_class.csv', result(), (0.1, 0.5, 1.0), [7, 0, 9])
    rows = read(tmp_path / 'new/per_class.csv')
    assert list(rows[0]) == [
        'class', 'positives', 'negatives', 'unknown', 'train_positives', 'threshold', 'AP', 'P', 'at_0.5/P',
        'multi-label/threshold', 'multi-label/class',
    ]  # fmt: skip
    assert [row['class'] for row in rows] == ['dog', ODD, NOT_UTF8]
    assert [(row['positives'], row['negatives'], row['unknown']) for row in rows] == [
        ('2', '1', '1'),
        ('0', '1', '3'),
        ('2', '2', '0'),
    ]
    assert [row['AP'] for row in rows] == ['61.7283945062', '', '100']  # a value that is not defined is no number
    assert [row['threshold'] for row in rows] == ['0.1', '0.5', '1.0']  # the one in use, not the one of the metric
    assert [row['multi-label/threshold'] for row in rows] == ['0.25', '0.5', '0.75']
    assert [row['train_positives'] for row in rows] == ['7', '0', '9']


def test_what_is_not_known_has_no_column(tmp_path: Path) -> None:
    write_per_class(tmp_path / 'per_class.csv', result())
    rows = read(tmp_path / 'per_class.csv')
    assert 'train_positives' not in rows[0] and [row['threshold'] for row in rows] == ['0.25', '0.5', '0.75']


def test_values_of_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 values of 'threshold' do not fit 3 classes"):
        write_per_class(tmp_path / 'per_class.csv', result(), (0.1, 0.5))
    with pytest.raises(DataError, match="1 values of 'train_positives' do not fit 3 classes"):
        write_per_class(tmp_path / 'per_class.csv', result(), None, [3])
    assert not list(tmp_path.iterdir())
