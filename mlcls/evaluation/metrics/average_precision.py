"""Average precision and its mean, mAP."""

from __future__ import annotations

import torch

from mlcls.errors import DataError
from mlcls.registry import METRICS

from ..functional import average_precision, mean_average_precision
from ..functional.ranking import ABSENT_RULES
from .base import Metric, Protocol, choose


@METRICS.register_module()
class AveragePrecision(Metric):
    """Mean average precision, ``multi-label/mAP``, in percent; per class ``multi-label/AP_classwise``.

    Args:
        average: ``'macro'`` gives mAP; None gives the values per class alone, and no single number to save the best
            checkpoint by.
        absent: What becomes of classes without a known positive: ``'exclude'`` leaves them out of the mean (they are
            named in the result), ``'zero'`` counts them as 0, as mmpretrain does.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: Unknown ``average`` or ``absent``.
    """

    def __init__(
        self,
        average: str | None = 'macro',
        absent: str = 'exclude',
        prefix: str | None = None,
        collect_device: str = 'cpu',
    ) -> None:
        super().__init__(prefix, collect_device)
        choose(average, ('macro', None), f'{type(self).__name__}: average')
        choose(absent, ABSENT_RULES, f'{type(self).__name__}: absent')
        self.average, self.absent = average, absent

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``; empty where ``average`` is None."""
        self.check(num_classes)
        return [self.key('mAP')] if self.average == 'macro' else []

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """See ``Metric.compute``.

        Raises:
            DataError: No class has a known positive, so that there is nothing to average.
        """
        if self.average is None:
            return {}
        ap = average_precision(scores, targets)
        if self.absent == 'exclude' and bool(ap.isnan().all()):
            raise DataError(
                f'mAP is not defined: none of the {len(ap)} classes has a known positive label '
                f'in the {len(scores)} images'
            )
        return {self.key('mAP'): mean_average_precision(ap, self.absent)}

    def per_class(self, scores: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """AP of each class in percent, float64 (C,); NaN for a class without a known positive."""
        return {self.key('AP_classwise'): average_precision(scores, targets)}

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        absent = 'left out of mAP' if self.absent == 'exclude' else 'count as 0 in mAP'
        return {
            'AP': 'exact area under the precision-recall steps, sum of (R_n - R_(n-1)) P_n, without interpolation',
            'ties': 'images with equal scores form one step, whatever their order',
            'classes without a known positive': absent,
        }
