"""Elementary functions that stay finite, and fast, where the plain ones do not."""

from __future__ import annotations

import torch

#: Smallest probability whose logarithm is taken; float32 still holds it.
SMALLEST = 1e-37


def log_sigmoid_of(logits: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """``log sigmoid(x)`` where ``p = sigmoid(x)`` is at hand: one logarithm instead of an exponential and a log1p.

    Exact to the rounding of p, and never above the logit; below the smallest p the logit itself, which is the limit.

    Args:
        logits: x, any shape.
        p: sigmoid(x), same shape.
    """
    log_p = p.clamp(min=SMALLEST).log_()
    return torch.minimum(log_p, logits, out=log_p)


def power(base: torch.Tensor, exponent: float) -> torch.Tensor:
    """``base ** exponent`` of a probability; small whole exponents by multiplication, which is several times faster.

    Args:
        base: In [0, 1].
        exponent: At least 0.

    Returns:
        A tensor of its own, that may be changed in place.
    """
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base.clone()
    if exponent in (2, 3, 4):
        square = base * base
        return square if exponent == 2 else square * (base if exponent == 3 else square)
    return base**exponent


def weighted_terms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``log(w e^x)``, the terms of a weighted log-sum-exp; minus infinity, without a gradient, where w is 0.

    Args:
        x: Any shape.
        weight: w, same shape, at least 0.
    """
    return torch.where(weight > 0, x + weight.clamp(min=torch.finfo(x.dtype).tiny).log(), -torch.inf)
