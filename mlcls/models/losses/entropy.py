"""Losses of single positive labels: entropy maximisation and weak assumed negatives."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.models.losses.base import Shared
from mlcls.models.losses.incomplete import IncompleteLabelLoss
from mlcls.registry import MODELS


def binary_entropy(logits: torch.Tensor) -> torch.Tensor:
    """``H(p) = -p log p - (1 - p) log(1 - p)``, p = sigmoid(x), same shape as the logits, in [0, log 2]."""
    p = logits.sigmoid()
    return -p * F.logsigmoid(logits) - (-logits).sigmoid() * F.logsigmoid(-logits)


@MODELS.register_module()
class EntropyMaximizationLoss(IncompleteLabelLoss):
    """Keeps unobserved labels undecided: ``-log p`` of positives, ``-alpha H(p)`` of unobserved labels.

    Source: Zhou et al., "Acknowledging the Unknown for Multi-label Learning with Single Positive Labels", ECCV 2022.
    Nearly all logits end up above 0, so that the sigmoid of .5 means nothing; the link is exact: ``pi / (1 - pi) =
    alpha x p``.

    Args:
        alpha: Weight of the entropy, above 0; the authors use .2 on VOC, .1 on COCO and NUS, .01 on CUB.
        **shared: See :class:`~mlcls.models.losses.base.Shared`; ``unknown`` also takes ``'unobserved'``, see
            :class:`~mlcls.models.losses.incomplete.IncompleteLabelLoss`.

    Raises:
        ConfigError: ``alpha`` not above 0.
    """

    def __init__(self, alpha: float = 0.1, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_positive('alpha', alpha)
        self.alpha = alpha

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """``-y log p - alpha (unobserved) H(p) - (verified negative) log(1 - p)``; below 0 where unobserved."""
        positive, negative, unobserved = self.parts(targets, logits.dtype)
        loss = -positive * F.logsigmoid(logits) - self.alpha * unobserved * binary_entropy(logits)
        return loss - negative * F.logsigmoid(-logits)

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """``alpha x p / (1 + alpha x p)`` of logits above 0; (nearly) 0 below, where no posterior has its optimum."""
        logits = logits.float()
        p = logits.sigmoid()
        # A millionth of the sigmoid keeps what lies below 0 in order.
        odds = self.alpha * logits.clamp(min=0) * p + 1e-6 * p
        return odds / (1 + odds)


@MODELS.register_module()
class WeakAssumeNegativeLoss(IncompleteLabelLoss):
    """Binary cross entropy in which unobserved labels count as negatives of small weight.

    Source: Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021 (WAN). The link is exact:
    ``sigmoid(x + log weight)``.

    Args:
        gamma: Weight of unobserved labels, above 0; ``1 / (C - 1)`` if None: one positive and C - 1 unobserved labels
            of an image then weigh the same.
        **shared: See :class:`EntropyMaximizationLoss`.

    Raises:
        ConfigError: ``gamma`` not above 0.
    """

    def __init__(self, gamma: float | None = None, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        if gamma is not None:
            self.check_positive('gamma', gamma)
        self.gamma = gamma

    def _weight(self, num_classes: int) -> float:
        return 1 / max(num_classes - 1, 1) if self.gamma is None else self.gamma

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """``-y log p - (weight or, if verified, 1) (1 - y) log(1 - p)``."""
        positive, negative, unobserved = self.parts(targets, logits.dtype)
        away = negative + self._weight(logits.shape[1]) * unobserved
        return -positive * F.logsigmoid(logits) - away * F.logsigmoid(-logits)

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """``sigmoid(x + log weight)``."""
        return (logits.float() + math.log(self._weight(logits.shape[1]))).sigmoid()
