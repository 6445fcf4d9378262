"""Average precision and its mean, mAP."""

from __future__ import annotations

import torch

from mlcls.errors import DataError
from mlcls.registry import METRICS

from ..functional import mean_average_precision
from ..functional.average_precision import ABSENT_RULES
from .base import Measured, Metric, Protocol, choose
from .shared import check_labelled, class_average_precision, label_counts

#: Variant -> how AP is computed, in words.
VARIANTS = {
    'exact': 'exact area under the precision-recall steps, sum of (R_n - R_(n-1)) P_n, without interpolation',
    'voc07': 'PASCAL VOC 2007: mean of the highest precision at a recall of at least 0, 0.1, ..., 1 (11 points)',
    'voc10': 'PASCAL VOC 2010: area under the steps of the highest precision at this or a higher recall',
}


@METRICS.register_module()
class AveragePrecision(Metric):
    """Mean average precision, ``multi-label/mAP``, in percent; per class ``multi-label/AP_classwise``.

    Args:
        average: ``'macro'`` gives mAP; None gives the values per class alone, and no single number to save the best
            checkpoint by.
        absent: What becomes of classes without a known positive: ``'exclude'`` leaves them out of the mean (they are
            named in the result), ``'zero'`` counts them as 0, as mmpretrain does. A class without a single known label
            is left out in any case.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.
        variant: ``'exact'`` (scikit-learn's), ``'voc07'`` (11 points) or ``'voc10'`` (interpolated). Published figures
            of different variants do not compare: 11 points moved the mAP of one model by 3.

    Raises:
        ConfigError: Unknown ``average``, ``absent`` or ``variant``.
    """

    #: What unknown labels are taken for; -1 leaves them out.
    _unknown_as = -1

    def __init__(
        self,
        average: str | None = 'macro',
        absent: str = 'exclude',
        prefix: str | None = None,
        collect_device: str = 'cpu',
        variant: str = 'exact',
    ) -> None:
        super().__init__(prefix, collect_device)
        choose(average, ('macro', None), f'{type(self).__name__}: average')
        choose(absent, ABSENT_RULES, f'{type(self).__name__}: absent')
        choose(variant, VARIANTS, f'{type(self).__name__}: variant')
        self.average, self.absent, self.variant = average, absent, variant

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``; empty where ``average`` is None."""
        self.check(num_classes)
        return [self.key('mAP')] if self.average == 'macro' else []

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """mAP and the AP of each class in percent, float64 (C,), NaN for a class without a known positive.

        Raises:
            DataError: No class has a known positive, so that there is nothing to average.
        """
        ap = class_average_precision(scores, targets, self.variant, self._unknown_as)
        columns = {self.key('AP_classwise'): ap}
        if self.average is None:
            return Measured({}, columns)
        if self.absent == 'exclude' and bool(ap.isnan().all()):
            raise DataError(
                f'mAP is not defined: none of the {len(ap)} classes has a known positive label '
                f'in the {len(scores)} images'
            )
        if self._unknown_as == -1:
            labelled = label_counts(targets).unknown < len(targets)
            check_labelled(labelled, len(targets))
            ap = ap[labelled]
        return Measured({self.key('mAP'): mean_average_precision(ap, self.absent)}, columns)

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        absent = 'left out of mAP' if self.absent == 'exclude' else 'count as 0 in mAP'
        return {
            'AP': VARIANTS[self.variant],
            'variant': self.variant,
            'ties': 'images with equal scores form one step, whatever their order',
            'classes without a known positive': absent,
            'classes without a known label': 'left out',
        }
