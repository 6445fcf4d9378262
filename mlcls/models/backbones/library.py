"""What backbones from other libraries share: freezing, normalisation in training, and depths of their parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mlcls.errors import ConfigError, did_you_mean
from mlcls.models.base import BaseModule, InitCfg

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class LibraryBackbone(BaseModule):
    """A backbone whose network comes from a library; a subclass builds it and then calls :meth:`_finish`.

    Args:
        frozen: The network is a fixed extractor: its parameters need no gradient, it stays in evaluation mode and runs
            without recording gradients.
        norm_eval: Batch normalisation keeps its running statistics in training.
        init_cfg: Initialisers.
    """

    #: Channels of each returned map.
    out_channels: tuple[int, ...] = ()

    def __init__(self, frozen: bool = False, norm_eval: bool = False, init_cfg: InitCfg = None) -> None:
        super().__init__(init_cfg)
        self.frozen = frozen
        self.norm_eval = norm_eval

    def _finish(self, network: nn.Module | None = None, prefix: str = '') -> None:
        """Note the depths of the parameters, and freeze them where this was asked for.

        Args:
            network: The network, if it is a part of the backbone.
            prefix: Its path, with a dot at its end.
        """
        depths = parameter_depths(self if network is None else network)
        self._depths = {prefix + name: depth for name, depth in depths.items()}
        if self.frozen:
            self.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Any:
        """Switch between training and evaluation, except what ``frozen`` and ``norm_eval`` keep in evaluation."""
        super().train(mode and not self.frozen)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _NormBase):
                    module.eval()
        return self

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images (N, in_channels, H, W) to feature maps (N, C, h, w), one for each of ``out_indices``."""
        if self.frozen:
            with torch.no_grad():
                return self._maps(x)
        return self._maps(x)

    def _maps(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise NotImplementedError

    def layer_depth(self, name: str) -> tuple[int, int]:
        """How deep a parameter lies; see :func:`parameter_depths`.

        Args:
            name: Name of the parameter, relative to the backbone.

        Returns:
            Its depth, 0 for stem and embeddings, and the number of depths in all. The last of them is the head's,
            so that the deepest block has ``total - 2``.

        Raises:
            ConfigError: The backbone has no such parameter.
        """
        if name not in self._depths:
            near = did_you_mean(name, self._depths)
            raise ConfigError(f"{type(self).__name__}: the backbone has no parameter '{name}'{near}")
        return self._depths[name], max(self._depths.values()) + 2


def without_data(network: nn.Module) -> nn.Module:
    """A copy on the meta device, where nothing is computed; no memory is taken for it."""
    memo: dict[int, Any] = {id(each): nn.Parameter(each.detach().to('meta')) for each in network.parameters()}
    memo |= {id(each): each.to('meta') for each in network.buffers()}
    return copy.deepcopy(network, memo)


def check_out_indices(owner: str, out_indices: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Positions of the maps to return, counted from the first.

    Args:
        owner: Who asks, for the message.
        out_indices: One position or several, negative ones from the last.
        count: How many maps there are.

    Raises:
        ConfigError: None is asked for, or one that does not exist, or one twice.
    """
    out_indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    fine = out_indices and all(-count <= index < count for index in out_indices)
    positive = tuple(index % count for index in out_indices) if fine else ()
    if not positive or len(set(positive)) < len(positive):
        raise ConfigError(
            f'{owner}: out_indices={out_indices} must be different positions out of {count} maps '
            f'({-count} to {count - 1})'
        )
    return positive


def _weights(module: nn.Module) -> int:
    """How many matrices or convolutions a module has."""
    return sum(parameter.ndim > 1 for parameter in module.parameters())


def _is_block(module: nn.Module) -> bool:
    return _weights(module) > 1 and any(True for _ in module.children())


def _is_divided(module: nn.Module) -> bool:
    """Whether a module only holds blocks together: a list of layers, or a part around a list of equal blocks."""
    if isinstance(module, _LISTS):
        return _weights(module) > 1
    lists = [child for child in module.children() if isinstance(child, _LISTS)]
    inner = [list(child.children()) for child in lists]
    return any(len(each) > 1 and all(map(_is_block, each)) and len(set(map(type, each))) == 1 for each in inner)


def blocks_of(network: nn.Module, prefix: str = '') -> Iterator[tuple[str, nn.Module]]:
    """The blocks and single layers that a network is a sequence of, in order of definition.

    Args:
        network: The network, or a part of it.
        prefix: Path of the part, with a dot at its end.

    Yields:
        Path and module, for example ``layer1.0``, ``features.3`` or ``encoder.layers.encoder_layer_0``.
    """
    for name, child in network.named_children():
        if _is_divided(child):
            yield from blocks_of(child, f'{prefix}{name}.')
        else:
            yield prefix + name, child


def parameter_depths(network: nn.Module) -> dict[str, int]:
    """Depth of each parameter: blocks are counted in order of definition.

    Layers before the first block, and embeddings that lie outside of blocks, have depth 0. Blocks and single layers
    with a weight follow; a single normalisation belongs to the layer before it.

    Args:
        network: A network without its classifier.

    Returns:
        Parameter names and depths.
    """
    parts = [(path, part) for path, part in blocks_of(network) if any(True for _ in part.parameters())]
    level = parts[0][0].count('.') if parts else 0  # blocks of one convolution stand deeper than the stem
    blocks = [_is_block(part) or path.count('.') > level for path, part in parts]
    first = blocks.index(True) if any(blocks) else 1
    depths = {name: 0 for name, _ in network.named_parameters()}
    depth = 0
    for position, (path, part) in enumerate(parts):
        depth += position >= first and _weights(part) > 0
        depths |= {f'{path}.{name}': depth for name, _ in part.named_parameters()}
    return depths
