"""What the CSV formats share: rows, and the columns of image paths and splits."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mlcls.errors import DataError, SplitError, did_you_mean

from .files import read_lines, shown

#: Names by which the column of image paths is recognised, as `plain_name` writes them.
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


class Table:
    """A CSV file with a column of image paths and perhaps one of splits.

    Comma, semicolon and tab separate columns, whichever the header uses most. Cells may be quoted.

    Args:
        path: The file; its first row names the columns.
        split: Take only the rows whose ``split`` column says this.
        path_column: Name of the column of image paths; recognised by itself if it has a usual name.
        taken: Names that are no special columns even if they are spelt so.
        hint: End of the message about rows of another length.

    Raises:
        DataError: If the columns cannot be told.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        path_column: str | None = None,
        taken: Sequence[str] = (),
        hint: str = '',
    ) -> None:
        self.path, self.split, self.hint = path, split, hint
        names = [name.strip() for name in next(_rows(path))[1]]
        self._width = len(names)
        while names and not names[-1]:  # as spreadsheets leave behind
            names.pop()
        #: Names of the columns.
        self.header = names
        #: Number of the column of image paths.
        self.images = self._path_column(path_column, taken)
        #: Number of the column of splits, if there is one.
        self.splits = next((c for c, t in enumerate(self.header) if t.lower() == SPLIT_COLUMN and t not in taken), None)

    def rows(self) -> Iterator[tuple[int, str, list[str]]]:
        """Line (on which it ends), image path and cells of each row of the split; blank rows are left out.

        Raises:
            DataError: If a row has too few or too many cells, or no row belongs to the split.
        """
        found: Counter[str] = Counter()
        rows = _rows(self.path)
        next(rows)
        for line, cells in rows:
            if len(cells) != self._width:
                count = f'has {len(cells)} cells, the header has {self._width}'
                raise DataError(f'{self.path}, line {line}: {count}{self.hint}')
            if any(cell.strip() for cell in cells[len(self.header) :]):
                raise DataError(f'{self.path}, line {line}: has a cell in a column without a name')
            if self.splits is not None:
                name = cells[self.splits].strip()
                found[name] += 1
                if self.split is not None and name != self.split:
                    continue
            yield line, cells[self.images].strip(), cells
        self._check_split(found)

    def column(self, name: str) -> int:
        """The number of the column of a name.

        Raises:
            DataError: If none or several have it.
        """
        if name not in self.header:
            raise DataError(f"{self.path}: has no column '{name}'{did_you_mean(name, self.header)}")
        if self.header.count(name) > 1:
            raise DataError(f"{self.path}: {self.header.count(name)} columns are called '{name}'")
        return self.header.index(name)

    def _path_column(self, name: str | None, taken: Sequence[str]) -> int:
        if name is not None:
            return self.column(name)
        found = [c for c, title in enumerate(self.header) if title not in taken and plain_name(title) in PATH_COLUMNS]
        if not found:
            raise DataError(
                f'{self.path}: no column is recognised as the image path among {shown(self.header)}; the first row '
                "must name the columns; say which one with path_column='...'"
            )
        if len(found) > 1:
            names = ', '.join(self.header[column] for column in found)
            raise DataError(
                f"{self.path}: several columns look like the image path ({names}); say which with path_column='...'"
            )
        return found[0]

    def _check_split(self, found: Counter[str]) -> None:
        shares = ', '.join(f"'{name}' ({count})" for name, count in found.most_common(12))
        if self.split is None:
            if len(found) > 1:
                raise SplitError(
                    f"{self.path}: has a '{SPLIT_COLUMN}' column with {shares}; say which one with split='...'", found
                )
        elif self.splits is None:
            raise DataError(f"{self.path}: split='{self.split}' was asked for, but there is no '{SPLIT_COLUMN}' column")
        elif self.split not in found:
            near = did_you_mean(self.split, found)
            near = near if 'did you mean' in near else ''
            raise DataError(f"{self.path}: no row has split '{self.split}'; there are {shares or 'no rows'}{near}")


def plain_name(title: str) -> str:
    """A column's name in lower case, without ``_``, ``-`` and spaces."""
    return re.sub(r'[-_ ]', '', title).lower()


def split_head(lines: Sequence[str]) -> list[list[str]]:
    """The rows of the beginning of a CSV file, with as many cells as the header; none if it is not one."""
    first = next((line for line in lines if line.strip()), '')
    try:
        rows = list(csv.reader((f'{line}\n' for line in lines), delimiter=_delimiter(first)))
    except csv.Error:
        return []
    return [row for row in rows if rows and len(row) == len(rows[0])]


def _delimiter(header: str) -> str:
    return max(',;\t', key=header.count)


def _rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the line on which each ends."""
    lines = read_lines(path)
    before, header = next((number, line) for number, line in enumerate(lines) if line.strip())
    reader = csv.reader(_chain(header, lines), delimiter=_delimiter(header), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield before + reader.line_num, row
    except csv.Error as error:
        raise DataError(f'{path}, line {before + reader.line_num}: not valid CSV: {error}') from None


def _chain(first: str, others: Iterator[str]) -> Iterator[str]:
    yield first
    yield from others
