"""Loading and cropping in one step, beside the same two transforms one after the other."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlcls.datasets.transforms import Compose, LoadImageFromFile, RandomFlip, RandomResizedCrop, fused
from mlcls.datasets.transforms.fused import LoadAndCrop
from mlcls.errors import DataError
from tests.datasets.conftest import encode, exif


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def sample(data: bytes, **more: Any) -> dict[str, Any]:
    return {'img_path': 'a.jpg', 'img_bytes': data, **more}


def one_after_the_other(pipeline: Compose, given: dict[str, Any], seed: int) -> tuple[dict[str, Any], float]:
    rng = generator(seed)
    for transform in pipeline.transforms:
        given = transform(given, rng)
    return given, rng.random()


def check_the_same(pipeline: Compose, data: bytes, seeds: range) -> None:
    for seed in seeds:
        rng = generator(seed)
        found = pipeline(sample(data), rng)
        expected, following = one_after_the_other(pipeline, sample(data), seed)
        assert found.keys() == expected.keys()
        np.testing.assert_array_equal(found['img'], expected['img'])
        assert found['img'].flags.writeable and found['img'].dtype == np.uint8
        assert (found['img_shape'], found['ori_shape']) == (expected['img_shape'], expected['ori_shape'])
        assert rng.random() == following


def crop_pipeline(scale: Any = 24, decode: str = 'exact', **options: Any) -> Compose:
    return Compose([LoadImageFromFile(decode=decode), RandomResizedCrop(scale, **options)])


def photo(height: int, width: int) -> np.ndarray:
    """Texture at several scales, smooth enough for a JPEG."""
    rng = generator(height * width)
    image = np.full((height, width, 3), 128, np.float32)
    for cell in (3, 9, 27, 81):
        noise = rng.normal(0, 18, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def with_xmp_orientation(image: np.ndarray) -> bytes:
    """EXIF data without an orientation, and XMP data with one, which Pillow takes."""
    tags = exif(6)
    del tags[0x0112]
    data = encode(image, 'JPEG', exif=tags)
    packet = b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="6"/>'
    return data[:2] + b'\xff\xe1' + (len(packet) + 2).to_bytes(2, 'big') + packet + data[2:]


KINDS = {
    'xmp': with_xmp_orientation,
    'jpeg': lambda image: encode(image, 'JPEG'),
    'fine colours': lambda image: encode(image, 'JPEG', subsampling=0, quality=95),
    'progressive': lambda image: encode(image, 'JPEG', progressive=True),
    'restarts': lambda image: encode(image, 'JPEG', restart_marker_blocks=3),
    'grey jpeg': lambda image: encode(Image.fromarray(image).convert('L'), 'JPEG'),
    'cmyk': lambda image: encode(Image.fromarray(image).convert('CMYK'), 'JPEG'),
    'extraneous bytes': lambda image: encode(image, 'JPEG').replace(b'\xff\xdb', b'\0\0\xff\xdb', 1),
    'png': lambda image: encode(image, 'PNG'),
    'palette': lambda image: encode(Image.fromarray(image).quantize(32), 'PNG'),
    '16 bit': lambda image: encode(image[..., 0].astype(np.uint16) * 257, 'PNG'),
    'webp': lambda image: encode(image, 'WEBP', lossless=True),
    **{f'exif {n}': lambda image, n=n: encode(image, 'JPEG', exif=exif(n)) for n in (1, 3, 6, 8, 77)},
}


@pytest.mark.parametrize('kind', KINDS)
def test_the_same_pixels_for_every_kind_of_file(picture, kind):
    check_the_same(crop_pipeline(), KINDS[kind](picture), range(8))


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    scale=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    subsampling=st.sampled_from(['444', '422', '420', 'Gray']),
    quality=st.integers(1, 100),
    seed=st.integers(0, 1000),
)
def test_the_same_pixels_for_every_size(size, scale, subsampling, quality, seed):
    image = generator(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    grey = subsampling == 'Gray'
    data = simplejpeg.encode_jpeg(
        image[..., :1].copy() if grey else image, quality, 'GRAY' if grey else 'RGB', subsampling
    )
    check_the_same(crop_pipeline(scale, crop_ratio_range=(0.01, 1.0)), data, range(seed, seed + 2))


@pytest.mark.parametrize('interpolation', ['nearest', 'bilinear', 'bicubic', 'area', 'lanczos'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_the_same_pixels_for_every_filter(picture, interpolation, backend):
    check_the_same(crop_pipeline(interpolation=interpolation, backend=backend), encode(picture, 'JPEG'), range(3))


@pytest.mark.parametrize(
    'arguments',
    [
        {'imdecode_backend': 'cv2'},
        {'imdecode_backend': 'pillow'},
        {'imdecode_backend': 'turbojpeg'},
        {'color_type': 'grayscale'},
        {'color_type': 'color_ignore_orientation'},
    ],
)
def test_the_same_pixels_for_every_argument(picture, arguments):
    data = encode(picture, 'JPEG', exif=exif(6))
    check_the_same(Compose([LoadImageFromFile(**arguments), RandomResizedCrop(48)]), data, range(5))


def test_without_simplejpeg(picture, monkeypatch):
    import builtins
    import sys

    real = builtins.__import__

    def importing(name, *args, **kwargs):
        if name == 'simplejpeg':
            raise ImportError(name)
        return real(name, *args, **kwargs)

    data = encode(picture, 'JPEG')
    expected = crop_pipeline()(sample(data), generator(0))['img']
    monkeypatch.delitem(sys.modules, 'simplejpeg', raising=False)
    monkeypatch.setattr(builtins, '__import__', importing)
    np.testing.assert_array_equal(crop_pipeline()(sample(data), generator(0))['img'], expected)


def test_a_crop_of_the_size_of_the_result_is_a_copy(picture):
    """Nothing that is handed out lies in the memory that the next image is decoded into."""
    pipeline = crop_pipeline((60, 90), crop_ratio_range=(1, 1), aspect_ratio_range=(1.5, 1.5))
    first = pipeline(sample(encode(picture, 'JPEG')), generator(0))['img']
    kept = first.copy()
    pipeline(sample(encode(255 - picture, 'JPEG')), generator(0))
    np.testing.assert_array_equal(first, kept)


def test_xmp_turns_the_image(picture):
    assert LoadImageFromFile()(sample(with_xmp_orientation(picture)), generator(0))['img'].shape == (90, 60, 3)


# What decoding at a smaller size does


@pytest.fixture
def shrinks(monkeypatch):
    """By how much each image was shrunk by the decoder."""
    seen = []

    def decode(data, frame, bottom, shrink=1):
        seen.append(shrink)
        return real(data, frame, bottom, shrink)

    real = fused.decode_top
    monkeypatch.setattr(fused, 'decode_top', decode)
    return seen


@pytest.mark.parametrize(
    'crop, scale, expected',
    [
        ((10, 20, 100, 200), (50, 50), 2),
        ((10, 20, 99, 200), (50, 50), 1),
        ((10, 20, 200, 99), (50, 50), 1),
        ((11, 21, 101, 203), (50, 100), 2),
        ((11, 21, 101, 203), (25, 50), 4),
        ((0, 0, 300, 400), (20, 20), 4),
        ((0, 0, 60, 60), (10, 10), 1),  # of so few rows it is not told apart from 3/8
    ],
)
def test_when_it_decodes_at_a_smaller_size(monkeypatch, shrinks, crop, scale, expected):
    monkeypatch.setattr(RandomResizedCrop, 'draw', lambda *_: fused.Box(*crop))
    data = encode(photo(300, 400), 'JPEG')
    for decode, factor in (('fast', expected), ('exact', 1)):
        image = crop_pipeline(scale, decode)(sample(data), generator(0))['img']
        assert image.shape == (*scale, 3) and shrinks.pop() == factor and not shrinks


@pytest.mark.parametrize('options', [{'interpolation': 'area'}, {'backend': 'pillow'}])
def test_filters_that_cannot_begin_between_pixels_need_a_crop_that_does_not(monkeypatch, shrinks, options):
    data = encode(photo(300, 400), 'JPEG')
    for crop, expected in (((10, 20, 100, 200), 2), ((11, 20, 100, 200), 1), ((10, 20, 101, 200), 1)):
        monkeypatch.setattr(RandomResizedCrop, 'draw', lambda *_, crop=crop: fused.Box(*crop))
        crop_pipeline(50, 'fast', **options)(sample(data), generator(0))
        assert shrinks.pop() == expected


def test_nearest_never_decodes_at_a_smaller_size(shrinks):
    pipeline = crop_pipeline(16, 'fast', interpolation='nearest')
    for seed in range(20):
        pipeline(sample(encode(photo(300, 400), 'JPEG')), generator(seed))
    assert set(shrinks) == {1}


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic', 'lanczos'])
@pytest.mark.parametrize('subsampling', [0, 2])
def test_nothing_moves(shrinks, interpolation, subsampling):
    """In a picture whose red value is the column, and the green one the row, a pixel tells where it comes from."""
    rows, columns = np.mgrid[0:250, 0:250]
    data = encode(np.dstack([columns, rows, rows]).astype(np.uint8), 'JPEG', quality=100, subsampling=subsampling)
    crop = RandomResizedCrop((25, 30), (0.2, 1.0), interpolation=interpolation)
    pipeline = Compose([LoadImageFromFile(), crop])
    for seed in range(60):
        box = crop.draw(250, 250, generator(seed))
        image = pipeline(sample(data), generator(seed))['img'].astype(float)
        across = box.left + (np.arange(30) + 0.5) * box.width / 30 - 0.5
        down = box.top + (np.arange(25) + 0.5) * box.height / 25 - 0.5
        for found, expected in ((image[..., 0].mean(axis=0), across), (image[..., 1].mean(axis=1), down)):
            shift = (found - expected)[1:-1]  # at the border of the picture there is nothing to interpolate with
            # Values are rounded to whole ones, by the decoder and by the filter.
            assert abs(shift.mean()) < 0.3 and np.abs(shift).max() < 0.75
    assert {2, 4} <= set(shrinks)


def test_a_smaller_decoding_is_nearer_to_an_antialiased_crop(shrinks):
    """Than to the crop of the full image without antialiasing is; both differ from it by little."""
    image = photo(480, 640)
    data = encode(image, 'JPEG', quality=95)
    decoded = Image.open(io.BytesIO(data)).convert('RGB')
    crop = RandomResizedCrop(64, (0.1, 1.0))
    fast, exact = (Compose([LoadImageFromFile(decode=decode), crop]) for decode in ('fast', 'exact'))
    for seed in range(40):
        top, left, height, width = crop.draw(480, 640, generator(seed))
        box = (left, top, left + width, top + height)
        reference = np.array(decoded.resize((64, 64), Image.Resampling.BILINEAR, box)).astype(float)
        found = fast(sample(data), generator(seed))['img']
        if shrinks[-1] > 1:
            plain = exact(sample(data), generator(seed))['img']
            distance, before = np.abs(found - reference).mean(), np.abs(plain - reference).mean()
            assert distance < before and distance < 6
    assert shrinks.count(2) > 5 and shrinks.count(4) > 5


# Where images come from and go to


@pytest.mark.parametrize('wrap', [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('cropped', [True, False])
def test_encoded_images_in_the_sample(picture, write, wrap, kind, cropped):
    data = encode(picture, kind)
    path = str(write('a.img', data))
    pipeline = Compose([LoadImageFromFile(), *([RandomResizedCrop(30)] if cropped else [])])
    found = pipeline({'img_path': 'nowhere', 'img_bytes': wrap(data)}, generator(0))
    np.testing.assert_array_equal(found['img'], pipeline({'img_path': path}, generator(0))['img'])


@pytest.mark.parametrize('cropped', [True, False])
def test_decoded_images_in_the_sample_are_taken_as_they_are(picture, tmp_path, cropped):
    np.save(tmp_path / 'a.npy', picture)
    mapped = np.load(tmp_path / 'a.npy', mmap_mode='r')
    steps = [LoadImageFromFile(), *([RandomResizedCrop(60)] if cropped else []), RandomFlip(1.0)]
    for seed in range(5):
        found = Compose(steps)({'img_path': 'nowhere', 'img': mapped}, generator(seed))
        assert found['ori_shape'] == (60, 90)
        expected = picture
        if cropped:
            top, left, height, width = RandomResizedCrop(60).draw(60, 90, generator(seed))
            expected = cv2.resize(picture[top : top + height, left : left + width], (60, 60))
        np.testing.assert_array_equal(found['img'], expected[:, ::-1])
    np.testing.assert_array_equal(np.load(tmp_path / 'a.npy'), picture)


def test_decoded_images_are_not_copied(picture):
    assert LoadImageFromFile()({'img': picture}, generator(0))['img'] is picture


@pytest.mark.parametrize('data', [b'hello, no image', b''])
def test_encoded_images_that_are_damaged_are_named(data):
    for pipeline in (Compose([LoadImageFromFile()]), crop_pipeline()):
        with pytest.raises(DataError, match=r'^a\.jpg: (not an image|the file is empty)'):
            pipeline(sample(data), generator(0))


@pytest.mark.parametrize('cut', [0.5, 0.9, 0.99])
def test_truncated_files_are_named_whatever_the_crop(picture, write, cut):
    data = encode(picture, 'JPEG', quality=95)
    path = str(write('cut.jpg', data[: int(cut * len(data))]))
    for seed in range(10):
        with pytest.raises(DataError, match=r'cut\.jpg: the JPEG is truncated or damaged'):
            crop_pipeline()({'img_path': path}, generator(seed))


def test_into_the_place_in_the_batch(picture):
    pipeline = Compose([LoadImageFromFile(), RandomResizedCrop(32), RandomFlip(0.5)])
    for data in (encode(picture, 'JPEG'), encode(picture, 'PNG'), encode(picture, 'JPEG', exif=exif(6))):
        for seed in range(6):
            place = np.zeros((32, 32, 3), np.uint8)
            found = pipeline(sample(data, out=place), generator(seed))
            assert found['img'] is place
            np.testing.assert_array_equal(place, pipeline(sample(data), generator(seed))['img'])


def test_a_place_of_another_size_stays_empty(picture):
    place = np.zeros((31, 32, 3), np.uint8)
    found = Compose([LoadImageFromFile(), RandomResizedCrop(32)])(
        sample(encode(picture, 'JPEG'), out=place), generator(0)
    )
    assert found['img'].shape == (32, 32, 3) and not place.any()


def test_a_crop_of_what_lies_in_the_place(picture):
    """The second crop must not read what it writes."""
    steps = [LoadImageFromFile(), RandomResizedCrop(32), RandomResizedCrop(32), RandomFlip(1.0, 'diagonal')]
    for seed in range(6):
        place = np.zeros((32, 32, 3), np.uint8)
        found = Compose(steps)(sample(encode(picture, 'JPEG'), out=place), generator(seed))
        expected = Compose(steps)(sample(encode(picture, 'JPEG')), generator(seed))
        np.testing.assert_array_equal(found['img'], expected['img'])


# What is fused


def test_what_is_fused():
    class Other(LoadImageFromFile):
        pass

    load, crop, flip = LoadImageFromFile(), RandomResizedCrop(8), RandomFlip(0.5)
    assert [type(step) for step in fused.fuse([load, crop, flip])] == [LoadAndCrop, RandomFlip]
    for steps in ([Other(), crop], [load, flip, crop], [crop, load], [load], []):
        assert fused.fuse(steps) == steps
    pipeline = Compose([load, crop, flip])
    assert len(pipeline) == 3 and pipeline.transforms == [load, crop, flip] and 'LoadAndCrop' not in repr(pipeline)
