"""Looking into image files: each is read and decoded once, in several processes; the results are arrays."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlcls.datasets.transforms.loading import decode_image, read_bytes
from mlcls.datasets.workers import init_worker
from mlcls.errors import DataError

#: What can be said of a file; the value in ``ImageTable.status`` is the position.
STATUSES = ('ok', 'missing', 'unreadable', 'empty', 'not an image', 'damaged')
OK, MISSING, UNREADABLE, EMPTY, NOT_AN_IMAGE, DAMAGED = range(6)
#: How pixels are stored; the value in ``ImageTable.mode`` is the position.
MODES = ('colour', 'grey', 'palette', 'alpha', 'CMYK', '16-bit', 'other')
_MODE_OF = {'RGB': 0, 'YCbCr': 0, 'L': 1, '1': 1, 'P': 2, 'LA': 3, 'PA': 3, 'RGBA': 3, 'CMYK': 4}
#: Side of the small grey pictures by which look-alikes are confirmed.
THUMB = 16
#: Grey values whose standard deviation is below this (of 255) show nothing that could be compared.
FLAT = 2.0
_CHUNK = 32
_ALONE = 2 * _CHUNK  # so few images are not worth a process

_RECORD = np.dtype(
    [
        ('status', 'u1'),
        ('mode', 'u1'),
        ('orientation', 'u1'),
        ('is_grey', '?'),
        ('is_flat', '?'),
        ('width', 'i4'),
        ('height', 'i4'),
        ('num_bytes', 'i8'),
        ('file_digest', 'u8', 2),
        ('pixel_digest', 'u8', 2),
        ('hash', 'u8'),
        ('thumb', 'u1', THUMB * THUMB),
    ]
)


@dataclass(frozen=True, eq=False)
class ImageTable:
    """What is known of N image files.

    Args:
        records: Structured array (N,). ``status`` and ``mode``: positions in `STATUSES` and `MODES`. ``orientation``:
            of EXIF, 1 to 8. ``is_grey``: no pixel has a colour. ``is_flat``: nearly one colour. ``width``, ``height``:
            pixels as stored. ``num_bytes``. ``file_digest``, ``pixel_digest``: 128 bits (BLAKE2b) of the file and of
            the upright RGB pixels with their size. ``hash``: 64 bits, see `perceptual_hash`. ``thumb``: uint8 (256,).
        reasons: Why a file cannot be used, by its number.
    """

    records: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.records[column]

    @property
    def usable(self) -> np.ndarray:
        """Which images could be decoded, bool (N,)."""
        return self.records['status'] == OK

    @property
    def comparable(self) -> np.ndarray:
        """Which images a perceptual hash can be compared for: decoded, and not nearly one colour; bool (N,)."""
        return self.usable & ~self.records['is_flat']


def available_workers() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def inspect_images(
    paths: Sequence[str], workers: int | None = None, progress: Callable[[int], object] | None = None
) -> ImageTable:
    """Read and decode every image, once.

    Args:
        paths: The files (also remote ones, as `read_bytes` takes them).
        workers: Processes; 0 works in this one; None takes as many as there are processors.
        progress: Called with the number of images done since the last call.

    Raises:
        DataError: If a process was killed. A file that cannot be used is no error; its status says so.
    """
    workers = available_workers() if workers is None else workers
    chunks = [list(paths[start : start + _CHUNK]) for start in range(0, len(paths), _CHUNK)]
    records = np.zeros(len(paths), _RECORD)
    reasons: dict[int, str] = {}
    start = 0
    for part, why in _run(chunks, 0 if len(paths) <= _ALONE else workers):
        records[start : start + len(part)] = part
        reasons.update({start + number: reason for number, reason in why.items()})
        start += len(part)
        if progress is not None:
            progress(len(part))
    return ImageTable(records, reasons)


_Inspected = tuple[np.ndarray, dict[int, str]]


def _run(chunks: Iterable[list[str]], workers: int) -> Iterator[_Inspected]:
    if workers < 1:
        yield from map(_inspect_chunk, chunks)
        return
    # Copies of this process, as data loaders use on Linux: they need not import everything again.
    context = multiprocessing.get_context('fork' if sys.platform == 'linux' else 'spawn')
    with ProcessPoolExecutor(workers, mp_context=context, initializer=init_worker) as pool:
        try:
            yield from pool.map(_inspect_chunk, chunks)
        except BrokenProcessPool:
            raise DataError(
                'a process that opens images was killed, perhaps for lack of memory; use fewer workers'
            ) from None


def _inspect_chunk(paths: list[str]) -> _Inspected:
    records, reasons = np.zeros(len(paths), _RECORD), {}
    for number, path in enumerate(paths):
        try:
            records[number]['orientation'] = 1
            _inspect(path, records[number])
        except _Defect as defect:
            records[number]['status'] = defect.status
            reasons[number] = str(defect)
    return records, reasons


class _Defect(Exception):
    """An image cannot be used."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _inspect(path: str, record: Any) -> None:
    """Fill in the record of one file."""
    if '://' not in path and not os.path.exists(path):
        raise _Defect(MISSING, 'there is no such file')
    try:
        data = read_bytes(path)
    except DataError as error:
        raise _Defect(UNREADABLE, str(error).removeprefix(f'{path}: ')) from None
    record['num_bytes'] = len(data)
    if not data:
        raise _Defect(EMPTY, 'the file is empty (0 bytes)')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Pillow's remarks on odd files; what matters becomes a finding
        known = _read_header(data, record)
        try:
            pixels = decode_image(data)
        except DataError as error:
            raise _Defect(DAMAGED if known else NOT_AN_IMAGE, str(error)) from None
        record['file_digest'] = _digest(data)
        record['pixel_digest'] = _digest(np.array(pixels.shape[:2], np.int64).tobytes(), pixels.tobytes())
        _describe_pixels(pixels, record)


