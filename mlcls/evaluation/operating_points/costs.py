"""Costs of single classes in a JSON file."""

from __future__ import annotations

import os

from mlcls.errors import DataError
from mlcls.fileio import read_json


def read_costs(path: str | os.PathLike[str]) -> dict[str, tuple[float, float]]:
    """Read costs for ``FitSettings.costs``: ``{"cat": [5, 1], ...}``, of a miss and of a false alarm.

    Raises:
        DataError: The file is missing, no JSON, or does not hold such pairs.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f'{path}: must hold an object of class names and pairs of costs, as {{"cat": [5, 1]}}')
    for name, pair in content.items():
        numbers = isinstance(pair, list) and len(pair) == 2
        if not numbers or any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in pair):
            raise DataError(f"{path}: costs of '{name}' must be two numbers, a miss and a false alarm, not {pair!r}")
    return {name: (float(pair[0]), float(pair[1])) for name, pair in content.items()}
