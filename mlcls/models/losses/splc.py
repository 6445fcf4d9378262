"""SPLC and focal margin loss (Zhang et al., "Simple and Robust Loss Design for Multi-Label Learning with Missing
Labels", arXiv 2112.07368)."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.models.losses.base import Shared
from mlcls.models.losses.hill import focal_margin_positive
from mlcls.models.losses.incomplete import IncompleteLabelLoss
from mlcls.models.losses.numerics import power
from mlcls.registry import MODELS


def focal_negative(logits: torch.Tensor, gamma: float) -> torch.Tensor:
    """``-p^g log(1 - p)``: the loss of a negative label, same shape as the logits."""
    return -power(logits.sigmoid(), gamma) * F.logsigmoid(-logits)


@MODELS.register_module()
class FocalMarginLoss(IncompleteLabelLoss):
    """Focal loss whose positives are asked for a margin: ``-(1 - p')^g log p'``, ``p' = sigmoid(x - m)``.

    Args:
        margin: Margin m of positives.
        gamma: Focusing exponent g, at least 0.
        **shared: See :class:`~mlcls.models.losses.base.Shared`; ``unknown`` also takes ``'unobserved'``, see
            :class:`~mlcls.models.losses.incomplete.IncompleteLabelLoss`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(self, margin: float = 1.0, gamma: float = 2.0, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_range('margin', margin)
        self.check_range('gamma', gamma, 0)
        self.margin = margin
        self.gamma = gamma

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """``-y (1 - p')^g log p' - (1 - y) p^g log(1 - p)``; verified negatives are treated alike."""
        positive, negative, unobserved = self.parts(targets, logits.dtype)
        away = focal_negative(logits, self.gamma)
        return positive * focal_margin_positive(logits, self.margin, self.gamma) + (negative + unobserved) * away


@MODELS.register_module()
class SPLCLoss(FocalMarginLoss):
    """Self-paced loss correction: an unobserved label of high score is taken as positive, from the second epoch on.

    The link is that of the loss before the correction.

    Args:
        tau: Score above which an unobserved label is taken as positive, in (0, 1).
        change_epoch: First epoch of the correction, from 0.
        margin: Margin of observed positives.
        gamma: Focusing exponent, at least 0.
        **shared: See :class:`FocalMarginLoss`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(
        self,
        tau: float = 0.6,
        change_epoch: int = 1,
        margin: float = 1.0,
        gamma: float = 2.0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(margin, gamma, **shared)
        self.check_range('tau', tau, 0, 1)
        self.check_range('change_epoch', change_epoch, 0)
        self.tau = tau
        self.change_epoch = change_epoch

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The focal margin loss, with corrected labels from ``change_epoch`` on (they are asked for no margin)."""
        loss = self.pointwise(logits, targets)
        if self.epoch < self.change_epoch:
            return loss
        unobserved = self.parts(targets, logits.dtype).unobserved
        found = unobserved * (logits.sigmoid() > self.tau)
        as_positive = focal_margin_positive(logits, 0.0, self.gamma)
        return loss + found * (as_positive - focal_negative(logits, self.gamma))
