"""Log lines and scalars."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import LoggerHook as MMEngineLoggerHook

from mlcls.registry import HOOKS


@HOOKS.register_module()
class LoggerHook(MMEngineLoggerHook):
    """A line each ``interval`` training steps and one a validation; scalars go to every visualizer backend.

    As mmengine's, without its lines about the experiment's name, a line for every few validation batches, and the raw
    dictionary of a test (the table says it).
    """

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Log when ``interval`` steps are over, and at the end of an epoch shorter than that."""
        is_short_end = (
            self.end_of_epoch(runner.train_dataloader, batch_idx) and len(runner.train_dataloader) < self.interval
        )
        if not is_short_end and not self.every_n_inner_iters(batch_idx, self.interval):
            return
        scalars, line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')
        runner.logger.info(line, extra={'is_step': True})
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1, file_path=self.json_log_path)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Nothing: a validation is one line."""

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """One line with the metrics of this validation."""
        shown = '  '.join(f'{name.removeprefix("multi-label/")} {value:.2f}' for name, value in (metrics or {}).items())
        runner.logger.info(f'Epoch(val)   [{runner.epoch}]  {shown}')
        runner.visualizer.add_scalars(dict(metrics or {}), step=runner.epoch, file_path=self.json_log_path)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Nothing: a test ends in a table."""

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Nothing: a test ends in a table."""
