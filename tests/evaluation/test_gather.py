"""Several processes (Gloo) must find, to the bit, what one process finds."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.errors import DataError
from mlcls.evaluation import Evaluator, gather, to_json
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
    kept = torch.tensor([n for n in range(worker.IMAGES) if n not in worker.LEFT_OUT])
    alone = {}
    for kind, options in worker.KINDS.items():
        index = kept if options.get('left_out') else torch.arange(worker.IMAGES)
        alone[kind] = index, json.dumps(to_json(worker.evaluate(index, scores, targets, **options)))
    assert alone['in memory'][1] == alone['in a file'][1] and alone['float16'][1] == alone['float16 in a file'][1]
    for rank, (found, _) in enumerate(ranks):
        assert len(found) == 2 * 7 * 5
        for name, case in found.items():
            index, expected = alone[case['kind']]
            assert json.dumps(case['result']) == expected, (rank, name)
            stored = scores[index].half() if 'float16' in case['kind'] else scores[index]
            assert torch.equal(case['scores'], stored) and case['scores'].dtype == stored.dtype, (rank, name)
            assert torch.equal(case['targets'], targets[index]), (rank, name)
            assert case['left_out'] == (worker.LEFT_OUT if len(index) < worker.IMAGES else ()), (rank, name)


def test_an_error_is_raised_by_every_process(ranks: list[tuple[dict, dict]]) -> None:
    expected = {
        'missing': 'DataError: 1 of 41 images were not evaluated',
        'not finite': 'TrainingError: the model gives scores that are not finite (NaN or infinite) for 2 of 41 images',
        'label': 'DataError: a label must be 1 (present), 0 (absent) or -1 (unknown), not 5',
        'classes': 'ConfigError: the processes scored different numbers of classes: [',
        'none': 'DataError: there is nothing to evaluate: no image was processed',
    }
    for rank, (_, told) in enumerate(ranks):
        for name, words in expected.items():
            assert told[name] == ranks[0][1][name], 'the same words everywhere'
            assert told[name].startswith(words), name
        if rank == 1:
            assert 'no room for a temporary file' in told['disk'] and 'No space left on device' in told['disk']
        else:
            assert told['disk'].startswith('DataError: process 1 has no room on its disk')


def test_gathering_is_quick(ranks: list[tuple[dict, dict]]) -> None:
    """40,000 x 80: 0.2 s are allowed on two processes that have a core each; here cores may be shared."""
    seconds = [float(told['seconds']) for _, told in ranks]
    assert max(seconds) < 0.2 * len(ranks), f'{max(seconds):.3f} s: has an object been pickled?'


def test_one_process_is_not_copied() -> None:
    rows = torch.rand(3, 2), torch.zeros(3, 2, dtype=torch.int8), torch.arange(3)
    found = gather_rows(*rows, 3)
    assert [tensor.data_ptr() for tensor in found[:2]] == [tensor.data_ptr() for tensor in rows[:2]]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_rows_change_places_in_bounded_memory(size: int, classes: int, chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = torch.from_numpy(rng.integers(0, size, rng.integers(1, 60)))
    scores = torch.rand(len(index), classes)
    targets = torch.randint(-1, 2, (len(index), classes), dtype=torch.int8)
    before = scores.clone(), targets.clone()
    place = scores.data_ptr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, '_CHUNK', chunk)
        found = gather_rows(scores, targets, index, size, left_out=True)
    first = [index.tolist().index(image) for image in range(size) if image in index.tolist()]
    assert torch.equal(found.scores, before[0][first]) and torch.equal(found.targets, before[1][first])
    assert found.left_out == tuple(image for image in range(size) if image not in index.tolist())
    assert found.scores.data_ptr() == place, 'in the tensors that were given'


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
