"""Flips, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mlcls.errors import ConfigError
from mlcls.registry import MODELS

from . import arguments
from .base import DeviceAugment, change_some

#: Dimensions of (N, 3, H, W) that each direction turns round.
AXES = {'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}


@MODELS.register_module()
class BatchRandomFlip(DeviceAugment):
    """Flip each image at random; arguments of the transform ``RandomFlip``.

    Args:
        prob: Probability of a flip, shared equally by the directions; or one probability a direction.
        direction: ``'horizontal'``, ``'vertical'``, ``'diagonal'`` (both), or a list of these, of which one is drawn.

    Raises:
        ConfigError: Unknown directions, or probabilities that do not lie in [0, 1] in all.
    """

    def __init__(self, prob: float | Sequence[float] = 0.5, direction: str | Sequence[str] = 'horizontal') -> None:
        names = [direction] if isinstance(direction, str) else list(direction)
        self.direction = [arguments.choice(name, tuple(AXES), 'BatchRandomFlip: direction') for name in names]
        given: Sequence[Any] = prob if isinstance(prob, (list, tuple)) else [prob]
        shares = [arguments.number(each, 0, 1, 'BatchRandomFlip: prob') for each in given]
        if given is not prob:
            shares = [shares[0] / len(names)] * len(names)
        if len(shares) != len(names):
            raise ConfigError(f'BatchRandomFlip: {len(shares)} probabilities for {len(names)} directions')
        if sum(shares) > 1 + 1e-6:
            raise ConfigError(f'BatchRandomFlip: prob must sum to at most 1, got {prob!r}')
        self.prob = shares

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Flip some."""
        draw, below = torch.rand(len(images)), 0.0
        for share, name in zip(self.prob, self.direction):
            chosen = (draw >= below) & (draw < below + share)
            change_some(images, chosen, lambda part, _, axes=AXES[name]: part.flip(axes))  # type: ignore[misc]
            below += share
        return images
