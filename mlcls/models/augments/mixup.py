"""Mixup (Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

import torch

from mlcls.registry import MODELS

from .mixing import Mixing


@MODELS.register_module()
class Mixup(Mixing):
    """Blend each image with another of the batch, and their labels.

    Args:
        alpha: See :class:`Mixing`; mmpretrain's configs have .2 and .8.
        labels: ``'mix'`` or ``'union'``, see :func:`join_labels`.
    """

    def mix(self, images: torch.Tensor, partners: torch.Tensor, share: float) -> tuple[torch.Tensor, float]:
        """``share * image + (1 - share) * partner``."""
        return images.lerp_(images.index_select(0, partners), 1 - share), share
