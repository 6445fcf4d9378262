"""Decoding: every kind of file becomes the upright RGB image that Pillow shows, or an error that says why not."""

from __future__ import annotations

import builtins
import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from mlcls.datasets.transforms import LoadImageFromFile, decode_image
from mlcls.datasets.transforms.loading import read_bytes
from mlcls.errors import ConfigError, DataError
from tests.datasets.conftest import encode, exif

RNG = np.random.default_rng(0)


def pillow(data: bytes) -> np.ndarray:
    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB'))


def check(data: bytes, expected: np.ndarray, **options) -> None:
    image = decode_image(data, **options)
    assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable
    np.testing.assert_array_equal(image, expected)


@pytest.fixture(params=['simplejpeg', 'cv2', 'pillow'])
def installed(request, monkeypatch):
    """Which decoder of JPEGs is the best one installed."""
    absent = {'simplejpeg': (), 'cv2': ('simplejpeg',), 'pillow': ('simplejpeg', 'cv2')}[request.param]
    real = builtins.__import__

    def importing(name, *args, **kwargs):
        if name in absent:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in absent:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(builtins, '__import__', importing)
    return request.param


@pytest.mark.parametrize('options', [{}, {'quality': 95, 'subsampling': 0}, {'progressive': True}, {'optimize': True}])
def test_jpeg(picture, options, installed):
    data = encode(picture, 'JPEG', **options)
    check(data, pillow(data))


def test_grey_jpeg(picture, installed):
    data = encode(Image.fromarray(picture).convert('L'), 'JPEG')
    check(data, pillow(data))


@pytest.mark.parametrize('backend', ['auto', 'cv2', 'pillow', 'turbojpeg'])
def test_backends_agree(picture, backend):
    data = encode(picture, 'JPEG', exif=exif(6))
    check(data, pillow(data), backend=backend)


def test_cmyk_jpeg(picture):
    data = encode(Image.fromarray(picture).convert('CMYK'), 'JPEG', quality=95)
    check(data, pillow(data))
    assert np.abs(decode_image(data).astype(int) - picture).max() < 25  # not inverted


def test_ycck_jpeg(picture):
    """The Adobe marker turns the four channels into YCCK, which Pillow reads as such."""
    data = bytearray(encode(Image.fromarray(picture).convert('CMYK'), 'JPEG'))
    marker = data.index(b'Adobe')
    data[marker + 11] = 2
    check(bytes(data), pillow(bytes(data)))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_exif_orientation(picture, orientation, kind):
    data = encode(picture, kind, exif=exif(orientation), **({'lossless': True} if kind == 'WEBP' else {}))
    check(data, pillow(data))
    assert decode_image(data).shape == ((60, 90, 3) if orientation < 5 else (90, 60, 3))
    check(data, np.array(Image.open(io.BytesIO(data)).convert('RGB')), upright=False)


@pytest.mark.parametrize('orientation', [0, 9, 77])
def test_orientations_that_mean_nothing(picture, orientation):
    data = encode(picture, 'JPEG', exif=exif(orientation))
    check(data, pillow(data))


def test_damaged_exif_does_not_matter(picture):
    data = bytearray(encode(picture, 'JPEG', exif=exif(6)))
    start = data.index(b'Exif\0\0') + 6
    data[start : start + 8] = b'\xff' * 8
    assert decode_image(bytes(data)).shape == (60, 90, 3)


def png(bits: int, colour: int, raw: bytes, width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for kinds that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    stride = len(raw) // height
    lines = b''.join(b'\0' + raw[row * stride : (row + 1) * stride] for row in range(height))
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0))
        + b''.join(chunk(*item) for item in chunks)
        + chunk(b'IDAT', zlib.compress(lines))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'WEBP', 'TIFF', 'PPM', 'GIF'])
def test_other_formats(picture, kind):
    data = encode(picture, kind, **({'lossless': True} if kind == 'WEBP' else {}))
    check(data, pillow(data))


def test_png_grey(picture):
    grey = picture[..., 1]
    check(encode(grey, 'PNG'), np.repeat(grey[..., None], 3, axis=2))


def test_png_alpha_is_dropped_not_blended(picture):
    alpha = np.zeros((60, 90), np.uint8)
    alpha[::2] = 128
    check(encode(np.dstack([picture, alpha]), 'PNG'), picture)
    grey = Image.merge('LA', (Image.fromarray(picture[..., 0]), Image.fromarray(alpha)))
    check(encode(grey, 'PNG'), np.repeat(picture[..., :1], 3, axis=2))
    check(encode(np.dstack([picture, alpha]), 'WEBP', lossless=True, exact=True), picture)


