"""From a loader's config to a torch DataLoader."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from mlcls.datasets import EpochSampler, collate_batch
from mlcls.datasets.shards import ShardDataset, configure_order
from mlcls.engine.worker_watch import WatchedLoader, WatchedShardLoader
from mlcls.errors import ConfigError
from mlcls.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS


def build_dataloader(config: DataLoader | Mapping[str, Any], seed: int | None = None) -> DataLoader:
    """Build a loader.

    Worker processes are forked where the system can, so that they share the annotations instead of receiving a copy,
    and each is set up by `mlcls.datasets.workers.init_worker`, unless the config says otherwise. They are watched, see
    `mlcls.engine.worker_watch`.

    Args:
        config: ``dataset``, ``sampler`` (or ``batch_sampler``), ``collate_fn``, ``worker_init_fn`` as configs with a
            type, and arguments of torch's DataLoader; or a loader, which is returned.
        seed: Seed of the run, for samplers that name none.

    Raises:
        ConfigError: An argument that is not available, or one that the DataLoader refuses.
        UserError: The data cannot be used.
    """
    if isinstance(config, DataLoader):
        return config
    settings = copy.deepcopy(dict(config))
    if settings.pop('num_batch_per_epoch', None) is not None:
        raise ConfigError("num_batch_per_epoch is not available; give the dataset 'indices', its number of images")
    settings.pop('disable_subprocess_warning', None)  # mmengine's, about the seeding of workers, which are not seeded
    dataset = settings.pop('dataset')
    dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
    of_shards = isinstance(dataset, ShardDataset)
    if of_shards:
        configure_order(dataset, settings, seed)
    else:
        settings.update(_order(settings, dataset, seed))
    settings['collate_fn'] = _function(settings.get('collate_fn', {'type': 'default_collate'}))
    if hasattr(dataset, '__getitems__') and settings['collate_fn'] is not collate_batch:
        raise ConfigError(
            f'collate_fn: {type(dataset).__name__} makes its batches itself; leave collate_fn out, and put what it '
            'would do into a transform or the data_preprocessor'
        )
    if settings.get('num_workers', 0) > 0:
        settings['worker_init_fn'] = _function(settings.get('worker_init_fn', {'type': 'init_worker'}))
        if sys.platform == 'linux':
            settings.setdefault('multiprocessing_context', 'fork')
    else:
        settings.pop('worker_init_fn', None)
        settings.pop('persistent_workers', None)
        settings.pop('prefetch_factor', None)
    # Starting an iterator draws a number. From torch's own generator, an epoch whose workers were kept would differ
    # from the same epoch after a resume, in dropout and all else that is drawn from it.
    settings.setdefault('generator', torch.Generator().manual_seed(seed or 0))
    try:
        return (WatchedShardLoader if of_shards else WatchedLoader)(dataset, **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f'the data loader cannot be built: {error}') from error


def order_of(loader: DataLoader) -> Any:
    """What orders the draws of a loader: its sampler or, where torch shows one of its own, that of the batch sampler.

    Of shards it is the data set itself.
    """
    own = hasattr(loader.sampler, 'set_epoch')
    return loader.sampler if own else getattr(loader.batch_sampler, 'sampler', loader.sampler)


def _order(settings: dict[str, Any], dataset: Any, seed: int | None) -> dict[str, Any]:
    """The sampler, or the batch sampler, which takes the place of sampler and batch size."""
    sampler = settings.pop('sampler', None)
    if isinstance(sampler, Mapping):
        sampler = DATA_SAMPLERS.build(dict(sampler), default_args={'dataset': dataset, 'seed': seed})
    batches = settings.pop('batch_sampler', None)
    if batches is None:
        if sampler is None and settings.pop('shuffle', False):  # torch's own order is of no epoch
            sampler = EpochSampler(dataset, seed=seed)
        return {'sampler': sampler}
    if isinstance(batches, Mapping):
        arguments = {'sampler': sampler, 'batch_size': settings.pop('batch_size', 1)}
        batches = DATA_SAMPLERS.build(dict(batches), default_args=arguments)
    return {'batch_sampler': batches}


def _function(config: Any) -> Any:
    """A function, with the arguments that its config gives it."""
    if not isinstance(config, Mapping):
        return config
    arguments = dict(config)
    name = arguments.pop('type')
    found = FUNCTIONS.get(name) if isinstance(name, str) else name
    return partial(found, **arguments) if arguments else found


def batch_size_of(loader: DataLoader) -> int | None:
    """Images of a whole batch on this rank; None where a batch sampler of another kind decides."""
    size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size
    return int(size) if size else None


def start_at(loader: DataLoader, epoch: int, batches: int) -> None:
    """Let the next iteration over a loader begin inside an epoch; those after it begin at the beginning again.

    Nothing is loaded for what is left out. Our samplers and shards do not even draw it; of a batch sampler of another
    kind, and of other samplers, batches of indices are drawn and dropped.

    Args:
        loader: The loader.
        epoch: Number of the epoch, from 0; told to samplers that know epochs.
        batches: Number, from 0, of the batch that comes first.

    Raises:
        ConfigError: The data set is a stream of another kind than ours, and ``batches`` is not 0.
    """
    if isinstance(loader.dataset, ShardDataset):
        loader.dataset.set_epoch(epoch, batches * loader.dataset.batch_size)
        return
    if isinstance(loader.dataset, IterableDataset):
        if batches:
            raise ConfigError(
                f'{type(loader.dataset).__name__} is read as a stream and cannot be taken up inside an epoch; resume '
                'from a checkpoint of the end of an epoch, or use ShardDataset'
            )
        return
    draws, own = order_of(loader), loader.batch_sampler
    inner: Any = own.inner if isinstance(own, _LaterBatches) else own
    if (inner is None or type(inner) is BatchSampler) and _starts_inside(draws):
        draws.set_epoch(epoch, batches * (1 if inner is None else inner.batch_size))
        _leave_out(loader, 0)
        return
    for part in (draws, inner):
        if hasattr(part, 'set_epoch'):
            part.set_epoch(epoch)
    _leave_out(loader, batches)


def _starts_inside(order: Any) -> bool:
    """Whether a sampler can begin inside an epoch."""
    method = getattr(order, 'set_epoch', None)
    return method is not None and 'start' in inspect.signature(method).parameters


def _leave_out(loader: DataLoader, batches: int) -> None:
    """Drop what the loader's order gives first, in the next iteration alone."""
    order: Any = loader._index_sampler
    if not isinstance(order, _LaterBatches):
        if not batches:
            return
        order = _LaterBatches(order)
        # torch lets nobody replace these two; and an iterator whose workers live on keeps what it was made with.
        object.__setattr__(loader, 'sampler' if loader.batch_sampler is None else 'batch_sampler', order)
        if loader._iterator is not None:
            loader._iterator._index_sampler = order
    order.left_out = batches


class _LaterBatches:
    """A batch sampler that can leave out its first batches, once."""

    def __init__(self, inner: Any) -> None:
        self.inner: Any = inner
        self.left_out = 0

    def __iter__(self) -> Iterator[Any]:
        left_out, self.left_out = self.left_out, 0
        yield from islice(iter(self.inner), left_out, None)

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name == 'inner':  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)
