"""Changes of colour, on uint8 RGB arrays of shape (H, W, 3).

The four adjustments follow torchvision's definitions (which are Pillow's): blends of the image with black, with its
mean grey, and with its own grey version, and a turn of the hue circle in HSV.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlcls.errors import ConfigError
from mlcls.registry import TRANSFORMS

from .arguments import choice
from .base import Sample, Transform
from .geometry import BACKENDS

#: Weights of red, green and blue in grey (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114])


def _blend_with(image: np.ndarray, level: float, factor: float) -> np.ndarray:
    import cv2

    values = np.arange(256) * factor + level * (1 - factor)
    return cv2.LUT(image, np.clip(values + 0.5, 0, 255).astype(np.uint8))


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """``factor`` 0 gives black, 1 the image."""
    return _blend_with(image, 0.0, factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """``factor`` 0 gives the mean grey everywhere, 1 the image."""
    import cv2

    return _blend_with(image, cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0], factor)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """``factor`` 0 gives the grey image, 1 the image."""
    import cv2

    mixing = factor * np.eye(3) + (1 - factor) * np.tile(GREY, (3, 1))
    return cv2.transform(image, mixing)


def adjust_hue(image: np.ndarray, shift: float) -> np.ndarray:
    """Turn all hues by ``shift`` of the full circle, in [-0.5, 0.5]."""
    import cv2

    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)  # in uint8 hues are too coarse
    hsv[..., 0] = (hsv[..., 0] + 360 * shift) % 360
    return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255 + 0.5).astype(np.uint8)


@TRANSFORMS.register_module()
class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue by random amounts, in random order.

    Args:
        brightness: The factor is drawn from [max(0, 1 - brightness), 1 + brightness], or from the given [min, max].
        contrast: As ``brightness``.
        saturation: As ``brightness``.
        hue: The shift is drawn from [-hue, hue], hue at most 0.5, or from the given [min, max] within [-0.5, 0.5].
        backend: ``'pillow'`` or ``'cv2'``, as in mmpretrain; without effect, the results are the same.
    """

    ADJUSTMENTS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
        backend: str = 'pillow',
    ) -> None:
        choice(backend, BACKENDS, 'ColorJitter: backend')
        self.brightness = self._range('brightness', brightness)
        self.contrast = self._range('contrast', contrast)
        self.saturation = self._range('saturation', saturation)
        self.hue = self._range('hue', hue, centre=0.0, bounds=(-0.5, 0.5))

    @staticmethod
    def _range(
        name: str,
        value: float | Sequence[float],
        centre: float = 1.0,
        bounds: tuple[float, float] = (0.0, float('inf')),
    ) -> tuple[float, float] | None:
        """The range to draw from, or None if it leaves the image as it is."""
        if isinstance(value, (int, float)):
            if not 0 <= value <= bounds[1]:
                raise ConfigError(f'ColorJitter: {name} must be a number from 0 to {bounds[1]:g}, got {value}')
            value = max(centre - value, bounds[0]), centre + value
        if len(value) != 2 or not bounds[0] <= value[0] <= value[1] <= bounds[1]:
            raise ConfigError(f'ColorJitter: {name} must be (smallest, largest) within {list(bounds)}, got {value!r}')
        return None if value[0] == value[1] == centre else (float(value[0]), float(value[1]))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Adjust ``img``."""
        order = rng.permutation(4)
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        amounts = [None if limits is None else rng.uniform(*limits) for limits in ranges]
        image = sample['img']
        for number in order:
            if (amount := amounts[number]) is not None:
                image = self.ADJUSTMENTS[number](image, amount)
        sample['img'] = image
        return sample
