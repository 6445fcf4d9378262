"""Resizing and flipping. Names, arguments and defaults as in mmpretrain 1.x, which takes them from mmcv 2.x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mlcls.errors import ConfigError
from mlcls.registry import TRANSFORMS

from .arguments import choice, size, two_positive, whole
from .base import Sample, Transform

#: Interpolations by name: (cv2's constant, Pillow's).
INTERPOLATIONS = {
    'nearest': ('INTER_NEAREST', 'NEAREST'),
    'bilinear': ('INTER_LINEAR', 'BILINEAR'),
    'bicubic': ('INTER_CUBIC', 'BICUBIC'),
    'area': ('INTER_AREA', 'BOX'),
    'lanczos': ('INTER_LANCZOS4', 'LANCZOS'),
}
BACKENDS = ('cv2', 'pillow')


class Resizing(Transform):
    """Base of transforms that resize.

    Args:
        interpolation: A key of `INTERPOLATIONS`.
        backend: ``'cv2'``, or ``'pillow'``, which widens its filter when it shrinks an image (antialiasing; slower).

    Raises:
        ConfigError: If one is unknown.
    """

    def __init__(self, interpolation: str, backend: str) -> None:
        name = type(self).__name__
        self.interpolation = choice(interpolation, INTERPOLATIONS, f'{name}: interpolation')
        self.backend = choice(backend, BACKENDS, f'{name}: backend')

    def resized(self, image: np.ndarray, width: int, height: int, place: np.ndarray | None = None) -> np.ndarray:
        """A uint8 image (H, W, 3), resized to (height, width, 3); in ``place`` if that is given and work is done."""
        if image.shape[:2] == (height, width):
            return image
        cv2_name, pillow_name = INTERPOLATIONS[self.interpolation]
        if self.backend == 'pillow':
            from PIL import Image

            pillow_image = Image.fromarray(np.ascontiguousarray(image))
            return np.array(pillow_image.resize((width, height), Image.Resampling[pillow_name]))
        import cv2

        return cv2.resize(image, (width, height), dst=place, interpolation=getattr(cv2, cv2_name))


def room_in_batch(sample: Sample, height: int, width: int) -> np.ndarray | None:
    """The place in the batch that this image will fill, if it has this size and nothing of the image is there yet."""
    out = sample.get('out')
    if out is None or out.shape[:2] != (height, width):
        return None
    image = sample.get('img')
    return None if image is not None and np.may_share_memory(image, out) else out


def put_image(sample: Sample, image: np.ndarray) -> Sample:
    """Put a changed image into the sample, with its ``img_shape`` (H, W)."""
    sample['img'], sample['img_shape'] = image, image.shape[:2]
    return sample


@TRANSFORMS.register_module()
class Resize(Resizing):
    """Resize to a size or by a factor.

    Args:
        scale: Side, or (width, height), in pixels. With ``keep_ratio``, a box that the image fills as far as it fits:
            the longer side of the box bounds the longer side of the image.
        scale_factor: Factor, or (factor of the width, of the height); used if ``scale`` is None.
        keep_ratio: Keep the aspect ratio.
        clip_object_border: Accepted, without effect: there are no objects.
        backend: See `Resizing`.
        interpolation: See `Resizing`.
    """

    def __init__(
        self,
        scale: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: str = 'cv2',
        interpolation: str = 'bilinear',
    ) -> None:
        super().__init__(interpolation, backend)
        if scale is None and scale_factor is None:
            raise ConfigError('Resize needs scale or scale_factor')
        self.scale = None if scale is None else size(scale, 'Resize: scale')
        factors = (scale_factor, scale_factor) if isinstance(scale_factor, (int, float)) else scale_factor
        self.scale_factor = None if factors is None else two_positive(factors, 'Resize: scale_factor')
        self.keep_ratio = keep_ratio

    def target_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the result for an image of this size."""
        if self.scale is not None:
            target = self.scale
        elif self.scale_factor is not None:
            target = int(width * self.scale_factor[0] + 0.5), int(height * self.scale_factor[1] + 0.5)
        if self.keep_ratio:
            factor = min(max(target) / max(width, height), min(target) / min(width, height))
            target = int(width * factor + 0.5), int(height * factor + 0.5)
        return max(target[0], 1), max(target[1], 1)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Resize ``img``; sets ``scale_factor`` (of the width, of the height)."""
        height, width = sample['img'].shape[:2]
        target = self.target_size(width, height)
        sample['scale_factor'] = target[0] / width, target[1] / height
        return put_image(sample, self.resized(sample['img'], *target, room_in_batch(sample, target[1], target[0])))


@TRANSFORMS.register_module()
class ResizeEdge(Resizing):
    """Resize so that one edge gets a given length, keeping the aspect ratio.

    Args:
        scale: Length of the edge in pixels.
        edge: ``'short'``, ``'long'``, ``'width'`` or ``'height'``.
        backend: See `Resizing`.
        interpolation: See `Resizing`.
    """

    def __init__(self, scale: int, edge: str = 'short', backend: str = 'cv2', interpolation: str = 'bilinear') -> None:
        super().__init__(interpolation, backend)
        self.scale = whole(scale, 1, 'ResizeEdge: scale')
        self.edge = choice(edge, ('short', 'long', 'width', 'height'), 'ResizeEdge: edge')

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Resize ``img``; sets ``scale_factor`` (of the width, of the height)."""
        height, width = sample['img'].shape[:2]
        by_width = {'width': True, 'height': False, 'short': width < height, 'long': width > height}[self.edge]
        if by_width:
            target = self.scale, max(int(self.scale * height / width), 1)
        else:
            target = max(int(self.scale * width / height), 1), self.scale
        sample['scale_factor'] = target[0] / width, target[1] / height
        return put_image(sample, self.resized(sample['img'], *target, room_in_batch(sample, target[1], target[0])))


@TRANSFORMS.register_module()
class RandomFlip(Transform):
    """Flip at random.

    Args:
        prob: Probability of a flip, shared equally by the directions; or one probability a direction.
        direction: ``'horizontal'``, ``'vertical'``, ``'diagonal'`` (both), or a list of these, of which one is drawn.
    """

    AXES: ClassVar[dict[str, int]] = {'vertical': 0, 'horizontal': 1, 'diagonal': -1}

    def __init__(self, prob: float | Sequence[float], direction: str | Sequence[str] = 'horizontal') -> None:
        names = [direction] if isinstance(direction, str) else list(direction)
        self.direction = tuple(choice(name, self.AXES, 'RandomFlip: direction') for name in names)
        shares = list(prob) if isinstance(prob, Sequence) else [prob / len(names)] * len(names)
        if len(shares) != len(names):
            raise ConfigError(f'RandomFlip: {len(shares)} probabilities for {len(names)} directions')
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ConfigError(f'RandomFlip: prob must lie in [0, 1], in all, got {prob!r}')
        self.prob = tuple(float(value) for value in shares)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Flip ``img``, or not; sets ``flip`` and ``flip_direction``."""
        draw = rng.random()
        sample['flip'], sample['flip_direction'] = False, None
        for probability, direction in zip(self.prob, self.direction):
            if draw < probability:
                import cv2

                image = sample['img']
                # What lies in the batch is ours and is turned where it lies; anything else may be somebody's.
                place = image if image is sample.get('out') else room_in_batch(sample, *image.shape[:2])
                sample['img'] = cv2.flip(image, self.AXES[direction], dst=place)
                sample['flip'], sample['flip_direction'] = True, direction
                break
            draw -= probability
        return sample
