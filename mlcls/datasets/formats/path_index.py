"""The paths of millions of images, each once, in a few arrays."""

from __future__ import annotations

import posixpath
from array import array

import numpy as np

from mlcls.structures import StringList

#: The table grows when it is fuller than this: then few paths share a place, and it takes 8 to 16 bytes an image.
_FULL = 0.5


class PathIndex:
    """Paths in the order in which they were added, and a hash table (open addressing) that finds one again.

    A dict of the same strings would take ten times the memory.
    """

    def __init__(self) -> None:
        self._data, self._bounds = bytearray(), array('q', [0])
        self._hashes = array('q')
        # Number of the path at each place, -1 where there is none. Behind its end nothing wraps around; it is longer.
        self._table = array('i', [-1]) * 64
        self._mask, self._limit = 31, 16

    def __len__(self) -> int:
        return len(self._hashes)

    def __getitem__(self, number: int) -> str:
        return self._data[self._bounds[number] : self._bounds[number + 1]].decode('utf-8', 'surrogatepass')

    def add(self, path: str) -> int | None:
        """Add a path, unless it, or another spelling of it (``./a//b.jpg``), was added before.

        Returns:
            The number of the one that was there; None if there was none.
        """
        plain = _normal(path)
        code = hash(plain)
        table, hashes = self._table, self._hashes
        place = code & self._mask
        while (number := table[place]) >= 0:
            if hashes[number] == code and _normal(self[number]) == plain:
                return number
            place += 1
        table[place] = len(hashes)
        hashes.append(code)
        self._data += path.encode('utf-8', 'surrogatepass')
        self._bounds.append(len(self._data))
        if len(hashes) >= self._limit or place == len(table) - 1:
            self._grow()
        return None

    def strings(self) -> StringList:
        """All paths as they were first written. They are not copied, so that no more can be added."""
        return StringList.from_arrays(np.frombuffer(self._data, np.uint8), np.frombuffer(self._bounds, np.int64))

    def _grow(self) -> None:
        """Twice as many places, and all paths at new ones: each at its own or, if that is taken, at the next free."""
        places = 2 * (self._mask + 1)
        self._mask, self._limit = places - 1, int(places * _FULL)
        wanted = np.frombuffer(self._hashes, np.int64) & self._mask
        order = np.argsort(wanted, kind='stable')
        steps = np.arange(len(order))
        taken = np.maximum.accumulate(wanted[order] - steps) + steps
        table = np.full(max(places, int(taken[-1]) + 1) + 32, -1, np.int32)
        table[taken] = order
        self._table = array('i', table.tobytes())


def _normal(path: str) -> str:
    """``posixpath.normpath``, which is asked only where it may change something."""
    if '/.' in path or '//' in path or path[0] == '.' or path[-1] == '/':
        return posixpath.normpath(path)
    return path
