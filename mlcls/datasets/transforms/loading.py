"""From encoded bytes to an upright RGB image."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mlcls.errors import ConfigError, DataError
from mlcls.registry import TRANSFORMS

from .arguments import choice
from .base import Sample, Transform
from .jpeg import EXIF

BACKENDS = ('auto', 'cv2', 'pillow', 'turbojpeg')
#: Larger images are taken for damaged or malicious ("decompression bombs"), as Pillow does.
MAX_PIXELS = 2 * 89_478_485
#: How JPEGs are decoded for a random crop.
DECODING = ('fast', 'exact')
#: Brands of ISO media files that hold such images (ISO/IEC 23008-12).
HEIC = (b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1', b'avif')
COLOR_TYPES = ('color', 'color_ignore_orientation', 'grayscale')

#: Array operations that put an image upright, by EXIF orientation (CIPA DC-008, table 6).
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}


def decode_image(data: bytes, backend: str = 'auto', upright: bool = True) -> np.ndarray:
    """Decode an image of any common kind to RGB.

    JPEGs are decoded by simplejpeg, else cv2, else Pillow (the same pixels); CMYK JPEGs and other formats by Pillow.
    Alpha is dropped, palettes are resolved, 16-bit values keep their high byte, animations give their first frame.

    Args:
        data: The file's content.
        backend: ``'cv2'`` or ``'pillow'`` to decode JPEGs with these; ``'turbojpeg'`` is ``'auto'``.
        upright: Apply the EXIF orientation.

    Returns:
        uint8 RGB (H, W, 3), contiguous.

    Raises:
        DataError: If the data is empty, truncated or no image; the message says which, and the caller adds the path.
    """
    if not data:
        raise DataError('the file is empty (0 bytes)')
    image = _decode_jpeg(data, backend) if data.startswith(b'\xff\xd8\xff') and backend != 'pillow' else None
    if image is None:
        return _decode_pillow(data, upright)
    # Pillow is asked for the orientation only where there can be one; most files of data sets have none.
    if upright and has_exif(data):
        image = _turn(image, _orientation(data))
    return image


def has_exif(data: bytes) -> bool:
    """Whether a JPEG may have EXIF data, and with them an orientation; other segments may stand before them."""
    return data.find(EXIF, 0, 1 << 20) >= 0


def _decode_jpeg(data: bytes, backend: str) -> np.ndarray | None:
    """Decode a grey or YCbCr JPEG; None where Pillow should have a look.

    Raises:
        DataError: If pixel data is missing. (Pillow fills what is missing with grey if an end marker follows.)
    """
    try:
        import simplejpeg
    except ImportError:
        return _decode_cv2(data)
    if backend == 'cv2':
        return _decode_cv2(data)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ('CMYK', 'YCCK') or height * width > MAX_PIXELS:
            return None  # Pillow's business: converting the colours, or refusing the size
        return simplejpeg.decode_jpeg(data, 'RGB')
    except (ValueError, KeyError) as error:  # KeyError: not even a header
        if 'premature end' in str(error).lower():
            raise DataError(f'the JPEG is truncated or damaged ({error})') from None
        return None  # a warning, such as extraneous bytes between markers


def _decode_cv2(data: bytes) -> np.ndarray | None:
    try:
        import cv2
    except ImportError:
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # an impossible size, for example
        return None
    if image is None or (image.ndim == 3 and image.shape[2] != 3):
        return None
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)


def _decode_pillow(data: bytes, upright: bool) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            orientation = _pillow_orientation(image) if upright else 1
            pixels = _pillow_rgb(image)
    except UnidentifiedImageError:
        if data[4:8] == b'ftyp' and data[8:12] in HEIC:
            raise DataError('a HEIC or AVIF image, as telephones make; convert it to JPEG') from None
        raise DataError(f'not an image, or of an unknown format (begins with {data[:12]!r})') from None
    except DataError:
        raise
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, ValueError, struct.error and others
        raise DataError(f'the image cannot be decoded: {error}') from error
    return _turn(pixels, orientation)


def _pillow_rgb(image: Any) -> np.ndarray:
    """RGB pixels of a Pillow image of any mode."""
    mode = image.mode
    if mode.startswith('I'):  # 16 bits a pixel; 'I' also where the file says 32
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError('the image has 32-bit pixels, whose range is not known; convert it to 8 or 16 bits')
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if mode == 'F':
        raise DataError('the image has floating-point pixels, whose range is not known; convert it to 8 or 16 bits')
    if mode in ('P', 'PA', 'LA', 'La', 'RGBa'):  # by way of RGBA, or Pillow warns about transparent palettes
        image = image.convert('RGBA')
    if image.mode == 'RGBA':
        return np.ascontiguousarray(np.asarray(image)[..., :3])
    return np.array(image if mode == 'RGB' else image.convert('RGB'))


def _orientation(data: bytes) -> int:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return _pillow_orientation(image)
    except Exception:  # damaged EXIF says nothing about the pixels, which are already decoded
        return 1


def _pillow_orientation(image: Any) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # as above
        return 1
    return value if isinstance(value, int) else 1


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(UPRIGHT[orientation](image)) if orientation in UPRIGHT else image


#: Most images are smaller.
_USUAL_BYTES = 1 << 20


def _read_file(path: str) -> bytes:
    # Much cheaper than file objects, between images that fill the processor's caches.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, _USUAL_BYTES)
        while more := os.read(descriptor, _USUAL_BYTES + len(data)):
            data += more
        return data
    finally:
        os.close(descriptor)


def read_bytes(path: str, backend_args: dict[str, Any] | None = None) -> bytes:
    """Read a file; through mmengine's file backends if it is remote or ``backend_args`` are given.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        if backend_args is None and '://' not in path:
            return _read_file(path)
        from mmengine import fileio

        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise DataError(f'{path}: no such file') from None
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error


