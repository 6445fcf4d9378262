"""Networks of torchvision as backbones."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlcls.errors import ConfigError, did_you_mean
from mlcls.models.backbones import feature_graph
from mlcls.models.backbones.library import LibraryBackbone, check_out_indices, without_data
from mlcls.models.base import InitCfg
from mlcls.registry import MODELS

# No map of any network has as many channels; a small classifier, which is thrown away, is also made quickly.
_NUM_CLASSES = 7
_PROBE_SIDES = (224, 320)


@MODELS.register_module()
class TorchvisionBackbone(LibraryBackbone):
    """A classification network of torchvision up to its last feature map, under torchvision's parameter names.

    The maps are found in the network's graph: the last map of each scale, before pooling and classifier. Tokens become
    a map without the class token, and maps with channels last become (N, C, h, w).

    Args:
        name: Name in torchvision, for example ``'resnet50'``, ``'mobilenet_v3_large'``, ``'vit_b_16'``.
        weights: None (random); the name of torchvision's weights (``'IMAGENET1K_V1'``, ``'DEFAULT'``); a local file;
            or ``torchvision://NAME``.
        out_indices: Which maps to return. 0 is the finest scale, -1 the last map. ViT has one map.
        frozen: The network is a fixed extractor in evaluation mode, without gradients.
        norm_eval: Batch normalisation keeps its running statistics in training.
        in_channels: Channels of the images. Weights for three are adapted.
        image_size: Side of the images in pixels, for networks that are built for one size (ViT, MaxViT; 224 if None).
        init_cfg: Initialisers, in place of ``weights``.
        **network_args: Further arguments of torchvision's network, for example ``stochastic_depth_prob=0.2``.

    Raises:
        ConfigError: torchvision has no such network, weights or argument.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        out_indices: int | Sequence[int] = (-1,),
        frozen: bool = False,
        norm_eval: bool = False,
        in_channels: int = 3,
        image_size: int | None = None,
        init_cfg: InitCfg = None,
        **network_args: Any,
    ) -> None:
        accepted = _accepted_arguments(name)
        if weights is not None and init_cfg is None:
            init_cfg = dict(type='Pretrained', checkpoint=_checkpoint(name, weights))
        super().__init__(frozen, norm_eval, init_cfg)
        args = _network_args(name, accepted, image_size, network_args)
        if 'transform_input' in accepted and in_channels == 3:  # torchvision's weights for them were trained so
            args.setdefault('transform_input', init_cfg is not None)
        self.name = name
        fixed = {'image_size', 'input_size'} & accepted.keys()
        self.image_size = (image_size or _PROBE_SIDES[0]) if fixed else None
        network = _build(name, in_channels, args)
        maps, used = self._find_maps(without_data(network), in_channels, out_indices)
        feature_graph.prune(network, used)
        for key, child in network.named_children():
            self.add_module(key, child)
        for key, parameter in network.named_parameters(recurse=False):
            self.register_parameter(key, parameter)
        self.layouts = tuple(each.layout for each in maps)
        self.out_channels = tuple(each.channels for each in maps)
        self._finish()

    def _find_maps(
        self, network: nn.Module, in_channels: int, out_indices: int | Sequence[int]
    ) -> tuple[list[feature_graph.FeatureMap], set[str]]:
        """The maps to return, and the paths of the parts that compute them; sets the forward function."""
        graph = feature_graph.trace(network)
        sides = (self.image_size,) if self.image_size else _PROBE_SIDES
        first, *more = [feature_graph.shapes(network, graph, in_channels, side) for side in sides]
        maps = (
            feature_graph.growing_maps(first, more[0], _NUM_CLASSES) if more else feature_graph.fixed_size_maps(first)
        )
        maps = feature_graph.last_of_each_scale(maps)
        chosen = [maps[i] for i in check_out_indices(type(self).__name__, out_indices, len(maps))]
        self._run, used = feature_graph.cut(network, graph, [each.node for each in chosen])
        return chosen, used

    def _maps(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        size = self.image_size
        if size and x.shape[-2:] != (size, size):
            raise ConfigError(
                f"TorchvisionBackbone: '{self.name}' is built for images of {size} x {size} pixels, got "
                f'{x.shape[-2]} x {x.shape[-1]}; resize the images, or set image_size (one side, square images)'
            )
        return tuple(_to_nchw(each, layout) for each, layout in zip(self._run(self, x), self.layouts))


def _to_nchw(x: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == 'NHWC':
        return x.permute(0, 3, 1, 2)
    if layout == 'NLC':  # a square image; the tokens of no patch, such as the class token, come first
        side = int(x.shape[1] ** 0.5)
        return x[:, x.shape[1] - side * side :].transpose(1, 2).unflatten(2, (side, side))
    return x


def _accepted_arguments(name: str) -> Mapping[str, inspect.Parameter]:
    """Arguments of the class of a network.

    Raises:
        ConfigError: torchvision has no such classification network.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise ConfigError(f"TorchvisionBackbone: torchvision has no network '{name}'{did_you_mean(name, names)}")
    return inspect.signature(typing.get_type_hints(models.get_model_builder(name))['return']).parameters


def _network_args(
    name: str, accepted: Mapping[str, Any], image_size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Arguments for torchvision's function that builds a network.

    Raises:
        ConfigError: The network does not take one of them.
    """
    unknown = [key for key in given if key not in accepted]
    if unknown:
        near = did_you_mean(unknown[0], accepted.keys() - {'num_classes'})
        raise ConfigError(f"TorchvisionBackbone: '{name}' has no argument '{unknown[0]}'{near}")
    args = {'init_weights': True, 'aux_logits': False} | given
    args = {key: value for key, value in args.items() if key in accepted}
    if image_size is not None and 'image_size' in accepted:
        args['image_size'] = image_size
    elif image_size is not None and 'input_size' in accepted:
        args['input_size'] = (image_size, image_size)
    elif image_size is not None:
        raise ConfigError(f"TorchvisionBackbone: '{name}' takes images of any size; leave out image_size={image_size}")
    return args


def _checkpoint(name: str, weights: str) -> str:
    """A file, or the address of the weights that torchvision has under a name.

    Raises:
        ConfigError: torchvision has no such weights.
    """
    from torchvision import models

    choices = models.get_model_weights(name)
    variant = weights.removeprefix(f'{choices.__name__}.')
    if variant in (*choices.__members__, 'DEFAULT'):
        return f'torchvision://{name}.{variant}'
    if re.search(r'[/\\]|\.\w{2,11}$', variant) or Path(weights).exists():
        return weights
    near = did_you_mean(variant, (*choices.__members__, 'DEFAULT'))
    raise ConfigError(f"TorchvisionBackbone: '{name}' has no weights '{weights}', and no such file is here{near}")


def _build(name: str, in_channels: int, args: dict[str, Any]) -> nn.Module:
    from torchvision import models

    try:
        network = models.get_model(name, weights=None, num_classes=_NUM_CLASSES, **args)
    except (AssertionError, TypeError, ValueError) as error:
        given = ', '.join(f'{key}={value!r}' for key, value in args.items())
        raise ConfigError(f"TorchvisionBackbone: torchvision cannot make '{name}' with {given}: {error}") from error
    if in_channels != 3:
        feature_graph.replace_first_convolution(network, in_channels)
    return network
