"""Signals that ask a run to stop: it saves, ends with its code, and goes on in the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import FULL, Runs, difference, fault, outcome, place

CODES = {'SIGTERM': 75, 'SIGUSR1': 75, 'SIGINT': 130}
#: Name, place, which signals belong to the usual suite, and the iteration after which the run stops.
PLACES = [
    ('in a training step', dict(where='step', nth=3), ('SIGUSR1',), '4'),
    ('in the last step of an epoch', dict(where='step', nth=5), (), '6'),
    ('in a hook after a step', dict(where='hook', match='after_train_iter', nth=2), (), '[34]'),
    ('in a hook before training', dict(where='hook', match='before_train'), (), '1'),
    ('in a validation', dict(where='hook', match='before_val_iter', nth=0), ('SIGTERM',), '6'),
    ('in the last batch of a validation', dict(where='hook', match='before_val_iter', nth=1), (), '7'),
    ('in the last validation', dict(where='hook', match='before_val_iter', nth=2), (), '12'),
    # The writer has a thread of its own: training is wherever it is.
    ('while a checkpoint is written', dict(where='half', match=r'iter_\d+\.pth', nth=1), ('SIGINT',), r'\d+'),
    ('while the best is written', dict(where='half', match=r'best_.*\.pth'), (), r'\d+'),
    ('before the rename', dict(where='replace', match=r'iter_\d+\.pth', nth=1), (), r'\d+'),
    ('between rename and checksum', dict(where='replace', match=r'iter_\d+\.pth\.sha256', nth=1), (), r'\d+'),
    ('before the pointer', dict(where='replace', match='last_checkpoint', nth=1), (), r'\d+'),
    ('before the old file is deleted', dict(where='unlink', match=r'iter_\d+\.pth'), (), r'\d+'),
    ('while safetensors are written', dict(where='half', match=r'.*\.safetensors'), (), r'\d+'),
]
CASES = [
    pytest.param(name, at, after, signal, signal in usual, id=f'{signal} {name}')
    for name, at, usual, after in PLACES
    for signal in CODES
]


@pytest.mark.parametrize(('name', 'at', 'after', 'signal', 'usual'), CASES)
def test_stopped_at_a_place(
    runs: Runs, whole: dict[str, Any], work: Path, name: str, at: dict[str, Any], after: str, signal: str, usual: bool
) -> None:
    if not (usual or FULL):
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault(f'{signal} {name}'):
        child = runs.run(work, place(**at, act=(signal,)))
        assert child.code == CODES[signal], child.text
        assert child.says(rf'stopped by {signal} after iteration {after}; everything is in .*\.pth; to go on, run the')
        assert 'Traceback' not in child.text
        runs.check_alive(work)
        runs.finish(work)
        assert difference(outcome(work), whole) == ''


def test_two_sigterms_in_a_row(runs: Runs, whole: dict[str, Any], work: Path) -> None:
    """Schedulers repeat themselves; it stays a stop in order."""
    with fault('two SIGTERMs in a row'):
        child = runs.run(work, place('step', nth=3, act=('SIGTERM', 'SIGTERM')))
        assert child.code == 75 and child.says('stopped by SIGTERM after iteration 4; everything is in'), child.text
        runs.check_alive(work)
        runs.finish(work)
        assert difference(outcome(work), whole) == ''


def test_sigterm_and_then_sigkill(runs: Runs, whole: dict[str, Any], work: Path) -> None:
    """The scheduler's patience is over while the checkpoint is written that it asked for."""
    with fault('SIGTERM, then SIGKILL while it saves'):
        faults = [place('step', nth=4, act=('SIGTERM',)), place('half', r'iter_5\.pth')]
        child = runs.run(work, *faults)
        assert child.code == -9, child.text
        runs.check_alive(work)
        assert runs.finish(work).says(r'resumed from .*iter_4\.pth')
        assert difference(outcome(work), whole) == ''


def test_a_second_ctrl_c_ends_it_at_once(runs: Runs, whole: dict[str, Any], work: Path) -> None:
    if not FULL:
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault('two SIGINTs in a row'):
        child = runs.run(work, place('step', nth=4, act=('SIGINT', 'SIGINT')))
        assert child.code == 130 and 'Traceback' not in child.text, child.text
        runs.check_alive(work)
        assert runs.finish(work).says(r'resumed from .*iter_4\.pth')
        assert difference(outcome(work), whole) == ''


def test_sigterm_when_all_is_done(runs: Runs, whole: dict[str, Any], work: Path) -> None:
    """Nothing is left to be done: the run may just end."""
    if not FULL:
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault('SIGTERM after the last validation'):
        child = runs.run(work, place('hook', 'after_train', act=('SIGTERM',)))
        assert child.code in (0, 75), child.text
        runs.check_alive(work)
        runs.finish(work)
        assert difference(outcome(work), whole) == ''
