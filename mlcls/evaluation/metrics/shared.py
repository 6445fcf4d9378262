"""Quantities that several metrics ask for: counted in blocks of rows, and once an evaluation.

Metrics stay independent of each other: each asks for what it needs, and within ``sharing()`` the second that asks for
the same gets what the first one had computed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from mlcls.errors import DataError

from ..functional import ConfusionCounts, average_precision, confusion_counts, decide
from ..functional.blocks import image_blocks
from ..functional.decisions import _count

_Found = TypeVar('_Found')
_memory: ContextVar[dict[Hashable, tuple[object, ...]] | None] = ContextVar('shared quantities', default=None)


class LabelCounts(NamedTuple):
    """Number of images per class, int64 (C,) each: labelled as present, as absent, and not labelled (-1)."""

    positives: torch.Tensor
    negatives: torch.Tensor
    unknown: torch.Tensor


@contextmanager
def sharing() -> Iterator[None]:
    """Within this context a quantity of the same tensors is computed once."""
    token = _memory.set({})
    try:
        yield
    finally:
        _memory.reset(token)


def once(name: Hashable, make: Callable[..., _Found], *tensors: torch.Tensor) -> _Found:
    """``make(*tensors)``, or what it gave before under this name for these very tensors within ``sharing()``.

    Args:
        name: What is computed, with every setting that it depends on.
        make: Computes it.
        tensors: What it is computed from. They are told apart by identity and must not change within ``sharing()``.
    """
    memory = _memory.get()
    if memory is None:
        return make(*tensors)
    key = (name, *map(id, tensors))
    if key not in memory:  # the tensors are held too, so that no other can take over their identity
        memory[key] = (make(*tensors), *tensors)
    return memory[key][0]  # type: ignore[return-value]


def label_counts(targets: torch.Tensor) -> LabelCounts:
    """Count the labels of each class.

    Args:
        targets: int8 (N, C) of 1, 0 and -1.
    """
    return once('labels', _label_counts, targets)


def _label_counts(targets: torch.Tensor) -> LabelCounts:
    positives, unknown = (np.zeros(targets.shape[1], np.int64) for _ in range(2))
    for rows in image_blocks(targets):
        block = targets[rows].cpu().numpy()
        positives += _count(block == 1)
        unknown += _count(block == -1)
    negatives = len(targets) - positives - unknown
    return LabelCounts(*(torch.from_numpy(counts) for counts in (positives, negatives, unknown)))


def decision_counts(
    scores: torch.Tensor,
    targets: torch.Tensor,
    thr: float | list[float] | None,
    topk: int | None = None,
    unknown_as: int = -1,
) -> ConfusionCounts:
    """Right and wrong decisions per class, as ``confusion_counts(decide(...))``, with bounded memory.

    Args:
        scores: float (N, C).
        targets: int8 (N, C) of 1, 0 and -1.
        thr: See ``decide``.
        topk: See ``decide``.
        unknown_as: What an unknown label (-1) is taken for: 1, 0 or, to leave it out, -1.
    """
    if scores.shape != targets.shape:
        raise DataError(f'scores are {tuple(scores.shape)}, but targets are {tuple(targets.shape)}')
    rule = tuple(thr) if isinstance(thr, list) else thr

    def count(scores: torch.Tensor, targets: torch.Tensor) -> ConfusionCounts:
        total = torch.zeros(4, scores.shape[1], dtype=torch.int64)
        for rows in image_blocks(scores):
            total += torch.stack(
                confusion_counts(decide(scores[rows], thr, topk), known_as(targets[rows], unknown_as))
            ).cpu()
        return ConfusionCounts(*total)

    return once(('decisions', rule, topk, unknown_as), count, scores, targets)


def class_average_precision(
    scores: torch.Tensor, targets: torch.Tensor, variant: str = 'exact', unknown_as: int = -1
) -> torch.Tensor:
    """``average_precision`` of each class in percent, float64 (C,).

    Args:
        scores: float (N, C).
        targets: int8 (N, C) of 1, 0 and -1.
        variant: See ``average_precision``.
        unknown_as: See ``decision_counts``.
    """

    def find(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return average_precision(scores, known_as(targets, unknown_as), variant)

    return once(('AP', variant, unknown_as), find, scores, targets)


def known_as(targets: torch.Tensor, unknown_as: int) -> torch.Tensor:
    """The labels with another value for the unknown ones; the labels themselves, uncopied, where it is -1."""
    return targets if unknown_as == -1 else targets.masked_fill(targets == -1, unknown_as)


def check_labelled(labelled: torch.Tensor, num_images: int) -> None:
    """Raise DataError where no class has a known label, since then there is nothing to measure.

    Args:
        labelled: bool (C,).
        num_images: For the message.
    """
    if not bool(labelled.any()):
        raise DataError(
            f'no label is known: all labels of the {num_images} images and {len(labelled)} classes are -1 (unknown)'
        )
