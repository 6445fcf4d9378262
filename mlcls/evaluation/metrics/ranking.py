"""How well the scores of an image order its labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError, DataError
from mlcls.registry import METRICS

from ..functional.ranking import ranked_images, ranking_measures
from .base import Measured, Metric, Protocol, check_topk


@METRICS.register_module()
class RankingMetric(Metric):
    """Label ranking: of each image, are its present labels scored above the others?

    Numbers: ``multi-label/LRAP``, ``coverage``, ``ranking_loss``, ``one_error`` (lower is better for these three), for
    each k ``precision@k``, ``recall@k`` and ``nDCG@k``, and ``images_without_known_positive``, the number of images
    that are left out. In percent, but for ``coverage``, a number of labels. Definitions: ``functional.ranking``.

    Where no image has both a known positive and a known negative, ``ranking_loss`` alone is NaN.

    Args:
        k: How many of the highest-scored labels count, one number or several.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Raises:
        ConfigError: A ``k`` that is no integer of at least 1, none, or one twice.
    """

    def __init__(
        self, k: int | Sequence[int] = (1, 3, 5), prefix: str | None = None, collect_device: str = 'cpu'
    ) -> None:
        super().__init__(prefix, collect_device)
        ks = list(k) if isinstance(k, (list, tuple)) else [k]
        self.k = tuple(check_topk(value, 'RankingMetric: k') for value in ks)
        if not self.k or len(set(self.k)) < len(self.k):
            raise ConfigError(f'RankingMetric: k must be different numbers of labels, for example (1, 3, 5), not {k!r}')

    def check(self, num_classes: int) -> None:
        """See ``Metric.check``."""
        super().check(num_classes)
        if max(self.k) > num_classes:
            fitting = [k for k in self.k if k <= num_classes] or [num_classes]
            raise ConfigError(
                f'RankingMetric: k={max(self.k)}, but there are only {num_classes} classes; choose k={tuple(fitting)}'
            )

    def names(self, num_classes: int) -> list[str]:
        """See ``Metric.names``."""
        self.check(num_classes)
        return [self.key(name) for name in self._measures()]

    def _measures(self) -> list[str]:
        at_k = [f'{name}@{k}' for name in ('precision', 'recall', 'nDCG') for k in self.k]
        return ['LRAP', 'coverage', 'ranking_loss', 'one_error', *at_k, 'images_without_known_positive']

    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """See ``Metric.compute``.

        Raises:
            DataError: No image has a known positive.
        """
        left_out = len(targets) - ranked_images(targets).with_positive
        if left_out == len(targets):
            raise DataError(f'label ranking is not defined: none of the {left_out} images has a known positive label')
        found = {**ranking_measures(scores, targets, self.k), 'images_without_known_positive': float(left_out)}
        return Measured({self.key(name): float(found[name]) for name in self._measures()}, {})

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        return {
            'rank of a label': 'known labels of the image with its score or a higher one',
            'coverage': 'worst rank of a positive, a number of labels from 1 on',
            'ties among the first k labels': 'mean over all their orders',
            'images without a known positive': 'left out, and counted',
            'images without a known negative': 'left out of ranking_loss',
        }
