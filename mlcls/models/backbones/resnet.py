"""ResNet (He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385), and its variants C and D.

Parameter names are those of torchvision and mmpretrain, so that their weight files load by name; those of the variants
are listed in ``resnet_blocks.py``. The stride of a bottleneck sits in its 3x3 convolution (``style='pytorch'``, also
called v1.5) or its first 1x1 (``style='caffe'``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlcls.errors import ConfigError
from mlcls.models.backbones.resnet_blocks import BasicBlock, BlockSettings, Bottleneck, ResidualBlock, Style, deep_stem
from mlcls.models.base import BaseModule, InitCfg
from mlcls.models.layers.attention import Attention
from mlcls.models.layers.drop_path import check_rate, linear_rates
from mlcls.models.layers.plugins import read_plugins
from mlcls.registry import MODELS

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
        conv_cfg: Only None.
        expansion: Only None.
        init_cfg: Initialisers.

    Raises:
        ConfigError: Another value.
    """

    def __init__(
        self, *, conv_cfg: dict[str, Any] | None = None, expansion: int | None = None, init_cfg: InitCfg = None
    ) -> None:
        super().__init__(init_cfg)
        for name, is_fine in dict(conv_cfg=not conv_cfg, expansion=expansion is None).items():
            if not is_fine:
                raise ConfigError(f'{type(self).__name__}: only the default of {name} is available; leave it out')


