"""The attributes format of CelebA: a line an image, with 1 or -1 for each attribute. Here -1 means absent.

::

    2                                        image_id,Smiling,Young
    Smiling Young                            000001.jpg,1,-1
    000001.jpg  1 -1                         000002.jpg,-1,-1
    000002.jpg -1 -1

Left, ``list_attr_celeba.txt``: the number of images, the names, the images. Right, the CSV file of the same. In both, 1
is present, **-1 absent** (in the format ``'csv'`` it is unknown) and 0 unknown. Format: Liu et al., "Deep Learning Face
Attributes in the Wild", ICCV 2015, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import read_file_text, shown
from .head import Head
from .table import Table, split_head

_VALUES = {'1': PRESENT, '-1': ABSENT, '0': UNKNOWN}
_SPLITS = {'train': '0', 'val': '1', 'test': '2'}
_PARTITION = 'list_eval_partition'
#: Name of the column of images in the CSV file.
IMAGE_COLUMN = 'image_id'

#: Line, image path and cells of each image.
Rows = Iterator[tuple[int, str, list[str]]]


def read_attributes(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    partition: str | os.PathLike[str] | None = None,
) -> Annotations:
    """Read a file of attributes.

    Args:
        path: ``list_attr_celeba.txt`` or ``list_attr_celeba.csv``, or a file like one of them.
        classes: Attributes to take, in this order; the others are left out. All if None.
        split: ``'train'``, ``'val'`` or ``'test'``: the images with 0, 1 or 2 in ``partition``; all if None.
        partition: File of images and parts (``000001.jpg 0``), relative to the folder of ``path``; if None,
            ``list_eval_partition`` with the extension of ``path``.

    Raises:
        DataError: If it cannot be used; the message names file, line and image.
    """
    path = Path(path)
    names, rows = _read_csv(path) if _is_csv(path) else _read_text(path)
    names = check_classes(names, f'{path}, names')
    taken = names if classes is None else check_classes(classes, 'classes')
    for name in taken:
        if name not in names:
            raise DataError(f"{path}: has no attribute '{name}'{did_you_mean(name, names)}")
    builder = AnnotationsBuilder(path, taken, 'line')
    unused = [name for name in names if name not in taken]
    if unused:
        builder.notes.append(f'{path}: attributes not used: {", ".join(unused)}')
    columns = [names.index(name) for name in taken]
    for line, img_path, cells in rows if split is None else _of_split(path, rows, split, partition):
        _add(builder, line, img_path, [cells[column].strip() for column in columns])
    return builder.build()


def _add(builder: AnnotationsBuilder, line: int, img_path: str, cells: list[str]) -> None:
    values = [_VALUES.get(cell) for cell in cells]
    if None in values:
        number = values.index(None)
        raise DataError(
            f"{builder.where(line, img_path)}, attribute '{builder.classes[number]}': {shown(cells[number])} is not a "
            'label; write 1 (present), -1 (absent) or 0 (unknown)'
        )
    present = [number for number, value in enumerate(values) if value == PRESENT]
    unknown = [number for number, value in enumerate(values) if value == UNKNOWN]
    builder.add(line, img_path, present, unknown)


def _is_csv(path: Path) -> bool:
    head = Head.of(path)
    return bool(head.lines) and ',' in head.lines[0]


def _read_csv(path: Path) -> tuple[Sequence[str], Rows]:
    """Names and rows of the CSV file."""
    table = Table(path, path_column=IMAGE_COLUMN)
    columns = [column for column in range(len(table.header)) if column != table.images]
    rows = ((line, img_path, [cells[column] for column in columns]) for line, img_path, cells in table.rows())
    return [table.header[column] for column in columns], rows


def _read_text(path: Path) -> tuple[Sequence[str], Rows]:
    """Names and rows of the text file."""
    lines = read_file_text(path).rstrip().split('\n')
    if not re.fullmatch(r'[0-9]{1,18}', lines[0].strip()):
        raise DataError(f'{path}, line 1: must be the number of images, got {shown(lines[0].strip())}')
    names = lines[1].split() if len(lines) > 1 else []
    count, found = int(lines[0]), sum(bool(line.strip()) for line in lines[2:])
    if count != found:
        raise DataError(f'{path}: line 1 says that there are {count} images, but {found} lines follow the names')
    return names, _split_lines(path, lines[2:], len(names))


def _split_lines(path: Path, lines: list[str], count: int) -> Rows:
    for number, line in enumerate(lines, start=3):
        words = line.rsplit(None, count)  # from the right: a path may contain spaces
        if words and len(words) != count + 1:
            raise DataError(
                f'{path}, line {number}: has {len(words)} columns, but the image and {count} attributes make '
                f'{count + 1}'
            )
        if words:
            yield number, words[0].strip(), words[1:]


def _of_split(path: Path, rows: Rows, split: str, partition: str | os.PathLike[str] | None) -> Rows:
    """The rows whose images the partition file puts in a split."""
    if split not in _SPLITS:
        raise DataError(f"{path}: unknown split='{split}'{did_you_mean(str(split), _SPLITS)}")
    file = path.parent / (_PARTITION + path.suffix if partition is None else partition)
    parts = _read_partition(file)
    for line, img_path, cells in rows:
        if img_path not in parts:
            raise DataError(f"{path}, line {line} (image '{img_path}'): the image is not in {file}")
        if parts[img_path] == _SPLITS[split]:
            yield line, img_path, cells


def _read_partition(path: Path) -> dict[str, str]:
    """The part of each image, ``'0'``, ``'1'`` or ``'2'``."""
    parts: dict[str, str] = {}
    for number, line in enumerate(read_file_text(path).split('\n'), start=1):
        words = (line.rsplit(',', 1) if ',' in line else line.rsplit(None, 1)) if line.strip() else []
        if not words or (number == 1 and words[0].strip() == IMAGE_COLUMN):
            continue
        if len(words) != 2 or words[1].strip() not in _SPLITS.values():
            raise DataError(
                f'{path}, line {number}: must be an image and 0 (train), 1 (val) or 2 (test), got {shown(line.strip())}'
            )
        parts[words[0].strip()] = words[1].strip()
    return parts


def recognise(head: Head) -> str:
    """Why a file looks like this format, or nothing. A CSV file must look so throughout: -1 means unknown in others."""
    lines = [line for line in head.lines if line.strip()]
    if len(lines) > 2 and re.fullmatch(r'[0-9]+', lines[0].strip()):
        names = lines[1].split()
        words = lines[2].split()[1:][-len(names) :]
        looks_so = names and len(words) == len(names) and set(words) <= set(_VALUES)
        return 'a number of images, names, and lines of 1 and -1, which is read as absent' if looks_so else ''
    rows = split_head(head.lines)
    header = [name.strip() for name in rows[0]] if rows else []
    if IMAGE_COLUMN not in header:
        return ''
    place = header.index(IMAGE_COLUMN)
    cells = {cell.strip() for row in rows[1:] for cell in row[:place] + row[place + 1 :]}
    if cells <= {'1', '-1'} and '-1' in cells:
        return f"'{IMAGE_COLUMN}' and cells of 1 and -1 alone; -1 is read as absent, with format='csv' as unknown"
    return ''
