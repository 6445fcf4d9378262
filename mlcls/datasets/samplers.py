"""The order in which images are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import Sampler

from mlcls.errors import ConfigError
from mlcls.registry import DATA_SAMPLERS
from mlcls.structures import SampleIndex


def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of an epoch, int64 (length,): a function of its arguments alone, the same on every machine."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(length)


@DATA_SAMPLERS.register_module(name=['EpochSampler', 'DefaultSampler'])
class EpochSampler(Sampler[int]):
    """Every image once an epoch, shuffled or in order, shared out over the ranks.

    Each index carries its draw's key (seed, epoch, position in the epoch), from which the dataset seeds augmentation;
    so a run gives the same batches with any number of workers, and again after it was stopped and resumed.

    Args:
        dataset: The dataset.
        shuffle: Draw in an order that depends on seed and epoch.
        seed: At least 0; the same on all ranks. Drawn, and shared among the ranks, if None (0 without ``shuffle``).
        round_up: Repeat the first images at the end until all ranks have equally many (training). With False each image
            is drawn exactly once over all ranks (evaluation).
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        from mmengine.dist import get_dist_info, sync_random_seed

        if seed is None:
            seed = sync_random_seed() if shuffle else 0
        if seed < 0:
            raise ConfigError(f'sampler: seed must be at least 0, got {seed}')
        self.rank, self.world_size = get_dist_info()
        self.dataset, self.shuffle, self.seed, self.round_up = dataset, shuffle, int(seed), round_up
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch that the next iteration draws.

        Args:
            epoch: Its number, from 0.
            start: How many of this rank's draws to leave out at its beginning, to resume inside an epoch.
        """
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[int]:
        length = len(self.dataset)
        order = epoch_order(length, self.seed, self.epoch) if self.shuffle else np.arange(length)
        total = len(self) * self.world_size if self.round_up else length
        for position in range(self.rank + self.start * self.world_size, total, self.world_size):
            yield SampleIndex(int(order[position % length]), (self.seed, self.epoch, position))

    def __len__(self) -> int:
        """Number of draws of this rank in a whole epoch."""
        length = len(self.dataset)
        return -(-(length if self.round_up else length - self.rank) // self.world_size)
