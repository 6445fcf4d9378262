"""One of several augmentations for each batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mlcls.errors import ConfigError
from mlcls.registry import MODELS

from . import arguments
from .base import BatchAugment, build_augment


@MODELS.register_module()
class RandomBatchAugment(BatchAugment):
    """Draw one augmentation for each batch; mmpretrain's class of this name.

    Args:
        augments: One augmentation or several, as configs or objects.
        probs: Probability of each, at most 1 in all; what is missing to 1 is the probability of none. Equal, and always
            one, if None.

    Raises:
        ConfigError: No augmentation, or probabilities that do not fit.
    """

    def __init__(self, augments: Any, probs: float | Sequence[float] | None = None) -> None:
        several = augments if isinstance(augments, (list, tuple)) else [augments]
        if not several:
            raise ConfigError('RandomBatchAugment: augments is empty')
        self.augments = [build_augment(each, BatchAugment) for each in several]
        if probs is None:
            probs = [1 / len(several)] * len(several)
        shares = list(probs) if isinstance(probs, Sequence) else [probs]
        if len(shares) != len(several):
            raise ConfigError(f'RandomBatchAugment: {len(shares)} probs for {len(several)} augments')
        self.probs = [arguments.number(share, 0, 1, 'RandomBatchAugment: each of probs') for share in shares]
        if sum(self.probs) > 1 + 1e-6:
            raise ConfigError(f'RandomBatchAugment: probs must sum to at most 1, got {sum(self.probs):g}')

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply the drawn one, if any."""
        draw = float(torch.rand((), dtype=torch.float64)) * max(sum(self.probs), 1.0)
        for augment, share in zip(self.augments, self.probs):
            if draw < share:
                return augment(images, targets)
            draw -= share
        return images, targets
