"""Re-estimating batch normalisation before a checkpoint is written and validated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlcls.engine.batch_norm import random_state_kept, reestimate_batch_norm, trained_norms
from mlcls.engine.checkpoint import unwrap
from mlcls.errors import ConfigError
from mlcls.registry import HOOKS


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Gives batch normalisation exact statistics of training images at the end of epochs; see
    :func:`mlcls.engine.batch_norm.reestimate_batch_norm`.

    It runs before the epoch's checkpoint is written: what is saved, validated and kept as the best has the new
    statistics. With mmengine's ``EMAHook`` (also for stochastic weight averaging) they are those of the averaged
    weights, and the weights in training keep their own. Training goes on with the same weights, bit for bit, as without
    this hook: it does not read running statistics, and the images are drawn without moving any random state.

    The images are the first batches of the epoch's draws, as augmented by the loader, without ``batch_augments`` and
    ``device_augments``, in float32.

    Args:
        num_batches: Training batches to look at on each rank, at least 1; at most an epoch's are there.
        interval: Epochs between two estimates, at least 1; the last epoch always has one.

    Raises:
        ConfigError: A value below 1; as training starts, a model without trained batch normalisation.
    """

    priority = 'LOW'  # after EMAHook, before CheckpointHook

    def __init__(self, num_batches: int = 200, interval: int = 1) -> None:
        for name, value in (('num_batches', num_batches), ('interval', interval)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f'PreciseBNHook: {name} must be a whole number of at least 1, got {value!r}')
        self.num_batches, self.interval = num_batches, interval

    def before_train(self, runner: Any) -> None:
        """Check that there is something to do."""
        if not trained_norms(unwrap(runner.model)):
            raise ConfigError(
                'PreciseBNHook: the model has no batch normalisation whose statistics are trained (frozen stages and '
                'norm_eval keep theirs); remove the hook'
            )

    def after_train_epoch(self, runner: Any) -> None:
        """Estimate anew if it is due."""
        if not (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            return
        ema, trained = _ema_hook(runner), unwrap(runner.model)
        model = trained if ema is None else ema.ema_model.module
        # Those that this epoch has trained: a hook may have kept some of them fixed.
        norms = [
            norm for own, norm in zip(_norms(trained), _norms(model)) if own.training and norm.running_mean is not None
        ]
        if not norms:
            return
        loader = runner.train_dataloader
        with random_state_kept(getattr(loader, 'generator', None)):
            seen = reestimate_batch_norm(model, _images(trained, loader), self.num_batches, norms)
        whose = 'averaged' if ema is not None else 'trained'
        runner.logger.info(f'batch normalisation: exact statistics of the {whose} weights over {seen} training batches')

    def before_val_epoch(self, runner: Any) -> None:
        """Validate averaged weights with their statistics."""
        self._swap(runner)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Give the trained weights back theirs."""
        self._swap(runner)

    def _swap(self, runner: Any) -> None:
        # EMAHook exchanges the weights, and buffers only with update_buffers.
        ema = _ema_hook(runner)
        if ema is None or ema.ema_model.update_buffers:
            return
        pairs = zip(_norms(unwrap(runner.model)), _norms(ema.ema_model.module))
        for trained, averaged in pairs:
            for name, own in trained._buffers.items():
                other = averaged._buffers[name]
                if own is not None and other is not None:
                    kept = own.clone()
                    own.copy_(other)
                    other.copy_(kept)


def _ema_hook(runner: Any) -> Any:
    return next((hook for hook in runner.hooks if isinstance(hook, EMAHook)), None)


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _images(model: Any, loader: Any) -> Iterator[torch.Tensor]:
    for batch in loader:
        if batch is not None:  # none of its images can be used
            yield model.data_preprocessor(batch, training=False)['inputs']
