"""Where a classifier's feature maps are, found in its graph of operations (``torch.fx``) rather than in a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from mlcls.errors import ConfigError
from mlcls.models.backbones.library import blocks_of

#: A map is at another scale than the one before it if its sides are shorter than this part of them.
SCALE_STEP = 0.7


@dataclass(frozen=True)
class FeatureMap:
    """One feature map of a graph.

    Args:
        node: The operation that gives it.
        layout: ``'NCHW'``, ``'NHWC'`` or, for tokens, ``'NLC'``.
        channels: Number of channels.
        side: Height for the images of the probe.
    """

    node: fx.Node
    layout: str
    channels: int
    side: int


class _BlockTracer(fx.Tracer):
    """Records a network as a graph of calls of its blocks, which stay the modules that they are."""

    def __init__(self, blocks: set[str]) -> None:
        super().__init__()
        self.blocks = blocks

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.blocks or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of each tensor."""

    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        super().__init__(network, graph=graph)
        self.found: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and n.op not in ('placeholder', 'output', 'get_attr'):
            self.found[n] = value.shape
        return value


def trace(network: nn.Module) -> fx.Graph:
    """The graph of a network in evaluation mode, in calls of blocks; checks of sizes are left out.

    Args:
        network: A network whose forward takes images.
    """
    graph = _BlockTracer({path for path, _ in blocks_of(network)}).trace(network.eval())
    for node in [node for node in graph.nodes if node.target is torch._assert]:
        graph.erase_node(node)
    return graph


def shapes(network: nn.Module, graph: fx.Graph, channels: int, side: int) -> dict[fx.Node, torch.Size]:
    """Shape of each tensor of a graph for one square image.

    Args:
        network: On the meta device, so that nothing is computed.
        graph: Its graph.
        channels: Of the image.
        side: Of the image, in pixels.
    """
    interpreter = _Shapes(network, graph)
    interpreter.run(torch.empty(1, channels, side, side, device='meta'))
    return interpreter.found


def growing_maps(
    small: dict[fx.Node, torch.Size], large: dict[fx.Node, torch.Size], num_classes: int
) -> list[FeatureMap]:
    """Maps whose two sides grow with the image, before the classifier.

    Args:
        small: Shapes for an image.
        large: Shapes for a larger image.
        num_classes: Channels of the classifier's output, which differ from those of all maps.
    """
    maps = []
    for node, shape in small.items():
        grown = [axis for axis, (a, b) in enumerate(zip(shape, large[node])) if a != b]
        if len(shape) == 4 and grown in ([2, 3], [1, 2]):
            layout, channels = ('NCHW', shape[1]) if grown == [2, 3] else ('NHWC', shape[3])
            if channels == num_classes:
                break
            maps.append(FeatureMap(node, layout, channels, shape[grown[0]]))
    return maps


def fixed_size_maps(found: dict[fx.Node, torch.Size]) -> list[FeatureMap]:
    """Maps of a network for images of one size: its last tokens (N, L, C) or, without tokens, its maps (N, C, h, w).

    Args:
        found: Shapes for an image.
    """
    tokens = [FeatureMap(node, 'NLC', shape[2], 0) for node, shape in found.items() if len(shape) == 3]
    if tokens:
        return tokens[-1:]
    maps = ((node, shape) for node, shape in found.items() if len(shape) == 4 and min(shape[2:]) > 1)
    return [FeatureMap(node, 'NCHW', shape[1], shape[2]) for node, shape in maps]


def last_of_each_scale(maps: list[FeatureMap]) -> list[FeatureMap]:
    """The last map of each scale through which everything after it is computed, from fine to coarse.

    Args:
        maps: In order of computation; the last of them is the end of the features.
    """
    end = maps[-1].node
    order = {node: position for position, node in enumerate(end.graph.nodes)}
    by_node = {each.node: each for each in maps}
    needed = _ancestors(end)
    scales: list[FeatureMap] = []
    reach = -1  # the last use of anything computed so far
    for node in sorted(needed, key=order.__getitem__):
        uses = [order[user] for user in node.users if user in needed]
        if node in by_node and reach <= order[node]:
            each = by_node[node]
            if scales and each.side > SCALE_STEP * scales[-1].side:
                scales.pop()
            scales.append(each)
        if node.op not in ('placeholder', 'get_attr'):
            reach = max([reach, *uses])
    return scales


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, waiting = {node}, [node]
    while waiting:
        new = [each for each in waiting.pop().all_input_nodes if each not in found]
        found.update(new)
        waiting += new
    return found


def cut(network: nn.Module, graph: fx.Graph, nodes: list[fx.Node]) -> tuple[Callable[..., Any], set[str]]:
    """A forward function that ends at some nodes.

    Args:
        network: The network of the graph.
        graph: Changed in place.
        nodes: What to return.

    Returns:
        A function of a module, which has the network's parts under the same names, and images, that returns a tuple
        of tensors; and the paths of the parts that it uses.
    """
    for node in reversed(graph.nodes):
        if node.op == 'output':
            graph.erase_node(node)
            break
    graph.output(tuple(nodes))
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ('placeholder', 'output'):
            graph.erase_node(node)
    used = {str(node.target) for node in graph.nodes if node.op in ('call_module', 'get_attr')}
    return type(fx.GraphModule(network, graph)).forward, used


def prune(module: nn.Module, used: set[str], prefix: str = '') -> None:
    """Take out of a network whatever is not used.

    Args:
        module: Changed in place.
        used: Paths of the modules and parameters to keep.
        prefix: Path of ``module``, with a dot at its end.
    """
    for name in [name for name, _ in module.named_parameters(recurse=False) if prefix + name not in used]:
        delattr(module, name)
    for name, child in list(module.named_children()):
        path = prefix + name
        if path in used:
            continue
        if any(each.startswith(f'{path}.') for each in used):
            prune(child, used, f'{path}.')
        else:
            delattr(module, name)


def replace_first_convolution(network: nn.Module, in_channels: int) -> None:
    """Give a network for colour images another number of input channels; the new convolution has random weights.

    Args:
        network: Changed in place.
        in_channels: New number of channels.

    Raises:
        ConfigError: No convolution takes three channels.
    """
    for path, old in network.named_modules():
        if isinstance(old, nn.Conv2d) and old.in_channels == 3:
            new = nn.Conv2d(
                in_channels,
                old.out_channels,
                old.kernel_size,  # type: ignore[arg-type]
                old.stride,  # type: ignore[arg-type]
                old.padding,  # type: ignore[arg-type]
                bias=old.bias is not None,
            )
            with torch.no_grad():  # the variance of its output stays as it was
                new.weight.normal_().mul_(old.weight.std() * (3 / in_channels) ** 0.5)
            network.set_submodule(path, new)
            return
    raise ConfigError('TorchvisionBackbone: in_channels: the network has no convolution of three channels')
