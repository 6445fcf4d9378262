"""The evaluator: batches in, one result out, the same on every process."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcls.errors import ConfigError, DataError, TrainingError
from mlcls.registry import EVALUATORS

from .buffers import GIB, Limits, RowBuffer
from .build import MetricConfig, build_metrics, check_arguments
from .functional import check_targets
from .functional.blocks import image_blocks
from .gather import Rows, gather_rows
from .metrics import Metric
from .metrics.base import Measured, Protocol, choose
from .metrics.shared import check_labelled, label_counts, sharing
from .result import EvaluationResult

if TYPE_CHECKING:
    from .operating_points import OperatingPoints

_DTYPES = {'float32': torch.float32, 'float16': torch.float16}
#: How far a score may leave [0, 1] before it cannot be a probability that was rounded to a half type.
_SLACK = 0.01


@EVALUATORS.register_module()
class Evaluator:
    """Collects scores and targets in tensors and computes metrics over the whole dataset.

    The order of a run: set ``dataset_meta`` (checks the settings against the classes), ``prepare``, ``process`` for
    each batch, ``evaluate``. With several processes each of them holds its own evaluator and makes the same calls.
    ``evaluate`` is ``collect`` and then ``result``, for those who change the scores in between.

    Every process gathers all rows and computes every metric: that needs no second round to hand out results, and an
    error (a missing image, a score that is not finite) is raised on all processes alike instead of leaving the others
    waiting.

    Args:
        metrics: A metric, its config, or a list of these.
        score_dtype: ``'float32'``, or ``'float16'`` for half the memory. A float16 has 11 bits: above 0.5 scores lie
            1/2048 apart, above 0.25 half as far, and so on, and 0.99976 and more is 1; towards 0 they are fine down to
            6e-8. So scores closer than that become ties, which AP treats as one step, and a score that close to a
            threshold may come to the other side of it. Measured on 40,000 images: AP moved by 0.02 to 0.07 points for
            usual scores, but by 4 where most lie above 0.98, and 3 decisions in a million changed. Thresholds
            themselves are compared as float32.
        memory_limit: GiB of scores and labels that each process may hold in memory. More than that lies in an unnamed
            file in the folder for temporary files (``TMPDIR``), mapped into memory: the system keeps in memory what
            fits. Its space is taken at the first batch, and is free again when the result is forgotten or the process
            ends. A folder that is itself in memory (tmpfs) saves nothing.

    Raises:
        ConfigError: See ``build_metrics``; another ``score_dtype``, or a ``memory_limit`` that is no number of GiB.
    """

    def __init__(
        self,
        metrics: MetricConfig | Sequence[MetricConfig],
        score_dtype: str = 'float32',
        memory_limit: float = 4.0,
    ) -> None:
        self.metrics: list[Metric] = build_metrics(metrics)
        choose(score_dtype, _DTYPES, 'Evaluator: score_dtype')
        if isinstance(memory_limit, bool) or not isinstance(memory_limit, Real) or not memory_limit >= 0:
            raise ConfigError(f'Evaluator: memory_limit must be a number of GiB, 0 or more, not {memory_limit!r}')
        self._limits: Limits = Limits(_DTYPES[score_dtype], float(memory_limit) * GIB)
        self._meta: dict[str, Any] = {}
        self._buffer: RowBuffer = RowBuffer(0, self._limits)

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """Facts about the dataset; setting it checks the metrics, and shows it to them.

        ``'classes'``: names in column order. ``'train_counts'``, where known: positive images of each class in
        training.

        Raises:
            ConfigError: The metrics' settings do not fit these classes, two metrics use one name, or ``train_counts``
                is not one count a class.
        """
        return self._meta

    @dataset_meta.setter
    def dataset_meta(self, meta: Mapping[str, Any] | None) -> None:
        self._meta = dict(meta or {})
        classes = self._classes
        _check_train_counts(self._meta.get('train_counts'), classes)
        for metric in self.metrics:
            metric.use_meta(self._meta)
        if classes is not None:
            self.names(len(classes))

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
        self._buffer = RowBuffer(num_images, self._limits)

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
            DataError: The shapes do not belong together, or a label is not a whole number, or there is
                no room on the disk (see ``memory_limit``).
        """
        classes = self._classes
        if classes is not None and scores.ndim == 2 and scores.shape[1] != len(classes):
            raise ConfigError(
                f'the model gives {scores.shape[1]} scores per image, but the dataset has {len(classes)} '
                f'classes ({_some(classes)}); is num_classes of the head right?'
            )
        self._buffer.append(scores, targets, index)

    def collect(self, size: int, left_out: bool = False) -> Rows:
        """Hand over the rows of all processes, checked and in the order of the dataset, and forget them here.

        In one process nothing is copied where the rows came in order: the tensors are those that were collected, and
        belong to the caller from now on.

        Args:
            size: Number of images in the dataset.
            left_out: Some may have been left out because they could not be used; ``Rows.left_out`` lists them.

        Returns:
            The same bits on every process and for any number of processes.

        Raises:
            DataError: No images, an image that was not evaluated, a label that is not 1, 0 or -1, or no room on the
                disk (see ``memory_limit``).
            TrainingError: Scores that are not finite.
            ConfigError: Scores that are no probabilities, or processes with different numbers of classes.
        """
        rows = self._gather(size, left_out)
        with _one_thread():
            _check_rows(rows)
        return rows

    def result(self, rows: Rows) -> EvaluationResult:
        """Compute every metric.

        Args:
            rows: From ``collect``, perhaps with other scores.

        Raises:
            DataError: Scores and targets of different shapes, no images, a label that is not 1, 0 or -1, not a single
                known label, or a metric that is not defined for these data.
            TrainingError: Scores that are not finite.
            ConfigError: Scores that are no probabilities, or settings that do not fit the number of classes.
        """
        with sharing():
            with _one_thread():
                _check_rows(rows)
                label_counts(rows.targets)
            return self._measure(rows)

    def evaluate(self, size: int, left_out: bool = False) -> EvaluationResult:
        """Compute every metric over all processes, then forget the rows; see ``collect`` and ``result``."""
        return self.result(self._gather(size, left_out))

    def _gather(self, size: int, left_out: bool) -> Rows:
        try:
            with _one_thread():
                return gather_rows(*self._buffer.rows(), size, left_out, self._limits)
        finally:
            self.reset()

    def _measure(self, rows: Rows) -> EvaluationResult:
        scores, targets = rows.scores, rows.targets
        num_images, num_classes = scores.shape
        classes = self._classes or tuple(str(position) for position in range(num_classes))
        if len(classes) != num_classes:
            raise ConfigError(
                f'scores have {num_classes} classes, but the dataset has {len(classes)} ({_some(classes)})'
            )
        self.names(num_classes)
        counts = label_counts(targets)
        labelled = counts.unknown < num_images
        check_labelled(labelled, num_images)
        found: dict[str, float] = {}
        columns: dict[str, list[float]] = {}
        protocol: list[Protocol] = []
        points: OperatingPoints | None = None
        for metric in self.metrics:
            numbers, per_class = _checked(metric, metric.compute(scores, targets), num_classes)
            found.update(numbers)
            for name, values in per_class.items():
                _put(columns, name, values.tolist())
            protocol.append({'metric': type(metric).__name__, 'numbers': ', '.join(numbers), **metric.protocol()})
            if points is None:
                points = metric.operating_points(scores, targets, classes)
        result = EvaluationResult(
            metrics=found,
            per_class=columns,
            scores=scores,
            targets=targets,
            classes=classes,
            num_images=num_images,
            protocol=protocol,
            absent=_marked(classes, counts.positives == 0),
            left_out=rows.left_out,
            unlabelled=_marked(classes, ~labelled),
            points=points,
        )
        result.label_counts  # noqa: B018 (kept by the result; here it is shared instead of counted again)
        return result


