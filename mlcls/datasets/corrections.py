"""Corrections of single labels from a CSV file, as the report of an evaluation proposes them.

::

    image,class,label,score,kind
    photos/a.jpg,dog,1,0.97,missing
    photos/b.jpg,cat,0,0.01,wrong

Columns ``image``, ``class`` and ``label`` are needed, in any order; others are not looked at. A label is 1 (present),
0 (absent) or -1 (unknown).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations, LabelMatrix

from .formats.csv import CELLS
from .formats.files import shown
from .formats.table import Table

COLUMNS = ('image', 'class', 'label')
#: Longest list of names in which a near one is looked for: that is slow.
_MAX_NAMES = 5000
#: What a label of each value is called.
_WORDS = {PRESENT: 'present', ABSENT: 'absent', UNKNOWN: 'unknown'}


class Correction(NamedTuple):
    """One row of a file: what the label of an image and a class shall be, and the line on which it stands."""

    image: str
    class_name: str
    label: int
    line: int


@dataclass(frozen=True, eq=False)
class Corrected:
    """What corrections made of annotations.

    Args:
        annotations: With the corrected labels, and a note that counts them.
        changed: Number of labels that changed.
        same: Number of rows that ask for a label that was there already.
        repeated: Number of rows that repeat another one.
    """

    annotations: Annotations
    changed: int
    same: int
    repeated: int


def read_corrections(path: str | os.PathLike[str]) -> list[Correction]:
    """Read a file of corrections.

    Raises:
        DataError: If it cannot be read, a column is missing, or a cell says nothing that can be done; the message names
            the line.
    """
    table = Table(path, path_column=COLUMNS[0], taken=('split', 'Split', 'SPLIT'))
    class_column, label_column = (table.column(name) for name in COLUMNS[1:])
    found = []
    for line, _, cells in table.rows():
        image, name, cell = cells[table.images], cells[class_column].strip(), cells[label_column].strip()
        label = CELLS.get(cell.lower()) if cell else None
        if label is None:
            raise DataError(
                f'{path}, line {line}: the label is {shown(cell)}; write 1 (present), 0 (absent) or -1 (unknown)'
            )
        for what, text in zip(COLUMNS, (image.strip(), name)):
            if not text:
                raise DataError(f"{path}, line {line}: the cell of '{what}' is empty")
        found.append(Correction(image, name, label, line))
    return found


def apply_corrections(annotations: Annotations, path: str | os.PathLike[str]) -> Corrected:
    """Change labels as a file of corrections says.

    Args:
        annotations: What was read, with image paths as the file names them.
        path: The CSV file.

    Raises:
        DataError: See `read_corrections`; or a row names an image or a class that is not there, or contradicts another
            row. Nothing is changed then.
    """
    rows = read_corrections(path)
    images, classes = _numbers(annotations, rows), {name: c for c, name in enumerate(annotations.classes)}
    wanted: dict[int, Correction] = {}
    for row in rows:
        image = images.get(row.image, images.get(row.image.strip()))
        if image is None:
            raise DataError(f"{path}, line {row.line}: no image '{row.image}'{_near(row.image, annotations.img_paths)}")
        if row.class_name not in classes:
            near = did_you_mean(row.class_name, classes)
            raise DataError(f"{path}, line {row.line}: no class '{row.class_name}'{near}")
        earlier = wanted.setdefault(image * len(classes) + classes[row.class_name], row)
        if earlier.label != row.label:
            raise DataError(
                f"{path}, line {row.line}: '{row.class_name}' of image '{row.image}' is {_WORDS[row.label]} here, and "
                f'{_WORDS[earlier.label]} in line {earlier.line}'
            )
    keys = np.array(sorted(wanted), np.int64)
    values = np.array([wanted[int(key)].label for key in keys], np.int8)
    before = _labels_at(annotations.labels, keys)
    differs = values != before
    changed = int(differs.sum())
    labels = _with(annotations.labels, keys[differs], values[differs]) if changed else annotations.labels
    same = len(wanted) - changed
    repeated = len(rows) - len(wanted)
    note = _note(path, values[differs], same, repeated)
    corrected = replace(annotations, labels=labels, notes=(*annotations.notes, note))
    return Corrected(corrected, changed, same, repeated)


def _numbers(annotations: Annotations, rows: Sequence[Correction]) -> dict[str, int]:
    """Number of each image that a row names; of all images, only these are kept as strings."""
    names = {name for row in rows for name in (row.image, row.image.strip())}
    return {path: number for number, path in enumerate(annotations.img_paths) if path in names}


def _near(name: str, img_paths: Sequence[str]) -> str:
    """The end of the message about an image that is not there: one with the same file name, or a near one."""
    file_name = name.strip().rsplit('/', 1)[-1]
    same = [path for path in img_paths if path.rsplit('/', 1)[-1] == file_name]
    if len(same) == 1:
        return f"; did you mean '{same[0]}'?"
    near = did_you_mean(name, same or list(img_paths[:_MAX_NAMES]))
    if 'did you mean' in near:
        return near
    return f' among the {len(img_paths)} of the annotations, whose first is {shown(img_paths[0])}'


def _keys(labels: LabelMatrix) -> np.ndarray:
    """``row * C + class`` of each stored entry, int64."""
    rows = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))
    return rows * labels.num_classes + labels.indices


def _labels_at(labels: LabelMatrix, keys: np.ndarray) -> np.ndarray:
    """Labels of the given pairs (ascending ``row * C + class``), int8."""
    found = np.full(len(keys), labels.default, np.int8)
    if not len(keys):
        return found
    stored = _keys(labels)
    place = np.minimum(np.searchsorted(keys, stored), len(keys) - 1)
    hit = keys[place] == stored
    found[place[hit]] = labels.values[hit]
    return found


def _with(labels: LabelMatrix, keys: np.ndarray, values: np.ndarray) -> LabelMatrix:
    """The labels with some replaced; entries stay in their order, new ones come last in their row."""
    stored = _keys(labels)
    kept = ~np.isin(stored, keys)
    added = values != labels.default
    every = np.concatenate([stored[kept], keys[added]])
    marks = np.concatenate([labels.values[kept], values[added]])
    rows = every // labels.num_classes
    order = np.argsort(rows, kind='stable')
    indptr = np.zeros(len(labels) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(labels)), out=indptr[1:])
    indices = (every[order] % labels.num_classes).astype(np.int32)
    return LabelMatrix(indptr, indices, marks[order].astype(np.int8), labels.num_classes, labels.default)


def _note(path: str | os.PathLike[str], values: np.ndarray, same: int, repeated: int) -> str:
    counts = Counter(values.tolist())
    kinds = ', '.join(f'{counts[value]} now {word}' for value, word in _WORDS.items() if counts[value])
    text = f'{path}: {len(values)} label{"" if len(values) == 1 else "s"} corrected' + (f' ({kinds})' if kinds else '')
    if same:
        text += f'; {same} row{" changes" if same == 1 else "s change"} nothing'
    if repeated:
        text += f'; {repeated} repeated row{"" if repeated == 1 else "s"}'
    return text
