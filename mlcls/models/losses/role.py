"""ROLE (Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.errors import ConfigError
from mlcls.models.losses.base import Shared
from mlcls.models.losses.incomplete import IncompleteLabelLoss, Parts
from mlcls.registry import MODELS
from mlcls.structures import PRESENT, LabelStatistics

#: Estimates before training: of an observed positive, and the widest of the others from 1/2.
START_POSITIVE, START_SPREAD = 0.995, 0.1


def expected_positives_penalty(p: torch.Tensor, expected: float) -> torch.Tensor:
    """``((mean over images of the sum over classes of p) - k)^2 / C^2``, a scalar.

    Args:
        p: (N, C) probabilities.
        expected: k, labels per image.
    """
    return ((p.sum(dim=1).mean() - expected) / p.shape[1]) ** 2


@MODELS.register_module()
class RoleLoss(IncompleteLabelLoss):
    """Regularised online label estimation: a matrix of estimated labels is trained along with the network.

    For network scores f and estimated labels q: half of (BCE(f, q) with q fixed + BCE(q, f) with f fixed + the losses
    of observed positives under both + the penalties on the expected number of positives under both). Estimates are
    logits of every training image and class, a parameter of this loss that lives in training alone; the authors train
    it with ten times the learning rate: ``optim_wrapper.paramwise_cfg.custom_keys=dict(label_logits=dict(lr_mult=10,
    decay_mult=0))``. Scores are the sigmoid; no link is known.

    Args:
        expected_positives: k, labels per image of complete annotations; ``'auto'`` takes the mean of the training
            labels, which is too low where labels are missing. The authors use 1.5 on VOC, 2.9 on COCO, 1.9 on NUS.
        epr_weight: Factor of the penalty, at least 0.
        **shared: See :class:`~mlcls.models.losses.base.Shared`; ``unknown`` also takes ``'unobserved'``, see
            :class:`~mlcls.models.losses.incomplete.IncompleteLabelLoss`.

    Raises:
        ConfigError: A value outside these.
    """

    calibrated = False
    training_state = ('label_logits',)

    def __init__(
        self, expected_positives: float | str = 'auto', epr_weight: float = 1.0, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(**shared)
        if expected_positives != 'auto':
            if isinstance(expected_positives, str):
                raise ConfigError(
                    f"RoleLoss: expected_positives must be a number or 'auto', got '{expected_positives}'"
                )
            self.check_range('expected_positives', expected_positives, 0)
        self.check_range('epr_weight', epr_weight, 0)
        self.expected_positives = expected_positives
        self.epr_weight = epr_weight
        self.label_logits = nn.Parameter(torch.zeros(0, 0))

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Make the matrix of estimates, and take the expected number of positives from the labels."""
        spread = torch.logit(torch.tensor(0.5 + START_SPREAD))
        start = spread * (2 * torch.rand(statistics.labels.shape, generator=torch.Generator().manual_seed(0)) - 1)
        start[torch.from_numpy(statistics.labels.dense() == PRESENT)] = torch.logit(torch.tensor(START_POSITIVE))
        self.label_logits = nn.Parameter(start.to(self.label_logits.dtype))
        filled = super().fit(statistics)
        if self.expected_positives == 'auto':
            self.expected_positives = statistics.labels_per_image
            filled['expected_positives'] = torch.tensor(self.expected_positives)
        return filled

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses of the observed labels alone."""
        return _observed(logits, self.parts(targets, logits.dtype))

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """The sigmoid."""
        return logits.float().sigmoid()

    def unreduced_of_images(
        self, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor | None
    ) -> torch.Tensor:
        """Loss of every image and class; each carries the penalty of the batch, so that a mean over both holds it once.

        Raises:
            ConfigError: Without the positions of the images, or before :meth:`fit`.
        """
        if index is None or not len(self.label_logits):
            raise ConfigError(
                'RoleLoss: estimates the labels of each image: it needs index=... of the images, and fit(...) with the '
                'training labels, as a training run does both'
            )
        estimates = self.label_logits[index].to(logits.dtype)
        parts = self.parts(targets, logits.dtype)
        counted = parts.positive + parts.negative + parts.unobserved  # 0 where the label is to be ignored
        cross = sum(
            F.binary_cross_entropy_with_logits(x, q.detach().sigmoid(), reduction='none')
            for x, q in ((logits, estimates), (estimates, logits))
        )
        expected = float(self.expected_positives)
        penalty = sum(expected_positives_penalty(x.sigmoid() * counted, expected) for x in (logits, estimates))
        each = cross * counted + _observed(logits, parts) + _observed(estimates, parts)
        return 0.5 * (each + self.epr_weight * penalty)


def _observed(logits: torch.Tensor, parts: Parts) -> torch.Tensor:
    return -parts.positive * F.logsigmoid(logits) - parts.negative * F.logsigmoid(-logits)
