"""``init_cfg`` of any module: initialisers by name, pretrained files last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from mlcls.models.base import InitCfg
from mlcls.models.weights import load_pretrained
from mlcls.registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initialiser that fills a module from a file; see :func:`mlcls.models.weights.load_pretrained`.

    Args:
        checkpoint: A local file (``.pth``, ``.safetensors``), a URL or a ``torchvision://`` name.
        prefix: Part of the file's names to strip; the one that fits best is found if None.
        map_location: Here for configs of mmpretrain; weights are always read to the CPU first.
        key: Where in the file the weights are, for example ``'state_dict_ema'``; the usual places if None.
    """

    def __init__(
        self, checkpoint: str, prefix: str | None = None, map_location: str | None = None, key: str | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.key = key

    def __call__(self, module: nn.Module) -> None:
        load_pretrained(module, self.checkpoint, self.prefix, self.key)


def initialize(module: nn.Module, init_cfg: InitCfg) -> None:
    """Apply one or several initialisers to a module, pretrained files last.

    Args:
        module: To be filled in place.
        init_cfg: ``dict(type=..., ...)`` or a list of such; None leaves the module as it is.
    """
    if init_cfg is None:
        return
    settings = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg)
    for cfg in sorted(settings, key=lambda cfg: _short_name(cfg['type']) == 'Pretrained'):
        WEIGHT_INITIALIZERS.build(dict(cfg))(module)


def _short_name(kind: Any) -> str:
    return re.sub(r'^.*\.', '', kind if isinstance(kind, str) else kind.__name__)
