"""Folds, and figures from images that were not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlcls.evaluation.operating_points import FitSettings, fit_operating_points
from mlcls.evaluation.operating_points.calibration_fit import fit_calibration
from mlcls.evaluation.operating_points.choosing import choose, count_decisions, figures
from mlcls.evaluation.operating_points.crossfit import count_folds, cross_fit, fast_thresholds, make_folds
from mlcls.evaluation.operating_points.objectives import parse_objective
from mlcls.evaluation.operating_points.view import View

from . import naive


def test_folds_spread_the_positives_of_every_class():
    scores, targets = naive.world(997, 12, 1, rare=0.004)
    targets[:, 0] = 0
    targets[:7, 0] = 1
    fold = make_folds(View(scores, targets), 5, seed=3)
    sizes = np.bincount(fold, minlength=5)
    assert sizes.sum() == 997 and sizes.max() - sizes.min() <= 1 and fold.min() == 0
    for c in range(12):
        counts = np.bincount(fold[(targets[:, c] == 1).numpy()], minlength=5)
        total = counts.sum()
        # The rarest are dealt first and exactly; where classes share images, the later ones can be off by a little.
        allowed = 1 if c == 0 else max(2, 0.15 * total / 5 + 2)
        assert counts.max() - counts.min() <= allowed, (c, counts)


def test_folds_depend_on_the_seed_alone():
    scores, targets = naive.world(200, 5, 2)
    view = View(scores, targets)
    first = make_folds(view, 4, 0)
    assert (make_folds(view, 4, 0) == first).all() and (make_folds(view, 4, 1) != first).any()
    assert sorted(np.bincount(make_folds(View(scores[:3], targets[:3]), 3, 0)).tolist()) == [1, 1, 1]


@pytest.mark.parametrize('objective', ['f1', 'CF1', 'OF1', 'precision>=0.7', 'recall>=0.7', 'cost=3:1'])
def test_one_sort_for_all_folds_gives_what_fitting_each_gives(objective):
    scores, targets = naive.world(300, 6, 3, unknown=0.15)
    scores = (scores * 50).round() / 50  # many ties
    view, kind = View(scores, targets), parse_objective(objective)
    fold = make_folds(view, 4, 0)
    fast = fast_thresholds(view, kind, 5.0, fold, 4)
    counts = np.zeros((3, 6), dtype=np.int64)
    for number in range(4):
        rest, held = (torch.from_numpy(np.flatnonzero(mask)) for mask in (fold != number, fold == number))
        slow = choose(View(scores[rest], targets[rest]), kind, 5.0).thresholds
        assert fast[:, number].tolist() == slow.tolist()
        counts += count_decisions(View(scores[held], targets[held]), slow)
    assert (count_folds(view, fold, fast) == counts).all()
    assert (cross_fit(view, kind, None, 5.0, 4, 0) == counts).all()


@pytest.mark.parametrize('calibration', ['temperature', 'platt', 'isotonic'])
@pytest.mark.parametrize('objective', ['f1', 'labels=0.7', 'alarms=90'])
def test_calibration_is_fitted_without_the_fold_too(calibration, objective):
    scores, targets = naive.world(200, 5, 4, rare=0.05)
    view, kind = View(scores, targets), parse_objective(objective)
    fold = make_folds(view, 3, 0)
    counts = np.zeros((3, 5), dtype=np.int64)
    for number in range(3):
        rest, held = (torch.from_numpy(np.flatnonzero(mask)) for mask in (fold != number, fold == number))
        fitted, _ = fit_calibration(calibration, View(scores[rest], targets[rest]), 5.0)
        choice = choose(View(fitted.apply(scores[rest]), targets[rest]), kind, 5.0, len(rest) / 200)
        counts += count_decisions(View(fitted.apply(scores[held]), targets[held]), choice.thresholds)
    assert (cross_fit(view, kind, calibration, 5.0, 3, 0) == counts).all()


def test_noise_gains_nothing_when_cross_fitted():
    """Scores that say nothing: on the same data thresholds seem to help much more than on folds left out."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(300, 30, generator=generator)
    targets = (torch.rand(300, 30, generator=generator) < 0.03).to(torch.int8)
    found = fit_operating_points(scores, targets, [str(c) for c in range(30)], FitSettings(bootstrap=0, shrink=False))
    honest, flattering = (found.figures[name]['macro_F1'] for name in ('cross-fitted', 'same data'))
    assert flattering > 9.5 and honest < 6.5  # giving every label reaches 5.8


def test_cross_fitted_figures_are_near_those_of_new_images():
    honest, flattering, true = [], [], []
    for seed in range(6):
        scores, targets = naive.world(600, 20, seed, rare=0.01)
        points = fit_operating_points(scores, targets, [str(c) for c in range(20)], FitSettings(bootstrap=0))
        honest.append(points.figures['cross-fitted']['macro_F1'])
        flattering.append(points.figures['same data']['macro_F1'])
        new = View(*naive.world(20000, 20, seed + 1000, rare=0.01))
        true.append(figures(count_decisions(new, np.array(points.thresholds)))['macro_F1'])
    assert abs(np.mean(honest) - np.mean(true)) < 1.2
    assert np.mean(flattering) > np.mean(true) + 1.2


@pytest.mark.parametrize(('objective', 'measure'), [('precision>=0.9', 'precision'), ('recall>=0.95', 'recall')])
def test_constraints_that_new_images_break_are_said(objective, measure):
    scores, targets = naive.world(400, 10, 5)
    notes = fit_operating_points(scores, targets, [str(c) for c in range(10)], FitSettings(objective)).notes
    assert any(
        f'the {measure} is below {objective.split(">=")[1]} in ' in note and ' of 10 classes' in note for note in notes
    )
    easy = torch.where(targets == 1, 0.9, 0.1)
    notes = fit_operating_points(easy, targets, [str(c) for c in range(10)], FitSettings(objective)).notes
    assert not any('is below' in note for note in notes)
