"""What happens to a batch on the device before the network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch.nn import functional as F

from mlcls.errors import ConfigError
from mlcls.registry import MODELS
from mlcls.structures import Batch


@MODELS.register_module()
class ClsDataPreprocessor(BaseDataPreprocessor):
    """Copies a batch to the device and normalises its images there; arguments of mmpretrain.

    Images come in as uint8 RGB and a quarter of the bytes of float32 cross the bus.

    Args:
        mean: Mean of each channel, 0 to 255; None with ``std=None`` leaves the values.
        std: Standard deviation of each channel, above 0.
        pad_size_divisor: Pad height and width, at the bottom and right, to multiples of this.
        pad_value: Value of the padding, before normalisation.
        to_rgb: The network takes RGB; False gives it BGR.
        to_onehot: Here for configs of mmpretrain; targets are always (N, C).
        num_classes: Here for configs of mmpretrain; the head's number counts.
        batch_augments: Must be None.

    Raises:
        ConfigError: Only one of ``mean`` and ``std``, or ``batch_augments`` given.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        to_rgb: bool = False,
        to_onehot: bool = False,
        num_classes: int | None = None,
        batch_augments: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(non_blocking=True)
        if (mean is None) != (std is None):
            raise ConfigError('ClsDataPreprocessor: mean and std belong together; give both or neither')
        if std is not None and min(std) <= 0:
            raise ConfigError(f'ClsDataPreprocessor: std must be above 0, got {list(std)}')
        if batch_augments is not None:
            raise ConfigError('ClsDataPreprocessor: batch_augments (Mixup, CutMix) are not available; remove them')
        self.normalised = mean is not None
        self.register_buffer('mean', torch.tensor(mean or [0.0]).view(-1, 1, 1), persistent=False)
        self.register_buffer('scale', 1 / torch.tensor(std or [1.0]).view(-1, 1, 1), persistent=False)
        self.pad_size_divisor = pad_size_divisor
        self.pad_value = pad_value
        self.to_rgb = to_rgb

    def forward(self, data: Batch, training: bool = False) -> Batch:
        """Prepare a batch.

        Args:
            data: Batch from the loader: images uint8 RGB (N, 3, H, W).
            training: Unused; part of mmengine's interface.

        Returns:
            The batch on the device, images float32 (N, 3, H', W').
        """
        batch = self.cast_data(data)
        images = batch['inputs']
        if not self.to_rgb and images.shape[1] == 3:
            images = images.flip(1)
        height, width = images.shape[-2:]
        pad = (-width % self.pad_size_divisor, -height % self.pad_size_divisor)
        if any(pad):
            images = F.pad(images, (0, pad[0], 0, pad[1]), value=self.pad_value)
        images = images.float()
        if self.normalised:
            images = images.sub_(self.mean).mul_(self.scale)
        return Batch(inputs=images, targets=batch['targets'], index=batch['index'])
