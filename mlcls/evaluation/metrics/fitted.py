"""What the model would reach with thresholds chosen for it, measured on images they were not chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mlcls.errors import ConfigError, DataError
from mlcls.registry import METRICS

from .base import Measured, Metric, Protocol
from .shared import once

if TYPE_CHECKING:
    from ..operating_points import OperatingPoints


@METRICS.register_module()
class FittedThresholdMetric(Metric):
    """CP, CR, CF1, OP, OR, OF1 and macro_F1 in percent with fitted thresholds, ``multi-label/CF1_fitted`` and so on.

    The images are split into folds; those of each fold are decided by thresholds chosen on the others, so the numbers
    may stand beside those at 0.5. The thresholds kept with the model are chosen on all images; they are
    ``multi-label/threshold_classwise``.

    Args:
        objective: What thresholds are chosen for, see ``operating_points.parse_objective``.
        folds: Number of folds, at least 2.
        calibration: ``'temperature'``, ``'platt'``, ``'isotonic'`` or None, see ``operating_points.FitSettings``.
        shrink: Whether thresholds of rare classes lean on the group's; see there.
        seed: Of the folds.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: A setting that is none.
    """

    measures = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')

    def __init__(
        self,
        objective: str = 'f1',
        folds: int = 5,
        calibration: str | None = None,
        shrink: bool | float = True,
        seed: int = 0,
        prefix: str | None = None,
        collect_device: str = 'cpu',
    ) -> None:
        # Imported here: the fitting imports the functional measures, which this package's own import must not wait for.
        from ..operating_points import FitSettings

        super().__init__(prefix, collect_device)
        if folds == 0:  # FitSettings would take it for "no cross-fit", which is all that this metric is about
            raise ConfigError('FittedThresholdMetric: folds must be at least 2, not 0')
        self.settings = FitSettings(objective, calibration, shrink, folds, bootstrap=0, seed=seed)
        self._classes: tuple[str, ...] = ()

    def use_meta(self, meta: Mapping[str, Any]) -> None:
        """Take the names of the classes, for the notes on them."""
        self._classes = tuple(meta.get('classes') or ())

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        return [self.key(f'{measure}_fitted') for measure in self.measures]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """See ``Metric.compute``.

        Raises:
            DataError: Fewer than two images, no known positive label, or scores outside [0, 1].
        """
        if len(scores) < 2:
            raise DataError(
                f'FittedThresholdMetric needs at least 2 images, one to choose on and one to measure, not {len(scores)}'
            )
        classes = self._classes
        if len(classes) != scores.shape[1]:
            classes = tuple(f'class {number}' for number in range(scores.shape[1]))
        points = self._fit(scores, targets, classes)
        found = points.figures['cross-fitted']
        return Measured(
            {self.key(f'{measure}_fitted'): found[measure] for measure in self.measures},
            {self.key('threshold_classwise'): torch.tensor(points.thresholds, dtype=torch.float64)},
        )

    def operating_points(self, scores: torch.Tensor, targets: torch.Tensor, classes: Sequence[str]) -> OperatingPoints:
        """Thresholds chosen on all these images, without intervals."""
        return self._fit(scores, targets, tuple(classes))

    def _fit(self, scores: torch.Tensor, targets: torch.Tensor, classes: tuple[str, ...]) -> OperatingPoints:
        from ..operating_points import fit_operating_points

        key = ('fitted points', classes, repr(self.settings))
        return once(key, lambda s, t: fit_operating_points(s, t, classes, self.settings), scores, targets)

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        settings = self.settings
        return {
            'decision': 'score >= threshold of the class',
            'threshold source': f'chosen for {settings.objective} on the other folds of the same images',
            'folds': settings.folds,
            'calibration': settings.calibration or 'none',
            'shrinkage': f'{settings.strength:g} positives weigh as much as the group' if settings.strength else 'none',
            'CF1': 'harmonic mean of CP and CR',
            'macro_F1': "mean of the classes' F1",
            'empty denominators': 'count as 0, also in the means over classes',
            'classes without a known label': 'left out',
        }
