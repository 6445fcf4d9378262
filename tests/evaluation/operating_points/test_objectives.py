"""Each objective against a loop over every possible threshold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.errors import ConfigError
from mlcls.evaluation.operating_points.choosing import choose, count_decisions
from mlcls.evaluation.operating_points.curves import build_curves, common_grid, midway
from mlcls.evaluation.operating_points.objectives import EXAMPLES, parse_objective
from mlcls.evaluation.operating_points.view import View, checked_view

from . import naive


@st.composite
def small_sets(draw, classes: int = 2):
    """Few images, many ties, unknown labels, scores of exactly 0 and 1; each class with a positive and a negative."""
    images = draw(st.integers(2, 9))
    levels = st.sampled_from([0.0, 1e-7, 0.25, 0.3, float(np.nextafter(np.float32(0.3), np.float32(1))), 0.7, 1.0])
    cells = st.lists(levels, min_size=images * classes, max_size=images * classes)
    labels = st.lists(st.sampled_from([0, 0, 1, -1]), min_size=images * classes, max_size=images * classes)
    scores = torch.tensor(draw(cells), dtype=torch.float32).reshape(images, classes)
    targets = torch.tensor(draw(labels), dtype=torch.int8).reshape(images, classes)
    targets[0], targets[1] = 1, 0
    return scores, targets


VALUES = {
    'f1': naive.f_beta(1),
    'f0.5': naive.f_beta(0.5),
    'f2': naive.f_beta(2),
    'cost=5:1': lambda tp, fp, positives, negatives: -(5 * (positives - tp) + fp),
    'cost=1:20': lambda tp, fp, positives, negatives: -(1 * (positives - tp) + 20 * fp),
}


def thresholds(scores, targets, objective) -> list[float]:
    view = checked_view(scores, targets, scores.shape[1])
    return choose(view, parse_objective(objective), 0.0).thresholds.tolist()


@pytest.mark.parametrize('objective', VALUES)
@settings(max_examples=30)
@given(data=small_sets())
def test_the_best_of_all_thresholds_is_found(objective, data):
    scores, targets = data
    for c, threshold in enumerate(thresholds(scores, targets, objective)):
        pairs = naive.column(scores, targets, c)
        value = VALUES[objective](*naive.counts_at(pairs, threshold))
        assert value == pytest.approx(naive.best_value(pairs, VALUES[objective]), abs=1e-12)
        assert 0 <= threshold <= 1 and threshold == float(np.float32(threshold))


@pytest.mark.parametrize('limit', [0.3, 0.5, 0.9, 1.0])
@settings(max_examples=30)
@given(data=small_sets())
def test_precision_is_kept_at_the_most_recall(limit, data):
    scores, targets = data
    view = checked_view(scores, targets, 2)
    choice = choose(view, parse_objective(f'precision>={limit}'), 0.0)
    for c, threshold in enumerate(choice.thresholds.tolist()):
        pairs = naive.column(scores, targets, c)
        found = [naive.counts_at(pairs, at) for at in naive.candidates(pairs)]
        rates = [(naive.divide(tp, tp + fp), naive.divide(tp, positives)) for tp, fp, positives, _ in found]
        tp, fp, positives, _ = naive.counts_at(pairs, threshold)
        precision, recall = naive.divide(tp, tp + fp), naive.divide(tp, positives)
        within = [r for p, r in rates if p >= limit - 1e-12 and r > 0]
        if within:
            assert precision >= limit - 1e-12 and recall == max(within) and not choice.missed[c]
        else:  # the nearest that there is
            assert choice.missed[c] and precision == pytest.approx(max(p for p, _ in rates))


@pytest.mark.parametrize('limit', [0.2, 0.5, 0.95, 1.0])
@settings(max_examples=30)
@given(data=small_sets())
def test_recall_is_kept_at_the_most_precision(limit, data):
    scores, targets = data
    for c, threshold in enumerate(thresholds(scores, targets, f'recall>={limit}')):
        pairs = naive.column(scores, targets, c)
        found = [naive.counts_at(pairs, at) for at in [0.0, *naive.candidates(pairs)]]
        within = [naive.divide(tp, tp + fp) for tp, fp, positives, _ in found if tp >= limit * positives - 1e-12]
        tp, fp, positives, _ = naive.counts_at(pairs, threshold)
        assert tp >= limit * positives - 1e-12
        assert naive.divide(tp, tp + fp) == pytest.approx(max(within))


@settings(max_examples=30)
@given(data=small_sets(classes=3))
def test_counts_of_all_candidates_are_those_of_decisions(data):
    """Every threshold in the curves and in the grid counts exactly what ``score >= threshold`` decides."""
    scores, targets = data
    view = checked_view(scores, targets, 3)
    curves, grid = build_curves(view, common_grid(view))
    for c in range(3):
        pairs = naive.column(scores, targets, c)
        for place in range(curves.starts[c], curves.starts[c + 1]):
            counted = (curves.tp[place], curves.fp[place], curves.positives[c], curves.negatives[c])
            assert counted == naive.counts_at(pairs, float(curves.thresholds[place]))
        for place in range(0, len(grid.thresholds), 7):
            counted = (grid.tp[c, place], grid.fp[c, place], grid.positives[c], grid.negatives[c])
            assert counted == naive.counts_at(pairs, float(grid.thresholds[place]))
    assert np.float32(0.5) in grid.thresholds and (np.diff(grid.thresholds) < 0).all()


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_midway_lies_between(first, second):
    low, high = sorted((np.float32(first), np.float32(second)))
    if low < high:
        found = midway(high, low)
        assert low < found <= high and found.dtype == np.float32


def test_thresholds_lie_in_the_middle_of_the_gap():
    scores = torch.tensor([[0.9], [0.8], [0.4], [0.1]])
    targets = torch.tensor([[1], [1], [0], [0]], dtype=torch.int8)
    assert thresholds(scores, targets, 'f1') == [pytest.approx(0.6)]
    assert thresholds(scores, targets, 'precision>=1') == [pytest.approx(0.6)]


def test_never_is_a_threshold_of_one():
    """False alarms cost so much that no label should be given; where a score is 1, it cannot be helped."""
    scores = torch.tensor([[0.9, 1.0], [0.95, 0.3], [0.2, 0.2]])
    targets = torch.tensor([[0, 0], [0, 0], [1, 1]], dtype=torch.int8)
    found = thresholds(scores, targets, 'cost=1:100')
    assert found == [1.0, pytest.approx(0.65)]


@settings(max_examples=10)
@given(data=small_sets(classes=3))
def test_the_group_is_the_best_common_threshold_of_the_grid(data):
    scores, targets = data
    view = checked_view(scores, targets, 3)
    grid = build_curves(view, common_grid(view))[1]
    columns = [naive.column(scores, targets, c) for c in range(3)]
    counted = [[naive.counts_at(pairs, float(at)) for pairs in columns] for at in grid.thresholds]
    for objective, value in VALUES.items():
        group = parse_objective(objective).group(grid)
        totals = [sum(value(*counts) for counts in each) for each in counted]
        reached = sum(value(*naive.counts_at(pairs, float(group[0]))) for pairs in columns)
        assert (group == group[0]).all() and reached == pytest.approx(max(totals), abs=1e-9)


def test_costs_of_single_classes_move_them_and_their_group():
    scores, targets = naive.world(4000, 3, 1)
    costs = {'b': (50.0, 1.0)}
    plain = parse_objective('cost=1:1')
    special = parse_objective('cost=1:1', ('a', 'b', 'c'), costs)
    view = checked_view(scores, targets, 3)
    first, second = choose(view, plain, 5.0), choose(view, special, 5.0)
    assert second.thresholds[[0, 2]].tolist() == first.thresholds[[0, 2]].tolist()
    assert second.thresholds[1] < first.thresholds[1]
    assert first.group is not None and second.group is not None and second.group[1] < first.group[1]
    pairs = naive.column(scores[:60], targets[:60], 1)
    view = checked_view(scores[:60], targets[:60], 3)
    value = lambda tp, fp, positives, negatives: -(50 * (positives - tp) + fp)  # noqa: E731
    at = float(choose(view, special, 0.0).thresholds[1])
    assert value(*naive.counts_at(pairs, at)) == naive.best_value(pairs, value)


def test_float16_and_float64_scores():
    scores, targets = naive.world(300, 4, 2)
    half = scores.half()
    assert thresholds(half, targets, 'f1') == thresholds(half.float(), targets, 'f1')
    assert thresholds(scores.double(), targets, 'f1') == thresholds(scores, targets, 'f1')


def test_minus_zero_is_zero():
    scores = torch.tensor([[-0.0], [0.0], [0.5]])
    targets = torch.tensor([[0], [0], [1]], dtype=torch.int8)
    assert thresholds(scores, targets, 'f1') == [0.25]
    assert torch.equal(scores, torch.tensor([[-0.0], [0.0], [0.5]])) and bool(scores[0].signbit())


def test_pieces_of_columns_change_nothing(monkeypatch):
    from mlcls.evaluation.operating_points import view as view_module

    scores, targets = naive.world(200, 7, 3, unknown=0.2)
    whole = {name: thresholds(scores, targets, name) for name in EXAMPLES}
    monkeypatch.setattr(view_module, 'PIECE', 450)
    for name in EXAMPLES:
        assert thresholds(scores, targets, name) == whole[name], name


def test_scores_are_not_touched():
    scores, targets = naive.world(100, 1, 4)
    before = scores.clone(), targets.clone()
    for name in EXAMPLES:
        thresholds(scores, targets, name)
    assert torch.equal(scores, before[0]) and torch.equal(targets, before[1])


def test_counts_of_decisions():
    scores, targets = naive.world(150, 3, 5, unknown=0.3)
    limits = np.array([0.1, 0.5, 0.9], dtype=np.float32)
    found = count_decisions(View(scores, targets), limits)
    for c in range(3):
        tp, fp, positives, _ = naive.counts_at(naive.column(scores, targets, c), float(limits[c]))
        assert found[:, c].tolist() == [tp, fp, positives - tp]


@pytest.mark.parametrize('text', [*EXAMPLES, 'F1', ' f1 ', 'cf1', 'f.5', 'precision >= 0.5', 'labels = 3'])
def test_objectives_are_read_and_their_names_read_again(text):
    objective = parse_objective(text)
    again = parse_objective(objective.name)
    assert type(again) is type(objective) and again.name == objective.name and objective.words


def test_names_are_tidy():
    names = {'F1.0': 'f1', 'precision >= .90': 'precision>=0.9', 'of1': 'OF1', 'cost=5.0:1': 'cost=5:1'}
    for text, name in names.items():
        assert parse_objective(text).name == name


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('f', "unknown objective 'f'"),
        ('f0', "unknown objective 'f0'"),
        ('CF', "unknown objective 'CF'; did you mean 'CF1'?"),
        ('presicion>=0.9', "did you mean 'precision>=0.9'?"),
        ('accuracy', 'choose from '),
        (None, "unknown objective 'None'"),
        ('precision>=1.1', "objective 'precision>=1.1': precision must be above 0 and at most 1, not '1.1'"),
        ('precision>=90%', "precision must be above 0 and at most 1, not '90%'"),
        ('recall>=0', "recall must be above 0 and at most 1, not '0'"),
        ('recall>=nan', "recall must be above 0 and at most 1, not 'nan'"),
        ('labels=0', "labels must be above 0, not '0'"),
        ('labels=inf', "labels must be above 0, not 'inf'"),
        ('alarms=0', "alarms must be a whole number of at least 1, not '0'"),
        ('alarms=2.5', "alarms must be a whole number of at least 1, not '2.5'"),
        ('cost=5', "give the costs of a miss and of a false alarm, as in 'cost=5:1'"),
        ('cost=5:0', "a cost must be above 0, not '0'"),
        ('cost=a:1', "a cost must be above 0, not 'a'"),
    ],
)
def test_wrong_objectives_are_named(text, message):
    with pytest.raises(ConfigError) as error:
        parse_objective(text)
    assert message in str(error.value)


def test_wrong_costs_are_named():
    with pytest.raises(ConfigError, match="costs of single classes need the objective 'cost=MISS:ALARM', not 'f1'"):
        parse_objective('f1', ('cat',), {'cat': (1, 2)})
    with pytest.raises(ConfigError, match="costs: 'cast' is no class; did you mean 'cat'?"):
        parse_objective('cost=1:1', ('cat', 'dog'), {'cast': (1, 2)})
    for pair in ((1,), (0, 1), (1, float('nan')), 'ab', (True, 1)):
        with pytest.raises(ConfigError, match="costs of 'cat' must be two numbers above 0"):
            parse_objective('cost=1:1', ('cat', 'dog'), {'cat': pair})
