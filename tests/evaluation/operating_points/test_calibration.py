"""Calibration against scikit-learn, and on scores that are wrong in a known way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.operating_points import Calibration, FitSettings, fit_operating_points
from mlcls.evaluation.operating_points.calibration import EPS, KINDS, logit, sigmoid
from mlcls.evaluation.operating_points.calibration_fit import fit_calibration, isotonic_curve
from mlcls.evaluation.operating_points.view import View

from . import naive


def fit(kind, scores, targets, strength=0.0) -> Calibration:
    return fit_calibration(kind, View(scores, targets), strength)[0]


def log_loss(scores, targets) -> float:
    known = targets >= 0
    p, y = scores.double().clamp(1e-6, 1 - 1e-6)[known], targets[known].double()
    return float(-(y * p.log() + (1 - y) * (1 - p).log()).mean())


def ece(scores, targets) -> float:
    """Mean over classes of the expected calibration error with 10 equal bins."""
    errors = []
    for c in range(scores.shape[1]):
        bins = (scores[:, c].double() * 10).long().clamp(max=9)
        gaps = [scores[bins == b, c].double().sum() - targets[bins == b, c].double().sum() for b in range(10)]
        errors.append(sum(abs(float(gap)) for gap in gaps) / len(scores))
    return float(np.mean(errors))


def miscalibrated(images: int, seed: int, classes: int = 6):
    """Scores whose log-odds are multiplied by 0.4 and shifted by up to 2, differently in each class."""
    scores, targets = naive.world(images, classes, seed, spread=0.0, rare=0.05)
    odds = torch.from_numpy(logit(scores.numpy()))
    return (0.4 * odds + torch.linspace(-2, 2, classes)).sigmoid().float(), targets


@pytest.mark.parametrize('kind', KINDS)
def test_improves_what_is_wrong_on_new_images(kind):
    scores, targets = miscalibrated(4000, 1)
    new_scores, new_targets = miscalibrated(4000, 1001)
    calibrated = fit(kind, scores, targets, 5.0).apply(new_scores)
    assert log_loss(calibrated, new_targets) < log_loss(new_scores, new_targets) - 0.002
    if kind != 'temperature':  # one slope cannot mend shifts of the classes against each other
        assert ece(calibrated, new_targets) < 0.35 * ece(new_scores, new_targets)


@pytest.mark.parametrize('kind', KINDS)
def test_keeps_the_order_of_each_class(kind):
    scores, targets = miscalibrated(500, 2)
    scores[:4] = torch.tensor([0.0, 1.0, 1e-9, 1 - 6e-8])[:, None]
    found = fit(kind, scores, targets, 5.0).apply(scores)
    assert found.dtype == torch.float32 and found.min() >= 0 and found.max() <= 1
    for c in range(scores.shape[1]):
        order = scores[:, c].argsort()
        assert (found[order, c].diff() >= 0).all()


def test_platt_is_logistic_regression_on_smoothed_labels():
    from sklearn.linear_model import LogisticRegression

    scores, targets = naive.world(400, 2, 3, unknown=0.2, rare=0.1)
    found = fit('platt', scores, targets)
    for c in range(2):
        pairs = naive.column(scores, targets, c)
        odds = logit(np.array([score for score, _ in pairs]))[:, None]
        y = np.array([label for _, label in pairs])
        high, low = (y.sum() + 1) / (y.sum() + 2), 1 / (len(y) - y.sum() + 2)
        wanted = np.where(y == 1, high, low)
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        model.fit(np.concatenate([odds, odds]), [1] * len(y) + [0] * len(y), np.concatenate([wanted, 1 - wanted]))
        assert found.slopes[c] == pytest.approx(model.coef_[0, 0], abs=1e-3)
        assert found.offsets[c] == pytest.approx(model.intercept_[0], abs=1e-3)


def test_temperature_is_logistic_regression_without_intercept():
    from sklearn.linear_model import LogisticRegression

    scores, targets = miscalibrated(500, 4, classes=3)
    targets[::7] = -1
    found = fit('temperature', scores, targets)
    known = targets.ravel() >= 0
    model = LogisticRegression(C=np.inf, tol=1e-10, fit_intercept=False, max_iter=1000)
    model.fit(logit(scores.numpy()).ravel()[known][:, None], targets.ravel()[known])
    assert found.slopes == pytest.approx([model.coef_[0, 0]] * 3, abs=1e-3) and found.offsets == (0.0, 0.0, 0.0)
    assert found.describe() == f'temperature {1 / found.slopes[0]:.3f} for all classes'


def test_a_temperature_that_was_applied_is_found_again():
    scores, targets = naive.world(60000, 2, 5, spread=0.0, rare=0.1)
    flat = torch.from_numpy(sigmoid(logit(scores.numpy()) / 3)).float()
    assert 1 / fit('temperature', flat, targets).slopes[0] == pytest.approx(1 / 3, rel=0.03)


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0]), st.integers(0, 1)), min_size=1, max_size=30
    )
)
def test_isotonic_curve_is_that_of_scikit_learn(pairs):
    from sklearn.isotonic import IsotonicRegression

    x, y = (np.array(values) for values in zip(*sorted(pairs)))
    knots, values = isotonic_curve(x, y)
    at = np.linspace(0, 1, 41)
    reference = IsotonicRegression(out_of_bounds='clip').fit(x, y).predict(at)
    np.testing.assert_allclose(np.interp(at, knots, values), reference, atol=1e-9)


def test_isotonic_on_many_scores():
    from sklearn.isotonic import IsotonicRegression

    scores, targets = naive.world(5000, 2, 6)
    found = fit('isotonic', scores, targets)  # with strength 0 the curve stands alone
    assert found.weights == (1.0, 1.0)
    for c in range(2):
        model = IsotonicRegression(out_of_bounds='clip').fit(scores[:, c].double(), targets[:, c].double())
        mine = found.apply(scores)[:, c].numpy()
        np.testing.assert_allclose(mine, model.predict(scores[:, c].double()), atol=1e-6)


@pytest.mark.parametrize('kind', ['platt', 'isotonic'])
def test_rare_classes_lean_on_all_together(kind):
    """A class with three positives is nearer to the pooled curve than its own fit is; one without positives has it."""
    scores, targets = miscalibrated(2000, 7)
    targets[:, 0] = 0
    targets[:, 1] = 0
    targets[scores[:, 1].topk(3).indices, 1] = 1
    own, leaning = fit(kind, scores, targets, 0.0).apply(scores), fit(kind, scores, targets, 5.0).apply(scores)
    pooled = fit(kind, scores, targets, 1e9).apply(scores)
    assert torch.equal(leaning[:, 0], pooled[:, 0]) and torch.equal(own[:, 0], pooled[:, 0])
    assert (leaning[:, 5] - own[:, 5]).abs().max() < 0.1
    if kind == 'isotonic':
        assert (leaning - pooled).abs()[:, 1].sum() < (own - pooled).abs()[:, 1].sum()


def test_a_class_whose_scores_run_backwards_is_calibrated_as_the_others():
    scores, targets = miscalibrated(500, 8, classes=3)
    scores[:, 2] = 1 - scores[:, 2]
    found, notes = fit_calibration('platt', View(scores, targets), 0.0)
    pooled = fit('platt', scores, targets, 1e9)
    assert found.slopes[2] == pytest.approx(pooled.slopes[2]) and min(found.slopes) > 0
    assert notes == [
        'the scores of 1 classes are no higher for their positives than for their negatives; '
        'they are calibrated as all classes together'
    ]
    points = fit_operating_points(scores, targets, 'abc', FitSettings(calibration='platt', bootstrap=0))
    assert notes[0] in points.notes


@pytest.mark.parametrize('kind', KINDS)
def test_separable_and_constant_scores_stay_finite(kind):
    targets = torch.tensor([[0], [0], [1], [1]], dtype=torch.int8)
    for scores in (torch.tensor([[0.0], [0.1], [0.9], [1.0]]), torch.full((4, 1), 0.5), torch.tensor([[0.0]] * 4)):
        found = fit(kind, scores, targets, 5.0).apply(scores)
        assert torch.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize('kind', KINDS)
def test_written_and_read_calibration_is_the_same(kind):
    scores, targets = miscalibrated(300, 9)
    written = fit(kind, scores, targets, 5.0)
    read = Calibration.from_dict(json.loads(json.dumps(written.to_dict())), 'file')
    assert torch.equal(read.apply(scores), written.apply(scores)) and read.describe() == written.describe()
    moved = read.select([3, 0, 1, 2, 5, 4])
    assert torch.equal(moved.apply(scores[:, [3, 0, 1, 2, 5, 4]]), written.apply(scores)[:, [3, 0, 1, 2, 5, 4]])


def test_types_blocks_and_edges(monkeypatch):
    from mlcls.evaluation.operating_points import calibration as module

    scores, targets = miscalibrated(300, 10)
    found = fit('isotonic', scores, targets, 5.0)
    whole = found.apply(scores)
    monkeypatch.setattr(module, '_PIECE', 100)
    assert torch.equal(found.apply(scores), whole)
    assert torch.equal(found.apply(scores.half()), found.apply(scores.half().float()))
    assert torch.equal(found.apply(scores.bfloat16()), found.apply(scores.bfloat16().float()))
    assert found.apply(scores[:0]).shape == (0, 6)
    bad = Calibration('platt', (1.0,), (0.0,)).apply(torch.tensor([[0.0], [1.0], [float('nan')]]))
    assert bad[0] == pytest.approx(EPS, rel=1e-3) and bad[1] == pytest.approx(1 - EPS) and bad[2].isnan()
    with pytest.raises(ConfigError, match='must have the shape'):
        found.apply(scores[0])
    with pytest.raises(ConfigError, match='the calibration is for 6 classes, not 2'):
        found.apply(scores[:, :2])


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        ({'kind': 'isotone'}, "unknown kind 'isotone'; did you mean 'isotonic'?"),
        ({'slopes': ()}, 'the parts of a platt calibration must have one entry per class'),
        ({'offsets': (1.0,)}, 'must have one entry per class'),
        ({'weights': (1.0, 1.0)}, 'the parts of a platt calibration must'),
        ({'kind': 'isotonic'}, 'the parts of a isotonic calibration must'),
        ({'slopes': (1.0, -1.0)}, 'slopes must be above 0'),
        ({'slopes': (1.0, float('inf'))}, 'slopes must be above 0'),
        ({'offsets': (1.0, float('nan'))}, 'offsets must be finite'),
    ],
)
def test_wrong_parts_are_named(parts, message):
    right = {'kind': 'platt', 'slopes': (1.0, 1.0), 'offsets': (0.0, 0.0)}
    with pytest.raises(ConfigError) as error:
        Calibration(**(right | parts))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('knots', 'values', 'weight', 'message'),
    [
        ((0.2, 0.2), (0.1, 0.3), 1.0, 'the knots of a curve must rise'),
        ((0.2, 0.4), (0.3, 0.1), 1.0, 'its values must not fall'),
        ((0.2, 0.4), (0.3,), 1.0, 'the knots of a curve must rise'),
        ((), (), 1.0, 'the knots of a curve must rise'),
        ((0.2, 1.4), (0.3, 0.4), 1.0, 'within [0, 1]'),
        ((0.2,), (0.3,), 1.5, 'weights must be in [0, 1]'),
    ],
)
def test_wrong_curves_are_named(knots, values, weight, message):
    with pytest.raises(ConfigError) as error:
        Calibration('isotonic', (1.0,), (0.0,), (knots,), (values,), (weight,))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'slopes': [None]}, "f.json: calibration: 'slopes' must be a list of finite numbers, but holds None"),
        ({'slopes': [-1.0]}, 'f.json: calibration: slopes must be above 0'),
        ({'knots': [0.5]}, "f.json: calibration: 'knots' must be a list of lists of finite numbers"),
        ({'kind': None}, "f.json: calibration: unknown kind ''"),
    ],
)
def test_wrong_files_are_named(change, message):
    data = Calibration('platt', (1.0,), (0.0,)).to_dict() | change
    with pytest.raises(DataError) as error:
        Calibration.from_dict(data, 'f.json')
    assert message in str(error.value)
