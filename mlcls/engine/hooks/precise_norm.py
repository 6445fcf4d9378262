"""Re-estimating batch normalisation before a checkpoint is written and validated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _BatchNorm

from mlcls.engine.averaging import averaging_hook
from mlcls.engine.batch_norm import random_state_kept, reestimate_batch_norm, trained_norms
from mlcls.engine.checkpoint import unwrap
from mlcls.errors import ConfigError
from mlcls.registry import HOOKS


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Gives batch normalisation exact statistics of training images at the end of epochs; see
    :func:`mlcls.engine.batch_norm.reestimate_batch_norm`.

    It runs before the epoch's checkpoint is written: what is saved, validated and kept as the best has the new
    statistics. With ``EMAHook`` or ``SWAHook`` they are those of the averaged weights, once there are any, and the
    weights in training keep their own. Training goes on with the same weights, bit for bit, as without
    this hook: it does not read running statistics, and the images are drawn without moving any random state.

    The images are the first batches of the epoch's draws, as augmented by the loader, without ``batch_augments`` and
    ``device_augments``, in float32.

    Args:
        num_batches: Training batches to look at on each rank, at least 1; at most an epoch's are there.
        interval: Epochs between two estimates, at least 1; the last epoch always has one.

    Raises:
        ConfigError: A value below 1; as training starts, a model without trained batch normalisation.
    """

    priority = 'LOW'  # after averaging, before CheckpointHook

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
        model, hook = unwrap(runner.model), averaging_hook(runner)
        # Those that this epoch has trained: a hook may have kept some of them fixed.
        norms = {
            name: norm
            for name, norm in model.named_modules()
            if isinstance(norm, _BatchNorm) and norm.training and norm.running_mean is not None
        }
        if not norms:
            return
        is_averaged = hook is not None and hook.average.is_started
        loader = runner.train_dataloader
        with ExitStack() as stack:
            stack.enter_context(random_state_kept(getattr(loader, 'generator', None)))
            if is_averaged:
                stack.enter_context(hook.average.in_model())
            seen = reestimate_batch_norm(model, _images(model, loader), self.num_batches, list(norms.values()))
            if is_averaged:
                hook.average.keep_buffers(norms.items())
        whose = 'averaged' if is_averaged else 'trained'
        runner.logger.info(f'batch normalisation: exact statistics of the {whose} weights over {seen} training batches')


def _images(model: Any, loader: Any) -> Iterator[torch.Tensor]:
    for batch in loader:
        if batch is not None:  # none of its images can be used
            yield model.data_preprocessor(batch, training=False)['inputs']
