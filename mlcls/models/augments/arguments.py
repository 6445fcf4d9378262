"""Checks of arguments that several augmentations share. All raise ConfigError."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlcls.errors import ConfigError, did_you_mean


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: float, low: float, high: float, what: str) -> float:
    """A finite number in [low, high]."""
    if not _is_number(value) or not low <= value <= high:
        wanted = f'at least {low:g}' if math.isinf(high) else f'in [{low:g}, {high:g}]'
        raise ConfigError(f'{what} must be a number {wanted}, got {value!r}')
    return float(value)


def positive(value: float, what: str) -> float:
    """A finite number above 0."""
    if not _is_number(value) or value <= 0:
        raise ConfigError(f'{what} must be a number above 0, got {value!r}')
    return float(value)


def interval(value: Sequence[float], low: float, high: float, what: str) -> tuple[float, float]:
    """Two numbers in [low, high], the smaller first."""
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(pair) != 2 or not all(map(_is_number, pair)) or not low <= pair[0] <= pair[1] <= high:
        within = f'at least {low:g}' if math.isinf(high) else f'within [{low:g}, {high:g}]'
        raise ConfigError(f'{what} must be (smallest, largest), {within}, got {value!r}')
    return float(pair[0]), float(pair[1])


def whole(value: int, low: int, what: str) -> int:
    """A whole number of at least ``low``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f'{what} must be a whole number of at least {low}, got {value!r}')
    return value


def choice(value: str, choices: Sequence[str], what: str) -> str:
    """One of some words."""
    if value not in choices:
        name, _, argument = what.rpartition(' ')
        raise ConfigError(f"{name} unknown {argument} '{value}'{did_you_mean(str(value), choices)}")
    return value


def color(value: float | Sequence[float], what: str) -> tuple[float, float, float]:
    """Red, green and blue, 0 to 255, from one number or three."""
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * 3
    if len(values) != 3 or not all(_is_number(each) and 0 <= each <= 255 for each in values):
        raise ConfigError(f'{what} must be one or three numbers from 0 to 255, got {value!r}')
    return float(values[0]), float(values[1]), float(values[2])
