"""Measures of whole images: are all labels of an image right, how many are not, how far do the two sets overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .blocks import check_rows, image_blocks
from .decisions import decide
from .validate import check_targets


class ImageCounts(NamedTuple):
    """Counts over the known labels of each image, int64 (N,) each.

    Args:
        known: Labels that are 1 or 0.
        wrong: Those of them that were decided wrongly.
        common: Labels both present and decided.
        either: Labels present, decided or both.
    """

    known: torch.Tensor
    wrong: torch.Tensor
    common: torch.Tensor
    either: torch.Tensor


class ExactMatch(NamedTuple):
    """Percentages over the images that have a known label; NaN where there is no such image.

    Args:
        subset_accuracy: Images whose known labels are all decided rightly.
        hamming_loss: Known labels decided wrongly, of all known labels.
        jaccard: Mean over the images of the size of the intersection of present and decided labels over that of their
            union.
        num_images: Images counted.
        left_out: Images without a known label, which are not.
    """

    subset_accuracy: float
    hamming_loss: float
    jaccard: float
    num_images: int
    left_out: int


def image_counts(decisions: torch.Tensor, targets: torch.Tensor) -> ImageCounts:
    """Count right and wrong decisions per image; a label of -1 counts nowhere.

    Args:
        decisions: bool (N, C).
        targets: (N, C) of 1, 0 and -1.

    Returns:
        Counts on the CPU.

    Raises:
        DataError: Shapes differ, or a label is not 1, 0 or -1.
    """
    decisions, targets = check_rows(decisions, targets)
    found = np.empty((4, len(targets)), np.int64)
    for rows in image_blocks(targets):
        found[:, rows] = _count_block(decisions[rows], targets[rows])
    return ImageCounts(*torch.from_numpy(found))


def image_counts_from_scores(
    scores: torch.Tensor,
    targets: torch.Tensor,
    thr: float | Sequence[float] | torch.Tensor | None = None,
    topk: int | None = None,
) -> ImageCounts:
    """The same from scores, decided by ``decide`` in blocks of images, so that no copy of everything is made.

    Args:
        scores: (N, C), any real type.
        targets: (N, C) of 1, 0 and -1.
        thr: See ``decide``.
        topk: See ``decide``.

    Returns:
        Counts on the CPU.

    Raises:
        ConfigError: See ``decide``.
        DataError: Shapes differ, a score is NaN, or a label is not 1, 0 or -1.
    """
    scores, targets = check_rows(scores, targets)
    found = np.empty((4, len(targets)), np.int64)
    for rows in image_blocks(targets) or [slice(0, 0)]:  # the settings are checked without an image, too
        found[:, rows] = _count_block(decide(scores[rows], thr, topk), targets[rows])
    return ImageCounts(*torch.from_numpy(found))


def _count_block(decisions: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """int64 (4, n), as `ImageCounts`."""
    labels, decided = check_targets(targets).numpy(), decisions.to(torch.bool).numpy()
    positive, negative = labels == 1, labels == 0
    common, false_positive = _count(decided & positive), _count(decided & negative)
    present, absent = _count(positive), _count(negative)
    return np.stack([present + absent, false_positive + present - common, common, present + false_positive])


def exact_matches(counts: ImageCounts) -> torch.Tensor:
    """Whether all known labels of an image are right.

    Returns:
        float64 (N,): 100 or 0; NaN for an image without a known label.
    """
    return torch.where(counts.known > 0, 100.0 * (counts.wrong == 0).double(), float('nan'))


def image_jaccard(counts: ImageCounts) -> torch.Tensor:
    """Jaccard index of present and decided labels of each image.

    An image with no present and no decided label counts 100: both sets are empty and so the same (scikit-learn's
    ``zero_division=1``; its default, 0, would call the right answer wrong).

    Returns:
        float64 (N,) in percent; NaN for an image without a known label.
    """
    overlap = torch.where(counts.either > 0, 100.0 * counts.common.double() / counts.either.clamp(min=1), 100.0)
    return torch.where(counts.known > 0, overlap, float('nan'))


def exact_match(counts: ImageCounts) -> ExactMatch:
    """Subset accuracy, Hamming loss and Jaccard index, as scikit-learn's ``accuracy_score``, ``hamming_loss`` and
    ``jaccard_score(average='samples', zero_division=1)`` on multi-label data.

    Unknown labels are ignored: an image is right where its known labels are. Sources: Schapire and Singer,
    "BoosTexter" (2000), for the Hamming loss; Godbole and Sarawagi, "Discriminative Methods for Multi-labeled
    Classification" (2004), for the Jaccard index ("accuracy" there).

    Args:
        counts: From ``image_counts`` or ``image_counts_from_scores``.

    Returns:
        Percentages, and how many images they are of.
    """
    usable = int((counts.known > 0).sum())
    labels = int(counts.known.sum())
    return ExactMatch(
        subset_accuracy=float(exact_matches(counts).nanmean()),
        hamming_loss=100.0 * int(counts.wrong.sum()) / labels if labels else float('nan'),
        jaccard=float(image_jaccard(counts).nanmean()),
        num_images=usable,
        left_out=len(counts.known) - usable,
    )


def _count(marks: np.ndarray) -> np.ndarray:
    """How often each row of bool (n, C) is True, int64 (n,). Bytes are added up without a wider copy of them."""
    return marks.view(np.int8).sum(axis=1, dtype=np.int64)
