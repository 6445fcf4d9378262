"""Area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError, DataError
from mlcls.registry import METRICS

from ..functional.auroc import auroc, mean_auroc, micro_auroc
from .base import Measured, Metric, Protocol, choose
from .shared import once

AVERAGES = ('macro', 'micro')


def class_auroc(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``auroc``, computed once an evaluation (see ``shared.once``)."""
    return once('AUROC', auroc, scores, targets)


@METRICS.register_module()
class AUROCMetric(Metric):
    """Area under the ROC curve in percent: ``multi-label/AUROC_macro``, ``multi-label/AUROC_micro``; per class
    ``multi-label/AUROC_classwise``. Definitions: ``functional.auroc``.

    Args:
        average: ``'macro'`` (mean over the classes where it is defined), ``'micro'`` (over all known pairs of image
            and class), or several of these. Empty: the values per class alone.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: Unknown average, or one given twice.
    """

    def __init__(
        self, average: str | Sequence[str] = AVERAGES, prefix: str | None = None, collect_device: str = 'cpu'
    ) -> None:
        super().__init__(prefix, collect_device)
        self.average = (average,) if isinstance(average, str) else tuple(average)
        for name in self.average:
            choose(name, AVERAGES, 'AUROCMetric: average')
        if len(set(self.average)) < len(self.average):
            raise ConfigError(f'AUROCMetric: average names one twice: {list(self.average)}')

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        return [self.key(f'AUROC_{name}') for name in self.average]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """AUROC of each class in percent, float64 (C,), NaN for a class without known positives or negatives.

        Raises:
            DataError: A mean is not defined: no class has both (macro), or the whole has not (micro).
        """
        values = class_auroc(scores, targets)
        numbers = {}
        for name in self.average:
            number = mean_auroc(values) if name == 'macro' else once('micro AUROC', micro_auroc, scores, targets)
            if math.isnan(number):
                lack = 'no class has' if name == 'macro' else f'the {values.numel()} classes together do not have'
                raise DataError(
                    f'AUROC_{name} is not defined: {lack} both a known positive and a known negative label '
                    f'in the {len(scores)} images'
                )
            numbers[self.key(f'AUROC_{name}')] = number
        return Measured(numbers, {self.key('AUROC_classwise'): values})

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        means = {
            'macro': 'mean over the classes where it is defined',
            'micro': 'over all known pairs of image and class together',
        }
        return {
            'AUROC': 'share of pairs of a positive and a negative in which the positive is scored higher',
            'ties': 'a pair of equal scores counts one half',
            **{f'AUROC_{name}': means[name] for name in self.average},
            'classes without a known positive or negative': 'left out of the macro mean',
        }
