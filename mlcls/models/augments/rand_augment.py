"""RandAugment (Cubuk et al., arXiv 1909.13719), on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from mlcls.registry import MODELS

from . import arguments, color
from .base import DeviceAugment, change_some, to_device
from .geometry import INTERPOLATIONS, affine

SHEARS = ('ShearX', 'ShearY')
MOVES = ('TranslateX', 'TranslateY')
GEOMETRIC = (*SHEARS, *MOVES, 'Rotate')
Adjust = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
BLENDS: dict[str, Adjust] = {
    'Brightness': color.adjust_brightness,
    'Color': color.adjust_saturation,
    'Contrast': color.adjust_contrast,
    'Sharpness': color.adjust_sharpness,
}
#: The operations of torchvision's class.
OPERATIONS = ('Identity', *GEOMETRIC, *BLENDS, 'Posterize', 'Solarize', 'AutoContrast', 'Equalize')


def amounts(level: float, height: int, width: int) -> dict[str, float]:
    """How much each operation does, as in torchvision.

    Args:
        level: Magnitude as a share of the largest, in [0, 1].
        height: Height of the images in pixels.
        width: Their width.

    Returns:
        Tangent of the shear, translation in whole pixels, rotation in degrees, change of the factor of the blends, bits
        of Posterize, threshold of Solarize.
    """
    return {
        **dict.fromkeys(SHEARS, 0.3 * level),
        'TranslateX': int(round(150 / 331 * width * level, 4)),  # 150 stays 150
        'TranslateY': int(round(150 / 331 * height * level, 4)),
        'Rotate': 30 * level,
        **dict.fromkeys(BLENDS, 0.9 * level),
        'Posterize': 8 - round(4 * level),
        'Solarize': 255 * (1 - level),
    }


def affine_map(name: str, amount: float, height: int, width: int) -> list[list[float]]:
    """The map, as :func:`affine` takes it, of a geometric operation; shears leave the upper left corner in place."""
    if name == 'ShearX':
        return [[1, amount, amount * height / 2], [0, 1, 0]]
    if name == 'ShearY':
        return [[1, 0, 0], [amount, 1, amount * width / 2]]
    if name == 'Rotate':  # counterclockwise
        cos, sin = math.cos(math.radians(amount)), math.sin(math.radians(amount))
        return [[cos, -sin, 0], [sin, cos, 0]]
    return [[1, 0, -amount if name == 'TranslateX' else 0], [0, 1, -amount if name == 'TranslateY' else 0]]


@MODELS.register_module()
class BatchRandAugment(DeviceAugment):
    """Apply some operations, drawn for each image anew, one after another; as torchvision's ``RandAugment``.

    Args:
        num_ops: Operations an image, drawn with repetition from :data:`OPERATIONS`.
        magnitude: Their strength, from 0 to ``num_magnitude_bins - 1``.
        num_magnitude_bins: Number of steps of the scale, at least 2.
        interpolation: ``'nearest'`` or ``'bilinear'``, of shears, translations and rotations.
        fill: Colour outside the image, one number or (red, green, blue), 0 to 255.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: float = 9,
        num_magnitude_bins: int = 31,
        interpolation: str = 'nearest',
        fill: float | Sequence[float] = 0,
    ) -> None:
        name = 'BatchRandAugment:'
        self.num_ops = arguments.whole(num_ops, 0, f'{name} num_ops')
        largest = arguments.whole(num_magnitude_bins, 2, f'{name} num_magnitude_bins') - 1
        self.level = arguments.number(magnitude, 0, largest, f'{name} magnitude') / largest
        self.interpolation = arguments.choice(interpolation, INTERPOLATIONS, f'{name} interpolation')
        self.fill = arguments.color(fill, f'{name} fill')

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Change them."""
        drawn = torch.randint(len(OPERATIONS), (self.num_ops, len(images)))
        signs = torch.randint(2, (self.num_ops, len(images))) * 2 - 1
        for operations, sign in zip(drawn, signs):
            self.apply(images, operations, sign)
        return images

    def apply(self, images: torch.Tensor, operations: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
        """Apply one operation to each image, in place.

        Args:
            images: As :meth:`DeviceAugment.__call__` takes them.
            operations: Numbers of the operations in :data:`OPERATIONS`, int64 (N,), on the CPU.
            signs: -1 or 1, (N,), on the CPU; without meaning for operations that know no sign.

        Returns:
            ``images``.
        """
        height, width = images.shape[2:]
        amount = amounts(self.level, height, width)
        # All geometric operations in one pass, with a map for each image.
        maps = torch.tensor(
            [[affine_map(name, sign * amount[name], height, width) for sign in (-1, 1)] for name in GEOMETRIC]
        )
        first = OPERATIONS.index(GEOMETRIC[0])
        chosen = (operations >= first) & (operations < first + len(GEOMETRIC))

        def move(part: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            own = maps[operations[rows] - first, (signs[rows] > 0).long()]
            return affine(part, to_device(own, part.device), self.interpolation, self.fill)

        change_some(images, chosen, move)
        for number, name in enumerate(OPERATIONS):
            if name != 'Identity' and name not in GEOMETRIC:
                change_some(images, operations == number, _color_change(name, amount, signs))
        return images


def _color_change(
    name: str, amount: dict[str, float], signs: torch.Tensor
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def change(part: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if name in BLENDS:
            factors = to_device(1 + signs[rows] * amount[name], part.device).view(-1, 1, 1, 1)
            return BLENDS[name](part, factors)
        if name == 'AutoContrast':
            return color.autocontrast(part)
        if name == 'Equalize':
            return color.equalize(part)
        level = torch.full((1, 1, 1, 1), float(amount[name]), device=part.device)
        return color.posterize(part, level) if name == 'Posterize' else color.solarize(part, level)

    return change
