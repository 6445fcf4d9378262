"""Weights of classes that come from the training labels."""

from __future__ import annotations

import numpy as np

from mlcls.models.losses.settings import FromData
from mlcls.structures import LabelStatistics

#: beta of the effective number of samples where only a word names the rule.
BETA = 0.999


def balanced_weights(statistics: LabelStatistics) -> np.ndarray:
    """Inverse number of positives, with a mean of 1, (C,)."""
    return _mean_one(1 / positive_counts(statistics))


def sqrt_inverse_weights(statistics: LabelStatistics) -> np.ndarray:
    """Inverse square root of the number of positives, with a mean of 1, (C,)."""
    return _mean_one(1 / np.sqrt(positive_counts(statistics)))


def effective_number_weights(statistics: LabelStatistics, beta: float = BETA) -> np.ndarray:
    """Inverse effective number of samples ``(1 - beta) / (1 - beta^n)``, with a mean of 1, (C,).

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019.
    """
    return _mean_one((1 - beta) / -np.expm1(positive_counts(statistics) * np.log(beta)))


def negatives_per_positive(statistics: LabelStatistics) -> np.ndarray:
    """Known negatives over positives, (C,): weighs both sides of a class alike. 1 for a class without either."""
    ratio = statistics.negatives / positive_counts(statistics)
    return np.where((statistics.positives > 0) & (statistics.negatives > 0), ratio, 1.0)


def positive_counts(statistics: LabelStatistics) -> np.ndarray:
    """Positives of each class, at least 1, (C,)."""
    return np.maximum(statistics.positives, 1.0)


def _mean_one(weights: np.ndarray) -> np.ndarray:
    return weights / weights.mean()


#: Words for ``class_weight``.
CLASS_WEIGHTS: dict[str, FromData] = {
    'balanced': balanced_weights,
    'effective_number': effective_number_weights,
    'sqrt_inverse': sqrt_inverse_weights,
}
#: Words for ``pos_weight``.
POS_WEIGHTS: dict[str, FromData] = {'auto': negatives_per_positive}
