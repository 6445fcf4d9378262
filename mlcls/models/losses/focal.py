"""Focal loss (Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002), one sigmoid a class."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mlcls.models.losses.base import MultiLabelLoss, Reduction, known_labels
from mlcls.registry import MODELS


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0, alpha: float = 0.25) -> torch.Tensor:
    """Focal loss: ``-y a (1 - p)^g log p - (1 - y)(1 - a) p^g log(1 - p)``, p = sigmoid(logit).

    The powers are taken in log space, so that value and gradient stay finite for any finite logit.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        gamma: Focusing exponent g, at least 0.
        alpha: Weight a of positives, in [0, 1].

    Returns:
        (N, C), at least 0; 0 where the label is unknown.
    """
    labels, known = known_labels(targets, logits.dtype)
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    positive = -alpha * torch.exp(gamma * log_not_p) * log_p
    negative = -(1 - alpha) * torch.exp(gamma * log_p) * log_not_p
    return (labels * positive + (1 - labels) * negative) * known


@MODELS.register_module()
class FocalLoss(MultiLabelLoss):
    """Focal loss with mmpretrain's arguments; see :func:`focal_loss`.

    Args:
        gamma: Focusing exponent, at least 0.
        alpha: Weight of positives, in [0, 1].
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the loss.
    """

    def __init__(
        self, gamma: float = 2.0, alpha: float = 0.25, reduction: Reduction = 'mean', loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.gamma = gamma
        self.alpha = alpha

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`focal_loss`."""
        return focal_loss(logits, targets, self.gamma, self.alpha)