@pytest.mark.parametrize('transparency', [None, 3, bytes(range(64))])
@pytest.mark.filterwarnings('error')
def test_png_palette_with_and_without_transparency(picture, transparency):
    paletted = Image.fromarray(picture).quantize(64)
    colours = np.array(paletted.getpalette()).reshape(-1, 3)[np.asarray(paletted)].astype(np.uint8)
    check(encode(paletted, 'PNG', **({} if transparency is None else {'transparency': transparency})), colours)


def test_png_one_bit(picture):
    bits = picture[..., 0] > 100
    check(encode(Image.fromarray(bits), 'PNG'), np.repeat((bits * np.uint8(255))[..., None], 3, axis=2))


def test_png_16_bit_grey_keeps_the_high_byte():
    values = np.random.default_rng(0).integers(0, 65536, (60, 90), dtype=np.uint16)
    expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    check(encode(values, 'PNG'), expected)
    check(png(16, 0, values.astype('>u2').tobytes(), 90, 60), expected)
    check(encode(values, 'TIFF'), expected)


def test_png_16_bit_rgb_keeps_the_high_byte():
    values = np.random.default_rng(0).integers(0, 65536, (60, 90, 3), dtype=np.uint16)
    check(png(16, 2, values.astype('>u2').tobytes(), 90, 60), (values >> 8).astype(np.uint8))


def test_png_with_transparent_colour(picture):
    """A colour that counts as transparent (tRNS) is a colour like any other."""
    data = png(8, 2, picture.tobytes(), 90, 60, (b'tRNS', struct.pack('>HHH', *picture[0, 0].tolist())))
    check(data, picture)


def test_animation_gives_its_first_frame(picture):
    frames = [Image.fromarray(picture).quantize(32), Image.fromarray(255 - picture).quantize(32)]
    data = encode(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    check(data, np.array(frames[0].convert('RGB')))


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.999])
def test_truncated_jpeg(picture, share, installed):
    data = encode(picture, 'JPEG', quality=95)
    with pytest.raises(DataError, match=r'truncated|cannot be decoded|not an image'):
        decode_image(data[: int(len(data) * share)])


