"""Class-balanced loss (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from typing_extensions import Unpack

from mlcls.models.losses.base import PointwiseLoss, Shared
from mlcls.models.losses.focal import focal_loss
from mlcls.models.losses.weights import effective_number_weights
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics


@MODELS.register_module()
class ClassBalancedLoss(PointwiseLoss):
    """Focal loss (binary cross entropy with ``gamma=0``) weighted by the inverse effective number of samples.

    The weights ``(1 - beta) / (1 - beta^n)``, n positives of a class, come from the training labels and have a mean of
    1. The published beta of .9 tells classes of more than about 50 positives no longer apart; .999 to .9999 do.

    Args:
        beta: In [0, 1); 0 weighs all classes alike.
        gamma: Focusing exponent, at least 0.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(self, beta: float = 0.9, gamma: float = 0.0, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_range('beta', beta, 0, 0.999999)
        self.check_range('gamma', gamma, 0)
        self.gamma = gamma
        rule = partial(effective_number_weights, beta=beta) if beta else _all_alike
        self.add_class_setting('class_weight', 'beta', {'beta': rule})

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Focal loss with both sides weighted 1, before the weights of classes (which no link depends on)."""
        return 2 * focal_loss(logits, targets, self.gamma, alpha=0.5)

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """:meth:`pointwise` times the weights of the classes."""
        return self.pointwise(logits, targets) * self.values('class_weight')


def _all_alike(statistics: LabelStatistics) -> np.ndarray:
    return np.ones(statistics.num_classes)
