"""Average precision: how well the scores of a class order its images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mlcls.errors import ConfigError, did_you_mean

from .blocks import check_rows, class_blocks, columns, real_scores, share_out, whole_numbers

ABSENT_RULES = ('exclude', 'zero')
#: Up to this many positives each of them is compared with all images, which then takes less time than a sort.
_FEW = 16


def average_precision(scores: torch.Tensor, targets: torch.Tensor, variant: str = 'exact') -> torch.Tensor:
    """Average precision of each class.

    Images with the same score enter the precision-recall curve together, as one step, so the order of the images never
    matters, and a constant score gives the share of positives. Labels of -1 are left out. The variants, with points
    ``(R_n, P_n)`` at the distinct scores, from high to low:

    - ``'exact'``: ``sum_n (R_n - R_(n-1)) P_n``, scikit-learn's ``average_precision_score``, ties included.
    - ``'voc07'``: mean over t = 0, 0.1, ..., 1 of the highest precision at a recall of at least t, which is compared
      as a fraction, without rounding. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge" (2010),
      section 4.2.
    - ``'voc10'``: ``sum_n (R_n - R_(n-1)) max_(m >= n) P_m``, the area under the curve made monotone. Development kit
      of VOC2010, section 3.4.1.

    Time: a sort of the scores of each class, on as many threads as torch may use. Memory: blocks of classes.

    Args:
        scores: (N, C), higher is more likely; any real type. Float16 and bfloat16 are compared as float32.
        targets: (N, C) of 1, 0 and -1.
        variant: One of the above. Figures of different variants do not compare.

    Returns:
        float64 (C,) in percent, on the CPU; NaN for a class without a known positive, where it is not defined.

    Raises:
        ConfigError: Unknown ``variant``.
        DataError: Shapes differ, a score is NaN, or a label is not 1, 0 or -1.
    """
    if variant not in VARIANTS:
        raise ConfigError(
            f"variant must be 'exact', 'voc07' or 'voc10', not {variant!r}" + did_you_mean(str(variant), VARIANTS)
        )
    area = VARIANTS[variant]
    scores, targets = check_rows(scores, targets)

    def work(block: slice) -> list[float]:
        values = columns(scores, block)
        labels = whole_numbers(columns(targets, block), targets)
        return [_class_ap(real_scores(value, scores), label, area) for value, label in zip(values, labels, strict=True)]

    found = [ap for part in share_out(work, class_blocks(scores)) for ap in part]
    return torch.tensor(found, dtype=torch.float64)


#: From precision and hits at the positives of a class, by ascending score, to the area.
Area = Callable[[np.ndarray, np.ndarray], float]


def _exact(precision: np.ndarray, hits: np.ndarray) -> float:
    """Each positive adds 1 / P of recall, at the precision of its score."""
    return float(np.mean(precision))


def _voc10(precision: np.ndarray, hits: np.ndarray) -> float:
    """A lower score has the same or a higher recall: the highest precision so far, from the lowest score on."""
    return float(np.mean(np.maximum.accumulate(precision)))


def _voc07(precision: np.ndarray, hits: np.ndarray) -> float:
    """Recall falls with the score, so that those of at least t are the first ones; t = 0.3 is 3 / 10, not a float."""
    highest = np.maximum.accumulate(precision)
    reached = [np.count_nonzero(10 * hits >= tenths * hits.size) for tenths in range(11)]
    return float(np.mean(highest[np.array(reached) - 1]))


VARIANTS: dict[str, Area] = {'exact': _exact, 'voc07': _voc07, 'voc10': _voc10}


def _class_ap(scores: np.ndarray, labels: np.ndarray, area: Area) -> float:
    """AP of one class, in percent; ``scores`` may be sorted in place.

    Only values are sorted, never positions: numpy sorts plain values with vector instructions, ten times faster than an
    argsort, and the two ranks of a positive (among all images, among the positives) are all that is needed. Between
    two positives precision only falls, so that no variant needs the points there.
    """
    positives = np.sort(scores[labels == 1])
    if not positives.size:
        return float('nan')
    known = scores if labels.min() >= 0 else scores[labels >= 0]
    # Every image with the same score counts as retrieved: ties form one step.
    if positives.size <= _FEW:
        retrieved = np.array([np.count_nonzero(known >= lowest) for lowest in positives])
    else:
        known.sort()
        retrieved = known.size - np.searchsorted(known, positives, side='left')
    hits = positives.size - np.searchsorted(positives, positives, side='left')
    return 100.0 * area(hits / retrieved, hits)


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
