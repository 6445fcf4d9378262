"""Starting the process group: NCCL on GPUs, Gloo without, from torchrun, Slurm or MPI."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Mapping
from datetime import timedelta

import torch
from torch import distributed

from mlcls.errors import ConfigError

DEFAULT_PORT = '29500'


def rank_environment(launcher: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables torch's ``env://`` start needs, from those that the launcher sets.

    Args:
        launcher: ``'pytorch'`` (torchrun), ``'slurm'`` (srun) or ``'mpi'`` (Open MPI).
        environment: The process environment.

    Returns:
        RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.

    Raises:
        ConfigError: The launcher did not set what it should: the process was not started by it.
    """
    names = {
        'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
        'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
        'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
    }[launcher]
    missing = [name for name in names if name not in environment]
    if missing:
        command = {
            'pytorch': 'torchrun --nproc_per_node=N tools/train.py CONFIG --launcher pytorch',
            'slurm': 'srun python tools/train.py CONFIG --launcher slurm',
            'mpi': 'mpirun -np N python tools/train.py CONFIG --launcher mpi',
        }[launcher]
        raise ConfigError(f'--launcher {launcher}: the environment has no {", ".join(missing)}; start with: {command}')
    found = dict(zip(('RANK', 'WORLD_SIZE', 'LOCAL_RANK'), (environment[name] for name in names)))
    address = environment.get('MASTER_ADDR')
    if address is None:
        address = _first_slurm_host(environment) if launcher == 'slurm' else '127.0.0.1'
    return {**found, 'MASTER_ADDR': address, 'MASTER_PORT': environment.get('MASTER_PORT', DEFAULT_PORT)}


def _first_slurm_host(environment: Mapping[str, str]) -> str:
    nodes = environment.get('SLURM_STEP_NODELIST') or environment.get('SLURM_NODELIST', '')
    if not any(mark in nodes for mark in ',['):
        return nodes or '127.0.0.1'
    shown = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
    return shown.stdout.split()[0]


def init_distributed(launcher: str, backend: str | None = None, timeout: float = 1800) -> None:
    """Join the process group; afterwards ``torch.distributed`` is ready and the GPU of this rank is chosen.

    Args:
        launcher: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        backend: ``'nccl'`` or ``'gloo'``; NCCL falls to Gloo on a machine without a GPU. None chooses.
        timeout: Seconds after which a rank that waits for another gives up.

    Raises:
        ConfigError: See :func:`rank_environment`; or more local ranks than GPUs.
    """
    if distributed.is_initialized():
        return
    os.environ.update(rank_environment(launcher, os.environ))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if backend is None or (backend == 'nccl' and gpus == 0):
        backend = 'nccl' if gpus else 'gloo'
    if gpus:
        local = int(os.environ['LOCAL_RANK'])
        if backend == 'nccl' and local >= gpus:
            raise ConfigError(f'local rank {local} has no GPU: this machine has {gpus}; start at most {gpus} processes')
        torch.cuda.set_device(local % gpus)
    distributed.init_process_group(backend, timeout=timedelta(seconds=timeout))


def close_distributed() -> None:
    """Leave the process group, if there is one, so that the processes end without warnings.

    Objects that refer to each other (a runner and its loops) keep the group's threads running, and threads that outlive
    the interpreter abort the process (`terminate called without an active exception`): unused objects go first.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()
        gc.collect()
