"""Checking data before training: files, copies of images, labels, and whether the splits can be trusted.

`check_splits` makes the whole report, `quick_check` the one line at the start of a run. Nothing here is imported by
``mlcls.datasets`` itself.
"""

from .check import check_splits
from .duplicates import ImageHashes, image_hashes, near_duplicate_groups, near_duplicate_pairs
from .quick import quick_check
from .report import CheckReport, Finding, to_json, to_text
from .splits import Split, SplitSet, splits_of_datasets, splits_of_source

__all__ = [
    'CheckReport',
    'Finding',
    'ImageHashes',
    'Split',
    'SplitSet',
    'check_splits',
    'image_hashes',
    'near_duplicate_groups',
    'near_duplicate_pairs',
    'quick_check',
    'splits_of_datasets',
    'splits_of_source',
    'to_json',
    'to_text',
]
