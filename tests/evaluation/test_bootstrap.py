"""Resampled measures against measures of really resampled rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import average_precision, bootstrap, confusion_counts, decide, precision_recall_f1
from mlcls.evaluation.functional.bootstrap import (
    resample_counts,
    resampled_average_precision,
    resampled_counts,
    resampled_known,
    resampled_mean_average_precision,
    resampled_precision_recall_f1,
    resampled_sums,
    resampled_threshold_counts,
)

DTYPES = (torch.float32, torch.float16, torch.float64, torch.bfloat16)


def all_counts(num_images: int, draws: int, seed: int = 0) -> torch.Tensor:
    return torch.cat(list(resample_counts(num_images, draws, seed)))


def data(num_images: int, num_classes: int, seed: int, unknown: float = 0.15) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with many ties and labels with unknown ones."""
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, 9, (num_images, num_classes)) / 8).float()
    targets = rng.integers(0, 2, (num_images, num_classes)).astype(np.int8)
    targets[rng.random(targets.shape) < unknown] = -1
    return scores, torch.from_numpy(targets)


def rows_of(counts: torch.Tensor) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), counts.long())


def close(found: torch.Tensor, expected: list) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=1e-9, equal_nan=True)


sizes = st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))


# --- the draws ---


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 2**63))
def test_every_draw_holds_as_many_images_as_there_are(num_images: int, draws: int, seed: int) -> None:
    counts = all_counts(num_images, draws, seed)
    assert counts.shape == (draws, num_images) and counts.dtype == torch.uint8
    assert (counts.long().sum(dim=1) == num_images).all()


