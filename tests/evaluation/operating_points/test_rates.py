"""Objectives about how many labels are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.evaluation.operating_points import FitSettings, fit_operating_points
from mlcls.evaluation.operating_points.choosing import choose
from mlcls.evaluation.operating_points.objectives import parse_objective
from mlcls.evaluation.operating_points.rates import scores_at_ranks
from mlcls.evaluation.operating_points.view import View, checked_view

from . import naive


def fit(scores, targets, objective, share=1.0):
    return choose(checked_view(scores, targets, scores.shape[1]), parse_objective(objective), 0.0, share)


def test_labels_match_the_frequency_of_each_class():
    scores, targets = naive.world(2000, 6, 1)
    mean = float((targets == 1).double().sum() / 2000)
    choice = fit(scores, targets, f'labels={mean}')
    given_to = (scores >= torch.from_numpy(choice.thresholds)).sum(dim=0)
    assert (given_to - (targets == 1).sum(dim=0)).abs().max() <= 1 and not choice.notes
    twice = fit(scores, targets, f'labels={2 * mean}')
    given_to = (scores >= torch.from_numpy(twice.thresholds)).sum(dim=0)
    assert (given_to - 2 * (targets == 1).sum(dim=0)).abs().max() <= 1


def test_labels_with_unknown_ones_keep_to_the_share_of_the_known():
    scores, targets = naive.world(4000, 4, 2, unknown=0.4)
    choice = fit(scores, targets, 'labels=0.4')
    known = targets >= 0
    shares = (targets == 1).sum(dim=0) / known.sum(dim=0)
    decided = ((scores >= torch.from_numpy(choice.thresholds)) & known).sum(dim=0) / known.sum(dim=0)
    assert torch.allclose(decided, 0.4 * shares / shares.sum(), atol=1e-3)


def test_labels_out_of_reach_are_said():
    scores, targets = torch.full((10, 2), 0.5), torch.zeros(10, 2, dtype=torch.int8)
    targets[:3] = 1
    choice = fit(scores, targets, 'labels=0.6')  # all scores are tied: none or all
    assert choice.notes == ['0.6 labels an image are asked for; the nearest reached is 0.00']
    choice = fit(scores, targets, 'labels=7')
    assert choice.notes == ['7 labels an image are asked for; the nearest reached is 2.00']
    assert (scores >= torch.from_numpy(choice.thresholds)).all()
    ones = fit(torch.ones(10, 2), targets, 'labels=0.6')
    assert ones.notes == ['0.6 labels an image are asked for; the nearest reached is 2.00']


def test_labels_never_give_a_class_without_positives():
    scores, targets = naive.world(200, 3, 3)
    targets[:, 0] = 0
    points = fit_operating_points(scores, targets, 'abc', FitSettings('labels=1', bootstrap=5))
    assert points.thresholds[0] == 1.0
    assert 'no known positive label, so no choice of their own: a' in points.notes


@settings(max_examples=60)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.99, 1.0]), min_size=6, max_size=24), st.integers(1, 30))
def test_alarms_are_the_most_that_fit(values, budget):
    scores = torch.tensor(values[: len(values) // 2 * 2], dtype=torch.float32).reshape(-1, 2)
    targets = torch.zeros(len(scores), 2, dtype=torch.int8)
    targets[0] = 1
    choice = fit(scores, targets, f'alarms={budget}')
    threshold = float(choice.thresholds[0])
    decided = int((scores >= threshold).sum())
    counts = [int((scores >= at).sum()) for at in [0.0, *naive.candidates([(v, 0) for v in values])]]
    within = [count for count in counts if count <= budget]
    ones = int((scores == 1).sum())
    if ones > budget:
        assert decided == ones and f'{ones} scores are exactly 1' in choice.notes[0]
    else:
        assert decided == max([0, *within]) and choice.notes == []


def test_alarms_read_no_labels():
    scores, targets = naive.world(300, 4, 4)
    first = fit(scores, targets, 'alarms=50')
    unknown = torch.full_like(targets, -1)
    unknown[0] = 1
    assert fit(scores, unknown, 'alarms=50').thresholds.tolist() == first.thresholds.tolist()
    assert int((scores >= float(first.thresholds[0])).sum()) == 50
    assert int((scores >= float(fit(scores, targets, 'alarms=50', share=0.5).thresholds[0])).sum()) == 25


def test_alarms_ask_for_calibration():
    scores, targets = naive.world(300, 4, 4)
    note = 'one threshold for all classes compares their scores: fit a calibration with it'
    settings_ = FitSettings('alarms=50', bootstrap=0)
    assert fit_operating_points(scores, targets, 'abcd', settings_).notes == (note,)
    settings_ = FitSettings('alarms=50', calibration='platt', bootstrap=0)
    assert fit_operating_points(scores, targets, 'abcd', settings_).notes == ()


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_scores_at_ranks(values):
    scores = torch.tensor(values, dtype=torch.float32).abs()[:, None]
    ranks = np.arange(len(values))
    found = scores_at_ranks(View(scores, torch.zeros_like(scores, dtype=torch.int8)), ranks)
    assert found.tolist() == sorted(scores[:, 0].tolist(), reverse=True)


@pytest.mark.parametrize('objective', ['labels=0.5', 'alarms=200'])
def test_intervals_of_rates_cover_what_new_images_give(objective):
    """On 100 other sets of images the threshold falls into the interval about as often as it says."""
    scores, targets = naive.world(1000, 4, 5)
    points = fit_operating_points(scores, targets, 'abcd', FitSettings(objective, bootstrap=100, folds=0))
    inside = []
    for seed in range(1005, 101005, 1000):
        found = fit(*naive.world(1000, 4, seed), objective).thresholds
        inside.append([low <= at <= high for at, (low, high) in zip(found, points.intervals)])
    # Both ends and the other set's threshold vary: the expected share is about 83 %.
    assert 0.6 < np.mean(inside) < 0.99
    assert all(low <= at <= high for at, (low, high) in zip(points.thresholds, points.intervals))
