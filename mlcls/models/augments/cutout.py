"""Cutout (DeVries and Taylor, arXiv 1708.04552), on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError
from mlcls.registry import MODELS

from . import arguments
from .base import DeviceAugment, fill_boxes


@MODELS.register_module()
class BatchCutout(DeviceAugment):
    """Paint a rectangle over each image. Its centre is anywhere in the image; what lies outside is cut off.

    The labels stay, also of what it covers.

    Args:
        shape: Side, or (height, width): in pixels where it is a whole number, as a share of the image's where it is a
            fraction, above 0 and at most 1.0. The recipe of the asymmetric loss has .5.
        pad_val: Colour, one number or (red, green, blue), 0 to 255.
        prob: Probability for each image.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(
        self,
        shape: float | Sequence[float],
        pad_val: float | Sequence[float] = 128,
        prob: float = 0.5,
    ) -> None:
        lengths = tuple(shape) if isinstance(shape, Sequence) else (shape, shape)
        if len(lengths) != 2 or not all(_is_length(length) for length in lengths):
            raise ConfigError(
                'BatchCutout: shape must be one or two lengths, whole numbers of pixels or fractions above 0 and at '
                f'most 1.0, got {shape!r}'
            )
        self.shape = lengths
        self.color = arguments.color(pad_val, 'BatchCutout: pad_val')
        self.prob = arguments.number(prob, 0, 1, 'BatchCutout: prob')

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Paint over some."""
        count, chosen = len(images), torch.rand(len(images)) < self.prob
        edges = []
        for wanted, side in zip(self.shape, images.shape[2:]):
            length = wanted if isinstance(wanted, int) else max(round(wanted * side), 1)
            start = torch.randint(side, (count,)) - length // 2
            edges += [start.clamp(0, side), torch.where(chosen, (start + length).clamp(0, side), 0)]
        return fill_boxes(images, torch.stack(edges, dim=1), self.color)


def _is_length(value: object) -> bool:
    if isinstance(value, float):
        return 0 < value <= 1
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
