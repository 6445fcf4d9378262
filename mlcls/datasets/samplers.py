"""The order in which images are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from mlcls.errors import ConfigError
from mlcls.registry import DATA_SAMPLERS
from mlcls.structures import SampleIndex

from .balance import MAX_REPEAT, MIN_SHARE
from .balance_weights import balanced_weights
from .class_balanced import systematic_draw


def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of an epoch, int64 (length,): a function of its arguments alone, the same on every machine."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(length)


@DATA_SAMPLERS.register_module(name=['EpochSampler', 'DefaultSampler'])
class EpochSampler(Sampler[int]):
    """Every image once an epoch, shuffled or in order, shared out over the ranks.

    Each index carries its draw's key (seed, epoch, position in the epoch), from which the dataset seeds augmentation;
    so a run gives the same batches with any number of workers, and again after it was stopped and resumed.

    A subclass that draws otherwise gives `order` and, if an epoch has another length, `num_draws`.

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

    @property
    def num_draws(self) -> int:
        """Number of draws of an epoch, over all ranks and before rounding up."""
        return len(self.dataset)

    def order(self, epoch: int) -> np.ndarray:
        """The indices that make up an epoch, in order, int64 (num_draws,); a function of seed and epoch alone."""
        return epoch_order(self.num_draws, self.seed, epoch) if self.shuffle else np.arange(self.num_draws)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch that is drawn from now on.

        Args:
            epoch: Its number, from 0.
            start: How many of this rank's draws the next iteration leaves out at its beginning, to resume inside an
                epoch. Those after it begin at the beginning again.
        """
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        order = self.order(self.epoch)
        total = len(self) * self.world_size if self.round_up else len(order)
        for position in range(self.rank + start * self.world_size, total, self.world_size):
            yield SampleIndex(int(order[position % len(order)]), (self.seed, self.epoch, position))

    def __len__(self) -> int:
        """Number of draws of this rank in a whole epoch."""
        return -(-(self.num_draws if self.round_up else self.num_draws - self.rank) // self.world_size)


@DATA_SAMPLERS.register_module()
class MultiLabelBalancedSampler(EpochSampler):
    """A fixed number of draws an epoch, in which classes are as even as their co-occurrence in images allows.

    Images get the weights that make `imbalance` smallest within the limits (`balanced_weights` says how); images
    without a present class are drawn as often as without balancing. Each epoch draws an image its expected number of
    times, rounded down or up at random, in random order; both depend on seed and epoch alone. It balances instead of
    ``ClassBalancedDataset``, and does it further: it also draws images of frequent classes less often.

    Args:
        dataset: The dataset, not in a ``ClassBalancedDataset``.
        num_images: Draws of an epoch over all ranks; as many as there are images if None.
        max_repeat: At most so many times as often as without balancing is an image drawn, on average over epochs; at
            least 1.
        min_share: At least so many times; in [0, 1]. With 0.2 each image is drawn about every fifth epoch or oftener.
        seed: See `EpochSampler`.
        round_up: See `EpochSampler`.
        shuffle: Only True; kept for configs that replace the sampler's type alone.

    Raises:
        ConfigError: If an argument has an impossible value, or the dataset is balanced already or has no labels.
    """

    def __init__(
        self,
        dataset: Any,
        num_images: int | None = None,
        max_repeat: float = MAX_REPEAT,
        min_share: float = MIN_SHARE,
        seed: int | None = None,
        round_up: bool = True,
        shuffle: bool = True,
    ) -> None:
        _check_limits(num_images, max_repeat, min_share, shuffle)
        labels = _labels_of(dataset)
        super().__init__(dataset, seed=seed, round_up=round_up)
        self._num_draws = len(labels) if num_images is None else num_images
        #: The weights found, with the imbalance reached and the least possible one.
        self.weights = balanced_weights(labels, max_repeat, min_share)

    @property
    def num_draws(self) -> int:
        """Number of draws of an epoch, over all ranks and before rounding up."""
        return self._num_draws

    @property
    def draws(self) -> np.ndarray:
        """Mean number of times that an epoch draws each image of the dataset, float64 (N,)."""
        return self.weights.multipliers * (self._num_draws / len(self.weights.multipliers))

    def order(self, epoch: int) -> np.ndarray:
        """The indices that make up an epoch, in order, int64 (num_draws,); a function of seed and epoch alone."""
        rng = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        counts = systematic_draw(self.weights.multipliers, self._num_draws, rng)
        return rng.permutation(np.repeat(np.arange(len(counts)), counts))

    def summary(self) -> str:
        """One line: how many draws make an epoch, and how even they are."""
        return (
            f'balanced to {self._num_draws} draws an epoch; imbalance of classes {self.weights.imbalance:.3f} '
            f'(least possible within the limits: {self.weights.bound:.3f})'
        )


def _check_limits(num_images: object, max_repeat: object, min_share: object, shuffle: object) -> None:
    def is_number(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    name = 'MultiLabelBalancedSampler'
    if num_images is not None and (isinstance(num_images, bool) or not isinstance(num_images, int) or num_images < 1):
        raise ConfigError(f'{name}: num_images must be a whole number of at least 1, got {num_images!r}')
    if not is_number(max_repeat) or not 1 <= max_repeat < float('inf'):  # type: ignore[operator]
        raise ConfigError(f'{name}: max_repeat must be a number of at least 1, got {max_repeat!r}')
    if not is_number(min_share) or not 0 <= min_share <= 1:  # type: ignore[operator]
        raise ConfigError(f'{name}: min_share must be a number in [0, 1], got {min_share!r}')
    if shuffle is not True:
        raise ConfigError(f'{name}: draws at random; shuffle={shuffle!r} is not supported')


def _labels_of(dataset: Any) -> Any:
    inner = dataset
    while inner is not None:
        if hasattr(inner, 'repeat_factors'):
            raise ConfigError(
                'MultiLabelBalancedSampler: the dataset is balanced by ClassBalancedDataset already; take one of them'
            )
        inner = getattr(inner, 'dataset', None)
    labels = getattr(dataset, 'labels', None)
    if labels is None or len(labels) != len(dataset):
        raise ConfigError(
            f"MultiLabelBalancedSampler: needs a dataset with 'labels' of its images, as MultiLabelDataset has; "
            f'{type(dataset).__name__} has none, or of another number of images'
        )
    return labels