@TRANSFORMS.register_module()
class LoadImageFromFile(Transform):
    """Load an image as uint8 RGB (H, W, 3) into ``img``; sets ``img_shape`` and ``ori_shape`` (H, W).

    The image is the file at ``img_path``, unless the sample already carries it: encoded under ``img_bytes``, or decoded
    under ``img``, which may be read-only and is not copied.

    Names and defaults are mmcv's; see `decode_image`. What cannot be kept is refused rather than ignored.

    Args:
        to_float32: Only False: images stay uint8, the preprocessor converts on the device.
        color_type: ``'color'``, ``'color_ignore_orientation'`` (leaves EXIF aside) or ``'grayscale'`` (three equal
            channels).
        imdecode_backend: One of ``'auto'``, ``'cv2'``, ``'pillow'``, ``'turbojpeg'``. All give the same pixels for
            JPEGs of the usual kinds; but cv2 and Pillow fill what is missing with grey if an end marker follows, where
            ``'auto'`` raises.
        ignore_empty: Only False: an image that cannot be read is an error.
        decode: Of JPEGs that a ``RandomResizedCrop`` follows: ``'fast'`` decodes them at 1/2 or 1/4 of their size if
            the crop has at least twice, or four times, the height and width of its result, which also smooths;
            ``'exact'`` always decodes them at their size. Without such a crop, decoding is always exact.
        backend_args: Of mmengine's file backend, for remote files.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'auto',
        ignore_empty: bool = False,
        *,
        decode: str = 'fast',
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        if to_float32:
            raise ConfigError(
                'LoadImageFromFile: to_float32=True is not supported; images stay uint8 and are '
                'normalised by the data_preprocessor'
            )
        if ignore_empty:
            raise ConfigError(
                'LoadImageFromFile: ignore_empty=True is not supported; list only images that exist, or '
                "give the dataset missing='skip'"
            )
        self.color_type = choice(color_type, COLOR_TYPES, 'LoadImageFromFile: color_type')
        self.imdecode_backend = choice(imdecode_backend, BACKENDS, 'LoadImageFromFile: imdecode_backend')
        self.decode = choice(decode, DECODING, 'LoadImageFromFile: decode')
        self.backend_args = backend_args

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Load the image.

        Raises:
            DataError: If it cannot be read or decoded; the message names path and reason.
        """
        return self.decoded(sample, self.encoded(sample))

    def encoded(self, sample: Sample) -> bytes | None:
        """The encoded image of a sample; None if it carries it decoded."""
        if sample.get('img') is not None:
            return None
        data = sample.get('img_bytes')
        if data is None:
            return read_bytes(sample['img_path'], self.backend_args)
        return data if isinstance(data, bytes) else bytes(data)

    def decoded(self, sample: Sample, data: bytes | None) -> Sample:
        """Put the image into the sample.

        Args:
            sample: The sample.
            data: What `encoded` gave for it.

        Raises:
            DataError: If it cannot be decoded; the message names path and reason.
        """
        image = sample['img'] if data is None else self._decode(sample['img_path'], data)
        if self.color_type == 'grayscale':
            import cv2

            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        sample['img'] = image
        sample['img_shape'] = sample['ori_shape'] = image.shape[:2]
        return sample

    def _decode(self, path: str, data: bytes) -> np.ndarray:
        try:
            return decode_image(data, self.imdecode_backend, self.color_type != 'color_ignore_orientation')
        except DataError as error:
            raise DataError(f'{path}: {error}') from error
