"""Data: readers of annotation files, datasets, transforms, samplers and the collate function.

The built-in data set is made by `mlcls.datasets.multidigits`, which is imported only where it is needed.
"""

from .bad_images import BadImages
from .class_balanced import ClassBalancedDataset
from .collate import collate_batch
from .formats import read_annotations
from .multi_label import MultiLabelDataset, innermost
from .samplers import EpochSampler, MultiLabelBalancedSampler
from .shards import ShardDataset
from .transforms import Compose, Transform, build_pipeline, decode_image
from .voc import VOC, VOC_CLASSES
from .workers import init_worker

__all__ = [
    'VOC',
    'VOC_CLASSES',
    'BadImages',
    'ClassBalancedDataset',
    'Compose',
    'EpochSampler',
    'MultiLabelBalancedSampler',
    'MultiLabelDataset',
    'ShardDataset',
    'Transform',
    'build_pipeline',
    'collate_batch',
    'decode_image',
    'init_worker',
    'innermost',
    'read_annotations',
]
