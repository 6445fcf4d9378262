"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mlcls.engine.logs import ConsoleHandler, on_terminal
from mlcls.errors import ConfigError
from mlcls.registry import HOOKS

#: Seconds between two updates of the bar: what an eye can follow, and nothing beside a step.
_UPDATE = 0.2
_GIB = 1024**3


def _is_no_step(record: logging.LogRecord) -> bool:
    return not getattr(record, 'is_step', False)


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows how far training and evaluation are, how long they will take, and what they wait for.

    On a terminal: a bar with the time left, the loss of the last log line, images a second, the share of the time in
    which training waited for data, and the memory taken on the GPU. It reads nothing from the device, and is updated at
    most five times a second. Elsewhere the log lines of every few steps are printed instead, and an evaluation says
    how far it is every ``interval`` seconds.

    Args:
        interval: Seconds between two lines of an evaluation where there is no terminal.

    Raises:
        ConfigError: ``interval`` is not above 0.
    """

    priority = 'LOWEST'

    def __init__(self, interval: float = 60.0) -> None:
        if not interval > 0:
            raise ConfigError(f'ProgressHook: interval must be a number of seconds above 0, got {interval!r}')
        self.interval = interval
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        self._handlers: list[ConsoleHandler] = []
        self._due = 0.0

    def before_run(self, runner: Any) -> None:
        """Start the bar; from now on step lines go to the log file alone."""
        if self._progress is not None or not (is_main_process() and on_terminal()):
            return
        self._progress = _make_bar()
        self._progress.start()
        for handler in runner.logger.handlers:
            if isinstance(handler, ConsoleHandler):
                handler.setStream(sys.stdout)  # the bar's own stdout now, which prints above the bar
                handler.addFilter(_is_no_step)
                self._handlers.append(handler)

    def before_train(self, runner: Any) -> None:
        """One bar for all epochs."""
        self._start('train', runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance, if it is time to; ``outputs`` are not looked at, they may not be computed yet."""
        if self._progress is None:
            return
        now = time.monotonic()
        if now >= self._due or runner.iter + 1 == runner.max_iters:
            self._due = now + _UPDATE
            self._progress.update(self._tasks['train'], completed=runner.iter + 1, note=training_note(runner))

    def before_val(self, runner: Any) -> None:
        """A bar for this validation."""
        self._start('val', len(runner.val_dataloader), 0)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance, if it is time to."""
        self._evaluated(runner, 'val', batch_idx + 1, len(runner.val_dataloader))

    def after_val(self, runner: Any) -> None:
        """Take this validation's bar away."""
        if self._progress is not None and 'val' in self._tasks:
            self._progress.remove_task(self._tasks.pop('val'))
        self._due = 0.0

    def before_test(self, runner: Any) -> None:
        """A bar for the test."""
        self._start('test', len(runner.test_dataloader), 0)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance, if it is time to."""
        self._evaluated(runner, 'test', batch_idx + 1, len(runner.test_dataloader))

    def after_run(self, runner: Any) -> None:
        """Remove the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar, also when the run ends by an error."""
        if self._progress is None:
            return
        self._progress.stop()
        self._progress = None
        self._tasks.clear()
        for handler in self._handlers:
            handler.setStream(sys.stdout)
            handler.removeFilter(_is_no_step)
        self._handlers.clear()

    def _start(self, name: str, total: int | None, completed: int) -> None:
        now = time.monotonic()
        self._due = 0.0 if self._progress is not None else now + self.interval
        if self._progress is not None:
            self._tasks[name] = self._progress.add_task(name, total=total, completed=completed, note='')

    def _evaluated(self, runner: Any, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._due and done < total:
            return
        if self._progress is not None:
            self._due = now + _UPDATE
            if name in self._tasks:
                self._progress.update(self._tasks[name], completed=done, note=gpu_note())
        elif done < total:  # the end has a line of its own
            self._due = now + self.interval
            runner.logger.info(f'{name}: {done} of {total} batches ({done / total:.0%})')


def _make_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Note(ProgressColumn):
        """The only part that gives way on a narrow terminal."""

        def render(self, task: Task) -> Text:
            return Text(task.fields['note'], no_wrap=True, overflow='ellipsis')

    console = Console()
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=20 if console.width >= 110 else 8),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        Note(),
        console=console,
        transient=True,
        refresh_per_second=1 / _UPDATE,
    )


def training_note(runner: Any) -> str:
    """What is shown beside the bar, the most important first, since a narrow terminal cuts the end off."""
    meter = getattr(runner, 'meter', None)
    rates = meter.rates() if meter is not None else None
    last = getattr(meter, 'last', None) or {}
    epoch = f'epoch {runner.epoch + 1}/{runner.max_epochs}' if runner.max_epochs else ''
    loss = last.get('loss')
    words = [f'{epoch} loss {loss:.4f}'.strip() if isinstance(loss, float) else epoch]
    for values, key, text in (
        (rates or {}, 'images_per_second', '{:.0f} images/s'),
        (rates or {}, 'data_share', 'waits for data {:.0%}'),
    ):
        value = values.get(key)
        if isinstance(value, (int, float)) and math.isfinite(value):
            words.append(text.format(value))
    return '  '.join(word for word in [*words, gpu_note()] if word)


def gpu_note() -> str:
    """Memory that this process has taken on its GPU, from the host's own books; empty without a GPU."""
    if not torch.cuda.is_initialized():
        return ''
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return f'GPU {torch.cuda.memory_reserved() / _GIB:.1f}/{total / _GIB:.0f} GiB'
