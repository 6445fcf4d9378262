"""CP, CR, CF1, OP, OR, OF1: the decisions of the model against the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError
from mlcls.registry import METRICS

from ..functional import PrecisionRecallF1, confusion_counts, decide, precision_recall_f1
from .base import Metric, Protocol, check_decision, check_thr, check_topk, describe_decision


@METRICS.register_module()
class ThresholdMetric(Metric):
    """The classic six measures and, named apart, the mean of the classes' F1 (``macro_F1``), in percent.

    Numbers: ``multi-label/CP, CR, CF1, OP, OR, OF1, macro_F1``; with ``topk=3``, ``multi-label/CP_top3`` and so on.
    Per class: ``multi-label/P_classwise, R_classwise, F1_classwise``, with the same suffix.

    A class without known positives has recall 0, and one without positive decisions precision 0: the classic
    definition averages them with the others.

    Args:
        thr: A label is given where score >= thr. One number in [0, 1] or one per class in class order. None means 0.5,
            unless ``topk`` is given.
        topk: Give each image its k highest-scored labels instead.
        thr_source: Where the thresholds come from, in words, for the results file (for example ``'validation set,
            best F1 per class'``). None means the config, or the default.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: A threshold outside [0, 1], ``topk`` below 1, or both ``thr`` and ``topk``.
    """

    measures = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')

    def __init__(
        self,
        thr: float | Sequence[float] | None = None,
        topk: int | None = None,
        thr_source: str | None = None,
        prefix: str | None = None,
        collect_device: str = 'cpu',
    ) -> None:
        super().__init__(prefix, collect_device)
        if thr is not None and topk is not None:
            raise ConfigError('ThresholdMetric: give thr or topk, not both; for both rules, configure it twice')
        self.topk = None if topk is None else check_topk(topk, 'ThresholdMetric: topk')
        self.thr = None if topk is not None else check_thr(0.5 if thr is None else thr, 'ThresholdMetric: thr')
        self.thr_source = thr_source or ('config' if thr is not None else 'default')
        self._suffix = '' if topk is None else f'_top{topk}'

    def check(self, num_classes: int) -> None:
        """See ``Metric.check``."""
        super().check(num_classes)
        check_decision(self.thr, self.topk, num_classes, 'ThresholdMetric')

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        return [self.key(measure + self._suffix) for measure in self.measures]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """See ``Metric.compute``."""
        found = self._measure(scores, targets)
        return {self.key(measure + self._suffix): getattr(found, measure) for measure in self.measures}

    def per_class(self, scores: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Precision, recall and F1 of each class in percent, float64 (C,)."""
        found = self._measure(scores, targets)
        columns = {'P': found.precision, 'R': found.recall, 'F1': found.f1}
        return {self.key(f'{name}{self._suffix}_classwise'): value for name, value in columns.items()}

    def _measure(self, scores: torch.Tensor, targets: torch.Tensor) -> PrecisionRecallF1:
        counts = confusion_counts(decide(scores, self.thr, self.topk), targets)
        return precision_recall_f1(counts.tp, counts.fp, counts.fn)

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        words: Protocol = {
            'decision': describe_decision(self.thr, self.topk),
            'CF1': 'harmonic mean of CP and CR',
            'macro_F1': "mean of the classes' F1",
            'empty denominators': 'count as 0, also in the means over classes',
        }
        if self.thr is not None:
            words |= {'thr': self.thr, 'threshold source': self.thr_source}
        return words
