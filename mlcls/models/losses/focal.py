"""Focal loss (Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002), one sigmoid a class."""

from __future__ import annotations

import torch
from typing_extensions import Unpack

from mlcls.models.losses.base import Shared
from mlcls.models.losses.fused import FusedLoss, fused_loss
from mlcls.models.losses.numerics import log_sigmoid_of, power
from mlcls.registry import MODELS


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0, alpha: float = 0.25) -> torch.Tensor:
    """Focal loss: ``-y a (1 - p)^g log p - (1 - y)(1 - a) p^g log(1 - p)``, p = sigmoid(logit).

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        gamma: Focusing exponent g, at least 0.
        alpha: Weight a of positives, in [0, 1].

    Returns:
        (N, C), at least 0; 0 where the label is unknown.
    """
    return fused_loss(lambda x, y: focal_kernel(x, y, gamma, alpha), logits, targets)


def focal_kernel(
    logits: torch.Tensor, labels: torch.Tensor, gamma: float, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal loss and its derivative by the logit.

    Derivatives: ``a (1 - p)^g (g p log p - (1 - p))`` of a positive, ``(1 - a) p^g (p - g (1 - p) log(1 - p))`` of a
    negative.

    Args:
        logits: Any shape.
        labels: Same shape, in [0, 1].
        gamma: Focusing exponent.
        alpha: Weight of positives.
    """
    p = logits.sigmoid()
    away = 1 - p
    log_p = log_sigmoid_of(logits, p)
    log_away = log_p - logits
    # In place from here on, and with the sign in the factors: making temporaries is what costs time.
    positive = power(away, gamma).mul_(labels * -alpha)
    negative = power(p, gamma).mul_(torch.rsub(labels, alpha - 1, alpha=alpha - 1))  # -(1 - alpha)(1 - labels)
    positive_loss, negative_loss = log_p.mul_(positive), log_away.mul_(negative)
    loss = positive_loss + negative_loss
    slope = away.mul_(positive.add_(negative_loss, alpha=gamma))
    return loss, slope.addcmul_(p, negative.add_(positive_loss, alpha=gamma), value=-1)


@MODELS.register_module()
class FocalLoss(FusedLoss):
    """Focal loss with mmpretrain's arguments; see :func:`focal_loss`.

    Args:
        gamma: Focusing exponent, at least 0.
        alpha: Weight of positives, in [0, 1].
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_range('gamma', gamma, 0)
        self.check_range('alpha', alpha, 0, 1)
        self.gamma = gamma
        self.alpha = alpha

    def kernel(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :func:`focal_kernel`."""
        return focal_kernel(logits, labels, self.gamma, self.alpha)
