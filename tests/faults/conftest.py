"""Fixtures of the faults: a nursery for the session, and a run that nothing happened to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Nursery, Runs, outcome


@pytest.fixture(scope='session')
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture(scope='session')
def runs(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(nursery, tmp_path_factory.mktemp('faults'))


@pytest.fixture(scope='session')
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run comes to that nothing happens to."""
    work = tmp_path_factory.mktemp('whole') / 'run'
    child = runs.run(work)
    assert child.code == 0, child.text
    return outcome(work)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / f'run_{tmp_path.name}'
