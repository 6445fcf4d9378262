"""Average precision: how well the scores of a class order its images."""

from __future__ import annotations

import numpy as np
import torch

from mlcls.errors import ConfigError, did_you_mean

from .validate import check_pair, check_scores, check_targets

ABSENT_RULES = ('exclude', 'zero')
#: Classes copied column-wise at a time: reading a column of an (N, C) matrix in place is slow, a whole copy is large.
_BLOCK = 64


def average_precision(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Average precision of each class, exact.

    The area under the step function ``sum_n (R_n - R_{n-1}) P_n`` over the distinct scores, from high to low. Images
    with the same score enter together, so the order of the images never matters, and a constant score gives the share
    of positives. This is scikit-learn's ``average_precision_score``, ties included. Labels of -1 are left out.

    Args:
        scores: (N, C), higher is more likely; any real type. Float16 and bfloat16 are compared as float32.
        targets: (N, C) of 1, 0 and -1.

    Returns:
        float64 (C,) in percent, on the CPU; NaN for a class without a known positive, where it is not defined.

    Raises:
        DataError: Shapes differ, a score is NaN, or a label is not 1, 0 or -1.
    """
    scores, targets = check_scores(scores).cpu(), check_targets(targets).cpu()
    check_pair(scores, targets)
    found = np.full(scores.shape[1], np.nan)
    for start in range(0, scores.shape[1], _BLOCK):
        columns = scores[:, start : start + _BLOCK].t().contiguous().numpy()
        labels = targets[:, start : start + _BLOCK].t().contiguous().numpy()
        for offset in range(len(columns)):
            found[start + offset] = _column_ap(columns[offset], labels[offset])
    return torch.from_numpy(found)


def _column_ap(scores: np.ndarray, labels: np.ndarray) -> float:
    """AP of one class, in percent: the mean, over its positives, of the precision at their score.

    Only values are sorted, never positions: numpy sorts plain values with vector instructions, ten times faster than an
    argsort, and the two ranks of a positive (among all images, among the positives) are all that is needed.
    """
    positives = np.sort(scores[labels == 1])
    if not positives.size:
        return float('nan')
    known = labels >= 0
    ordered = np.sort(scores if known.all() else scores[known])
    # side='left' counts every image with the same score as retrieved: ties form one step.
    retrieved = ordered.size - np.searchsorted(ordered, positives, side='left')
    hits = positives.size - np.searchsorted(positives, positives, side='left')
    return 100.0 * float(np.mean(hits / retrieved))


def mean_average_precision(ap: torch.Tensor, absent: str = 'exclude') -> float:
    """Mean of the classes' AP (mAP).

    Args:
        ap: (C,) from ``average_precision``, NaN for classes without a known positive.
        absent: ``'exclude'`` leaves those classes out; ``'zero'`` counts them as 0, as mmpretrain and torchmetrics do,
            which punishes a model for the data.

    Returns:
        mAP in percent; NaN where every class is left out.

    Raises:
        ConfigError: Unknown ``absent``.
    """
    if absent not in ABSENT_RULES:
        raise ConfigError(
            f"absent must be 'exclude' or 'zero', not {absent!r}" + did_you_mean(str(absent), ABSENT_RULES)
        )
    ap = ap.double()
    return float(ap.nan_to_num(nan=0.0).mean() if absent == 'zero' else ap.nanmean())
