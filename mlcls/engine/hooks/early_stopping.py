"""Ending a training that no longer gets better."""

from __future__ import annotations

import math
from typing import Any, Literal

from mmengine.hooks import Hook

from mlcls.engine.averaging import RAW
from mlcls.engine.hooks.checkpoint import is_better_lower
from mlcls.errors import ConfigError, TrainingError, did_you_mean
from mlcls.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(Hook):
    """Ends training after validations without improvement; arguments of mmengine's hook.

    A resumed run goes on counting where it was: best score and patience are in the checkpoint.

    Args:
        monitor: Name of the metric, as in the log (``'multi-label/mAP'``).
        rule: ``'greater'`` or ``'less'`` is better; told by the metric's name if None.
        min_delta: An improvement must be larger than this, at least 0.
        patience: Validations without improvement that are waited for, at least 1.
        strict: End the run with an error if no evaluator gives the metric; otherwise warn once.
        check_finite: Stop when the metric is NaN or infinite.
        stopping_threshold: Stop as soon as the metric is as good as this.

    Raises:
        ConfigError: A value outside these.
    """

    priority = 'LOW'  # before the best checkpoint is written, which has its state

    def __init__(
        self,
        monitor: str = 'multi-label/mAP',
        rule: Literal['greater', 'less'] | None = None,
        min_delta: float = 0.1,
        patience: int = 5,
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
    ) -> None:
        if rule not in (None, 'greater', 'less'):
            raise ConfigError(f"EarlyStoppingHook: rule must be 'greater' or 'less', got {rule!r}")
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ConfigError(f'EarlyStoppingHook: patience must be a whole number of at least 1, got {patience!r}')
        if min_delta < 0:
            raise ConfigError(f'EarlyStoppingHook: min_delta must be at least 0, got {min_delta!r}')
        self.monitor, self.min_delta, self.patience = monitor, min_delta, patience
        self.strict, self.check_finite, self.stopping_threshold = strict, check_finite, stopping_threshold
        self._sign = -1 if rule == 'less' or (rule is None and is_better_lower(monitor)) else 1
        self._best: float | None = None
        self._waited = 0
        self._has_warned = False

    def state_dict(self) -> dict[str, Any]:
        """Best score and validations since."""
        return {'best': self._best, 'waited': self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._best, self._waited = state['best'], int(state['waited'])

    def before_train(self, runner: Any) -> None:
        """Check that there will be something to look at."""
        if runner.val_loop is None:
            raise ConfigError(
                f"EarlyStoppingHook: monitor='{self.monitor}' needs validation, and this run has none; remove the "
                'hook or add val_dataloader, val_cfg and val_evaluator'
            )

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Compare, and stop if it is time."""
        metrics = metrics or {}
        if self.monitor not in metrics:
            self._miss(runner, metrics)
            return
        scores = [float(metrics[self.monitor])]
        if f'{RAW}{self.monitor}' in metrics:  # of averaged weights and those in training, the better are kept
            scores.append(float(metrics[f'{RAW}{self.monitor}']))
        finite = [score for score in scores if math.isfinite(score)]
        reason = self._judge(max(finite, key=lambda score: self._sign * score) if finite else math.nan)
        if reason:
            runner.train_loop.stop_training = True
            runner.train_loop.stop_reason = f'{self.monitor} {reason}'
            runner.logger.info(f'stopped early after epoch {runner.epoch}: {self.monitor} {reason}')

    def _judge(self, score: float) -> str:
        """Why to stop; empty to go on."""
        if not math.isfinite(score):
            return 'is not finite' if self.check_finite else ''
        limit = self.stopping_threshold
        if limit is not None and self._sign * score >= self._sign * limit:
            return f'{score:.2f} has reached {limit:g}'
        if self._best is None or self._sign * (score - self._best) > self.min_delta:
            self._best, self._waited = score, 0
            return ''
        self._waited += 1
        if self._waited < self.patience:
            return ''
        return f'has not improved on {self._best:.2f} by more than {self.min_delta:g} in {self._waited} validation(s)'

    def _miss(self, runner: Any, metrics: dict[str, float]) -> None:
        message = f"EarlyStoppingHook: no evaluator gives '{self.monitor}'{did_you_mean(self.monitor, metrics)}"
        if self.strict:
            raise TrainingError(message)
        if not self._has_warned:
            runner.logger.warning(message)
        self._has_warned = True
