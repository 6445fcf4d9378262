"""Averaging the weights of a run: exponentially, or uniformly over its last epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.hooks import Hook

from mlcls.engine.averaging import TRAINING_WEIGHTS, WeightAverage, ema_share
from mlcls.engine.batch_norm import trained_norms
from mlcls.engine.checkpoint import unwrap
from mlcls.errors import CheckpointError, ConfigError, did_you_mean
from mlcls.registry import HOOKS

_TYPES = ('ExponentialMovingAverage', 'MomentumAnnealingEMA', 'StochasticWeightAverage')
#: Settings of a group of parameters that schedules change.
_SCHEDULED = ('momentum', 'betas', 'weight_decay')


class AveragingHook(Hook):
    """What hooks that average weights have in common.

    Training goes on with its own weights. The averaged ones are validated, and are what checkpoints hold as
    ``state_dict``; the weights in training are beside them as ``training_weights``, and a resumed run goes on from
    those.

    Args:
        update_buffers: Average buffers (statistics of batch normalisation), too; otherwise those of the weights in
            training are used, or what ``PreciseBNHook`` estimates for the averaged weights.
        evaluate_raw: Validate the weights in training, too; their metrics are called ``raw/<name>``, and the best
            checkpoint has whichever weights score better.
        strict_load: A resumed checkpoint must have an average of each parameter.
    """

    priority = 'NORMAL'  # after the watch over what is not finite, before checkpoints

    def __init__(self, update_buffers: bool, evaluate_raw: bool, strict_load: bool) -> None:
        self.update_buffers, self.evaluate_raw, self.strict_load = update_buffers, evaluate_raw, strict_load
        #: Of the run's network.
        self.average = WeightAverage(torch.nn.Module())
        self._steps = 0
        self._was_loaded = False

    @property
    def _name(self) -> str:
        return type(self).__name__

    def before_run(self, runner: Any) -> None:
        """Look at the network.

        Raises:
            ConfigError: Another hook averages, too.
        """
        others = [hook for hook in runner.hooks if isinstance(hook, AveragingHook) and hook is not self]
        if others:
            raise ConfigError(
                f'custom_hooks: {self._name} and {others[0]._name} would both average the weights; remove one of them'
            )
        self.average = WeightAverage(unwrap(runner.model), self.update_buffers)

    def before_train(self, runner: Any) -> None:
        """Say it if a resumed checkpoint has no average."""
        if runner.iter > 0 and not self._was_loaded:
            runner.logger.warning(
                f'{self._name}: the checkpoint has no average of this kind: averaging begins with its weights in '
                'training'
            )
            self._begin_late(runner)

    def _begin_late(self, runner: Any) -> None:
        """Begin in the middle of a run."""

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the weights to be used in their place, and those in training beside them."""
        meta, raw = checkpoint['meta'], checkpoint['state_dict']
        if not self.average.is_started:
            meta['weights'] = 'raw'
            return
        checkpoint[TRAINING_WEIGHTS] = raw
        if meta['weights'] == 'averaged':
            own = checkpoint['hooks'][self._name]
            averaged = own['weights'] | own['buffers']
            checkpoint['state_dict'] = {name: averaged.get(name, value) for name, value in raw.items()}

    def state_dict(self) -> dict[str, Any]:
        """The average and its counters."""
        return {'steps': self._steps, **self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            CheckpointError: A parameter has no average, and ``strict_load`` is set.
        """
        self._was_loaded, self._steps = True, int(state['steps'])
        missing = self.average.load_state_dict(state)
        if missing and self.strict_load:
            raise CheckpointError(
                f'{self._name}: the checkpoint has no average of {missing[0]} ({len(missing)} in all); set '
                'strict_load=False to begin with the weights in training'
            )


@HOOKS.register_module()
class EMAHook(AveragingHook):
    """Averages the weights after each step of the optimiser; arguments of mmengine's hook.

    What differs: the decay is warmed up, cycles of accumulation count as one step, a step that is left out because it
    is not finite is no step of the average, and nothing waits for the device. The first step of the average takes the
    weights over.

    Args:
        ema_type: ``'ExponentialMovingAverage'``; ``'MomentumAnnealingEMA'``, with a momentum of at least
            ``gamma / (gamma + steps)``; ``'StochasticWeightAverage'``, the mean of all.
        momentum: How far the average moves towards the weights in a step, in (0, 1).
        begin_iter: First iteration that is averaged, counted from 1; 0 is the first, too.
        begin_epoch: First epoch that is averaged, likewise; give one of the two.
        strict_load: A resumed checkpoint must have an average of each parameter.
        update_buffers: Average buffers (statistics of batch normalisation), too.
        gamma: Of ``'MomentumAnnealingEMA'``, at least 1.
        interval: Steps of the optimiser between two of the average, at least 1.
        warm_up: Of ``'ExponentialMovingAverage'``: the decay is at most (1 + n) / (10 + n) after n steps of the
            average.
        evaluate_raw: Validate the weights in training, too, as ``raw/<name>``.

    Raises:
        ConfigError: A value outside these; two hooks that average.
    """

    def __init__(
        self,
        ema_type: str = 'ExponentialMovingAverage',
        momentum: float = 0.0002,
        begin_iter: int = 0,
        begin_epoch: int = 0,
        strict_load: bool = False,
        update_buffers: bool = False,
        gamma: int = 100,
        interval: int = 1,
        warm_up: bool = True,
        evaluate_raw: bool = True,
    ) -> None:
        super().__init__(update_buffers, evaluate_raw, strict_load)
        if ema_type not in _TYPES:
            raise ConfigError(f'EMAHook: there is no ema_type={ema_type!r}{did_you_mean(str(ema_type), _TYPES)}')
        if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 < momentum < 1:
            raise ConfigError(
                f'EMAHook: momentum must be above 0 and below 1, got {momentum!r}; it is 1 less the decay, such as '
                '0.0002'
            )
        for name, value, least in (
            ('begin_iter', begin_iter, 0),
            ('begin_epoch', begin_epoch, 0),
            ('gamma', gamma, 1),
            ('interval', interval, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f'EMAHook: {name} must be a whole number of at least {least}, got {value!r}')
        if begin_iter and begin_epoch:
            raise ConfigError('EMAHook: give begin_iter or begin_epoch, not both')
        self.ema_type, self.momentum, self.gamma, self.warm_up = ema_type, float(momentum), gamma, warm_up
        self.begin_iter, self.begin_epoch, self.interval = begin_iter, begin_epoch, interval

    def _begin_late(self, runner: Any) -> None:
        if runner.iter >= self.begin_iter and runner.epoch >= self.begin_epoch:
            self.average.start()
            self._steps = 1

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """A step of the average, if the optimiser has made one."""
        if not runner.is_between_steps or not getattr(runner.optim_wrapper, 'has_stepped', True):
            return
        if runner.iter + 1 < self.begin_iter or runner.epoch + 1 < self.begin_epoch:
            return
        if self._steps % self.interval == 0:
            self.average.update(self._share())
        self._steps += 1

    def _share(self) -> float:
        updates = self._steps // self.interval
        if self.ema_type == 'StochasticWeightAverage':
            return 1 / (updates + 1)
        if self.ema_type == 'MomentumAnnealingEMA':
            return max(self.momentum, self.gamma / (self.gamma + self._steps))
        return ema_share(updates, self.momentum, self.warm_up)

    def after_train_epoch(self, runner: Any) -> None:
        """Averaged statistics become those of all ranks."""
        self.average.agree()


@HOOKS.register_module()
class SWAHook(AveragingHook):
    """Averages the weights at the ends of the last epochs, all with the same part (Izmailov et al., "Averaging Weights
    Leads to Wider Optima and Better Generalization", arXiv 1803.05407).

    Statistics of batch normalisation do not belong to averaged weights: add ``PreciseBNHook``.

    Args:
        begin_epoch: Epochs that are trained before, at least 0, or their share of the run, in (0, 1): with 0.75 of 20,
            the ends of epochs 16 to 20 are averaged.
        swa_lr: Learning rate from then on, above 0; schedules do not act any more. Groups of parameters keep the ratios
            of their rates. None: schedules go on.
        anneal_epochs: Epochs in which the rate goes to ``swa_lr``, along a cosine, from where it was, 0 or more; 0: at
            once.
        update_buffers: Average buffers, too.
        evaluate_raw: Validate the weights in training, too, as ``raw/<name>``.
        strict_load: A resumed checkpoint must have an average of each parameter.

    Raises:
        ConfigError: A value outside these; two hooks that average.
    """

    def __init__(
        self,
        begin_epoch: int | float = 0.75,
        swa_lr: float | None = None,
        anneal_epochs: float = 0,
        update_buffers: bool = False,
        evaluate_raw: bool = True,
        strict_load: bool = False,
    ) -> None:
        super().__init__(update_buffers, evaluate_raw, strict_load)
        is_count = isinstance(begin_epoch, int) and not isinstance(begin_epoch, bool) and begin_epoch >= 0
        if not is_count and not (isinstance(begin_epoch, float) and 0 < begin_epoch < 1):
            raise ConfigError(
                'SWAHook: begin_epoch must be a whole number of at least 0, or a share of the run above 0 and below 1; '
                f'got {begin_epoch!r}'
            )
        if swa_lr is not None and (isinstance(swa_lr, bool) or not swa_lr > 0):
            raise ConfigError(f'SWAHook: swa_lr must be above 0, or None; got {swa_lr!r}')
        if isinstance(anneal_epochs, bool) or not anneal_epochs >= 0:
            raise ConfigError(f'SWAHook: anneal_epochs must be 0 or more, got {anneal_epochs!r}')
        self.begin_epoch, self.swa_lr, self.anneal_epochs = begin_epoch, swa_lr, anneal_epochs
        self._groups: list[dict[str, Any]] = []  # settings of each when the phase began

    def first_epoch(self, max_epochs: int) -> int:
        """Number, from 0, of the first epoch whose end is averaged.

        Args:
            max_epochs: Of the run.
        """
        if isinstance(self.begin_epoch, int):
            return self.begin_epoch
        return math.floor(self.begin_epoch * max_epochs + 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """The average, its counter, and the learning rates when its phase began."""
        return {**super().state_dict(), 'groups': [dict(group) for group in self._groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        self._groups = [dict(group) for group in state.get('groups', [])]

    def before_train(self, runner: Any) -> None:
        """Check that there is something to average, and for statistics that would not fit."""
        super().before_train(runner)
        first = self.first_epoch(runner.max_epochs)
        if first >= runner.max_epochs:
            raise ConfigError(
                f'SWAHook: begin_epoch={self.begin_epoch} leaves no epoch of {runner.max_epochs} to average; lower it'
            )
        is_estimated = any(type(hook).__name__ == 'PreciseBNHook' for hook in runner.hooks)
        if not is_estimated and not self.update_buffers and trained_norms(unwrap(runner.model)):
            runner.logger.warning(
                'SWAHook: the averaged weights get the statistics of batch normalisation of the last epoch, which are '
                "not theirs; add dict(type='PreciseBNHook') to custom_hooks"
            )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the learning rate; whatever schedules have set does not count."""
        first = self.first_epoch(runner.max_epochs)
        if self.swa_lr is None or runner.epoch < first:
            return
        optimizer = runner.optim_wrapper.optimizer
        groups = optimizer.param_groups
        if not self._groups:
            self._groups = [_settings(group, optimizer.defaults.get('lr')) for group in groups]
            how = 'constant' if not self.anneal_epochs else f'reached in {self.anneal_epochs:g} epoch(s)'
            runner.logger.info(
                f'SWAHook: from epoch {runner.epoch + 1} on weights are averaged; learning rate {self.swa_lr:g}, {how}'
            )
        length = len(runner.train_dataloader)
        passed = (runner.epoch - first) + batch_idx / length
        share = min(passed / self.anneal_epochs, 1.0) if self.anneal_epochs else 1.0
        for group, kept in zip(groups, self._groups):
            goal = self.swa_lr * kept['ratio']
            # No rounding where the way is over.
            rate = goal if share == 1 else goal + (kept['lr'] - goal) * (1 + math.cos(math.pi * share)) / 2
            _set_rate(group, rate)
            group.update({name: kept[name] for name in _SCHEDULED if name in kept})

    def after_train_epoch(self, runner: Any) -> None:
        """Take the weights into the average, if it is time."""
        if runner.epoch >= self.first_epoch(runner.max_epochs):
            self.average.update(1 / (self._steps + 1))
            self._steps += 1
        self.average.agree()


def _settings(group: dict[str, Any], base: Any) -> dict[str, Any]:
    """Of a group of parameters: its rate, the ratio of that to the optimiser's, and what else schedules may change."""
    first, rate = (float(group.get(name, group['lr'])) for name in ('initial_lr', 'lr'))
    ratio = first / float(base) if base else 1.0
    return {'lr': rate, 'ratio': ratio} | {name: group[name] for name in _SCHEDULED if name in group}


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group['lr'], torch.Tensor):
        group['lr'].fill_(rate)
    else:
        group['lr'] = rate
