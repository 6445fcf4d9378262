"""A sum of several losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.losses.base import MultiLabelLoss, PointwiseLoss, Reduction
from mlcls.models.losses.link import LinkCurve
from mlcls.registry import MODELS


@MODELS.register_module()
class WeightedSum(MultiLabelLoss):
    """``sum_i w_i loss_i``. Reductions, treatment of unknown labels and the like are settings of the parts.

    The link follows from the sum of the gradients if every part is a loss of single labels without values for each
    class; otherwise it is that of the first part.

    Args:
        losses: Configs of the parts, at least one.
        weights: Factor of each; all 1 if None.

    Raises:
        ConfigError: No parts, or another number of weights than of parts.
    """

    def __init__(self, losses: Sequence[dict[str, Any] | nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not losses:
            raise ConfigError('WeightedSum: losses is empty; list the configs of at least one loss')
        weights = [1.0] * len(losses) if weights is None else list(weights)
        if len(weights) != len(losses):
            raise ConfigError(f'WeightedSum: weights has {len(weights)} values, but there are {len(losses)} losses')
        self.losses: Any = nn.ModuleList(loss if isinstance(loss, nn.Module) else MODELS.build(loss) for loss in losses)
        for weight in weights:
            self.check_range('weights', weight)
        self.weights = [float(weight) for weight in weights]
        self.num_classes = 1
        self.calibrated = all(_is_pointwise(loss) for loss in self.losses)

    def set_classes(self, num_classes: int) -> None:
        """Tell the number of classes, on which the link of some parts depends."""
        super().set_classes(num_classes)
        self.num_classes = num_classes

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        weight: torch.Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: Reduction | None = None,
        index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Weighted sum of the parts; arguments as in the base."""
        parts = (loss(logits, targets, weight, avg_factor, reduction_override, index) for loss in self.losses)
        return torch.stack([factor * part for factor, part in zip(self.weights, parts)]).sum(0)

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum for every label, of parts that are losses of single labels, before corrections of a batch."""
        values = [
            factor * loss.loss_weight * _pointwise(loss, logits, targets)
            for factor, loss in zip(self.weights, self.losses)
        ]
        return torch.stack(values).sum(0)

    def _of_one_class(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum for (n, 1) logits and targets of 1 or 0, as if they were one of the classes."""
        wide = logits.expand(-1, self.num_classes)
        values = []
        for factor, loss in zip(self.weights, self.losses):
            own = torch.where(targets == 0, getattr(loss, 'absent_target', 0.0), targets).expand_as(wide)
            values.append(factor * loss.loss_weight * _pointwise(loss, wide, own)[:, :1])
        return torch.stack(values).sum(0)

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """See the class."""
        if not self.calibrated or len(self.losses) == 1:
            return self.losses[0].link(logits)
        if self._curve is None:
            self._curve = LinkCurve(self._of_one_class)
        return self._curve(logits.float()).sigmoid()


def _pointwise(loss: MultiLabelLoss, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return loss.pointwise(logits, targets) if isinstance(loss, PointwiseLoss) else loss.unreduced(logits, targets)


def _is_pointwise(loss: Any) -> bool:
    return loss.calibrated and loss.unit == 'label' and not any(True for _ in loss.named_buffers())
