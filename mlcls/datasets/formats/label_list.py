"""CSV files with a column of label lists: one row an image, one cell with the names of all its classes.

::

    filename,labels
    a.jpg,cat;dog
    b.jpg,"['cat', 'dog']"
    c.jpg,

A cell is, in this order: nothing (every class is absent); the name of a class that was given; a JSON or Python list of
strings; names between separators. The separator is ``|`` or ``;`` if one of them occurs in the column, else the comma;
where both occur, or names are separated by spaces, it must be said. No name has a special meaning: ``N/A``, ``None``
or ``nan`` are names of classes.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache

from mlcls.errors import DataError
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .csv import CELLS
from .files import shown
from .head import Head
from .named import NamedBuilder
from .table import PATH_COLUMNS, SPLIT_COLUMN, Table, plain_name, split_head

#: Names by which the column of labels is recognised, as `plain_name` writes them.
LABEL_COLUMNS = frozenset(
    f'{stem}{ending}'
    for stem in ('label', 'tag', 'class', 'classname', 'concept', 'attribute', 'keyword', 'target', 'gtlabel', 'object')
    for ending in ('', 's', 'es')
) | {'category', 'categories', 'categoryname', 'categorynames', 'labelname', 'labelnames', 'groundtruth', 'genres'}
_SEPARATORS = ('|', ';', ',')
_QUOTED = r""" '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" """
_PYTHON_LIST = re.compile(rf'\[\s*(?:{_QUOTED})(?:\s*,\s*(?:{_QUOTED}))*\s*,?\s*\]', re.VERBOSE | re.DOTALL)
#: Different cells of which what they say is remembered: most columns have few.
_KEPT = 1 << 14
_INTEGER = re.compile(r'[+-]?[0-9]+')
_NUMBER = re.compile(r'[+-]?[0-9]+(\.[0-9]*)?')


def read_label_list(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
) -> Annotations:
    """Read a CSV file with a column of label lists.

    Args:
        path: The file; its first row names the columns.
        classes: Class names; a label that is none of them is an error. If None, the labels that occur, sorted. If all
            labels of the file are integers and no class is called so, they are ids in this list.
        split: Take only the rows whose ``split`` column says this.
        path_column: Name of the column of image paths; recognised by itself if it has a usual name.
        label_column: Name of the column of labels; recognised by itself if it has a usual name.
        separator: What stands between the labels of a cell; ``' '`` is any white space; ``''`` takes a cell as one
            label. Found by itself if None.

    Raises:
        DataError: If it cannot be used; the message names file, line and image.
    """
    table = Table(
        path, split, path_column, [label_column] if label_column else (), '; a list with commas is put in quotes'
    )
    column = _label_column(table, label_column)
    names = None if classes is None else check_classes(classes, 'classes')
    cells = _Cells(table, column, names, separator)
    cells.survey()
    if cells.numbers and names is None:
        raise DataError(
            f'{path}: the labels are numbers; give the names of their classes: classes=[...] or '
            "classes='classes.txt' (one name a line)"
        )
    if cells.integers and names is not None:
        return _read_ids(table, column, cells, names)
    builder = NamedBuilder(path, names, 'line')
    builder.notes += cells.notes()
    for line, img_path, row in table.rows():
        builder.add(line, img_path, builder.check_names(cells.labels(row[column]), line, img_path))
    return builder.build()


def _read_ids(table: Table, column: int, cells: _Cells, names: tuple[str, ...]) -> Annotations:
    builder = AnnotationsBuilder(table.path, names, 'line')
    for line, img_path, row in table.rows():
        ids = [int(label) for label in cells.labels(row[column])]
        builder.add(line, img_path, builder.check_ids(ids, line, img_path, 'the label list'))
    return builder.build()


def _label_column(table: Table, name: str | None) -> int:
    if name is not None:
        return table.column(name)
    others = {table.images, table.splits}
    found = [c for c, title in enumerate(table.header) if c not in others and plain_name(title) in LABEL_COLUMNS]
    if not found:
        raise DataError(
            f'{table.path}: no column is recognised as the labels among {shown(table.header)}; '
            "say which one with label_column='...'"
        )
    if len(found) > 1:
        names = ', '.join(table.header[column] for column in found)
        raise DataError(f"{table.path}: several columns look like labels ({names}); say which with label_column='...'")
    return found[0]


class _CellError(ValueError):
    """What is wrong with a cell."""