def test_jpeg_whose_middle_is_missing(picture):
    """With an end marker Pillow and cv2 take it and fill with grey; simplejpeg notices."""
    data = encode(picture, 'JPEG', quality=95)
    with pytest.raises(DataError, match=r'truncated or damaged .*premature end'):
        decode_image(data[: len(data) // 2] + b'\xff\xd9')


def test_truncated_png(picture):
    data = encode(picture, 'PNG')
    with pytest.raises(DataError, match='cannot be decoded: image file is truncated'):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize(
    'data, message',
    [
        (b'', r'the file is empty \(0 bytes\)'),
        (b'hello, I am a text file', r"not an image, or of an unknown format \(begins with b'hello, I am '\)"),
        (b'\xff\xd8\xff', 'not an image'),
        (b'\xff\xd8\xff\xe0' + b'\0' * 50, 'not an image|cannot be decoded'),
        (b'\x89PNG\r\n\x1a\n', 'not an image'),
        (b'<!DOCTYPE html><html>404</html>', 'not an image'),
    ],
)
def test_not_an_image(data, message, installed):
    with pytest.raises(DataError, match=message):
        decode_image(data)


def test_warnings_of_the_decoder_do_not_matter(picture):
    """Bytes between the markers, as some cameras write them."""
    data = encode(picture, 'JPEG')
    marker = data.index(b'\xff\xdb')  # first quantisation table
    check(data[:marker] + b'\0\0' + data[marker:], pillow(data))


def test_deep_pixels():
    with pytest.raises(DataError, match='floating-point pixels, whose range is not known'):
        decode_image(encode(np.ones((4, 4), np.float32), 'TIFF'))
    with pytest.raises(DataError, match='32-bit pixels, whose range is not known'):
        decode_image(encode(np.full((4, 4), 10**6, np.int32), 'TIFF'))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF'])
@pytest.mark.filterwarnings('ignore')
def test_damaged_files_give_an_image_or_an_error_that_says_so(picture, kind):
    data = encode(picture[::3, ::3], kind, **({'exif': exif(6)} if kind in ('JPEG', 'PNG', 'WEBP', 'TIFF') else {}))
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 6)):
            damaged[position] = rng.integers(256)
        try:
            image = decode_image(bytes(damaged[: rng.integers(len(data) // 2, len(data) + 1)]))
        except DataError as error:
            assert str(error)
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_enormous_images_are_refused(picture, installed):
    data = bytearray(encode(picture, 'JPEG'))
    frame = data.index(b'\xff\xc0')
    data[frame + 5 : frame + 9] = b'\xff\xdc\xff\xdc'
    with pytest.raises(DataError, match=r'cannot be decoded|truncated or damaged'):
        decode_image(bytes(data))


def test_load(picture, write):
    path = str(write('ä b.png', encode(picture, 'PNG')))
    sample = LoadImageFromFile()({'img_path': path}, RNG)
    np.testing.assert_array_equal(sample['img'], picture)
    assert sample['img_shape'] == sample['ori_shape'] == (60, 90)


def test_load_goes_by_content_not_by_name(picture, write):
    path = str(write('a.jpg', encode(picture, 'PNG')))
    np.testing.assert_array_equal(LoadImageFromFile()({'img_path': path}, RNG)['img'], picture)


def test_load_grey(picture, write):
    path = str(write('a.png', encode(picture, 'PNG')))
    image = LoadImageFromFile(color_type='grayscale')({'img_path': path}, RNG)['img']
    expected = np.asarray(Image.fromarray(picture).convert('L')).astype(int)
    assert image.shape == (60, 90, 3) and np.abs(image.astype(int) - expected[..., None]).max() <= 1


def test_load_without_orientation(picture, write):
    path = str(write('a.jpg', encode(picture, 'JPEG', exif=exif(6))))
    assert LoadImageFromFile()({'img_path': path}, RNG)['img'].shape == (90, 60, 3)
    assert LoadImageFromFile(color_type='color_ignore_orientation')({'img_path': path}, RNG)['img'].shape == (60, 90, 3)


def test_load_through_a_file_backend(picture, write):
    path = str(write('a.png', encode(picture, 'PNG')))
    load = LoadImageFromFile(backend_args={'backend': 'local'})
    np.testing.assert_array_equal(load({'img_path': path}, RNG)['img'], picture)
    with pytest.raises(DataError, match=r'b\.png: no such file'):
        load({'img_path': path.replace('a.png', 'b.png')}, RNG)


@pytest.mark.parametrize('size', [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 40 * 2**20])
def test_files_of_all_sizes_are_read_whole(write, size):
    content = RNG.bytes(size)
    assert read_bytes(str(write('a.bin', content))) == content


def test_load_errors_name_the_path(write, tmp_path):
    path = write('broken.jpg', b'hello')
    with pytest.raises(DataError, match=r'broken\.jpg: not an image'):
        LoadImageFromFile()({'img_path': str(path)}, RNG)
    with pytest.raises(DataError, match=r'absent\.jpg: no such file'):
        LoadImageFromFile()({'img_path': str(tmp_path / 'absent.jpg')}, RNG)
    with pytest.raises(DataError, match='cannot be read'):
        LoadImageFromFile()({'img_path': str(tmp_path)}, RNG)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'to_float32': True}, 'to_float32=True is not supported; images stay uint8'),
        ({'ignore_empty': True}, "ignore_empty=True is not supported.*missing='skip'"),
        ({'color_type': 'unchanged'}, "LoadImageFromFile: unknown color_type 'unchanged'; choose from color"),
        ({'imdecode_backend': 'tifffile'}, "LoadImageFromFile: unknown imdecode_backend 'tifffile'"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        LoadImageFromFile(**arguments)


def test_exif_behind_a_large_segment(picture):
    data = encode(picture, 'JPEG', exif=exif(6))
    photoshop = b'\xff\xed\xff\xff' + b'8BIM' + bytes(0xFFFF - 6)  # APP13, as long as a segment can be
    moved = data[:2] + photoshop + data[2:]
    assert moved.find(b'Exif') > 65536
    assert np.array_equal(decode_image(moved), decode_image(data))


@pytest.mark.parametrize('brand', [b'heic', b'mif1', b'avif'])
def test_pictures_of_telephones(brand):
    with pytest.raises(DataError, match='a HEIC or AVIF image, as telephones make; convert it to JPEG'):
        decode_image(b'\0\0\0\x18ftyp' + brand + bytes(64))
