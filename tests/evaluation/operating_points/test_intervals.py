"""Bootstrap intervals of thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlcls.evaluation.operating_points import FitSettings, fit_operating_points, intervals
from mlcls.evaluation.operating_points.choosing import choose
from mlcls.evaluation.operating_points.draws import draw_counts, draw_labels, image_weights
from mlcls.evaluation.operating_points.objectives import parse_objective
from mlcls.evaluation.operating_points.view import View

from . import naive
from .test_objectives import VALUES

OBJECTIVES = ['f1', 'f2', 'CF1', 'OF1', 'precision>=0.7', 'recall>=0.8', 'cost=5:1', 'cost=1:20']


def test_weights_are_draws_of_as_many_images():
    weights = image_weights(50, 400, np.random.default_rng(0))
    assert weights.shape == (50, 400) and (weights.sum(dim=0) == 50).all()
    assert weights.mean(dim=1).sub(1).abs().max() < 0.25
    assert float((weights == 0).double().mean()) == pytest.approx((1 - 1 / 50) ** 50, abs=0.02)


def test_counts_in_draws_are_those_of_repeated_images():
    scores, targets = naive.world(80, 1, 1, unknown=0.3, rare=0.2)
    scores = (scores * 20).round() / 20
    weights = image_weights(80, 5, np.random.default_rng(1))
    limits = np.array([0.9, 0.5, 0.25, 0.05], dtype=np.float32)
    found = draw_counts(scores[:, 0].numpy(), targets[:, 0].numpy(), limits, weights, 0)
    labels = draw_labels(View(scores, targets).pieces(), weights)
    for draw in range(5):
        rows = weights[:, draw].long().tolist()
        repeated = torch.tensor([i for i, times in enumerate(rows) for _ in range(times)])
        pairs = naive.column(scores[repeated], targets[repeated], 0)
        for m, limit in enumerate(limits.tolist()):
            counted = (found.tp[m, draw], found.fp[m, draw], found.positives[draw], found.negatives[draw])
            assert counted == naive.counts_at(pairs, limit)
        assert labels[0][0, draw] == sum(label for _, label in pairs) and labels[1][0, draw] == len(pairs)


@pytest.mark.parametrize('objective', VALUES)
def test_each_draw_chooses_the_best_threshold_of_its_images(objective):
    scores, targets = naive.world(400, 3, 2, unknown=0.1, rare=0.02)
    kind = parse_objective(objective)
    view = View(scores, targets)
    choice = choose(view, kind, 0.0)
    weights = image_weights(400, 12, np.random.default_rng(2))
    piece = next(iter(view.pieces()))
    for c in range(3):
        found = intervals._class_draws(piece, c, choice, kind, 0.0, weights)
        for draw in range(12):
            repeated = torch.repeat_interleave(torch.arange(400), weights[:, draw].long())
            pairs = naive.column(scores[repeated], targets[repeated], c)
            if sum(label for _, label in pairs) == 0:
                assert found[draw] == choice.group[c]
                continue
            value = VALUES[objective](*naive.counts_at(pairs, float(found[draw])))
            assert value == pytest.approx(naive.best_value(pairs, VALUES[objective]), abs=1e-9)


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('strength', [0.0, 5.0])
def test_leaving_out_hopeless_images_changes_nothing(objective, strength, monkeypatch):
    scores, targets = naive.world(3000, 4, 3, unknown=0.05)
    view, kind = View(scores, targets), parse_objective(objective)
    choice = choose(view, kind, strength)
    weights = image_weights(3000, 40, np.random.default_rng(3))
    piece = next(iter(view.pieces()))
    fast = [intervals._class_draws(piece, c, choice, kind, strength, weights) for c in range(4)]
    counted = []
    monkeypatch.setattr(intervals, '_reach', lambda curve, *rest: counted.append(len(curve.thresholds)) or counted[-1])
    for c in range(4):
        assert intervals._class_draws(piece, c, choice, kind, strength, weights).tolist() == fast[c].tolist()


def test_a_reach_too_short_is_noticed(monkeypatch):
    """Where the best candidate of some draw may lie beyond those looked at, all are looked at."""
    scores, targets = naive.world(3000, 3, 4)
    view, kind = View(scores, targets), parse_objective('f1')
    choice = choose(view, kind, 0.0)
    weights = image_weights(3000, 30, np.random.default_rng(4))
    piece = next(iter(view.pieces()))
    right = [intervals._class_draws(piece, c, choice, kind, 0.0, weights).tolist() for c in range(3)]
    monkeypatch.setattr(intervals, '_reach', lambda *rest: 2)
    assert [intervals._class_draws(piece, c, choice, kind, 0.0, weights).tolist() for c in range(3)] == right


def test_more_positives_give_narrower_intervals_and_they_hold_the_threshold():
    widths = []
    for images in (300, 3000, 30000):
        scores, targets = naive.world(images, 4, 5, rare=0.05)
        points = fit_operating_points(scores, targets, 'abcd', FitSettings(bootstrap=100, folds=0, shrink=False))
        assert all(0 <= low <= at <= high <= 1 for at, (low, high) in zip(points.thresholds, points.intervals))
        widths.append(np.mean([high - low for low, high in points.intervals]))
    assert widths[0] > 1.3 * widths[1] > 1.3 * 1.3 * widths[2]


def test_the_best_threshold_of_all_images_lies_in_most_intervals():
    """95 % intervals of 24 classes and 6 sets hold what 100,000 images give in a good part of the cases: a guide."""
    inside = []
    for seed in range(3):
        truth = choose(View(*naive.world(60000, 12, seed + 1000, rare=0.03)), parse_objective('f1'), 0.0).thresholds
        points = fit_operating_points(
            *naive.world(800, 12, seed, rare=0.03), [str(c) for c in range(12)], FitSettings(folds=0, shrink=False)
        )
        inside += [low <= at <= high for at, (low, high) in zip(truth, points.intervals)]
    assert 0.8 <= np.mean(inside) <= 1


def test_seeds_and_rounds(monkeypatch):
    scores, targets = naive.world(400, 3, 6)

    def fit(seed: int, objective: str = 'f1'):
        return fit_operating_points(scores, targets, 'abc', FitSettings(objective, seed=seed, bootstrap=50)).intervals

    first = fit(0)
    assert fit(0) == first and fit(1) != first
    monkeypatch.setattr(intervals, '_ROUND', 400 * 7)  # seven draws at a time
    assert fit(0) == first


def test_many_candidates_are_thinned(monkeypatch):
    scores, targets = naive.world(3000, 2, 7, rare=0.3)
    before = fit_operating_points(scores, targets, 'ab', FitSettings(folds=0)).intervals
    monkeypatch.setattr(intervals, '_CANDIDATES', 200)
    after = fit_operating_points(scores, targets, 'ab', FitSettings(folds=0)).intervals
    assert np.abs(np.array(before) - np.array(after)).max() < 0.02


def test_classes_that_say_nothing_have_the_whole_interval():
    scores, targets = naive.world(100, 3, 8, rare=0.2)
    targets[:, 0], targets[:, 1] = 0, 1
    points = fit_operating_points(scores, targets, 'abc', FitSettings(bootstrap=20))
    assert points.intervals[:2] == ((0.0, 1.0), (0.0, 1.0)) and points.intervals[2] != (0.0, 1.0)
