"""The command lines that search a learning rate and a batch size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.mark.parametrize(
    'tool, arguments, words',
    [
        ('find_lr', ['--start', '2'], 'error: --start must be above 0 and below --end, got 2 and 1'),
        ('find_lr', ['--steps', '5'], 'error: --steps must be at least 20, got 5'),
        ('find_batch_size', ['--max', '0'], 'error: --max must be at least 1, got 0'),
        ('find_batch_size', ['--target-memory', '90'], 'error: --target-memory must be above 0 and at most 1, got 90'),
    ],
)
def test_errors_are_one_line(tool: str, arguments: list[str], words: str, tmp_path: Path) -> None:
    command = [sys.executable, str(TOOLS / f'{tool}.py'), 'none.py', *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stderr.strip()) == (2, words)
    assert not list(tmp_path.iterdir())


def test_functions_are_found_in_any_order() -> None:
    """A module named like the function in it would take its place once it is imported."""
    import mlcls.apis

    for flags, name in (('FindLrFlags', 'find_lr'), ('BatchSizeFlags', 'find_batch_size')):
        assert isinstance(getattr(mlcls.apis, flags), type)
        assert callable(getattr(mlcls.apis, name)) and not hasattr(getattr(mlcls.apis, name), '__path__')
        assert name in mlcls.apis.__all__ and flags in mlcls.apis.__all__
