"""The CSV format: one row an image, one column a class, cells 1 (present), 0 (absent), -1 or empty (unknown).

::

    filename,split,person,car,dog
    a.jpg,train,1,0,
    b.jpg,val,0,0,1

Comma, semicolon and tab separate columns, whichever the header uses most.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import read_file_text, shown

#: Names by which the column of image paths is recognised, in lower case without ``_``, ``-`` and spaces.
PATH_COLUMNS = frozenset(
    (
        'filename',
        'file',
        'filepath',
        'path',
        'img',
        'imgpath',
        'imgname',
        'imgfile',
        'image',
        'imagepath',
        'imagename',
        'imagefile',
        'imagefilename',
        'fname',
    )
)
SPLIT_COLUMN = 'split'
_CELLS = {
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
}


def read_csv(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    path_column: str | None = None,
) -> Annotations:
    """Read a CSV annotation file.

    Args:
        path: The file; its first row names the columns.
        classes: Class columns to take, in this order; the others are left out. All if None.
        split: Take only the rows whose ``split`` column says this.
        path_column: Name of the column of image paths; recognised by itself if it has a usual name.

    Raises:
        DataError: If it cannot be used; the message names file, line, image and column.
    """
    rows = _rows(path)
    header = [name.strip() for name in next(rows)[1]]
    taken = None if classes is None else check_classes(classes, 'classes')
    images = _path_column(path, header, path_column, taken or ())
    splits = _split_column(header, taken or ())
    columns = _class_columns(path, header, taken, {images, splits})
    builder = AnnotationsBuilder(path, tuple(header[column] for column in columns), 'line')
    unused = [name for column, name in enumerate(header) if column not in {images, splits, *columns}]
    if unused:
        builder.notes.append(f'{path}: columns not used: {", ".join(unused)}')
    found: Counter[str] = Counter()
    empty = 0
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f'{path}, line {line}: has {len(row)} cells, the header has {len(header)}')
        if splits is not None:
            found[row[splits].strip()] += 1
            if split is not None and row[splits].strip() != split:
                continue
        empty += _add_row(builder, line, row[images].strip(), row, columns)
    _check_split(path, split, splits, found)
    if empty:
        builder.notes.append(f'{path}: {empty} empty cells are taken as unknown')
    return builder.build()


def _rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the line on which each ends."""
    text = read_file_text(path)
    header = text.lstrip().split('\n', 1)[0]
    delimiter = max(',;\t', key=header.count)
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f'{path}, line {reader.line_num}: not valid CSV: {error}') from None


def _path_column(path: str | os.PathLike[str], header: list[str], name: str | None, classes: Sequence[str]) -> int:
    if name is not None:
        if name not in header:
            raise DataError(f"{path}: has no column '{name}'{did_you_mean(name, header)}")
        return header.index(name)
    found = [
        column
        for column, title in enumerate(header)
        if title not in classes and re.sub(r'[-_ ]', '', title).lower() in PATH_COLUMNS
    ]
    if not found:
        raise DataError(
            f'{path}: no column is recognised as the image path among {shown(header)}; the first row must '
            "name the columns; say which one with path_column='...'"
        )
    if len(found) > 1:
        names = ', '.join(header[column] for column in found)
        raise DataError(f"{path}: several columns look like the image path ({names}); say which with path_column='...'")
    return found[0]


def _split_column(header: list[str], classes: Sequence[str]) -> int | None:
    for column, title in enumerate(header):
        if title.lower() == SPLIT_COLUMN and title not in classes:
            return column
    return None


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


def _add_row(builder: AnnotationsBuilder, line: int, img_path: str, row: list[str], columns: list[int]) -> int:
    """Add one image; returns the number of empty cells."""
    values = [_CELLS.get(row[column]) for column in columns]
    if None in values:
        values = [_CELLS.get(row[column].strip().lower()) for column in columns]
    if None in values:
        number = values.index(None)
        cell = shown(row[columns[number]])
        raise DataError(
            f"{builder.where(line, img_path)}, column '{builder.classes[number]}': {cell} is not a label; "
            'write 1 (present), 0 (absent), or -1 or nothing (unknown)'
        )
    present = [number for number, value in enumerate(values) if value == PRESENT]
    unknown = [number for number, value in enumerate(values) if value == UNKNOWN]
    builder.add(line, img_path, present, unknown)
    return sum(not row[column].strip() for column in columns) if unknown else 0


def _check_split(path: str | os.PathLike[str], split: str | None, column: int | None, found: Counter[str]) -> None:
    shares = ', '.join(f"'{name}' ({count})" for name, count in found.most_common(12))
    if split is None:
        if len(found) > 1:
            raise DataError(f"{path}: has a '{SPLIT_COLUMN}' column with {shares}; say which one with split='...'")
    elif column is None:
        raise DataError(f"{path}: split='{split}' was asked for, but there is no '{SPLIT_COLUMN}' column")
    elif split not in found:
        raise DataError(f"{path}: no row has split '{split}'; there are {shares or 'no rows'}{_near(split, found)}")


def _near(split: str, found: Counter[str]) -> str:
    near = did_you_mean(split, found)
    return near if 'did you mean' in near else ''
