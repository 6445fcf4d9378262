"""Label smoothing (Szegedy et al., "Rethinking the Inception Architecture", arXiv 1512.00567), one sigmoid a class."""

from __future__ import annotations

import torch
from typing_extensions import Unpack

from mlcls.errors import ConfigError
from mlcls.models.losses.base import MultiLabelLoss, Shared
from mlcls.models.losses.cross_entropy import binary_cross_entropy
from mlcls.registry import MODELS

MODES = ('multi_label', 'original', 'classy_vision')


def smooth_labels(targets: torch.Tensor, low: float, high: float, dtype: torch.dtype) -> torch.Tensor:
    """Labels moved from [0, 1] into [low, high]; -1 stays.

    Args:
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        low: What becomes of 0.
        high: What becomes of 1.
        dtype: Type of the result.
    """
    labels = targets.to(dtype)
    return torch.where(labels < 0, labels, low + (high - low) * labels)


@MODELS.register_module()
class LabelSmoothLoss(MultiLabelLoss):
    """Binary cross entropy with smoothed labels, mmpretrain's arguments.

    Args:
        label_smooth_val: Smoothing e, in [0, .5) (below 1 in the other modes).
        num_classes: Number of classes K for ``'original'`` and ``'classy_vision'``; the head's if None.
        mode: ``'multi_label'``: 0 becomes e and 1 becomes 1 - e; ``'original'``: e / K and 1 - e + e / K;
            ``'classy_vision'``: the same with e / (1 + e). mmpretrain's default is ``'original'`` with a softmax.
        use_sigmoid: True or None; a softmax is for single-label data.
        **shared: See :class:`~mlcls.models.losses.base.Shared`.

    Raises:
        ConfigError: A value outside these.
    """

    calibrated = True

    def __init__(
        self,
        label_smooth_val: float = 0.1,
        num_classes: int | None = None,
        use_sigmoid: bool | None = None,
        mode: str = 'multi_label',
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.check_choice('mode', mode, MODES)
        self.check_range('label_smooth_val', label_smooth_val, 0, 0.499 if mode == 'multi_label' else 0.999)
        if use_sigmoid is False:
            raise ConfigError('LabelSmoothLoss: use_sigmoid=False (softmax) is for single-label data; remove it')
        self.label_smooth_val = label_smooth_val
        self.num_classes = num_classes
        self.mode = mode

    def set_classes(self, num_classes: int) -> None:
        """See the base.

        Raises:
            ConfigError: ``num_classes`` is set to another number.
        """
        super().set_classes(num_classes)
        if self.num_classes not in (None, num_classes):
            raise ConfigError(
                f'LabelSmoothLoss: num_classes is {self.num_classes}, but there are {num_classes} classes; leave it out'
            )

    def _bounds(self, num_classes: int) -> tuple[float, float]:
        smooth = self.label_smooth_val
        if self.mode == 'multi_label':
            return smooth, 1 - smooth
        if self.mode == 'classy_vision':
            smooth = smooth / (1 + smooth)
        low = smooth / (self.num_classes or num_classes)
        return low, 1 - smooth + low

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross entropy of :func:`smooth_labels`."""
        return binary_cross_entropy(logits, smooth_labels(targets, *self._bounds(logits.shape[1]), logits.dtype))

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """``(sigmoid(x) - low) / (high - low)``: exact, and cut to [0, 1] with what is cut still in order."""
        low, high = self._bounds(logits.shape[1])
        p = logits.float().sigmoid()
        # A millionth of the sigmoid keeps apart what the cut would tie.
        return ((p - low) / (high - low)).clamp(0, 1) * (1 - 1e-6) + 1e-6 * p
