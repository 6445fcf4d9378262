"""JSON files with one list that may be longer than the memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import IO, Any

from mlcls.errors import DataError

from .files import read_json, unique_keys

#: Smaller files are read as a whole, in bytes: that is faster, and takes some 15 times their size.
LONG = 1 << 26
_CHUNK = 1 << 20
_SPACE = re.compile(r'[ \t\n\r]*')
#: What may follow a value.
_ENDS = frozenset(' \t\n\r,:]}')


class LongList:
    """The items of a list in a JSON file, parsed anew, one at a time, whenever they are gone through.

    Args:
        path: The file, an object.
        key: The list's key.
        length: Number of its items.
    """

    def __init__(self, path: str | os.PathLike[str], key: str, length: int) -> None:
        self._path, self._key, self._length = path, key, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        try:
            for _, value, is_item in _walk(self._path, self._key):
                if is_item:
                    yield value
        except (ValueError, RecursionError, OSError) as error:
            raise DataError(f'{self._path}: was changed while it was read') from error


def read_long_json(path: str | os.PathLike[str], key: str) -> Any:
    """Read a JSON file as `read_json`, except that of a long file's object the list at ``key`` becomes a `LongList`.

    Raises:
        DataError: As `read_json`.
    """
    try:
        content = _scan(path, key) if os.path.getsize(path) >= LONG else None
    except (ValueError, RecursionError, OSError):
        content = None
    return read_json(path) if content is None else content  # which also says what is wrong


def _scan(path: str | os.PathLike[str], key: str) -> dict[str, Any] | None:
    content: dict[str, Any] = {}
    length = 0
    for name, value, is_item in _walk(path, key):
        if is_item:
            length += 1
        else:
            content[name] = value
    if not length:
        return None
    content[key] = LongList(path, key, length)
    return content


def _walk(path: str | os.PathLike[str], key: str) -> Iterator[tuple[str, Any, bool]]:
    """Keys and values of an object, and whether the value is an item of the list at ``key``.

    Raises:
        ValueError: If it is no object, is not JSON, or has a key twice.
    """
    with open(path, encoding='utf-8-sig', newline='') as file:
        parser = _Parser(file)
        parser.take('{')
        seen: set[str] = set()
        while not seen or parser.goes_on('}'):
            name = parser.value()
            if not isinstance(name, str) or name in seen:
                raise ValueError('no new key')
            seen.add(name)
            parser.take(':')
            if name == key and parser.next() == '[':
                parser.take('[')
                yield name, parser.value(), True
                while parser.goes_on(']'):
                    yield name, parser.value(), True
            else:
                yield name, parser.value(), False
        if parser.next():
            raise ValueError('more than one value')


class _Parser:
    """Takes one token after the other out of a file, of which it holds a part."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._text, self._at = file, '', 0
        self._decode = json.JSONDecoder(object_pairs_hook=unique_keys).raw_decode

    def _read_on(self) -> bool:
        # Twice as much each time, so that a long value is not begun anew too often.
        more = self._file.read(max(_CHUNK, len(self._text) - self._at))
        if more:
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def next(self) -> str:
        """The next character that is not white space, empty at the end; it is not taken."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ''

    def take(self, character: str) -> None:
        """Take the next character, which must be this."""
        if self.next() != character:
            raise ValueError(f'no {character}')
        self._at += 1

    def goes_on(self, end: str) -> bool:
        """Take the comma before another item, or the end."""
        if self.next() == end:
            self._at += 1
            return False
        self.take(',')
        return True

    def value(self) -> Any:
        """Take a value."""
        self.next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._read_on():
                    raise
                continue
            # Where the part ends, a number may go on: 1, 1.5 and 1.5e+9 begin alike.
            if self._text[end : end + 1] in _ENDS or not self._read_on():
                self._at = end
                return value
