"""Blocks and stems of the ResNet family.

Parameter names are those of torchvision, timm and mmpretrain, where they agree. Where they do not:

* deep stem: ``stem.K.conv`` and ``stem.K.bn`` for K of 0, 1, 2, as in mmpretrain; timm has ``conv1.0``, ``conv1.1``,
  ``conv1.3``, ``conv1.4``, ``conv1.6`` and ``bn1``;
* shortcut of ResNet-D without a stride: ``downsample.0`` and ``.1``, as in mmpretrain; timm has ``.1`` and ``.2``;
* squeeze and excitation: ``se.fc1`` and ``se.fc2``, as in timm; mmpretrain has ``se_layer.conv1.conv`` and
  ``se_layer.conv2.conv``.

Normalisations are called ``bn1``, ``bn2``, ... whatever their type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.layers.drop_path import DropPath
from mlcls.models.layers.norm import build_norm
from mlcls.models.layers.plugins import Plugin

Style = Literal['pytorch', 'caffe']


@dataclass(frozen=True)
class BlockSettings:
    """What all blocks of a network share.

    Args:
        style: Where a bottleneck has its stride, in its 3x3 (``'pytorch'``) or its first 1x1 (``'caffe'``).
        base_channels: Channels of the first stage.
        groups: Groups of the 3x3 convolution of a bottleneck.
        width_per_group: Channels of a group in the first stage; None for the channels of the stage in all.
        avg_down: Shortcuts of blocks with a stride average before a 1x1 convolution without stride (ResNet-D).
        norm_cfg: See :func:`mlcls.models.layers.norm.build_norm`.
    """

    style: Style = 'pytorch'
    base_channels: int = 64
    groups: int = 1
    width_per_group: int | None = None
    avg_down: bool = False
    norm_cfg: Mapping[str, Any] | None = None

    def width(self, channels: int) -> int:
        """Channels inside a bottleneck of a stage with these ``channels``."""
        if self.width_per_group is None:
            return channels
        return self.groups * self.width_per_group * channels // self.base_channels

    def norm(self, channels: int) -> nn.Module:
        """A normalisation."""
        return build_norm(channels, self.norm_cfg)

    def shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
        """What the input goes through where its shape differs from the output's; None where it does not."""
        if stride == 1 and in_channels == out_channels:
            return None
        parts: list[nn.Module] = []
        if self.avg_down and stride != 1:
            parts.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
            stride = 1
        parts += [nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), self.norm(out_channels)]
        return nn.Sequential(*parts)


class ResidualBlock(nn.Module):
    """What both blocks share: the sum with the shortcut, stochastic depth, and attention.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the stage; the output has ``expansion`` times as many.
        stride: Of the block.
        settings: What all blocks share.
        drop_path: Probability of leaving the residual branch out in training.
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, settings: BlockSettings, drop_path: float) -> None:
        super().__init__()
        self.out_channels = channels * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample = settings.shortcut(in_channels, self.out_channels, stride)
        self.drop_path = DropPath(drop_path) if drop_path else None
        self.before_sum: list[str] = []
        self.after_block: list[str] = []

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation before the sum."""
        raise NotImplementedError

    def attach(self, plugin: Plugin) -> None:
        """Add attention, under the name of its class.

        Raises:
            ConfigError: The name is taken.
        """
        name = plugin.kind.name
        if hasattr(self, name):
            raise ConfigError(f"plugins: a block already has a part '{name}'")
        self.add_module(name, plugin.build(self.out_channels))
        (self.before_sum if plugin.position == 'before_sum' else self.after_block).append(name)

    def join(self, branch: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The output of the block, of its residual branch and its input."""
        for name in self.before_sum:
            branch = getattr(self, name)(branch)
        if self.drop_path is not None:
            branch = self.drop_path(branch)
        shortcut = x if self.downsample is None else self.downsample(x)
        # In place saves a map a block (5 % of a step on a CPU); a plugin may need its output for its gradient.
        out = self.relu(branch + shortcut if self.before_sum else branch.add_(shortcut))
        for name in self.after_block:
            out = getattr(self, name)(out)
        return out


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions with a shortcut; depths 18 and 34. Arguments: see :class:`ResidualBlock`.

    Raises:
        ConfigError: Groups or a width, which only bottlenecks have.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        settings: BlockSettings = BlockSettings(),
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(in_channels, channels, stride, settings, drop_path)
        if settings.groups != 1 or settings.width_per_group is not None:
            raise ConfigError('groups and width_per_group need bottlenecks, which depths 50, 101 and 152 have')
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = settings.norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = settings.norm(channels)

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation before the sum."""
        return self.bn2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        branch = self.relu(self.bn1(self.conv1(x)))
        return self.join(self.bn2(self.conv2(branch)), x)


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; depths 50, 101 and 152. Arguments: see :class:`ResidualBlock`."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        settings: BlockSettings = BlockSettings(),
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(in_channels, channels, stride, settings, drop_path)
        first, second = (1, stride) if settings.style == 'pytorch' else (stride, 1)
        width = settings.width(channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = settings.norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, dilation, dilation, groups=settings.groups, bias=False)
        self.bn2 = settings.norm(width)
        self.conv3 = nn.Conv2d(width, self.out_channels, 1, bias=False)
        self.bn3 = settings.norm(self.out_channels)

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation before the sum."""
        return self.bn3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, 4 * channels, H / stride, W / stride)."""
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        return self.join(self.bn3(self.conv3(branch)), x)


class StemLayer(nn.Module):
    """A 3x3 convolution, normalisation and ReLU of a deep stem."""

    def __init__(self, in_channels: int, channels: int, stride: int, settings: BlockSettings) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn = settings.norm(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        return cast(torch.Tensor, self.relu(self.bn(self.conv(x))))


def deep_stem(in_channels: int, channels: int, settings: BlockSettings) -> nn.Sequential:
    """Three 3x3 convolutions for the 7x7 of the stem (ResNet-C; He et al., arXiv 1812.01187, section 4.2).

    Args:
        in_channels: Channels of the images.
        channels: Channels after the stem; the first two convolutions have half of them.
        settings: What all blocks share.
    """
    half = channels // 2
    return nn.Sequential(
        StemLayer(in_channels, half, 2, settings),
        StemLayer(half, half, 1, settings),
        StemLayer(half, channels, 1, settings),
    )
