"""Global average pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError
from mlcls.models.base import BaseModule
from mlcls.registry import MODELS


@MODELS.register_module()
class GlobalAveragePooling(BaseModule):
    """Mean of a feature map over its positions, in float32.

    Args:
        dim: Number of spatial dimensions, 1 to 3.

    Raises:
        ConfigError: ``dim`` outside 1 to 3.
    """

    def __init__(self, dim: int = 2) -> None:
        super().__init__()
        if dim not in (1, 2, 3):
            raise ConfigError(f'GlobalAveragePooling: dim must be 1, 2 or 3, got {dim}')
        self.dim = dim

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Each (N, C, ...) map becomes an (N, C) vector."""
        return tuple(feature.flatten(-self.dim).mean(-1, dtype=torch.float32) for feature in features)
