"""From a loader's config to a torch DataLoader."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from mlcls.datasets import collate_batch
from mlcls.datasets.shards import ShardDataset, ShardLoader, configure_order
from mlcls.errors import ConfigError
from mlcls.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS


def build_dataloader(config: DataLoader | Mapping[str, Any], seed: int | None = None) -> DataLoader:
    """Build a loader.

    Worker processes are forked where the system can, so that they share the annotations instead of receiving a copy,
    and each is set up by `mlcls.datasets.workers.init_worker`, unless the config says otherwise.

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
        return ShardLoader(dataset, **settings) if of_shards else DataLoader(dataset, **settings)
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
