"""The Open Images format: a CSV file with a row for each image and class that somebody (or a machine) has looked at.

::

    ImageID,Source,LabelName,Confidence
    000026e7ee790996,verification,/m/04hgtk,0
    000026e7ee790996,verification,/m/07j7r,1

Confidence 1 is a class verified to be present, 0 one verified to be absent. Every class without a row is **unknown**.
Format: https://storage.googleapis.com/openimages/web/download_v7.html
"""

from __future__ import annotations

import csv
import io
import os
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations, LabelMatrix, StringList

from .classes import check_classes, sort_classes
from .files import read_file_text, shown
from .head import Head
from .path_index import PathIndex
from .table import Table

_IMAGE, _LABEL, _CONFIDENCE = _COLUMNS = ('ImageID', 'LabelName', 'Confidence')
#: What may be done with an image and class that one row calls present and another absent, see `read_open_images`.
CONFLICTS = ('error', 'present', 'absent', 'unknown')


def read_open_images(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    class_descriptions: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    conflicts: str = 'error',
    extension: str = '.jpg',
) -> Annotations:
    """Read a file of image-level labels, as a stream: each takes a few bytes, however many there are.

    Args:
        path: The CSV file.
        classes: Classes to take, in this order, by the name in ``class_descriptions`` or the id (``'/m/04hgtk'``);
            rows of others are left out. If None, all of ``class_descriptions``, in its order; without that file, the
            ids that occur, sorted (parts of a data set may then differ: give ``classes``).
        class_descriptions: CSV file of ids and names (``/m/04hgtk,Head``), as it is given or relative to the folder of
            ``path``. A name that several ids have is followed by the id in brackets.
        threshold: For confidences between 0 and 1, which machines give: at least this is present, less is unknown,
            never absent. Without it they are errors.
        conflicts: What an image and class is that one row calls present and another absent: ``'error'``, ``'present'``,
            ``'absent'`` or ``'unknown'``.
        extension: What is appended to an image id to make its path.

    Returns:
        The images with at least one label, in the order of their first; `LabelMatrix.default` is -1.

    Raises:
        DataError: If it cannot be used; the message names file and line.
    """
    if conflicts not in CONFLICTS:
        raise DataError(f"{path}: unknown conflicts='{conflicts}'{did_you_mean(str(conflicts), CONFLICTS)}")
    if threshold is not None and not (isinstance(threshold, (int, float)) and 0 < threshold <= 1):
        raise DataError(f'{path}: threshold must be a confidence in (0, 1], got {threshold!r}')
    names = {} if class_descriptions is None else _read_descriptions(path, class_descriptions)
    classes = None if classes is None else check_classes(classes, 'classes')
    columns = _columns(path, names, classes)
    reader = _Reader(path, columns, threshold, strict=classes is None)
    reader.read()
    taken = tuple(classes or names.values() or reader.columns)
    paths, matrix, conflict = reader.labels(conflicts, extension)
    if conflict is not None:
        raise reader.conflict_error(*conflict)
    annotations = Annotations(taken, paths, matrix, tuple(reader.notes))
    return sort_classes(annotations, sorted(taken)) if columns is None else annotations


