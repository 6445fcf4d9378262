"""Loading and cropping as one step, which decodes only what the crop needs.

`Compose` puts a `LoadAndCrop` in place of a `LoadImageFromFile` with a `RandomResizedCrop` after it. It draws what they
would draw, so the crop is the same one; for a JPEG it then

1. decodes the rows down to the crop's bottom, into memory that is used again for the next image;
2. with ``decode='fast'``, decodes at half or a quarter of the size if the crop still has at least the pixels of the
   result;
3. resizes the crop into the place in the batch where the image belongs, if there is one.

Only step 2 changes pixels. Each pixel it decodes is a mean of 2 x 2 or 4 x 4, so the result is smoother, as if it had
been resized with antialiasing; it lies where it did, to a fraction of a pixel of the file. The decoder's fast cosine
transform is not used: it saves 5 %, darkens by 0.8 of 256 levels, and overflows at extreme qualities.

Whatever is not a plain upright JPEG goes through the two transforms one after the other. Damage below the crop is not
noticed, but a truncated file is.
"""

from __future__ import annotations

import numpy as np

from .base import Sample, Transform
from .cropping import Box, RandomResizedCrop
from .geometry import INTERPOLATIONS, put_image, room_in_batch
from .jpeg import SMALLEST_SHRUNK, JpegFrame, decode_top, read_frame
from .loading import MAX_PIXELS, LoadImageFromFile

#: Interpolations that can begin between two pixels, as a crop of a shrunk image may.
SHIFTABLE = ('bilinear', 'bicubic', 'lanczos')


class LoadAndCrop(Transform):
    """`LoadImageFromFile` and `RandomResizedCrop` in one step.

    Args:
        load: The first.
        crop: The second.
    """

    def __init__(self, load: LoadImageFromFile, crop: RandomResizedCrop) -> None:
        self.load, self.crop = load, crop
        self._decodes_parts = load.imdecode_backend in ('auto', 'turbojpeg') and load.color_type != 'grayscale'
        self._fast = load.decode == 'fast' and crop.interpolation != 'nearest'  # which asks for pixels of the file
        self._shifts = crop.backend == 'cv2' and crop.interpolation in SHIFTABLE
        self._ignores_orientation = load.color_type == 'color_ignore_orientation'

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Put the resized crop into ``img``.

        Raises:
            DataError: If the image cannot be read or decoded; the message names path and reason.
        """
        data = self.load.encoded(sample)
        frame = self._frame(data) if data is not None and self._decodes_parts else None
        if data is None or frame is None:
            return self.crop(self.load.decoded(sample, data), rng)
        box = self.crop.draw(frame.height, frame.width, rng)
        shrink = self._shrink(frame, box)
        image = decode_top(data, frame, box.top + box.height, shrink)
        if image is None:
            return self.crop.cut(self.load.decoded(sample, data), box)
        sample['ori_shape'] = frame.height, frame.width
        return put_image(sample, self._resized(image, box, shrink, sample))

    def _frame(self, data: bytes) -> JpegFrame | None:
        """The header, if it is of a JPEG whose parts can be decoded."""
        frame = read_frame(data)
        if frame is None or frame.height * frame.width > MAX_PIXELS:
            return None
        return frame if frame.orientation == 1 or self._ignores_orientation else None

    def _shrink(self, frame: JpegFrame, box: Box) -> int:
        """How far the decoder may shrink the image: 1, 2 or 4."""
        if not self._fast or min(box.top + box.height, frame.width) < SMALLEST_SHRUNK:
            return 1
        fitting = min(box.height // self.crop.scale[0], box.width // self.crop.scale[1])
        shrink = 4 if fitting >= 4 else 2 if fitting >= 2 else 1
        return shrink if self._shifts or _aligned(box, shrink) else 1

    def _resized(self, image: np.ndarray, box: Box, shrink: int, sample: Sample) -> np.ndarray:
        """The crop of an image that is ``shrink`` times smaller than the box says, in memory that is not used again."""
        height, width = self.crop.scale
        place = room_in_batch(sample, height, width)
        if place is None:
            place = np.empty((height, width, 3), np.uint8)
        top, left = box.top // shrink, box.left // shrink
        bottom, right = -(-(box.top + box.height) // shrink), -(-(box.left + box.width) // shrink)
        part = image[top:bottom, left:right]
        if not _aligned(box, shrink):
            begin = box.top / shrink - top, box.left / shrink - left
            return self._shifted(part, begin, (box.height / shrink, box.width / shrink), place)
        resized = self.crop.resized(part, width, height, place)
        if resized is not place:
            np.copyto(place, resized)
        return place

    def _shifted(
        self, image: np.ndarray, begin: tuple[float, float], size: tuple[float, float], place: np.ndarray
    ) -> np.ndarray:
        """Resize, into ``place``, a part that begins and ends between pixels; lengths are (vertical, horizontal)."""
        import cv2

        height, width = self.crop.scale
        dy, dx = size[0] / height, size[1] / width
        # Pixel i of the result has its centre at (i + 0.5) * dx from the part's edge; pixel 0 of the image at 0.5.
        to_image = np.array([[dx, 0, begin[1] + (dx - 1) / 2], [0, dy, begin[0] + (dy - 1) / 2]])
        flags = cv2.WARP_INVERSE_MAP | getattr(cv2, INTERPOLATIONS[self.crop.interpolation][0])
        return cv2.warpAffine(image, to_image, (width, height), place, flags, cv2.BORDER_REPLICATE)


def _aligned(box: Box, shrink: int) -> bool:
    """Whether a box begins and ends at pixels of the shrunk image."""
    return shrink == 1 or not any(length % shrink for length in box)


def fuse(transforms: list[Transform]) -> list[Transform]:
    """The steps that do what these transforms do, one after the other."""
    steps: list[Transform] = []
    for transform in transforms:
        # Exactly these classes: one derived from them may do something else.
        if type(transform) is RandomResizedCrop and steps and type(steps[-1]) is LoadImageFromFile:
            steps[-1] = LoadAndCrop(steps[-1], transform)
        else:
            steps.append(transform)
    return steps
