"""Layer-wise learning-rate decay: the deeper a part of the backbone, the faster it learns."""

from __future__ import annotations

from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from mlcls.errors import ConfigError
from mlcls.registry import OPTIM_WRAPPER_CONSTRUCTORS

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
_DECAYS = ('bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(
    name=['LayerDecayOptimWrapperConstructor', 'LearningRateDecayOptimWrapperConstructor']
)
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer whose learning rates fall from the head down to the images (Clark et al., "ELECTRA", arXiv
    2003.10555, section 3.1; Bao et al., "BEiT", arXiv 2106.08254).

    The rate of a parameter is ``lr * layer_decay_rate ** (total - 1 - depth)``, where the backbone's
    ``layer_depth(name)`` gives depth and total: 0 is the stem, ``total - 1`` the head. Neck and head, and all else
    outside the backbone, have ``lr`` itself. Parameters of equal rate and weight decay share one group, so that the
    optimizer goes through few and large ones. Frozen parameters are left out.

    Args:
        optim_wrapper_cfg: Config of the optimizer's wrapper; its ``optimizer`` has ``lr``.
        paramwise_cfg: ``layer_decay_rate`` in (0, 1], and keys of mmengine's ``DefaultOptimWrapperConstructor``:
            ``custom_keys`` (its ``lr_mult`` is multiplied with the layer's factor), ``bias_lr_mult``,
            ``bias_decay_mult``, ``norm_decay_mult``, ``flat_decay_mult``, ``dwconv_decay_mult``.

    Raises:
        ConfigError: A rate outside (0, 1] or none; no ``lr``; a multiplier of a weight decay that is not given. When it
            is called: a model without a backbone, or one that does not tell the depth of its layers.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        settings, name = paramwise_cfg or {}, type(self).__name__
        rate = settings.get('layer_decay_rate')
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ConfigError(f'{name}: optim_wrapper.paramwise_cfg.layer_decay_rate must be in (0, 1], got {rate!r}')
        optimizer = optim_wrapper_cfg.get('optimizer') or {}
        if optimizer.get('lr') is None:
            raise ConfigError(f'{name}: needs optim_wrapper.optimizer.lr, the learning rate of the head')
        scaled = [key for key in _DECAYS if key in settings]
        scaled += [f'custom_keys.{key}' for key, v in settings.get('custom_keys', {}).items() if 'decay_mult' in v]
        if scaled and optimizer.get('weight_decay') is None:
            raise ConfigError(
                f'{name}: paramwise_cfg.{scaled[0]} multiplies a weight decay that is not given; set '
                'optim_wrapper.optimizer.weight_decay'
            )
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.rate = float(rate)

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', is_dcn_module: Any = None
    ) -> None:
        """Fill ``params`` with groups of the parameters of the model; called once, by the base class."""
        backbone = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'layer_depth'):
            raise ConfigError(
                f'{type(self).__name__}: model.backbone ({type(backbone).__name__}) does not tell the depth of its '
                "layers (layer_depth); without it use constructor='DefaultOptimWrapperConstructor' with "
                "paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)})"
            )
        groups: dict[tuple[float, float | None], list[nn.Parameter]] = {}
        seen: set[int] = set()
        for owner_name, owner in module.named_modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                full = f'{owner_name}.{name}' if owner_name else name
                lr, decay = self._settings(full, parameter, owner)
                groups.setdefault((lr * self._factor(full, backbone), decay), []).append(parameter)
        for (lr, decay), members in groups.items():
            settings = {} if decay is None else {'weight_decay': decay}
            params.append({'params': members, 'lr': lr, **settings})
        rates = [lr for lr, _ in groups] or [self.base_lr]
        MMLogger.get_current_instance().info(
            f'layer decay {self.rate:g}: learning rates from {min(rates):.3g} to {max(rates):.3g} in {len(groups)} '
            f'groups of parameters ({len(seen)} tensors)'
        )

    def _factor(self, name: str, backbone: Any) -> float:
        if not name.startswith('backbone.'):
            return 1.0
        depth, total = backbone.layer_depth(name.removeprefix('backbone.'))
        return self.rate ** (total - 1 - depth)

    def _settings(self, name: str, parameter: nn.Parameter, owner: nn.Module) -> tuple[float, float | None]:
        """Learning rate and weight decay before layer decay; the rules are mmengine's."""
        given = self.paramwise_cfg
        custom = given.get('custom_keys', {})
        keys = sorted((key for key in custom if key in name), key=lambda key: (-len(key), key))
        if keys:
            chosen = custom[keys[0]]
            decay = None if self.base_wd is None else self.base_wd * chosen.get('decay_mult', 1.0)
            return self.base_lr * chosen.get('lr_mult', 1.0), decay
        is_norm, is_bias = isinstance(owner, _NORMS), name.rpartition('.')[2] == 'bias'
        lr_mult = given.get('bias_lr_mult') if is_bias and not is_norm else None
        lr = self.base_lr if lr_mult is None else self.base_lr * lr_mult
        if self.base_wd is None:
            return lr, None
        is_depthwise = isinstance(owner, nn.Conv2d) and owner.groups == owner.in_channels
        applies = {
            'norm_decay_mult': is_norm,
            'bias_decay_mult': is_bias,
            'dwconv_decay_mult': is_depthwise,
            'flat_decay_mult': parameter.dim() == 1,
        }
        for key, does in applies.items():  # the first that applies and is given
            if does and given.get(key) is not None:
                return lr, self.base_wd * given[key]
        return lr, self.base_wd
