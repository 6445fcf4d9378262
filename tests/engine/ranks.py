"""Starts processes of one run, as torchrun would but without it, and hooks that end some of them."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmengine.hooks import Hook

from mlcls.registry import HOOKS
from tests.faults.harness import Child, Nursery

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'


@HOOKS.register_module(force=True)
class EndAt(Hook):
    """Ends one rank by a signal, before a step or in a validation; once, if a file is named that remembers it."""

    priority = 'LOWEST'

    def __init__(
        self, rank: int = 1, iteration: int = -1, in_val_of: int = -1, number: str = 'SIGKILL', once: str = ''
    ) -> None:
        self.rank, self.iteration, self.in_val_of, self.once = rank, iteration, in_val_of, once
        self.number = getattr(signal, number)

    def _end(self, runner: Any) -> None:
        if runner.rank != self.rank or (self.once and Path(self.once).exists()):
            return
        if self.once:
            Path(self.once).touch()
        runner.checkpoint_writer.settle()  # what is killed with a checkpoint half written is tried elsewhere
        os.kill(os.getpid(), self.number)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.iteration:
            self._end(runner)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.epoch == self.in_val_of:
            self._end(runner)


@HOOKS.register_module(force=True)
class LossLines(Hook):
    """Writes the mean over the ranks of each step's loss to a file, one a line, in full precision."""

    priority = 'LOWEST'

    def __init__(self, file: str) -> None:
        self.file = file

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        from mmengine.dist import all_reduce

        loss = outputs['loss'].detach().clone().double()
        all_reduce(loss, 'mean')
        if runner.rank == 0:
            with open(self.file, 'a') as file:
                file.write(f'{loss.item()!r}\n')


@HOOKS.register_module(force=True)
class SeenImages(Hook):
    """Writes the images of each step, in the order of the epoch, to a file named by the number of ranks."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        from mmengine.dist import all_gather_object

        own = data_batch['index'].tolist()
        parts = all_gather_object(own)
        if runner.rank == 0:
            with open(self.folder / f'{runner.world_size}.txt', 'a') as file:
                file.write(f'{[image for images in zip(*parts) for image in images]}\n')


@HOOKS.register_module(force=True)
class PauseAt(Hook):
    """Before a step, rank 0 says by ``FILE.reached`` that it is there, and waits until FILE is."""

    priority = 'LOWEST'

    def __init__(self, iteration: int, file: str) -> None:
        self.iteration, self.file = iteration, Path(file)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.iteration and runner.rank == 0 and not self.file.exists():
            runner.checkpoint_writer.settle()
            self.file.with_suffix('.reached').touch()
            while not self.file.exists():
                time.sleep(0.02)


@HOOKS.register_module(force=True)
class DiskIsFull(Hook):
    """Lets the first writes of files of this name fail, as on a full disk."""

    def __init__(self, name: str, times: int = 1) -> None:
        self.name, self.times = name, times

    def before_train(self, runner: Any) -> None:
        from mlcls.engine import writer

        plain = writer.write_checked

        def write(path: Path, content: Any) -> None:
            if path.name == self.name and self.times > 0:
                self.times -= 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            plain(path, content)

        writer.write_checked = write  # type: ignore[assignment]


def losses_in(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().split()]


def environment(**others: Any) -> dict[str, str]:
    """Of a process that can import tests; what other launchers may have left is not in it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(('TORCHELASTIC_', 'SLURM_'))}
    return {**kept, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), **{key: str(each) for key, each in others.items()}}


def options_of(**settings: Any) -> list[str]:
    """Command-line arguments; a double underscore stands for a dot."""
    return ['--cfg-options', *(f'{name.replace("__", ".")}={value!r}' for name, value in settings.items())]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@cache
def nursery() -> Nursery:
    """Forks ranks: loading everything anew for each would take most of the time of a test."""
    made = Nursery()
    atexit.register(made.close)
    return made


@cache
def outputs() -> Path:
    """For what ranks say; gone with this process."""
    folder = tempfile.TemporaryDirectory(prefix='ranks_')
    atexit.register(folder.cleanup)
    return Path(folder.name)


def start(count: int, *arguments: Any, **others: Any) -> list[Child]:
    """Ranks of tools/train.py with ``--launcher pytorch`` and the hooks of this module."""
    return _start(count, [TOOLS / 'train.py', *arguments, '--launcher', 'pytorch'], others)


def _start(count: int, command: Sequence[Any], others: Mapping[str, Any]) -> list[Child]:
    folder = Path(tempfile.mkdtemp(dir=outputs()))
    shared = dict(WORLD_SIZE=count, MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port(), **others)
    children = []
    for rank in range(count):
        output, env = folder / f'{rank}.txt', environment(RANK=rank, LOCAL_RANK=rank, **shared)
        answer = nursery().ask(do='start', command=list(map(str, command)), env=env, output=str(output))
        children.append(Child(nursery(), answer['pid'], output))
    return children


def launch(*command: Any, processes: int = 2) -> SimpleNamespace:
    """What `torchrun` gives, sooner: ``returncode`` and, of all ranks, ``stdout``, with all that they said."""
    results = wait(_start(processes, command, {}))
    codes = [code for code, _ in results if code != 0]
    return SimpleNamespace(returncode=codes[0] if codes else 0, stdout='\n'.join(text for _, text in results))


def wait(ranks: list[Child], seconds: float = 240) -> list[tuple[int | None, str]]:
    """Exit codes and outputs; ranks that do not end are killed and have the code of that."""
    end = time.monotonic() + seconds
    for rank in ranks:
        rank.wait(max(end - time.monotonic(), 0.1))
    for rank in ranks:
        rank.kill()
    return [(rank.code, rank.text) for rank in ranks]


def run(count: int, *arguments: Any, **others: Any) -> str:
    """Train with so many ranks, which must all end well; the output of rank 0."""
    results = wait(start(count, *arguments, **others))
    assert all(code == 0 for code, _ in results), '\n'.join(text for _, text in results)
    return results[0][1]


if __name__ == '__main__':
    import importlib
    from runpy import run_path

    importlib.import_module('tests.engine.ranks')  # registers the hooks under the name that configs find
    sys.argv[0] = str(TOOLS / 'train.py')
    run_path(sys.argv[0], run_name='__main__')
