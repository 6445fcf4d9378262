"""Keeping NaN and infinity from the weights."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn

from mlcls.engine.checkpoint import unwrap
from mlcls.engine.guard import StepGuard
from mlcls.engine.nonfinite import write_report
from mlcls.errors import ConfigError, TrainingError
from mlcls.models.fitting import training_state
from mlcls.registry import HOOKS

_ADVICE = (
    'Lower the learning rate, clip gradients (optim_wrapper.clip_grad), or check the data for odd values; '
    'default_hooks.finite_loss.skip=N leaves out up to N such steps'
)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends training when a loss or a gradient is NaN or infinite, before the optimiser makes a step of it.

    The weights, and all checkpoints, are from before. The images of the batch, the losses of it and the first layers
    whose values are not finite are written to ``nonfinite_iter_N.json`` in the work folder. On a CPU each step is
    looked at; on a GPU the step is left out on the device, and the host looks each ``interval`` steps, at the end of an
    epoch and before a checkpoint (see `StepGuard`). With float16, steps with an infinite gradient are the scaler's.

    Args:
        interval: Steps between two looks at a GPU, at least 1.
        skip: Leave out up to this many such steps of the whole run, with a warning, before it ends; statistics of
            batch normalisation and what losses remember of images are put back, too.

    Raises:
        ConfigError: ``interval`` below 1 or ``skip`` below 0.
    """

    priority = 'HIGH'

    def __init__(self, interval: int = 50, skip: int = 0) -> None:
        for name, value, least in (('interval', interval, 1), ('skip', skip, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f'FiniteLossHook: {name} must be a whole number of at least {least}, got {value!r}')
        self.interval, self.skip = interval, skip
        self._guard = StepGuard(skip)
        self._norms: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []
        self._memories: dict[str, torch.Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {'skipped': self._guard.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._guard.skipped = self._guard.told = int(state['skipped'])

    def before_train(self, runner: Any) -> None:
        """Watch the optimiser's steps."""
        self._guard.several = runner.world_size > 1
        runner.optim_wrapper.guard = self._guard

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep what the forward pass changes, if the step may have to be left out."""
        if not self.skip:
            return
        if runner.optim_wrapper.in_cycle:
            return  # of a cycle of accumulation, what was before its first batch
        if batch_idx == 0 or not self._norms:
            modules = unwrap(runner.model).modules()
            norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
            buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
            self._norms = [buffer for buffer in buffers if buffer is not None]
        self._kept = [buffer.clone() for buffer in self._norms]
        self._memories = {name: value.clone() for name, value in training_state(unwrap(runner.model)).items()}

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, torch.Tensor] | None = None
    ) -> None:
        """Look at the flag if it is time, or if it is on the host anyway."""
        if self.skip and runner.is_between_steps:
            self._put_back(unwrap(runner.model))
        if self._guard.first_bad >= 0 or self.every_n_train_iters(runner, self.interval):
            self._look(runner, data_batch)

    def _put_back(self, model: nn.Module) -> None:
        """Undo what the forward passes of a step that was left out have changed."""
        is_left_out, flag = self._guard.skipped > self._guard.told, self._guard.flag  # of the host, of the device
        for buffer, kept in zip(self._norms, self._kept):
            bad = ~torch.isfinite(buffer) if flag is None else ~torch.isfinite(buffer) | flag
            buffer.copy_(kept if is_left_out else torch.where(bad, kept, buffer))
        for name, value in training_state(model).items():
            if is_left_out:
                value.copy_(self._memories[name])
            elif flag is not None:
                value.copy_(torch.where(flag, self._memories[name], value))

    def after_train_epoch(self, runner: Any) -> None:
        """Look at the end of an epoch."""
        self._look(runner)

    def before_checkpoint(self, runner: Any) -> None:
        """Look before anything is saved."""
        self._look(runner)

    def _look(self, runner: Any, batch: Any = None) -> None:
        found = self._guard.look()
        if not found:
            return
        first = self._guard.first_bad
        self._guard.clear()
        report = write_report(runner, first, batch if first == runner.iter else None)
        what = f'the loss or a gradient became NaN or infinite in iteration {first + 1} (epoch {runner.epoch + 1})'
        if self._guard.skipped > self.skip:
            skipped = f', after {self._guard.skipped - found} that were left out' if self.skip else ''
            raise TrainingError(
                f'{what}{skipped}; the step was not made, and checkpoints in {runner.work_dir} are from before. '
                f'{report}. {_ADVICE}'
            )
        runner.logger.warning(
            f'{what}; the step is left out ({self._guard.skipped} of {self.skip} that may be). {report}'
        )
