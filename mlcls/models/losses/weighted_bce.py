"""Binary cross entropy with a factor for each side, and its mean over classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from typing_extensions import Unpack

from mlcls.models.losses.base import MultiLabelLoss, Shared
from mlcls.models.losses.cross_entropy import binary_cross_entropy
from mlcls.models.losses.weights import CLASS_WEIGHTS
from mlcls.registry import MODELS


def weighted_binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, w_pos: float = 1.0, w_neg: float = 0.5
) -> torch.Tensor:
    """``-w+ y log p - w- (1 - y) log(1 - p)``.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        w_pos: Factor of positives, above 0.
        w_neg: Factor of negatives, above 0.

    Returns:
        (N, C), at least 0; 0 where the label is unknown.
    """
    return w_neg * binary_cross_entropy(logits, targets, pos_weight=logits.new_tensor(w_pos / w_neg))


@MODELS.register_module()
class WeightedBCELoss(MultiLabelLoss):
    """Binary cross entropy that trusts positives more than negatives, for labels that miss some positives.

    Args:
        w_pos: Factor of positives, above 0.
        w_neg: Factor of negatives, above 0.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A factor that is not above 0.
    """

    calibrated = True

    def __init__(self, w_pos: float = 1.0, w_neg: float = 0.5, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_positive('w_pos', w_pos)
        self.check_positive('w_neg', w_neg)
        self.w_pos = w_pos
        self.w_neg = w_neg

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`weighted_binary_cross_entropy`."""
        return weighted_binary_cross_entropy(logits, targets, self.w_pos, self.w_neg)

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """``sigmoid(x - log(w_pos / w_neg))``: exact."""
        return (logits.float() - math.log(self.w_pos / self.w_neg)).sigmoid()


@MODELS.register_module()
class MultiLabelSoftMarginLoss(MultiLabelLoss):
    """Binary cross entropy averaged over classes: torch's loss of this name, with unknown labels.

    A value is the loss of an image; its gradients are C times smaller than those of the other losses.

    Args:
        weight: Factor of each class, or one of the words of ``class_weight`` in :class:`CrossEntropyLoss`.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.
    """

    calibrated = True
    unit = 'image'

    def __init__(self, weight: Sequence[float] | str | None = None, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.add_class_setting('weight', weight, CLASS_WEIGHTS, may_be_zero=True)

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(N,) means over all C classes, unknown ones counting 0."""
        return binary_cross_entropy(logits, targets, self.setting('weight')).mean(dim=1)