def test_the_draws_of_a_seed_are_frozen() -> None:
    # Worked out by hand from numpy's documented PCG64 stream: low halves of the words, then the high ones.
    words = [int(word) for word in np.random.PCG64(7).random_raw(3)]
    halves = [word % 2**32 for word in words] + [word // 2**32 for word in words]
    expected = np.bincount([half * 5 // 2**32 for half in halves[:5]], minlength=5)
    assert all_counts(5, 1, 7)[0].tolist() == expected.tolist()
    assert all_counts(8, 3, 0).tolist() == FROZEN


FROZEN = [[3, 0, 2, 0, 1, 1, 1, 0], [0, 1, 0, 0, 2, 2, 1, 2], [1, 0, 1, 0, 2, 2, 1, 1]]


def test_a_draw_depends_on_neither_blocks_nor_the_number_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = all_counts(11, 300, 3)
    assert torch.equal(all_counts(11, 20, 3), whole[:20])
    monkeypatch.setattr(bootstrap, '_BLOCK_BYTES', 1)
    blocks = list(resample_counts(11, 300, 3))
    assert [len(block) for block in blocks] == [64, 64, 64, 64, 44]
    assert torch.equal(torch.cat(blocks), whole)
    assert not torch.equal(all_counts(11, 300, 4), whole)


def test_images_are_drawn_as_with_replacement() -> None:
    counts = all_counts(50, 20_000, 1).double()
    # Multinomial: mean 1, variance 1 - 1/N, covariance -1/N; the bounds are more than five standard errors.
    assert (counts.mean(dim=0) - 1).abs().max() < 0.04
    assert (counts.var(dim=0) - 0.98).abs().max() < 0.08
    covariance = torch.cov(counts[:, :2].t())[0, 1]
    assert abs(float(covariance) + 0.02) < 0.04


@pytest.mark.parametrize(
    'arguments, message',
    [
        ((0, 5, 0), 'num_images of a bootstrap must be an integer of at least 1, not 0'),
        ((5, 0, 0), 'draws of a bootstrap must be an integer of at least 1, not 0'),
        ((5, True, 0), 'draws of a bootstrap must be an integer of at least 1, not True'),
        ((5, 5, -1), 'seed of a bootstrap must be an integer of at least 0, not -1'),
        ((5, 5, 0.5), 'seed of a bootstrap must be an integer of at least 0, not 0.5'),
    ],
)
def test_draws_that_cannot_be(arguments: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resample_counts(*arguments)


# --- counts and F1 ---


@settings(max_examples=40)
@given(sizes, st.sampled_from(DTYPES), st.booleans())
def test_counts_are_those_of_resampled_rows(size: tuple, dtype: torch.dtype, one_threshold: bool) -> None:
    scores, targets = data(*size)
    scores = scores.to(dtype)
    thr = 0.5 if one_threshold else [(c % 9) / 8 for c in range(size[1])]
    counts = all_counts(size[0], 5, size[2])
    decisions = decide(scores, thr)
    found = resampled_counts(decisions, targets, counts)
    for by_scores, by_decisions in zip(resampled_threshold_counts(scores, targets, thr, counts), found, strict=True):
        assert torch.equal(by_scores, by_decisions)
    for draw, count in enumerate(counts):
        rows = rows_of(count)
        expected = confusion_counts(decisions[rows], targets[rows])
        for name in ('tp', 'fp', 'fn'):
            assert torch.equal(getattr(found, name)[draw], getattr(expected, name))
        assert torch.equal(found.known[draw], (targets[rows] >= 0).sum(dim=0))
    assert torch.equal(resampled_known(targets, counts), found.known)


@settings(max_examples=40)
@given(sizes)
def test_measures_are_those_of_resampled_rows(size: tuple) -> None:
    scores, targets = data(*size, unknown=0.4)
    counts = all_counts(size[0], 4, size[2])
    found = resampled_precision_recall_f1(resampled_threshold_counts(scores, targets, 0.5, counts))
    for draw, count in enumerate(counts):
        rows = rows_of(count)
        labelled = (targets[rows] >= 0).any(dim=0)
        if not labelled.any():
            assert all(math.isnan(values[draw]) for values in found.values())
            continue
        kept = confusion_counts((scores[rows] >= 0.5)[:, labelled], targets[rows][:, labelled])
        expected = precision_recall_f1(kept.tp, kept.fp, kept.fn)
        for name in ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1'):
            assert abs(float(found[name][draw]) - getattr(expected, name)) < 1e-9
        assert abs(float(found['micro_F1'][draw]) - expected.OF1) < 1e-9


def test_many_images_do_not_lose_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = torch.full((2, 70_000), 255, dtype=torch.uint8)  # sums beyond what float32 holds exactly
    marks = torch.ones(70_000, 1, dtype=torch.bool)
    marks[0] = False
    monkeypatch.setattr(bootstrap, '_EXACT', 1)
    found = resampled_counts(marks, torch.ones(70_000, 1, dtype=torch.int8), counts)
    assert found.tp.tolist() == [[69_999 * 255]] * 2 and found.fn.tolist() == [[255]] * 2


# --- AP ---


@settings(max_examples=40)
@given(sizes, st.sampled_from(DTYPES), st.sampled_from(('exact', 'voc07', 'voc10')))
def test_average_precision_is_that_of_resampled_rows(size: tuple, dtype: torch.dtype, variant: str) -> None:
    scores, targets = data(*size)
    scores = scores.to(dtype)
    counts = all_counts(size[0], 4, size[2])
    found = resampled_average_precision(scores, targets, counts, variant)
    assert found.dtype == torch.float64
    for draw, count in enumerate(counts):
        rows = rows_of(count)
        close(found[draw], average_precision(scores[rows], targets[rows], variant).tolist())


def test_average_precision_is_scikit_learns_with_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(400, 3, generator=generator).mul(50).round().div(50)
    targets = (torch.rand(400, 3, generator=generator) < scores / 2).to(torch.int8)
    counts = all_counts(400, 10)
    found = resampled_average_precision(scores, targets, counts)
    for draw in range(10):
        expected = [
            100 * average_precision_score(targets[:, c], scores[:, c], sample_weight=counts[draw].numpy())
            for c in range(3)
        ]
        close(found[draw], expected)


@pytest.mark.parametrize('variant', ['exact', 'voc07', 'voc10'])
def test_blocks_and_threads_change_no_bit(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = data(60, 37, 5)
    scores += torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    counts = all_counts(60, 130)
    expected = resampled_average_precision(scores, targets, counts, variant)
    counted = resampled_threshold_counts(scores, targets, 0.5, counts)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(
            resampled_average_precision(scores, targets, counts, variant).nan_to_num(), expected.nan_to_num()
        )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    for name, value in (('_WIDTH', 7), ('_STEPS', 4), ('_ORDERED', 300), ('_COLUMNS', 2), ('_MARKS', 200)):
        monkeypatch.setattr(bootstrap, name, value)
    close(resampled_average_precision(scores, targets, counts, variant), expected.tolist())
    for part, other in zip(resampled_threshold_counts(scores, targets, 0.5, counts), counted, strict=True):
        assert torch.equal(part, other)


def test_a_class_without_a_drawn_positive_is_not_defined() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.3, 0.5]])
    targets = torch.tensor([[1, 0, -1], [0, 0, -1]], dtype=torch.int8)
    counts = torch.tensor([[2, 0], [0, 2], [1, 1]], dtype=torch.uint8)
    ap = resampled_average_precision(scores, targets, counts)
    close(ap, [[100, math.nan, math.nan], [math.nan] * 3, [100, math.nan, math.nan]])
    close(resampled_mean_average_precision(ap), [100, math.nan, 100])
    close(resampled_mean_average_precision(ap, 'zero'), [100 / 3, 0, 100 / 3])
    labelled = resampled_known(targets, counts) > 0
    close(resampled_mean_average_precision(ap, 'zero', labelled), [50, 0, 50])


def test_one_image_and_one_class() -> None:
    counts = all_counts(1, 3)
    assert counts.tolist() == [[1], [1], [1]]
    one = torch.ones(1, 1)
    close(resampled_average_precision(one, one.to(torch.int8), counts), [[100.0]] * 3)


def test_sums_over_images() -> None:
    values = torch.rand(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = all_counts(30, 70)
    expected = [values[rows_of(count)].sum(dim=0).tolist() for count in counts]
    close(resampled_sums(values, counts), expected)


def test_what_does_not_fit_is_named() -> None:
    scores, targets = data(6, 2, 0)
    counts = all_counts(5, 2)
    message = r'counts must have the shape \(draws, 6\), not \(2, 5\)'
    for call in (
        lambda: resampled_average_precision(scores, targets, counts),
        lambda: resampled_counts(scores > 0.5, targets, counts),
        lambda: resampled_known(targets, counts),
        lambda: resampled_sums(scores, counts),
    ):
        with pytest.raises(DataError, match=message):
            call()
    counts = all_counts(6, 2)
    with pytest.raises(ConfigError, match="no variant of AP is called 'voc7'; did you mean 'voc07'"):
        resampled_average_precision(scores, targets, counts, 'voc7')
    with pytest.raises(ConfigError, match='3 thresholds are given for 2 classes'):
        resampled_threshold_counts(scores, targets, [0.5, 0.5, 0.5], counts)
    for call in (resampled_average_precision, lambda s, t, c: resampled_threshold_counts(s, t, 0.5, c)):
        with pytest.raises(DataError, match='are .6, 2., but targets are .5, 2.'):
            call(scores, targets[:5], counts)
        with pytest.raises(DataError, match='contain NaN'):
            call(scores.masked_fill(scores > 0.5, torch.nan), targets, counts)
        with pytest.raises(DataError, match='a label must be 1'):
            call(scores, targets.masked_fill(targets == 0, 3), counts)
