"""Pooling by generalised mean and by maximum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.base import BaseModule
from mlcls.registry import MODELS


@MODELS.register_module()
class GeneralizedMeanPooling(BaseModule):
    """Generalised mean ``mean(x^p)^(1/p)`` over positions, "GeM" (Radenovic et al., arXiv 1711.02512, section 3.2).

    ``p=1`` is the average, and a large ``p`` comes near the maximum. Computed in float32, relative to the largest value
    of a map, so that no power overflows.

    Args:
        p: Exponent, or its start where it is trained; at least 1.
        eps: Values below are raised to it.
        clamp: Do so; without, maps must be positive.
        p_trainable: Train ``p``, one for all channels.

    Raises:
        ConfigError: ``p`` below 1, or ``eps`` not above 0.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, clamp: bool = True, p_trainable: bool = True) -> None:
        super().__init__()
        if p < 1:
            raise ConfigError(f'GeneralizedMeanPooling: p must be at least 1, got {p:g}')
        if eps <= 0:
            raise ConfigError(f'GeneralizedMeanPooling: eps must be above 0, got {eps:g}')
        self.p: nn.Parameter | float = nn.Parameter(torch.full((1,), float(p))) if p_trainable else float(p)
        self.eps = eps
        self.clamp = clamp

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Each (N, C, ...) map becomes an (N, C) vector, float32."""
        return tuple(self._pool(feature.flatten(2).float()) for feature in features)

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        if self.clamp:
            x = x.clamp(min=self.eps)
        largest = x.detach().amax(-1, keepdim=True).clamp(min=self.eps)
        return (x / largest).pow(self.p).mean(-1).pow(1 / self.p) * largest.squeeze(-1)


@MODELS.register_module()
class GlobalMaxPooling(BaseModule):
    """Maximum of a feature map over its positions, given as float32."""

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Each (N, C, ...) map becomes an (N, C) vector."""
        return tuple(feature.flatten(2).amax(-1).float() for feature in features)
