"""Measures of whole images."""

from __future__ import annotations

import torch

from mlcls.errors import DataError
from mlcls.registry import METRICS

from ..functional.exact_match import exact_match, image_counts_from_scores
from .base import Measured, Protocol
from .decision import DecisionMetric
from .shared import once


@METRICS.register_module()
class ExactMatchMetric(DecisionMetric):
    """Subset accuracy, Hamming loss and Jaccard index, in percent.

    Numbers: ``multi-label/subset_accuracy``, ``multi-label/hamming_loss`` (lower is better), ``multi-label/jaccard``
    (mean over the images) and ``multi-label/images_without_known_label``, the number of images that are left out; with
    ``topk=3``, ``multi-label/subset_accuracy_top3`` and so on. Definitions: ``functional.exact_match``.

    Args:
        thr: See ``DecisionMetric``, as for all below.
        topk: See there.
        thr_source: See there.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: As ``DecisionMetric``.
    """

    measures = ('subset_accuracy', 'hamming_loss', 'jaccard', 'images_without_known_label')

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        return [self.key(measure + self._suffix) for measure in self.measures]

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """See ``Metric.compute``.

        Raises:
            DataError: No image has a known label.
        """
        rule = tuple(self.thr) if isinstance(self.thr, list) else self.thr
        counts = once(
            ('images', rule, self.topk),
            lambda scores, targets: image_counts_from_scores(scores, targets, self.thr, self.topk),
            scores,
            targets,
        )
        found = exact_match(counts)
        if not found.num_images:
            raise DataError(f'subset accuracy is not defined: no label of the {found.left_out} images is known')
        values = (found.subset_accuracy, found.hamming_loss, found.jaccard, float(found.left_out))
        return Measured({self.key(measure + self._suffix): value for measure, value in zip(self.measures, values)}, {})

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        return {
            **super().protocol(),
            'subset accuracy': 'an image is right where all its known labels are',
            'Hamming loss': 'known labels decided wrongly, of all known labels',
            'Jaccard index': 'mean over images; an image with neither present nor decided labels counts 100',
            'images without a known label': 'left out, and counted',
        }
