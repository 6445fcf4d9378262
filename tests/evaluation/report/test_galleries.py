"""Galleries against a search by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.evaluation.report import histograms
from mlcls.evaluation.report.galleries import KINDS, find_galleries, lowest


def log_odds(score: float) -> float:
    inside = min(max(float(score), 1e-7), 1 - 1e-7)
    return math.log(inside / (1 - inside))


def by_hand(scores: np.ndarray, labels: np.ndarray, threshold: float, size: int) -> list[list[int]]:
    limit = np.float32(threshold)
    rows = range(len(scores))
    alarms = sorted((r for r in rows if labels[r] == 0 and scores[r] >= limit), key=lambda r: -scores[r])
    hidden = sorted((r for r in rows if labels[r] == 1 and scores[r] < limit), key=lambda r: scores[r])
    known = [r for r in rows if labels[r] >= 0]
    unsure = sorted(known, key=lambda r: abs(log_odds(scores[r]) - log_odds(float(limit))))
    return [ranked[:size] for ranked in (alarms, hidden, unsure)]


shapes = st.tuples(st.integers(1, 20), st.integers(1, 3))
# On this grid, distances in log odds are either equal or clearly apart.
GRID = [0.0, 0.125, 0.25, 0.5, 0.6875, 0.9375, 1.0]


@settings(max_examples=60)
@given(st.data(), shapes, st.integers(1, 5))
def test_against_a_search_by_hand(data: st.DataObject, shape: tuple[int, int], size: int) -> None:
    scores = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from(GRID)))
    labels = data.draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1])))
    thresholds = data.draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]), min_size=shape[1], max_size=shape[1]))
    found = find_galleries(torch.from_numpy(scores), torch.from_numpy(labels), thresholds, range(shape[1]), size)
    for c in range(shape[1]):
        alarms, hidden, unsure = by_hand(scores[:, c], labels[:, c], thresholds[c], size)
        assert found[c].false_positives.rows.tolist() == alarms
        assert found[c].false_negatives.rows.tolist() == hidden
        distance = [abs(log_odds(scores[r, c]) - log_odds(np.float32(thresholds[c]))) for r in unsure]
        rows = found[c].uncertain.rows
        assert [abs(log_odds(scores[r, c]) - log_odds(np.float32(thresholds[c]))) for r in rows] == pytest.approx(
            distance, abs=1e-4
        )
        for kind in KINDS:
            ranked = getattr(found[c], kind)
            assert (labels[ranked.rows, c] >= 0).all(), 'an unknown label is in a gallery'
            assert ranked.scores.tolist() == scores[ranked.rows, c].tolist()


def test_uncertain_is_meant_in_log_odds() -> None:
    """0.02 is further from a threshold of 0.1 than 0.3 is, though not in score."""
    scores = torch.tensor([[0.02], [0.3], [0.1]])
    found = find_galleries(scores, torch.zeros(3, 1, dtype=torch.int8), [0.1], [0])
    assert found[0].uncertain.rows.tolist() == [2, 1, 0]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_columns_in_any_order_and_blocks(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.random((40, 7), dtype=np.float32)).to(dtype)
    labels = torch.from_numpy(rng.integers(-1, 2, (40, 7)).astype(np.int8))
    every = find_galleries(scores, labels, [0.5] * 7, range(7))
    monkeypatch.setattr(histograms, '_BLOCK', 40)
    some = find_galleries(scores, labels, [0.5] * 7, [5, 0, 6, 2])
    assert list(some) == [5, 0, 6, 2]
    for c, gallery in some.items():
        for one, other in zip(gallery, every[c]):
            assert one.rows.tolist() == other.rows.tolist() and one.scores.tolist() == other.scores.tolist()


def test_lowest_of_equal_values_is_the_first() -> None:
    assert lowest(torch.zeros(1, 50), torch.ones(1, 50, dtype=torch.bool), 3).tolist() == [[0, 1, 2]]
    none = lowest(torch.zeros(1, 2), torch.tensor([[False, True]]), 3)
    assert none.tolist() == [[1, -1, -1]]
    assert lowest(torch.zeros(2, 0), torch.ones(2, 0, dtype=torch.bool), 2).tolist() == [[-1, -1], [-1, -1]]