class _Cells:
    """How the cells of a column of labels are written, and the labels in one.

    Args:
        table: The file.
        column: Number of the column.
        classes: Class names, if given.
        separator: As given to the reader.
    """

    def __init__(self, table: Table, column: int, classes: Sequence[str] | None, separator: str | None) -> None:
        self.table, self.column, self.separator = table, column, separator
        self.classes = frozenset(classes or ())
        #: Whether all labels are numbers, or even integers, and none of them is the name of a class.
        self.numbers = self.integers = False
        self._many_words: set[str] = set()
        #: The labels in a cell, once `survey` has been called.
        self.labels = lru_cache(_KEPT)(self._split)

    def survey(self) -> None:
        """Read the column once, for what can only be known from all of it.

        Raises:
            DataError: If two separators are possible, or a list cannot be read.
        """
        first: dict[str, int] = {}
        seen: set[str] = set()
        numbers: bool | None = None
        integers = True
        for line, img_path, row in self.table.rows():
            cell = row[self.column].strip()
            if not cell or cell in seen:
                continue
            if len(seen) < _KEPT:
                seen.add(cell)
            try:
                listed = self._whole(cell)
            except _CellError as error:
                raise DataError(f"{self.table.path}, line {line} (image '{img_path}'): {error}") from None
            for mark in _SEPARATORS if listed is None else ():
                if mark in cell:
                    first.setdefault(mark, line)
            if numbers is not False and (labels := self._words(cell) if listed is None else listed):
                numbers = all(_NUMBER.fullmatch(label) and label not in self.classes for label in labels)
                integers = integers and all(map(_INTEGER.fullmatch, labels))
        self.numbers, self.integers = bool(numbers), bool(numbers) and integers
        if self.separator is None:
            self.separator = self._choose(first)
        if (
            not self.separator
            and not self.classes
            and len({word for cell in seen for word in cell.split()}) < len(seen)
        ):
            self._many_words = {cell for cell in seen if ' ' in cell and self._whole(cell) is None}

    def _split(self, cell: str) -> tuple[str, ...]:
        cell = cell.strip()
        whole = self._whole(cell)
        if whole is not None:
            return tuple(whole)
        if not self.separator:
            return (cell,) if cell else ()
        parts = cell.split() if self.separator.isspace() else cell.split(self.separator)
        return tuple(part.strip() for part in parts if part.strip())

    def notes(self) -> list[str]:
        """What should be said about the column."""
        if not self._many_words:
            return []
        return [
            f"{self.table.path}: labels such as '{min(self._many_words)}' are taken as one name each; if the words are "
            "labels of their own, give separator=' '"
        ]

    def _choose(self, first: dict[str, int]) -> str:
        strong = [mark for mark in _SEPARATORS[:2] if mark in first]
        if len(strong) == 2:
            places = ' and '.join(f"'{mark}' (line {first[mark]})" for mark in strong)
            raise DataError(
                f'{self.table.path}: labels are separated by {places}; say which one separates them with '
                "separator='...'"
            )
        return strong[0] if strong else ',' if ',' in first else ''

    def _whole(self, cell: str) -> list[str] | None:
        """The labels of a cell that is one class name or a list; None if it must be split."""
        if cell in self.classes:
            return [cell]
        if not (cell.startswith('[') and cell.endswith(']')):
            return None
        listed = _parse_list(cell)
        if listed is None:
            raise _CellError(
                f'{shown(cell)} is neither a JSON nor a Python list; names are quoted and separated by commas, as in '
                "['cat', 'dog']"
            )
        for label in listed:
            if isinstance(label, bool) or not isinstance(label, (str, int)):
                raise _CellError(f'the label list contains {shown(label)}; a label is the name of a class')
        return [str(label) for label in listed]

    def _words(self, cell: str) -> list[str]:
        marks = r'[\s|;,]+' + (f'|{re.escape(self.separator)}' if self.separator else '')
        return [word for word in re.split(marks, cell) if word]


def _parse_list(cell: str) -> list[object] | None:
    try:
        return list(json.loads(cell))
    except (ValueError, RecursionError):
        pass
    # Not ast.literal_eval of the whole: it reads ['cat' 'dog'], as numpy writes two names, as one name 'catdog'.
    if not _PYTHON_LIST.fullmatch(cell):
        return None
    try:
        return list(ast.literal_eval(cell))
    except (ValueError, SyntaxError):
        return None


def recognise(head: Head) -> str:
    """Why a file looks like this format and not like one with a column for every class, or nothing."""
    if head.extension not in ('.csv', '.tsv'):
        return ''
    rows = split_head(head.lines)
    if not rows:
        return ''
    titles = [plain_name(title) for title in rows[0]]
    special = [c for c, title in enumerate(titles) if title in PATH_COLUMNS or title in ('', SPLIT_COLUMN)]
    labels = [c for c, title in enumerate(titles) if title in LABEL_COLUMNS]
    classes = [c for c in range(len(titles)) if c not in special and _is_class(rows, c)]
    lists = [c for c in labels if c not in classes]
    if not lists or not any(title in PATH_COLUMNS for title in titles) or len(classes) > 1:
        return ''
    return f"a CSV file with a column '{rows[0][lists[0]].strip()}' of labels"


def _is_class(rows: list[list[str]], column: int) -> bool:
    """Whether a column could be that of a class: labels and nothing else."""
    return all(row[column].strip().lower() in CELLS for row in rows[1:])
