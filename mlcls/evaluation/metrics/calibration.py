"""Whether scores can be read as probabilities."""

from __future__ import annotations

import torch

from mlcls.errors import DataError
from mlcls.registry import METRICS

from ..functional.calibration import (
    ReliabilityBins,
    brier_score,
    equal_mass_bins,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)
from .base import Measured, Metric, Protocol, check_topk, choose
from .shared import once

BINNINGS = {'equal-width': reliability_bins, 'equal-mass': equal_mass_bins}
_WORDS = {
    'equal-width': '{bins} bins of equal width over [0, 1], each open below',
    'equal-mass': '{bins} bins between quantiles of the scores of the class',
}


def class_bins(
    scores: torch.Tensor, targets: torch.Tensor, bins: int = 15, binning: str = 'equal-width'
) -> ReliabilityBins:
    """``reliability_bins`` or ``equal_mass_bins``, computed once an evaluation (see ``shared.once``)."""
    return once(
        ('bins', binning, bins),
        lambda scores, targets: BINNINGS[binning](scores, targets, bins),
        scores,
        targets,
    )


def class_brier(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``brier_score``, computed once an evaluation."""
    return once('Brier', brier_score, scores, targets)


@METRICS.register_module()
class CalibrationMetric(Metric):
    """Calibration errors times 100; lower is better. Definitions: ``functional.calibration``.

    Numbers: ``multi-label/ECE`` and ``multi-label/Brier``, means over the classes that have a known label; with bins of
    equal width also ``multi-label/ECE_pooled``, of all classes as one. Per class: ``multi-label/ECE_classwise``,
    ``MCE_classwise``, ``Brier_classwise``.

    Args:
        bins: Number of bins.
        binning: ``'equal-width'`` or ``'equal-mass'``.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: ``bins`` below 1, or an unknown ``binning``.
    """

    def __init__(
        self, bins: int = 15, binning: str = 'equal-width', prefix: str | None = None, collect_device: str = 'cpu'
    ) -> None:
        super().__init__(prefix, collect_device)
        self.bins = check_topk(bins, 'CalibrationMetric: bins')
        choose(binning, BINNINGS, 'CalibrationMetric: binning')
        self.binning = binning

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        pooled = ['ECE_pooled'] if self.binning == 'equal-width' else []
        return [self.key(name) for name in ('ECE', *pooled, 'Brier')]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """Errors of each class times 100, float64 (C,), NaN for a class without a known label. See ``Metric.compute``.

        Raises:
            DataError: No label is known.
        """
        bins = class_bins(scores, targets, self.bins, self.binning)
        if not int(bins.count.sum()):
            raise DataError(f'calibration is not defined: no label of the {len(scores)} images is known')
        errors, brier = expected_calibration_error(bins), class_brier(scores, targets)
        numbers = {self.key('ECE'): float(errors.nanmean())}
        if self.binning == 'equal-width':
            numbers[self.key('ECE_pooled')] = float(expected_calibration_error(bins.pooled()))
        numbers[self.key('Brier')] = float(brier.nanmean())
        columns = {'ECE': errors, 'MCE': maximum_calibration_error(bins), 'Brier': brier}
        return Measured(numbers, {self.key(f'{name}_classwise'): values for name, values in columns.items()})

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        return {
            'ECE': 'mean distance between score and frequency over the bins, weighted by size; mean over the classes',
            'bins': _WORDS[self.binning].format(bins=self.bins),
            'Brier': 'mean squared distance between score and label, times 100; mean over the classes',
            'classes without a known label': 'left out',
        }
