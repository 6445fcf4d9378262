"""Packs: all images of a data set in one memory-mapped file, small enough for an epoch, with their annotations."""

from .images import PackSettings
from .reader import PackReader, verify_pack
from .writer import Packed, PackJob, write_pack

__all__ = ['PackJob', 'PackReader', 'PackSettings', 'Packed', 'verify_pack', 'write_pack']
