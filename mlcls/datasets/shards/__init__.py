"""Tar shards: a data set that is streamed, in webdataset's form."""

from .dataset import ShardDataset
from .index import read_index, verify_shards
from .loader import ShardLoader, configure_order
from .writer import ShardSize, write_shards

__all__ = [
    'ShardDataset',
    'ShardLoader',
    'ShardSize',
    'configure_order',
    'read_index',
    'verify_shards',
    'write_shards',
]