def build_evaluator(config: Evaluator | MetricConfig | Sequence[MetricConfig]) -> Evaluator:
    """Build from all that ``val_evaluator`` of a config may hold.

    Args:
        config: An evaluator, ``dict(type='Evaluator', metrics=..., score_dtype=..., memory_limit=...)``, or metrics as
            ``Evaluator`` takes them.

    Raises:
        ConfigError: See ``Evaluator``; an unknown evaluator, or an argument that it does not take.
    """
    if isinstance(config, Evaluator):
        return config
    if isinstance(config, Mapping) and ('metrics' in config or _names_evaluator(config.get('type'))):
        kind = config.get('type', 'Evaluator')
        made = EVALUATORS.module_dict.get(kind.removeprefix('mlcls.')) if isinstance(kind, str) else kind
        if not (isinstance(made, type) and issubclass(made, Evaluator)):
            raise ConfigError(f"no evaluator of mlcls is called '{kind}'; choose from Evaluator")
        settings = {key: value for key, value in config.items() if key not in ('type', '_scope_')}
        check_arguments(made, settings)
        return made(**settings)
    return Evaluator(config)


def _names_evaluator(kind: object) -> bool:
    if isinstance(kind, str):
        kind = EVALUATORS.module_dict.get(kind.removeprefix('mlcls.'))
    return isinstance(kind, type) and issubclass(kind, Evaluator)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread: its operations here are short, and loader workers that prefetch on the same
    cores make each of them wait for the slowest thread (measured on a busy machine: 0.3 s instead of 1.7 s for an
    evaluation). Metrics are left out: they hand whole blocks of classes to as many threads as torch may use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_rows(rows: Rows) -> None:
    """Refuse what no metric should turn into a number."""
    scores, targets, left_out = rows
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise DataError(f'scores are {tuple(scores.shape)}, but targets are {tuple(targets.shape)}')
    if not scores.numel():
        raise DataError(f'there is nothing to evaluate: {scores.shape[0]} images and {scores.shape[1]} classes')
    low, high = (float(value) for value in scores.aminmax())  # NaN where any score is
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = [bool(row) for part in image_blocks(scores) for row in ~scores[part].isfinite().all(dim=1)]
        skipped = set(left_out)
        kept = (position for position in range(len(scores) + len(skipped)) if position not in skipped)
        first = next(position for position, is_bad in zip(kept, bad, strict=True) if is_bad)
        raise TrainingError(
            f'the model gives scores that are not finite (NaN or infinite) for {sum(bad)} of '
            f'{len(scores)} images (the first: index {first})'
        )
    if low < -_SLACK or high > 1 + _SLACK:
        raise ConfigError(
            f'scores run from {low:.3g} to {high:.3g}, but must be probabilities in [0, 1]: '
            'were logits given to the evaluator?'
        )
    check_targets(targets)


