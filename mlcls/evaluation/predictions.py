"""Files of predictions: scores, labels and names of the images of an evaluation, as CSV, JSON lines or NumPy's npz.

``.csv`` opens in a spreadsheet. The columns, a row an image: ``image``; a score for each class, under the name of the
class; its label, under ``label:<class>`` (1, 0, or -1 where it is not known); where thresholds are known, whether it
was decided, 1 or 0, under ``decision:<class>>=<threshold>``; where it is known, ``data_hash``, the same in every row.

``.jsonl`` has one JSON object a line. The first holds ``format``, ``version``, ``dtype``, ``num_images``, ``classes``,
``thresholds`` and ``data_hash``; each of the others an image: ``image``, ``scores`` and ``labels`` in the order of the
classes and, where thresholds are known, ``decided``, the names of the decided classes.

``.npz`` holds the arrays ``format``, ``scores`` (N, C), ``targets`` int8 (N, C), ``names``, ``classes``, ``data_hash``
and, where known, ``thresholds``; ``numpy.load`` reads them without ``allow_pickle``.

Scores are written with the nine digits that give back a float32 exactly. Names may hold anything; what is no Unicode
text (half surrogates, as Python spells names of files that are not UTF-8) is written as it is in Python's
``surrogatepass``. Decisions are written for people and are not read back.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlcls.errors import DataError, did_you_mean

from .prediction_files import FORMATS, Table
from .result import EvaluationResult

#: How far a score may leave [0, 1]: what was rounded to a half type may, a logit does.
_SLACK = 0.01
_DTYPES = (torch.float16, torch.float32)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about N images of C classes, and what is known to be true.

    Args:
        scores: float32 or float16 (N, C), probabilities; calibrated, if the thresholds are for calibrated scores.
        targets: int8 (N, C) of 1, 0 and -1 (not known).
        names: N image names, as in the annotations.
        classes: C class names.
        thresholds: C thresholds in [0, 1], by which labels were decided (``score >= threshold``), as float32; None if
            there are none.
        data_hash: Of the data, 16 hexadecimal digits (see ``mlcls.datasets.fingerprint``); empty if not known.

    Raises:
        DataError: The parts do not fit together, a score is not finite or no probability, or a label is another.
    """

    scores: torch.Tensor
    targets: torch.Tensor
    names: Sequence[str]
    classes: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None
    data_hash: str = ''

    def __post_init__(self) -> None:
        object.__setattr__(self, 'classes', tuple(self.classes))
        if self.thresholds is not None:
            object.__setattr__(self, 'thresholds', tuple(float(np.float32(value)) for value in self.thresholds))
        _check_counts(self)
        _check_values(self)

    def __len__(self) -> int:
        return len(self.scores)


def _check_counts(found: Predictions) -> None:
    shape = tuple(found.scores.shape)
    if len(shape) != 2 or tuple(found.targets.shape) != shape:
        raise DataError(
            f'predictions: scores and targets must both be (images, classes), not {shape} and '
            f'{tuple(found.targets.shape)}'
        )
    if found.scores.dtype not in _DTYPES or found.targets.dtype != torch.int8:
        raise DataError(
            'predictions: scores must be float32 or float16 and targets int8, not '
            f'{_name(found.scores.dtype)} and {_name(found.targets.dtype)}'
        )
    if not all(shape):
        raise DataError(f'predictions: {shape[0]} images of {shape[1]} classes: there is nothing to keep')
    for what, count, size in (
        ('image names', len(found.names), shape[0]),
        ('class names', len(found.classes), shape[1]),
        ('thresholds', shape[1] if found.thresholds is None else len(found.thresholds), shape[1]),
    ):
        if count != size:
            raise DataError(
                f'predictions: {count} {what} do not fit scores of {shape[0]} images and {shape[1]} classes'
            )
    twice = [name for name, count in Counter(found.classes).items() if count > 1]
    if twice:
        raise DataError(f"predictions: two classes are called '{twice[0]}'")
    if not re.fullmatch('([0-9a-f]{16})?', found.data_hash):
        raise DataError(f"predictions: the data hash must be 16 hexadecimal digits, not '{found.data_hash}'")


