"""What losses for incomplete labels share: which labels nobody looked at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from typing_extensions import Unpack

from mlcls.models.losses.base import PointwiseLoss, Shared


class Parts(NamedTuple):
    """How much of each label is present, verified absent, and unobserved; (N, C) each, in [0, 1]. All 0: ignored."""

    positive: torch.Tensor
    negative: torch.Tensor
    unobserved: torch.Tensor


class IncompleteLabelLoss(PointwiseLoss):
    """Base of losses for data in which some positives were never marked.

    Which labels are unobserved is told by ``unknown``:

    - ``'ignore'`` (default): the zeros are, as in the papers, whose data know positives and the rest; -1 is left out.
    - ``'negative'``: zeros and -1 are.
    - ``'unobserved'``: -1 alone is; zeros are verified negatives and cost binary cross entropy.

    A soft label y is y parts positive and 1 - y parts of what a zero would be. The link tells the probability that the
    label was *observed* to be there.
    """

    unknowns = ('ignore', 'negative', 'unobserved')

    def __init__(self, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.absent_target = -1.0 if self.unknown == 'unobserved' else 0.0

    def parts(self, targets: torch.Tensor, dtype: torch.dtype) -> Parts:
        """Split targets (N, C), see the class."""
        labels = targets.to(dtype)
        known = (labels >= 0).to(dtype)
        positive, rest = labels * known, (1 - labels) * known
        if self.unknown == 'unobserved':
            return Parts(positive, rest, 1 - known)
        return Parts(positive, torch.zeros_like(rest), rest)