def _check_train_counts(counts: Any, classes: Sequence[str] | None) -> None:
    if counts is None or classes is None:
        return
    values = counts.tolist() if hasattr(counts, 'tolist') else counts
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError(f'train_counts must be one count a class, not {counts!r}')
    if len(values) != len(classes):
        raise ConfigError(
            f'train_counts has {len(values)} counts, but the dataset has {len(classes)} classes ({_some(classes)})'
        )
    for name, value in zip(classes, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value % 1:
            raise ConfigError(f"train_counts: the count of class '{name}' must be a whole number, not {value!r}")


def _checked(metric: Metric, measured: Any, num_classes: int) -> Measured:
    """What a metric gave, if it is what every metric promises; a metric of the user's own may err."""
    kind = type(metric).__name__
    if not isinstance(measured, Measured):
        raise ConfigError(f'{kind}: compute() must return Measured(numbers, per_class), not {type(measured).__name__}')
    promised = metric.names(num_classes)
    if sorted(measured.numbers) != sorted(promised):
        raise ConfigError(f'{kind}: compute() gives {sorted(measured.numbers)}, but names() says {sorted(promised)}')
    for name, values in measured.per_class.items():
        if tuple(values.shape) != (num_classes,):
            raise ConfigError(
                f"{kind}: '{name}' has the shape {tuple(values.shape)}, but there are {num_classes} classes"
            )
    return measured


def _put(columns: dict[str, list[float]], name: str, values: list[float]) -> None:
    """Two metrics may give the same column (macro and micro of one threshold), but not two columns of one name."""
    if name in columns and not np.array_equal(columns[name], values, equal_nan=True):
        raise ConfigError(f"two metrics give different values called '{name}': give one of them another prefix")
    columns[name] = values


def _marked(classes: Sequence[str], marks: torch.Tensor) -> tuple[str, ...]:
    return tuple(classes[position] for position in marks.nonzero().flatten().tolist())


def _some(classes: Sequence[str]) -> str:
    return ', '.join(classes[:3]) + (', ...' if len(classes) > 3 else '')
