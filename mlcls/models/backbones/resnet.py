"""ResNet (He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385).

Parameter names are those of torchvision and mmpretrain, so that their weight files load by name. The stride of a
bottleneck sits in its 3x3 convolution (``style='pytorch'``, also called v1.5) or its first 1x1 (``style='caffe'``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlcls.errors import ConfigError
from mlcls.models.base import BaseModule, InitCfg
from mlcls.registry import MODELS

Style = Literal['pytorch', 'caffe']


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; depths 18 and 34."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: Style = 'pytorch',
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation before the sum."""
        return self.bn2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; depths 50, 101 and 152."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: Style = 'pytorch',
    ) -> None:
        super().__init__()
        first, second = (1, stride) if style == 'pytorch' else (stride, 1)
        self.conv1 = nn.Conv2d(in_channels, channels, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, second, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation before the sum."""
        return self.bn3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, 4 * channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


#: Block and number of blocks a stage, by depth (Table 1 of the paper).
ARCHITECTURES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class AcceptedArguments(BaseModule):
    """Arguments of mmpretrain's ResNet that are accepted with the values that change nothing.

    Args:
        norm_cfg: Only batch normalisation, trained: ``dict(type='BN', requires_grad=True)``.
        conv_cfg: Only None.
        deep_stem: Only False.
        avg_down: Only False.
        expansion: Only None.
        drop_path_rate: Only 0.
        init_cfg: Initialisers.

    Raises:
        ConfigError: Another value.
    """

    def __init__(
        self,
        *,
        norm_cfg: dict[str, Any] | None = None,
        conv_cfg: dict[str, Any] | None = None,
        deep_stem: bool = False,
        avg_down: bool = False,
        expansion: int | None = None,
        drop_path_rate: float = 0.0,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        fine = dict(conv_cfg=not conv_cfg, deep_stem=not deep_stem, avg_down=not avg_down, expansion=expansion is None)
        fine |= dict(
            drop_path_rate=not drop_path_rate,
            norm_cfg=norm_cfg in (None, dict(type='BN'), dict(type='BN', requires_grad=True)),
        )
        for name, is_fine in fine.items():
            if not is_fine:
                raise ConfigError(f'{type(self).__name__}: only the default of {name} is available; leave it out')


@MODELS.register_module()
class ResNet(AcceptedArguments):
    """ResNet without its classifier; arguments and defaults of mmpretrain, see also :class:`AcceptedArguments`.

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: Channels of the images.
        stem_channels: Channels after the first convolution.
        base_channels: Channels of the first stage (inside a block); doubled each stage.
        num_stages: Number of stages, 1 to 4.
        strides: Stride of each stage.
        dilations: Dilation of each stage.
        out_indices: Stages whose output is returned, counted from 0.
        style: Where a bottleneck has its stride, ``'pytorch'`` or ``'caffe'``.
        frozen_stages: Stem (0) and stages up to this one are not trained; -1 trains everything.
        norm_eval: Keep normalisation statistics fixed in training.
        with_cp: Recompute blocks in the backward pass to save memory.
        zero_init_residual: Start each block as the identity.
        **others: ``init_cfg``, for example pretrained weights, and those of :class:`AcceptedArguments`.

    Raises:
        ConfigError: A value outside these ranges.
    """

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_channels: int = 64,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (3,),
        style: Style = 'pytorch',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self._check(depth, num_stages, strides, dilations, out_indices, style, frozen_stages)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        block, counts = ARCHITECTURES[depth]
        channels = stem_channels
        self.stages: list[str] = []
        for stage in range(num_stages):
            width = base_channels * 2**stage
            layer = _make_stage(block, counts[stage], channels, width, strides[stage], dilations[stage], style)
            channels = width * block.expansion
            self.stages.append(f'layer{stage + 1}')
            self.add_module(self.stages[-1], layer)
        self._fill(zero_init_residual)
        self._freeze()

    @staticmethod
    def _check(
        depth: int,
        num_stages: int,
        strides: Sequence[int],
        dilations: Sequence[int],
        out_indices: Sequence[int],
        style: str,
        frozen_stages: int,
    ) -> None:
        if depth not in ARCHITECTURES:
            raise ConfigError(f'ResNet: no depth {depth}; choose from {", ".join(map(str, ARCHITECTURES))}')
        if not 1 <= num_stages <= 4:
            raise ConfigError(f'ResNet: num_stages must be 1 to 4, got {num_stages}')
        if len(strides) < num_stages or len(dilations) < num_stages:
            raise ConfigError(
                f'ResNet: strides and dilations need one number for each of the {num_stages} stages, '
                f'got {tuple(strides)} and {tuple(dilations)}'
            )
        if not out_indices or not all(0 <= index < num_stages for index in out_indices):
            raise ConfigError(f'ResNet: out_indices must lie in 0 to {num_stages - 1}, got {tuple(out_indices)}')
        if style not in ('pytorch', 'caffe'):
            raise ConfigError(f"ResNet: style must be 'pytorch' or 'caffe', got '{style}'")
        if not -1 <= frozen_stages <= num_stages:
            raise ConfigError(f'ResNet: frozen_stages must be -1 to {num_stages}, got {frozen_stages}')

    def _fill(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, (BasicBlock, Bottleneck)):
                    nn.init.zeros_(module.last_norm.weight)

    def _frozen_parts(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.conv1, self.bn1, *(getattr(self, name) for name in self.stages[: self.frozen_stages])]

    def _freeze(self) -> None:
        for part in self._frozen_parts():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> ResNet:
        """As in torch, but frozen stages (and with ``norm_eval`` all normalisation) stay in evaluation mode."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature maps of the chosen stages.

        Args:
            x: Normalised images, (N, in_channels, H, W).

        Returns:
            One (N, channels, H / s, W / s) map for each of ``out_indices``; s is 4, 8, 16 and 32 by default.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outputs = []
        for index, name in enumerate(self.stages):
            for block in getattr(self, name):
                recompute = self.with_cp and self.training and x.requires_grad
                x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)


def _make_stage(
    block: type[BasicBlock] | type[Bottleneck],
    count: int,
    in_channels: int,
    channels: int,
    stride: int,
    dilation: int,
    style: Style,
) -> nn.Sequential:
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )
    blocks = [block(in_channels, channels, stride, dilation, downsample, style)]
    blocks += [block(out_channels, channels, 1, dilation, None, style) for _ in range(count - 1)]
    return nn.Sequential(*blocks)
