"""Reading a pack: its annotations, and its images straight from the mapped file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlcls.errors import DataError
from mlcls.structures import Annotations

from . import layout
from .tables import from_arrays


class _Opened(NamedTuple):
    data: memoryview
    identity: bytes
    checksum: bytes
    index_offset: int
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]


class PackReader:
    """A pack, opened when something of it is asked for.

    The file is mapped into memory, not read: processes share what the system keeps of it, and nothing is held for each
    image. A copy in another process (forked or pickled) opens the same path, and refuses another file in its place.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self._expected: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        opened = self.__dict__.get('_opened')
        return {'path': self.path, '_expected': self._expected if opened is None else opened.checksum}

    @cached_property
    def _opened(self) -> _Opened:
        data = _map(self.path)
        identity = layout.check_header(data[: layout.HEADER.size], self.path)
        offset, index = layout.find_index(data, self.path)
        checksum = layout.index_checksum(index)
        if self._expected not in (None, checksum):
            raise DataError(f'{self.path}: another pack has taken its place while it was in use; start again')
        meta, arrays = layout.decode_index(index)
        return _Opened(data, identity, checksum, offset, meta, arrays)

    @cached_property
    def _compared(self) -> np.ndarray:
        return np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._opened.arrays['kinds'])

    @cached_property
    def annotations(self) -> Annotations:
        """Classes, image paths (as in the annotations that were packed) and labels.

        Raises:
            DataError: The file is missing, no pack, of a newer version, truncated or damaged. So do all other members.
        """
        return from_arrays(self._opened.arrays, self._opened.meta)

    @property
    def settings(self) -> dict[str, Any]:
        """How the images were prepared, see `PackSettings`."""
        return self._opened.meta['settings']

    @property
    def split(self) -> str | None:
        """The part of the data that was packed, if it was named."""
        return self._opened.meta['split']

    @property
    def left_out(self) -> list[list[str]]:
        """Image path and reason of each image that could not be used."""
        return self._opened.meta['left_out']

    @property
    def identity(self) -> bytes:
        """32 bytes that name what was packed and how, see `tables.identity`."""
        return self._opened.identity

    @property
    def kind(self) -> str:
        """``'raw'`` (pixels) or ``'jpeg'``."""
        return 'raw' if self.settings['raw'] else 'jpeg'

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of each image, int32 (N, 2)."""
        return self._opened.arrays['sizes']

    def image(self, number: int) -> memoryview | np.ndarray:
        """One image: the bytes of a JPEG file or, of a raw pack, uint8 RGB (H, W, 3).

        Both are read-only views of the file. A JPEG is compared with its checksum when this process reads it first;
        pixels are not, which would take longer than reading them: see `verify_pack`.

        Args:
            number: Its position in ``annotations``.

        Raises:
            DataError: It is damaged.
        """
        opened = self._opened
        number = range(len(self))[number]
        start = int(opened.arrays['offsets'][number])
        if not self._compared[number]:
            if opened.arrays['kinds'][number] != layout.RAW and not _is_whole(opened, number, start):
                raise DataError('the image is damaged in the pack; make it again, or copy it again')
            self._compared[number] = True
        payload = opened.data[start : start + int(opened.arrays['lengths'][number])]
        if opened.arrays['kinds'][number] != layout.RAW:
            return payload
        height, width = opened.arrays['sizes'][number].tolist()
        return np.frombuffer(payload, np.uint8).reshape(height, width, 3)


def _map(path: str) -> memoryview:
    try:
        with open(path, 'rb') as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise DataError(f'{path}: the pack is truncated (0 bytes); copy or make it again')
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        half = '; a half-made one is there: run tools/pack_data.py again' if Path(f'{path}.part').exists() else ''
        raise DataError(f'{path}: no such file{half}') from None
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from error


def verify_pack(path: str | os.PathLike[str], progress: Callable[[int, int], object] | None = None) -> int:
    """Read a pack whole and compare every byte of it with its checksums.

    Args:
        path: The file.
        progress: Called with the number of images that were read and of all.

    Returns:
        The number of images.

    Raises:
        DataError: Something is damaged; the message names the images.
    """
    reader = PackReader(path)
    opened = reader._opened
    arrays, count = opened.arrays, len(reader)
    damaged: list[int] = []
    position, number = layout.HEADER.size, 0  # all records, those of images left out among them, fill the file
    while position < opened.index_offset:
        start = int(arrays['offsets'][number]) if number < count else opened.index_offset + layout.RECORD_SIZE
        if start - layout.RECORD_SIZE != position:
            position = _skip_left_out(opened, position, start - layout.RECORD_SIZE, reader.path)
            continue
        if not _is_whole(opened, number, start):
            damaged.append(number)
        position = start + int(arrays['lengths'][number])
        number += 1
        if progress is not None:
            progress(number, count)
    if damaged:
        paths = reader.annotations.img_paths
        shown = ', '.join(f"image {number} '{paths[number]}'" for number in damaged[:5])
        raise DataError(
            f'{path}: {len(damaged)} of {count} images are damaged: {shown}{", ..." * (len(damaged) > 5)}; copy or '
            'make the pack again'
        )
    return count


def _is_whole(opened: _Opened, number: int, start: int) -> bool:
    arrays = opened.arrays
    length, (height, width) = int(arrays['lengths'][number]), arrays['sizes'][number].tolist()
    payload = opened.data[start : start + length]
    source, kind = int(arrays['numbers'][number]), int(arrays['kinds'][number])
    expected = layout.Record(source, length, height, width, kind).with_checksum(payload)
    return (
        expected.checksum == int(arrays['checksums'][number])
        and opened.data[start - layout.RECORD_SIZE : start] == expected.encode()
    )


def _skip_left_out(opened: _Opened, position: int, end: int, path: str) -> int:
    """Check a record of an image that was left out, and give the position behind it."""
    data = opened.data[position : position + layout.RECORD_SIZE]
    record = layout.Record.decode(data) if len(data) == layout.RECORD_SIZE else None
    start = position + layout.RECORD_SIZE
    if record is not None and start + record.length <= end:
        checked = record.with_checksum(opened.data[start : start + record.length])
        if checked == record and record.kind == layout.LEFT_OUT and record.encode() == data:
            return start + record.length
    raise DataError(f'{path}: the note on an image that was left out is damaged (byte {position}); make the pack again')
