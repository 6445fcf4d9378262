"""How processes that were started together find each other, and nobody who was there before them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

from torch import distributed

from mlcls.errors import TrainingError

_PAUSE = 0.01


def meet(store: Any, rank: int, world_size: int, timeout: float) -> Any:
    """A part of a store in which processes of this start, and of no earlier one, have written.

    torchrun may keep one store for all starts of a job. Addresses of processes that are dead are still in it, and
    whoever is early in the next start tries to reach them. So each rank joins under a name of its own, which rank 0
    answers with the name of the present start.

    Args:
        store: What the launcher gives; all ranks of the job use it.
        rank: Of this process.
        world_size: Number of processes.
        timeout: Seconds to wait for the others.

    Raises:
        TrainingError: Not all were there in time.
    """
    end = time.monotonic() + timeout
    name = uuid4().hex
    if rank == 0:
        _welcome(store, name, world_size, end)
        return distributed.PrefixStore(name, store)
    store.set(f'mlcls/join/{rank}', name)
    while not store.check([f'mlcls/start/{name}']):
        _pause(end, 'rank 0 did not come')
    start = store.get(f'mlcls/start/{name}').decode()
    store.set(f'mlcls/joined/{start}/{rank}', b'1')
    return distributed.PrefixStore(start, store)


def _welcome(store: Any, start: str, world_size: int, end: float) -> None:
    """Tell all others the name of the start, each one again if another process has come in its place."""
    told: dict[int, bytes] = {}
    missing = set(range(1, world_size))
    while missing:
        for rank in sorted(missing):
            key = f'mlcls/join/{rank}'
            name = store.get(key) if store.check([key]) else None
            if name is not None and name != told.get(rank):
                store.set(f'mlcls/start/{name.decode()}', start)
                told[rank] = name
            if store.check([f'mlcls/joined/{start}/{rank}']):
                missing.discard(rank)
        if missing:
            _pause(end, f'rank {", ".join(map(str, sorted(missing)))} did not come')


def _pause(end: float, words: str) -> None:
    if time.monotonic() > end:
        raise TrainingError(
            f'{words} (of a run with several processes): all have to be started, and to reach MASTER_ADDR and '
            'MASTER_PORT of rank 0; env_cfg.dist_cfg.timeout is how long they wait'
        )
    time.sleep(_PAUSE)


def start_group(backend: str, timeout: float) -> None:
    """Start torch's process group, of the processes that the environment names.

    Args:
        backend: ``'nccl'`` or ``'gloo'``.
        timeout: Seconds.

    Raises:
        TrainingError: Not all processes were there in time.
    """
    limit = timedelta(seconds=timeout)
    store, rank, world_size = next(distributed.rendezvous('env://', timeout=limit))
    store.set_timeout(limit)
    own = meet(store, rank, world_size, timeout)
    distributed.init_process_group(backend, store=own, rank=rank, world_size=world_size, timeout=limit)
