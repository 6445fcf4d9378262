"""Augmentations of whole batches on the device: of images (`DeviceAugment`), of images and labels (`BatchAugment`)."""

from .base import BatchAugment, DeviceAugment, build_augment
from .color import BatchColorJitter
from .cutmix import CutMix
from .cutout import BatchCutout
from .erasing import BatchRandomErasing
from .flip import BatchRandomFlip
from .mixing import Mixing, join_labels
from .mixup import Mixup
from .rand_augment import BatchRandAugment
from .random_batch import RandomBatchAugment

__all__ = [
    'BatchAugment',
    'BatchColorJitter',
    'BatchCutout',
    'BatchRandAugment',
    'BatchRandomErasing',
    'BatchRandomFlip',
    'CutMix',
    'DeviceAugment',
    'Mixing',
    'Mixup',
    'RandomBatchAugment',
    'build_augment',
    'join_labels',
]