@MODELS.register_module()
class ResNet(AcceptedArguments):
    """ResNet without its classifier; arguments and defaults of mmpretrain, see also :class:`AcceptedArguments`.

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: Channels of the images.
        stem_channels: Channels after the stem.
        base_channels: Channels of the first stage (inside a block); doubled each stage.
        num_stages: Number of stages, 1 to 4.
        strides: Stride of each stage.
        dilations: Dilation of each stage.
        out_indices: Stages whose output is returned, counted from 0.
        style: Where a bottleneck has its stride, ``'pytorch'`` or ``'caffe'``.
        deep_stem: Three 3x3 convolutions for the 7x7 (ResNet-C, arXiv 1812.01187, section 4.2).
        avg_down: Shortcuts with a stride average first (ResNet-D, the same section).
        frozen_stages: Stem (0) and stages up to this one are not trained; -1 trains everything.
        norm_cfg: ``dict(type='BN' | 'SyncBN' | 'GN', requires_grad=True, ...)``; None means BN.
        norm_eval: Keep normalisation statistics fixed in training.
        with_cp: Recompute blocks in the backward pass to save memory; running statistics are counted once.
        zero_init_residual: Start each block as the identity.
        drop_path_rate: Probability of leaving out the residual branch of the last block, in [0, 1); it grows in a line
            from the first (arXiv 1603.09382).
        plugins: Attention in stages: ``dict(type='SE' | 'CBAM' | 'ECA' | 'NonLocal', stages=(2, 3), position=...)``;
            stages are counted from 0, all by default; ``position`` is ``'before_sum'`` (the default but for NonLocal),
            ``'after_block'`` or ``'after_stage'`` (the last block's output, default of NonLocal).
        groups: Groups of the 3x3 convolutions of bottlenecks.
        width_per_group: Channels of a group in the first stage; None for ``base_channels`` in all.
        **others: ``init_cfg``, for example pretrained weights, and those of :class:`AcceptedArguments`.

    Attributes:
        out_channels: Channels of each map that is returned.

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
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        drop_path_rate: float = 0.0,
        plugins: Sequence[Mapping[str, Any]] | None = None,
        groups: int = 1,
        width_per_group: int | None = None,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.stages = [f'layer{stage + 1}' for stage in range(num_stages)]
        self._check(depth, strides, dilations, style)
        self.stages = self.stages[: max(self.out_indices) + 1]  # others would have no gradient
        check_rate(drop_path_rate, f'{type(self).__name__}: drop_path_rate')
        settings = BlockSettings(style, base_channels, groups, width_per_group, avg_down, norm_cfg)
        self._make_stem(in_channels, stem_channels, deep_stem, settings)
        self._make_stages(depth, stem_channels, strides, dilations, drop_path_rate, settings)
        self._attach(plugins)
        self._fill(zero_init_residual)
        self._freeze()

    def _check(self, depth: int, strides: Sequence[int], dilations: Sequence[int], style: str) -> None:
        name, num_stages = type(self).__name__, len(self.stages)
        if depth not in ARCHITECTURES:
            raise ConfigError(f'{name}: no depth {depth}; choose from {", ".join(map(str, ARCHITECTURES))}')
        if not 1 <= num_stages <= 4:
            raise ConfigError(f'{name}: num_stages must be 1 to 4, got {num_stages}')
        if len(strides) < num_stages or len(dilations) < num_stages:
            raise ConfigError(
                f'{name}: strides and dilations need one number for each of the {num_stages} stages, '
                f'got {tuple(strides)} and {tuple(dilations)}'
            )
        if not self.out_indices or not all(0 <= index < num_stages for index in self.out_indices):
            raise ConfigError(f'{name}: out_indices must lie in 0 to {num_stages - 1}, got {self.out_indices}')
        if style not in ('pytorch', 'caffe'):
            raise ConfigError(f"{name}: style must be 'pytorch' or 'caffe', got '{style}'")
        if not -1 <= self.frozen_stages <= num_stages:
            raise ConfigError(f'{name}: frozen_stages must be -1 to {num_stages}, got {self.frozen_stages}')

    def _make_stem(self, in_channels: int, channels: int, deep: bool, settings: BlockSettings) -> None:
        self.deep_stem = deep
        if deep:
            self.stem = deep_stem(in_channels, channels, settings)
        else:
            self.conv1 = nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False)
            self.bn1 = settings.norm(channels)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)

    def _make_stages(
        self,
        depth: int,
        channels: int,
        strides: Sequence[int],
        dilations: Sequence[int],
        drop_path_rate: float,
        settings: BlockSettings,
    ) -> None:
        block, counts = ARCHITECTURES[depth]
        rates = iter(linear_rates(drop_path_rate, sum(counts[: len(self.stages)])))
        out_channels = []
        for stage, name in enumerate(self.stages):
            width = settings.base_channels * 2**stage
            blocks: list[nn.Module] = []
            for index in range(counts[stage]):
                stride = strides[stage] if index == 0 else 1
                blocks.append(block(channels, width, stride, dilations[stage], settings, next(rates)))
                channels = width * block.expansion
            self.add_module(name, nn.Sequential(*blocks))
            if stage in self.out_indices:
                out_channels.append(channels)
        self.out_channels = tuple(out_channels)

    def _blocks(self) -> Iterator[tuple[int, bool, ResidualBlock]]:
        """The number of its stage, whether it is the last of that, and the block; in order."""
        for stage, name in enumerate(self.stages):
            blocks = list(getattr(self, name))
            for block in blocks:
                yield stage, block is blocks[-1], block

    def _attach(self, plugins: Sequence[Mapping[str, Any]] | None) -> None:
        found = read_plugins(plugins, len(self.stages), type(self).__name__)
        for stage, is_last, block in self._blocks():
            for plugin in found:
                if plugin.stands(stage, is_last):
                    block.attach(plugin)

    def _fill(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        for module in self.modules():
            if isinstance(module, Attention):
                module.fill()
            elif isinstance(module, ResidualBlock) and zero_init_residual:
                nn.init.zeros_(module.last_norm.weight)  # type: ignore[arg-type]

    def _frozen_parts(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stem = [self.stem] if self.deep_stem else [self.conv1, self.bn1]
        return [*stem, *(getattr(self, name) for name in self.stages[: self.frozen_stages])]

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

    def layer_depth(self, name: str) -> tuple[int, int]:
        """How deep a parameter lies, for learning rates that fall with depth.

        Args:
            name: Of the parameter, relative to the backbone.

        Returns:
            Its depth: 0 for the stem, then one a block; and the number of depths, whose last is the head's.

        Raises:
            ValueError: No part of this backbone has such a name.
        """
        counts = [len(getattr(self, stage)) for stage in self.stages]
        total = sum(counts) + 2
        if name.split('.')[0] in ('stem', 'conv1', 'bn1'):
            return 0, total
        found = re.match(r'layer([1-4])\.(\d+)\.', name)
        if found is None or int(found[1]) > len(counts):
            raise ValueError(f"{type(self).__name__} has no parameter '{name}'")
        return sum(counts[: int(found[1]) - 1]) + int(found[2]) + 1, total

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature maps of the chosen stages.

        Args:
            x: Normalised images, (N, in_channels, H, W).

        Returns:
            One (N, channels, H / s, W / s) map for each of ``out_indices``; s is 4, 8, 16 and 32 by default.
        """
        x = self.maxpool(self.stem(x) if self.deep_stem else self.relu(self.bn1(self.conv1(x))))
        outputs = []
        for index, name in enumerate(self.stages):
            for block in getattr(self, name):
                if self.with_cp and self.training and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False, context_fn=partial(_once, block))
                else:
                    x = block(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)


def _once(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a block's forward pass and of its repetition, which must not count for running statistics again."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in before:
        norm.momentum, norm.num_batches_tracked = 0.0, None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


@MODELS.register_module()
class ResNetV1c(ResNet):
    """ResNet with a deep stem. Arguments: those of :class:`ResNet`, less ``deep_stem`` and ``avg_down``."""

    def __init__(self, depth: int, **others: Any) -> None:
        super().__init__(depth, deep_stem=True, avg_down=False, **others)


@MODELS.register_module()
class ResNetV1d(ResNet):
    """ResNet with a deep stem and averaging shortcuts. Arguments: see :class:`ResNetV1c`."""

    def __init__(self, depth: int, **others: Any) -> None:
        super().__init__(depth, deep_stem=True, avg_down=True, **others)
