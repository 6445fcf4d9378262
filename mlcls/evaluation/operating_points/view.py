"""Scores and labels as the fitting reads them: some rows of them, class by class, a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from mlcls.errors import ConfigError, DataError

from ..functional.validate import check_pair, check_targets
from .calibration import Calibration

#: Values of one piece; 4 million take 16 MB as float32.
PIECE = 1 << 22


class Piece(NamedTuple):
    """Some neighbouring classes: index of the first, scores float32 (c, n) in [0, 1], labels int8 (c, n)."""

    first: int
    scores: np.ndarray
    labels: np.ndarray


class View:
    """Rows of scores and labels, without a copy of the matrix.

    Args:
        scores: Floating (N, C) in [0, 1], checked by ``checked_view``.
        targets: int8 (N, C) of 1, 0 and -1.
        rows: Which rows, int64 (n,); None means all.
        calibration: Applied to the scores.
    """

    def __init__(
        self,
        scores: torch.Tensor,
        targets: torch.Tensor,
        rows: np.ndarray | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._scores, self._targets = scores, targets
        self._rows = None if rows is None else torch.from_numpy(np.asarray(rows, dtype=np.int64))
        self._calibration = calibration
        self.num_images = len(scores) if rows is None else len(rows)
        self.num_classes = scores.shape[1]
        self._only_piece: Piece | None = None

    def only(self, rows: np.ndarray) -> View:
        """The view of these rows of this view."""
        chosen = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        if self._rows is not None:
            chosen = self._rows[chosen]
        return View(self._scores, self._targets, chosen.numpy(), self._calibration)

    def calibrated(self, calibration: Calibration | None) -> View:
        """The same rows with their scores calibrated."""
        return View(self._scores, self._targets, None if self._rows is None else self._rows.numpy(), calibration)

    def pieces(self) -> Iterator[Piece]:
        """All classes in order, some at a time; a view of one piece keeps it."""
        if self._only_piece is not None:
            yield self._only_piece
            return
        step = max(1, PIECE // max(1, self.num_images))
        for first in range(0, self.num_classes, step):
            chosen = slice(first, first + step)
            # Adding 0 turns -0.0 into 0.0, whose bits sort.
            scores = self._take(self._scores[:, chosen], torch.float32).add_(0.0).numpy()
            labels = self._take(self._targets[:, chosen], torch.int8).numpy()
            if self._calibration is not None:
                scores = self._calibration.apply_columns(scores, first)
            piece = Piece(first, scores, labels)
            if step >= self.num_classes:
                self._only_piece = piece
            yield piece

    def _take(self, columns: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """A copy of the rows of ``columns``, laid out class by class."""
        if self._rows is not None:
            columns = columns.index_select(0, self._rows)
        return torch.empty(columns.shape[::-1], dtype=dtype).copy_(columns.t())

    @cached_property
    def label_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Known positives and known negatives of each class, int64 (C,) each."""
        positives, negatives = np.zeros((2, self.num_classes), dtype=np.int64)
        step = max(1, PIECE // self.num_classes)
        for start in range(0, self.num_images, step):
            chosen = slice(start, start + step)
            part = self._targets[chosen] if self._rows is None else self._targets[self._rows[chosen]]
            positives += (part == 1).view(torch.int8).sum(dim=0).numpy()
            negatives += (part == 0).view(torch.int8).sum(dim=0).numpy()
        return positives, negatives

    def positive_cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Row (within this view) and class of every known positive, sorted by class, then row; int64 each."""
        rows, classes = [], []
        step = max(1, PIECE // self.num_classes)
        for start in range(0, self.num_images, step):
            chosen = slice(start, start + step)
            part = self._targets[chosen] if self._rows is None else self._targets[self._rows[chosen]]
            found = (part == 1).nonzero().numpy()
            rows.append(found[:, 0] + start)
            classes.append(found[:, 1])
        row, cls = np.concatenate(rows), np.concatenate(classes)
        order = np.argsort(cls, kind='stable')
        return row[order], cls[order]


def checked_view(scores: torch.Tensor, targets: torch.Tensor, num_classes: int) -> View:
    """Check what is given and make a view of all of it.

    Args:
        scores: (N, C), floating, in [0, 1].
        targets: (N, C) of 1, 0 and -1.
        num_classes: How many classes there are names for.

    Raises:
        ConfigError: Another number of names than of columns.
        DataError: No images, shapes that differ, NaN, a score outside [0, 1], a label that is none, no known positive.
    """
    if scores.ndim != 2:
        raise DataError(f'scores must have the shape (images, classes), not {tuple(scores.shape)}')
    if scores.shape[1] != num_classes:
        raise ConfigError(f'{num_classes} class names are given for scores of {scores.shape[1]} classes')
    if not scores.numel():
        raise DataError('there are no images to choose thresholds on')
    targets = check_targets(targets.cpu())
    check_pair(scores, targets)
    scores = scores.detach().cpu()
    if not scores.is_floating_point():
        scores = scores.float()
    low, high = (float(value) for value in scores.aminmax())
    if np.isnan(low) or np.isnan(high):
        images = int(scores.isnan().any(dim=1).sum())
        raise DataError(f'the scores of {images} of {len(scores)} images contain NaN')
    if low < 0 or high > 1:
        raise DataError(
            f'scores must be in [0, 1] to choose thresholds, but they go from {low:g} to {high:g}: '
            'give sigmoid(logits) instead of logits'
        )
    view = View(scores, targets)
    if not view.label_counts[0].any():
        raise DataError(
            f'none of the {num_classes} classes has a known positive label in the {len(scores)} images: '
            'there is nothing to choose thresholds by'
        )
    return view
