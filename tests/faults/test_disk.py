"""Disks that are full or cannot be written: training goes on, what was good stays, and it is tried again."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import FULL, Child, Runs, difference, fault, outcome, place, wait_until

FAST = place('retry_fast', seconds=0.1)


def mount(*arguments: str | Path) -> None:
    """Skips where this is not allowed."""
    done = subprocess.run(['mount', *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'cannot mount here: {done.stderr.strip()}')


def unmount(path: Path) -> None:
    subprocess.run(['umount', '--lazy', str(path)], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount('-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder)
    yield folder
    unmount(folder)


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all space but ``leave`` bytes."""
    ballast = disk / 'ballast'
    with ballast.open('wb', buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    if file.write(bytes(size)) < size:
                        break
            except OSError as error:
                assert error.errno == errno.ENOSPC
        if leave:
            file.truncate(file.tell() - leave)
    return ballast


def paused(*iterations: int, folder: Path) -> list[dict[str, Any]]:
    """The run waits before these steps, for a file ``go_N`` each."""
    return [place('hook', 'before_train_iter', n, act=(f'wait:{folder / f"go_{n}"}',)) for n in iterations]


def begin(runs: Runs, work: Path, tmp_path: Path, *more: int) -> Child:
    """A run that waits before its fourth step, when iter_2.pth is complete."""
    child = runs.start(work, FAST, *paused(3, *more, folder=tmp_path))
    wait_until(lambda: (work / 'last_checkpoint').exists() or child.wait(0) is not None)
    assert child.code is None, child.text
    return child


@pytest.mark.parametrize('leave', [0, 700_000] if FULL else [0])
def test_full_for_a_while(runs: Runs, whole: dict[str, Any], small_disk: Path, tmp_path: Path, leave: int) -> None:
    """Also the text log, the lines of JSON and TensorBoard's events have no space then."""
    work = small_disk / f'run_{tmp_path.name}'
    with fault(f'disk full for a while, {leave} bytes left'):
        child = begin(runs, work, tmp_path, 5)
        ballast = fill(small_disk, leave)
        (tmp_path / 'go_3').touch()
        child.wait_for_words(
            r'warning: CHECKPOINT NOT WRITTEN: .*iter_4\.pth: No space left on device\. Training goes on'
        )
        runs.check_alive(work)
        assert (work / 'last_checkpoint').read_text() == 'iter_2.pth\n'
        ballast.unlink()
        # The run stands still in its sixth step: nothing but the retry can write it.
        wait_until(lambda: (work / 'last_checkpoint').read_text() == 'iter_4.pth\n')
        (tmp_path / 'go_5').touch()
        assert child.wait() == 0, child.text
        assert '--- Logging error ---' not in child.text, child.text
        assert difference(outcome(work), whole) == ''


@pytest.mark.parametrize('leave', [0, 700_000] if FULL else [0])
def test_full_to_the_end(runs: Runs, whole: dict[str, Any], small_disk: Path, tmp_path: Path, leave: int) -> None:
    work = small_disk / f'run_{tmp_path.name}'
    with fault(f'disk full to the end, {leave} bytes left'):
        child = begin(runs, work, tmp_path)
        ballast = fill(small_disk, leave)
        (tmp_path / 'go_3').touch()
        assert child.wait() == 2, child.text
        assert child.says(r'Epoch\(val\)   \[2\]'), 'training goes on to its end'
        errors = [line for line in child.text.splitlines() if line.startswith('error: ')]
        assert len(errors) == 1 and 'could not be written (No space left on device)' in errors[0], child.text
        assert '--- Logging error ---' not in child.text and child.text.strip().splitlines()[-1] == errors[0], (
            child.text
        )
        runs.check_alive(work)
        assert (work / 'last_checkpoint').read_text() == 'iter_2.pth\n'
        ballast.unlink()
        runs.finish(work)
        assert difference(outcome(work), whole) == ''


@pytest.mark.parametrize('is_best', [False, True] if FULL else [True])
def test_full_when_the_last_is_written(
    runs: Runs, whole: dict[str, Any], small_disk: Path, tmp_path: Path, is_best: bool
) -> None:
    """The last checkpoint fails at first, and the best comes after it; there is space again before the run ends."""
    work = small_disk / f'run_{tmp_path.name}'
    rule = {'default_hooks__checkpoint__rule': 'less' if is_best else 'greater'}
    with fault(f'disk full when the last checkpoint is written{", which is the best" if is_best else ""}'):
        end = place('hook', 'after_train', act=(f'wait:{tmp_path}/end',))
        child = runs.start(work, FAST, *paused(11, folder=tmp_path), end, **rule)
        wait_until(lambda: child.wait(0) is not None or read(work / 'last_checkpoint') == 'iter_10.pth\n')
        ballast = fill(small_disk)
        (tmp_path / 'go_11').touch()
        child.wait_for_words(r'CHECKPOINT NOT WRITTEN: .*epoch_2\.pth')
        child.wait_for_words(r'CHECKPOINT NOT WRITTEN: .*best_' if is_best else r'Epoch\(val\)   \[2\]')
        runs.check_alive(work)
        ballast.unlink()
        (tmp_path / 'end').touch()
        assert child.wait() == 0, child.text
        found = outcome(work)
        names = ('state_dict', 'optimizer') if is_best else tuple(whole)
        assert difference({name: found[name] for name in names}, {name: whole[name] for name in names}) == ''


def test_full_when_the_best_is_written(runs: Runs, whole: dict[str, Any], small_disk: Path, tmp_path: Path) -> None:
    """No score is claimed for a file that is not there: a resumed run writes the best epoch again."""
    if not FULL:
        pytest.skip('only with MLCLS_FAULTS=full')
    work = small_disk / f'run_{tmp_path.name}'
    with fault('disk full when the best is written'):
        faults = [FAST, place('hook', 'after_val_epoch', act=(f'wait:{tmp_path}/val',)), *paused(7, 8, folder=tmp_path)]
        child = runs.start(work, *faults)
        wait_until(lambda: child.wait(0) is not None or read(work / 'last_checkpoint') == 'iter_6.pth\n')
        ballast = fill(small_disk)
        (tmp_path / 'val').touch()
        child.wait_for_words(r'CHECKPOINT NOT WRITTEN: .*best_')
        (tmp_path / 'go_7').touch()
        child.wait_for_words(r'CHECKPOINT NOT WRITTEN: .*iter_8')
        ballast.unlink()
        wait_until(lambda: read(work / 'last_checkpoint') == 'iter_8.pth\n')
        runs.check_alive(work)
        subprocess.run(['kill', '-9', str(child.pid)], check=True)
        child.wait()
        from mlcls.fileio import read_checkpoint

        assert read_checkpoint(work / 'iter_8.pth')['best'] == {}


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ''


def test_read_only_for_a_while(runs: Runs, whole: dict[str, Any], tmp_path: Path) -> None:
    """The folder of a running training can no longer be written; root, too, is refused by a mount."""
    work = tmp_path / f'run_{tmp_path.name}'
    with fault('read-only folder for a while'):
        child = begin(runs, work, tmp_path, 5)
        _make_read_only(work)
        try:
            (tmp_path / 'go_3').touch()
            child.wait_for_words(
                r'warning: CHECKPOINT NOT WRITTEN: .*iter_4\.pth: Read-only file system\. Training goes on'
            )
            runs.check_alive(work)
        finally:
            unmount(work)
        wait_until(lambda: (work / 'last_checkpoint').read_text() == 'iter_4.pth\n')
        (tmp_path / 'go_5').touch()
        assert child.wait() == 0 and '--- Logging error ---' not in child.text, child.text
        assert difference(outcome(work), whole) == ''


def test_read_only_to_the_end(runs: Runs, whole: dict[str, Any], tmp_path: Path) -> None:
    if not FULL:
        pytest.skip('only with MLCLS_FAULTS=full')
    work = tmp_path / f'run_{tmp_path.name}'
    with fault('read-only folder to the end'):
        child = begin(runs, work, tmp_path)
        _make_read_only(work)
        try:
            (tmp_path / 'go_3').touch()
            assert child.wait() == 2, child.text
            assert child.says(r'Epoch\(val\)   \[2\]') and child.says('error: .*could not be written'), child.text
            runs.check_alive(work)
        finally:
            unmount(work)
        runs.finish(work)
        assert difference(outcome(work), whole) == ''


def _make_read_only(work: Path) -> None:
    """Open files can still be written, as they could on a disk that the system has mounted anew: paths cannot."""
    mount('--bind', work, work)
    mount('-o', 'remount,ro,bind', work)
