"""Distribution-balanced loss (Wu et al., "Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed
Datasets", ECCV 2020, arXiv 2007.09654)."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.models.losses.base import MultiLabelLoss, Shared, known_labels
from mlcls.models.losses.link import LinkCurve
from mlcls.models.losses.numerics import power
from mlcls.models.losses.weights import positive_counts
from mlcls.registry import MODELS
from mlcls.structures import ABSENT, PRESENT, LabelStatistics

#: Images, evenly spaced, over which the mean weights of the link are taken.
SAMPLE = 20_000


def rebalancing_weights(
    labels: torch.Tensor, counts: torch.Tensor, alpha: float = 0.1, beta: float = 10.0, mu: float = 0.2
) -> torch.Tensor:
    """``alpha + sigmoid(beta (r - mu))``, ``r_c = (1 / n_c) / sum over the labels j of the image (1 / n_j)``.

    r is the share of a draw of the image that class-balanced sampling would owe to class c. An image without labels
    has the limit: r is infinite.

    Args:
        labels: (N, C) in [0, 1].
        counts: (C,) positives n of each class, above 0.
        alpha: Least weight.
        beta: Steepness.
        mu: r of the middle.

    Returns:
        (N, C) in [alpha, 1 + alpha].
    """
    inverse = 1 / counts
    owed = inverse / (labels @ inverse)[:, None].clamp(min=torch.finfo(inverse.dtype).tiny)
    return alpha + torch.sigmoid(beta * (owed - mu))


def negative_tolerant_focal(
    logits: torch.Tensor, labels: torch.Tensor, neg_scale: float = 2.0, gamma: float = 2.0
) -> torch.Tensor:
    """``-y (1 - p)^g log p - (1 - y) / k q^g log(1 - q)``, ``p = sigmoid(z)``, ``q = sigmoid(k z)``.

    Args:
        logits: z, (N, C).
        labels: (N, C) in [0, 1].
        neg_scale: k.
        gamma: Focusing exponent g.
    """
    positive = -power((-logits).sigmoid(), gamma) * F.logsigmoid(logits)
    scaled = neg_scale * logits
    negative = -power(scaled.sigmoid(), gamma) * F.logsigmoid(-scaled) / neg_scale
    return labels * positive + (1 - labels) * negative


@MODELS.register_module()
class DistributionBalancedLoss(MultiLabelLoss):
    """Focal loss for long tails: weights that undo the side effects of balanced sampling, and tolerant negatives.

    Numbers of positives come from the training labels. Logits are shifted by ``-log(N / n_c - 1) init_bias /
    neg_scale``, negatives scaled by ``neg_scale``, everything weighted by :func:`rebalancing_weights`. The link knows
    the mean weight of positives and of negatives of each class over the training labels, and is exact for a model
    that cannot tell images apart.

    The authors' settings: ``alpha=.1, beta=10, init_bias=.05``; ``mu=.2, neg_scale=2`` on COCO, ``mu=.3, neg_scale=5``
    on VOC (their constructor's defaults are a permutation of these), and a factor of 2, here ``loss_weight``.

    Args:
        alpha: Least weight.
        beta: Steepness of the weights.
        mu: Share at which the weight is in its middle.
        init_bias: Strength of the shift.
        neg_scale: Scale of negative logits, above 0.
        gamma: Focusing exponent, at least 0.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A value outside these.
    """

    calibrated = True

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 10.0,
        mu: float = 0.2,
        init_bias: float = 0.05,
        neg_scale: float = 2.0,
        gamma: float = 2.0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.check_range('alpha', alpha, 0)
        self.check_positive('neg_scale', neg_scale)
        for name, value in (('beta', beta), ('mu', mu), ('init_bias', init_bias)):
            self.check_range(name, value)
        self.check_range('gamma', gamma, 0)
        self.rebalancing = (alpha, beta, mu)
        self.init_bias, self.neg_scale, self.gamma = init_bias, neg_scale, gamma
        rules = {'counts': positive_counts, 'shift': self._shift, 'odds_of_weights': self._odds_of_weights}
        for name in rules:
            self.add_class_setting(name, name, rules)

    def _shift(self, statistics: LabelStatistics) -> np.ndarray:
        drawn = statistics.positives + statistics.negatives
        share = np.clip(positive_counts(statistics), 0.5, np.maximum(drawn - 0.5, 0.5))
        return -np.log(np.maximum(drawn / share - 1, 1e-6)) * self.init_bias / self.neg_scale

    def _odds_of_weights(self, statistics: LabelStatistics) -> np.ndarray:
        """Logarithm of the mean weight of negatives over that of positives."""
        chosen = np.unique(np.linspace(0, len(statistics.labels) - 1, SAMPLE).astype(np.int64))
        marks = statistics.labels.select(chosen).dense()
        labels, absent = (torch.from_numpy(marks == value).double() for value in (PRESENT, ABSENT))
        counts = torch.from_numpy(positive_counts(statistics))
        draws = torch.ones(len(chosen), 1).double()
        if statistics.draws is not None:
            draws = torch.from_numpy(np.asarray(statistics.draws, np.float64)[chosen])[:, None]
        weights = rebalancing_weights(labels, counts, *self.rebalancing) * draws
        positive = (weights * labels).sum(0) / (labels * draws).sum(0)
        negative = (weights * absent).sum(0) / (absent * draws).sum(0)
        return (negative / positive).log().nan_to_num(0.0, 0.0, 0.0).numpy()

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Weighted :func:`negative_tolerant_focal` of the shifted logits."""
        labels, known = known_labels(targets, logits.dtype)
        weights = rebalancing_weights(labels, self.values('counts').to(logits.dtype), *self.rebalancing)
        shifted = logits + self.values('shift').to(logits.dtype)
        return weights * negative_tolerant_focal(shifted, labels, self.neg_scale, self.gamma) * known

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """Posterior at the optimum, with mean weights; see the class."""
        if self._curve is None:
            scale, gamma = self.neg_scale, self.gamma
            self._curve = LinkCurve(lambda x, y: negative_tolerant_focal(x, y, scale, gamma))
        return (self._curve(logits.float() + self.values('shift')) + self.values('odds_of_weights')).sigmoid()
