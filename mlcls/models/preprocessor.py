"""What happens to a batch on the device before the network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch.nn import functional as F

from mlcls.errors import ConfigError
from mlcls.models.augments import BatchAugment, DeviceAugment, build_augment
from mlcls.registry import MODELS
from mlcls.structures import Batch


@MODELS.register_module()
class ClsDataPreprocessor(BaseDataPreprocessor):
    """Copies a batch to the device, in training augments it, and normalises its images there; arguments of mmpretrain.

    Images come in as uint8 RGB and a quarter of the bytes of float32 cross the bus.

    Args:
        mean: Mean of each channel, 0 to 255; None with ``std=None`` leaves the values.
        std: Standard deviation of each channel, above 0.
        pad_size_divisor: Pad height and width, at the bottom and right, to multiples of this.
        pad_value: Value of the padding, before normalisation.
        to_rgb: The network takes RGB; False gives it BGR.
        to_onehot: Here for configs of mmpretrain; targets are always (N, C).
        num_classes: Here for configs of mmpretrain; the head's number counts.
        batch_augments: What mixes the images of a training batch, and their labels: ``dict(augments=[dict(type='Mixup',
            alpha=0.8), dict(type='CutMix', alpha=1.0)], probs=[0.4, 0.6])`` as in mmpretrain, or one augmentation or a
            list of them without ``probs``.
        device_augments: One or several changes of the images of a training batch, applied in this order before those,
            for example ``dict(type='BatchRandAugment')``; see ``mlcls.models.augments``.

    Raises:
        ConfigError: Only one of ``mean`` and ``std``, or an augmentation that cannot be built.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        to_rgb: bool = False,
        to_onehot: bool = False,
        num_classes: int | None = None,
        batch_augments: Any = None,
        device_augments: Any = None,
    ) -> None:
        super().__init__(non_blocking=True)
        if (mean is None) != (std is None):
            raise ConfigError('ClsDataPreprocessor: mean and std belong together; give both or neither')
        if std is not None and min(std) <= 0:
            raise ConfigError(f'ClsDataPreprocessor: std must be above 0, got {list(std)}')
        self.normalised = mean is not None
        # (x - mean) / std as one product and one sum, whose constants are rounded once.
        exact_mean = torch.tensor(mean or [0.0], dtype=torch.float64).view(-1, 1, 1)
        exact_std = torch.tensor(std or [1.0], dtype=torch.float64).view(-1, 1, 1)
        self.register_buffer('mean', exact_mean.float(), persistent=False)
        self.register_buffer('scale', (1 / exact_std).float(), persistent=False)
        self.register_buffer('shift', (-exact_mean / exact_std).float(), persistent=False)
        self.pad_size_divisor = pad_size_divisor
        self.pad_value = pad_value
        self.to_rgb = to_rgb
        #: What mixes images and labels in training, or None.
        self.batch_augment = _batch_augment(batch_augments)
        #: What changes images in training.
        self.device_augments = [build_augment(each, DeviceAugment) for each in _as_list(device_augments)]

    def forward(self, data: Batch, training: bool = False) -> Batch:
        """Prepare a batch.

        Args:
            data: Batch from the loader: images uint8 RGB (N, 3, H, W).
            training: Apply the augmentations.

        Returns:
            The batch on the device, images float32 (N, 3, H', W'); targets float32 if images were mixed.
        """
        batch = self.cast_data(data)
        images, targets = batch['inputs'], batch['targets']
        if training and (self.device_augments or self.batch_augment):
            images, targets = self._augment(images, targets)
        if not self.to_rgb and images.shape[1] == 3:
            images = images.flip(1)
        height, width = images.shape[-2:]
        pad = (-width % self.pad_size_divisor, -height % self.pad_size_divisor)
        if any(pad):
            images = F.pad(images, (0, pad[0], 0, pad[1]), value=self.pad_value)
        images = images.to(torch.float32, copy=images is batch['inputs'])  # the batch itself stays as it is
        if self.normalised:
            images = images.mul_(self.scale).add_(self.shift)
        return Batch(inputs=images, targets=targets, index=batch['index'])

    @torch.no_grad()
    def _augment(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = images.to(torch.float32, copy=True)
        for augment in self.device_augments:
            images = augment(images)
        return (images, targets) if self.batch_augment is None else self.batch_augment(images, targets)

    def restore(self, images: torch.Tensor) -> torch.Tensor:
        """Turn images that :meth:`forward` made back into pictures.

        Args:
            images: (N, 3, H, W).

        Returns:
            uint8 RGB (N, 3, H, W), padding included.
        """
        levels = (images.float() - self.shift) / self.scale if self.normalised else images.float()
        if not self.to_rgb and images.shape[1] == 3:
            levels = levels.flip(1)
        return levels.round().clamp(0, 255).to(torch.uint8)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _batch_augment(config: Any) -> BatchAugment | None:
    if isinstance(config, (list, tuple)):
        config = {'augments': config} if config else None
    return None if config is None else build_augment(config, BatchAugment, type='RandomBatchAugment')
