"""Processes of a run that die, or are stopped, alone: the others do not wait for ever."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import FULL, Child, Runs, difference, fault, outcome, place


@pytest.mark.parametrize('workers', [2])
def test_a_worker_is_killed(runs: Runs, whole: dict[str, Any], work: Path, workers: int) -> None:
    with fault('a data worker killed'):
        options = {'train_dataloader__num_workers': workers, 'train_dataloader__prefetch_factor': 1}
        began = time.monotonic()
        child = runs.start(work, place('kill_worker', at=6), **options)
        assert child.wait(60) is not None, f'it hangs: {child.text}'
        assert child.code == 2 and 'Traceback' not in child.text, child.text
        assert child.says(r'error: data worker \d of 2 died \(killed by signal 9'), child.text
        assert time.monotonic() - began < 60
        runs.check_alive(work)
        runs.finish(work, **options)
        assert difference(outcome(work), whole) == ''


def free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def start_two(runs: Runs, work: Path, *faults: dict[str, Any], on: int = 1, **others: Any) -> list[Child]:
    """Two ranks; what happens, happens to one of them."""
    shared = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port())}
    return [
        runs.start(
            work,
            *(faults if rank == on else ()),
            launcher='pytorch',
            env={**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            train_dataloader__batch_size=2,
            **others,
        )
        for rank in (0, 1)
    ]


def finish_two(runs: Runs, work: Path, **others: Any) -> dict[str, Any]:
    for child in start_two(runs, work, **others):
        assert child.wait() == 0, child.text
    return outcome(work)


@pytest.fixture(scope='module')
def whole_of_two(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return finish_two(runs, tmp_path_factory.mktemp('two') / 'run')


@pytest.mark.parametrize('on', [0, 1] if FULL else [1])
def test_sigterm_to_one_rank(runs: Runs, whole_of_two: dict[str, Any], work: Path, on: int) -> None:
    with fault(f'SIGTERM to rank {on} of 2'):
        children = start_two(runs, work, place('step', nth=3, act=('SIGTERM',)), on=on)
        texts = []
        for child in children:
            assert child.wait(60) == 75, child.text
            assert 'Traceback' not in child.text, child.text
            texts += [line for line in child.text.splitlines() if 'stopped by' in line]
        # Votes are counted beside the next step.
        assert len(texts) == 2 and all('after iteration 5;' in text for text in texts), texts
        runs.check_alive(work)
        assert difference(finish_two(runs, work, resume=True), whole_of_two) == ''


@pytest.mark.parametrize('on', [0, 1] if FULL else [1])
def test_sigkill_of_one_rank(runs: Runs, whole_of_two: dict[str, Any], work: Path, on: int) -> None:
    with fault(f'SIGKILL of rank {on} of 2'):
        children = start_two(runs, work, place('step', nth=4), on=on)
        assert children[on].wait(60) == -signal.SIGKILL, children[on].text
        began = time.monotonic()
        try:
            assert children[1 - on].wait(60) not in (None, 0), children[1 - on].text
        finally:
            if children[1 - on].code is None:
                os.kill(children[1 - on].pid, signal.SIGKILL)
        assert time.monotonic() - began < 60
        runs.check_alive(work)
        assert difference(finish_two(runs, work, resume=True), whole_of_two) == ''
