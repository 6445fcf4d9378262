"""Asymmetric loss (Ridnik et al., "Asymmetric Loss For Multi-Label Classification", arXiv 2009.14119)."""

from __future__ import annotations

from functools import partial

import torch
from typing_extensions import Unpack

from mlcls.errors import ConfigError
from mlcls.models.losses.base import Shared
from mlcls.models.losses.fused import FusedLoss, fused_loss
from mlcls.models.losses.numerics import log_sigmoid_of, power
from mlcls.registry import MODELS


def asymmetric_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    eps: float = 1e-8,
    detach_weight: bool = False,
) -> torch.Tensor:
    """Asymmetric loss: ``-y (1 - p)^g+ log p - (1 - y) q^g- log(1 - q)`` with ``q = max(p - clip, 0)``.

    The two terms are mixed after their logarithms are taken, so soft targets are right; mmpretrain mixes p and 1 - p
    first.

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        gamma_pos: Focusing exponent g+ of positives, at least 0.
        gamma_neg: Focusing exponent g- of negatives, at least 0.
        clip: Probability margin, in [0, 1): negatives below it cost nothing.
        eps: Smallest q whose power is taken, so that exponents below 1 keep a finite gradient.
        detach_weight: Take the focusing weights as constants in the gradient, as the authors' code does; mmpretrain
            lets the gradient flow through them.

    Returns:
        (N, C), at least 0; 0 where the label is unknown.
    """
    kernel = partial(
        asymmetric_kernel, gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip, eps=eps, detach_weight=detach_weight
    )
    return fused_loss(kernel, logits, targets)


def asymmetric_kernel(
    logits: torch.Tensor,
    labels: torch.Tensor,
    gamma_pos: float,
    gamma_neg: float,
    clip: float,
    eps: float,
    detach_weight: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Asymmetric loss and its derivative by the logit; arguments as in :func:`asymmetric_loss`, labels in [0, 1]."""
    p = logits.sigmoid()
    log_p = log_sigmoid_of(logits, p)
    if clip > 0:
        negative, negative_slope = _shifted_negative(p, gamma_neg, clip, eps, detach_weight)
    else:
        negative, negative_slope = _plain_negative(p, log_p - logits, gamma_neg, detach_weight)
    positive, positive_slope = _positive(p, log_p, gamma_pos, detach_weight)
    return negative.lerp_(positive, labels).neg_(), negative_slope.lerp_(positive_slope, labels)


# Each of these gives w log(...) and the derivative of minus that by the logit, in tensors of its own.


def _positive(
    p: torch.Tensor, log_p: torch.Tensor, gamma: float, detach_weight: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of ``(1 - p)^g log p``: derivative ``(1 - p)^g (g p log p - (1 - p))``."""
    if gamma == 0:
        return log_p, p - 1
    away = 1 - p
    weight = power(away, gamma)
    slope = -away if detach_weight else torch.addcmul(-away, p, log_p, value=gamma)
    return weight * log_p, slope.mul_(weight)


def _plain_negative(
    p: torch.Tensor, log_away: torch.Tensor, gamma: float, detach_weight: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of ``p^g log(1 - p)``: derivative ``p^g (p - g (1 - p) log(1 - p))``."""
    weight = power(p, gamma)
    slope = p if detach_weight or gamma == 0 else torch.addcmul(p, 1 - p, log_away, value=-gamma)
    return weight * log_away, weight * slope


def _shifted_negative(
    p: torch.Tensor, gamma: float, clip: float, eps: float, detach_weight: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of ``q^g log(1 - q)``: derivative ``p (1 - p) q^(g - 1) (q / (1 - q) - g log(1 - q))`` where q > 0, else 0."""
    q = (p - clip).clamp_(min=0)
    left = (1 - q).clamp_(min=clip)  # as it is in exact numbers; rounding must not make it 0
    log_left = left.log()
    if gamma == 0:
        return log_left, (q > 0) / left * p * (1 - p)
    floored = q if gamma in (1, 2, 3, 4) else q.clamp(min=eps)
    before = power(floored, gamma - 1) if gamma >= 1 else floored ** (gamma - 1)
    weight = before * floored
    slope = torch.div(q, left, out=left)
    if not detach_weight:
        slope.sub_(log_left, alpha=gamma)
    slope.mul_(before).mul_(p).mul_(1 - p)
    return log_left.mul_(weight), slope


@MODELS.register_module()
class AsymmetricLoss(FusedLoss):
    """Asymmetric loss with mmpretrain's arguments; see :func:`asymmetric_loss`.

    A sigmoid of .5 after it means a posterior of about one in eight (one in 28 with ``detach_weight``); the link takes
    that back.

    Args:
        gamma_pos: Focusing exponent of positives, at least 0.
        gamma_neg: Focusing exponent of negatives, at least 0.
        clip: Probability margin of negatives, in [0, 1).
        use_sigmoid: Must be True: one sigmoid a class. Here for configs of mmpretrain.
        eps: Smallest base of the negative power.
        detach_weight: Constant focusing weights in the gradient, as in the authors' code.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        use_sigmoid: bool = True,
        eps: float = 1e-8,
        detach_weight: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.check_range('gamma_pos', gamma_pos, 0)
        self.check_range('gamma_neg', gamma_neg, 0)
        self.check_range('clip', clip, 0, 1, below=True)
        self.check_positive('eps', eps)
        if not use_sigmoid:
            raise ConfigError('AsymmetricLoss: use_sigmoid=False (softmax) is for single-label data; remove it')
        self.settings = (gamma_pos, gamma_neg, clip, eps, detach_weight)

    def kernel(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :func:`asymmetric_kernel`."""
        return asymmetric_kernel(logits, labels, *self.settings)
