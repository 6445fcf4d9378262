"""Counting decisions in many bootstrap draws at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from .curves import Counts
from .view import Piece


def image_weights(images: int, draws: int, rng: np.random.Generator) -> torch.Tensor:
    """How often each image is in each draw of as many images, with replacement: float32 (images, draws)."""
    found = np.empty((draws, images), dtype=np.float32)
    for draw in range(draws):
        found[draw] = np.bincount(rng.integers(0, images, images), minlength=images)
    return torch.from_numpy(found).t().contiguous()


def draw_counts(
    scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, weights: torch.Tensor, cls: int
) -> Counts:
    """Counts of one class at each threshold in each draw.

    Args:
        scores: float32 (n,).
        labels: int8 (n,).
        thresholds: float32 (M,), falling.
        weights: float32 (n, draws).
        cls: Index of the class.

    Returns:
        tp and fp float64 (M, draws), positives and negatives float64 (draws,).
    """
    number = len(thresholds)
    # Every image falls to the highest threshold that it reaches; those that reach none come last, unknown ones behind.
    bins = number - np.searchsorted(thresholds[::-1], scores, side='right')
    places = np.where(labels < 0, 2 * (number + 1), 2 * bins + (labels == 1))
    gathered = torch.zeros(2 * (number + 1) + 1, weights.shape[1])
    gathered.index_add_(0, torch.from_numpy(places.astype(np.int64)), weights)
    totals = gathered[:-1].numpy().reshape(number + 1, 2, -1).cumsum(axis=0, dtype=np.float64)
    fp, tp = totals[:number, 0], totals[:number, 1]
    return Counts(tp, fp, totals[-1, 1], totals[-1, 0], np.array([cls]))


def draws_given(pieces: Iterable[Piece], levels: np.ndarray, weights: torch.Tensor) -> Iterator[tuple[int, np.ndarray]]:
    """Each class, and how many images are given its label at each level in each draw.

    Args:
        pieces: Scores and labels; unknown labels do not count.
        levels: Thresholds float32 (C, M), falling.
        weights: float32 (n, draws).

    Yields:
        Index of the class, float64 (M, draws).
    """
    for piece in pieces:
        for row, scores in enumerate(piece.scores):
            cls = piece.first + row
            rows = np.flatnonzero(scores >= levels[cls, -1])  # the others are given it at no level
            some = weights.index_select(0, torch.from_numpy(rows))
            counts = draw_counts(scores[rows], piece.labels[row][rows], levels[cls], some, cls)
            yield cls, counts.tp + counts.fp


def draw_labels(pieces: Iterable[Piece], weights: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Positives and known labels of each class in each draw, float64 (C, draws) each."""
    positives, known = [], []
    for piece in pieces:
        labels = torch.from_numpy(piece.labels)
        positives.append(((labels == 1).float() @ weights).double().numpy())
        known.append(((labels >= 0).float() @ weights).double().numpy())
    return np.concatenate(positives), np.concatenate(known)
