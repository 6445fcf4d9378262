"""The result, and what of it goes into a results file."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.evaluation import EvaluationResult, Evaluator, Rows, RunFacts, to_json

CLASSES = ('cat', 'dog', 'cow')
INTERVALS: Any = SimpleNamespace(
    bounds={'multi-label/mAP': (40.5, 61.25), 'multi-label/CF1': (float('nan'), 3)},
    draws=1000,
    seed=0,
    confidence=0.95,
    words='resampled over images',
)


def found() -> EvaluationResult:
    torch.manual_seed(0)
    targets = torch.randint(-1, 2, (30, 3), dtype=torch.int8)
    targets[:, 1] = targets[:, 1].clamp(max=0)
    evaluator = Evaluator([{'type': 'AveragePrecision'}, {'type': 'ThresholdMetric'}])
    evaluator.dataset_meta = {'classes': CLASSES}
    return evaluator.result(Rows(torch.rand(30, 3), targets, (4, 8)))


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 700), st.integers(1, 4)), elements=st.sampled_from([-1, 0, 1])))
def test_counts_of_labels(labels: np.ndarray) -> None:
    targets = torch.from_numpy(labels)
    result = EvaluationResult({}, {}, torch.zeros(targets.shape), targets, ('x',) * targets.shape[1], len(targets))
    for value, counts in zip((1, 0, -1), result.label_counts, strict=True):
        assert counts.tolist() == [labels[:, c].tolist().count(value) for c in range(labels.shape[1])]
    assert result.positives == result.label_counts.positives.tolist()
    assert result.unknown == result.label_counts.unknown.tolist()


def test_without_facts() -> None:
    plain = to_json(found())
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain['num_images'], plain['num_images_left_out'], plain['num_classes']) == (30, 2, 3)
    assert plain['absent_classes'] == ['dog'] and plain['unlabelled_classes'] == []
    assert not {'checkpoint', 'intervals', 'bootstrap', 'predictions'} & set(plain)
    assert not {'thresholds', 'calibration', 'data_hash'} & set(plain['protocol'])


def test_facts_stand_at_their_places() -> None:
    facts = RunFacts(
        checkpoint='best.pth',
        thresholds={'source': 'fitted', 'objective': 'f1', 'words': 'on val', 'data_hash': 'ab' * 8},
        calibration='temperature 1.3',
        tta='flip',
        members=1,
        dtype='float32',
        data_hash='cd' * 8,
        weights_hash='ef' * 8,
        predictions='predictions.npz',
        intervals=INTERVALS,
    )
    plain = to_json(found(), facts)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain['checkpoint'] == 'best.pth' and plain['predictions'] == 'predictions.npz'
    assert plain['intervals'] == {'multi-label/mAP': [40.5, 61.25], 'multi-label/CF1': [None, 3.0]}
    assert plain['bootstrap'] == {'draws': 1000, 'seed': 0, 'confidence': 0.95, 'words': 'resampled over images'}
    protocol = plain['protocol']
    assert protocol['thresholds'] == {
        'source': 'fitted',
        'objective': 'f1',
        'words': 'on val',
        'data_hash': 'ab' * 8,
    }
    assert (protocol['calibration'], protocol['test-time augmentation'], protocol['members']) == (
        'temperature 1.3',
        'flip',
        1,
    )
    assert (protocol['dtype'], protocol['data_hash'], protocol['weights_hash']) == ('float32', 'cd' * 8, 'ef' * 8)
    bare = to_json(found())
    assert {key: plain[key] for key in bare if key != 'protocol'} == {
        key: value for key, value in bare.items() if key != 'protocol'
    }
    assert {key: protocol[key] for key in bare['protocol']} == bare['protocol']


@pytest.mark.parametrize('many', [list, tuple])
def test_several_checkpoints_and_no_more_known(many: type) -> None:
    plain = to_json(found(), RunFacts(checkpoint=many(['a.pth', 'b.pth']), weights_hash=many(['1', '2']), members=2))
    assert plain['checkpoint'] == ['a.pth', 'b.pth'] and plain['protocol']['weights_hash'] == ['1', '2']
    assert plain['predictions'] is None and 'intervals' not in plain
    assert plain['protocol']['thresholds'] == dict.fromkeys(('source', 'objective', 'words', 'data_hash'), '')
