"""Groups of parameters with the same settings."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor as MMEngineConstructor
from torch import nn

from mlcls.registry import OPTIM_WRAPPER_CONSTRUCTORS


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the parameters of groups with equal settings into one group, in order of appearance.

    An optimiser works on a group at a time: a group a parameter makes a fused step as slow as a loop.

    Args:
        groups: Dicts of ``params`` and settings.
    """
    merged: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        key = tuple(sorted((name, repr(value)) for name, value in settings.items()))
        merged.setdefault(key, {'params': [], **settings})['params'].extend(group['params'])
    return list(merged.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DefaultOptimWrapperConstructor(MMEngineConstructor):
    """mmengine's constructor, which gives each parameter a group of its own as soon as ``paramwise_cfg`` is there; here
    those with the same settings share one."""

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', is_dcn_module: Any = None
    ) -> None:
        """Fill ``params`` with groups of the parameters of the module; called anew for each part of it."""
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:
            params[:] = merge_groups(params)
