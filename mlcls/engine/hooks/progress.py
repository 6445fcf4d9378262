"""A progress bar, on a terminal only."""

from __future__ import annotations

import logging
import sys
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mlcls.engine.logs import ConsoleHandler, on_terminal
from mlcls.registry import HOOKS


def _is_no_step(record: logging.LogRecord) -> bool:
    return not getattr(record, 'is_step', False)


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows how far the training or evaluation is and how long it will take.

    Without a terminal it does nothing and the log lines of every few steps are printed instead.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def before_run(self, runner: Any) -> None:
        """Start the bar; from now on step lines go to the log file alone."""
        if not (is_main_process() and on_terminal()):
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn('{task.fields[note]}'),
            transient=True,
        )
        self._progress.start()
        for handler in runner.logger.handlers:
            if isinstance(handler, ConsoleHandler):
                handler.setStream(sys.stdout)  # the bar's own stdout now, which prints above the bar
                handler.addFilter(_is_no_step)

    def before_train(self, runner: Any) -> None:
        """One bar for all epochs."""
        self._start('train', runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance; the loss is read as seldom as the eye needs it."""
        if self._progress is None:
            return
        note = None
        if outputs and 'loss' in outputs and runner.iter % 10 == 0:
            note = f'epoch {runner.epoch + 1}/{runner.max_epochs} loss {outputs["loss"].item():.4f}'
        self._progress.update(self._task, completed=runner.iter + 1, **({} if note is None else {'note': note}))

    def before_test(self, runner: Any) -> None:
        """A bar for the test."""
        self._start('test', len(runner.test_dataloader), 0)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance."""
        if self._progress is not None:
            self._progress.update(self._task, completed=batch_idx + 1)

    def after_run(self, runner: Any) -> None:
        """Remove the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar, also when the run ends by an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start(self, name: str, total: int, completed: int) -> None:
        if self._progress is not None:
            self._task = self._progress.add_task(name, total=total, completed=completed, note='')
