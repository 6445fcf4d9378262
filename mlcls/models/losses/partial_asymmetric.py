"""Class-aware selective loss for partial annotations (Ben-Baruch et al., "Multi-label Classification with Partial
Annotations using Class-aware Selective Loss", CVPR 2022, arXiv 2110.10955)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from typing_extensions import Unpack

from mlcls.models.losses.asymmetric import asymmetric_loss
from mlcls.models.losses.base import PointwiseLoss, Shared
from mlcls.models.losses.large_loss import largest
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics

MODES = ('ignore', 'negative', 'selective')


def observed_share(statistics: LabelStatistics) -> np.ndarray:
    """Share of positives of each class: among its known labels or, where no negative is known, among all images."""
    positives, negatives = statistics.positives, statistics.negatives
    images = positives.sum() / max(statistics.labels_per_image, 1e-12)
    return np.where(negatives > 0, positives / np.maximum(positives + negatives, 1), positives / max(images, 1))


@MODELS.register_module()
class PartialAsymmetricLoss(PointwiseLoss):
    """Asymmetric loss with a third focusing exponent for labels that nobody annotated (-1).

    ``'ignore'`` leaves them out; ``'negative'`` takes them as negatives with ``gamma_unann``; ``'selective'`` as well,
    except those most likely to be missing positives: ``likelihood_topk`` for each image, those of highest score in the
    whole batch, and all of classes whose share of positives is above ``prior_threshold``. Weights are constants in the
    gradient, as in the authors' code. The link is that of annotated labels.

    Args:
        gamma_pos: Focusing exponent of positives, at least 0.
        gamma_neg: Of annotated negatives.
        gamma_unann: Of labels that nobody annotated.
        clip: Probability margin of negatives, in [0, 1).
        mode: One of these.
        likelihood_topk: See above; at least 0.
        prior_threshold: See above; in [0, 1].
        prior: Share of positives of each class, or ``'auto'``: from the training labels. Only ``'selective'`` uses it.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 1.0,
        gamma_unann: float = 4.0,
        clip: float = 0.0,
        mode: str = 'selective',
        likelihood_topk: int = 5,
        prior_threshold: float = 0.5,
        prior: Sequence[float] | str = 'auto',
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        for name, gamma in (('gamma_pos', gamma_pos), ('gamma_neg', gamma_neg), ('gamma_unann', gamma_unann)):
            self.check_range(name, gamma, 0)
        self.check_range('clip', clip, 0, 1, below=True)
        self.check_choice('mode', mode, MODES)
        self.check_range('likelihood_topk', likelihood_topk, 0)
        self.check_range('prior_threshold', prior_threshold, 0, 1)
        self.gamma_pos, self.gamma_neg, self.gamma_unann, self.clip = gamma_pos, gamma_neg, gamma_unann, clip
        self.mode, self.likelihood_topk, self.prior_threshold = mode, likelihood_topk, prior_threshold
        if mode == 'selective':
            self.add_class_setting('prior', prior, {'auto': observed_share}, may_be_zero=True)

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of the annotated labels; 0 elsewhere."""
        return self._asymmetric(logits, targets, self.gamma_neg)

    def _asymmetric(self, logits: torch.Tensor, targets: torch.Tensor, gamma_neg: float) -> torch.Tensor:
        return asymmetric_loss(logits, targets, self.gamma_pos, gamma_neg, self.clip, detach_weight=True)

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of annotated labels and, weighted by what the mode says, of the others."""
        loss = self.pointwise(logits, targets)
        nobody = targets == -1
        if self.mode == 'ignore':
            return loss
        counted = nobody
        if self.mode == 'selective':
            likely = largest(logits, nobody, int(self.likelihood_topk) * len(logits))
            counted = nobody & ~likely & (self.values('prior') <= self.prior_threshold)
        return loss + counted * self._asymmetric(logits, torch.zeros_like(targets), self.gamma_unann)
