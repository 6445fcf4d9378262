"""Training from a config file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mlcls.apis.settings import complete_loaders, real_launcher
from mlcls.config import Sources, check_config, importable_names, load_config, load_resolved, to_plain
from mlcls.errors import ConfigError
from mlcls.registry import RUNNERS


@dataclass(frozen=True)
class TrainFlags:
    """What a training command may change of its config.

    Args:
        work_dir: Folder of logs and checkpoints; ``work_dirs/<config name>`` if neither it nor the config says.
        resume: True resumes the newest checkpoint of the work folder; a path that file.
        amp: Train in mixed precision.
        validate: False leaves validation out.
        auto_scale_lr: Scale the learning rate by the real batch size over ``auto_scale_lr.base_batch_size``.
        pin_memory: False turns pinned memory of all loaders off.
        persistent_workers: False starts the loaders' workers anew each epoch.
        seed: Overrides ``randomness.seed``.
        load_from: Weights file to start a new run from.
        profile: Record some steps with torch's profiler, and say what the run waits for.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """

    work_dir: str | None = None
    resume: bool | str = False
    amp: bool = False
    validate: bool = True
    auto_scale_lr: bool = False
    pin_memory: bool = True
    persistent_workers: bool = True
    seed: int | None = None
    load_from: str | None = None
    profile: bool = False
    launcher: str = 'none'


def prepare_config(config: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Load a config file, apply overrides, check it, and resolve it to plain data.

    Args:
        config: Path of the config file.
        options: Overrides, dotted keys to values.

    Raises:
        ConfigError: It cannot be loaded or does not describe a run.
    """
    cfg = load_config(config, options)
    check_config(cfg, Sources([Path(config)], options))
    plain = to_plain(cfg)
    resolved = load_resolved(plain, importable_names(plain))
    object.__setattr__(resolved, '_filename', str(config))  # setattr() would make it a setting
    return resolved


def _check_work_dir(folder: Path) -> None:
    """Refuse a work folder that cannot be made or written, before anything is built."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f'{folder}: the work folder cannot be made or written; choose another with --work-dir')


def _apply_load_from(cfg: Config, flags: TrainFlags) -> None:
    if isinstance(flags.resume, str):
        raise ConfigError(
            f'--resume {flags.resume} goes on with a run, --load-from starts a new one from weights; give one of them'
        )
    if flags.resume and any(Path(cfg.work_dir).glob('*.pth')):
        return  # the same command, after a stop: the run has begun with those weights
    cfg.load_from, cfg.resume = flags.load_from, False


def apply_flags(cfg: Config, flags: TrainFlags) -> None:
    """Write the flags of a training command into its config, in place.

    Raises:
        ConfigError: A flag needs a setting that the config does not have.
    """
    cfg.launcher = real_launcher(flags.launcher)
    cfg.work_dir = flags.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(cfg.filename).stem)
    if Path(cfg.work_dir).is_file():
        raise ConfigError(f'{cfg.work_dir}: the work folder is a file')
    _check_work_dir(Path(cfg.work_dir))
    if flags.resume:
        cfg.resume = True
        cfg.load_from = flags.resume if isinstance(flags.resume, str) else None
    if flags.load_from:
        _apply_load_from(cfg, flags)
    if flags.seed is not None:
        if flags.seed < 0:
            raise ConfigError(f'--seed must be at least 0, got {flags.seed}')
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': flags.seed}
    if flags.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config: the batch size '
                'for which its learning rate was chosen'
            )
        cfg.auto_scale_lr.enable = True
    if not flags.validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        if cfg.get('default_hooks', {}).get('checkpoint'):
            cfg.default_hooks.checkpoint.pop('save_best', None)
    complete_loaders(cfg, flags.pin_memory, flags.persistent_workers)


def train(config: str | Path, flags: TrainFlags = TrainFlags(), options: Mapping[str, Any] | None = None) -> Path:
    """Train what a config describes.

    Args:
        config: Path of the config file.
        flags: What the command line changes.
        options: Overrides of single settings, dotted keys to values.

    Returns:
        The work folder.

    Raises:
        UserError: The config, the data or a checkpoint cannot be used, or training cannot go on.
    """
    if flags.amp:  # before the check, so that its arguments can be set too
        options = {'optim_wrapper.type': 'AmpOptimWrapper', **(options or {})}
    cfg = prepare_config(config, options)
    if cfg.get('train_dataloader') is None:
        raise ConfigError(f'{config}: has no train_dataloader, optim_wrapper and train_cfg; nothing to train')
    apply_flags(cfg, flags)
    from mlcls.engine import Runner

    kind = RUNNERS.get(cfg.get('runner_type', 'Runner'))
    if not issubclass(kind, Runner):
        raise ConfigError(f'runner_type: {kind.__name__} is not derived from the Runner of mlcls.engine')
    runner = kind.from_cfg(cfg)
    if flags.profile:
        from mlcls.engine.hooks import ProfileHook

        runner.register_hook(ProfileHook())
    with runner.closing():
        runner.train()
    return Path(runner.work_dir)
