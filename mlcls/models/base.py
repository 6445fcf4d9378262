"""Base of backbones, necks and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

InitCfg = dict[str, Any] | Sequence[dict[str, Any]] | None


class BaseModule(nn.Module):
    """A module that remembers how its weights are to be filled.

    Constructors leave usable random weights; :func:`mlcls.models.initialize.initialize` then applies ``init_cfg``.

    Args:
        init_cfg: One or several initialisers, for example ``dict(type='Pretrained', checkpoint='resnet50.pth')``.
    """

    def __init__(self, init_cfg: InitCfg = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg
