"""Where scalars go: JSON lines and TensorBoard, or what the config names, if it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend

from mlcls.errors import ConfigError
from mlcls.registry import VISBACKENDS

#: Backends unless a config says otherwise.
DEFAULT_BACKENDS = ('LocalVisBackend', 'TensorboardVisBackend')
#: Package that a backend needs: the module to import, and what to install.
PACKAGES = {
    'TensorboardVisBackend': ('tensorboard', 'tensorboard'),
    'WandbVisBackend': ('wandb', 'wandb'),
    'MLflowVisBackend': ('mlflow', 'mlflow'),
    'ClearMLVisBackend': ('clearml', 'clearml'),
    'NeptuneVisBackend': ('neptune', 'neptune'),
    'DVCLiveVisBackend': ('dvclive', 'dvclive'),
    'AimVisBackend': ('aim', 'aim'),
}


@VISBACKENDS.register_module()
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """mmengine's, with all numbers of a log line in one event: one for each takes several times as long."""

    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Write numbers.

        Args:
            scalar_dict: Numbers or 0-d tensors by name; what is neither is left out.
            step: On the axis.
            file_path: Not used.
            **kwargs: Not used.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in scalar_dict.items()
            if isinstance(value, SupportsFloat)
        ]
        self.experiment._get_file_writer().add_summary(Summary(value=values), step)


def visualizer_config(visualizer: Any = None, vis_backends: Any = None) -> Any:
    """The visualizer of a run, once it is known that what it needs is installed.

    Args:
        visualizer: The config's ``visualizer``; a built one is returned as it is.
        vis_backends: The config's ``vis_backends``, one or a list; taken where ``visualizer`` names none.

    Returns:
        A config with ``type`` and ``vis_backends``.

    Raises:
        ConfigError: A backend's package is not installed; the message says how to install it.
    """
    if visualizer is not None and not isinstance(visualizer, Mapping):
        return visualizer
    settings = {'type': 'Visualizer', **(visualizer or {})}
    named = settings.get('vis_backends')
    backends = vis_backends if named is None else named
    if backends is None:
        backends = [{'type': name} for name in DEFAULT_BACKENDS]
    elif isinstance(backends, Mapping) or not isinstance(backends, Sequence):
        backends = [backends]
    # Copies: mmengine writes into them, and the config that is saved must not change.
    backends = [dict(backend) if isinstance(backend, Mapping) else backend for backend in backends]
    for backend in backends:
        _check_installed(backend)
    return {**settings, 'vis_backends': backends}


def _check_installed(backend: Any) -> None:
    kind = backend.get('type') if isinstance(backend, Mapping) else None
    name = (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]
    if name not in PACKAGES:
        return
    module, package = PACKAGES[name]
    if not _is_installed(module):
        raise ConfigError(
            f'vis_backends: {name} needs the package {package}, which is not installed; '
            f'run "pip install {package}" or take {name} out of the config'
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # something else is loaded under that name
        return False
