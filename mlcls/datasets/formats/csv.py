"""The CSV format: one row an image, one column a class, cells 1 (present), 0 (absent), -1 or empty (unknown).

::

    filename,split,person,car,dog
    a.jpg,train,1,0,
    b.jpg,val,0,0,1

Comma, semicolon and tab separate columns, whichever the header uses most.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import shown
from .head import Head
from .table import Table

#: What an empty cell may say.
EMPTY = {'unknown': UNKNOWN, 'absent': ABSENT}
#: Columns that sheets have beside classes.
NO_CLASSES = ('id', 'index', 'no', 'nr', 'notes', 'note', 'comment', 'comments', 'width', 'height', 'date', 'source')
#: What a cell says.
CELLS = {
    '1': PRESENT,
    '0': ABSENT,
    '-1': UNKNOWN,
    '': UNKNOWN,
    '1.0': PRESENT,
    '0.0': ABSENT,
    '-1.0': UNKNOWN,
    'true': PRESENT,
    'false': ABSENT,
    'True': PRESENT,
    'False': ABSENT,
    'TRUE': PRESENT,
    'FALSE': ABSENT,
    'yes': PRESENT,
    'no': ABSENT,
}


def read_csv(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    path_column: str | None = None,
    empty: str = 'unknown',
) -> Annotations:
    """Read a CSV annotation file.

    Args:
        path: The file; its first row names the columns.
        classes: Class columns to take, in this order; the others are left out. All if None.
        split: Take only the rows whose ``split`` column says this.
        path_column: Name of the column of image paths; recognised by itself if it has a usual name.
        empty: ``'unknown'`` or ``'absent'``: what an empty cell says.

    Raises:
        DataError: If it cannot be used; the message names file, line, image and column.
    """
    if empty not in EMPTY:
        raise DataError(f"{path}: option 'empty' must be 'unknown' or 'absent', got {empty!r}")
    taken = None if classes is None else check_classes(classes, 'classes')
    table = Table(path, split, path_column, taken or ())
    header = table.header
    columns = _class_columns(path, header, taken, {table.images, table.splits})
    builder = AnnotationsBuilder(path, tuple(header[column] for column in columns), 'line')
    unused = [name for column, name in enumerate(header) if column not in {table.images, table.splits, *columns}]
    if unused:
        builder.notes.append(f'{path}: columns not used: {", ".join(unused)}')
    cells = {**CELLS, '': EMPTY[empty]}
    count = sum(_add_row(builder, line, img_path, row, columns, cells) for line, img_path, row in table.rows())
    if count:
        builder.notes.append(f'{path}: {count} empty cells are taken as {empty}')
    return builder.build()


def _class_columns(
    path: str | os.PathLike[str], header: list[str], classes: tuple[str, ...] | None, other: set[int | None]
) -> list[int]:
    columns = [column for column in range(len(header)) if column not in other]
    names = [header[column] for column in columns]
    if classes is None:
        if '' in names:
            raise DataError(
                f'{path}: column {header.index("") + 1} has no name; leave it out if it is a row index (as '
                'pandas writes), or say which columns are classes with classes=[...]'
            )
        check_classes(names, f'{path}, header')
        return columns
    for name in classes:
        if name not in names:
            raise DataError(f"{path}: has no column for class '{name}'{did_you_mean(name, names)}")
        if names.count(name) > 1:
            raise DataError(f"{path}: {names.count(name)} columns are called '{name}'")
    return [columns[names.index(name)] for name in classes]


def _add_row(
    builder: AnnotationsBuilder, line: int, img_path: str, row: list[str], columns: list[int], cells: dict[str, int]
) -> int:
    """Add one image; returns the number of empty cells."""
    values = [cells.get(row[column]) for column in columns]
    if None in values:
        values = [cells.get(row[column].strip().lower()) for column in columns]
    if None in values:
        number = values.index(None)
        cell = shown(row[columns[number]])
        raise DataError(
            f"{builder.where(line, img_path)}, column '{builder.classes[number]}': {cell} is not a label; "
            f'write 1 (present), 0 (absent), or -1 or nothing (unknown){_no_class(builder, number)}'
        )
    present = [number for number, value in enumerate(values) if value == PRESENT]
    unknown = [number for number, value in enumerate(values) if value == UNKNOWN]
    builder.add(line, img_path, present, unknown)
    return sum(not row[column].strip() for column in columns)


def _no_class(builder: AnnotationsBuilder, number: int) -> str:
    name = builder.classes[number].lower()
    if name in NO_CLASSES:
        return f"; if '{builder.classes[number]}' is no class, leave the column out or list the classes"
    return ''


def recognise(head: Head) -> str:
    """Why a file looks like this format, or nothing."""
    return f"its extension '{head.extension}'" if head.extension in ('.csv', '.tsv') else ''
