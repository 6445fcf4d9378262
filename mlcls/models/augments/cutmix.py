"""CutMix (Yun et al., arXiv 1905.04899)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError
from mlcls.registry import MODELS

from . import arguments
from .mixing import Mixing


@MODELS.register_module()
class CutMix(Mixing):
    """Paste a rectangle of another image of the batch into each image, and mix labels by its area.

    The place of the rectangle is the same for the whole batch. Its centre is anywhere in the image, and what lies
    outside is cut off; labels go by the area that is really pasted.

    Args:
        alpha: See :class:`Mixing`; the paper and mmpretrain's configs have 1. Needed unless ``cutmix_minmax`` is given.
        cutmix_minmax: Draw height and width of the rectangle each from (smallest, largest), shares of the image's in
            [0, 1], and keep it inside, instead of drawing its area; ``alpha`` then has no effect.
        labels: ``'mix'`` or ``'union'``, see :func:`join_labels`. A union claims what the pasted part may not show.

    Raises:
        ConfigError: A value outside these, or neither ``alpha`` nor ``cutmix_minmax``.
    """

    def __init__(
        self, alpha: float | None = None, cutmix_minmax: Sequence[float] | None = None, labels: str = 'mix'
    ) -> None:
        if alpha is None and cutmix_minmax is None:
            raise ConfigError('CutMix: give alpha (1.0 in the paper) or cutmix_minmax')
        super().__init__(1.0 if alpha is None else alpha, labels)
        self.sides = None if cutmix_minmax is None else arguments.interval(cutmix_minmax, 0, 1, 'CutMix: cutmix_minmax')

    def box(self, height: int, width: int, share: float) -> tuple[slice, slice]:
        """Draw the rectangle, (rows, columns), that leaves this share of the image outside, before it is cut off."""
        return self._edge(height, share), self._edge(width, share)

    def _edge(self, side: int, share: float) -> slice:
        place = float(torch.rand(()))
        if self.sides is not None:
            low, high = (round(limit * side) for limit in self.sides)
            length = int(torch.randint(low, high + 1, ()))
            start = int(place * (side - length + 1))
            return slice(start, start + length)
        length = int(side * math.sqrt(1 - share))
        start = int(place * side) - length // 2
        return slice(max(start, 0), min(max(start + length, 0), side))

    def mix(self, images: torch.Tensor, partners: torch.Tensor, share: float) -> tuple[torch.Tensor, float]:
        """Paste the partners' parts."""
        height, width = images.shape[2:]
        rows, columns = self.box(height, width, share)
        part = images[:, :, rows, columns]
        pasted = part.shape[2] * part.shape[3] / (height * width)
        part.copy_(part.index_select(0, partners))
        return images, 1 - pasted