def _read_header(data: bytes, record: Any) -> bool:
    """Size, mode and orientation, without decoding; False if Pillow does not know what it is."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            record['width'], record['height'] = image.size
            record['mode'] = _mode(image.mode, data)
            record['orientation'] = _orientation(image)
    except Image.DecompressionBombError:
        return True
    except Exception:  # an unknown format: Pillow's plug-ins raise what they like
        return False
    return True


def _orientation(image: Any) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # EXIF data that are damaged, or behind damaged pixels; decoding describes those
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _mode(name: str, data: bytes) -> int:
    deep_png = data.startswith(b'\x89PNG') and len(data) > 24 and data[24] == 16  # Pillow says RGB of these
    return MODES.index('16-bit') if deep_png or name.startswith('I') else _MODE_OF.get(name, MODES.index('other'))


def _digest(*parts: bytes) -> np.ndarray:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return np.frombuffer(digest.digest(), np.uint64)


def _describe_pixels(pixels: np.ndarray, record: Any) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    factor = max(1, min(image.size) // 128)
    small = image.reduce(factor) if factor > 1 else image
    colours = np.asarray(small)
    spread = colours.max(axis=2).astype(int) - colours.min(axis=2)
    record['is_grey'] = int(spread.max()) <= 1
    grey = small.convert('L')
    record['is_flat'] = float(np.asarray(grey).std()) < FLAT
    record['hash'] = perceptual_hash(grey)
    record['thumb'] = np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX)).ravel()


def perceptual_hash(image: Any) -> int:
    """The 64-bit perceptual hash of a Pillow image: which of its 8 x 8 lowest frequencies lie above their median.

    It changes little with size, recompression and brightness. (``imagehash.phash``; the DCT of 32 x 32 grey values.)
    """
    import imagehash

    bits = imagehash.phash(image).hash
    return int(np.packbits(bits.ravel()).view('>u8')[0])
