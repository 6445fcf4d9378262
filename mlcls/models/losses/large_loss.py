"""Large loss (Kim et al., "Large Loss Matters in Weakly Supervised Multi-Label Classification", CVPR 2022)."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F
from typing_extensions import Unpack

from mlcls.errors import ConfigError
from mlcls.models.losses.base import Shared
from mlcls.models.losses.incomplete import IncompleteLabelLoss
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics

MODES = ('reject', 'correct_temporary', 'correct_permanent')


def largest(values: torch.Tensor, candidates: torch.Tensor, count: int) -> torch.Tensor:
    """Mask of the ``count`` largest values among the candidates (fewer if there are fewer).

    Args:
        values: (N, C).
        candidates: (N, C) bool.
        count: How many.

    Returns:
        (N, C) bool.
    """
    masked = torch.where(candidates, values.detach(), -torch.inf).flatten()
    chosen = torch.zeros_like(masked, dtype=torch.bool)
    chosen[masked.topk(min(count, masked.numel())).indices] = True
    return chosen.view_as(candidates) & candidates


def _count(share_of_all: float) -> int:
    """Round up, but not what is a whole number but for rounding (.1 * 3 * 10)."""
    return math.ceil(round(share_of_all, 9))


@MODELS.register_module()
class LargeLoss(IncompleteLabelLoss):
    """Binary cross entropy in which the largest losses of unobserved labels are taken for missing positives.

    The first epoch is plain. Later, of the unobserved labels of a batch of B images, the k of largest loss are left out
    (``'reject'``, LL-R), taken as positive for this step (``'correct_temporary'``, LL-Ct), with ``k = ceil(B C e
    delta_rel)`` in epoch e = 1, 2, ...; or taken as positive for good (``'correct_permanent'``, LL-Cp), with ``k =
    ceil(B C delta_rel)``. The link is the sigmoid, that of the plain loss.

    Args:
        mode: One of these.
        delta_rel: Share of the labels by which k grows each epoch, in [0, 1]; the authors use .001 to .005.
        **shared: See :class:`~mlcls.models.losses.base.Shared`; ``unknown`` also takes ``'unobserved'``, see
            :class:`~mlcls.models.losses.incomplete.IncompleteLabelLoss`.

    Raises:
        ConfigError: A value outside these.
    """

    flipped: torch.Tensor

    def __init__(self, mode: str = 'reject', delta_rel: float = 0.002, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.check_choice('mode', mode, MODES)
        self.check_range('delta_rel', delta_rel, 0, 1)
        self.mode = mode
        self.delta_rel = delta_rel
        if mode == 'correct_permanent':
            self.training_state = ('flipped',)
        self.register_buffer('flipped', torch.zeros(0, 0, dtype=torch.bool), persistent=False)

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Make room to remember which labels were taken as positive for good."""
        if self.mode == 'correct_permanent':
            self.flipped = torch.zeros(statistics.labels.shape, dtype=torch.bool)
        return super().fit(statistics)

    def end_epoch(self) -> None:
        """Share what was flipped among the ranks: in the next epoch another one draws the image."""
        if self.mode == 'correct_permanent':
            from mmengine.dist import all_reduce

            flipped = self.flipped.to(torch.uint8)
            all_reduce(flipped, op='max')
            self.flipped = flipped.bool()

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross entropy with unobserved labels as negatives."""
        positive, negative, unobserved = self.parts(targets, logits.dtype)
        return -positive * F.logsigmoid(logits) - (negative + unobserved) * F.logsigmoid(-logits)

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of the current epoch, without memory of images."""
        if self.epoch == 0 or self.delta_rel == 0:
            return self.pointwise(logits, targets)
        unobserved = self.parts(targets, logits.dtype).unobserved
        share = self.delta_rel * (1 if self.mode == 'correct_permanent' else self.epoch)
        found = largest(-F.logsigmoid(-logits), unobserved == 1, _count(logits.numel() * share))
        return self._treated(logits, targets, found)

    def _treated(self, logits: torch.Tensor, targets: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        if self.mode == 'reject':
            return self.pointwise(logits, targets) * ~found
        return self.pointwise(logits, torch.where(found, 1, targets))

    def unreduced_of_images(
        self, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor | None
    ) -> torch.Tensor:
        """As :meth:`unreduced`; ``'correct_permanent'`` remembers what it flipped.

        Raises:
            ConfigError: ``'correct_permanent'`` without the positions of the images or the training labels.
        """
        if self.mode != 'correct_permanent':
            return super().unreduced_of_images(logits, targets, index)
        if index is None or not len(self.flipped):
            raise ConfigError(
                "LargeLoss: mode='correct_permanent' remembers labels of each image: it needs index=... of the images, "
                'and fit(...) with the training labels, as a training run does both'
            )
        targets = torch.where(self.flipped[index], 1, targets)
        if self.epoch == 0:
            return self.pointwise(logits, targets)
        unobserved = self.parts(targets, logits.dtype).unobserved == 1
        found = largest(-F.logsigmoid(-logits), unobserved, _count(logits.numel() * self.delta_rel))
        rows, columns = found.nonzero(as_tuple=True)
        self.flipped[index[rows], columns] = True  # an image may be in a batch twice
        return self._treated(logits, targets, found)
