"""Do the image files exist? Asked once, with one listing a folder instead of one question a file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MissingImages:
    """Images whose file does not exist.

    Args:
        images: Their numbers, int64, ascending.
        examples: Paths of the first three.
        hint: What may be the reason, or empty.
    """

    images: np.ndarray
    examples: tuple[str, ...] = ()
    hint: str = ''

    def describe(self) -> str:
        """The examples and the hint, as part of a sentence."""
        more = ', ...' if len(self.images) > len(self.examples) else ''
        return ', '.join(f"'{path}'" for path in self.examples) + more + self.hint


def find_missing(paths: Sequence[str]) -> MissingImages:
    """Find the paths at which there is no file; remote ones (``scheme://``) are taken to exist."""
    folders: dict[str, list[int]] = defaultdict(list)
    for number, path in enumerate(paths):
        if '://' not in path:
            folders[os.path.dirname(path)].append(number)
    missing: list[int] = []
    for folder, numbers in folders.items():
        names = _listing(folder)
        missing += [number for number in numbers if os.path.basename(paths[number]) not in names]
    missing.sort()
    hint = _hint(paths[missing[0]]) if missing else ''
    return MissingImages(np.array(missing, np.int64), tuple(paths[number] for number in missing[:3]), hint)


def _listing(folder: str) -> set[str]:
    try:
        with os.scandir(folder or '.') as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


def _hint(path: str) -> str:
    folder, name = os.path.split(path)
    if '\\' in path:
        return ' (the paths contain backslashes; write /)'
    if not os.path.isdir(folder or '.'):
        return f" (there is no folder '{folder}')"
    for other in _listing(folder):
        if other.lower() == name.lower():
            return f" (there is '{other}': upper and lower case differ)"
    return ''
