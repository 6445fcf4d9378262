"""Do the image files exist? Asked once, with one listing a folder instead of one question a file."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlcls.structures import StringList

#: Paths that are looked at as strings at a time.
_BLOCK = 1 << 16


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


def find_missing(img_paths: Sequence[str], root: str = '') -> MissingImages:
    """Find the paths at which there is no file; remote ones (``scheme://``) are taken to exist.

    One listing a folder, one folder at a time: memory for 16 bytes an image and the names in the largest folder.

    Args:
        img_paths: Paths of the images, best as a `StringList`.
        root: Folder to which those that are not absolute are relative; it may be remote.
    """
    missing, remote = array('q'), '://' in root
    folders = np.fromiter((hash(_folder(path)) for path in img_paths), np.int64, len(img_paths))
    order = np.argsort(folders, kind='stable')
    del folders
    current, names = None, frozenset[str]()
    for number, path in _in_order(img_paths, order):
        if '://' in path or (remote and path[:1] != '/'):
            continue
        folder = _folder(path)
        if folder != current:
            current, names = folder, _listing(os.path.join(root, folder))
        if path[len(folder) :] not in names:
            missing.append(number)
    images = np.sort(np.frombuffer(missing, np.int64))
    examples = tuple(os.path.join(root, img_paths[number]) for number in images[:3].tolist())
    return MissingImages(images, examples, _hint(examples[0]) if examples else '')


def _folder(path: str) -> str:
    """What stands before the name, with its slash."""
    return path[: path.rfind('/') + 1]


def _in_order(paths: Sequence[str], order: np.ndarray) -> Iterator[tuple[int, str]]:
    """Numbers and paths, a block at a time, since taking a block out of a `StringList` is fast."""
    for first in range(0, len(order), _BLOCK):
        block = order[first : first + _BLOCK]
        chosen = paths.select(block) if isinstance(paths, StringList) else map(paths.__getitem__, block)
        yield from zip(block.tolist(), chosen)


def _listing(folder: str) -> frozenset[str]:
    folder = folder.rstrip('/') or folder[:1] or '.'
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()


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
