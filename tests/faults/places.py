"""Places in a run at which something is made to happen; installed in the process of the run."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Fault:
    """One thing that happens at one place.

    Args:
        where: ``'half'`` (in the middle of writing a file), ``'replace'`` (before a file gets its final name),
            ``'unlink'`` (before one is deleted), ``'hook'`` (when hooks are called), ``'step'`` (after the backward
            pass, before the optimiser's step), or one of the kinds of `_INSTALLED`.
        match: Pattern of the whole name of the file, or of the hooks' method.
        nth: At which passage of the place; 0 is the first.
        act: Names of signals the process sends itself, or ``'wait:PATH'``: go on when there is such a file.
        values: For the other kinds.
    """

    def __init__(self, where: str, match: str = '.*', nth: int = 0, act: tuple[str, ...] = ('SIGKILL',), **values: Any):
        self.where, self.match, self.nth, self.act, self.values = where, match, nth, act, values
        self._passed = 0

    def pass_by(self, name: str) -> bool:
        """Whether it is to happen now."""
        if not re.fullmatch(self.match, name):
            return False
        self._passed += 1
        return self._passed == self.nth + 1

    def happen(self) -> None:
        for action in self.act:
            if action.startswith('wait:'):
                _wait_for(action[5:])
                continue
            os.write(2, f'FAULT {action} at {self.where} {self.match}\n'.encode())
            os.kill(os.getpid(), getattr(signal, action))
            if action == 'SIGKILL':
                time.sleep(60)


def _wait_for(pattern: str, seconds: float = 40) -> None:
    path, end = Path(pattern), time.monotonic() + seconds
    while time.monotonic() < end:
        if list(path.parent.glob(path.name)):
            return
        time.sleep(0.01)
    os.write(2, f'WAITED IN VAIN for {pattern}\n'.encode())


#: The runner of this process, once hooks have been called.
RUNNER: list[Any] = []


def install(specs: list[dict[str, Any]], ledger: str) -> None:
    """Arm faults, and note in a ledger each checkpoint that is complete under its name, from that moment on."""
    faults = [Fault(**{**spec, 'act': tuple(spec.get('act', ('SIGKILL',)))}) for spec in specs]
    _skip_environment()
    _files([fault for fault in faults if fault.where in ('half', 'replace', 'unlink')], ledger)
    _hooks([fault for fault in faults if fault.where == 'hook'])
    _steps([fault for fault in faults if fault.where == 'step'])
    for fault in faults:
        if fault.where in _INSTALLED:
            _INSTALLED[fault.where](**fault.values)


def _skip_environment() -> None:
    """Asking compilers for their versions, and making configs look nice, takes longer than a whole training here."""
    import mmengine.config.config as config
    import mmengine.utils.dl_utils as utils

    utils.collect_env = lambda: {'of': 'a test'}
    config.FormatCode = lambda text, **others: (text, True)


def _files(faults: list[Fault], ledger: str) -> None:
    from mlcls import fileio

    replace, unlink, write_temporary = os.replace, os.unlink, fileio._write_temporary

    def meet(where: str, path: Any) -> None:
        for fault in faults:
            if fault.where == where and fault.pass_by(os.path.basename(os.fspath(path))):
                fault.happen()

    def replacing(source: Any, target: Any, **others: Any) -> None:
        meet('replace', target)
        replace(source, target, **others)
        if os.fspath(target).endswith('.pth'):
            with open(ledger, 'a') as file:
                file.write(f'{os.path.basename(os.fspath(target))}\n')

    def unlinking(path: Any, **others: Any) -> None:
        if os.path.exists(path):
            meet('unlink', path)
        unlink(path, **others)

    def writing(path: Path, write: Callable[[Any], object]) -> Path:
        def in_halves(file: Any) -> None:
            whole = io.BytesIO()
            write(whole)
            content = whole.getvalue()
            file.write(content[: len(content) // 2])
            file.flush()
            meet('half', path)
            file.write(content[len(content) // 2 :])

        return write_temporary(path, in_halves if any(fault.where == 'half' for fault in faults) else write)

    os.replace, os.unlink, fileio._write_temporary = replacing, unlinking, writing


def _hooks(faults: list[Fault]) -> None:
    from mlcls.engine.runner import Runner

    call_hook = Runner.call_hook

    def calling(self: Any, fn_name: str, **kwargs: Any) -> None:
        RUNNER[:] = [self]
        for fault in faults:
            if fault.pass_by(fn_name):
                fault.happen()
        call_hook(self, fn_name, **kwargs)

    Runner.call_hook = calling


def _steps(faults: list[Fault]) -> None:
    from mlcls.engine.optim import OptimWrapper

    step = OptimWrapper.step

    def stepping(self: Any, **kwargs: Any) -> None:
        for fault in faults:
            if fault.pass_by('step'):
                fault.happen()
        step(self, **kwargs)

    OptimWrapper.step = stepping


def _nan_loss(iterations: list[int]) -> None:
    from mlcls.engine.optim import OptimWrapper

    update = OptimWrapper.update_params

    def updating(self: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
        update(self, loss * math.nan if RUNNER[0].iter in iterations else loss, *args, **kwargs)

    OptimWrapper.update_params = updating


def _nan_gradient(iterations: list[int]) -> None:
    from mlcls.engine.optim import OptimWrapper

    backward = OptimWrapper.backward

    def running_backward(self: Any, loss: Any, **kwargs: Any) -> None:
        backward(self, loss, **kwargs)
        if RUNNER[0].iter in iterations:
            gradient = next(p.grad for group in self.param_groups for p in group['params'] if p.grad is not None)
            gradient.view(-1)[0] = math.inf

    OptimWrapper.backward = running_backward


def _nan_input(iterations: list[int]) -> None:
    from mlcls.models.classifier import ImageClassifier

    forward = ImageClassifier.forward

    def running_forward(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if RUNNER[0].iter in iterations and self.training:
            inputs = inputs.clone()
            inputs[0, 0, 3, 3] = math.nan
        return forward(self, inputs, *args, **kwargs)

    ImageClassifier.forward = running_forward


def _leave_out(iterations: list[int]) -> None:
    """The step is not made at all, though it counts: what leaving out a bad one must come to."""
    import torch

    from mlcls.engine.step import TrainStep

    call = TrainStep.__call__

    def calling(self: Any, batch: Any) -> dict[str, Any]:
        return {'loss': torch.zeros(())} if RUNNER[0].iter in iterations else call(self, batch)

    TrainStep.__call__ = calling


def _retry_fast(seconds: float) -> None:
    from mlcls.engine.writer import CheckpointWriter

    CheckpointWriter.__init__.__defaults__ = (seconds, 3)


def _kill_worker(at: int) -> None:
    """SIGKILL for one of the loader's processes, in one of the first steps of an epoch: it is still needed then."""
    import multiprocessing

    from mlcls.engine.step import TrainStep

    call = TrainStep.__call__

    def calling(self: Any, batch: Any) -> dict[str, Any]:
        if RUNNER[0].iter == at:
            victim = multiprocessing.active_children()[0]
            os.kill(victim.pid, signal.SIGKILL)
            os.write(2, b'FAULT a worker is killed\n')
            victim.join()
        return call(self, batch)

    TrainStep.__call__ = calling


_INSTALLED: dict[str, Callable[..., None]] = {
    'nan_loss': _nan_loss,
    'nan_gradient': _nan_gradient,
    'nan_input': _nan_input,
    'leave_out': _leave_out,
    'retry_fast': _retry_fast,
    'kill_worker': _kill_worker,
}
