"""What a loader of shards needs in the place of a sampler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from mlcls.errors import ConfigError

from .dataset import ShardDataset

_SAMPLERS = ('DefaultSampler', 'EpochSampler')


class ShardLoader(DataLoader[Any]):
    """A loader whose ``sampler`` is the data set: shards know their order, their seed and what a rank draws of them.

    Args:
        dataset: The shards, configured by `configure_order`.
        **settings: As torch's DataLoader.
    """

    def __init__(self, dataset: ShardDataset, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        # torch keeps one of its own for the workers, and lets nobody replace the one that it shows.
        object.__setattr__(self, 'sampler', dataset)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.dataset.begin_iteration()  # type: ignore[attr-defined]
        return super().__iter__()


def configure_order(dataset: ShardDataset, settings: dict[str, Any], seed: int | None = None) -> None:
    """Tell shards what a loader's config says of the order, and take it out of the config.

    Args:
        dataset: The shards.
        settings: The loader's config. Of its ``sampler``, ``shuffle``, ``round_up`` and ``seed`` mean what they mean
            for ``EpochSampler``.
        seed: Seed of the run, where the sampler names none.

    Raises:
        ConfigError: It asks for another sampler, or for a batch sampler.
    """
    sampler = dict(settings.pop('sampler', None) or {})
    kind = str(sampler.pop('type', _SAMPLERS[0])).rpartition('.')[2]
    batches = settings.pop('batch_sampler', None)
    if kind not in _SAMPLERS or batches is not None or not set(sampler) <= {'shuffle', 'seed', 'round_up'}:
        raise ConfigError(
            'a ShardDataset orders its images itself; of a sampler it takes only shuffle, seed and round_up: '
            "sampler=dict(type='DefaultSampler', shuffle=True), and no batch_sampler"
        )
    given = sampler.get('seed')
    dataset.configure(
        sampler.get('shuffle', True),
        int((seed or 0) if given is None else given),
        sampler.get('round_up', True),
        settings.get('batch_size', 1),
    )
