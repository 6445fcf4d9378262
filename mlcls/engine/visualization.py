"""Where numbers of a run go, and names that runtime settings written for mmpretrain use."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.visualization import Visualizer as MMEngineVisualizer

from mlcls.engine.logs import FormattedConfig
from mlcls.errors import ConfigError
from mlcls.registry import HOOKS, VISUALIZERS


class _LateFigure:
    """Stands for a part of a figure that is not made until it is used."""

    def __init__(self, owner: Visualizer, part: int) -> None:
        self._owner, self._part = owner, part

    def get_dpi(self) -> float:
        """Asked for as the visualizer is made; matplotlib's default."""
        return 100.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner.make_figure()[self._part], name)


@VISUALIZERS.register_module()
class Visualizer(MMEngineVisualizer):
    """mmengine's Visualizer, which makes its figure when it draws, not at the start of every run: that takes half a
    second. The config is formatted once for all backends."""

    def _initialize_fig(self, fig_cfg: Any) -> tuple[Any, Any, Any]:
        self._late_settings = fig_cfg
        return _LateFigure(self, 0), _LateFigure(self, 1), _LateFigure(self, 2)

    def make_figure(self) -> tuple[Any, Any, Any]:
        """Canvas, figure and axes, made now."""
        made = super()._initialize_fig(self._late_settings)
        self.fig_save_canvas, self.fig_save, self.ax_save = made
        self.dpi = self.fig_save.get_dpi()
        return made

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Record the config."""
        super().add_config(FormattedConfig(config), **kwargs)


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
