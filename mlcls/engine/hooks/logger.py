"""Log lines and scalars."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import LoggerHook as MMEngineLoggerHook

from mlcls.errors import ConfigError
from mlcls.registry import HOOKS


@HOOKS.register_module()
class LoggerHook(MMEngineLoggerHook):
    """A line each ``interval`` training steps and one a validation; scalars go to every visualizer backend.

    As mmengine's, without its lines about the experiment's name, a line for every few validation batches, and the raw
    dictionary of a test (the table says it).

    Args:
        interval: Training steps between two lines, at least 1.
        **settings: Others of mmengine's.

    Raises:
        ConfigError: ``interval`` below 1.
    """

    _has_warned = False

    def __init__(self, interval: int = 10, **settings: Any) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ConfigError(f'LoggerHook: interval must be a whole number of at least 1, got {interval!r}')
        super().__init__(interval=interval, **settings)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Log when ``interval`` steps are over, and at the end of an epoch shorter than that."""
        if not self.every_n_inner_iters(batch_idx, self.interval):
            length = len(runner.train_dataloader) if batch_idx + 1 < self.interval else 0  # it takes its time
            if batch_idx + 1 != length:
                return
        scalars, line = runner.log_processor.step_entry(runner, batch_idx)
        runner.logger.info(line, extra={'is_step': True})
        self._keep(runner, scalars, runner.iter + 1)

    def _keep(self, runner: Any, scalars: dict[str, Any], step: int) -> None:
        """Hand numbers to the visualizer; a full disk is no reason to lose a training."""
        try:
            runner.visualizer.add_scalars(scalars, step=step, file_path=self.json_log_path)
        except OSError as error:
            if not self._has_warned:
                runner.logger.warning(
                    f'numbers of the log cannot be written ({error.strerror or error}); training goes on'
                )
            self._has_warned = True

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Nothing: a validation is one line."""

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """One line with the metrics of this validation."""
        shown = '  '.join(
            f'{name.replace("multi-label/", "", 1)} {value:.2f}' for name, value in (metrics or {}).items()
        )
        runner.logger.info(f'Epoch(val)   [{runner.epoch}]  {shown}')
        self._keep(runner, dict(metrics or {}), runner.epoch)

    def after_run(self, runner: Any) -> None:
        """Close the backends. What they could not write they say again then."""
        try:
            super().after_run(runner)
        except OSError as error:
            runner.logger.warning(f'numbers of the log are not complete ({error.strerror or error})')

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Nothing: a test ends in a table."""

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Nothing: a test ends in a table."""
