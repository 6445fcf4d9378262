"""What data sets that are made by a command have in common."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class GeneratedSpec:
    """What determines the pictures of a generated data set.

    Args:
        seed: Seed of everything random; at least 0.
        image_size: Side of the square pictures in pixels; at least ``least_size``.
        num_train: Number of training pictures.
        num_val: Number of validation pictures.
        num_test: Number of test pictures.

    Raises:
        ValueError: A number out of range.
    """

    least_size: ClassVar[int] = 8

    seed: int = 0
    image_size: int = 32
    num_train: int = 1000
    num_val: int = 1000
    num_test: int = 1000
    version: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f'seed must be at least 0, got {self.seed}')
        if self.image_size < self.least_size:
            raise ValueError(f'image_size must be at least {self.least_size} pixels, got {self.image_size}')
        for split in SPLITS:
            if self.count(split) < 1:
                raise ValueError(f'num_{split} must be at least 1, got {self.count(split)}')

    def count(self, split: str) -> int:
        """Number of pictures of a part, one of ``train``, ``val``, ``test``."""
        return int(getattr(self, f'num_{split}'))


def is_made(root: Path, spec: GeneratedSpec) -> bool:
    """Whether the annotation files below ``root`` are of this very data set."""
    for split in SPLITS:
        try:
            metainfo = json.loads((root / f'{split}.json').read_text())['metainfo']
        except (OSError, ValueError, KeyError):
            return False
        if metainfo.get('spec') != asdict(spec):
            return False
    return True
