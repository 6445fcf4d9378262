"""Pictures for the augmentations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

Pictures = Callable[..., torch.Tensor]


@pytest.fixture
def pictures() -> Pictures:
    """Makes random pictures with smooth and rough parts, whole levels as float32 (N, 3, H, W)."""

    def _pictures(n: int = 4, height: int = 19, width: int = 26, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(n, 3, 4, 5, generator=generator) * 255
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode='bilinear')
        noise = torch.randn(n, 3, height, width, generator=generator) * 15
        return (smooth + noise).round().clamp(0, 255)

    return _pictures
