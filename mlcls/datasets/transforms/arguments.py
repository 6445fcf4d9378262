"""Checks of arguments that several transforms share. All raise ConfigError."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlcls.errors import ConfigError, did_you_mean


def choice(value: str, choices: Iterable[str], what: str) -> str:
    """One of some words."""
    choices = list(choices)
    if value not in choices:
        name, _, argument = what.rpartition(' ')
        raise ConfigError(f"{name} unknown {argument} '{value}'{did_you_mean(str(value), choices)}")
    return value


def whole(value: int, smallest: int, what: str) -> int:
    """A whole number that is large enough."""
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise ConfigError(f'{what} must be a whole number of at least {smallest}, got {value!r}')
    return value


def share(value: float, what: str) -> float:
    """A number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f'{what} must lie in [0, 1], got {value!r}')
    return float(value)


def size(value: int | Sequence[int], what: str) -> tuple[int, int]:
    """Two lengths in pixels, from one or two."""
    lengths = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(lengths) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in lengths):
        raise ConfigError(f'{what} must be one or two positive whole numbers, got {value!r}')
    return lengths[0], lengths[1]


def two_positive(value: Sequence[float], what: str) -> tuple[float, float]:
    """Two positive numbers."""
    if (
        not isinstance(value, Sequence)
        or len(value) != 2
        or not all(isinstance(n, (int, float)) and n > 0 for n in value)
    ):
        raise ConfigError(f'{what} must be two positive numbers, got {value!r}')
    return value[0], value[1]


def positive_range(value: Sequence[float], what: str) -> tuple[float, float]:
    """Two positive numbers, the smaller first."""
    low, high = two_positive(value, what)
    if low > high:
        raise ConfigError(f'{what} must be (smallest, largest), got {value!r}')
    return low, high
