"""Names that runtime settings written for mmpretrain use."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.visualization import Visualizer

from mlcls.errors import ConfigError
from mlcls.registry import HOOKS, VISUALIZERS


@VISUALIZERS.register_module()
class UniversalVisualizer(Visualizer):
    """mmengine's Visualizer under mmpretrain's name: scalars go to its ``vis_backends``."""


@HOOKS.register_module()
class VisualizationHook(Hook):
    """Accepted switched off, as mmpretrain's default runtime has it.

    Args:
        enable: Must be False: pictures of predictions are not drawn during validation.
        **settings: Not used.

    Raises:
        ConfigError: ``enable=True``.
    """

    def __init__(self, enable: bool = False, **settings: Any) -> None:
        if enable:
            raise ConfigError(
                'VisualizationHook: drawing predictions during validation is not available; set enable=False'
            )
