"""A run that trains for a few steps to measure something, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcls.apis.training import TrainFlags, apply_flags, prepare_config
from mlcls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mmengine.config import Config

    from mlcls.engine import Runner
    from mlcls.structures import Batch

#: What a few steps do without.
_LEFT_OUT = ('param_scheduler', 'test_cfg', 'test_dataloader', 'test_evaluator', 'auto_scale_lr', 'visualizer')


def trial_config(config: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """The checked config of a training run.

    Raises:
        ConfigError: It cannot be used, or trains nothing.
    """
    cfg = prepare_config(config, options)
    if cfg.get('train_dataloader') is None:
        raise ConfigError(f'{config}: has no train_dataloader, optim_wrapper and train_cfg; nothing to train')
    return cfg


@contextmanager
def trial_run(cfg: Config) -> Iterator[Runner]:
    """Build the training part of a run: data, model with its first weights, optimiser; one process, no schedules, no
    hooks, no validation. Its work folder is a temporary one.

    Args:
        cfg: From `trial_config`; it is changed.

    Raises:
        UserError: Something in the config or the data cannot be used.
    """
    from mlcls.engine import Runner

    with tempfile.TemporaryDirectory(prefix='mlcls_trial_') as folder:
        apply_flags(cfg, TrainFlags(work_dir=folder, validate=False))
        for key in _LEFT_OUT:
            cfg[key] = None
        cfg.default_hooks, cfg.custom_hooks = {}, []
        cfg.resume, cfg.launcher = False, 'none'
        runner = Runner.from_cfg(cfg)
        with runner.closing():
            runner._train_loop = runner.build_train_loop(runner._train_loop)
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            runner._init_model_weights()
            runner.load_or_resume()
            runner.model.train()
            yield runner


def endless_batches(runner: Runner) -> Iterator[Batch]:
    """The training batches, epoch after epoch, in the order of a training.

    Raises:
        DataError: No image can be used.
    """
    from mlcls.engine.dataloader import start_at
    from mlcls.models.fitting import losses_of

    loader, epoch = runner.train_dataloader, 0
    while True:
        start_at(loader, epoch, 0)
        losses = losses_of(runner.model).values()
        for loss in losses:
            loss.start_epoch(epoch)
        found = False
        for batch in loader:
            if batch is not None:  # none of its images can be used
                found = True
                yield batch
        if not found:
            raise DataError('no image of the training data can be used')
        for loss in losses:
            loss.end_epoch()
        epoch += 1
