"""Eight shards, two processes (Gloo), 0 to 3 workers each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from .conftest import IMAGES

HERE = Path(__file__).parent
WORLD = 2


@pytest.fixture(scope='module')
def ranks(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[list[int]]]]:
    """What each process read: by mode and number of workers, the image numbers of its epochs."""
    out = tmp_path_factory.mktemp('ranks')
    environment = {**os.environ, 'PYTHONPATH': str(HERE.parents[2]), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(HERE / 'read_worker.py')]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(WORLD), str(shards), str(out)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(WORLD)
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
    return [json.loads((out / f'{rank}.json').read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize('workers', range(4))
def test_evaluation_reads_every_image_exactly_once(ranks: list[dict[str, list[list[int]]]], workers: int) -> None:
    parts = [rank[f'evaluation {workers}'][0] for rank in ranks]
    assert sorted(chain(*parts)) == list(range(IMAGES))
    assert all(parts)


@pytest.mark.parametrize('workers', range(4))
def test_training_reads_equally_many_in_an_order_of_the_epoch(
    ranks: list[dict[str, list[list[int]]]], workers: int
) -> None:
    first, second, again = zip(*(rank[f'training {workers}'] for rank in ranks))
    assert first == again
    assert first != second
    for epoch in (first, second):
        assert [len(part) for part in epoch] == [23, 23]
        assert set(chain(*epoch)) == set(range(IMAGES))
