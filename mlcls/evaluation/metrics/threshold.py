"""CP, CR, CF1, OP, OR, OF1: the decisions of the model against the labels."""

from __future__ import annotations

import torch

from mlcls.registry import METRICS

from ..functional import precision_recall_f1
from .base import Measured, Protocol
from .decision import DecisionMetric
from .shared import check_labelled, decision_counts


@METRICS.register_module()
class ThresholdMetric(DecisionMetric):
    """The classic six measures and, named apart, the mean of the classes' F1 (``macro_F1``), in percent.

    Numbers: ``multi-label/CP, CR, CF1, OP, OR, OF1, macro_F1``; with ``topk=3``, ``multi-label/CP_top3`` and so on.
    Per class: ``multi-label/P_classwise, R_classwise, F1_classwise``, with the same suffix.

    A class without known positives has recall 0, and one without positive decisions precision 0: the classic
    definition averages them with the others. A class without a single known label is left out, and its values are NaN.

    Settings: see ``DecisionMetric``.
    """

    measures = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        return [self.key(measure + self._suffix) for measure in self.measures]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """Measures in percent; precision, recall and F1 of each class, float64 (C,). See ``Metric.compute``."""
        counts = decision_counts(scores, targets, self.thr, self.topk)
        labelled = torch.stack(counts).sum(dim=0) > 0
        check_labelled(labelled, len(scores))
        found = precision_recall_f1(counts.tp[labelled], counts.fp[labelled], counts.fn[labelled])
        columns = {}
        for name, values in (('P', found.precision), ('R', found.recall), ('F1', found.f1)):
            column = torch.full(labelled.shape, float('nan'), dtype=torch.float64)
            column[labelled] = values
            columns[self.key(f'{name}{self._suffix}_classwise')] = column
        numbers = {self.key(measure + self._suffix): float(getattr(found, measure)) for measure in self.measures}
        return Measured(numbers, columns)

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``; ``thr_kind`` is one of `SOURCES`."""
        return {
            **super().protocol(),
            'CF1': 'harmonic mean of CP and CR',
            'macro_F1': "mean of the classes' F1",
            'empty denominators': 'count as 0, also in the means over classes',
            'classes without a known label': 'left out',
        }
