"""Networks of libraries made quickly: their own initialisation, most of the time of making them, is left out."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from torch import nn

_INITIALISERS = (
    'kaiming_normal_',
    'kaiming_uniform_',
    'normal_',
    'trunc_normal_',
    'uniform_',
    'xavier_normal_',
    'xavier_uniform_',
)


def quick(make: Callable[[], nn.Module]) -> nn.Module:
    """A module with weights of a seeded generator such that signals neither vanish nor explode."""
    noops = {name: (lambda tensor, *args, **kwargs: tensor) for name in _INITIALISERS}
    with mock.patch.multiple('torch.nn.init', **noops):
        module = make()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                spread = (2 / max(1, parameter[0].numel())) ** 0.5
                parameter.uniform_(-1.7 * spread, 1.7 * spread, generator=generator)
            else:
                parameter.uniform_(0.5, 1.0, generator=generator)
    return module
