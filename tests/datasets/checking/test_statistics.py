"""Numbers about labels against scipy, dense arithmetic and numbers printed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, chi2_contingency, fisher_exact

from mlcls.datasets.checking.statistics import (
    cooccurrence,
    frequency_p_values,
    holm,
    label_counts,
    label_set_keys,
    recall_uncertainty,
    split_statistics,
    strong_rules,
    wilson_interval,
)
from mlcls.structures import PRESENT, UNKNOWN, LabelMatrix

DENSE = arrays(np.int8, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.sampled_from([1, 0, -1]))


@given(DENSE)
def test_statistics_are_those_of_the_dense_labels(dense: np.ndarray) -> None:
    labels, present = LabelMatrix.from_dense(dense), (dense == 1).astype(int)
    found = split_statistics(labels)
    assert found['positives'] == present.sum(axis=0).tolist()
    assert found['unknown'] == (dense == -1).sum(axis=0).tolist()
    assert found['labels_per_image'] == pytest.approx(present.sum(axis=1).mean())
    assert found['without_labels'] == sum(not row.any() for row in present)
    assert found['distinct_label_sets'] == len({tuple(row) for row in present})
    assert found['unknown_share'] == pytest.approx((dense == -1).mean())
    assert sum(found['labels_per_image_counts']) == len(dense)
    assert (label_counts(labels) == present.sum(axis=1)).all()


@given(DENSE, st.integers(1, 6))
def test_cooccurrence_of_the_most_frequent_classes(dense: np.ndarray, limit: int) -> None:
    present = (dense == 1).astype(int)
    order, counts = cooccurrence([LabelMatrix.from_dense(dense[:3]), LabelMatrix.from_dense(dense[3:])], limit)
    assert (counts == (present.T @ present)[np.ix_(order, order)]).all()
    assert len(order) == min(limit, dense.shape[1])
    assert counts.diagonal().tolist() == sorted(present.sum(axis=0), reverse=True)[:limit]


@given(DENSE, st.sampled_from([PRESENT, UNKNOWN]))
def test_any_default_label_gives_the_same(dense: np.ndarray, default: int) -> None:
    rows, columns = np.nonzero(dense != default)
    ends = np.concatenate([[0], np.cumsum((dense != default).sum(axis=1))])
    other = LabelMatrix(ends, columns.astype(np.int32), dense[rows, columns], dense.shape[1], default)
    assert split_statistics(other) == split_statistics(LabelMatrix.from_dense(dense))


def test_label_set_keys_do_not_depend_on_the_order() -> None:
    labels = LabelMatrix.from_lists([[0, 2], [2, 0], [1], []], 3)
    keys = label_set_keys(labels)
    assert keys[0] == keys[1] and len(set(keys.tolist())) == 3


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval(case: tuple[int, int]) -> None:
    successes, trials = case
    expected = binomtest(successes, trials).proportion_ci(method='wilson')
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_recall_uncertainty_falls_from_a_half() -> None:
    widths = [recall_uncertainty(number) for number in range(200)]
    assert widths[0] == 0.5 and widths == sorted(widths, reverse=True)
    assert wilson_interval(0, 0) == (0, 1)


def test_holm_as_in_the_text_books() -> None:
    # Three hypotheses, 0.01, 0.03, 0.04: 3 x 0.01, 2 x 0.03, and no less than the one before.
    assert holm(np.array([0.03, 0.01, 0.04])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=5))
def test_frequencies_are_compared_as_scipy_does(pairs: list[tuple[int, int]]) -> None:
    own, other = np.array(pairs).T
    found = frequency_p_values(own, 60, other, 40)
    for number, (a, b) in enumerate(pairs):
        table = np.array([[a, 60 - a], [b, 40 - b]])
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / 100
        if expected.min() < 5:
            assert found[number] == pytest.approx(fisher_exact(table).pvalue)
        else:
            assert found[number] == pytest.approx(chi2_contingency(table).pvalue)


def test_rules_are_found_and_accidents_are_not() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.random((400, 5)) < [0.1, 0.3, 0.97, 0.02, 0.2]).astype(np.int8)
    dense[dense[:, 0] == 1, 1] = 1  # 0 never without 1
    dense[:, 3] = 0
    dense[:3, [3, 4]] = 1  # 3 never without 4, but only three times
    order, counts = cooccurrence([LabelMatrix.from_dense(dense)], 5)
    rules = strong_rules(counts, 400)
    assert [(order[rule.a], order[rule.b]) for rule in rules] == [
        (0, 1)
    ]  # and none about class 2, which nearly all images show
    count = int(dense[:, 0].sum())
    assert (rules[0].support, rules[0].count) == (count, count)
    assert rules[0].confidence == pytest.approx((count + 1) / (count + 2))
    assert rules[0].base == pytest.approx(dense[:, 1].mean())


def test_random_labels_have_no_rules() -> None:
    for seed in range(20):
        dense = (np.random.default_rng(seed).random((200, 15)) < 0.4).astype(np.int8)
        assert strong_rules(cooccurrence([LabelMatrix.from_dense(dense)], 15)[1], 200) == []
