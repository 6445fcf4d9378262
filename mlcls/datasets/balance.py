"""Repeat factors of images, the threshold to choose for them, and a table of what balancing does to the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlcls.structures import PRESENT, LabelMatrix

from .balance_weights import LabelSets, balanced_weights, imbalance

#: ``'auto'`` lengthens an epoch at most so much ...
MAX_LENGTH = 1.5
#: ... and takes the smallest threshold that brings this share of the fall in imbalance which that length can bring.
ENOUGH = 0.9
#: Limits of `MultiLabelBalancedSampler` where none are given.
MAX_REPEAT, MIN_SHARE = 5.0, 0.2
_CANDIDATES = 400


def repeat_factors(labels: LabelMatrix, threshold: float) -> np.ndarray:
    """How often each image should be drawn in an epoch, float64 (N,), at least 1.

    With f(c) the share of images that contain class c, a class has r(c) = max(1, sqrt(threshold / f(c))), and an image
    the largest r of its classes. Unknown labels count as absent; an image without labels has 1.
    (Gupta et al., LVIS, arXiv 1908.03195, section 4.2.)

    Args:
        labels: Labels of the N images.
        threshold: Share of images below which a class is repeated.
    """
    if labels.default == PRESENT:
        labels = LabelMatrix.from_dense(labels.dense())
    by_class = _class_factors(labels.counts() / len(labels), threshold, len(labels))
    images = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))
    present = labels.values == PRESENT
    factors = np.ones(len(labels))
    np.maximum.at(factors, images[present], by_class[labels.indices[present]])
    return factors


def _class_factors(shares: np.ndarray, threshold: float, count: int) -> np.ndarray:
    return np.sqrt(np.maximum(threshold / np.maximum(shares, 1 / count), 1.0))


def auto_threshold(labels: LabelMatrix) -> float:
    """A threshold for `repeat_factors` that fits the data, in (0, 1].

    Raising the threshold makes classes more even, but ever less so, because images of rare classes drag frequent ones
    along, while the epoch grows all the more. The threshold returned is the smallest that brings `ENOUGH` of the fall
    in `imbalance` that is possible with an epoch at most `MAX_LENGTH` times as long. It is never below the share of the
    rarest class, and above it unless repeating brings nothing.

    Args:
        labels: Labels of the N images; unknown ones count as absent.
    """
    sets = LabelSets.of(labels)
    counts = sets.exposure(sets.images)
    if not counts.any():
        return 1.0
    total = len(labels)
    candidates = np.geomspace(counts[counts > 0].min() / total, 1.0, _CANDIDATES)
    gains = []
    for threshold in candidates:
        factors = sets.largest(_class_factors(counts / total, threshold, total), 1.0)
        draws = sets.images * factors
        if draws.sum() > MAX_LENGTH * total:
            break
        gains.append(imbalance(counts) - imbalance(sets.exposure(draws)))
    enough = np.array(gains) >= ENOUGH * max(gains)
    return float(candidates[np.argmax(enough)]) if max(gains) > 1e-12 else float(candidates[0])


@dataclass(frozen=True, eq=False)
class BalanceRow:
    """What one way to draw does to the classes.

    Args:
        name: The way: ``'each image once'``, ``'threshold 0.05'``, ...
        threshold: Of the repeat factors; None for other ways.
        length: Draws of an epoch over images.
        shares: float64 (C,): share of the draws in which each class is present.
        ratio: Most over least frequent class that has images; 1 without any.
        imbalance: See `imbalance`.
        entropy: Entropy of the classes' shares of all labels drawn, over that of equal shares; in [0, 1].
        dragged: Share of the extra draws (those beyond one an image) that show the most frequent class; nan without.
    """

    name: str
    threshold: float | None
    length: float
    shares: np.ndarray
    ratio: float
    imbalance: float
    entropy: float
    dragged: float


def balance_row(labels: LabelMatrix, name: str, draws: np.ndarray, threshold: float | None = None) -> BalanceRow:
    """Measure a way to draw.

    Args:
        labels: Labels of the N images.
        name: Of the row.
        draws: (N,) mean number of times that an epoch draws each image.
        threshold: Kept in the row.
    """
    sets = LabelSets.of(labels)
    per_set = np.bincount(sets.set_of, draws, len(sets.images))
    exposure = sets.exposure(per_set)
    drawn = exposure[exposure > 0]
    parts = drawn / drawn.sum()
    head = int(np.argmax(sets.exposure(sets.images)))
    extra = np.maximum(draws - 1, 0)
    with_head = np.bincount(sets.set_of, extra, len(sets.images))[sets.rows[sets.columns == head]].sum()
    return BalanceRow(
        name=name,
        threshold=threshold,
        length=float(draws.sum() / len(labels)),
        shares=exposure / draws.sum(),
        ratio=float(drawn.max() / drawn.min()) if drawn.size else 1.0,
        imbalance=imbalance(exposure),
        entropy=float(-(parts * np.log(parts)).sum() / np.log(drawn.size)) if drawn.size > 1 else 1.0,
        dragged=float(with_head / extra.sum()) if extra.sum() > 0 else float('nan'),
    )


def balance_table(labels: LabelMatrix, thresholds: Sequence[float | str]) -> list[BalanceRow]:
    """What drawing each image once and each threshold do to the classes; ``'auto'`` stands for `auto_threshold`."""
    rows = [balance_row(labels, 'each image once', np.ones(len(labels)))]
    for given in thresholds:
        threshold = auto_threshold(labels) if isinstance(given, str) else float(given)
        name = f'auto {threshold:.3g}' if isinstance(given, str) else f'threshold {threshold:g}'
        rows.append(balance_row(labels, name, repeat_factors(labels, threshold), threshold))
    return rows


def format_balance(labels: LabelMatrix, classes: Sequence[str], thresholds: Sequence[float | str]) -> str:
    """A table for people: shares of classes under each threshold and under `MultiLabelBalancedSampler`, rarest first.

    Args:
        labels: Labels of the N images.
        classes: Their C names.
        thresholds: Of `ClassBalancedDataset`; ``'auto'`` stands for `auto_threshold`.
    """
    best = balanced_weights(labels, MAX_REPEAT, MIN_SHARE)
    rows = [*balance_table(labels, thresholds), balance_row(labels, 'sampler', best.multipliers)]
    counts = labels.counts()
    width = max(len('max/min of classes'), *(len(name) for name in classes))
    wide = max(len(row.name) for row in rows) + 2
    lines = [f'{"":{width}} {"images":>8}' + ''.join(f'{row.name:>{wide}}' for row in rows)]
    for number in np.argsort(counts, kind='stable'):
        shares = ''.join(f'{row.shares[number]:>{wide}.2%}' for row in rows)
        lines.append(f'{classes[number]:{width}} {counts[number]:8d}{shares}')
    for title, cells in (
        ('epoch', [f'x{row.length:.2f}' for row in rows]),
        ('max/min of classes', [f'{row.ratio:.1f}' for row in rows]),
        ('imbalance', [f'{row.imbalance:.3f}' for row in rows]),
        ('entropy', [f'{row.entropy:.1%}' for row in rows]),
        ('with the head class', ['-' if np.isnan(row.dragged) else f'{row.dragged:.0%}' for row in rows]),
    ):
        lines.append(f'{title:{width}} {"":8}' + ''.join(f'{cell:>{wide}}' for cell in cells))
    return '\n'.join([*lines, '', *_explanation(rows, classes[int(np.argmax(counts))], best.bound)])


def _explanation(rows: Sequence[BalanceRow], head: str, bound: float) -> list[str]:
    lines = [
        'imbalance: log of arithmetic over geometric mean of the shares; 0 is even.',
        f"With the head class: share of the draws beyond one an image that also show '{head}', the most frequent.",
        f'No weights of images from {MIN_SHARE:g} to {MAX_REPEAT:g} bring the imbalance below {bound:.3f}, because '
        'classes share images.',
    ]
    missing = int((rows[0].shares == 0).sum())
    if missing:
        lines.append(
            f'{missing} class{"es" if missing > 1 else ""} without images cannot be balanced and do not count.'
        )
    return lines
