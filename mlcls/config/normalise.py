"""Small repairs that every loaded config gets, whatever it came from."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from mlcls.errors import ConfigError
from mlcls.registry import SCOPE


def set_scope(cfg: Config, where: str) -> None:
    """Set ``default_scope`` where a config leaves it out.

    Args:
        cfg: The config, changed in place.
        where: File and line, or what else it came from, for the message.

    Raises:
        ConfigError: It names another scope.
    """
    scope = cfg.get('default_scope')
    if scope not in (None, SCOPE):
        raise ConfigError(
            f"{where}: default_scope is {scope!r}, whose parts are not used here; set default_scope = '{SCOPE}'"
        )
    cfg.default_scope = SCOPE


def normalise(cfg: Config) -> Config:
    """Mend what is meant but would fail; call it again after changing a config.

    - Without workers, torch refuses ``persistent_workers=True`` and ``prefetch_factor``: they are switched off.
    - A ``train_cfg`` without ``type`` and ``by_epoch`` counts epochs unless it has ``max_iters``; mmengine would count
      iterations.

    Args:
        cfg: The config, changed in place.

    Returns:
        The same config.
    """
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader: Any = cfg.get(key)
        if isinstance(loader, dict) and loader.get('num_workers', 0) == 0:
            if loader.get('persistent_workers'):
                loader['persistent_workers'] = False
            loader.pop('prefetch_factor', None)
    train_cfg: Any = cfg.get('train_cfg')
    if isinstance(train_cfg, dict) and 'type' not in train_cfg:
        train_cfg.setdefault('by_epoch', 'max_iters' not in train_cfg)
    return cfg
