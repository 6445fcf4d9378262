"""Opening annotation files, and showing what they contain."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any
from xml.parsers import expat

from mlcls.errors import DataError

#: Bytes that a line of a text or CSV file may have; more is no list of labels, and would fill the memory.
MAX_LINE = 1 << 24
_UTF16 = (b'\xff\xfe', b'\xfe\xff')
_UTF8_MARK = b'\xef\xbb\xbf'


def read_file_text(path: str | os.PathLike[str]) -> str:
    """Read a text file as UTF-8, with or without byte order mark.

    Raises:
        DataError: If it cannot be opened, is empty, is not UTF-8, or contains NUL bytes.
    """
    with _open(path) as file:
        data = b''.join(_checked(path, iter(lambda: file.read(1 << 20), b'')))
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        # With a byte order mark, the position is counted from behind it.
        position = error.start + len(data) - len(error.object)
        raise _not_utf8(path, data.count(b'\n', 0, position) + 1, data[position]) from None
    if not text.strip():
        raise DataError(f'{path}: is empty')
    return text


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    r"""Read a text file as `read_file_text` does, but line by line, with their ends (``\n``, ``\r\n`` or ``\r``).

    Raises:
        DataError: As `read_file_text`, or if a line is longer than `MAX_LINE`.
    """
    number, empty = 1, True
    with _open(path) as file:
        for data in _checked(path, iter(lambda: file.readline(MAX_LINE + 1), b'')):
            if len(data) > MAX_LINE:
                raise DataError(
                    f'{path}, line {number}: is longer than {MAX_LINE:,} bytes, so this is no file of one image a line'
                )
            data = data.removeprefix(_UTF8_MARK) if number == 1 else data
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                line = number + _count_ends(data[: error.start])
                raise _not_utf8(path, line, data[error.start]) from None
            empty = empty and not text.strip()
            lines = io.StringIO(text, newline='') if '\r' in text else (text,)
            for line_text in lines:
                number += 1
                yield line_text
    if empty:
        raise DataError(f'{path}: is empty')


def read_json(path: str | os.PathLike[str], without: Iterable[str] = ()) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        without: Keys that are dropped from every object as it is read, such as those of large values.

    Raises:
        DataError: If it is not JSON, has a key twice in one object (of which a parser would keep the last), or is
            nested too deeply.
    """
    text, dropped = read_file_text(path), frozenset(without)

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entry = unique_keys(pairs)
        for key in dropped & entry.keys():
            del entry[key]
        return entry

    try:
        return json.loads(text, object_pairs_hook=kept if dropped else unique_keys)
    except json.JSONDecodeError as error:
        raise DataError(f'{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}') from None
    except RecursionError:
        raise DataError(f'{path}: lists or objects are nested too deeply for an annotation file') from None
    except ValueError as error:  # a repeated key, or a number of thousands of digits
        raise DataError(f'{path}: {error}') from None


@contextmanager
def xml_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """What expat raises becomes a DataError that names file, line and column."""
    try:
        yield
    except expat.ExpatError as error:
        place = f'{path}:{error.lineno}:{error.offset + 1}'
        raise DataError(f'{place}: not valid XML: {expat.ErrorString(error.code)}') from None
    except DataError:
        raise
    except (LookupError, ValueError) as error:  # an encoding that the parser does not have
        raise DataError(f'{path}: cannot be decoded ({error}); save it as UTF-8') from None


def shown(value: object, limit: int = 60) -> str:
    """A value as it goes into an error message, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else f'{text[:limit]}...'


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    try:
        return open(path, 'rb')
    except FileNotFoundError:
        raise DataError(f'{path}: no such file') from None
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from error


def _checked(path: str | os.PathLike[str], parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts of a file; refused as soon as one shows that it is no UTF-8 text, however long the file is."""
    line, first = 1, True
    for part in parts:
        if first and part[:2] in _UTF16:
            raise DataError(f'{path}: is encoded as UTF-16; save it as UTF-8')
        if b'\0' in part:
            line += _count_ends(part[: part.index(0)])
            raise DataError(f'{path}, line {line}: contains a NUL byte; the file is damaged or no UTF-8 text')
        line, first = line + _count_ends(part), False
        yield part


def _count_ends(data: bytes) -> int:
    return data.count(b'\n') + (data.count(b'\r') - data.count(b'\r\n') if b'\r' in data else 0)


def _not_utf8(path: str | os.PathLike[str], line: int, byte: int) -> DataError:
    return DataError(f'{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8')


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object (an ``object_pairs_hook``), in which no key may be given twice; ValueError if one is."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{key}' is given twice in one object, {shown(content)}")
    return content
