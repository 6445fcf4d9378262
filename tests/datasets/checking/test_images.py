"""Every kind of defect, in a file of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlcls.datasets.checking import images
from mlcls.datasets.checking.images import MODES, STATUSES, available_workers, inspect_images
from mlcls.errors import DataError

from ..conftest import encode, exif
from .conftest import photo

JPEG = encode(photo(1), 'JPEG', quality=90)
PNG = encode(photo(1), 'PNG')

BROKEN = {
    'empty': (b'', 'empty', '0 bytes'),
    'text': (b'<html>404 not found</html>' * 20, 'not an image', 'not an image'),
    'cut JPEG': (JPEG[: len(JPEG) // 2], 'damaged', 'truncated'),
    'cut JPEG with an end marker': (JPEG[: len(JPEG) // 2] + b'\xff\xd9', 'damaged', 'truncated'),
    'cut PNG': (PNG[: len(PNG) // 2], 'damaged', 'truncated'),
    'header alone': (JPEG[:20], 'not an image', ''),
}


def inspect(tmp_path: Path, content: bytes) -> tuple[Any, str]:
    path = tmp_path / 'file'
    path.write_bytes(content)
    table = inspect_images([str(path)], workers=0)
    return table.records[0], table.reasons.get(0, '')


@pytest.mark.parametrize('name', BROKEN)
def test_broken_files_are_told_apart(tmp_path: Path, name: str) -> None:
    content, status, words = BROKEN[name]
    record, reason = inspect(tmp_path, content)
    assert STATUSES[record['status']] == status
    assert words in reason and reason


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    table = inspect_images([str(tmp_path / 'none.jpg'), str(tmp_path)], workers=0)
    assert [STATUSES[status] for status in table['status']] == ['missing', 'unreadable']
    assert table.reasons[0] == 'there is no such file' and 'cannot be read' in table.reasons[1]
    assert not table.usable.any()


def deep_png(colours: int) -> bytes:
    import cv2

    pixels = (photo(1).astype(np.uint16) << 8)[..., :colours]
    return cv2.imencode('.png', pixels)[1].tobytes()


KINDS = {
    'colour': JPEG,
    'grey': encode(Image.fromarray(photo(1)).convert('L'), 'PNG'),
    'palette': encode(Image.fromarray(photo(1)).convert('P'), 'PNG'),
    'alpha': encode(Image.fromarray(photo(1)).convert('RGBA'), 'PNG'),
    'CMYK': encode(Image.fromarray(photo(1)).convert('CMYK'), 'JPEG'),
    '16-bit': deep_png(1),
}


@pytest.mark.parametrize('kind', KINDS)
def test_modes(tmp_path: Path, kind: str) -> None:
    record, _ = inspect(tmp_path, KINDS[kind])
    assert MODES[record['mode']] == kind and STATUSES[record['status']] == 'ok'
    assert (record['width'], record['height']) == (96, 72)
    assert record['is_grey'] == (kind in ('grey', '16-bit'))


def test_a_png_of_16_bits_a_channel_is_seen_though_pillow_says_rgb(tmp_path: Path) -> None:
    record, _ = inspect(tmp_path, deep_png(3))
    assert MODES[record['mode']] == '16-bit'


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_turned_images_have_their_stored_size_and_upright_pixels(tmp_path: Path, orientation: int) -> None:
    record, _ = inspect(tmp_path, encode(photo(1), 'JPEG', quality=90, exif=exif(orientation)))
    assert record['orientation'] == orientation
    assert (record['width'], record['height']) == (96, 72)
    upright, _ = inspect(tmp_path, JPEG)
    assert (record['pixel_digest'] == upright['pixel_digest']).all() == (orientation == 1)


def test_digests_of_file_and_pixels(tmp_path: Path) -> None:
    first, _ = inspect(tmp_path, PNG)
    again, _ = inspect(tmp_path, encode(photo(1), 'PNG', compress_level=1))
    bitmap, _ = inspect(tmp_path, encode(photo(1), 'BMP'))
    other = photo(1).copy()
    other[3, 4, 1] ^= 1
    changed, _ = inspect(tmp_path, encode(other, 'PNG'))
    assert (first['pixel_digest'] == again['pixel_digest']).all()
    assert (first['pixel_digest'] == bitmap['pixel_digest']).all()
    assert (first['file_digest'] != bitmap['file_digest']).any()
    assert (first['pixel_digest'] != changed['pixel_digest']).any()
    # The same bytes in another shape are another picture.
    wide, _ = inspect(tmp_path, encode(np.zeros((10, 40, 3), np.uint8), 'PNG'))
    high, _ = inspect(tmp_path, encode(np.zeros((40, 10, 3), np.uint8), 'PNG'))
    assert (wide['pixel_digest'] != high['pixel_digest']).any()
    assert wide['is_flat'] and not first['is_flat']


def test_the_hash_is_imagehash_of_the_picture(tmp_path: Path) -> None:
    import imagehash

    record, _ = inspect(tmp_path, PNG)
    bits = imagehash.phash(Image.fromarray(photo(1))).hash.ravel()
    assert int(record['hash']) == int(''.join('1' if bit else '0' for bit in bits), 2)
    grey = Image.fromarray(photo(1)).convert('L').resize((16, 16), Image.Resampling.BOX)
    assert (record['thumb'].reshape(16, 16) == np.asarray(grey)).all()


def test_workers_change_nothing(tmp_path: Path) -> None:
    paths = []
    for number in range(100):
        content = BROKEN['cut JPEG'][0] if number % 10 == 7 else encode(photo(number, (20, 30)), 'PNG')
        (tmp_path / f'{number}').write_bytes(content)
        paths.append(str(tmp_path / f'{number}'))
    done: list[int] = []
    alone, together = inspect_images(paths, 0, done.append), inspect_images(paths, 2, done.append)
    assert (alone.records == together.records).all() and alone.reasons == together.reasons
    assert sorted(alone.reasons) == list(range(7, 100, 10))
    assert sum(done) == 200


def die(paths: list[str]) -> None:
    os._exit(9)


def test_a_killed_process_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, '_inspect_chunk', die)
    with pytest.raises(DataError, match='was killed, perhaps for lack of memory; use fewer workers'):
        inspect_images([str(tmp_path / f'{number}') for number in range(100)], workers=1)


def test_workers_fit_the_machine() -> None:
    assert 1 <= available_workers() <= (os.cpu_count() or 1)
