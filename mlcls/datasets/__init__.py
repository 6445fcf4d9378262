"""Data: readers of annotation files, datasets, transforms, samplers and the collate function.

The built-in data set is made by `mlcls.datasets.multidigits`, which is imported only where it is needed.
"""

from .class_balanced import ClassBalancedDataset
from .collate import collate_batch
from .formats import read_annotations
from .multi_label import MultiLabelDataset
from .samplers import EpochSampler
from .transforms import Compose, Transform, build_pipeline, decode_image

__all__ = [
    'ClassBalancedDataset',
    'Compose',
    'EpochSampler',
    'MultiLabelDataset',
    'Transform',
    'build_pipeline',
    'collate_batch',
    'decode_image',
    'read_annotations',
]
