"""Networks of timm as backbones; timm is an optional dependency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mlcls.errors import CheckpointError, ConfigError, did_you_mean
from mlcls.models.backbones.library import LibraryBackbone, without_data
from mlcls.models.base import InitCfg
from mlcls.models.weights import file_digest, find_state_dict, load_weights, log_report, read_weights, remember
from mlcls.models.weights.sources import resolve_checkpoint
from mlcls.registry import MODELS, WEIGHT_INITIALIZERS

_PREFIX = 'timm_model.'


@MODELS.register_module()
class TimmBackbone(LibraryBackbone):
    """A network of timm without pooling and classifier, under timm's parameter names after ``timm_model.``.

    Tokens become a map without class, distillation and register tokens; maps with channels last become (N, C, h, w).

    Args:
        name: Name in timm, also with a tag of its weights: ``'resnet18'``, ``'vit_tiny_patch16_224.augreg_in21k'``.
        pretrained: Fill it with timm's own weights, which are fetched from the network and kept in its cache.
        weights: Local file of weights (``.safetensors``, ``.pth``) in place of ``pretrained``.
        out_indices: Which maps to return, as timm's ``features_only`` counts them. None: the last one, as the
            classifier would see it.
        in_channels: Channels of the images. Weights for three are adapted.
        frozen: The network is a fixed extractor in evaluation mode, without gradients.
        norm_eval: Batch normalisation keeps its running statistics in training.
        init_cfg: Initialisers, in place of ``pretrained`` and ``weights``.
        **model_args: Further arguments of ``timm.create_model``, for example ``drop_path_rate=0.1``, ``img_size=256``.

    Raises:
        ConfigError: timm is missing, has no such network, or has it only with pooling; both ``pretrained`` and
            ``weights``.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        weights: str | None = None,
        out_indices: int | Sequence[int] | None = None,
        in_channels: int = 3,
        frozen: bool = False,
        norm_eval: bool = False,
        init_cfg: InitCfg = None,
        **model_args: Any,
    ) -> None:
        if pretrained and weights is not None:
            raise ConfigError("TimmBackbone: give pretrained=True (timm's own weights) or weights (a file), not both")
        if init_cfg is None and (pretrained or weights is not None):
            init_cfg = dict(type='TimmWeights', checkpoint=weights)
        super().__init__(frozen, norm_eval, init_cfg)
        self.name = name
        self.timm_model: Any = _create(name, out_indices, in_channels, model_args)
        self.channels_last = str(getattr(self.timm_model, 'output_fmt', '')).endswith('NHWC')
        self.num_prefix_tokens = int(getattr(self.timm_model, 'num_prefix_tokens', 0) or 0)
        self.out_channels = tuple(each.shape[1] for each in self._probe(in_channels, model_args.get('img_size')))
        self._finish(self.timm_model, _PREFIX)

    def _probe(self, in_channels: int, image_size: Any) -> tuple[torch.Tensor, ...]:
        """Maps without data, of an image of the size that the network is meant for."""
        size = image_size or self.timm_model.pretrained_cfg.get('input_size', (3, 224, 224))[1:]
        size = (size, size) if isinstance(size, int) else tuple(size)
        network = without_data(self.timm_model).eval()
        x = torch.empty(1, in_channels, *size, device='meta')
        return self._to_maps(network(x), x.shape)

    def _check_size(self, x: torch.Tensor) -> None:
        patches = getattr(self.timm_model, 'patch_embed', None)
        size = getattr(patches, 'img_size', None)
        if not getattr(patches, 'strict_img_size', False) or size is None or tuple(x.shape[2:]) == tuple(size):
            return
        raise ConfigError(
            f"TimmBackbone: '{self.name}' is built for images of {size[0]} x {size[1]} pixels, got {x.shape[2]} x "
            f'{x.shape[3]}; resize the images, or set model.backbone.img_size={x.shape[2]}'
        )

    def _maps(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self._check_size(x)
        return self._to_maps(self.timm_model(x), x.shape)

    def _to_maps(self, outputs: Any, images: torch.Size) -> tuple[torch.Tensor, ...]:
        outputs = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
        return tuple(self._to_map(each, images) for each in outputs)

    def _to_map(self, x: Any, images: torch.Size) -> torch.Tensor:
        if isinstance(x, torch.Tensor) and x.ndim == 4:
            return x.permute(0, 3, 1, 2) if self.channels_last else x
        if not isinstance(x, torch.Tensor) or x.ndim != 3:
            raise ConfigError(
                f"TimmBackbone: '{self.name}' gives no feature maps without its pooling; try out_indices=(-1,), or a "
                'network that does, such as resnet50, efficientnet_b0 or vit_tiny_patch16_224'
            )
        tokens = x.shape[1] - self.num_prefix_tokens
        height = round((tokens * images[2] / images[3]) ** 0.5)  # the grid has the shape of the image
        if height == 0 or tokens % height:
            raise ConfigError(f"TimmBackbone: the {tokens} tokens of '{self.name}' are no grid of the image's shape")
        return x[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(2, (height, tokens // height))


@WEIGHT_INITIALIZERS.register_module()
class TimmWeights:
    """Initialiser of a :class:`TimmBackbone` from a file, or from timm's own weights.

    Args:
        checkpoint: A local file or URL. None fetches the weights that timm has for the network's name.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        if not isinstance(module, TimmBackbone):
            raise ConfigError(f'TimmWeights fills a TimmBackbone, not {type(module).__name__}; use Pretrained')
        if self.checkpoint is None:
            digest, (source, weights) = '', _fetch(module)
        else:
            path = resolve_checkpoint(self.checkpoint)
            source, weights = str(path), find_state_dict(read_weights(path))
            digest = file_digest(path)
        own = module.timm_model.state_dict().keys()
        named = {_own_name(name, own): value for name, value in weights.items()}
        report = load_weights(module, named, source, sha256=digest)
        log_report(module, report)
        remember(module, report)


def _own_name(name: str, own: Any) -> str:
    """Name in the backbone; extractors of features keep ``stages.0`` as ``stages_0``, or all under ``model``."""
    for each in (name, name.replace('.', '_', 1), f'model.{name}'):
        if each in own:
            return _PREFIX + each
    return name


def _fetch(module: TimmBackbone) -> tuple[str, Mapping[str, torch.Tensor]]:
    """Where timm's weights for a network are, and the weights."""
    from timm import models

    cfg: dict[str, Any] = module.timm_model.pretrained_cfg
    hub, url = cfg.get('hf_hub_id'), cfg.get('url')
    if not hub and not url:
        names = [
            each for each in models.list_models(pretrained=True) if each.split('.')[0] == module.name.split('.')[0]
        ]
        raise CheckpointError(
            f"TimmBackbone: timm has no weights for '{module.name}'{did_you_mean(module.name, names)}"
        )
    filename = cfg.get('hf_hub_filename') or 'model.safetensors'
    source = f'https://huggingface.co/{hub}/resolve/main/{filename}' if hub else str(url)
    try:
        if hub:
            more: dict[str, Any] = {'filename': filename} if cfg.get('hf_hub_filename') else {}
            return source, models.load_state_dict_from_hf(hub, **more)
        return source, find_state_dict(read_weights(resolve_checkpoint(source)))
    except Exception as error:  # the hub's errors have no common base
        reason = str(error).strip().split('\n')[0]
        raise CheckpointError(
            f"TimmBackbone: could not get the weights of '{module.name}' ({type(error).__name__}: {reason}); fetch "
            f"{source} on a machine with network access and give its path: weights='/path/{source.rsplit('/')[-1]}'"
        ) from error


def _create(
    name: str, out_indices: int | Sequence[int] | None, in_channels: int, model_args: dict[str, Any]
) -> nn.Module:
    """The network of timm, with random weights.

    Raises:
        ConfigError: timm is missing, or has no such network, argument or map.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError("TimmBackbone needs timm; pip install 'mlcls[timm]'") from error

    names = timm.list_models()
    architecture, _, tag = name.partition('.')
    if architecture not in names:
        raise ConfigError(f"TimmBackbone: timm has no network '{name}'{did_you_mean(architecture, names)}")
    tags = timm.list_models(f'{architecture}.*', pretrained=True) if tag else []
    if tag and name not in tags:
        raise ConfigError(f"TimmBackbone: timm has no weights '{name}'{did_you_mean(name, tags)}")
    if out_indices is None:
        args: dict[str, Any] = dict(num_classes=0, global_pool='')
    else:  # a single number would mean the last so many to timm
        out_indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        args = dict(features_only=True, out_indices=out_indices)
    clash = [key for key in ('num_classes', 'global_pool', 'features_only', 'in_chans') if key in model_args]
    if clash:
        raise ConfigError(f"TimmBackbone: '{clash[0]}' is set by the backbone itself; leave it out")
    try:
        return timm.create_model(name, pretrained=False, in_chans=in_channels, **args, **model_args)
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        asked = ', '.join(f'{key}={value!r}' for key, value in {**args, 'in_chans': in_channels, **model_args}.items())
        raise ConfigError(f"TimmBackbone: timm cannot make '{name}' with {asked}: {error}") from error
