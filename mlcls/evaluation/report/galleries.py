"""Which images show best where a class goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .histograms import column_blocks

#: Images in a gallery.
GALLERY_SIZE = 12
KINDS = ('false_positives', 'false_negatives', 'uncertain')
#: Scores this near 0 and 1 count as this, where log odds are taken.
_EDGE = 1e-7


class Ranked(NamedTuple):
    """Rows of images, the most telling first, with their scores; equal ones by row number."""

    rows: np.ndarray
    scores: np.ndarray


class Gallery(NamedTuple):
    """Of one class.

    ``false_positives``: labels of 0 with a score at or above the threshold, highest score first. ``false_negatives``:
    labels of 1 below it, lowest first. ``uncertain``: known labels, by the distance of the score from the threshold in
    log odds. A label that is unknown is in none of them.
    """

    false_positives: Ranked
    false_negatives: Ranked
    uncertain: Ranked


def find_galleries(
    scores: torch.Tensor,
    targets: torch.Tensor,
    thresholds: Sequence[float],
    columns: Sequence[int] | np.ndarray,
    size: int = GALLERY_SIZE,
) -> dict[int, Gallery]:
    """The galleries of the chosen classes.

    Args:
        scores: (N, C), float32 or float16, in [0, 1].
        targets: int8 (N, C) of 1, 0 and -1.
        thresholds: One a class.
        columns: Numbers of the classes.
        size: Images in each gallery, at most.
    """
    limits = np.asarray(thresholds, np.float64).astype(np.float32)
    # Made at once: small arrays kept from each block would lie between the large ones that come and go, and memory
    # would grow with every block.
    rows = np.full((len(columns), len(KINDS), size), -1, np.int64)
    values = np.zeros(rows.shape, np.float32)
    start = 0
    for numbers, block, labels in column_blocks(scores, targets, columns):
        limit = torch.from_numpy(limits[numbers])[:, None]
        decided = block >= limit
        distance = (_log_odds(block) - _log_odds(limit)).abs()
        part = slice(start, start + len(numbers))
        rows[part, 0] = lowest(-block, (labels == 0) & decided, size)
        rows[part, 1] = lowest(block, (labels == 1) & ~decided, size)
        rows[part, 2] = lowest(distance, labels >= 0, size)
        for kind in range(len(KINDS)):
            values[part, kind] = np.take_along_axis(block.numpy(), np.maximum(rows[part, kind], 0), axis=1)
        start += len(numbers)
    galleries = {}
    for place, number in enumerate(columns):
        taken = [slice((rows[place, kind] >= 0).sum()) for kind in range(len(KINDS))]
        ranked = [Ranked(rows[place, kind, part], values[place, kind, part]) for kind, part in enumerate(taken)]
        galleries[int(number)] = Gallery(*ranked)
    return galleries


def lowest(values: torch.Tensor, allowed: torch.Tensor, size: int) -> np.ndarray:
    """Of each row, the places of the lowest allowed values, lowest first and, where equal, the first place first.

    Args:
        values: (n, N), any floating type, finite.
        allowed: bool (n, N).
        size: How many, at most.

    Returns:
        int64 (n, size); -1 where there are no more.
    """
    masked = torch.where(allowed, values, torch.inf)
    found = np.full((len(masked), size), -1, np.int64)
    taken = min(size, masked.shape[1])
    if not taken:
        return found
    # topk leaves open which of several equal values it takes: it gives the limit, and the order is made here.
    limits = masked.topk(taken, dim=1, largest=False).values[:, -1].numpy()
    array = masked.numpy()
    for row, (limit, line) in enumerate(zip(limits, array)):
        places = np.flatnonzero(line <= limit) if np.isfinite(limit) else np.flatnonzero(np.isfinite(line))
        places = places[np.argsort(line[places], kind='stable')[:size]]
        found[row, : len(places)] = places
    return found


def _log_odds(scores: torch.Tensor) -> torch.Tensor:
    return scores.clamp(_EDGE, 1 - _EDGE).logit()