def _check_values(found: Predictions) -> None:
    """Name the first cell that cannot be."""
    low, high = (float(value) for value in found.scores.aminmax())  # NaN where any is
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        wrong = ~((found.scores >= -_SLACK) & (found.scores <= 1 + _SLACK))
        cell = wrong.nonzero()[0]
        raise DataError(
            f'predictions: {_cell(found, cell)}: the score is {float(found.scores[tuple(cell)]):g}, but must be a '
            'probability in [0, 1]'
        )
    low, high = (int(value) for value in found.targets.aminmax())
    if low < -1 or high > 1:
        cell = ((found.targets < -1) | (found.targets > 1)).nonzero()[0]
        raise DataError(
            f'predictions: {_cell(found, cell)}: the label is {int(found.targets[tuple(cell)])}, but must be 1, 0 or '
            '-1 (unknown)'
        )
    for name, value in zip(found.classes, found.thresholds or ()):
        if not 0 <= value <= 1:
            raise DataError(f"predictions: the threshold of class '{name}' is {value:g}, but must be in [0, 1]")


def _cell(found: Predictions, cell: torch.Tensor) -> str:
    row, column = (int(number) for number in cell)
    return f"image {row + 1} of {len(found)} ('{found.names[row]}'), class '{found.classes[column]}'"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


def write_predictions(path: str | os.PathLike[str], predictions: Predictions) -> None:
    """Write a file of predictions, whole or not at all; its format is told by the ending.

    Args:
        path: A ``.csv``, ``.jsonl`` or ``.npz`` file; its folder is made if missing.
        predictions: What to write. Rows are read in blocks, so that scores may lie in a mapped file.

    Raises:
        DataError: Another ending, or what the format cannot hold.
        OSError: It cannot be written; an older file is untouched.
    """
    write = FORMATS[_ending(path)].write
    write(
        Path(path),
        Table(
            predictions.scores.numpy(),
            predictions.targets.numpy(),
            predictions.names,
            predictions.classes,
            predictions.thresholds,
            predictions.data_hash,
        ),
    )


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read a file that ``write_predictions`` wrote.

    Args:
        path: The file.

    Returns:
        What was written; of a CSV file float16 scores come as float32 of the same value.

    Raises:
        DataError: No such file, another ending, a damaged file, or a score or label that cannot be; the message names
            the file and, where there is one, the row and the column.
    """
    ending = _ending(path)
    if not Path(path).is_file():
        raise DataError(f'{path}: no such file of predictions')
    table = FORMATS[ending].read(Path(path))
    try:
        return Predictions(
            torch.from_numpy(table.scores),
            torch.from_numpy(table.targets),
            table.names,
            tuple(table.classes),
            None if table.thresholds is None else tuple(table.thresholds),
            table.data_hash,
        )
    except DataError as error:
        raise DataError(f'{path}: {str(error).removeprefix("predictions: ")}') from None


def predictions_of(
    result: EvaluationResult, names: Sequence[str], thresholds: Sequence[float] | None = None, data_hash: str = ''
) -> Predictions:
    """The predictions of an evaluation.

    Args:
        result: Of the evaluation.
        names: Name of every image of the data set (``dataset.image_names``); of those left out none is taken.
        thresholds: In use, in class order.
        data_hash: ``dataset.fingerprint``.

    Raises:
        DataError: The names are those of another data set (their number does not fit).
    """
    left_out = set(result.left_out)
    if len(names) != result.num_images + len(left_out):
        raise DataError(
            f'predictions: {len(names)} image names do not fit {result.num_images} images that were evaluated and '
            f'{len(left_out)} left out'
        )
    kept = names if not left_out else [name for number, name in enumerate(names) if number not in left_out]
    limits = None if thresholds is None else tuple(thresholds)
    return Predictions(result.scores, result.targets, kept, result.classes, limits, data_hash)


def _ending(path: str | os.PathLike[str]) -> str:
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise DataError(
            f"{path}: a file of predictions ends in {', '.join(FORMATS)}, not '{ending}'"
            + did_you_mean(ending, FORMATS)
        )
    return ending
