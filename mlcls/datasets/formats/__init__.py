"""Readers: one small pure function per annotation format, and `read_annotations`, which finds the right one.

To add a format, write ``read_<name>(path, classes=None, ...) -> Annotations`` in a file here and list it in `READERS`
(and its file extension in `EXTENSIONS`).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from .classes import check_classes, order_classes, read_classes
from .csv import read_csv
from .native import read_native
from .text import read_text

READERS: dict[str, Callable[..., Annotations]] = {'native': read_native, 'text': read_text, 'csv': read_csv}
EXTENSIONS = {'.json': 'native', '.csv': 'csv', '.tsv': 'csv', '.txt': 'text', '.lst': 'text'}

__all__ = [
    'EXTENSIONS',
    'READERS',
    'check_classes',
    'guess_format',
    'read_annotations',
    'read_classes',
    'read_csv',
    'read_native',
    'read_text',
]


def guess_format(path: str | os.PathLike[str]) -> str:
    """The format of an annotation file, by its content where that is plain and else by its extension.

    Raises:
        DataError: If neither tells.
    """
    extension = Path(path).suffix.lower()
    try:
        with open(path, 'rb') as file:
            head = file.read(64).removeprefix(b'\xef\xbb\xbf').lstrip()
    except OSError:
        head = b''  # the reader that comes next says what is wrong
    if head.startswith(b'{'):
        return 'native'
    if extension not in EXTENSIONS:
        raise DataError(
            f"{path}: the extension '{extension}' says nothing about the format; give format='...'"
            f'{did_you_mean("", READERS)}'
        )
    return EXTENSIONS[extension]


def read_annotations(
    path: str | os.PathLike[str],
    format: str = 'auto',
    classes: Sequence[str] | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Annotations:
    """Read an annotation file of any known format.

    Args:
        path: The file.
        format: A name from `READERS`, or ``'auto'`` to tell by content and extension.
        classes: Class names, or a text file with one name a line: the order wanted for the labels. Formats that name
            their classes must name the same ones (a CSV file may have more columns, which are left out).
        **options: Further arguments of the reader, such as ``split`` of ``'csv'``.

    Raises:
        DataError: If the format or an option is unknown, or the file cannot be used.
    """
    name = guess_format(path) if format == 'auto' else format
    if name not in READERS:
        raise DataError(f"unknown annotation format '{name}'{did_you_mean(name, [*READERS, 'auto'])}")
    reader = READERS[name]
    known = [option for option in inspect.signature(reader).parameters if option not in ('path', 'classes')]
    for option in options:
        if option not in known:
            raise DataError(f"{path}: annotation format '{name}' has no option '{option}'{did_you_mean(option, known)}")
    if isinstance(classes, (str, os.PathLike)):
        classes = read_classes(classes)
    elif classes is not None:
        classes = check_classes(classes, 'classes')
    return order_classes(reader(path, classes=classes, **options), classes, str(path))
