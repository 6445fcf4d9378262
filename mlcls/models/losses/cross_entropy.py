"""Binary cross entropy over classes, and softmax cross entropy with soft targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from mlcls.errors import ConfigError
from mlcls.models.losses.base import MultiLabelLoss, Reduction, known_labels
from mlcls.registry import MODELS


def binary_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    class_weight: torch.Tensor | None = None,
    pos_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross entropy of every image and class: ``-w [p y log s(x) + (1 - y) log s(-x)]``.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        class_weight: (C,) factors w of the classes.
        pos_weight: (C,) factors p of the positive term.

    Returns:
        (N, C), at least 0; 0 where the label is unknown.
    """
    labels, known = known_labels(targets, logits.dtype)
    loss = F.binary_cross_entropy_with_logits(
        logits, labels, weight=class_weight, pos_weight=pos_weight, reduction='none'
    )
    return loss * known


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, class_weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Softmax cross entropy of every image and class: ``-w y log softmax(x)``.

    It assumes that labels sum to one, which is wrong for multi-label data; kept to show the difference. Unknown
    classes count as absent from the targets but stay in the softmax.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        class_weight: (C,) factors w of the classes.

    Returns:
        (N, C), at least 0.
    """
    labels, _ = known_labels(targets, logits.dtype)
    loss = -labels * F.log_softmax(logits, dim=1)
    return loss if class_weight is None else loss * class_weight


@MODELS.register_module()
class CrossEntropyLoss(MultiLabelLoss):
    """Cross entropy with mmpretrain's arguments.

    Args:
        use_sigmoid: Binary cross entropy of each class. What multi-label data wants.
        use_soft: Softmax cross entropy with the label vector as target.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the loss.
        class_weight: Factor of each class.
        pos_weight: Factor of the positive term, one number or one for each class; only with ``use_sigmoid``.

    Raises:
        ConfigError: Neither or both of ``use_sigmoid`` and ``use_soft``; ``pos_weight`` without ``use_sigmoid``.
    """

    class_weight: torch.Tensor | None
    pos_weight: torch.Tensor | None

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_soft: bool = False,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
        class_weight: Sequence[float] | None = None,
        pos_weight: Sequence[float] | float | None = None,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if use_sigmoid and use_soft:
            raise ConfigError('CrossEntropyLoss: use_sigmoid and use_soft exclude each other; choose one')
        if not use_sigmoid and not use_soft:
            raise ConfigError(
                'CrossEntropyLoss: without use_sigmoid it is a single-label loss and cannot take several '
                "labels an image; write dict(type='CrossEntropyLoss', use_sigmoid=True)"
            )
        if pos_weight is not None and not use_sigmoid:
            raise ConfigError('CrossEntropyLoss: pos_weight needs use_sigmoid=True')
        self.use_sigmoid = use_sigmoid
        self.register_buffer('class_weight', _as_tensor(class_weight), persistent=False)
        self.register_buffer('pos_weight', _as_tensor(pos_weight), persistent=False)

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`binary_cross_entropy` and :func:`soft_cross_entropy`."""
        if self.use_sigmoid:
            return binary_cross_entropy(logits, targets, self.class_weight, self.pos_weight)
        return soft_cross_entropy(logits, targets, self.class_weight)

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """Sigmoid of each class, or the softmax over classes with ``use_soft``."""
        return logits.float().sigmoid() if self.use_sigmoid else logits.float().softmax(dim=1)


def _as_tensor(values: Sequence[float] | float | None) -> torch.Tensor | None:
    return None if values is None else torch.as_tensor(values, dtype=torch.float32)
