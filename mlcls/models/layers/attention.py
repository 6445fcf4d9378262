"""Attention on feature maps, for any stage of a ResNet: ``plugins=[dict(type='CBAM', stages=(2, 3))]``.

All of them take and give (N, C, H, W). Each is written from its paper; where the paper leaves a choice open, the class
says what is chosen.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from mlcls.errors import ConfigError
from mlcls.registry import MODELS

#: On the residual branch before the sum of each block; after each block; or after the last block of the stage.
Position = Literal['before_sum', 'after_block', 'after_stage']


class Attention(nn.Module):
    """Base of what ``plugins`` may hold: takes ``channels`` first, and maps (N, C, H, W) to the same shape."""

    #: Name of the module inside a block, and so in weight files.
    name: ClassVar[str] = 'attention'
    #: Where it stands unless the config says otherwise.
    position: ClassVar[Position] = 'before_sum'

    def fill(self) -> None:
        """Give the weights their start, after the network has filled its convolutions. By default, biases are 0."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)) and module.bias is not None:
                nn.init.zeros_(module.bias)


def squeezed(channels: int, ratio: int, divisor: int = 8) -> int:
    """Channels of a bottleneck: ``channels / ratio`` rounded to a multiple of ``divisor``, at least one of them.

    Raises:
        ConfigError: ``ratio`` below 1.
    """
    if ratio < 1:
        raise ConfigError(f'the squeeze ratio must be at least 1, got {ratio}')
    return max(divisor, (channels // ratio + divisor // 2) // divisor * divisor)


@MODELS.register_module()
class SE(Attention):
    """Squeeze and excitation (Hu et al., arXiv 1709.01507, section 3).

    Args:
        channels: Channels of the map.
        ratio: Reduction of the bottleneck; its width is a multiple of 8, as in mmpretrain and timm.
    """

    name = 'se'

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        width = squeezed(channels, ratio)
        self.fc1 = nn.Conv2d(channels, width, 1)
        self.fc2 = nn.Conv2d(width, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels scaled by ``sigmoid(fc2(relu(fc1(mean))))``."""
        gate = self.fc2(functional.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


@MODELS.register_module()
class CBAM(Attention):
    """Channel, then spatial attention (Woo et al., arXiv 1807.06521, section 3, equations 1 to 3).

    As in the equations, no convolution has a bias and none is followed by a normalisation.

    Args:
        channels: Channels of the map.
        ratio: Reduction of the bottleneck of the channel attention; its width is a multiple of 8.
        kernel_size: Of the spatial attention, odd.

    Raises:
        ConfigError: An even ``kernel_size``.
    """

    name = 'cbam'

    def __init__(self, channels: int, ratio: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        _check_odd('CBAM', kernel_size)
        width = squeezed(channels, ratio)
        self.fc1 = nn.Conv2d(channels, width, 1, bias=False)
        self.fc2 = nn.Conv2d(width, channels, 1, bias=False)
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels scaled by what their mean and maximum say, then positions by the same of the channels."""
        pooled = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        mean, peak = (self.fc2(functional.relu(self.fc1(each))) for each in pooled)
        x = x * (mean + peak).sigmoid()
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.spatial(summary).sigmoid()


@MODELS.register_module()
class ECA(Attention):
    """Efficient channel attention: a convolution along the channels (Wang et al., arXiv 1910.03151, section 3.2).

    Args:
        channels: Channels of the map.
        kernel_size: Channels that weigh in, odd; None takes ``(log2(channels) + b) / gamma``, rounded down, and up to
            the next odd number (as the authors' code does).
        gamma: Of that formula.
        b: Of that formula.

    Raises:
        ConfigError: An even ``kernel_size``.
    """

    name = 'eca'

    def __init__(self, channels: int, kernel_size: int | None = None, gamma: float = 2, b: float = 1) -> None:
        super().__init__()
        if kernel_size is None:
            size = int(abs((math.log2(channels) + b) / gamma))
            kernel_size = size if size % 2 else size + 1
        _check_odd('ECA', kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels scaled by a sigmoid of the means of their neighbours."""
        gate = self.conv(x.mean((2, 3))[:, None])  # (N, 1, C)
        return x * gate.sigmoid()[:, 0, :, None, None]


@MODELS.register_module()
class NonLocal(Attention):
    """Non-local block, embedded Gaussian (Wang et al., arXiv 1711.07971, sections 3.2 and 3.3).

    The last convolution starts at zero, so that the block starts as the identity; it stands after the last block of a
    stage unless the config says otherwise. Dot products are not scaled, as in the paper.

    Args:
        channels: Channels of the map.
        reduction: Channels are divided by this inside.
    """

    name = 'non_local'
    position = 'after_stage'

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        if reduction < 1:
            raise ConfigError(f'NonLocal: reduction must be at least 1, got {reduction}')
        width = max(channels // reduction, 1)
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, channels, 1)
        self.fill()

    def fill(self) -> None:
        """Zero the last convolution."""
        super().fill()
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x + out(softmax(theta(x)^T phi(x)) g(x))``, the softmax over positions."""
        height, width = x.shape[-2:]
        query, key, value = (
            part(x).flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.theta, self.phi, self.g)
        )  # (N, 1, H W, C')
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.out(mixed.squeeze(1).transpose(1, 2).unflatten(2, (height, width)))


def _check_odd(name: str, kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ConfigError(f'{name}: kernel_size must be odd and at least 1, got {kernel_size}')
