"""Precision, recall and F1: the classic CP to OF1 of multi-label papers, and mmpretrain's averages, named apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlcls.errors import ConfigError, did_you_mean

from .decisions import ConfusionCounts

AVERAGES = ('macro', 'micro', None)


@dataclass(frozen=True, eq=False)
class PrecisionRecallF1:
    """Percentages, 0 to 100. An empty denominator gives 0.

    Args:
        precision: Per class, float64 (C,).
        recall: Per class, float64 (C,).
        f1: Per class, float64 (C,).
        CP: Mean of the precisions of all classes.
        CR: Mean of the recalls of all classes.
        CF1: Harmonic mean of CP and CR. Not the mean of the classes' F1: that is ``macro_F1``.
        OP: Precision of the counts summed over all classes.
        OR: Recall of the summed counts.
        OF1: Harmonic mean of OP and OR.
        macro_F1: Mean of the classes' F1 (scikit-learn's "macro").
    """

    precision: torch.Tensor
    recall: torch.Tensor
    f1: torch.Tensor
    CP: float
    CR: float
    CF1: float
    OP: float
    OR: float
    OF1: float
    macro_F1: float


def _percent(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return 100.0 * part.double() / whole.double().clamp(min=1)


def _harmonic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    total = first + second
    return torch.where(total > 0, 2 * first * second / total, torch.zeros_like(total))


def precision_recall_f1(tp: torch.Tensor, fp: torch.Tensor, fn: torch.Tensor) -> PrecisionRecallF1:
    """Precision, recall and F1 in every way that papers report them, from counts.

    The classic measures follow Wu and Zhou, "A Unified View of Multi-Label Performance Measures" (2017), in the form
    that Wang et al., "CNN-RNN" (2016) and Chen et al., "ML-GCN" (2019) report: CP, CR, CF1, OP, OR, OF1.

    Args:
        tp: True positives of each class, integer (C,), C >= 1.
        fp: False positives, (C,).
        fn: False negatives, (C,).

    Returns:
        Percentages, computed in float64 on the CPU.
    """
    tp, fp, fn = (counts.detach().cpu() for counts in (tp, fp, fn))
    precision, recall = _percent(tp, tp + fp), _percent(tp, tp + fn)
    # From counts, not from the two percentages: exact where precision and recall are both 0 or both 100.
    f1 = _percent(2 * tp, 2 * tp + fp + fn)
    class_wise = precision.mean(), recall.mean()
    overall = _percent(tp.sum(), (tp + fp).sum()), _percent(tp.sum(), (tp + fn).sum())
    return PrecisionRecallF1(
        precision,
        recall,
        f1,
        CP=float(class_wise[0]),
        CR=float(class_wise[1]),
        CF1=float(_harmonic(*class_wise)),
        OP=float(overall[0]),
        OR=float(overall[1]),
        OF1=float(_harmonic(*overall)),
        macro_F1=float(f1.mean()),
    )


def averaged_scores(counts: ConfusionCounts, average: str | None = 'macro') -> dict[str, torch.Tensor]:
    """The four numbers of mmpretrain's ``MultiLabelMetric``.

    Args:
        counts: Counts of each class.
        average: ``'macro'``: mean over the classes (F1: the mean of the classes' F1, not CF1); ``'micro'``: from the
            counts summed over all classes; None: one value a class.

    Returns:
        ``precision``, ``recall`` and ``f1-score`` in percent and ``support`` (number of known positives; the sum unless
        ``average`` is None), float64 of shape () or, where ``average`` is None, (C,).

    Raises:
        ConfigError: Unknown ``average``.
    """
    if average not in AVERAGES:
        raise ConfigError(
            f"average must be 'macro', 'micro' or None, not {average!r}"
            + did_you_mean(str(average), ('macro', 'micro'))
        )
    tp, fp, fn, _ = (value.detach().cpu() for value in counts)
    if average == 'micro':
        tp, fp, fn = tp.sum(), fp.sum(), fn.sum()
    found = {
        'precision': _percent(tp, tp + fp),
        'recall': _percent(tp, tp + fn),
        'f1-score': _percent(2 * tp, 2 * tp + fp + fn),
    }
    support = (tp + fn).double()
    if average == 'macro':
        found = {name: value.mean() for name, value in found.items()}
        support = support.sum()
    return {**found, 'support': support}
