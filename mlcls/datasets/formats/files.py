"""Opening annotation files, and showing what they contain."""

from __future__ import annotations

import os
from pathlib import Path

from mlcls.errors import DataError


def read_file_text(path: str | os.PathLike[str]) -> str:
    """Read a text file as UTF-8, with or without byte order mark.

    Raises:
        DataError: If it cannot be opened, is empty, or is not UTF-8.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f'{path}: no such file') from None
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from error
    if data[:2] in (b'\xff\xfe', b'\xfe\xff'):
        raise DataError(f'{path}: is encoded as UTF-16; save it as UTF-8')
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        # With a byte order mark, the position is counted from behind it.
        position = error.start + len(data) - len(error.object)
        line = data.count(b'\n', 0, position) + 1
        what = f'byte 0x{data[position]:02x} is not UTF-8'
        raise DataError(f'{path}, line {line}: {what}; save the file as UTF-8') from None
    if not text.strip():
        raise DataError(f'{path}: is empty')
    return text


def shown(value: object, limit: int = 60) -> str:
    """A value as it goes into an error message, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else f'{text[:limit]}...'
