"""The whole fit: what it gives, says and refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import confusion_counts, precision_recall_f1
from mlcls.evaluation.operating_points import FitSettings, OperatingPoints, fit_operating_points, read_costs
from mlcls.evaluation.operating_points.objectives import EXAMPLES

from . import naive

FAST = FitSettings(bootstrap=20)


def names(number: int) -> list[str]:
    return [f'class {c}' for c in range(number)]


def test_says_everything_about_itself():
    scores, targets = naive.world(500, 5, 1, rare=0.05)
    points = fit_operating_points(scores, targets, names(5), FitSettings('f2', 'platt', bootstrap=20), 'abcdef')
    assert points.objective == 'f2' and points.data_hash == 'abcdef' and points.num_images == 500
    assert points.positives == tuple((targets == 1).sum(dim=0).tolist())
    assert points.source == (
        'chosen for the best F2 of each class on 500 images, after platt calibration, '
        'rare classes shrunk towards the group (strength 5)'
    )
    assert list(points.figures) == ['at 0.5', 'cross-fitted', 'same data'] and len(points.intervals) == 5
    assert list(points.figures['at 0.5']) == ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1']
    assert json.loads(json.dumps(points.to_dict()))['objective'] == 'f2'
    plain = fit_operating_points(scores, targets, names(5), FitSettings('labels=1', shrink=False, bootstrap=0, folds=0))
    assert plain.source == 'chosen for 1 labels an image, each class in proportion to its positives on 500 images'
    assert plain.intervals == () and 'cross-fitted' not in plain.figures and plain.calibration is None


@pytest.mark.parametrize('calibration', [None, 'temperature', 'platt', 'isotonic'])
def test_figures_of_the_same_data_are_what_deciding_gives(calibration):
    """Points read back from JSON decide as the fit counted, and at 0.5 as ThresholdMetric does."""
    scores, targets = naive.world(700, 6, 2, unknown=0.1, rare=0.05)
    fitted = fit_operating_points(scores, targets, names(6), FitSettings(calibration=calibration, bootstrap=0))
    points = OperatingPoints.from_dict(json.loads(json.dumps(fitted.to_dict())), 'file')
    for decisions, name in ((points.decide(scores), 'same data'), (scores >= 0.5, 'at 0.5')):
        counts = confusion_counts(decisions, targets)
        found = precision_recall_f1(counts.tp, counts.fp, counts.fn)
        for measure, value in points.figures[name].items():
            assert value == pytest.approx(getattr(found, measure), abs=1e-9)


@pytest.mark.parametrize('objective', EXAMPLES)
@pytest.mark.parametrize('calibration', [None, 'temperature', 'platt', 'isotonic'])
def test_every_objective_with_every_calibration_on_odd_data(objective, calibration):
    """Absent, all-present, unknown and tied classes, scores of 0 and 1."""
    scores, targets = naive.world(40, 7, 3, rare=0.1)
    targets[:, 0], targets[:, 1], targets[:, 2] = 0, 1, -1
    targets[:, 3] = 0
    targets[5, 3] = 1
    scores[:, 4], scores[:, 5] = 0.5, (scores[:, 5] > 0.5).float()
    settings = FitSettings(objective, calibration, bootstrap=15, folds=3)
    points = fit_operating_points(scores, targets, names(7), settings)
    assert all(0 <= at <= 1 for at in points.thresholds) and len(points.intervals) == 7
    assert points.decide(scores).shape == (40, 7)
    if not objective.startswith('alarms'):
        group = 'no choice of their own' if objective.startswith('labels') else "the group's threshold"
        assert f'no known positive label, so {group}: class 0, class 2' in points.notes
        assert f'no known negative label, so {group}: class 1, class 2' in points.notes
        few = next(note for note in points.notes if note.startswith('fewer than 10 known positives, too few'))
        assert 'class 3 (1)' in few


def test_many_rare_classes_make_one_note():
    scores, targets = naive.world(300, 30, 4, rare=0.004)
    targets[:, :12] = 0
    for c in range(12):
        targets[: c % 3 + 1, c] = 1
    notes = fit_operating_points(scores, targets, names(30), FAST).notes
    few = [note for note in notes if note.startswith('fewer than 10 known positives')]
    assert len(few) == 1 and 'class 0 (1), class 1 (2), class 2 (3)' in few[0] and few[0].endswith(' more')


def test_wide_intervals_are_named():
    scores = torch.linspace(0, 1, 40)[:, None].repeat(1, 2)
    targets = torch.zeros(40, 2, dtype=torch.int8)
    targets[[3, 38], 0] = 1
    targets[20:, 1] = 1
    notes = fit_operating_points(scores, targets, ['odd', 'sure'], FitSettings(shrink=False)).notes
    assert 'the 95 % interval of the threshold is wider than 0.5: odd' in notes


def test_out_of_reach_is_named():
    scores, targets = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(50, 2)
    targets[scores[:, 0] < 0.5, 0] = 1  # backwards: no precision of 0.9 anywhere
    targets[scores[:, 1] >= 0.5, 1] = 1
    notes = fit_operating_points(scores, targets, ['back', 'good'], FitSettings('precision>=0.9', bootstrap=0)).notes
    assert 'precision>=0.9 is out of reach on these data, the nearest threshold is used: back' in notes


@pytest.mark.parametrize('objective', EXAMPLES)
def test_one_image_one_class(objective):
    points = fit_operating_points(torch.tensor([[0.4]]), torch.tensor([[1]]), ['only'], FitSettings(objective))
    assert 'cross-fitted' not in points.figures
    assert 'there is one image only, so nothing to cross-fit on: the figures are of the same data' in points.notes
    if objective not in ('alarms=200', 'cost=5:1'):
        assert bool(points.decide(torch.tensor([[0.4]]))), points.thresholds
    two = fit_operating_points(torch.tensor([[0.4], [0.2]]), torch.tensor([[1], [0]]), ['only'], FitSettings(objective))
    assert 'cross-fitted' in two.figures


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_scores(dtype):
    scores, targets = naive.world(200, 3, 5, rare=0.1)
    scores = scores.to(dtype)
    points = fit_operating_points(scores, targets, names(3), FAST)
    assert points.thresholds == fit_operating_points(scores.float(), targets, names(3), FAST).thresholds
    counts = confusion_counts(points.decide(scores), targets)
    found = precision_recall_f1(counts.tp, counts.fp, counts.fn)
    assert abs(found.CF1 - points.figures['same data']['CF1']) < 1e-9


def test_unknown_labels_count_nowhere():
    """Scores under unknown labels may be anything."""
    scores, targets = naive.world(300, 4, 6, unknown=0.3)
    other = torch.where(targets < 0, torch.rand(300, 4, generator=torch.Generator().manual_seed(1)), scores)
    for objective in ('f1', 'CF1', 'labels=1'):
        first, second = (
            fit_operating_points(each, targets, names(4), FitSettings(objective, bootstrap=20))
            for each in (scores, other)
        )
        # The common grid of thresholds is built from known positives, so even shrunk thresholds agree.
        assert first.to_dict() | {'figures': 0} == second.to_dict() | {'figures': 0}
        assert first.figures['cross-fitted'] == second.figures['cross-fitted']


def test_deterministic():
    scores, targets = naive.world(300, 4, 7)
    first, second = (fit_operating_points(scores, targets, names(4), FAST).to_dict() for _ in range(2))
    assert first == second


def test_costs_from_a_file(tmp_path):
    path = tmp_path / 'costs.json'
    path.write_text('{"class 1": [50, 1]}')
    assert read_costs(path) == {'class 1': (50.0, 1.0)}
    scores, targets = naive.world(500, 3, 8, rare=0.05)
    plain = fit_operating_points(scores, targets, names(3), FitSettings('cost=1:1', bootstrap=0))
    settings = FitSettings('cost=1:1', bootstrap=0, costs=read_costs(path))
    dear = fit_operating_points(scores, targets, names(3), settings)
    assert dear.thresholds[1] < plain.thresholds[1] and dear.thresholds[0] == plain.thresholds[0]
    assert 'some classes have their own' in dear.source
    with pytest.raises(ConfigError, match="costs: 'class 1' is no class"):
        fit_operating_points(scores, targets, 'abc', settings)
    for text, message in (
        ('[1]', 'must hold an object of class names and pairs of costs'),
        ('{"a": 3}', "costs of 'a' must be two numbers, a miss and a false alarm, not 3"),
        ('{"a": [1, "x"]}', "costs of 'a' must be two numbers"),
        ('{', 'is not valid JSON'),
    ):
        path.write_text(text)
        with pytest.raises(DataError) as error:
            read_costs(path)
        assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'objective': 'f'}, "unknown objective 'f'"),
        (
            {'calibration': 'plat'},
            "calibration must be None or one of temperature, platt, isotonic, not 'plat'; did you",
        ),
        ({'shrink': -1}, 'shrink must be True, False or a number of positives, not -1'),
        ({'shrink': 'yes'}, "shrink must be True, False or a number of positives, not 'yes'"),
        ({'folds': 1}, 'folds must be 0 (no cross-fit) or at least 2, not 1'),
        ({'folds': 2.5}, 'folds must be a whole number of at least 0, not 2.5'),
        ({'bootstrap': -1}, 'bootstrap must be a whole number of at least 0, not -1'),
        ({'seed': 'x'}, "seed must be a whole number of at least 0, not 'x'"),
        ({'costs': {'a': (1, 1)}}, "costs of single classes need the objective 'cost=MISS:ALARM', not 'f1'"),
        ({'objective': 'cost=1:1', 'costs': {'a': (1,)}}, "costs of 'a' must be two numbers above 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError) as error:
        FitSettings(**settings)
    assert message in str(error.value)


def test_shrink_as_a_number():
    assert FitSettings().strength == 5 and FitSettings(shrink=False).strength == 0
    assert FitSettings(shrink=12.5).strength == 12.5


@pytest.mark.parametrize(
    ('scores', 'targets', 'classes', 'message'),
    [
        (torch.rand(4), torch.zeros(4), 1, 'scores must have the shape (images, classes), not (4,)'),
        (torch.rand(0, 2), torch.zeros(0, 2), 2, 'there are no images to choose thresholds on'),
        (torch.rand(4, 2), torch.zeros(4, 3), 2, 'scores or decisions are (4, 2), but targets are (4, 3)'),
        (torch.rand(4, 2), torch.full((4, 2), 2), 2, 'a label must be 1 (present), 0 (absent) or -1 (unknown), not 2'),
        (torch.rand(4, 2), torch.full((4, 2), 0.5), 2, 'not 0.5'),
        (torch.full((4, 2), float('nan')), torch.ones(4, 2), 2, 'the scores of 4 of 4 images contain NaN'),
        (torch.tensor([[3.0], [-2.0]]), torch.ones(2, 1), 1, 'scores must be in [0, 1] to choose thresholds, but they'),
        (torch.rand(4, 2), torch.zeros(4, 2), 2, 'none of the 2 classes has a known positive label in the 4 images'),
        (torch.rand(4, 2), torch.full((4, 2), -1), 2, 'none of the 2 classes has a known positive label'),
    ],
)
def test_wrong_data_are_named(scores, targets, classes, message):
    with pytest.raises(DataError) as error:
        fit_operating_points(scores, targets, names(classes))
    assert message in str(error.value)


def test_wrong_number_of_names():
    with pytest.raises(ConfigError, match='3 class names are given for scores of 2 classes'):
        fit_operating_points(torch.rand(4, 2), torch.ones(4, 2), names(3))
    with pytest.raises(ConfigError, match="the class 'a' has more than one threshold"):
        fit_operating_points(torch.rand(4, 2), torch.ones(4, 2), ['a', 'a'], FitSettings(bootstrap=0, folds=0))


def test_scores_in_a_file(tmp_path):
    """Scores that are mapped from a file, and may not be written to."""
    scores, targets = naive.world(300, 5, 9)
    np.save(tmp_path / 'scores.npy', scores.numpy())
    mapped = np.load(tmp_path / 'scores.npy', mmap_mode='c')
    points = fit_operating_points(torch.from_numpy(mapped), targets, names(5), FAST)
    assert points.thresholds == fit_operating_points(scores, targets, names(5), FAST).thresholds
