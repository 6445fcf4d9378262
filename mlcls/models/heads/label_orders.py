"""In which order a classifier chain takes the labels."""

from __future__ import annotations

import numpy as np

from mlcls.structures import ABSENT, PRESENT, LabelStatistics

#: Images whose labels are made dense at a time.
_BLOCK = 1 << 13


def frequency_order(statistics: LabelStatistics) -> np.ndarray:
    """Classes from the most to the least frequent one, int64 (C,); equally frequent ones as they are numbered."""
    return np.argsort(-statistics.positives, kind='stable')


def pairwise_information(statistics: LabelStatistics) -> np.ndarray:
    """Mutual information of each pair of labels, in nats, over the images where both are known.

    Returns:
        float64 (C, C), symmetric, at least 0; the diagonal is 0.
    """
    labels = statistics.labels
    size = labels.num_classes
    draws = np.ones(len(labels)) if statistics.draws is None else np.asarray(statistics.draws, np.float64)
    joint = np.zeros((2, 2, size, size))
    for first in range(0, len(labels), _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, len(labels)))
        dense = labels.select(rows).dense()
        is_ = [(dense == value).astype(np.float32) for value in (ABSENT, PRESENT)]
        weight = draws[rows, None].astype(np.float32)
        for a in (0, 1):
            for b in (0, 1):
                joint[a, b] += (is_[a] * weight).T @ is_[b]
    joint /= np.maximum(joint.sum((0, 1)), np.finfo(float).tiny)
    expected = joint.sum(1)[:, None] * joint.sum(0)[None]
    with np.errstate(divide='ignore', invalid='ignore'):
        terms = np.where(joint > 0, joint * np.log(joint / expected), 0.0)
    information = np.maximum(terms.sum((0, 1)), 0.0)
    np.fill_diagonal(information, 0.0)
    return information


def dependence_order(statistics: LabelStatistics) -> np.ndarray:
    """Classes so that each depends on those before it as much as may be, int64 (C,).

    The first has the largest sum of mutual information with all others; each next one the largest sum with those
    already taken. Of equal ones the first is taken.
    """
    information = pairwise_information(statistics)
    order = [int(information.sum(1).argmax())]
    gain = information[order[0]].copy()
    gain[order[0]] = -np.inf
    while len(order) < len(gain):
        order.append(int(gain.argmax()))
        gain += information[order[-1]]
        gain[order[-1]] = -np.inf
    return np.asarray(order, np.int64)
