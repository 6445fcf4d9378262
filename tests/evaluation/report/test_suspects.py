"""Suspected annotation errors."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch

from mlcls.evaluation.report import histograms
from mlcls.evaluation.report.suspects import find_suspects, suspects_csv

from .example import make_labels


def log_odds(score: float) -> float:
    inside = min(max(float(score), 1e-7), 1 - 1e-7)
    return float(np.log(inside / (1 - inside)))


def by_hand(scores: np.ndarray, labels: np.ndarray, thresholds: list[float]) -> tuple[list, list]:
    missing, wrong = [], []
    for c in range(scores.shape[1]):
        own, limit = scores[:, c].astype(np.float64), np.float32(thresholds[c])
        positives, negatives = own[labels[:, c] == 1], own[labels[:, c] == 0]
        high = positives.mean() if len(positives) >= 3 else None
        low = negatives.mean() if len(negatives) else None
        for row in range(len(scores)):
            score = own[row]
            if labels[row, c] == 0 and high is not None and score >= limit and score >= min(high, 0.5):
                missing.append((log_odds(high) - log_odds(score), c, row))
            if labels[row, c] == 1 and low is not None and score < limit and score <= low:
                wrong.append((log_odds(score) - log_odds(low), c, row))
    return sorted(missing), sorted(wrong)


@pytest.fixture
def noisy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels with errors, labels without."""
    rng = np.random.default_rng(2)
    truth = make_labels(300, 5, rng)
    scores = (1 / (1 + np.exp(-(7 * (truth - 0.5) + rng.normal(0, 1.3, truth.shape))))).astype(np.float32)
    labels = truth.copy()
    labels[rng.random(truth.shape) < 0.03] ^= 1
    labels[rng.random(truth.shape) < 0.03] = -1
    return scores, labels, truth


def test_against_a_search_by_hand(noisy: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels, _ = noisy
    thresholds = [0.5, 0.3, 0.7, 0.5, 0.9]
    monkeypatch.setattr(histograms, '_BLOCK', 400)
    found = find_suspects(torch.from_numpy(scores), torch.from_numpy(labels), thresholds)
    for suspects, wanted in zip(found, by_hand(scores, labels, thresholds)):
        assert len(wanted) > 5
        assert suspects.strength.tolist() == pytest.approx([-entry[0] for entry in wanted], abs=1e-3)
        assert set(zip(suspects.columns.tolist(), suspects.rows.tolist())) == {entry[1:] for entry in wanted}
        assert suspects.scores.tolist() == scores[suspects.rows, suspects.columns].tolist()


def test_errors_come_first(noisy: tuple[np.ndarray, ...]) -> None:
    scores, labels, truth = noisy
    for suspects, wrong in zip(find_suspects(torch.from_numpy(scores), torch.from_numpy(labels), [0.5] * 5), (0, 1)):
        errors = int(((labels == wrong) & (labels != truth)).sum())
        first = slice(0, errors // 2)
        rows, columns = suspects.rows[first], suspects.columns[first]
        assert (truth[rows, columns] != labels[rows, columns]).mean() >= 0.9
        assert (labels[suspects.rows, suspects.columns] == wrong).all(), 'a label that is unknown is suspected'


def test_room_is_kept_for_wrong_labels() -> None:
    labels = np.zeros((3000, 2), np.int8)
    labels[:3, 0] = 1
    labels[:2000, 1] = 1
    scores = np.zeros((3000, 2), np.float32)
    scores[:, 0] = 0.9
    scores[2000:, 1] = 0.1  # every negative above every positive: 2,000 wrong ones
    missing, wrong = find_suspects(torch.from_numpy(scores), torch.from_numpy(labels), [0.5, 0.5])
    assert (len(missing.rows), len(wrong.rows)) == (1500, 500)
    missing, wrong = find_suspects(torch.from_numpy(scores[:, :1]), torch.from_numpy(labels[:, :1]), [0.5])
    assert (len(missing.rows), len(wrong.rows)) == (2000, 0)
    missing, wrong = find_suspects(torch.from_numpy(scores[:, 1:]), torch.from_numpy(labels[:, 1:]), [0.5])
    assert (len(missing.rows), len(wrong.rows)) == (0, 2000)


def test_two_positives_are_too_few_to_know_what_is_usual() -> None:
    scores = torch.tensor([[0.6], [0.6], [0.99], [0.6]])
    labels = torch.tensor([[1], [1], [0], [0]], dtype=torch.int8)
    assert not len(find_suspects(scores, labels, [0.5])[0].rows)
    labels[3] = 1
    assert find_suspects(scores, labels, [0.5])[0].rows.tolist() == [2]


def test_an_unsure_class_does_not_push_a_sure_one_back() -> None:
    """By plain margins, 0.7 against a usual 0.3 would be stronger than 0.999 against 0.8; in log odds it is not."""
    scores = np.float32([[0.3, 0.8]] * 5 + [[0.7, 0.999]])
    labels = np.int8([[1, 1]] * 5 + [[0, 0]])
    missing, _ = find_suspects(torch.from_numpy(scores), torch.from_numpy(labels), [0.2, 0.2])
    assert missing.columns.tolist() == [1, 0]


def test_the_csv_file() -> None:
    classes = ['cat', 'red "bus", old', 'a\nb']
    suspects = [
        {'name': 'a,b.jpg', 'class': 1, 'label': 0, 'score': 0.9, 'kind': 'missing'},
        {'name': 'c.jpg', 'class': 0, 'label': 1, 'score': 0.25, 'kind': 'wrong'},
        {'name': 'd.jpg', 'class': 2, 'label': 1, 'score': 0.125, 'kind': 'wrong'},
    ]
    text = suspects_csv(suspects, classes)
    assert text.startswith('image,class,label,score,kind\n"a,b.jpg","red ""bus"", old",1,0.9,missing\nc.jpg,cat,0,')
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row['image'], row['class'], row['label'], row['kind']) for row in rows] == [
        ('a,b.jpg', 'red "bus", old', '1', 'missing'),
        ('c.jpg', 'cat', '0', 'wrong'),
        ('d.jpg', 'a\nb', '0', 'wrong'),
    ]
    assert suspects_csv([], classes) == 'image,class,label,score,kind\n'
