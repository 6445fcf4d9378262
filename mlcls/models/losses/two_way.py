"""Two-way loss (Kobayashi, "Two-Way Multi-Label Loss", CVPR 2023)."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.errors import ConfigError
from mlcls.models.losses.base import MultiLabelLoss, Shared, known_labels
from mlcls.models.losses.numerics import weighted_terms
from mlcls.registry import MODELS


def two_way_loss(logits: torch.Tensor, targets: torch.Tensor, t_pos: float = 4.0, t_neg: float = 1.0) -> torch.Tensor:
    """Softplus of ``h+ + h-``, averaged over images with a label, plus the same over classes with a positive.

    ``h+ = T+ log sum_positives e^(-x / T+)`` and ``h- = T- log sum_negatives e^(x / T-)``: along the classes of an
    image, and along the images of a class. Soft labels y weigh the terms by y and 1 - y.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        t_pos: Temperature T+ of positives, above 0.
        t_neg: Temperature T- of negatives, above 0.

    Returns:
        (), at least 0; 0 if nothing has both a positive and a negative.
    """
    labels, known = known_labels(targets, logits.dtype)
    sides = [(logits, labels, known), (logits.T, labels.T, known.T)]
    return torch.stack([_one_way(*side, t_pos, t_neg) for side in sides]).sum()


def _one_way(x: torch.Tensor, labels: torch.Tensor, known: torch.Tensor, t_pos: float, t_neg: float) -> torch.Tensor:
    away = (1 - labels) * known
    chosen = (labels > 0).any(dim=1)
    # Rows without a negative cost nothing; softplus of minus infinity would have no gradient.
    paired = chosen & (away > 0).any(dim=1)
    positives = weighted_terms(-x[paired] / t_pos, labels[paired])
    negatives = weighted_terms(x[paired] / t_neg, away[paired])
    hardest = t_pos * positives.logsumexp(dim=1) + t_neg * negatives.logsumexp(dim=1)
    return F.softplus(hardest).sum() / chosen.sum().clamp(min=1)


@MODELS.register_module()
class TwoWayLoss(MultiLabelLoss):
    """Ranks positives above negatives within each image and within each class; see :func:`two_way_loss`.

    A mean over the whole batch: only ``reduction='mean'``, no weights of images. It depends on differences of logits
    alone, so no score means a probability: scores are the sigmoid, good for ranking (mAP, top-k) and for thresholds
    chosen on validation data, not for .5.

    Args:
        t_pos: Temperature of positives, above 0.
        t_neg: Temperature of negatives, above 0.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A temperature not above 0, or another reduction.
    """

    unit = 'batch'

    def __init__(self, t_pos: float = 4.0, t_neg: float = 1.0, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_positive('t_pos', t_pos)
        self.check_positive('t_neg', t_neg)
        if self.reduction != 'mean':
            raise ConfigError(f"TwoWayLoss: is a mean over the batch; reduction must be 'mean', got '{self.reduction}'")
        self.t_pos = t_pos
        self.t_neg = t_neg

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`two_way_loss`."""
        return two_way_loss(logits, targets, self.t_pos, self.t_neg)
