"""Ending a run whose loss is no longer a number."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook

from mlcls.errors import ConfigError, TrainingError
from mlcls.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends training when the loss is NaN or infinite, before a checkpoint of it is written.

    The loss of every step is gathered on the device and looked at each ``interval`` steps and at the end of an epoch;
    in between this hook does not make the host wait for the device.

    Args:
        interval: Steps between two looks, at least 1.

    Raises:
        ConfigError: ``interval`` below 1.
    """

    priority = 'HIGH'

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ConfigError(f'FiniteLossHook: interval must be at least 1, got {interval}')
        self.interval = interval
        self._sum: torch.Tensor | None = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, torch.Tensor] | None = None
    ) -> None:
        """Gather the loss; look at it if it is time."""
        loss = (outputs or {}).get('loss')
        if loss is None:
            return
        # A sum is finite only if all its terms are.
        self._sum = loss.detach() if self._sum is None else self._sum + loss.detach()
        if self.every_n_train_iters(runner, self.interval):
            self._look(runner)

    def after_train_epoch(self, runner: Any) -> None:
        """Look before the epoch's checkpoint is written."""
        self._look(runner)

    def _look(self, runner: Any) -> None:
        total, self._sum = self._sum, None
        if total is not None and not torch.isfinite(total):
            raise TrainingError(
                f'the loss became {total.item()} in epoch {runner.epoch + 1}, by iteration '
                f'{runner.iter + 1}; checkpoints in {runner.work_dir} are from before. Lower the learning '
                'rate, clip gradients (optim_wrapper.clip_grad), or check the data for odd values'
            )
