"""Runs that things happen to, and what must be true afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcls.fileio import check_checksum, read_checkpoint
from tests.conftest import ROOT, TINY_CONFIG, make_squares

#: The whole set of faults, not only those of the usual suite.
FULL = os.environ.get('MLCLS_FAULTS') == 'full'
#: Fused SGD, randomness in the network and in its batches, a validation each epoch, a checkpoint each second step of
#: which only the newest is kept. 2 epochs of 6 steps.
OPTIONS: dict[str, Any] = {
    'model.data_preprocessor.batch_augments': dict(augments=dict(type='Mixup', alpha=0.8)),
    'model.backbone.drop_path_rate': 0.2,
    'train_dataloader.batch_size': 4,
    'val_dataloader.batch_size': 4,
    'optim_wrapper.optimizer.fused': True,
    'train_cfg.max_epochs': 2,
    'param_scheduler.T_max': 2,
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.checkpoint.minutes': None,
    'default_hooks.checkpoint.max_keep_ckpts': 1,
    'default_hooks.logger.interval': 2,
}
LAST = 'epoch_2.pth'
#: What must be equal, whatever has happened on the way.
COMPARED = ('state_dict', 'optimizer', 'param_schedulers', 'best', 'hooks')


class Nursery:
    """The process that forks runs; see nursery.py."""

    def __init__(self) -> None:
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'MLCLS_CACHE': 'off', 'PYTHONWARNINGS': 'ignore'}
        command = [sys.executable, '-m', 'tests.faults.nursery']
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError('the process that forks runs has ended; its reason is on stderr')
        return json.loads(line)

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


class Runs:
    """Starts runs of one config.

    Args:
        nursery: Forks them.
        folder: For the config, the data and what the runs say.
    """

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self.nursery, self.folder, self._number = nursery, folder, 0
        make_squares(folder / 'squares', train=24, val=8)
        self.config = folder / 'tiny.py'
        self.config.write_text(TINY_CONFIG.format(root=str(folder / 'squares'), work_dir=str(folder / 'unused')))

    def start(
        self,
        work: Path,
        *faults: dict[str, Any],
        resume: bool | str = False,
        env: dict[str, str] | None = None,
        launcher: str = 'none',
        **options: Any,
    ) -> Child:
        """Start a run; dots in the names of options are written as two underscores."""
        self._number += 1
        output = self.folder / f'output_{self._number}.txt'
        given = {**OPTIONS, **{name.replace('__', '.'): value for name, value in options.items()}}
        given = {name: value for name, value in given.items() if value != 'leave out'}
        flags = dict(work_dir=str(work), resume=resume, launcher=launcher)
        answer = self.nursery.ask(
            do='start',
            config=str(self.config),
            flags=flags,
            options=given,
            output=str(output),
            ledger=str(self.folder / f'ledger_{work.name}'),
            faults=faults,
            env=env or {},
        )
        return Child(self.nursery, answer['pid'], output)

    def run(self, work: Path, *faults: dict[str, Any], **others: Any) -> Child:
        """Start a run and wait for its end."""
        child = self.start(work, *faults, **others)
        child.wait()
        return child

    def finish(self, work: Path, **others: Any) -> Child:
        """Go on with a run until it is finished; from the beginning, if nothing had been written."""
        child = self.run(work, resume=has_checkpoints(work), **others)
        assert child.code == 0, child.text
        return child

    def check_alive(self, work: Path) -> None:
        """After a fault: no half file under a final name; one checkpoint at least, if there had been any."""
        ledger = self.folder / f'ledger_{work.name}'
        ever = ledger.read_text().split() if ledger.exists() else []
        loadable = check_files(work)
        assert loadable or not ever, f'no checkpoint is left; there had been {ever}'


class Child:
    """A run in a process of its own."""

    def __init__(self, nursery: Nursery, pid: int, output: Path) -> None:
        self._nursery, self.pid, self._output = nursery, pid, output
        self.code: int | None = None

    def wait(self, seconds: float = 120) -> int | None:
        """Exit code, minus the signal that ended it; None if it still runs."""
        if self.code is None:
            self.code = self._nursery.ask(do='wait', pid=self.pid, seconds=seconds)['code']
        return self.code

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    @property
    def text(self) -> str:
        """All that it has said so far."""
        return self._output.read_text(errors='replace')

    def says(self, pattern: str) -> bool:
        """Whether it has said something."""
        return re.search(pattern, self.text) is not None

    def wait_for_words(self, pattern: str, seconds: float = 60) -> None:
        """Until it says something."""
        wait_until(lambda: self.says(pattern) or self.wait(0) is not None, seconds)
        assert self.says(pattern), self.text


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise AssertionError(f'waited {seconds} seconds in vain')
        time.sleep(0.01)


def has_checkpoints(work: Path) -> bool:
    return any(work.glob('*.pth'))


def check_files(work: Path) -> list[Path]:
    """All files under final names are whole; returns the checkpoints that a run can be resumed from."""
    found = []
    for path in filter(Path.is_file, work.glob('*.pth')):
        check_checksum(path)
        if 'optimizer' in read_checkpoint(path):
            found.append(path)
    for path in work.glob('*.safetensors'):
        from safetensors.torch import load_file

        load_file(path)
    return found


def outcome(work: Path, compared: tuple[str, ...] = COMPARED) -> dict[str, Any]:
    """What a finished run came to: its last checkpoint and its best one."""
    check_files(work)
    last = read_checkpoint(work / LAST)
    assert (work / 'last_checkpoint').read_text().strip() == LAST
    best = read_checkpoint(work / 'best_multi-label_mAP.pth')
    from safetensors.torch import load_file

    weights = load_file(work / 'best_multi-label_mAP.safetensors')
    assert not list(work.glob('.*.tmp'))
    return {**{name: last[name] for name in compared}, 'best weights': best['state_dict'], 'safetensors': weights}


def difference(found: Any, wanted: Any, path: str = '') -> str:
    """Where two outcomes first differ, bit for bit; empty if they do not."""
    if isinstance(wanted, torch.Tensor):
        same = isinstance(found, torch.Tensor) and found.dtype == wanted.dtype and torch.equal(found, wanted)
        return '' if same else f'{path}: tensors differ'
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            return f'{path}: {sorted(map(str, found))} instead of {sorted(map(str, wanted))}'
        pairs = [(f'{path}/{key}', found[key], wanted[key]) for key in wanted]
    elif isinstance(wanted, (list, tuple)):
        if len(found) != len(wanted):
            return f'{path}: {len(found)} items instead of {len(wanted)}'
        pairs = [(f'{path}/{number}', a, b) for number, (a, b) in enumerate(zip(found, wanted))]
    else:
        return '' if found == wanted else f'{path}: {str(found)[:80]!r} instead of {str(wanted)[:80]!r}'
    return next((text for name, a, b in pairs if (text := difference(a, b, name))), '')


@contextmanager
def fault(name: str) -> Iterator[None]:
    """Count a fault as tried and, if nothing is wrong after it, as survived; not one that cannot be tried here."""
    try:
        yield
    except pytest.skip.Exception:
        raise
    except BaseException:
        note(f'tried {name}')
        raise
    note(f'tried {name}')
    note(f'survived {name}')


def note(line: str) -> None:
    tally = os.environ.get('MLCLS_FAULTS_TALLY')
    if tally:
        with open(tally, 'a') as file:
            file.write(line.replace('\n', ' ') + '\n')


def place(
    where: str, match: str = '.*', nth: int = 0, act: tuple[str, ...] = ('SIGKILL',), **values: Any
) -> dict[str, Any]:
    """A fault as JSON; see `tests.faults.places.Fault`."""
    return {'where': where, 'match': match, 'nth': nth, 'act': act, **values}