class _Reader:
    """Reads the rows into arrays: class and value of each, and the image of each run of rows.

    Args:
        path: The file.
        columns: Class number of each class id; None takes those that occur, as they come.
        threshold: See `read_open_images`.
        strict: Whether a class id that is not in ``columns`` is an error.
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: dict[str, int] | None, threshold: float | None, strict: bool
    ) -> None:
        self.path, self.threshold, self.strict = path, threshold, strict
        self.discover, self.columns = columns is None, dict(columns or {})
        self.notes: list[str] = []
        self._table = Table(path, path_column=_IMAGE)
        self._places = self._table.column(_LABEL), self._table.column(_CONFIDENCE)
        self._images = PathIndex()
        self._run_images, self._run_starts = array('q'), array('q')
        self._classes, self._values = array('i'), array('b')

    def read(self) -> None:
        """Read all rows."""
        label_place, confidence_place = self._places
        others = below = 0
        last, columns, plain = None, self.columns, {'1': PRESENT, '0': ABSENT}
        for line, image, cells in self._table.rows():
            # Looked up here first, since calls would take most of the time.
            column = columns.get(cells[label_place])
            if column is None and (column := self._column(cells[label_place].strip(), line, image)) is None:
                others += 1
                continue
            confidence = cells[confidence_place]
            value = plain[confidence] if confidence in plain else self._value(confidence.strip(), line, image)
            if value == UNKNOWN:
                below += 1
                continue
            if image != last:
                self._start_run(image, line)
                last = image
            self._classes.append(column)
            self._values.append(value)
        if others:
            self.notes.append(f'{self.path}: {others} rows of classes that were not asked for are left out')
        if below:
            self.notes.append(f'{self.path}: {below} rows below threshold={self.threshold:g} are taken as unknown')
        if not self._classes:
            raise DataError(f'{self.path}: has no row with a label of the classes asked for')

    def _start_run(self, image: str, line: int) -> None:
        if not image:
            raise DataError(f'{self.path}, line {line}: {_IMAGE} is empty')
        earlier = self._images.add(image)
        self._run_images.append(len(self._images) - 1 if earlier is None else earlier)
        self._run_starts.append(len(self._classes))

    def _column(self, label: str, line: int, image: str) -> int | None:
        column = self.columns.get(label)
        if column is not None:
            return column
        if self.strict and not (self.discover and label):
            what = f"the class id '{label}' is not in class_descriptions" if label else f'{_LABEL} is empty'
            raise DataError(f"{self.path}, line {line} (image '{image}'): {what}")
        return self.columns.setdefault(label, len(self.columns)) if self.discover else None

    def _value(self, confidence: str, line: int, image: str) -> int:
        """The label that a confidence says."""
        where = f"{self.path}, line {line} (image '{image}')"
        try:
            number = float(confidence)
        except ValueError:
            raise DataError(f'{where}: {_CONFIDENCE} must be a number from 0 to 1, got {shown(confidence)}') from None
        if not 0 <= number <= 1:
            raise DataError(f'{where}: {_CONFIDENCE} must lie in 0 to 1, got {confidence}')
        if number in (0, 1):
            return PRESENT if number else ABSENT
        if self.threshold is None:
            raise DataError(
                f'{where}: {_CONFIDENCE} is {confidence}, as machines give it, neither 1 (present) nor 0 (absent); '
                'with threshold=... that much and more is present and less unknown'
            )
        return PRESENT if number >= self.threshold else UNKNOWN

    def labels(self, conflicts: str, extension: str) -> tuple[StringList, LabelMatrix, tuple[str, int] | None]:
        """Image paths, labels, and image and class of the first conflict that is an error."""
        num_classes, images = len(self.columns), self._images.strings()
        run_lengths = np.diff(np.append(np.frombuffer(self._run_starts, np.int64), len(self._classes)))
        keys = np.repeat(np.frombuffer(self._run_images, np.int64), run_lengths) * num_classes
        keys += np.frombuffer(self._classes, np.int32)
        order = np.argsort(keys, kind='stable')
        keys, values = keys[order], np.frombuffer(self._values, np.int8)[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        if len(starts) < len(keys):
            repeats = len(keys) - len(starts)
            self.notes.append(f'{self.path}: {repeats} rows repeat the image and class of another; each counts once')
        keys, low, high = keys[starts], np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        in_conflict = np.flatnonzero(low != high)
        conflict = None
        if len(in_conflict) and conflicts == 'error':
            image, column = divmod(int(keys[in_conflict[0]]), num_classes)
            conflict = images[image], column
        values = low if conflicts == 'absent' else high
        if conflicts == 'unknown':
            keys, values = np.delete(keys, in_conflict), np.delete(values, in_conflict)
        indptr = np.searchsorted(keys, np.arange(len(images) + 1) * num_classes).astype(np.int64)
        empty = len(images) - len(np.unique(keys[values == PRESENT] // num_classes))
        if empty:
            self.notes.append(f'{self.path}: {empty} of {len(images)} images without a present label')
        matrix = LabelMatrix(indptr, (keys % num_classes).astype(np.int32), values, num_classes, UNKNOWN)
        return StringList(f'{image}{extension}' for image in images), matrix, conflict

    def conflict_error(self, image: str, column: int) -> DataError:
        """The message about a conflict; lines are not kept, so the file is read again to find them."""
        label = next(label for label, number in self.columns.items() if number == column)
        lines: dict[int, int] = {}
        for line, other, cells in self._table.rows():
            if other == image and cells[self._places[0]].strip() == label:
                lines.setdefault(self._value(cells[self._places[1]].strip(), line, image), line)
        return DataError(
            f"{self.path}: class '{label}' of image '{image}' is present by line {lines[PRESENT]} and absent by line "
            f"{lines[ABSENT]}; correct one, or say which counts with conflicts='present', 'absent' or 'unknown'"
        )


def _read_descriptions(path: str | os.PathLike[str], file: str | os.PathLike[str]) -> dict[str, str]:
    """Class names by class id, all different."""
    beside = Path(path).parent / file
    file = beside if beside.exists() else file
    reader = csv.reader(io.StringIO(read_file_text(file), newline=''), strict=True)
    names: dict[str, str] = {}
    try:
        for row in reader:
            where = f'{file}, line {reader.line_num}'
            if not row or (not names and row[0].strip() == 'LabelName'):
                continue
            if len(row) != 2:
                raise DataError(f'{where}: must be a class id and its name (/m/04hgtk,Head), got {shown(row)}')
            label, name = (cell.strip() for cell in row)
            if label in names:
                raise DataError(f"{where}: the class id '{label}' is given twice")
            names[label] = name
    except csv.Error as error:
        raise DataError(f'{file}, line {reader.line_num}: not valid CSV: {error}') from None
    counts = Counter(names.values())
    names = {label: name if counts[name] == 1 else f'{name} ({label})' for label, name in names.items()}
    check_classes(list(names.values()), str(file))
    return names


def _columns(
    path: str | os.PathLike[str], names: dict[str, str], classes: Sequence[str] | None
) -> dict[str, int] | None:
    """Class number of each class id that is to be taken; None if those that occur are."""
    if classes is None:
        return {label: column for column, label in enumerate(names)} if names else None
    ids = {name: label for label, name in names.items()}
    columns: dict[str, int] = {}
    for column, name in enumerate(classes):
        if name not in ids and name not in names and (names or not name.startswith('/')):
            advice = '' if names else '; without class_descriptions=..., classes are given by id (/m/04hgtk)'
            raise DataError(f"{path}: class '{name}' is none of Open Images'{did_you_mean(name, ids)}{advice}")
        label = ids.get(name, name)
        if label in columns:
            raise DataError(f"{path}: class '{name}' is asked for twice, by its name and by its id")
        columns[label] = column
    return columns


def recognise(head: Head) -> str:
    """Why a file looks like this format, or nothing."""
    header = [name.strip() for name in head.lines[0].split(',')] if head.lines else []
    return f'the columns {", ".join(_COLUMNS)}' if set(_COLUMNS) <= set(header) else ''
