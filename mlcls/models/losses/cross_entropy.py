"""Binary cross entropy over classes, and softmax cross entropy with several labels an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.errors import ConfigError
from mlcls.models.losses.base import MultiLabelLoss, Shared, known_labels
from mlcls.models.losses.weights import CLASS_WEIGHTS, POS_WEIGHTS
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
        class_weight: (C,) or () factors w of the classes.
        pos_weight: (C,) or () factors p of the positive term.

    Returns:
        (N, C), at least 0; 0 where the label is unknown.
    """
    labels, known = known_labels(targets, logits.dtype)
    loss = F.binary_cross_entropy_with_logits(
        logits, labels, weight=class_weight, pos_weight=pos_weight, reduction='none'
    )
    return loss * known


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, class_weight: torch.Tensor | None = None, normalize: bool = False
) -> torch.Tensor:
    """Softmax cross entropy of every image and class: ``-w y log softmax(x)``.

    It assumes that labels sum to one, which is wrong for multi-label data; kept to show the difference. Unknown
    classes count as absent from the targets but stay in the softmax.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        class_weight: (C,) or () factors w of the classes.
        normalize: Divide the labels of an image by their sum (Mahajan et al., "Exploring the Limits of Weakly
            Supervised Pretraining", ECCV 2018, section 2.2).

    Returns:
        (N, C), at least 0.
    """
    labels, _ = known_labels(targets, logits.dtype)
    if normalize:
        labels = labels / labels.sum(dim=1, keepdim=True).clamp(min=torch.finfo(labels.dtype).tiny)
    loss = -labels * F.log_softmax(logits, dim=1)
    return loss if class_weight is None else loss * class_weight


@MODELS.register_module()
class CrossEntropyLoss(MultiLabelLoss):
    """Cross entropy with mmpretrain's arguments; exactly one of the three ``use_...`` must be set.

    The softmax forms have no calibrated score: theirs are shares of the labels of an image.

    Args:
        use_sigmoid: Binary cross entropy of each class. What multi-label data wants.
        use_soft: Softmax cross entropy with the label vector as target.
        use_softmax: Softmax cross entropy with the label vector divided by its sum as target.
        class_weight: Factor of each class, or ``'balanced'``, ``'effective_number'``, ``'sqrt_inverse'``: from the
            training labels, see :mod:`mlcls.models.losses.weights`.
        pos_weight: Factor of the positive term, one number or one for each class, or ``'auto'``: negatives over
            positives of the training labels; only with ``use_sigmoid``.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: None or several of the ``use_...``; ``pos_weight`` without ``use_sigmoid``; weights out of range.
    """

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_soft: bool = False,
        class_weight: Sequence[float] | str | None = None,
        pos_weight: Sequence[float] | float | str | None = None,
        use_softmax: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        chosen = sum((use_sigmoid, use_soft, use_softmax))
        if chosen > 1:
            raise ConfigError('CrossEntropyLoss: use_sigmoid, use_soft and use_softmax exclude each other; choose one')
        if not chosen:
            raise ConfigError(
                'CrossEntropyLoss: without use_sigmoid it is a single-label loss and cannot take several '
                "labels an image; write dict(type='CrossEntropyLoss', use_sigmoid=True)"
            )
        if pos_weight is not None and not use_sigmoid:
            raise ConfigError('CrossEntropyLoss: pos_weight needs use_sigmoid=True')
        self.use_sigmoid = use_sigmoid
        self.use_softmax = use_softmax
        self.calibrated = use_sigmoid
        self.add_class_setting('class_weight', class_weight, CLASS_WEIGHTS, may_be_zero=True)
        self.add_class_setting('pos_weight', pos_weight, POS_WEIGHTS)

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`binary_cross_entropy` and :func:`soft_cross_entropy`."""
        class_weight, pos_weight = (self.setting(name) for name in ('class_weight', 'pos_weight'))
        if self.use_sigmoid:
            return binary_cross_entropy(logits, targets, class_weight, pos_weight)
        return soft_cross_entropy(logits, targets, class_weight, self.use_softmax)

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """Sigmoid of each class, shifted by ``log(pos_weight)``; without ``use_sigmoid`` the softmax over classes.

        The softmax tells shares of the labels of an image, not probabilities of each: no threshold suits it.
        """
        logits = logits.float()
        if not self.use_sigmoid:
            return logits.softmax(dim=1)
        pos_weight = self.setting('pos_weight')
        return (logits if pos_weight is None else logits - pos_weight.log()).sigmoid()

    def prior_logits(self, prevalence: torch.Tensor) -> torch.Tensor:
        """See the base; logarithms for a softmax, whose logits have no zero."""
        return super().prior_logits(prevalence) if self.use_sigmoid else prevalence.log().float()
