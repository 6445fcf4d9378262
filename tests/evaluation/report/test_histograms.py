"""Counts of scores in bins: exact at every threshold of the page, and short when written."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.evaluation.functional import confusion_counts, decide
from mlcls.evaluation.report import histograms as module
from mlcls.evaluation.report.histograms import counts_at, encode_counts, limits_of, score_histograms


def decode(text: str, rows: int, width: int) -> np.ndarray:
    """What the page does, written for clearness: numbers one after the other, a zero followed by its run's length."""
    numbers, value, shift = [], 0, 0
    for byte in base64.b64decode(text):
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            numbers.append(value)
            value = shift = 0
    out, place = [], 0
    while place < len(numbers):
        if numbers[place]:
            out.append(numbers[place])
        else:
            place += 1
            assert numbers[place] >= 1
            assert len(out) % width + numbers[place] <= width, 'a run leaves its row'
            out += [0] * numbers[place]
        place += 1
    return np.array(out, np.int64).reshape(rows, width)


counts = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 6), st.integers(1, 9)),
    elements=st.one_of(st.just(0), st.sampled_from([1, 127, 128, 16383, 16384, 2**21, 2**35 - 1]), st.integers(0, 300)),
)


@given(counts)
def test_encoding_is_undone_by_a_decoder(numbers: np.ndarray) -> None:
    assert decode(encode_counts(numbers), *numbers.shape).tolist() == numbers.tolist()


def test_encoding_by_hand() -> None:
    encoded = base64.b64decode(encode_counts(np.array([[0, 0, 3], [0, 300, 0]])))
    assert list(encoded) == [0, 2, 3, 0, 1, 0xAC, 2, 0, 1]
    assert len(encode_counts(np.zeros((1000, 401), np.int64))) < 4200, 'nothing costs nearly nothing'


# Scores on, just below and just above limits of the bins, and anything between.
edges = st.integers(0, 20).map(lambda k: np.float32(k / 20))
near = st.one_of(edges, *(edges.map(lambda edge, to=to: np.nextafter(edge, to)) for to in np.float32([0, 1]))).map(
    float
)
scored = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=st.one_of(near, st.floats(0, 1, width=32))),
        hnp.arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1])),
    )
)


@settings(max_examples=80)
@given(scored, st.sampled_from([torch.float32, torch.float16]))
def test_counts_are_exact_at_every_threshold(data: tuple[np.ndarray, np.ndarray], dtype: torch.dtype) -> None:
    scores, targets = torch.from_numpy(data[0]).to(dtype), torch.from_numpy(data[1])
    found = score_histograms(scores, targets, 20)
    for k in range(21):
        wanted = confusion_counts(decide(scores, float(np.float32(k / 20))), targets)
        assert found.positives[:, k:].sum(axis=1).tolist() == wanted.tp.tolist()
        assert found.negatives[:, k:].sum(axis=1).tolist() == wanted.fp.tolist()
        assert found.positives[:, :k].sum(axis=1).tolist() == wanted.fn.tolist()


@pytest.mark.parametrize('steps', [100, 200, 400])
def test_limits_and_their_neighbours(steps: int) -> None:
    limits = limits_of(steps)
    assert limits.tolist() == [float(np.float32(k / steps)) for k in range(steps + 1)]
    below = np.nextafter(limits, np.float32(-1))[1:]
    values = np.concatenate([limits, below, limits])
    targets = np.repeat([1, 1, 0], [steps + 1, steps, steps + 1]).astype(np.int8)
    found = score_histograms(torch.from_numpy(values)[:, None], torch.from_numpy(targets)[:, None], steps)
    assert found.steps == steps
    assert found.positives[0].tolist() == [2] * steps + [1] and found.negatives[0].tolist() == [1] * (steps + 1)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.random((57, 5), dtype=np.float32))
    targets = torch.from_numpy(rng.integers(-1, 2, (57, 5)).astype(np.int8))
    whole, home = score_histograms(scores, targets, 100), counts_at(scores, targets, [0.1, 0.3, 0.5, 0.7, 0.9])
    monkeypatch.setattr(module, '_BLOCK', 13)
    parts = score_histograms(scores, targets, 100)
    for name in ('positives', 'negatives', 'counts', 'hits'):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert np.allclose(whole.sums, parts.sums)
    for one, other in zip(home, counts_at(scores, targets, [0.1, 0.3, 0.5, 0.7, 0.9])):
        assert one.tolist() == other.tolist()


def test_reliability_and_ece_against_loops() -> None:
    rng = np.random.default_rng(1)
    scores = np.append(rng.random((300, 1), dtype=np.float32), np.float32([[0.0], [1.0], [0.3], [0.9]]), axis=0)
    targets = rng.integers(-1, 2, scores.shape).astype(np.int8)
    found = score_histograms(torch.from_numpy(scores), torch.from_numpy(targets), 400)
    error, known = 0.0, 0
    for b in range(10):
        inside = [
            (float(s), int(y))
            for s, y in zip(scores[:, 0], targets[:, 0])
            if y >= 0 and np.float32(b / 10) <= s and (b == 9 or s < np.float32((b + 1) / 10))
        ]
        assert found.counts[0, b] == len(inside) and found.hits[0, b] == sum(y for _, y in inside)
        assert found.sums[0, b] == pytest.approx(sum(s for s, _ in inside))
        error += abs(sum(s for s, _ in inside) - sum(y for _, y in inside))
        known += len(inside)
    assert found.ece[0] == pytest.approx(100 * error / known)


def test_a_class_without_known_labels() -> None:
    found = score_histograms(torch.rand(4, 1), torch.full((4, 1), -1, dtype=torch.int8), 100)
    assert not found.positives.any() and not found.negatives.any() and np.isnan(found.ece).all()
