"""Decoding parts of JPEGs, beside decoding them whole with Pillow."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlcls.datasets.transforms import jpeg
from mlcls.datasets.transforms.jpeg import decode_top, exif_orientation, read_frame
from tests.datasets.conftest import encode, exif


def whole(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert('RGB'))


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Pictures of any small size, from smooth to noise."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    y, x = np.mgrid[0:height, 0:width]
    smooth = 128 + 90 * np.sin(x[..., None] / rng.uniform(2, 30, 3) + y[..., None] / rng.uniform(2, 30, 3))
    noise = rng.normal(0, draw(st.sampled_from([0, 10, 80])), (height, width, 3))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


@settings(max_examples=150, deadline=None)
@given(
    image=images(),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(['444', '422', '420', '440', '411', 'Gray']),
    part=st.floats(0, 1),
)
def test_the_rows_that_are_needed_are_those_of_the_whole_image(image, quality, subsampling, part):
    if subsampling == 'Gray':
        data = simplejpeg.encode_jpeg(image[..., :1].copy(), quality, 'GRAY', 'Gray')
    else:
        data = simplejpeg.encode_jpeg(image, quality, 'RGB', subsampling)
    frame = read_frame(data)
    assert frame[:2] == image.shape[:2] and frame.can_end_early and frame.orientation == 1
    bottom = max(1, round(part * len(image)))
    top = decode_top(data, frame, bottom)
    assert bottom <= len(top) <= bottom + 2 and top.shape[1:] == image.shape[1:]
    np.testing.assert_array_equal(top[:bottom], simplejpeg.decode_jpeg(data, 'RGB')[:bottom])


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'restart_marker_blocks': 3}, {'optimize': True}])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('bottom', [1, 16, 31, 32, 60])
def test_kinds_of_coding(picture, mode, options, bottom):
    data = encode(Image.fromarray(picture).convert(mode), 'JPEG', **options)
    frame = read_frame(data)
    assert frame[:2] == (60, 90)
    assert frame.can_end_early == (not {'progressive', 'restart_marker_blocks'} & options.keys())
    top = decode_top(data, frame, bottom)
    assert len(top) == (min(bottom + 2, 60) if frame.can_end_early else 60)
    np.testing.assert_array_equal(top[:bottom], whole(data)[:bottom])


def test_rows_below_are_really_left_out(picture, monkeypatch):
    """The decoder is told that the image ends there, and its complaint about the rest is expected."""
    tall = np.concatenate([picture] * 3)
    data = encode(tall, 'JPEG')
    said = []

    def decode(data, *args, **kwargs):
        said.append(simplejpeg.decode_jpeg_header(data)[0])
        return real(data, *args, **kwargs)

    real = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, 'decode_jpeg', decode)
    assert decode_top(data, read_frame(data), 50) is not None and said == [52]


@pytest.mark.parametrize('shrink', [2, 4])
@pytest.mark.parametrize('size', [(64, 64), (65, 67), (130, 71), (99, 250)])
@pytest.mark.parametrize('subsampling', ['444', '422', '420', '440', 'Gray'])
@pytest.mark.parametrize('progressive', [False, True])
def test_shrunk_pixels_are_means(size, shrink, subsampling, progressive):
    """Of blocks of 2 x 2 or 4 x 4; where colours are coarser, they are off at the borders of this steep picture."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    planes = [128 + 100 * np.sin(x / 17 + y / 23), 30 + 190 * y / size[0], 30 + 190 * x / size[1]]
    image = np.stack(planes, axis=-1).astype(np.uint8)
    if subsampling == 'Gray':
        data = encode(image[..., 0], 'JPEG', quality=97, progressive=progressive)
    elif progressive:
        data = encode(image, 'JPEG', quality=97, progressive=True)
    else:
        data = simplejpeg.encode_jpeg(image, 97, 'RGB', subsampling)
    full = whole(data).astype(float)
    found = decode_top(data, read_frame(data), size[0], shrink)
    assert found.shape == (-(-size[0] // shrink), -(-size[1] // shrink), 3)
    rows, columns = size[0] // shrink, size[1] // shrink  # blocks that are whole
    blocks = full[: rows * shrink, : columns * shrink].reshape(rows, shrink, columns, shrink, 3)
    difference = np.abs(found[:rows, :columns] - blocks.mean(axis=(1, 3)))
    assert difference.mean() < 1.5 and difference.max() < 12


@pytest.mark.parametrize('shrink', [2, 4])
@pytest.mark.parametrize('subsampling', ['444', '422', '420', '440', '411', 'Gray'])
@pytest.mark.parametrize('bottom', [64, 95, 96, 97, 128])
def test_shrunk_rows_do_not_depend_on_what_is_left_out(shrink, subsampling, bottom):
    image = np.random.default_rng(0).integers(0, 256, (200, 70, 3), dtype=np.uint8)
    if subsampling == 'Gray':
        data = encode(image[..., 0], 'JPEG')
    else:
        data = simplejpeg.encode_jpeg(image, 90, 'RGB', subsampling)
    frame, rows = read_frame(data), -(-bottom // shrink)
    expected = decode_top(data, frame, 200, shrink)[:rows].copy()
    top = decode_top(data, frame, bottom, shrink)
    assert len(top) < 200 // shrink
    np.testing.assert_array_equal(top[:rows], expected)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation(picture, orientation):
    assert read_frame(encode(picture, 'JPEG', exif=exif(orientation))).orientation == orientation


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize(
    'entry, expected',
    [
        ((0x0112, 3, 1, 6), 6),
        ((0x0112, 3, 1, 9), 0),
        ((0x0112, 3, 1, 0), 0),
        ((0x0112, 4, 1, 6), 0),
        ((0x0112, 3, 2, 6), 0),
        ((0x010F, 3, 1, 6), 1),
    ],
)
def test_orientation_written_by_hand(order, entry, expected):
    head = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', 8)
    tiff = head + struct.pack(order + 'HHHIHH', 1, *entry, 0)
    assert exif_orientation(tiff) == expected


@given(st.binary(max_size=60), st.sampled_from([b'II*\0', b'MM\0*', b'']))
def test_damaged_exif_never_fails(noise, head):
    assert 0 <= exif_orientation(head + noise) <= 8


def test_a_thumbnail_is_not_taken_for_the_image(picture):
    """A whole JPEG inside of the EXIF data, of another size, and the worst case, of the same size."""
    for inner in (picture[::2, ::2], 255 - picture):
        block = b'Exif\0\0' + b'MM\0*\0\0\0\x08\0\0\0\0\0\0' + encode(inner, 'JPEG')
        data = encode(picture, 'JPEG')
        data = data[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + data[2:]
        frame = read_frame(data)
        assert frame[:2] == (60, 90) and frame.orientation == 1
        top = decode_top(data, frame, 20)
        if inner.shape != picture.shape:
            np.testing.assert_array_equal(top[:20], whole(data)[:20])
        else:  # found by its size in the wrong place: noticed, and left to the other way
            assert top is None


def test_what_is_no_plain_jpeg_has_no_frame(picture):
    for data in (
        b'',
        b'\xff\xd8\xff',
        b'hello',
        encode(picture, 'PNG'),
        encode(Image.fromarray(picture).convert('CMYK'), 'JPEG'),
        encode(picture, 'JPEG')[:100],
    ):
        assert read_frame(data) is None


@pytest.mark.parametrize('share', [0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize('bottom', [8, 30, 60])
@pytest.mark.parametrize('progressive', [False, True])
def test_truncated_files_are_noticed_wherever_the_crop_ends(picture, share, bottom, progressive):
    data = encode(picture, 'JPEG', quality=95, progressive=progressive)
    assert decode_top(data[: int(len(data) * share)], read_frame(data), bottom) is None


def test_missing_data_above_the_crops_bottom_is_noticed(picture):
    data = encode(picture, 'JPEG', quality=95)
    cut = data[: len(data) // 2] + b'\xff\xd9'
    assert decode_top(cut, read_frame(data), 58) is None


def test_memory_is_used_again_and_grows():
    first = jpeg.scratch(100)
    assert np.shares_memory(first, jpeg.scratch(50)) and len(jpeg.scratch(50)) == 50
    assert len(jpeg.scratch(len(first) + 10**6)) == len(first) + 10**6
