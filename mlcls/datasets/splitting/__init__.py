"""Splitting multi-label data so that every part has every class, in proportion."""

from .measures import SplitQuality, measure_split
from .stratify import ALGORITHM, k_folds, part_sizes, split_images
from .units import join_groups

__all__ = ['ALGORITHM', 'SplitQuality', 'join_groups', 'k_folds', 'measure_split', 'part_sizes', 'split_images']
