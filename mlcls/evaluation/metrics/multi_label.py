"""mmpretrain's precision, recall, F1 and support, under its names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError
from mlcls.registry import METRICS

from ..functional import ConfusionCounts, averaged_scores
from ..functional.classification import AVERAGES
from .base import Measured, Metric, Protocol, check_decision, check_thr, check_topk, choose, describe_decision
from .shared import check_labelled, decision_counts

ITEMS = ('precision', 'recall', 'f1-score', 'support')


@METRICS.register_module()
class MultiLabelMetric(Metric):
    """Precision, recall and F1 as mmpretrain 1.x computes and names them, so that its configs run and compare.

    Its macro F1 is the mean of the classes' F1. The CF1 of papers is another number: see ``ThresholdMetric``.

    Names: ``multi-label/precision``, with ``_thr-0.30`` for a threshold other than 0.5 or ``_top3``, and then
    ``_micro`` or ``_classwise``. Here ``thr=0`` is a threshold (mmpretrain takes it for none), and a class without a
    single known label is left out of the means.

    Args:
        thr: A label is given where score >= thr, in [0, 1].
        topk: Where ``thr`` is None, give each image its k highest-scored labels. Neither: ``thr`` is 0.5.
        items: Which of ``'precision'``, ``'recall'``, ``'f1-score'`` and ``'support'`` (number of known positives).
        average: ``'macro'``, ``'micro'`` or None: values per class alone, and no single numbers.
        collect_device: See ``Metric``.
        prefix: See ``Metric``.

    Raises:
        ConfigError: Unknown item or average, a threshold outside [0, 1], or ``topk`` below 1.
    """

    #: What unknown labels are taken for; -1 leaves them out.
    _unknown_as = -1

    def __init__(
        self,
        thr: float | None = None,
        topk: int | None = None,
        items: Sequence[str] = ('precision', 'recall', 'f1-score'),
        average: str | None = 'macro',
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix, collect_device)
        name = type(self).__name__
        choose(average, AVERAGES, f'{name}: average')
        self.average = average
        self.items = (items,) if isinstance(items, str) else tuple(items)
        for item in self.items:
            choose(item, ITEMS, f'{name}: items')
        self.topk = None if topk is None else check_topk(topk, f'{name}: topk')
        self.thr: float | None = None
        if thr is not None or topk is None:
            checked = check_thr(0.5 if thr is None else thr, f'{name}: thr')
            if isinstance(checked, list):
                raise ConfigError(f'{name}: thr must be one number; for one threshold per class use ThresholdMetric')
            self.thr = checked
        if thr is not None and topk is not None:
            warnings.warn(f'{name}: both thr and topk are given; thr decides', stacklevel=2)

    def check(self, num_classes: int) -> None:
        """See ``Metric.check``."""
        super().check(num_classes)
        check_decision(self.thr, self.topk, num_classes, type(self).__name__)

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``; empty where ``average`` is None."""
        self.check(num_classes)
        return [] if self.average is None else [self._name(item) for item in self.items]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """Numbers as ``average`` says; the items of each class, float64 (C,), whatever ``average`` is."""
        counts = decision_counts(scores, targets, self.thr, self.topk, self._unknown_as)
        labelled = torch.stack(counts).sum(dim=0) > 0
        check_labelled(labelled, len(scores))
        columns = averaged_scores(counts, None)
        for item, values in columns.items():
            if item != 'support':
                values[~labelled] = float('nan')
        numbers = {}
        if self.average is not None:
            found = averaged_scores(ConfusionCounts(*(count[labelled] for count in counts)), self.average)
            numbers = {self._name(item): float(found[item]) for item in self.items}
        return Measured(numbers, {self.key(f'{item}{self._suffix()}_classwise'): columns[item] for item in self.items})

    def _suffix(self) -> str:
        if self.thr is None:
            return f'_top{self.topk}'
        return '' if self.thr == 0.5 else f'_thr-{self.thr:.2f}'

    def _name(self, item: str) -> str:
        return self.key(item + self._suffix() + ('_micro' if self.average == 'micro' else ''))

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        means = {
            'macro': "mean over the classes; f1-score is the mean of the classes' F1, not CF1",
            'micro': 'from counts summed over the classes',
            None: 'one value a class',
        }
        words: Protocol = {
            'decision': describe_decision(self.thr, self.topk),
            'average': means[self.average],
            'empty denominators': 'count as 0, also in the means over classes',
            'classes without a known label': 'left out',
        }
        if self.thr is not None:
            words |= {'thr': self.thr, 'threshold source': 'config or default'}
        return words
