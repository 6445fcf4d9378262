"""A table of the classes for spreadsheets: a row a class, in class order."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlcls.errors import DataError
from mlcls.fileio import write_atomic

from .prediction_files import quoted
from .result import EvaluationResult

_PREFIX, _SUFFIX = 'multi-label/', '_classwise'


def write_per_class(
    path: str | os.PathLike[str],
    result: EvaluationResult,
    thresholds: Sequence[float] | None = None,
    train_counts: Sequence[int] | None = None,
) -> None:
    """Write ``per_class.csv``, whole or not at all.

    Columns: ``class``; ``positives``, ``negatives`` and ``unknown``, numbers of images; ``train_positives`` where
    known; ``threshold``, the one in use, where known; then every column of ``result.per_class`` under its name without
    ``multi-label/`` and ``_classwise``, in the units of its metric (percent for measures). Where two would have one
    name, the later keeps its whole one. A cell is empty where a value is not defined.

    Args:
        path: The file; its folder is made if missing.
        result: Of an evaluation of C classes.
        thresholds: C thresholds, in class order.
        train_counts: Positive images of each class in training, (C,).

    Raises:
        DataError: Another number of thresholds or counts than of classes.
        OSError: The file cannot be written; an older one is untouched.
    """
    columns = _columns(result, thresholds, train_counts)
    for name, values in columns.items():
        if len(values) != len(result.classes):
            raise DataError(f"{path}: {len(values)} values of '{name}' do not fit {len(result.classes)} classes")
    lines = [','.join(map(quoted, ['class', *columns]))]
    lines += [','.join([quoted(name), *cells]) for name, *cells in zip(result.classes, *columns.values(), strict=True)]
    text = ''.join(f'{line}\n' for line in lines).encode('utf-8', 'surrogatepass')
    write_atomic(path, lambda file: file.write(text))


def _columns(
    result: EvaluationResult, thresholds: Sequence[float] | None, train_counts: Sequence[int] | None
) -> dict[str, list[str]]:
    known = zip(result.positives, result.unknown, strict=True)
    columns: Mapping[str, list[Any]] = {
        'positives': result.positives,
        'negatives': [result.num_images - positive - unknown for positive, unknown in known],
        'unknown': result.unknown,
    }
    found = {name: [str(int(value)) for value in values] for name, values in columns.items()}
    if train_counts is not None:
        found['train_positives'] = [str(int(value)) for value in train_counts]
    if thresholds is not None:
        found['threshold'] = [str(np.float32(value)) for value in thresholds]
    for name, values in result.per_class.items():
        short = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        column = name.removesuffix(_SUFFIX) if short in found or short == 'class' else short
        found[column] = [f'{value:.12g}' if math.isfinite(value) else '' for value in values]
    return found
