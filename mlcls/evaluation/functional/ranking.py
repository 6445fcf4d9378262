"""How well the scores of an image order its labels: measures of label ranking, an image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from mlcls.errors import ConfigError

from .blocks import check_rows, image_blocks, images, real_scores, share_out, whole_numbers

#: Images whose values are added up before anything else: blocks are whole segments, so sums do not depend on them.
_SEGMENT = 64
#: From this many positives an image on, numpy's own search, called once an image, is faster than the one for all.
_MANY = 24


class RankedImages(NamedTuple):
    """How many images the measures of ranking are means over.

    Args:
        with_positive: Images with a known positive: all measures but the ranking loss.
        with_both: Images with a known positive and a known negative: the ranking loss.
    """

    with_positive: int
    with_both: int


class _Positives(NamedTuple):
    """The known positives of a block, image by image and by ascending score within an image; (p,) unless said.

    Args:
        starts: (q,) position of the first positive of each image that has one.
        images: (q,) number of that image in the block.
        counts: (q,) number of its positives.
        known: (q,) number of its known labels.
        at_least: Rank of a positive: number of known labels of its image with its score or a higher one.
        hits: Number of positives among these.
        ties: Number of known labels with the same score, itself included.
    """

    starts: np.ndarray
    images: np.ndarray
    counts: np.ndarray
    known: np.ndarray
    at_least: np.ndarray
    hits: np.ndarray
    ties: np.ndarray


def ranking_measures(scores: torch.Tensor, targets: torch.Tensor, ks: Sequence[int] = (1, 3, 5)) -> dict[str, float]:
    """Measures of how the known labels of each image are ordered by score, as means over images.

    With the rank of a label = number of known labels of the image with its score or a higher one:

    - ``LRAP``, percent: label ranking average precision: mean over the positives of an image of the share of positives
      among the labels of its rank or a better one. ``label_ranking_average_precision_score`` of scikit-learn.
    - ``coverage``, a number of labels, 1 to C: the worst rank of a positive, that is how far one must go down to cover
      all of them. ``coverage_error`` of scikit-learn (some papers subtract 1).
    - ``ranking_loss``, percent: share of the pairs of a positive and a negative of an image in which the negative has
      the same or a higher score. ``label_ranking_loss`` of scikit-learn.
    - ``one_error``, percent: share of images whose first label is not positive.
    - ``precision@k``, ``recall@k``, percent: positives among the first k labels, divided by k and by the number of
      positives of the image.
    - ``nDCG@k``, percent: sum over the positives among the first k of 1 / log2(1 + position), divided by the most that
      it could be. ``ndcg_score`` of scikit-learn.

    Which of several labels with the same score are the first k is open; the last four measures are the mean over all
    orders of these labels, as scikit-learn's nDCG is, so that the order of the classes never matters. Definitions:
    Tsoumakas, Katakis and Vlahavas, "Mining Multi-label Data" (2010), section 7; Järvelin and Kekäläinen, "Cumulated
    Gain-based Evaluation of IR Techniques" (2002).

    Unknown labels (-1) are taken out of the order. Images without a known positive are left out, and images without a
    known negative are left out of the ranking loss (``ranked_images`` counts both). scikit-learn keeps these: an image
    without a positive has LRAP 1, coverage 0, nDCG 0 and ranking loss 0 there, which rewards or punishes a model for
    the data.

    Time: a sort of the scores of each image, on as many threads as torch may use. Memory: blocks of images.

    Args:
        scores: (N, C), higher is more likely; any real type. Float16 and bfloat16 are compared as float32.
        targets: (N, C) of 1, 0 and -1.
        ks: Lengths of the beginning of the order; k above C is allowed.

    Returns:
        The measures above, in that order; those with k for each of ``ks``. NaN where no image can be ranked.

    Raises:
        ConfigError: A k that is not an integer of at least 1, or is given twice.
        DataError: Shapes differ, a score is NaN, or a label is not 1, 0 or -1.
    """
    check_ks(ks)
    scores, targets = check_rows(scores, targets)

    def work(block: slice) -> np.ndarray:
        values = real_scores(images(scores, block), scores)
        return _segment_sums(values, whole_numbers(images(targets, block), targets), ks)

    parts = share_out(work, image_blocks(scores, _SEGMENT))
    columns = 5 + 3 * len(ks) + 1
    total = np.concatenate([np.zeros((0, columns)), *parts]).sum(axis=0)
    with_positive, with_both = total[:2]
    mean = total[2:] / with_positive if with_positive else np.full(columns - 2, np.nan)
    first_hits, by_k = mean[3], mean[4:].reshape(3, len(ks))
    found = {
        'LRAP': 100 * mean[0],
        'coverage': mean[1],
        'ranking_loss': 100 * total[4] / with_both if with_both else np.nan,
        'one_error': 100 * max(1 - first_hits, 0.0) if with_positive else np.nan,
    }
    for name, values in zip(('precision', 'recall', 'nDCG'), by_k, strict=True):
        found |= {f'{name}@{k}': 100 * value for k, value in zip(ks, values, strict=True)}
    return {name: float(value) for name, value in found.items()}


def check_ks(ks: Sequence[int]) -> None:
    """Raise ConfigError unless ``ks`` are different integers of at least 1."""
    for k in ks:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigError(f'ks must be integers of at least 1, not {k!r}')
    if len(set(ks)) < len(ks):
        raise ConfigError(f'ks must be different from each other, not {list(ks)}')


def ranked_images(targets: torch.Tensor) -> RankedImages:
    """Count the images that ``ranking_measures`` can rank.

    Args:
        targets: (N, C) of 1, 0 and -1.

    Raises:
        DataError: Not two-dimensional, or a label is not 1, 0 or -1.
    """
    _, targets = check_rows(targets, targets)
    positive = both = 0
    for block in image_blocks(targets):
        labels = whole_numbers(images(targets, block), targets)
        has_positive = (labels == 1).any(axis=1)
        positive += int(has_positive.sum())
        both += int((has_positive & (labels == 0).any(axis=1)).sum())
    return RankedImages(positive, both)


def _segment_sums(scores: np.ndarray, labels: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Sums over the images of each segment, float64 (segments, columns).

    Columns: images with a positive, images with both, LRAP, coverage, ranking loss, hits at 1, then hits, recall and
    nDCG at each k.
    """
    found = _rank(scores, labels)
    negatives = found.known - found.counts
    pairs = np.add.reduceat(found.at_least - found.hits, found.starts) if len(found.starts) else negatives
    lrap = np.add.reduceat(found.hits / found.at_least, found.starts) if len(found.starts) else negatives
    both = negatives > 0
    columns = [
        np.ones(len(found.images)),
        both,
        lrap / found.counts,
        found.at_least[found.starts],  # the positive with the lowest score comes first
        pairs / (found.counts * np.where(both, negatives, 1)),
        *_first_labels(found, ks),
    ]
    segment = found.images // _SEGMENT
    count = -(-len(scores) // _SEGMENT)
    return np.stack([np.bincount(segment, column, minlength=count) for column in columns], axis=1)


def _first_labels(found: _Positives, ks: Sequence[int]) -> list[np.ndarray]:
    """Of each image hits at 1, then hits / k, recall and nDCG at each k, float64 (q,)."""
    above = found.at_least - found.ties
    near = np.flatnonzero(above < max(ks, default=1))
    image = np.repeat(np.arange(len(found.starts)), found.counts)[near]
    first, last, ties = above[near], found.at_least[near], found.ties[near]

    def gained(gains: np.ndarray) -> np.ndarray:
        """Sum over the positives of the mean gain over the positions that their ties share."""
        upto = np.concatenate([[0.0], np.cumsum(gains)])
        end = len(gains)
        share = (upto[np.minimum(last, end)] - upto[np.minimum(first, end)]) / ties
        return np.bincount(image, share, minlength=len(found.starts))

    hits = {k: gained(np.ones(k)) for k in {1, *ks}}
    ndcg = []
    for k in ks:
        discounts = 1 / np.log2(np.arange(2, k + 2))
        best = np.cumsum(discounts)
        ndcg.append(gained(discounts) / best[np.minimum(found.counts, k) - 1])
    return [hits[1], *(hits[k] / k for k in ks), *(hits[k] / found.counts for k in ks), *ndcg]


def _rank(scores: np.ndarray, labels: np.ndarray) -> _Positives:
    """Ranks of the positives: the scores of each image are sorted, as plain values, and the positives looked up."""
    num_images, num_classes = scores.shape
    positive = np.flatnonzero(labels == 1)
    rows, marks = positive // max(1, num_classes), scores.ravel()[positive]
    known = np.full(num_images, num_classes)
    if labels.size and labels.min() < 0:
        scores = np.where(labels < 0, scores.dtype.type(np.inf), scores)  # behind all others
        known -= (labels < 0).sum(axis=1)
    ordered = np.sort(scores, axis=1)
    if len(rows) >= _MANY * num_images:
        lower = _search_each(ordered, rows, marks)
    else:
        lower = _search(ordered, rows, marks, np.less)
    # Within an image the number of lower scores orders the positives as their scores do, ties included.
    keys = rows * (num_classes + 1) + lower
    keys.sort()
    rows = keys // (num_classes + 1)
    lower = keys - rows * (num_classes + 1)
    counts = np.bincount(rows, minlength=num_images)
    ranked = np.flatnonzero(counts)
    counts = counts[ranked]
    ends = np.cumsum(counts)
    new = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
    first = np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
    return _Positives(
        starts=ends - counts,
        images=ranked,
        counts=counts,
        known=known[ranked],
        at_least=known[rows] - lower,
        hits=np.repeat(ends, counts) - first,
        ties=_ties(ordered, rows, lower, known),
    )


def _ties(ordered: np.ndarray, rows: np.ndarray, lower: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How many known labels of the image have the score of each positive; only real ties are searched for."""
    num_classes, flat = ordered.shape[1], ordered.ravel()
    place = rows * num_classes + lower
    ties = np.ones(len(rows), np.int64)
    tied = np.flatnonzero(lower + 1 < known[rows])
    tied = tied[flat[place[tied]] == flat[place[tied] + 1]]
    upto = _search(ordered, rows[tied], flat[place[tied]], np.less_equal)
    ties[tied] = np.minimum(upto, known[rows[tied]]) - lower[tied]  # unknown labels lie at infinity
    return ties


def _search(ordered: np.ndarray, rows: np.ndarray, marks: np.ndarray, before: np.ufunc) -> np.ndarray:
    """How many scores of an image are ``before`` each mark: a binary search for all marks in step.

    Args:
        ordered: (n, C), each row ascending.
        rows: int64 (p,), the row of each mark.
        marks: (p,).
        before: ``np.less`` or ``np.less_equal``.
    """
    flat, start = ordered.ravel(), rows * ordered.shape[1]
    place, left = start.copy(), ordered.shape[1]
    while left > 1:
        half = left // 2
        place += half * before(flat[place + (half - 1)], marks)
        left -= half
    return place - start + before(flat[place], marks)


def _search_each(ordered: np.ndarray, rows: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """``_search`` with ``np.less``, image by image; ``rows`` must ascend."""
    ends = np.searchsorted(rows, np.arange(len(ordered) + 1))
    found = np.empty(len(rows), np.int64)
    for row, (start, end) in enumerate(pairwise(ends.tolist())):
        found[start:end] = np.searchsorted(ordered[row], marks[start:end])
    return found
