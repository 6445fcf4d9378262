"""From scores to yes or no, and from yes or no to counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from mlcls.errors import ConfigError

from .blocks import image_blocks
from .validate import check_no_nan, check_pair, check_targets, exact_type


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
    scores = check_no_nan(scores)
    kind = exact_type(scores.dtype)
    decide_block: Callable[[torch.Tensor], torch.Tensor]
    if thr is None and topk is not None:
        if not 1 <= topk <= scores.shape[1]:
            raise ConfigError(f'topk must be between 1 and the number of classes ({scores.shape[1]}), not {topk}')
        decide_block = partial(_highest, topk=topk)
    else:
        limits = torch.as_tensor(0.5 if thr is None else thr, dtype=kind, device=scores.device).detach()
        if limits.ndim > 1 or (limits.ndim == 1 and len(limits) != scores.shape[1]):
            raise ConfigError(
                f'{limits.numel()} thresholds are given for {scores.shape[1]} classes: '
                'give one number, or one per class in class order'
            )
        decide_block = partial(_at_least, limits=limits)
    found = torch.empty(scores.shape, dtype=torch.bool, device=scores.device)
    for rows in image_blocks(scores):
        found[rows] = decide_block(scores[rows].to(kind))
    return found


def _at_least(scores: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """``scores >= limits``; numpy compares with vector instructions where torch does not, five times as fast."""
    if scores.device.type != 'cpu':
        return scores >= limits
    return torch.from_numpy(scores.numpy() >= limits.numpy())


def _highest(scores: torch.Tensor, topk: int) -> torch.Tensor:
    """Mark the ``topk`` highest of each row; torch.topk alone leaves the choice among ties open."""
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
        tp, fp, fn, tn, int64 (C,) each, on the CPU.

    Raises:
        DataError: Shapes differ, or a label is not 1, 0 or -1.
    """
    if targets.ndim != 2:
        check_targets(targets)
    check_pair(decisions, targets)
    total = torch.zeros(4, targets.shape[1], dtype=torch.int64)
    for rows in image_blocks(targets):
        labels = check_targets(targets[rows]).cpu().numpy()
        decided = decisions[rows].detach().to(torch.bool).cpu().numpy()
        present, absent = labels == 1, labels == 0
        marks = (decided & present, decided & absent, present, absent)
        total += torch.from_numpy(np.stack([_count(each) for each in marks]))
    tp, fp, positives, negatives = total
    return ConfusionCounts(tp, fp, positives - tp, negatives - fp)


def _count(marks: np.ndarray) -> np.ndarray:
    """How often each column of bool (n, C) is True, int64 (C,).

    Up to 255 rows fit into a byte, and numpy adds bytes with vector instructions: ten times as fast as a sum.
    """
    parts, ones = len(marks) // 255, marks.view(np.uint8)
    sums = np.add.reduce(ones[: 255 * parts].reshape(parts, 255, marks.shape[1]), axis=1, dtype=np.uint8)
    return sums.sum(axis=0, dtype=np.int64) + np.add.reduce(ones[255 * parts :], axis=0, dtype=np.uint8)
