"""Reading plain data (JSON, checkpoints) field by field, each mistake with the file and the field in its message."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlcls.errors import DataError, did_you_mean

_WORDS = {Mapping: 'an object of names and values', str: 'a text', int: 'a whole number', list: 'a list'}


class Reader:
    """A dictionary from outside, of which nothing is believed.

    Args:
        data: What was read.
        where: Name of the file, for messages.
        keys: Keys that may occur.

    Raises:
        DataError: Not a dictionary, or a key that is not known.
    """

    def __init__(self, data: Any, where: str, keys: Sequence[str]) -> None:
        if not isinstance(data, Mapping):
            raise DataError(f"{where}: must hold an object with 'thresholds', not {_kind(data)}")
        unknown = [str(key) for key in data if key not in keys]
        if unknown:
            raise DataError(f"{where}: unknown key '{unknown[0]}'" + did_you_mean(unknown[0], keys))
        self._data, self._where = data, where

    def get(self, key: str, kind: type, default: Any) -> Any:
        """The value of ``key``, of this kind; ``default`` where it is missing or None."""
        value = self._data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._wrong(key, _WORDS[kind], value)
        return value

    def _list(self, key: str) -> Sequence[Any]:
        value = self._data.get(key)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            raise self._wrong(key, _WORDS[list], value)
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        values = self._list(key)
        for value in values:
            if not isinstance(value, str):
                raise self._wrong(key, 'a list of texts', value)
        return list(values)

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers of at least 0."""
        values = self._list(key)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise self._wrong(key, 'a list of whole numbers, 0 or more', value)
        return list(values)

    def numbers(self, key: str) -> list[float]:
        """A list of finite numbers."""
        values = self._list(key)
        for value in values:
            if not _finite(value):
                raise self._wrong(key, 'a list of finite numbers', value)
        return [float(value) for value in values]

    def number(self, key: str) -> float:
        """A finite number, which must be there."""
        value = self._data.get(key)
        if not _finite(value):
            raise self._wrong(key, 'a finite number', value)
        return float(value)  # type: ignore[arg-type]

    def number_lists(self, key: str) -> list[list[float]]:
        """A list of lists of finite numbers."""
        values = self._list(key)
        for value in values:
            if not isinstance(value, (list, tuple)) or not all(_finite(item) for item in value):
                raise self._wrong(key, 'a list of lists of finite numbers', value)
        return [[float(item) for item in value] for value in values]

    def pairs(self, key: str) -> list[tuple[float, float]]:
        """A list of pairs (low, high) with 0 <= low <= high <= 1."""
        values = self.number_lists(key)
        for value in values:
            if len(value) != 2 or not 0 <= value[0] <= value[1] <= 1:
                raise self._wrong(key, 'a list of pairs [low, high] in [0, 1]', value)
        return [(value[0], value[1]) for value in values]

    def figures(self, key: str) -> dict[str, dict[str, float]]:
        """Names to (names to numbers)."""
        values = self.get(key, Mapping, {})
        for value in values.values():
            if not isinstance(value, Mapping) or not all(_finite(item) for item in value.values()):
                raise self._wrong(key, 'groups of named numbers', value)
        return {str(name): {str(k): float(v) for k, v in value.items()} for name, value in values.items()}

    def _wrong(self, key: str, wanted: str, value: object) -> DataError:
        return DataError(f"{self._where}: '{key}' must be {wanted}, but holds {_kind(value)}")


def _finite(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return 'an object'
    if isinstance(value, (list, tuple)):
        return f'a list of {len(value)}' if len(value) > 3 else f'the list {list(value)!r}'
    return repr(value)
