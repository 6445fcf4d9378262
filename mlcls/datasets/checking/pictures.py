"""Findings about single image files: those that cannot be used, and those that are unusual."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from mlcls.datasets.image_files import find_missing

from .images import DAMAGED, EMPTY, MISSING, MODES, NOT_AN_IMAGE, OK, UNREADABLE, ImageTable
from .report import MAX_ITEMS, Finding, counted
from .splits import Split

#: Images with a shorter side than this hold little to see, in pixels.
TINY = 32
#: Images this many times as long as they are high (or the other way round) lose most of themselves to a square crop.
EXTREME_ASPECT = 4.0
#: Images of more pixels than this slow training down: they are decoded whole each time.
HUGE = 20_000_000
_BAD = {
    UNREADABLE: ('image-unreadable', 'cannot be read'),
    EMPTY: ('image-empty', 'of 0 bytes'),
    NOT_AN_IMAGE: ('image-not-an-image', 'of no known image format'),
    DAMAGED: ('image-damaged', 'truncated or damaged'),
}


def missing_files(split: Split) -> Iterator[Finding]:
    """Files that do not exist, by listings of folders; nothing is opened."""
    if split.packed:
        return
    absent = find_missing(split.annotations.img_paths, split.img_root)
    if len(absent.images):
        yield _missing(split, absent.images, absent.hint)


def picture_findings(split: Split, table: ImageTable) -> Iterator[Finding]:
    """Findings about the image files of a split.

    Args:
        split: The split.
        table: What is known of its images, in their order.
    """
    status = table['status']
    missing = np.flatnonzero(status == MISSING)
    if len(missing):
        yield _missing(split, missing, find_missing([split.paths[i] for i in missing]).hint)
    for code, (name, words) in _BAD.items():
        bad = np.flatnonzero(status == code)
        if len(bad):
            severity = 'error' if split.on_error == 'raise' else 'warning'
            items = tuple(f'{split.paths[i]}: {table.reasons[int(i)]}' for i in bad[:MAX_ITEMS])
            yield Finding(severity, name, f'{counted(len(bad), "file")} {words}', split.name, items, len(bad))
    yield from _unusual(split, table)


def _missing(split: Split, images: np.ndarray, hint: str) -> Finding:
    if len(images) == len(split) and not hint:
        hint = f"; looked in '{split.img_root}' (see data_root and data_prefix of the dataset, or --images)"
    message = f'{counted(len(images), "image")} of {len(split):,} {"do" if len(images) > 1 else "does"} not exist{hint}'
    severity = 'warning' if split.missing == 'skip' and len(images) < len(split) else 'error'
    items = tuple(split.paths[i] for i in images[:MAX_ITEMS])
    return Finding(severity, 'image-missing', message, split.name, items, len(images))


def _unusual(split: Split, table: ImageTable) -> Iterator[Finding]:
    good = np.flatnonzero(table['status'] == OK)
    width, height = table['width'][good].astype(np.int64), table['height'][good].astype(np.int64)
    short, long = np.minimum(width, height), np.maximum(width, height)

    def about(
        severity: str, code: str, chosen: np.ndarray, words: str, describe: Callable[[int], str] | None = None
    ) -> Iterator[Finding]:
        if chosen.any():
            numbers = good[chosen]
            items = tuple(split.paths[i] + (f' ({describe(int(i))})' if describe else '') for i in numbers[:MAX_ITEMS])
            message = f'{counted(len(numbers), "image")} {words}'
            yield Finding(severity, code, message, split.name, items, len(numbers))

    def size(i: int) -> str:
        return f'{table["width"][i]} x {table["height"][i]}'

    yield from about('warning', 'image-flat', table['is_flat'][good], 'of nearly one colour: nothing to see')
    yield from about('warning', 'image-tiny', short < TINY, f'with a side below {TINY} pixels', size)
    extreme = long >= EXTREME_ASPECT * short
    words = f'at least {EXTREME_ASPECT:g} times as long as wide: crops show a small part'
    yield from about('note', 'image-aspect', extreme, words, size)
    words = f'of more than {HUGE // 10**6} million pixels: decoding them slows training, store them smaller'
    yield from about('note', 'image-huge', width * height > HUGE, words, size)
    turned = table['orientation'][good] > 1
    yield from about('note', 'image-turned', turned, 'marked by EXIF as turned; put upright on loading')
    mode = table['mode'][good]
    odd = mode >= MODES.index('palette')
    kinds = ', '.join(f'{(mode == i).sum()} {name}' for i, name in enumerate(MODES) if i > 1 and (mode == i).any())
    words = f'stored unusually ({kinds}); turned into RGB on loading'
    yield from about('note', 'image-mode', odd, words, lambda i: MODES[table['mode'][i]])
    grey = table['is_grey'][good] & ~table['is_flat'][good]
    if 0 < grey.sum() < len(good) / 2:
        yield from about('note', 'image-grey', grey, 'grey among coloured ones')
