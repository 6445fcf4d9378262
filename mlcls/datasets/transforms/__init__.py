"""Transforms: what happens to an image between its file and the batch. The contract is in `base`."""

from .base import Adapter, Transform
from .color import ColorJitter
from .cropping import CenterCrop, EfficientNetCenterCrop, RandomResizedCrop
from .geometry import RandomFlip, Resize, ResizeEdge
from .loading import LoadImageFromFile, decode_image
from .packing import PackInputs
from .pipeline import Compose, build_pipeline, build_transform
from .wrappers import RandomApply, RandomChoice

__all__ = [
    'Adapter',
    'CenterCrop',
    'ColorJitter',
    'Compose',
    'EfficientNetCenterCrop',
    'LoadImageFromFile',
    'PackInputs',
    'RandomApply',
    'RandomChoice',
    'RandomFlip',
    'RandomResizedCrop',
    'Resize',
    'ResizeEdge',
    'Transform',
    'build_pipeline',
    'build_transform',
    'decode_image',
]
