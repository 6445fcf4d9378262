"""What an evaluation found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from .metrics.base import Protocol


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """The numbers of one evaluation, and what they were computed from.

    Args:
        metrics: ``'prefix/name'`` -> number.
        per_class: ``'prefix/name_classwise'`` -> one value a class, in class order; NaN where it is not defined.
        scores: float32 (N, C): a row an image, in the order of the dataset.
        targets: int8 (N, C) of 1, 0 and -1.
        classes: Names, in the order of the columns.
        num_images: N.
        protocol: For each metric its type, the names of its numbers and its settings in words.
        absent: Names of the classes without a known positive label.
        left_out: Positions in the dataset of images that could not be used; they have no row.
    """

    metrics: dict[str, float]
    per_class: dict[str, list[float]]
    scores: torch.Tensor
    targets: torch.Tensor
    classes: tuple[str, ...]
    num_images: int
    protocol: list[Protocol] = field(default_factory=list)
    absent: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()

    @cached_property
    def positives(self) -> list[int]:
        """Number of images per class that are known to show it."""
        return [int(count) for count in (self.targets == 1).sum(dim=0)]

    @cached_property
    def unknown(self) -> list[int]:
        """Number of images per class whose label is not known."""
        return [int(count) for count in (self.targets == -1).sum(dim=0)]


def to_json(result: EvaluationResult) -> dict[str, Any]:
    """The result for a results file: plain dicts, lists, strings and numbers; None where a number is not defined.

    Scores and targets are left out: they belong in a predictions file.
    """
    return {
        'num_images': result.num_images,
        'num_images_left_out': len(result.left_out),
        'num_classes': len(result.classes),
        'metrics': {name: _plain(value) for name, value in result.metrics.items()},
        'protocol': {
            'unit': 'percent, except counts',
            'unknown labels (-1)': 'ignored by every metric that does not say otherwise',
            'unknown labels in the data': sum(result.unknown),
            'order of classes': 'as in "classes"',
            'metrics': [dict(entry) for entry in result.protocol],
        },
        'classes': list(result.classes),
        'absent_classes': list(result.absent),
        'per_class': {
            'positives': list(result.positives),
            'unknown': list(result.unknown),
            **{name: [_plain(value) for value in values] for name, values in result.per_class.items()},
        },
    }


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
