"""What an evaluation found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from .metrics.base import Protocol
from .metrics.shared import LabelCounts, label_counts

if TYPE_CHECKING:
    from .intervals import Intervals
    from .operating_points import OperatingPoints


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """The numbers of one evaluation, and what they were computed from.

    Args:
        metrics: ``'prefix/name'`` -> number.
        per_class: ``'prefix/name_classwise'`` -> one value a class, in class order; NaN where it is not defined.
        scores: float32 or float16 (N, C): a row an image, in the order of the dataset; maybe a file mapped into memory.
        targets: int8 (N, C) of 1, 0 and -1.
        classes: Names, in the order of the columns.
        num_images: N.
        protocol: For each metric its type, the names of its numbers and its settings in words.
        absent: Names of the classes without a known positive label, those in ``unlabelled`` included.
        left_out: Positions in the dataset of images that could not be used; they have no row.
        unlabelled: Names of the classes without a single known label: nothing can be said of them, and every mean
            leaves them out.
        points: Operating points fitted on these rows by the first metric that fits any; None without one.
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
    unlabelled: tuple[str, ...] = ()
    points: OperatingPoints | None = None

    @cached_property
    def label_counts(self) -> LabelCounts:
        """Number of images per class labelled as present, as absent, and not labelled; int64 (C,) each."""
        return label_counts(self.targets)

    @cached_property
    def positives(self) -> list[int]:
        """Number of images per class that are known to show it."""
        return [int(count) for count in self.label_counts.positives]

    @cached_property
    def unknown(self) -> list[int]:
        """Number of images per class whose label is not known."""
        return [int(count) for count in self.label_counts.unknown]


@dataclass(frozen=True)
class RunFacts:
    """What a results file says of a run beside its numbers.

    Args:
        checkpoint: Name of the checkpoint file, or of each.
        thresholds: ``source`` (one of ``metrics.base.SOURCES``), ``objective``, ``words`` and ``data_hash``.
        calibration: In words.
        tta: Test-time augmentation, in words.
        members: Number of checkpoints whose scores were averaged.
        dtype: What the model computed in.
        data_hash: 16 hex digits over classes, image names and labels.
        weights_hash: 16 hex digits over the weights of the checkpoint, or of each.
        predictions: The file of predictions, relative to the results file; None without one.
        intervals: Of the headline numbers, and how they were found.
    """

    checkpoint: str | Sequence[str] = ''
    thresholds: Mapping[str, str] = field(default_factory=dict)
    calibration: str = 'none'
    tta: str = 'none'
    members: int = 1
    dtype: str = 'float32'
    data_hash: str = ''
    weights_hash: str | Sequence[str] = ''
    predictions: str | None = None
    intervals: Intervals | None = None


def to_json(result: EvaluationResult, facts: RunFacts | None = None) -> dict[str, Any]:
    """The result for a results file: plain dicts, lists, strings and numbers; None where a number is not defined.

    Scores and targets are left out: they belong in a predictions file.

    Args:
        result: Any result.
        facts: What else is known of the run; without them their keys are left out.
    """
    facts_outside, facts_protocol = ({}, {}) if facts is None else _places(facts)
    return {
        **facts_outside,
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
            **facts_protocol,
        },
        'classes': list(result.classes),
        'absent_classes': list(result.absent),
        'unlabelled_classes': list(result.unlabelled),
        'per_class': {
            'positives': list(result.positives),
            'unknown': list(result.unknown),
            **{name: [_plain(value) for value in values] for name, values in result.per_class.items()},
        },
    }


def _places(facts: RunFacts) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said beside the numbers, and what belongs to the protocol."""
    outside: dict[str, Any] = {'checkpoint': _names(facts.checkpoint), 'predictions': facts.predictions}
    if facts.intervals is not None:
        bounds = facts.intervals.bounds
        outside['intervals'] = {name: [_plain(value) for value in bounds[name]] for name in bounds}
        outside['bootstrap'] = {key: getattr(facts.intervals, key) for key in ('draws', 'seed', 'confidence', 'words')}
    inside = {
        'thresholds': {
            key: str(facts.thresholds.get(key, '')) for key in ('source', 'objective', 'words', 'data_hash')
        },
        'calibration': facts.calibration,
        'test-time augmentation': facts.tta,
        'members': facts.members,
        'dtype': facts.dtype,
        'data_hash': facts.data_hash,
        'weights_hash': _names(facts.weights_hash),
    }
    return outside, inside


def _names(value: str | Sequence[str]) -> str | list[str]:
    return value if isinstance(value, str) else list(value)


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
