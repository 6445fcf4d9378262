"""Thresholds of rare classes lean on the group's: the rule, and that it pays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mlcls.evaluation.operating_points.choosing import choose, count_decisions, figures
from mlcls.evaluation.operating_points.objectives import parse_objective
from mlcls.evaluation.operating_points.shrinkage import STRENGTH, class_weights, mix
from mlcls.evaluation.operating_points.view import View, checked_view

from . import naive


def held_out(images: int, seed: int, strength: float, spread: float = 0.5) -> float:
    """Macro F1 on 20,000 new images of thresholds chosen on ``images``."""
    scores, targets = naive.world(images, 40, seed, spread, rare=0.004)
    choice = choose(checked_view(scores, targets, 40), parse_objective('f1'), strength)
    return figures(count_decisions(View(*naive.world(20000, 40, seed + 1000, spread, rare=0.004)), choice.thresholds))[
        'macro_F1'
    ]


@pytest.mark.parametrize('spread', [0.0, 1.0])
def test_shrinking_helps_rare_classes_on_new_images(spread):
    """500 images, 2 to 150 positives a class: shrinking gains on average, whether classes are alike or not."""
    gains = [held_out(500, seed, STRENGTH, spread) - held_out(500, seed, 0.0, spread) for seed in range(8)]
    assert np.mean(gains) > 0.4
    assert np.mean(np.array(gains) > 0) >= 0.75


def test_shrinking_does_no_harm_with_many_images():
    """30,000 images, 120 or more positives a class."""
    for seed in range(2):
        assert abs(held_out(30000, seed, STRENGTH, 1.0) - held_out(30000, seed, 0.0, 1.0)) < 0.15


def test_one_threshold_for_all_is_not_the_answer_either():
    """Where classes differ, leaning on the group all the way loses what the classes' own data say."""
    worse = [held_out(2000, seed, 1e9, 1.5) for seed in range(3)]
    better = [held_out(2000, seed, STRENGTH, 1.5) for seed in range(3)]
    assert np.mean(better) > np.mean(worse) + 1


def test_the_rule_is_a_weighted_mean_of_log_odds():
    scores, targets = naive.world(400, 6, 1)
    view = checked_view(scores, targets, 6)
    own, shrunk = (choose(view, parse_objective('f1'), strength) for strength in (0.0, 7.0))
    positives = view.label_counts[0]
    for c in range(6):
        weight = positives[c] / (positives[c] + 7.0)
        odds = [math.log(t / (1 - t)) for t in (float(own.thresholds[c]), float(shrunk.group[c]))]
        wanted = 1 / (1 + math.exp(-(weight * odds[0] + (1 - weight) * odds[1])))
        assert shrunk.thresholds[c] == pytest.approx(wanted, rel=1e-5)


def test_the_smaller_side_counts_and_an_empty_one_gives_the_group():
    weights = class_weights(np.array([10, 995, 0, 5]), np.array([990, 5, 50, 0]), 5.0)
    assert weights.tolist() == [10 / 15, 0.5, 0.0, 0.0]
    assert class_weights(np.array([1, 0]), np.array([1, 5]), 0.0).tolist() == [1.0, 0.0]
    mixed = mix(np.array([1.0, 0.0, 0.4]), np.array([0.5, 0.5, 0.5]), np.array([1.0, 0.0, 0.0]))
    assert mixed.tolist() == [1.0, 0.5, 0.5]
    assert 0 <= mix(np.array([1.0]), np.array([0.0]), np.array([0.5]))[0] <= 1


@pytest.mark.parametrize('objective', ['precision>=0.8', 'precision>=1', 'recall>=0.8', 'recall>=1'])
def test_shrinking_never_breaks_a_constraint_that_was_met(objective):
    scores, targets = naive.world(500, 20, 2)
    view = checked_view(scores, targets, 20)
    own, shrunk = (choose(view, parse_objective(objective), strength) for strength in (0.0, 20.0))
    limit = float(objective.split('>=')[1])
    moved = 0
    for c in range(20):
        tp, fp, positives, _ = naive.counts_at(naive.column(scores, targets, c), float(shrunk.thresholds[c]))
        if own.missed[c]:
            assert shrunk.thresholds[c] == own.thresholds[c]
            continue
        if not positives:
            continue
        reached = tp / (tp + fp) if objective.startswith('precision') else tp / positives
        assert reached >= limit - 1e-12
        ends = sorted([float(own.thresholds[c]), float(shrunk.group[c])])
        assert ends[0] <= shrunk.thresholds[c] <= ends[1]
        moved += shrunk.thresholds[c] != own.thresholds[c]
    assert moved > 0


def test_a_class_with_one_kind_of_label_has_the_groups_threshold():
    scores, targets = naive.world(300, 4, 3)
    targets[:, 0], targets[:, 1], targets[:, 2] = 0, 1, -1
    for objective in ('f1', 'CF1', 'OF1', 'precision>=0.9', 'recall>=0.9', 'cost=2:1'):
        choice = choose(checked_view(scores, targets, 4), parse_objective(objective), 0.0)
        assert choice.thresholds[:3].tolist() == choice.group[:3].tolist(), objective
        assert torch.isfinite(torch.from_numpy(choice.thresholds)).all()
