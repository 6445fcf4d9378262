"""Area under the ROC curve: how often a present label is scored above an absent one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .blocks import check_rows, class_blocks, columns, image_blocks, images, real_scores, share_out, whole_numbers
from .validate import check_scores

#: Most scores of one kind that ``micro_auroc`` sorts at a time: of the rarer kind, and of the other.
_FEW, _MANY = 1 << 23, 1 << 25
#: Look-ups at a time: their positions take 8 bytes each.
_LOOKUPS = 1 << 20


def auroc(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Area under the ROC curve of each class, exact.

    The Mann-Whitney statistic: the share of (positive, negative) pairs of images of which the positive has the higher
    score; a pair with equal scores counts one half (midranks), so the order of the images never matters. This is
    scikit-learn's ``roc_auc_score``. Source: Hanley and McNeil, "The Meaning and Use of the Area under a Receiver
    Operating Characteristic (ROC) Curve" (1982). Labels of -1 are left out.

    Args:
        scores: (N, C), higher is more likely; any real type. Float16 and bfloat16 are compared as float32.
        targets: (N, C) of 1, 0 and -1.

    Returns:
        float64 (C,) in percent, on the CPU; NaN for a class without a known positive or without a known negative,
        where it is not defined. 50 is chance.

    Raises:
        DataError: Shapes differ, a score is NaN, or a label is not 1, 0 or -1.
    """
    scores, targets = check_rows(scores, targets)

    def work(block: slice) -> list[float]:
        values = real_scores(columns(scores, block), scores)
        labels = whole_numbers(columns(targets, block), targets)
        return [_class_auroc(*each) for each in zip(values, labels)]

    parts = share_out(work, class_blocks(scores))
    return torch.tensor([value for part in parts for value in part], dtype=torch.float64)


def _class_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """AUROC of one class in percent. Plain values are sorted, which is ten times as fast as sorting positions."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    if not (positives.size and negatives.size):
        return float('nan')
    return _percent(_pairs(np.sort(positives), np.sort(negatives)), positives.size, negatives.size)


def mean_auroc(values: torch.Tensor) -> float:
    """Mean of the classes' AUROC ("macro") over those where it is defined.

    Args:
        values: (C,) from ``auroc``.

    Returns:
        Percent; NaN where it is defined for no class.
    """
    return float(values.double().nanmean())


def micro_auroc(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """Area under the ROC curve over all known pairs of image and class together ("micro"), exact.

    It compares scores across classes, so it also asks whether these mean the same for each of them. scikit-learn's
    ``roc_auc_score(average='micro')``.

    Memory does not grow with N x C: about 0.25 GB at the most. Half types have 65,536 values, whose counts say
    everything. Otherwise the rarer kind of label (as a rule the positives) is sorted, at most 8 million scores at a
    time, and looked up in sorted blocks of the other kind, 32 million at a time; the counts of pairs add up to the
    same integer for any blocks.

    Args:
        scores: (N, C), any real type.
        targets: (N, C) of 1, 0 and -1.

    Returns:
        Percent; NaN where there is no known positive or no known negative.

    Raises:
        DataError: As ``auroc``.
    """
    scores, targets = check_rows(scores, targets)
    if scores.dtype in (torch.float16, torch.bfloat16):
        positives, negatives = _counts_by_value(scores, targets)
        below = np.cumsum(negatives) - negatives
        twice = sum(int(p) * int(b) for p, b in zip(positives, 2 * below + negatives) if p)
        return _percent(twice, int(positives.sum()), int(negatives.sum()))
    num_positives = num_negatives = 0
    for rows in image_blocks(targets):
        labels = whole_numbers(images(targets, rows), targets)
        num_positives += int(np.count_nonzero(labels == 1))
        num_negatives += int(np.count_nonzero(labels == 0))
    few = int(num_positives <= num_negatives)
    twice = 0
    for values in _sorted_parts(scores, targets, few, min(_FEW, num_positives, num_negatives)):
        for others in _sorted_parts(scores, targets, 1 - few, min(_MANY, max(num_positives, num_negatives))):
            twice += _pairs(values, others)
    total = 2 * num_positives * num_negatives
    return _percent(twice if few == 1 else total - twice, num_positives, num_negatives)


def _percent(twice: int, positives: int, negatives: int) -> float:
    """From twice the number of pairs in the right order, equal ones counted once."""
    return 100.0 * twice / (2 * positives * negatives) if positives and negatives else float('nan')


def _pairs(values: np.ndarray, others: np.ndarray) -> int:
    """Twice the number of pairs with ``value > other``, and once those with ``value == other``; both sorted."""
    twice = 0
    for start in range(0, values.size, _LOOKUPS):
        part = values[start : start + _LOOKUPS]
        below = np.searchsorted(others, part, side='left')
        twice += 2 * int(below.sum())
        # The second search is for the ties alone, which are few.
        tied = others[np.minimum(below, others.size - 1)] == part
        if tied.any():
            twice += int((np.searchsorted(others, part[tied], side='right') - below[tied]).sum())
    return twice


def _sorted_parts(scores: torch.Tensor, targets: torch.Tensor, label: int, size: int) -> Iterator[np.ndarray]:
    """The scores with this label in parts of ``size``, each sorted; a part is overwritten by the next."""
    part, filled = np.empty(size, np.float32 if scores.dtype == torch.float32 else np.float64), 0
    for rows in image_blocks(scores):
        values = real_scores(images(scores, rows), scores)
        chosen = values[whole_numbers(images(targets, rows), targets) == label]
        while chosen.size:
            taken = min(size - filled, chosen.size)
            part[filled : filled + taken] = chosen[:taken]
            chosen, filled = chosen[taken:], filled + taken
            if filled == size:
                part.sort()
                yield part
                filled = 0
    if filled:
        part[:filled].sort()
        yield part[:filled]


def _counts_by_value(scores: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """How often each value of a half type occurs with label 1 and with label 0, values ascending; int64 (V,) each."""
    counts = torch.zeros(3 * 65536, dtype=torch.int64)
    for rows in image_blocks(scores):
        labels = torch.from_numpy(whole_numbers(images(targets, rows), targets)).int()
        bits = torch.from_numpy(images(scores, rows)).int() & 0xFFFF
        counts += torch.bincount((bits + 65536 * (labels + 1)).flatten(), minlength=len(counts))
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(scores.dtype).float().numpy()
    table = counts.view(3, 65536).numpy()
    if table[:, np.isnan(every)].any():
        check_scores(scores)  # raises, with the number of images
    real = ~np.isnan(every)
    values, position = np.unique(every[real], return_inverse=True)  # one value for 0 and -0
    positives, negatives = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    np.add.at(positives, position, table[2, real])
    np.add.at(negatives, position, table[1, real])
    return positives, negatives
