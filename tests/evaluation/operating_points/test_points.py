"""Operating points as data: what they accept, decide, write and read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.operating_points import Calibration, OperatingPoints


def points(**changes) -> OperatingPoints:
    settings = {
        'classes': ('cat', 'dog', 'cow'),
        'thresholds': (0.3, 0.5, 0.75),
        'objective': 'f1',
        'source': 'chosen for a test',
        'data_hash': '0123456789abcdef',
        'num_images': 40,
        'positives': (3, 4, 5),
        'intervals': ((0.1, 0.4), (0.5, 0.5), (0.0, 1.0)),
        'notes': ('cow: beware',),
        'figures': {'at 0.5': {'CF1': 61.5}, 'cross-fitted': {'CF1': 62.25}},
        'calibration': Calibration('platt', (1.0, 2.0, 0.5), (0.0, -1.0, 0.25)),
    }
    return OperatingPoints(**(settings | changes))


def same(first: OperatingPoints, second: OperatingPoints) -> bool:
    return json.dumps(first.to_dict()) == json.dumps(second.to_dict())


def test_written_and_read_points_are_the_same():
    written = points()
    read = OperatingPoints.from_dict(json.loads(json.dumps(written.to_dict())), 'file')
    assert same(written, read)
    assert read.thresholds == written.thresholds and read.positives == written.positives
    assert read.intervals[0] == (pytest.approx(0.1), pytest.approx(0.4))
    scores = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read.calibrate(scores), written.calibrate(scores))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_thresholds_are_float32_and_survive_json(values):
    classes = tuple(f'c{i}' for i in range(len(values)))
    written = OperatingPoints(classes, tuple(values))
    assert all(value == float(np.float32(value)) for value in written.thresholds)
    read = OperatingPoints.from_dict(json.loads(json.dumps(written.to_dict())), 'file')
    assert read.thresholds == written.thresholds


def test_a_threshold_of_0_3_is_written_as_0_3():
    assert points().to_dict()['thresholds'] == {'cat': 0.3, 'dog': 0.5, 'cow': 0.75}


def test_reads_what_the_report_copies():
    copied = {'thresholds': {'dog': 0.25, 'cat': 1}, 'source': 'chosen by hand in the report', 'data_hash': 'abc'}
    read = OperatingPoints.from_dict(copied, 'copied')
    assert read.classes == ('dog', 'cat') and read.thresholds == (0.25, 1.0)
    assert (read.objective, read.source, read.data_hash) == ('by hand', 'chosen by hand in the report', 'abc')
    assert read.in_order(('cat', 'dog'), 'copied').thresholds == (1.0, 0.25)


def test_decides_at_the_threshold_in_float32():
    bare = OperatingPoints(('a',), (0.3,))
    at = np.float32(0.3)
    scores = torch.tensor([[float(np.nextafter(at, np.float32(0)))], [float(at)], [0.9]], dtype=torch.float32)
    assert bare.decide(scores).tolist() == [[False], [True], [True]]
    # 0.3 in float64 is below the float32 threshold, but rounds to it.
    assert bare.decide(torch.tensor([[0.3]], dtype=torch.float64)).tolist() == [[True]]
    assert bare.decide(torch.tensor([[0.3]], dtype=torch.float16)).tolist() == [[bool(np.float16(0.3) >= at)]]
    assert bare.calibrate(scores) is scores


def test_decides_after_calibration():
    with_calibration = OperatingPoints(('a',), (0.5,), calibration=Calibration('platt', (1.0,), (2.0,)))
    # sigmoid(logit(p) + 2) >= 0.5 from p = sigmoid(-2) = 0.1192 on
    assert with_calibration.decide(torch.tensor([[0.118], [0.121]])).tolist() == [[False], [True]]


def test_in_order_moves_everything_along():
    moved = points().in_order(('cow', 'cat', 'dog'), 'file')
    assert moved.thresholds == (0.75, float(np.float32(0.3)), 0.5)
    assert moved.positives == (5, 3, 4) and moved.intervals[0] == (0.0, 1.0)
    assert moved.calibration is not None and moved.calibration.slopes == (0.5, 1.0, 2.0)
    assert points().in_order(('cat', 'dog', 'cow'), 'file').thresholds == points().thresholds


def test_classes_are_checked():
    points().check_classes(['cat', 'dog', 'cow'], 'file')
    with pytest.raises(ConfigError, match="f.json: .*another order.*class 0 is 'cat' there and 'dog' here"):
        points().check_classes(('dog', 'cat', 'cow'), 'f.json')
    for check in (points().check_classes, points().in_order):
        with pytest.raises(ConfigError, match="f.json: no threshold for the class 'cast'; did you mean 'cat'?"):
            check(('cast', 'dog', 'cow'), 'f.json')
        with pytest.raises(ConfigError, match="f.json: no threshold for the class 'x' and 1 more"):
            check(('x', 'cat', 'dog', 'y'), 'f.json')
        with pytest.raises(ConfigError, match="f.json: holds a threshold for 'cow', which is no class here"):
            check(('cat', 'dog'), 'f.json')
        with pytest.raises(ConfigError, match="holds a threshold for 'dog' and 1 more classes, which"):
            check(('cat',), 'f.json')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'classes': ()}, 'at least one class'),
        ({'classes': ('cat', 'dog', 'cat')}, "the class 'cat' has more than one threshold"),
        ({'thresholds': (0.1,)}, '1 thresholds are given for 3 classes'),
        ({'thresholds': ()}, '0 thresholds are given for 3 classes'),
        ({'positives': (1,)}, '1 positives are given for 3 classes'),
        ({'intervals': ((0, 1),)}, '1 intervals are given for 3 classes'),
        ({'thresholds': (0.1, 1.5, 0.2)}, "threshold of 'dog' must be in [0, 1], not 1.5"),
        ({'thresholds': (0.1, 0.2, -0.1)}, "threshold of 'cow' must be in [0, 1], not -0.1"),
        ({'thresholds': (float('nan'), 0.2, 0.1)}, "threshold of 'cat' must be in [0, 1], not nan"),
        ({'thresholds': ('0.1', 0.2, 0.1)}, "threshold of 'cat' must be a number in [0, 1], not '0.1'"),
        ({'thresholds': (True, 0.2, 0.1)}, "threshold of 'cat' must be a number in [0, 1], not True"),
        ({'calibration': Calibration('platt', (1.0,), (0.0,))}, 'the calibration is for 1 classes, not 3'),
    ],
)
def test_wrong_points_are_named(changes, message):
    with pytest.raises(ConfigError) as error:
        points(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ([0.1, 0.2], "must hold an object with 'thresholds', not the list [0.1, 0.2]"),
        (None, "must hold an object with 'thresholds', not None"),
        ({}, "holds no 'thresholds'"),
        ({'thresholds': {}}, 'at least one class'),
        ({'thresholds': [0.5, 0.5]}, "'thresholds' must be an object of names and values, but holds the list"),
        ({'threshold': {'a': 0.5}}, "unknown key 'threshold'; did you mean 'thresholds'?"),
        ({'thresholds': {'a': None}}, "the threshold of 'a' must be a number in [0, 1], not None"),
        ({'thresholds': {'a': '0.5'}}, "the threshold of 'a' must be a number in [0, 1], not '0.5'"),
        ({'thresholds': {'a': 2}}, "the threshold of 'a' must be in [0, 1], not 2.0"),
        ({'thresholds': {'a': float('nan')}}, "the threshold of 'a' must be in [0, 1], not nan"),
        ({'thresholds': {'a': 0.5}, 'classes': ['b']}, "name different classes, for example 'a'"),
        ({'thresholds': {'a': 0.5}, 'classes': ['a', 'a']}, "the class 'a' has more than one threshold"),
        ({'thresholds': {'a': 0.5}, 'classes': 'a'}, "'classes' must be a list, but holds 'a'"),
        ({'thresholds': {'a': 0.5}, 'classes': [1]}, "'classes' must be a list of texts, but holds 1"),
        ({'thresholds': {'a': 0.5}, 'source': 3}, "'source' must be a text, but holds 3"),
        ({'thresholds': {'a': 0.5}, 'num_images': 'x'}, "'num_images' must be a whole number, but holds 'x'"),
        ({'thresholds': {'a': 0.5}, 'num_images': True}, "'num_images' must be a whole number, but holds True"),
        ({'thresholds': {'a': 0.5}, 'positives': [-1]}, "'positives' must be a list of whole numbers, 0 or more"),
        ({'thresholds': {'a': 0.5}, 'positives': [1, 2]}, '2 positives are given for 1 classes'),
        ({'thresholds': {'a': 0.5}, 'intervals': [[0.5]]}, "'intervals' must be a list of pairs [low, high]"),
        ({'thresholds': {'a': 0.5}, 'intervals': [[0.6, 0.5]]}, "'intervals' must be a list of pairs [low, high]"),
        ({'thresholds': {'a': 0.5}, 'intervals': [3]}, "'intervals' must be a list of lists of finite numbers"),
        ({'thresholds': {'a': 0.5}, 'figures': {'x': 3}}, "'figures' must be groups of named numbers, but holds 3"),
        ({'thresholds': {'a': 0.5}, 'figures': {'x': {'CF1': 'y'}}}, "'figures' must be groups of named numbers"),
        ({'thresholds': {'a': 0.5}, 'calibration': 'platt'}, "'calibration' must be an object of names and values"),
        ({'thresholds': {'a': 0.5}, 'calibration': {'kind': 'plat'}}, "unknown kind 'plat'; did you mean 'platt'?"),
        ({'thresholds': {'a': 0.5}, 'calibration': {'sort': 'x'}}, "calibration: unknown key 'sort'"),
    ],
)
def test_wrong_files_are_named(data, message):
    with pytest.raises(DataError) as error:
        OperatingPoints.from_dict(data, 'my.json')
    assert message in str(error.value)
    assert str(error.value).startswith('my.json')


def test_scores_of_other_classes_are_refused():
    with pytest.raises(ConfigError, match='1 thresholds are given for 2 classes'):
        OperatingPoints(('a',), (0.5,)).decide(torch.rand(4, 2))
    with pytest.raises(ConfigError, match='the calibration is for 3 classes, not 2'):
        points().decide(torch.rand(4, 2))
    with pytest.raises(DataError, match='NaN'):
        points().decide(torch.full((2, 3), float('nan')))
