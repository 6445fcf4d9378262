"""What Mixup and CutMix share: partners, and the labels of two images that became one."""

from __future__ import annotations

from abc import abstractmethod

import torch

from . import arguments
from .base import BatchAugment, to_device

#: How the labels of two images are joined.
LABELS = ('mix', 'union')


class Mixing(BatchAugment):
    """Base of those that mix each image with another of the batch.

    Args:
        alpha: Parameter, above 0, of the Beta(alpha, alpha) distribution from which the share of the first image is
            drawn, once for the batch.
        labels: See :func:`join_labels`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(self, alpha: float, labels: str = 'mix') -> None:
        name = type(self).__name__
        self.alpha = arguments.positive(alpha, f'{name}: alpha')
        self.labels = arguments.choice(labels, LABELS, f'{name}: labels')

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix them."""
        partners = to_device(torch.randperm(len(images)), images.device)
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        images, share = self.mix(images, partners, share)
        return images, join_labels(targets, targets.index_select(0, partners), share, self.labels)

    @abstractmethod
    def mix(self, images: torch.Tensor, partners: torch.Tensor, share: float) -> tuple[torch.Tensor, float]:
        """Mix the images, in place.

        Args:
            images: float32 (N, 3, H, W).
            partners: Number of each image's partner, int64 (N,), on the device of the images.
            share: Share of the first image in the mix, in [0, 1].

        Returns:
            The mixed images, and the share that the first image really has.
        """


def join_labels(first: torch.Tensor, second: torch.Tensor, share: float, labels: str = 'mix') -> torch.Tensor:
    """Labels of a mix of two images.

    ``'mix'``: ``share * first + (1 - share) * second``; unknown (-1) where either label is.
    ``'union'``: present if either image shows it (for soft labels the larger), otherwise unknown if either is unknown;
    LogicMix (Chong et al., arXiv 2405.15860). An image whose share is 0 has no say in either.

    Args:
        first: (N, C) of 1, 0, -1 and soft values in [0, 1].
        second: Those of the partners, the same.
        share: Share of the first image, in [0, 1].
        labels: ``'mix'`` or ``'union'``.

    Returns:
        float32 (N, C), each in [0, 1] or -1.
    """
    first, second = first.float(), second.float()
    if share in (0.0, 1.0):
        return first if share else second
    unknown = (first < 0) | (second < 0)
    if labels == 'union':
        joined = torch.maximum(first, second)
        return joined.masked_fill_(unknown & (joined < 1), -1)
    # lerp is exact where both are equal, and never leaves the span of the two.
    return torch.lerp(second, first, share).masked_fill_(unknown, -1)
