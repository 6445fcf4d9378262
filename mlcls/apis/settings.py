"""Settings that a config may leave out."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.config import Config

from mlcls.errors import ConfigError

#: The order in which each part of the data is drawn unless the config says otherwise.
SAMPLERS = {
    'train_dataloader': dict(type='DefaultSampler', shuffle=True),
    'val_dataloader': dict(type='DefaultSampler', shuffle=False, round_up=False),
    'test_dataloader': dict(type='DefaultSampler', shuffle=False, round_up=False),
}


def complete_loaders(cfg: Config, pin_memory: bool = True, persistent_workers: bool = True) -> None:
    """Fill in samplers, pinned memory (with a GPU) and persistent workers where the loaders' configs leave them out.

    Args:
        cfg: The config, changed in place.
        pin_memory: False turns pinned memory off everywhere.
        persistent_workers: False starts workers anew each epoch everywhere.
    """
    import torch

    for name, sampler in SAMPLERS.items():
        loader = cfg.get(name)
        if loader is None:
            continue
        loader.setdefault('sampler', dict(sampler))
        loader.setdefault('pin_memory', torch.cuda.is_available())
        loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
        if not pin_memory:
            loader['pin_memory'] = False
        if not persistent_workers:
            loader['persistent_workers'] = False


def check_writable(file: Path, what: str = '--out') -> None:
    """Refuse a file that cannot be written, before hours of work: a folder, or in a folder that cannot be made.

    Raises:
        ConfigError: It cannot be.
    """
    if file.is_dir():
        raise ConfigError(f'{what}: {file} is a folder; name a file in it')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'{what}: {file} cannot be written ({error.strerror})') from error
    if not os.access(file.parent, os.W_OK):
        raise ConfigError(f'{what}: {file} cannot be written (no permission)')


def real_launcher(launcher: str) -> str:
    """The launcher, also where torchrun started the process but the flag was forgotten."""
    if launcher == 'none' and 'LOCAL_RANK' in os.environ and int(os.environ.get('WORLD_SIZE', 1)) > 1:
        return 'pytorch'
    return launcher
