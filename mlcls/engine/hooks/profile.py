"""What a run waits for: data, copies, computing, or the host."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mlcls.engine.trace import STEP, WAIT, Shares, judge, read_trace, summary, with_waiting
from mlcls.errors import ConfigError
from mlcls.fileio import write_atomic
from mlcls.registry import HOOKS

#: Steps without the profiler that say more than one with it.
_ENOUGH = 3


@HOOKS.register_module()
class ProfileHook(Hook):
    """Records some training steps with torch's profiler, and says in words what the run waits for.

    It writes ``work_dir/profile/trace.json.gz``, for https://ui.perfetto.dev or ``chrome://tracing``, and
    ``summary.txt`` with the shares and the most expensive operations. Only rank 0 records. Training goes on afterwards,
    with the same weights as without it. An epoch with fewer steps than ``warm_up + steps`` is recorded after a third of
    it; what is recorded never reaches over the end of an epoch.

    Args:
        warm_up: Steps before the recording, at least 0.
        steps: Steps that are recorded, at least 1.

    Raises:
        ConfigError: A value outside these.
    """

    priority = 'LOWEST'  # what other hooks do before a step and after it is the host's time

    def __init__(self, warm_up: int = 10, steps: int = 20) -> None:
        for name, value, least in (('warm_up', warm_up, 0), ('steps', steps, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f'ProfileHook: {name} must be a whole number of at least {least}, got {value!r}')
        self.warm_up, self.steps = warm_up, steps
        self._is_done = not is_main_process()
        self._plan: tuple[int, int] | None = None
        self._number = 0  # of the step in this epoch, from 0
        self._profiler: Any = None
        self._mark: Any = None
        self._ended: float | None = None  # when the last step did
        self._waited: float | None = None  # seconds, after it
        self._plain: list[tuple[float, float]] = []  # seconds waited and in all, of steps without the profiler

    def before_train_epoch(self, runner: Any) -> None:
        """Choose the steps, if they are in this epoch."""
        self._number, self._ended, self._waited, self._plain = 0, None, None, []
        if self._is_done:
            return
        length = len(runner.train_dataloader)
        left = length - getattr(runner.train_loop, 'batches_done', 0)
        is_last = runner.max_epochs is not None and runner.epoch + 1 >= runner.max_epochs
        self._plan = None
        if left >= min(length, self.warm_up + self.steps) or is_last:
            self._plan = plan(left, self.warm_up, self.steps)
            if self._plan[0] == 0:
                self._start(runner)
                self._set_mark(WAIT)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The data are there."""
        if self._is_done or self._plan is None:
            return
        begin, _ = self._plan
        if self._profiler is None:
            self._waited = None if self._ended is None else perf_counter() - self._ended
            if self._number == begin - 1:  # a step that is not counted: the profiler's own first one
                self._start(runner)
        elif self._number >= begin:
            self._set_mark(STEP)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """The step is over."""
        if self._is_done or self._plan is None:
            return
        begin, steps = self._plan
        now = perf_counter()
        is_plain = self._profiler is None and self._number >= begin // 2
        if is_plain and self._waited is not None and self._ended is not None:
            self._plain.append((self._waited, now - self._ended))
        self._ended, self._number = now, self._number + 1
        if self._profiler is None:
            return
        if self._number == begin + steps:
            self._finish(runner)
        elif self._number >= begin:
            if self._number == begin and torch.cuda.is_available():
                torch.cuda.synchronize()
            self._set_mark(WAIT)

    def after_train_epoch(self, runner: Any) -> None:
        """A loader that gave fewer batches than it said: what there is."""
        if self._profiler is not None:
            self._finish(runner)

    def close(self) -> None:
        """End a recording that the end of the run has cut short; nothing is written."""
        if self._profiler is not None:
            self._stop()

    def _start(self, runner: Any) -> None:
        os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # it complains, on a machine without a GPU, that there is none
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        try:
            self._profiler = profile(activities=activities)
            self._profiler.start()
        except RuntimeError as error:  # another profiler is at work
            self._profiler, self._is_done = None, True
            runner.logger.warning(f'--profile: the profiler cannot start ({error}); training goes on without it')

    def _set_mark(self, name: str | None) -> None:
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
        self._mark = None
        if name is not None and self._profiler is not None:
            self._mark = torch.profiler.record_function(name)
            self._mark.__enter__()

    def _stop(self) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # what the host has launched belongs to the steps
        self._set_mark(None)
        profiler, self._profiler, self._is_done = self._profiler, None, True
        profiler.stop()
        return profiler

    def _finish(self, runner: Any) -> None:
        profiler = self._stop()
        folder = Path(runner.work_dir) / 'profile'
        try:
            folder.mkdir(parents=True, exist_ok=True)
            trace = _export(profiler)
            write_atomic(
                folder / 'trace.json.gz', lambda file: file.write(gzip.compress(json.dumps(trace).encode(), 5))
            )
            shares, operations, count = read_trace(trace['traceEvents'])
            shares = self._complete(shares, runner)
            text = summary(shares, operations, count, self._plain)
            write_atomic(folder / 'summary.txt', lambda file: file.write(text.encode()))
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            runner.logger.warning(f'{folder}: the profile cannot be written ({reason}); training goes on')
            return
        runner.logger.info(f'{judge(shares)} (details in {folder})')

    def _complete(self, shares: Shares, runner: Any) -> Shares:
        """With what the trace does not tell; on a CPU the share of waiting is that of steps without the profiler, which
        makes operations slower and the loader not."""
        workers = int(getattr(runner.train_dataloader, 'num_workers', 0) or 0)
        shares = replace(shares, workers=workers, cores=_cores())
        seconds = sum(total for _, total in self._plain)
        if shares.device != 'cpu' or len(self._plain) < _ENOUGH or seconds <= 0:
            return shares
        return with_waiting(shares, sum(wait for wait, _ in self._plain) / seconds, seconds / len(self._plain))


def plan(left: int, warm_up: int, steps: int) -> tuple[int, int]:
    """Which steps of an epoch to record.

    Args:
        left: Steps that there are, at least 1.
        warm_up: Steps wanted before.
        steps: Steps wanted.

    Returns:
        The first, from 0, and how many, at least 1.
    """
    begin = warm_up if left >= warm_up + steps else min(warm_up, left // 3)
    return begin, max(1, min(steps, left - begin))


def _export(profiler: Any) -> dict[str, Any]:
    """The trace as data, without the name of the machine."""
    with tempfile.TemporaryDirectory(prefix='mlcls_profile_') as folder:
        path = Path(folder) / 'trace.json'
        profiler.export_chrome_trace(str(path))
        trace = json.loads(path.read_bytes())
    trace.pop('host_name', None)
    return trace


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
