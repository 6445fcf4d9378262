"""From image files to what a pack or shard keeps of them, in several processes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from mlcls.errors import ConfigError, DataError

from ..transforms.loading import decode_image, has_exif, read_bytes
from ..workers import init_worker
from .layout import ENCODED, KEPT, LEFT_OUT, RAW

#: Chroma at half resolution, as cameras and most data sets have it: a fifth smaller, and faster to decode.
SUBSAMPLING = '420'


@dataclass(frozen=True)
class PackSettings:
    """How images are prepared.

    Args:
        short_side: Length of the shorter side in pixels to which larger images are reduced; smaller ones stay as they
            are. 0 leaves all at their size.
        raw: Keep pixels instead of JPEGs: about ten times larger, and nothing to decode.
        quality: Of the JPEGs that are made here, 1 to 100.

    Raises:
        ConfigError: If one is out of its range.
    """

    short_side: int = 256
    raw: bool = False
    quality: int = 90

    def __post_init__(self) -> None:
        if self.short_side < 0:
            raise ConfigError(f'short_side must be a number of pixels, or 0 to keep all sizes; got {self.short_side}')
        if not 1 <= self.quality <= 100:
            raise ConfigError(f'quality must be 1 to 100, got {self.quality}')


class Prepared(NamedTuple):
    """An image as a pack keeps it.

    Args:
        payload: A JPEG file, or RGB pixels row by row; the reason (UTF-8) if the image was left out.
        kind: `LEFT_OUT`, `RAW`, `ENCODED` or `KEPT`.
        height: In pixels.
        width: In pixels.
    """

    payload: bytes
    kind: int
    height: int = 0
    width: int = 0


def prepare_image(path: str, settings: PackSettings) -> Prepared:
    """Read an image and make of it what a pack keeps: upright RGB, no larger than ``settings`` say.

    A JPEG that is upright and small enough is kept byte for byte. What is larger is reduced by averaging over the area
    of each new pixel (OpenCV's INTER_AREA); what is not kept is encoded anew, with chroma subsampling 4:2:0.

    Raises:
        DataError: It cannot be read or decoded; the message names the path.
    """
    data = read_bytes(path)
    try:
        image = decode_image(data)
        height, width = image.shape[:2]
        small = settings.short_side in (0, min(height, width)) or min(height, width) < settings.short_side
        if small and not settings.raw and _can_be_kept(data, image):
            return Prepared(data, KEPT, height, width)
        if not small:
            image = _reduce(image, settings.short_side)
            height, width = image.shape[:2]
        if settings.raw:
            return Prepared(image.tobytes(), RAW, height, width)
        return Prepared(_encode(image, settings.quality), ENCODED, height, width)
    except DataError as error:
        raise DataError(f'{path}: {error}') from error


def _can_be_kept(data: bytes, upright: np.ndarray) -> bool:
    """Whether it is a grey or YCbCr JPEG that shows the same with and without its EXIF orientation."""
    import simplejpeg

    if not data.startswith(b'\xff\xd8\xff'):
        return False
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
    except (ValueError, KeyError):
        return False
    if colours in ('CMYK', 'YCCK'):
        return False
    return not has_exif(data) or np.array_equal(upright, decode_image(data, upright=False))


def _reduce(image: np.ndarray, short_side: int) -> np.ndarray:
    import cv2

    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _encode(image: np.ndarray, quality: int) -> bytes:
    import simplejpeg

    try:
        return simplejpeg.encode_jpeg(image, quality, 'RGB', SUBSAMPLING, fastdct=False)
    except ValueError as error:  # longer than 65,500 pixels
        height, width = image.shape[:2]
        raise DataError(f'an image of {width} x {height} pixels cannot be written as a JPEG ({error})') from None


class _Images(Dataset[Prepared]):
    """Prepares images where it is asked for them; the reason stands in the place of one that cannot be used."""

    def __init__(self, paths: Sequence[str], settings: PackSettings) -> None:
        self.paths, self.settings = paths, settings

    def __getitem__(self, number: int) -> Prepared:
        path = self.paths[number]
        try:
            return prepare_image(path, self.settings)
        except DataError as error:  # without the folder: the same images give the same bytes wherever they lie
            return Prepared(str(error).removeprefix(f'{path}: ').encode(), LEFT_OUT)


def prepare_images(
    paths: Sequence[str], settings: PackSettings, start: int = 0, workers: int = 0
) -> Iterator[tuple[int, Prepared]]:
    """Prepare images in order.

    Args:
        paths: Where they are.
        settings: How to prepare them.
        start: Number of the first.
        workers: Processes that do it; 0 does it here.

    Yields:
        The number of the image, and what a pack keeps of it, or why it is left out.
    """
    numbers = range(start, len(paths))
    # torch's loader keeps the order, and holds few results at a time.
    options: dict[str, Any] = {}
    if workers:
        options = dict(prefetch_factor=16, worker_init_fn=partial(_start_worker, parent=os.getpid()))
    if workers and sys.platform == 'linux':
        options['multiprocessing_context'] = 'fork'
    loader = DataLoader(
        _Images(paths, settings), None, sampler=numbers, num_workers=workers, collate_fn=_as_it_is, **options
    )
    return zip(numbers, loader)


def _start_worker(worker_id: int, parent: int) -> None:
    init_worker(worker_id)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone. torch's workers wait for ever if they were sending an image then."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _as_it_is(prepared: Any) -> Any:
    return prepared
