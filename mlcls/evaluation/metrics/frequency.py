"""Measures of frequent and of rare classes, apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mlcls.errors import ConfigError
from mlcls.registry import METRICS

from ..functional import precision_recall_f1
from ..functional.calibration import expected_calibration_error
from ..functional.frequency import GROUPS, LIMITS, check_limits, check_train_counts, frequency_groups, group_means
from .auroc import class_auroc
from .base import Measured, Protocol, choose
from .calibration import class_bins, class_brier
from .decision import DecisionMetric
from .shared import class_average_precision, decision_counts

#: Measure -> a value of each class, float64 (C,), NaN where it is not defined.
MEASURES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    'mAP': class_average_precision,
    'AUROC': class_auroc,
    'ECE': lambda scores, targets: expected_calibration_error(class_bins(scores, targets)),
    'Brier': class_brier,
}
#: Measures of decisions -> the field of ``PrecisionRecallF1``; the group's CF1 is the harmonic mean of its CP and CR.
DECIDED = {'CP': 'precision', 'CR': 'recall', 'macro_F1': 'f1'}


@METRICS.register_module()
class FrequencyGroupMetric(DecisionMetric):
    """Means over the classes that are frequent, medium and rare in training.

    Numbers: ``multi-label/mAP_head``, ``multi-label/mAP_medium``, ``multi-label/mAP_tail`` and the same for each
    measure. Groups: ``functional.frequency``.

    Classes where a measure is not defined (AP of a class without a known positive) are left out of it. The mean of an
    empty group is NaN, and the protocol names the group.

    Args:
        measures: Any of ``'mAP'``, ``'macro_F1'``, ``'CP'``, ``'CR'``, ``'CF1'``, ``'AUROC'``, ``'ECE'``, ``'Brier'``.
        limits: Two numbers of training images: tail is below the first, head is from the second on.
        counts: Number of training images that show each class, in class order. None: those of the training set, where
            the run knows it.
        thr: See ``DecisionMetric``, for the measures of decisions.
        thr_source: See there.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: An unknown measure, none, or one twice, limits that are not two ascending numbers, counts that are
            no numbers of images, or a threshold outside [0, 1].
    """

    def __init__(
        self,
        measures: str | Sequence[str] = ('mAP', 'macro_F1'),
        limits: Sequence[float] = LIMITS,
        counts: Sequence[int] | None = None,
        thr: float | Sequence[float] | None = None,
        thr_source: str | None = None,
        prefix: str | None = None,
        collect_device: str = 'cpu',
    ) -> None:
        super().__init__(thr, None, thr_source, prefix, collect_device)
        name = type(self).__name__
        self.measures = (measures,) if isinstance(measures, str) else tuple(measures)
        for measure in self.measures:
            choose(measure, (*MEASURES, *DECIDED, 'CF1'), f'{name}: measures')
        if not self.measures or len(set(self.measures)) < len(self.measures):
            raise ConfigError(
                f"{name}: measures must be different names, for example ('mAP', 'macro_F1'), not {measures!r}"
            )
        self.limits = check_limits(limits, f'{name}: limits')
        self.counts = None if counts is None else check_train_counts(counts, f'{name}: counts')
        self._given = counts is not None

    def use_meta(self, meta: Mapping[str, Any]) -> None:
        """Take ``meta['train_counts']`` unless ``counts`` was given. See ``Metric.use_meta``."""
        if self._given:
            return
        found = meta.get('train_counts')
        self.counts = None if found is None else check_train_counts(found, 'train_counts of the data set')

    def check(self, num_classes: int) -> None:
        """See ``Metric.check``. Counts may still be missing: a test learns them with the checkpoint."""
        super().check(num_classes)
        if self.counts is not None and len(self.counts) != num_classes:
            raise ConfigError(
                f'{type(self).__name__}: {len(self.counts)} training counts are given for {num_classes} classes: '
                'give one per class in class order'
            )

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        return [self.key(f'{measure}_{group}') for measure in self.measures for group in GROUPS]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """See ``Metric.compute``.

        Raises:
            ConfigError: Training counts are neither given nor known.
        """
        if self.counts is None:
            raise ConfigError(
                f'{type(self).__name__} does not know how often training showed each class: '
                'give counts=[...], one number of training images per class in class order'
            )
        self.check(scores.shape[1])
        groups = frequency_groups(self.counts, self.limits)
        numbers: dict[str, float] = {}
        for measure in self.measures:
            if measure == 'CF1':
                parts = [group_means(self._decided(name, scores, targets), groups) for name in ('CP', 'CR')]
                means = {group: _harmonic(*(part[group] for part in parts)) for group in GROUPS}
            elif measure in DECIDED:
                means = group_means(self._decided(measure, scores, targets), groups)
            else:
                means = group_means(MEASURES[measure](scores, targets), groups)
            numbers |= {self.key(f'{measure}_{group}'): means[group] for group in GROUPS}
        return Measured(numbers, {})

    def _decided(self, measure: str, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        counts = decision_counts(scores, targets, self.thr)
        found = getattr(precision_recall_f1(counts.tp, counts.fp, counts.fn), DECIDED[measure])
        return torch.where(torch.stack(counts).sum(dim=0) > 0, found, float('nan'))

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``; with the number of classes in each group where training counts are known."""
        low, high = self.limits
        words: Protocol = {
            'groups': f'by training images of the class: head at least {high:g}, medium {low:g} to below {high:g}, '
            f'tail below {low:g}',
            'classes where a measure is not defined': 'left out of the mean of their group',
        }
        if self.counts is not None:
            sizes = {name: int(group.sum()) for name, group in frequency_groups(self.counts, self.limits).items()}
            words['classes in the groups'] = ', '.join(f'{name} {size}' for name, size in sizes.items())
            empty = [name for name, size in sizes.items() if not size]
            words |= {'empty groups, without a number': ', '.join(empty)} if empty else {}
        if set(self.measures) & {*DECIDED, 'CF1'}:
            words |= super().protocol()
        return words


def _harmonic(first: float, second: float) -> float:
    """NaN where either is."""
    return 2 * first * second / (first + second) if first + second != 0 else 0.0
