"""Several processes (Gloo) must find, to the bit, what one process finds."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mlcls.errors import DataError
from mlcls.evaluation import Evaluator, to_json
from mlcls.evaluation.gather import first_rows, gather_rows

HERE = Path(__file__).parent


@pytest.fixture(scope='module')
def worker() -> ModuleType:
    """The worker's functions, without relying on how pytest imports test folders."""
    spec = importlib.util.spec_from_file_location('gather_worker', HERE / 'gather_worker.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module', params=[2, 3])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict, dict]]:
    """What each of 2 or 3 processes found, and which errors it met."""
    world, folder = request.param, tmp_path_factory.mktemp(f'world{request.param}')
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(HERE.parents[1]), *sys.path]),
        'OMP_NUM_THREADS': '1',
    }
    command = [sys.executable, str(HERE / 'gather_worker.py')]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(world), str(folder)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(world)
    ]
    try:
        for process in started:
            _, complaint = process.communicate(timeout=180)
            assert process.returncode == 0, complaint[-3000:]
    finally:
        for process in started:
            process.kill()
    return [
        (torch.load(folder / f'{rank}.pt'), json.loads((folder / f'{rank}.json').read_text())) for rank in range(world)
    ]


def test_bit_equal_to_one_process(ranks: list[tuple[dict, dict]], worker: ModuleType) -> None:
    scores, targets = worker.rows()
    alone = json.dumps(to_json(worker.evaluate(torch.arange(worker.IMAGES), scores, targets)))
    for rank, (found, _) in enumerate(ranks):
        assert len(found) == 12
        for name, case in found.items():
            assert json.dumps(case['result']) == alone, (rank, name)
            assert torch.equal(case['scores'], scores) and torch.equal(case['targets'], targets), (rank, name)


def test_an_error_is_raised_by_every_process(ranks: list[tuple[dict, dict]]) -> None:
    expected = {
        'missing': 'DataError: 1 of 41 images were not evaluated',
        'not finite': 'TrainingError: the model gives scores that are not finite (NaN or infinite) for 2 of 41 images',
        'label': 'DataError: a label must be 1 (present), 0 (absent) or -1 (unknown), not 5',
        'classes': 'ConfigError: the processes scored different numbers of classes: [',
        'none': 'DataError: there is nothing to evaluate: no image was processed',
    }
    for _, told in ranks:
        assert told == ranks[0][1], 'the same words everywhere'
        for name, words in expected.items():
            assert told[name].startswith(words), name


def test_one_process_is_not_copied() -> None:
    rows = torch.rand(3, 2), torch.zeros(3, 2, dtype=torch.int8), torch.arange(3)
    assert all(a is b for a, b in zip(gather_rows(*rows), rows, strict=True))


def test_first_rows() -> None:
    index = torch.tensor([2, 0, 2, 1, 0])
    assert first_rows(index, 3).tolist() == [1, 3, 0]
    assert first_rows(index, 5).tolist() == [1, 3, 0, 5, 5]
    with pytest.raises(DataError, match=r'2 rows have an index outside the dataset of 2 images \(the first: 2\)'):
        first_rows(index, 2)


def test_an_evaluator_is_reusable_after_a_gather_failed() -> None:
    evaluator = Evaluator({'type': 'AveragePrecision'})
    evaluator.process(torch.rand(2, 2), torch.ones(2, 2), torch.tensor([0, 5]))
    with pytest.raises(DataError, match='outside the dataset'):
        evaluator.evaluate(2)
    evaluator.process(torch.rand(2, 2), torch.ones(2, 2), torch.arange(2))
    assert evaluator.evaluate(2).metrics == {'multi-label/mAP': 100.0}
