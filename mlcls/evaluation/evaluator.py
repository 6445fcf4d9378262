"""The evaluator: batches in, one result out, the same on every process."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mlcls.errors import ConfigError, DataError, TrainingError
from mlcls.registry import EVALUATORS

from .buffers import RowBuffer
from .build import MetricConfig, build_metrics
from .functional import check_targets
from .gather import first_rows, gather_rows
from .metrics import Metric
from .metrics.base import Protocol
from .result import EvaluationResult

#: How far a score may leave [0, 1] before it cannot be a probability that was rounded to a half type.
_SLACK = 0.01


@EVALUATORS.register_module()
class Evaluator:
    """Collects scores and targets in tensors and computes metrics over the whole dataset.

    The order of a run: set ``dataset_meta`` (checks the settings against the classes), ``prepare``, ``process`` for
    each batch, ``evaluate``. With several processes each of them holds its own evaluator and makes the same calls.

    Every process gathers all rows and computes every metric: that takes a fraction of a second, needs no second round
    to hand out results, and an error (a missing image, a score that is not finite) is raised on all processes alike
    instead of leaving the others waiting.

    Args:
        metrics: A metric, its config, or a list of these.

    Raises:
        ConfigError: See ``build_metrics``.
    """

    def __init__(self, metrics: MetricConfig | Sequence[MetricConfig]) -> None:
        self.metrics: list[Metric] = build_metrics(metrics)
        self._meta: dict[str, Any] = {}
        self._buffer = RowBuffer()

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """Facts about the dataset; ``'classes'`` holds the class names in column order. Setting it checks the metrics.

        Raises:
            ConfigError: The metrics' settings do not fit these classes, or two metrics use one name.
        """
        return self._meta

    @dataset_meta.setter
    def dataset_meta(self, meta: Mapping[str, Any] | None) -> None:
        self._meta = dict(meta or {})
        if self._classes is not None:
            self.names(len(self._classes))

    @property
    def _classes(self) -> tuple[str, ...] | None:
        classes = self._meta.get('classes', self._meta.get('CLASSES'))
        return None if classes is None else tuple(str(name) for name in classes)

    def names(self, num_classes: int) -> list[str]:
        """The keys of ``EvaluationResult.metrics``, before anything is evaluated.

        Raises:
            ConfigError: The settings do not fit ``num_classes``, or two metrics use one name.
        """
        for metric in self.metrics:
            metric.check(num_classes)
        names = [name for metric in self.metrics for name in metric.names(num_classes)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(
                f"two metrics give a number called '{twice[0]}': give one of them another prefix, "
                "for example prefix='second'"
            )
        return names

    def prepare(self, num_images: int = 0) -> None:
        """Forget earlier rows and make ready for about ``num_images`` rows on this process (more is no error)."""
        self._buffer = RowBuffer(num_images)

    def reset(self) -> None:
        """Forget all rows."""
        self.prepare()

    def process(self, scores: torch.Tensor, targets: torch.Tensor, index: torch.Tensor) -> None:
        """Take in one batch.

        Args:
            scores: (n, C), probabilities, any floating type and device.
            targets: (n, C) of 1, 0 and -1.
            index: (n,), position of each image in its dataset.

        Raises:
            ConfigError: C is not the number of classes of the dataset.
            DataError: The shapes do not belong together, or a label is not a whole number.
        """
        classes = self._classes
        if classes is not None and scores.ndim == 2 and scores.shape[1] != len(classes):
            raise ConfigError(
                f'the model gives {scores.shape[1]} scores per image, but the dataset has {len(classes)} '
                f'classes ({_some(classes)}); is num_classes of the head right?'
            )
        self._buffer.append(scores, targets, index)

    def evaluate(self, size: int, left_out: bool = False) -> EvaluationResult:
        """Compute every metric over all processes, then forget the rows.

        Args:
            size: Number of images in the dataset.
            left_out: Some may have been left out because they could not be used; the result lists them.

        Returns:
            The result, the same bits on every process and for any number of processes.

        Raises:
            DataError: No images, an image that was not evaluated, or a label that is not 1, 0 or -1.
            TrainingError: Scores that are not finite.
            ConfigError: Scores that are no probabilities, settings that do not fit the number of classes, or processes
                with different numbers of classes.
        """
        try:
            rows = gather_rows(*self._buffer.rows())
            if size <= 0 or not len(rows[0]):
                raise DataError(
                    'there is nothing to evaluate: no image was processed'
                    if size > 0
                    else 'there is nothing to evaluate: the dataset is empty'
                )
            with _one_thread():
                first = first_rows(rows[2], size)
                missing = tuple((first == len(rows[2])).nonzero().flatten().tolist())
                if missing and not left_out:
                    raise DataError(
                        f'{len(missing)} of {size} images were not evaluated (the first: index {missing[0]}); '
                        'does the data loader drop its last batch, or its sampler skip images?'
                    )
                first = first[first < len(rows[2])]
                scores, targets = rows[0][first], rows[1][first]
                _check_scores(scores)
                return replace(self._result(scores, check_targets(targets)), left_out=missing)
        finally:
            self.reset()

    def _result(self, scores: torch.Tensor, targets: torch.Tensor) -> EvaluationResult:
        num_images, num_classes = scores.shape
        classes = self._classes or tuple(str(position) for position in range(num_classes))
        if len(classes) != num_classes:
            raise ConfigError(
                f'scores have {num_classes} classes, but the dataset has {len(classes)} ({_some(classes)})'
            )
        self.names(num_classes)
        found: dict[str, float] = {}
        columns: dict[str, list[float]] = {}
        protocol: list[Protocol] = []
        for metric in self.metrics:
            numbers = metric.compute(scores, targets)
            found.update(numbers)
            for name, values in metric.per_class(scores, targets).items():
                _put(columns, name, [float(value) for value in values])
            protocol.append({'metric': type(metric).__name__, 'numbers': ', '.join(numbers), **metric.protocol()})
        absent = tuple(classes[int(c)] for c in ((targets == 1).sum(dim=0) == 0).nonzero().flatten())
        return EvaluationResult(found, columns, scores, targets, classes, num_images, protocol, absent)


def build_evaluator(config: Evaluator | MetricConfig | Sequence[MetricConfig]) -> Evaluator:
    """Build from all that ``val_evaluator`` of a config may hold.

    Args:
        config: An evaluator, ``dict(type='Evaluator', metrics=...)``, or metrics as ``Evaluator`` takes them.

    Raises:
        ConfigError: See ``build_metrics``.
    """
    if isinstance(config, Evaluator):
        return config
    if isinstance(config, Mapping) and 'metrics' in config:
        others = sorted(set(config) - {'type', '_scope_', 'metrics'})
        if others:
            raise ConfigError(f"Evaluator has no argument '{others[0]}'; it takes metrics alone")
        kind = config.get('type', 'Evaluator')
        made = EVALUATORS.module_dict.get(kind.removeprefix('mlcls.')) if isinstance(kind, str) else kind
        if not (isinstance(made, type) and issubclass(made, Evaluator)):
            raise ConfigError(f"no evaluator of mlcls is called '{kind}'; choose from Evaluator")
        return made(config['metrics'])
    return Evaluator(config)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: the operations are short, and loader workers that prefetch on the same cores make each of
    them wait for the slowest thread (measured on a busy machine: 0.3 s instead of 1.7 s for an evaluation)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_scores(scores: torch.Tensor) -> None:
    """Refuse what no metric should turn into a number."""
    low, high = (float(value) for value in scores.aminmax())  # NaN where any score is
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = (~scores.isfinite().all(dim=1)).nonzero().flatten()
        raise TrainingError(
            f'the model gives scores that are not finite (NaN or infinite) for {len(bad)} of '
            f'{len(scores)} images (the first: index {int(bad[0])})'
        )
    if low < -_SLACK or high > 1 + _SLACK:
        raise ConfigError(
            f'scores run from {low:.3g} to {high:.3g}, but must be probabilities in [0, 1]: '
            'were logits given to the evaluator?'
        )


def _put(columns: dict[str, list[float]], name: str, values: list[float]) -> None:
    """Two metrics may give the same column (macro and micro of one threshold), but not two columns of one name."""
    if name in columns and not np.array_equal(columns[name], values, equal_nan=True):
        raise ConfigError(f"two metrics give different values called '{name}': give one of them another prefix")
    columns[name] = values


def _some(classes: Sequence[str]) -> str:
    return ', '.join(classes[:3]) + (', ...' if len(classes) > 3 else '')
