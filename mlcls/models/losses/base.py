"""What all losses share: unknown labels, reduction, and the link from logits to scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import nn

from mlcls.errors import ConfigError, did_you_mean

Reduction = Literal['none', 'mean', 'sum']
REDUCTIONS = ('none', 'mean', 'sum')


def known_labels(targets: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Split targets into labels and a mask.

    Args:
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        dtype: Type of the results, that of the logits.

    Returns:
        (N, C) labels in [0, 1] with 0 in place of unknown, and (N, C), 1 where the label is known and 0 elsewhere.
    """
    known = (targets >= 0).to(dtype)
    return targets.to(dtype) * known, known


def reduce_loss(loss: torch.Tensor, reduction: Reduction = 'mean', avg_factor: float | None = None) -> torch.Tensor:
    """Reduce an (N, C) loss.

    Args:
        loss: Elementwise loss.
        reduction: ``'none'`` keeps it, ``'sum'`` adds everything up, ``'mean'`` divides the sum by ``avg_factor``.
        avg_factor: Divisor of ``'mean'``; the number of elements if None. Heads pass the number of images, so that a
            loss is summed over classes (the convention of mmpretrain).
    """
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    return loss.mean() if avg_factor is None else loss.sum() / avg_factor


class MultiLabelLoss(nn.Module, ABC):
    """Base of the losses: holds what they share; a subclass gives the loss of every image and class.

    Args:
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the loss.

    Raises:
        ConfigError: ``reduction`` is none of these.
    """

    def __init__(self, reduction: Reduction = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ConfigError(
                f"{type(self).__name__}: unknown reduction '{reduction}'{did_you_mean(str(reduction), REDUCTIONS)}"
            )
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    @abstractmethod
    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of every image and class, (N, C) of the type of ``logits``, 0 where the label is unknown."""

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        weight: torch.Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: Reduction | None = None,
    ) -> torch.Tensor:
        """Loss of a batch.

        Args:
            logits: (N, C), any floating type; computed in float32 (float64 stays).
            targets: (N, C), 1, 0, -1 (unknown: ignored) or soft values in [0, 1].
            weight: (N,) or (N, C) factors.
            avg_factor: Divisor of the mean, see :func:`reduce_loss`.
            reduction_override: Reduction of this call.

        Returns:
            A scalar, or (N, C) under ``'none'``.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            loss = self.elementwise(logits, targets)
            if weight is not None:
                loss = loss * (weight[:, None] if weight.dim() == 1 else weight).to(loss.dtype)
            return self.loss_weight * reduce_loss(loss, reduction_override or self.reduction, avg_factor)

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores in [0, 1] of logits trained with this loss, same shape, float32."""
        return logits.float().sigmoid()
