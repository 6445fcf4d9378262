"""From scores to yes or no, and from yes or no to counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from mlcls.errors import ConfigError

from .validate import check_pair, check_scores, check_targets


class ConfusionCounts(NamedTuple):
    """Counts over the known labels of each class, int64 (C,) each."""

    tp: torch.Tensor
    fp: torch.Tensor
    fn: torch.Tensor
    tn: torch.Tensor


def decide(
    scores: torch.Tensor, thr: float | Sequence[float] | torch.Tensor | None = None, topk: int | None = None
) -> torch.Tensor:
    """Decide which labels an image is given.

    ``score >= thr`` decides where ``thr`` is given (0 is a threshold like any other); else the ``topk`` highest scores
    of each image; where neither is given, ``thr`` is 0.5. Scores and thresholds are compared in the type of the scores
    (float32 for half types), so that one threshold and the same threshold written once per class decide alike.

    Args:
        scores: (N, C), NaN-free.
        thr: One threshold, or one per class (C,).
        topk: How many labels an image is given, 1 to C. Of tied scores the lower class index comes first.

    Returns:
        bool (N, C), on the device of ``scores``.

    Raises:
        ConfigError: Wrong number of thresholds, or ``topk`` outside 1 to C.
        DataError: See ``check_scores``.
    """
    scores = check_scores(scores)
    if thr is None and topk is not None:
        return _highest(scores, topk)
    limits = torch.as_tensor(0.5 if thr is None else thr, dtype=scores.dtype, device=scores.device)
    if limits.ndim > 1 or (limits.ndim == 1 and len(limits) != scores.shape[1]):
        raise ConfigError(
            f'{limits.numel()} thresholds are given for {scores.shape[1]} classes: '
            'give one number, or one per class in class order'
        )
    return scores >= limits


def _highest(scores: torch.Tensor, topk: int) -> torch.Tensor:
    """Mark the ``topk`` highest of each row; torch.topk alone leaves the choice among ties open."""
    if not 1 <= topk <= scores.shape[1]:
        raise ConfigError(f'topk must be between 1 and the number of classes ({scores.shape[1]}), not {topk}')
    limit = scores.topk(topk, dim=1).values[:, -1:]
    marked = scores >= limit
    if not bool((marked.sum(dim=1) > topk).any()):
        return marked
    above, tied = scores > limit, scores == limit
    room = topk - above.sum(dim=1, keepdim=True)
    return above | (tied & (tied.cumsum(dim=1) <= room))


def confusion_counts(decisions: torch.Tensor, targets: torch.Tensor) -> ConfusionCounts:
    """Count right and wrong decisions per class; a label of -1 counts nowhere.

    Args:
        decisions: bool (N, C).
        targets: (N, C) of 1, 0 and -1.

    Returns:
        tp, fp, fn, tn, int64 (C,) each.

    Raises:
        DataError: Shapes differ, or a label is not 1, 0 or -1.
    """
    targets = check_targets(targets)
    check_pair(decisions, targets)
    decisions = decisions.to(torch.bool)
    positive, negative = targets == 1, targets == 0
    tp, fp = _count(decisions & positive), _count(decisions & negative)
    return ConfusionCounts(tp, fp, _count(positive) - tp, _count(negative) - fp)


def _count(marks: torch.Tensor) -> torch.Tensor:
    """How often each column is True, int64; torch sums bytes five times as fast as booleans."""
    return marks.view(torch.int8).sum(dim=0)
