"""Hill loss (Zhang et al., "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels", arXiv
2112.07368)."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.models.losses.base import PointwiseLoss, Shared, known_labels
from mlcls.models.losses.numerics import power
from mlcls.registry import MODELS


def hill_loss(
    logits: torch.Tensor, targets: torch.Tensor, lamb: float = 1.5, margin: float = 1.0, gamma: float = 2.0
) -> torch.Tensor:
    """``-y (1 - p')^g log p' + (1 - y) (lambda - p) p^2`` with ``p = sigmoid(x)`` and ``p' = sigmoid(x - m)``.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        lamb: lambda; above 1.5 the hill has no far side.
        margin: m.
        gamma: Focusing exponent g of positives.

    Returns:
        (N, C); 0 where the label is unknown.
    """
    labels, known = known_labels(targets, logits.dtype)
    p = logits.sigmoid()
    positive = focal_margin_positive(logits, margin, gamma)
    negative = (lamb - p) * p * p
    return (labels * positive + (1 - labels) * negative) * known


def focal_margin_positive(logits: torch.Tensor, margin: float, gamma: float) -> torch.Tensor:
    """``-(1 - p')^g log p'``, ``p' = sigmoid(x - m)``: the loss of a positive label, same shape as the logits."""
    shifted = logits - margin
    return -power((-shifted).sigmoid(), gamma) * F.logsigmoid(shifted)


@MODELS.register_module()
class HillLoss(PointwiseLoss):
    """Takes the weight off negatives of high score, which may be missing labels; see :func:`hill_loss`.

    Args:
        lamb: lambda of the negative term, at least 1 (so that the loss stays above 0). Below 1.5 negatives of high
            score are pushed up, and no score is a probability.
        margin: Margin of positives.
        gamma: Focusing exponent of positives, at least 0.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(self, lamb: float = 1.5, margin: float = 1.0, gamma: float = 2.0, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_range('lamb', lamb, 1)
        self.check_range('margin', margin)
        self.check_range('gamma', gamma, 0)
        self.calibrated = lamb >= 1.5
        self.settings = (lamb, margin, gamma)

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`hill_loss`."""
        return hill_loss(logits, targets, *self.settings)
