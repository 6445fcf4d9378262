"""Cropping. Names, arguments and defaults as in mmpretrain 1.x, which takes some from mmcv 2.x.

Mind the order in sizes, which is theirs: `CenterCrop` takes (width, height), `RandomResizedCrop` (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlcls.errors import ConfigError
from mlcls.registry import TRANSFORMS

from .arguments import positive_range, size, whole
from .base import Sample, Transform
from .geometry import Resizing, put_image, room_in_batch


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


@TRANSFORMS.register_module()
class RandomResizedCrop(Resizing):
    """Crop a random part and resize it ("Inception crop", Szegedy et al. 2015; drawn as torchvision draws it).

    Args:
        scale: Side, or (height, width), of the result in pixels.
        crop_ratio_range: Range of the share of the image's area.
        aspect_ratio_range: Range of width / height, drawn uniformly in its logarithm.
        max_attempts: Draws before the fallback, the largest central crop with an allowed aspect ratio.
        interpolation: See `Resizing`.
        backend: See `Resizing`.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: Sequence[float] = (0.08, 1.0),
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
        max_attempts: int = 10,
        interpolation: str = 'bilinear',
        backend: str = 'cv2',
    ) -> None:
        super().__init__(interpolation, backend)
        self.scale = size(scale, 'RandomResizedCrop: scale')
        self.crop_ratio_range = positive_range(crop_ratio_range, 'RandomResizedCrop: crop_ratio_range')
        self.aspect_ratio_range = positive_range(aspect_ratio_range, 'RandomResizedCrop: aspect_ratio_range')
        self.max_attempts = whole(max_attempts, 0, 'RandomResizedCrop: max_attempts')
        self._log_ratios = math.log(self.aspect_ratio_range[0]), math.log(self.aspect_ratio_range[1])

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Box:
        """Draw a crop of an image of this size."""
        least, most = self.crop_ratio_range
        low, high = self._log_ratios
        for _ in range(self.max_attempts):
            # Written out, rng.uniform(a, b) and rng.integers(n) cost a quarter.
            area = height * width * (least + (most - least) * rng.random())
            ratio = math.exp(low + (high - low) * rng.random())
            crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                top = int((height - crop_height + 1) * rng.random())
                return Box(top, int((width - crop_width + 1) * rng.random()), crop_height, crop_width)
        smallest, largest = self.aspect_ratio_range
        crop_height, crop_width = height, width
        if width / height < smallest:
            crop_height = max(round(width / smallest), 1)
        elif width / height > largest:
            crop_width = max(round(height * largest), 1)
        return Box((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Replace ``img`` by a resized crop of it."""
        height, width = sample['img'].shape[:2]
        return self.cut(sample, self.draw(height, width, rng))

    def cut(self, sample: Sample, box: Box) -> Sample:
        """Replace ``img`` by the resized part of it that a box names."""
        part = sample['img'][box.top : box.top + box.height, box.left : box.left + box.width]
        height, width = self.scale
        return put_image(sample, self.resized(part, width, height, room_in_batch(sample, height, width)))


@TRANSFORMS.register_module()
class CenterCrop(Transform):
    """Cut out the centre.

    Args:
        crop_size: Side, or (width, height), in pixels. A smaller image keeps its size, or is padded first.
        auto_pad: Pad smaller images at their right and bottom to the size of the crop.
        pad_cfg: ``dict(type='Pad', pad_val=...)``, with one value, one a channel (R, G, B), or ``dict(img=...)`` of it.
        clip_object_border: Accepted, without effect: there are no objects.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int],
        auto_pad: bool = False,
        pad_cfg: Mapping[str, Any] | None = None,
        clip_object_border: bool = True,
    ) -> None:
        self.crop_size = size(crop_size, 'CenterCrop: crop_size')
        self.auto_pad = auto_pad
        settings = dict(pad_cfg or {})
        value = settings.pop('pad_val', 0)
        self.pad_val = value.get('img', 0) if isinstance(value, Mapping) else value
        if settings.pop('type', 'Pad') != 'Pad' or settings:
            raise ConfigError(f"CenterCrop: pad_cfg may set 'pad_val' alone, got {pad_cfg!r}; or put Pad before it")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Replace ``img`` by its centre."""
        image, (width, height) = sample['img'], self.crop_size
        if self.auto_pad and (image.shape[0] < height or image.shape[1] < width):
            padded = np.empty((max(image.shape[0], height), max(image.shape[1], width), 3), np.uint8)
            padded[...] = self.pad_val
            padded[: image.shape[0], : image.shape[1]] = image
            image = padded
        top = max(0, round((image.shape[0] - height) / 2))
        left = max(0, round((image.shape[1] - width) / 2))
        return put_image(sample, image[top : top + height, left : left + width])


@TRANSFORMS.register_module()
class EfficientNetCenterCrop(Resizing):
    """Cut out the centre, of side ``crop_size / (crop_size + crop_padding)`` of the short edge, and resize it.

    Args:
        crop_size: Side of the result in pixels.
        crop_padding: See above.
        interpolation: See `Resizing`.
        backend: See `Resizing`.
    """

    def __init__(
        self, crop_size: int, crop_padding: int = 32, interpolation: str = 'bicubic', backend: str = 'cv2'
    ) -> None:
        super().__init__(interpolation, backend)
        self.crop_size = whole(crop_size, 1, 'EfficientNetCenterCrop: crop_size')
        self.crop_padding = whole(crop_padding, 0, 'EfficientNetCenterCrop: crop_padding')

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Replace ``img`` by its resized centre."""
        image: np.ndarray = sample['img']
        height, width = image.shape[:2]
        side = self.crop_size / (self.crop_size + self.crop_padding) * min(height, width)
        top, left, cut = round((height - side) / 2), round((width - side) / 2), max(int(side), 1)
        crop = image[top : top + cut, left : left + cut]
        target = self.crop_size, self.crop_size
        return put_image(sample, self.resized(crop, *target, room_in_batch(sample, *target)))
