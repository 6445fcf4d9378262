"""What of an image goes into a pack."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mlcls.datasets.packs import PackSettings
from mlcls.datasets.packs.images import prepare_image, prepare_images
from mlcls.datasets.packs.layout import ENCODED, KEPT, LEFT_OUT, RAW
from mlcls.errors import ConfigError, DataError

from ..conftest import Write, encode
from .conftest import SHORT_SIDE, files, noise

SETTINGS = PackSettings(SHORT_SIDE)


def pixels(data: bytes) -> np.ndarray:
    """By Pillow, upright; independent of our decoder."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB'))


def area_mean(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Mean of an image over the area of each new pixel, along one axis: differences of the integral."""
    image = np.moveaxis(np.asarray(image, float), axis, 0)
    integral = np.concatenate([np.zeros_like(image[:1]), np.cumsum(image, axis=0)])
    edges = np.linspace(0, len(image), size + 1)
    low = np.minimum(edges.astype(int), len(image) - 1)
    part = (edges - low).reshape(-1, *[1] * (image.ndim - 1))
    at_edges = integral[low] * (1 - part) + integral[low + 1] * part
    return np.moveaxis(np.diff(at_edges, axis=0) * size / len(image), 0, axis)


@pytest.mark.parametrize('name', ['small.jpg', 'grey.jpg', 'upright.jpg', 'edge.jpg'])
def test_small_upright_jpegs_are_kept_byte_for_byte(write: Write, name: str) -> None:
    data = files()[name]
    prepared = prepare_image(str(write(name, data)), SETTINGS)
    assert prepared.payload == data
    assert prepared.kind == KEPT
    assert (prepared.height, prepared.width) == pixels(data).shape[:2]


@pytest.mark.parametrize('name', ['small.png', 'turned.jpg', 'cmyk.jpg'])
def test_other_small_files_become_upright_jpegs_of_the_same_size(write: Write, name: str) -> None:
    data = files()[name]
    prepared = prepare_image(str(write(name, data)), SETTINGS)
    image = Image.open(io.BytesIO(prepared.payload))
    assert image.format == 'JPEG' and image.mode == 'RGB' and image.getexif().get(0x0112, 1) == 1
    assert prepared.kind == ENCODED
    assert (prepared.height, prepared.width) == image.size[::-1] == pixels(data).shape[:2]
    assert np.abs(pixels(prepared.payload).astype(int) - pixels(data)).mean() < 6


@pytest.mark.parametrize('name', ['large.jpg', 'turned_large.jpg', 'thin.png'])
def test_large_images_are_reduced_to_the_short_side(write: Write, name: str) -> None:
    data = files()[name]
    height, width = pixels(data).shape[:2]
    path = str(write(name, data))
    prepared = prepare_image(path, PackSettings(SHORT_SIDE, raw=True))
    assert min(prepared.height, prepared.width) == SHORT_SIDE
    assert prepared.height / prepared.width == pytest.approx(height / width, rel=0.02)
    expected = area_mean(area_mean(pixels(data), prepared.height, 0), prepared.width, 1)
    found = np.frombuffer(prepared.payload, np.uint8).reshape(expected.shape)
    assert np.abs(found - expected).max() < 2  # Pillow and our decoder may differ by 1
    encoded = prepare_image(path, SETTINGS)
    assert encoded.kind == ENCODED and pixels(encoded.payload).shape == expected.shape
    assert np.abs(pixels(encoded.payload).astype(int) - expected).mean() < 8  # colours at half resolution


def test_reducing_averages_instead_of_picking(write: Write) -> None:
    """A board of single black and white pixels becomes grey; without antialiasing it would be black, white or moire."""
    board = np.indices((96, 96)).sum(axis=0) % 2 * 255
    path = write('board.png', encode(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 'PNG'))
    prepared = prepare_image(str(path), PackSettings(SHORT_SIDE, raw=True))
    assert np.abs(np.frombuffer(prepared.payload, np.uint8).astype(int) - 127).max() < 32


@pytest.mark.parametrize('name', list(files())[:10])
def test_raw_pixels_are_those_of_the_file(write: Write, name: str) -> None:
    data = files()[name]
    prepared = prepare_image(str(write(name, data)), PackSettings(0, raw=True))
    image = np.frombuffer(prepared.payload, np.uint8).reshape(prepared.height, prepared.width, 3)
    assert prepared.kind == RAW
    assert image.shape == pixels(data).shape
    assert np.abs(image.astype(int) - pixels(data)).mean() < 2


def test_no_image_is_enlarged(write: Write) -> None:
    path = write('tiny.png', encode(noise(3, 5, 0), 'PNG'))
    prepared = prepare_image(str(path), PackSettings(256, raw=True))
    assert (prepared.height, prepared.width) == (3, 5)


def test_short_side_0_keeps_sizes(write: Write) -> None:
    data = files()['large.jpg']
    assert prepare_image(str(write('large.jpg', data)), PackSettings(0)).payload == data


def test_quality_makes_a_difference(write: Write) -> None:
    path = str(write('large.jpg', files()['large.jpg']))
    low, high = (len(prepare_image(path, PackSettings(SHORT_SIDE, quality=quality)).payload) for quality in (20, 95))
    assert low < high


def test_a_truncated_jpeg_is_not_kept(write: Write) -> None:
    path = write('short.jpg', files()['small.jpg'][:-200])
    with pytest.raises(DataError, match=rf'{path}: .*(truncated|decoded)'):
        prepare_image(str(path), SETTINGS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='none.jpg: no such file'):
        prepare_image(str(tmp_path / 'none.jpg'), SETTINGS)


def test_an_image_too_long_for_a_jpeg(write: Write) -> None:
    path = write('long.png', encode(np.zeros((1, 66_000, 3), np.uint8), 'PNG'))
    with pytest.raises(DataError, match='66000 x 1 pixels cannot be written as a JPEG'):
        prepare_image(str(path), SETTINGS)


@pytest.mark.parametrize('workers', [0, 2])
def test_images_come_in_order_with_reasons_in_the_place_of_bad_ones(write: Write, workers: int) -> None:
    names = list(files())[:7]
    paths = [str(write(name, files()[name])) for name in names]
    paths[3] = str(write('empty.jpg', b''))
    found = dict(prepare_images(paths, SETTINGS, 1, workers))
    assert list(found) == [1, 2, 3, 4, 5, 6]
    assert found[3].kind == LEFT_OUT and found[3].payload == b'the file is empty (0 bytes)'
    for number in (1, 2, 4, 5, 6):
        assert found[number] == prepare_image(paths[number], SETTINGS)


@pytest.mark.parametrize(
    'arguments, words',
    [
        ({'short_side': -1}, 'short_side must be a number of pixels, or 0 to keep all sizes; got -1'),
        ({'quality': 0}, 'quality must be 1 to 100, got 0'),
        ({'quality': 101}, 'quality must be 1 to 100, got 101'),
    ],
)
def test_impossible_settings(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PackSettings(**arguments)
