"""Pairs of labels and confusions against loops over images."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.evaluation.report import confusions, pairs
from mlcls.evaluation.report.confusions import find_confusions
from mlcls.evaluation.report.pairs import PairCounts, count_pairs, wrong_pairs

from .example import make_labels, make_scores


def table(counts: PairCounts) -> dict[tuple[int, int], int]:
    keys, found = counts.items()
    return {divmod(int(key), counts.classes): int(count) for key, count in zip(keys, found)}


def by_hand(scores: np.ndarray, labels: np.ndarray, limit: float) -> dict[str, dict[tuple[int, int], int]]:
    found: dict[str, dict[tuple[int, int], int]] = {'observed': {}, 'predicted': {}, 'both': {}, 'swapped': {}}
    for row, marks in zip(scores, labels):
        classes = range(len(row))
        present = [c for c in classes if marks[c] == 1]
        decided = [c for c in classes if marks[c] >= 0 and row[c] >= limit]
        hits = [c for c in present if c in decided]
        missed = [c for c in present if c not in decided]
        alarms = [c for c in decided if c not in present]
        for name, first, second in (
            ('observed', present, present),
            ('predicted', decided, decided),
            ('both', hits, hits),
            ('swapped', missed, alarms),
        ):
            for a in first:
                for b in second:
                    found[name][a, b] = found[name].get((a, b), 0) + 1
    return found


matrices = st.tuples(st.integers(1, 15), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75])),
        hnp.arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1, 1])),
    )
)


@pytest.mark.parametrize('how', ['lists', 'products', 'sparse'])
def test_counts_against_loops(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, '_FASTER', {'lists': 0, 'products': 10**9, 'sparse': 0}[how])
    monkeypatch.setattr(pairs, '_DENSE', 0 if how == 'sparse' else 1024)

    @settings(max_examples=40)
    @given(matrices)
    def check(data: tuple[np.ndarray, np.ndarray]) -> None:
        scores, labels = data
        found = count_pairs(torch.from_numpy(scores), torch.from_numpy(labels), [0.5] * scores.shape[1])
        for name, wanted in by_hand(scores, labels, 0.5).items():
            assert table(getattr(found, name)) == wanted, name
        assert found.used.all()

    check()


@pytest.fixture(scope='module')
def data() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    truth = make_labels(400, 8, rng)
    labels = np.where(rng.random(truth.shape) < 0.05, -1, truth).astype(np.int8)
    return torch.from_numpy(make_scores(truth, rng)), torch.from_numpy(labels)


def test_pairs_against_loops(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, labels = data
    tables = count_pairs(scores, labels, [0.5] * 8)
    found = {(pair.a, pair.b): pair for pair in wrong_pairs(tables, labels)}
    decided = (scores >= 0.5).numpy()
    marks = labels.numpy()
    wanted = {}
    for a, b in combinations(range(8), 2):
        together = (marks[:, [a, b]] >= 0).all(axis=1)
        observed = (marks[:, [a, b]] == 1).all(axis=1)
        predicted = decided[:, [a, b]].all(axis=1) & together
        differing = int((observed & ~predicted).sum() + (predicted & ~observed).sum())
        score = (int(predicted.sum()) - int(observed.sum())) / math.sqrt(differing) if differing else 0.0
        rates = [decided[marks[:, c] >= 0, c].mean() for c in (a, b)]
        if abs(score) >= 2:
            wanted[a, b] = (int(observed.sum()), int(predicted.sum()), rates[0] * rates[1] * int(together.sum()), score)
    assert wanted, 'the example has such pairs'
    assert {
        key: (pair.observed, pair.predicted, pytest.approx(pair.expected), pytest.approx(pair.score))
        for key, pair in found.items()
    } == wanted
    strengths = [abs(pair.score) for pair in wrong_pairs(tables, labels)]
    assert strengths == sorted(strengths, reverse=True)
    assert len(wrong_pairs(tables, labels, limit=2)) == 2


def test_confusions_against_loops(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, labels = data
    marks, decided = labels.numpy(), (scores >= 0.5).numpy()
    wanted = {}
    for missed in range(8):
        misses = (marks[:, missed] == 1) & ~decided[:, missed]
        for instead in range(8):
            alarms = (marks[:, instead] == 0) & decided[:, instead]
            count, expected = int((misses & alarms).sum()), misses.sum() * alarms.sum() / len(marks)
            if count >= 2 and count > expected:
                score = math.sqrt(2 * (count * math.log(count / expected) - (count - expected)))
                if score >= 2:
                    wanted[missed, instead] = (count, int(misses.sum()), expected, score)
    found = find_confusions(count_pairs(scores, labels, [0.5] * 8))
    assert (1, 2) in wanted and found[0].missed == 1 and found[0].instead == 2, 'the model takes 1 for 2'
    assert {
        (entry.missed, entry.instead): (
            entry.count,
            entry.of,
            pytest.approx(entry.expected),
            pytest.approx(entry.score),
        )
        for entry in found
    } == wanted


def test_a_class_of_many_false_alarms_is_no_confusion() -> None:
    """Class 2 is decided everywhere; it stands beside every miss and says nothing. Class 1 does."""
    labels = torch.zeros(100, 3, dtype=torch.int8)
    labels[:20, 0] = 1
    scores = torch.zeros(100, 3)
    scores[:, 2] = 0.9
    scores[:12, 1] = 0.9
    found = find_confusions(count_pairs(scores, labels, [0.5] * 3))
    assert [(entry.missed, entry.instead, entry.count, entry.of) for entry in found] == [(0, 1, 12, 20)]


def test_agreement_is_no_wrong_pair() -> None:
    """Both together in every image, found in every image; and one that is never decided with its partner."""
    labels = torch.tensor([[1, 1, 0]] * 30 + [[0, 1, 1]] * 9, dtype=torch.int8)
    scores = labels.float()
    scores[30:, 2] = 0
    (pair,) = wrong_pairs(count_pairs(scores, labels, [0.5] * 3), labels)
    assert (pair.a, pair.b, pair.observed, pair.predicted, pair.both, pair.score) == (1, 2, 9, 0, 0, -3.0)


def test_crowded_images_are_left_out_of_many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, '_DENSE', 4)
    monkeypatch.setattr(pairs, '_CROWDED', 3)
    labels = torch.zeros(4, 6, dtype=torch.int8)
    labels[:, :2] = 1
    scores = torch.zeros(4, 6)
    scores[1] = 0.9  # six decisions
    found = count_pairs(scores, labels, [0.5] * 6)
    assert found.used.tolist() == [True, False, True, True]
    assert table(found.observed)[0, 1] == 3 and table(found.predicted) == {}
    assert found.known.tolist() == [3] * 6 and found.missed.tolist() == [3, 3, 0, 0, 0, 0]


def test_memory_for_pairs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, '_DENSE', 0)
    monkeypatch.setattr(pairs, '_MAX_KEYS', 3)
    counts = PairCounts(10)
    seen = np.zeros((3, 10), bool)
    seen[:2, [0, 1]] = True
    counts.add(seen, seen)
    assert not counts.pruned or table(counts) == {(a, b): 2 for a in (0, 1) for b in (0, 1)}
    seen[:] = False
    seen[0, [5, 6]] = True
    counts.add(seen, seen)
    assert counts.pruned and set(table(counts)) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_nothing_at_all() -> None:
    tables = count_pairs(torch.zeros(3, 2), torch.full((3, 2), -1, dtype=torch.int8), [0.5, 0.5])
    assert wrong_pairs(tables, torch.full((3, 2), -1, dtype=torch.int8)) == [] and find_confusions(tables) == []
    assert confusions.MIN_COUNT == 2
