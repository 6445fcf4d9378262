"""ZLPR, "multi-label softmax" (Su et al., "ZLPR: A Novel Loss for Multi-label Classification", arXiv 2208.02955)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mlcls.models.losses.base import MultiLabelLoss, known_labels
from mlcls.models.losses.numerics import weighted_terms
from mlcls.registry import MODELS


def zlpr_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``log(1 + sum_negatives e^x) + log(1 + sum_positives e^-x)`` of every image.

    Soft labels y enter as ``y e^-x`` and ``(1 - y) e^x`` (section 3.4 of the paper).

    Args:
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].

    Returns:
        (N,), at least 0.
    """
    labels, known = known_labels(targets, logits.dtype)
    return _log_one_plus_sum(logits, (1 - labels) * known) + _log_one_plus_sum(-logits, labels)


def _log_one_plus_sum(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``log(1 + sum_c w e^x)`` over the last dimension; terms of weight 0 are left out, gradient included."""
    return F.pad(weighted_terms(x, weight), (1, 0)).logsumexp(dim=-1)


@MODELS.register_module()
class ZLPRLoss(MultiLabelLoss):
    """Pushes the logits of all present classes above 0 and of all absent ones below; see :func:`zlpr_loss`.

    A value is the loss of an image. The decision that belongs to it is logit > 0, so a threshold of .5. The score is
    the sigmoid, which is the probability of the label for a single class only: with several, the classes of an image
    share one gradient and scores lie nearer to 0 and 1.
    """

    unit = 'image'

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :func:`zlpr_loss`."""
        return zlpr_loss(logits, targets)
