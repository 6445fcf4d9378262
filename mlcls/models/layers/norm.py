"""Normalisation layers by ``norm_cfg``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from mlcls.errors import ConfigError, did_you_mean

#: Type in ``norm_cfg`` to layer of torch.
NORMS: dict[str, type[nn.Module]] = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm, 'GN': nn.GroupNorm}


def build_norm(channels: int, norm_cfg: Mapping[str, Any] | None = None) -> nn.Module:
    """A normalisation of (N, channels, H, W) maps.

    Args:
        channels: Channels of the maps.
        norm_cfg: ``dict(type='BN' | 'SyncBN' | 'GN', requires_grad=True, ...)`` with further arguments of the layer of
            torch, for example ``eps``, ``momentum``, or ``num_groups`` of GN. None means BN.

    Raises:
        ConfigError: Another type, or arguments that the layer does not take.
    """
    settings: dict[str, Any] = dict(norm_cfg) if norm_cfg else {'type': 'BN'}
    kind = settings.pop('type', None)
    requires_grad = settings.pop('requires_grad', True)
    if kind not in NORMS:
        raise ConfigError(f'norm_cfg: unknown type {kind!r}{did_you_mean(str(kind), NORMS)}')
    if kind == 'GN':
        groups = settings.get('num_groups')
        if groups is None or channels % groups:
            raise ConfigError(f'norm_cfg: GN needs num_groups that divide {channels} channels, got {groups}')
        settings['num_channels'] = channels
    else:
        settings['num_features'] = channels
    try:
        norm = NORMS[kind](**settings)
    except TypeError as error:
        raise ConfigError(f'norm_cfg: {kind} does not take these arguments: {error}') from error
    return norm.requires_grad_(requires_grad)
