"""Asymmetric loss (Ridnik et al., "Asymmetric Loss For Multi-Label Classification", arXiv 2009.14119)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mlcls.errors import ConfigError
from mlcls.models.losses.base import MultiLabelLoss, Reduction, known_labels
from mlcls.registry import MODELS


def asymmetric_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    eps: float = 1e-8,
) -> torch.Tensor:
    """Asymmetric loss: ``-y (1 - p)^g+ log p - (1 - y) q^g- log(1 - q)`` with ``q = max(p - clip, 0)``.

    The gradient flows through the weights, as in mmpretrain. The two terms are mixed after their logarithms are taken,
    so soft targets are right; mmpretrain mixes p and 1 - p first.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        gamma_pos: Focusing exponent g+ of positives, at least 0.
        gamma_neg: Focusing exponent g- of negatives, at least 0.
        clip: Probability margin, in [0, 1): negatives below it cost nothing.
        eps: Smallest q whose power is taken, so that exponents below 1 keep a finite gradient.

    Returns:
        (N, C), at least 0; 0 where the label is unknown.
    """
    labels, known = known_labels(targets, logits.dtype)
    positive = -torch.exp(gamma_pos * F.logsigmoid(-logits)) * F.logsigmoid(logits)
    if clip > 0:
        shifted = (logits.sigmoid() - clip).clamp(min=0)
        negative = -(shifted.clamp(min=eps) ** gamma_neg) * torch.log1p(-shifted)
    else:
        negative = -torch.exp(gamma_neg * F.logsigmoid(logits)) * F.logsigmoid(-logits)
    return (labels * positive + (1 - labels) * negative) * known


@MODELS.register_module()
class AsymmetricLoss(MultiLabelLoss):
    """Asymmetric loss with mmpretrain's arguments; see :func:`asymmetric_loss`.

    Scores after it run high: at a score of .5 a class is present in about one case of eight, so choose thresholds on
    validation data instead of using .5.

    Args:
        gamma_pos: Focusing exponent of positives, at least 0.
        gamma_neg: Focusing exponent of negatives, at least 0.
        clip: Probability margin of negatives, in [0, 1).
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the loss.
        use_sigmoid: Must be True: one sigmoid a class. Here for configs of mmpretrain.
        eps: Smallest base of the negative power.

    Raises:
        ConfigError: ``clip`` outside [0, 1), or ``use_sigmoid=False``.
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
        use_sigmoid: bool = True,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not 0 <= clip < 1:
            raise ConfigError(f'AsymmetricLoss: clip must be in [0, 1), got {clip}')
        if not use_sigmoid:
            raise ConfigError('AsymmetricLoss: use_sigmoid=False (softmax) is for single-label data; remove it')
        self.gamma_pos = gamma_pos
        self.gamma_neg = gamma_neg
        self.clip = clip
        self.eps = eps

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`asymmetric_loss`."""
        return asymmetric_loss(logits, targets, self.gamma_pos, self.gamma_neg, self.clip, self.eps)
