"""SIGKILL, anywhere: what had been written stays, and the run ends in the same weights."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import FULL, Runs, difference, fault, outcome, place

ITER, BEST = r'iter_\d+\.pth', r'best_.*\.pth'
#: Name, place, and whether it belongs to the usual suite.
PLACES = [
    ('half of the first checkpoint is written', place('half', ITER), False),
    ('half of a later checkpoint is written', place('half', ITER, 2), True),
    ('a checkpoint is written, before the rename', place('replace', ITER, 1), False),
    ('between rename and checksum', place('replace', r'iter_\d+\.pth\.sha256', 1), False),
    ('half of the checksum is written', place('half', r'iter_\d+\.pth\.sha256', 1), False),
    ('before the pointer', place('replace', 'last_checkpoint', 1), True),
    ('before the pointer to the last checkpoint', place('replace', 'last_checkpoint', 5), False),
    ('half of the pointer is written', place('half', 'last_checkpoint', 1), False),
    ('before the old file is deleted', place('unlink', ITER, 0), False),
    ('between deleting the old file and its checksum', place('unlink', r'iter_2\.pth\.sha256'), False),
    ('half of the best checkpoint is written', place('half', BEST), True),
    ('before the rename of the best', place('replace', BEST), False),
    ('between rename and checksum of the best', place('replace', r'best_.*\.sha256'), False),
    ('half of the safetensors is written', place('half', r'.*\.safetensors'), False),
    ('before the rename of the safetensors', place('replace', r'.*\.safetensors'), False),
    ('in the middle of a validation', place('hook', 'before_val_iter', 1), True),
    ('in the last validation', place('hook', 'before_val_iter', 3), False),
    ('in a training step', place('step', nth=8), False),
    ('in a hook after a step', place('hook', 'after_train_iter', 4), False),
    ('in a hook at the end of an epoch', place('hook', 'after_train_epoch', 0), False),
    ('in a hook before all training', place('hook', 'before_train'), False),
    ('in a hook after all training', place('hook', 'after_train'), False),
]


@pytest.mark.parametrize(('name', 'at', 'usual'), PLACES, ids=[name for name, _, _ in PLACES])
def test_killed_at_a_place(
    runs: Runs, whole: dict[str, Any], work: Path, name: str, at: dict[str, Any], usual: bool
) -> None:
    if not (usual or FULL):
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault(f'killed: {name}'):
        killed = runs.run(work, at)
        assert killed.code == -signal.SIGKILL, killed.text
        runs.check_alive(work)
        runs.finish(work)
        assert difference(outcome(work), whole) == ''


@pytest.fixture(scope='module')
def seconds(runs: Runs, whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a run takes here."""
    began = time.monotonic()
    runs.run(tmp_path_factory.mktemp('timed') / 'run')
    return time.monotonic() - began


@pytest.mark.parametrize('number', range(20 if FULL else 6))
def test_killed_at_a_random_instant(runs: Runs, whole: dict[str, Any], work: Path, seconds: float, number: int) -> None:
    count = 20 if FULL else 6
    instant = (number + random.Random(number).random()) / count * seconds
    with fault(f'killed after {(number + 0.5) / count:.0%} of the time'):
        child = runs.start(work)
        time.sleep(instant)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() in (-signal.SIGKILL, 0)
        runs.check_alive(work)
        runs.finish(work)
        assert difference(outcome(work), whole) == ''


def test_killed_again_and_again(runs: Runs, whole: dict[str, Any], work: Path) -> None:
    """Each attempt dies in the second step that it makes; each comes two steps further."""
    if not FULL:
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault('killed six times in a row'):
        for _ in range(6):
            child = runs.run(work, place('replace', 'last_checkpoint', 1), resume=any(work.glob('*.pth')))
            runs.check_alive(work)
            if child.code == 0:
                break
            assert child.code == -signal.SIGKILL, child.text
        else:
            runs.finish(work)
        assert difference(outcome(work), whole) == ''
