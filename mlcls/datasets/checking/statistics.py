"""Numbers about labels: counts, co-occurrence, rules, and how well few positives measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlcls.structures import PRESENT, UNKNOWN, LabelMatrix

#: Quantile of the normal distribution for intervals of 95 %.
Z95 = 1.959964
#: Of more classes, co-occurrence is written out for the most frequent so many.
MAX_MATRIX = 100


def split_statistics(labels: LabelMatrix) -> dict[str, Any]:
    """Numbers of one split, as plain data.

    Returns:
        ``images``, ``classes``, ``classes_present`` (with at least one positive), ``positives`` and ``unknown`` (one
        number a class), ``labels_per_image`` (mean), ``labels_per_image_counts`` (images with 0, 1, 2, ... labels),
        ``without_labels`` (images), ``distinct_label_sets``, ``unknown_share`` (of all labels) and ``imbalance``
        (most over least frequent of the classes present).
    """
    positives, unknown = labels.counts(), labels.counts(UNKNOWN)
    sizes = label_counts(labels)
    seen = positives[positives > 0]
    return {
        'images': len(labels),
        'classes': labels.num_classes,
        'classes_present': int((positives > 0).sum()),
        'positives': positives.tolist(),
        'unknown': unknown.tolist(),
        'labels_per_image': float(sizes.mean()) if len(sizes) else 0.0,
        'labels_per_image_counts': np.bincount(sizes).tolist(),
        'without_labels': int((sizes == 0).sum()),
        'distinct_label_sets': len(np.unique(label_set_keys(labels))),
        'unknown_share': float(unknown.sum() / max(np.prod(labels.shape), 1)),
        'imbalance': float(seen.max() / seen.min()) if len(seen) else 0.0,
    }


def present_csr(labels: LabelMatrix) -> Any:
    """The present labels as a sparse 0/1 matrix (N, C) of scipy's."""
    from scipy.sparse import csr_matrix

    if labels.default == PRESENT:
        labels = LabelMatrix.from_dense(labels.dense())
    present = labels.values == PRESENT
    bounds = np.concatenate([[0], np.cumsum(present)])[labels.indptr]
    ones = np.ones(int(present.sum()), np.int64)
    return csr_matrix((ones, labels.indices[present], bounds), labels.shape)


def label_counts(labels: LabelMatrix) -> np.ndarray:
    """Number of present labels of each image, int64 (N,)."""
    return np.diff(present_csr(labels).indptr).astype(np.int64)


def label_set_keys(labels: LabelMatrix) -> np.ndarray:
    """A number for each image, equal where the sets of present labels are (but for a chance of 1 in 2^64), uint64."""
    keys = np.random.default_rng(0).integers(0, 2**63, labels.num_classes, dtype=np.uint64)
    present = present_csr(labels)
    images = np.repeat(np.arange(len(labels)), np.diff(present.indptr))
    sums = np.zeros(len(labels), np.uint64)
    np.add.at(sums, images, keys[present.indices])
    return sums


def cooccurrence(parts: Sequence[LabelMatrix], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """How many images show both of two classes.

    Args:
        parts: Labels of one or more splits with the same classes.
        limit: Of more classes than this, only the most frequent are looked at.

    Returns:
        Ids of the K classes looked at, int64 (K,), most frequent first, and the counts, int64 (K, K); their diagonal
        has the number of images of each class.
    """
    order = np.argsort(-np.sum([labels.counts() for labels in parts], axis=0), kind='stable')[:limit]
    columns = [present_csr(labels)[:, order] for labels in parts]
    return order, np.sum([np.asarray((present.T @ present).todense(), np.int64) for present in columns], axis=0)


@dataclass(frozen=True)
class Rule:
    """Images with class ``a`` show class ``b`` too.

    Args:
        a: Position of the class that implies.
        b: Position of the class that is implied.
        support: Images with both.
        count: Images with ``a``.
        confidence: (support + 1) / (count + 2), Laplace's rule.
        base: Share of all images with ``b``.
    """

    a: int
    b: int
    support: int
    count: int
    confidence: float
    base: float


def strong_rules(
    counts: np.ndarray, images: int, min_confidence: float = 0.95, significance: float = 0.001
) -> list[Rule]:
    """Rules that hold (almost) without exception and are no accident, strongest support first.

    If ``a`` said nothing about ``b``, ``support`` would follow a binomial distribution (count, base); its tail must lie
    below ``significance`` over the number of pairs (Bonferroni). So rules about a class that nearly every image shows
    are left out.

    Args:
        counts: (K, K) of `cooccurrence`; rules have positions in it.
        images: N.
        min_confidence: Least confidence after Laplace's correction.
        significance: Probability of one such rule or more by chance.
    """
    from scipy.stats import binom

    alone = counts.diagonal().astype(np.float64)
    confidence = (counts + 1) / (alone[:, None] + 2)
    base = alone / max(images, 1)
    np.fill_diagonal(confidence, 0)
    first, second = np.nonzero(confidence >= min_confidence)
    chance = binom.sf(counts[first, second] - 1, alone[first], base[second])
    real = chance < significance / max(len(alone) * (len(alone) - 1), 1)
    found = [
        Rule(a, b, int(counts[a, b]), int(alone[a]), float(confidence[a, b]), float(base[b]))
        for a, b in zip(first[real].tolist(), second[real].tolist())
    ]
    return sorted(found, key=lambda rule: (-rule.support, rule.a, rule.b))


def wilson_interval(successes: float, trials: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), by default of 95 %.

    Args:
        successes: 0 to ``trials``; need not be whole.
        trials: At least 0; of 0, nothing is known: (0, 1).
        z: Quantile of the normal distribution.
    """
    if trials <= 0:
        return 0.0, 1.0
    share, z2 = successes / trials, z * z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * (share * (1 - share) / trials + z2 / (4 * trials**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def recall_uncertainty(positives: int) -> float:
    """Half the width of the 95 % interval of a recall of one half measured on so many positives, 0 to 0.5."""
    low, high = wilson_interval(positives / 2, positives)
    return (high - low) / 2


def frequency_p_values(counts: np.ndarray, images: int, other_counts: np.ndarray, other_images: int) -> np.ndarray:
    """Could both splits have the same share of each class? Two-sided p values, float64 (C,).

    Pearson's chi-square test with Yates' correction where all four expected counts are at least 5, else Fisher's exact
    test.

    Args:
        counts: Images with each class in one split, (C,).
        images: Images of that split.
        other_counts: The same of the other split.
        other_images: The same of the other split.
    """
    from scipy.stats import chi2, fisher_exact

    a, b = counts.astype(np.float64), other_counts.astype(np.float64)
    table = np.stack([a, images - a, b, other_images - b], axis=1)
    total = images + other_images
    with_class = a + b
    expected = np.stack(
        [
            with_class * images,
            (total - with_class) * images,
            with_class * other_images,
            (total - with_class) * other_images,
        ],
        axis=1,
    ) / max(total, 1)
    with np.errstate(divide='ignore', invalid='ignore'):
        distance = np.maximum(np.abs(table - expected) - 0.5, 0)
        p_values = chi2.sf(np.nansum(distance**2 / expected, axis=1), 1)
    for number in np.flatnonzero(expected.min(axis=1) < 5):
        p_values[number] = fisher_exact(table[number].reshape(2, 2)).pvalue
    return p_values


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values corrected for their number (Holm 1979), float64."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected
