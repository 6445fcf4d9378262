"""The process group: started from torchrun, Slurm or MPI, with NCCL on GPUs and Gloo without; and its loss."""

from __future__ import annotations

import gc
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dist import all_gather_object
from torch import distributed

from mlcls.engine.heartbeat import Heartbeat, start_heartbeat
from mlcls.engine.meeting import start_group
from mlcls.errors import ConfigError, TrainingError, UserError

DEFAULT_PORT = '29500'
_FIRST_JOB_PORT, _JOB_PORTS = 20_000, 10_000  # below those that systems give out by themselves
#: What launchers set to the number of times that they have started a job's processes anew.
_RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')
#: Parts of torch's errors that mean: another process is gone, or has not answered in time.
_LOST = re.compile(
    'connection (was )?(closed|reset|refused|aborted)|broken pipe|read error|write error|no route to host|'
    'connectfullmesh|timed out waiting|wait timeout|remote process|socket timeout|ncclremoteerror|nccl communicator '
    'was aborted|unhandled system error|failed to (recv|send)|network is unreachable|sendbytes failed|recvvalue failed',
    re.IGNORECASE,
)


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
    port = environment.get('MASTER_PORT', DEFAULT_PORT)
    job = environment.get('SLURM_JOB_ID', '')
    if launcher == 'slurm' and 'MASTER_PORT' not in environment and job.isdigit():
        port = str(_FIRST_JOB_PORT + int(job) % _JOB_PORTS)  # jobs may share a machine
    return {**found, 'MASTER_ADDR': address, 'MASTER_PORT': port}


def _first_slurm_host(environment: Mapping[str, str]) -> str:
    nodes = environment.get('SLURM_STEP_NODELIST') or environment.get('SLURM_NODELIST', '')
    if not any(mark in nodes for mark in ',['):
        return nodes or '127.0.0.1'
    try:
        shown = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
        return shown.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):  # in a container there is no scontrol
        return first_host(nodes)


def first_host(nodes: str) -> str:
    """The first host of a list as Slurm writes it: ``node[03-05,9],other`` begins with ``node03``."""
    parts = re.findall(r'\[([^\],-]*)[^\]]*\]|([^\[\],]+)|(,)', nodes)
    host = ''
    for number, text, comma in parts:
        if comma:
            break
        host += number or text
    return host or '127.0.0.1'


def restarted(environment: Mapping[str, str] | None = None) -> bool:
    """Whether a launcher has started this job's processes again: torchrun after one of them died (``--max-restarts``),
    or Slurm after a requeue.

    Args:
        environment: The process environment unless given.
    """
    environment = os.environ if environment is None else environment
    counts = [environment.get(name, '0').strip() for name in _RESTARTS]
    return any(count.isdigit() and int(count) > 0 for count in counts)


def has_checkpoints(folder: str | Path) -> bool:
    """Whether a work folder has checkpoints that a restarted run goes on from; with none it starts afresh."""
    return any(Path(folder).glob('epoch_*.pth')) or any(Path(folder).glob('iter_*.pth'))


def continues_restarted(folder: str | Path) -> bool:
    """Whether this run goes on from the newest checkpoint of its work folder although nobody said so: a launcher has
    started it again, and it had saved something. To be called by all ranks together; the answer is the same for all.

    torchrun counts restarts on each machine by itself, and one whose process did not fail may not count: one is enough.

    Args:
        folder: The work folder, as rank 0 sees it.
    """
    found = all_gather_object((restarted(), has_checkpoints(folder)))
    return any(again for again, _ in found) and found[0][1]


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error of torch means that another process of the run is gone."""
    is_of_torch = isinstance(error, RuntimeError) and not isinstance(error, UserError)
    return is_of_torch and distributed.is_initialized() and _LOST.search(str(error)) is not None


@contextmanager
def losing_peers() -> Iterator[None]:
    """Within it, the loss of another process is one clear error.

    A process that ends, however it ends, closes its connections, and whoever waits for it is told at once, whatever
    the timeout (`init_distributed`) is. Errors of other kinds pass.

    Raises:
        TrainingError: Another process is gone, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        said = next(match for match in str(error).splitlines() if match.strip())[:200]
        raise TrainingError(
            'another process of this run is gone, or has not answered in time: its own output says why it ended '
            '(killed without a word: out of memory, or the machine is lost). Nothing saved is lost: start again with '
            f'--resume, or let torchrun do so (--max-restarts). torch says: {said}'
        ) from error


_heartbeats: list[Heartbeat] = []


def init_distributed(
    launcher: str, backend: str | None = None, timeout: float = 1800, heartbeat: float | None = 45
) -> None:
    """Join the process group; afterwards ``torch.distributed`` is ready and the GPU of this rank is chosen.

    Args:
        launcher: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        backend: ``'nccl'`` or ``'gloo'``; NCCL falls to Gloo on a machine without a GPU. None chooses.
        timeout: Seconds after which a rank that waits for another gives up, above 0. It is for processes that live but
            do not answer; of one that ended the others hear at once (and see ``heartbeat``). So it is long: a rank may
            compile, or read a large annotation file, or compute metrics while the others wait.
        heartbeat: Seconds without a sign of life after which another process is taken for lost, at least 10; None: do
            not watch. It finds lost machines and networks, and processes that are stopped, long before the timeout.

    Raises:
        ConfigError: See :func:`rank_environment`; more local ranks than GPUs; or a timeout or heartbeat
            that is none.
    """
    if distributed.is_initialized():
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ConfigError(f'env_cfg.dist_cfg.timeout must be a number of seconds above 0, got {timeout!r}')
    if heartbeat is not None and (isinstance(heartbeat, bool) or not heartbeat >= 10):
        raise ConfigError(f'env_cfg.dist_cfg.heartbeat must be at least 10 seconds, or None; got {heartbeat!r}')
    os.environ.update(rank_environment(launcher, os.environ))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if backend is None or (backend == 'nccl' and gpus == 0):
        backend = 'nccl' if gpus else 'gloo'
    if gpus:
        local = int(os.environ['LOCAL_RANK'])
        if backend == 'nccl' and local >= gpus:
            raise ConfigError(f'local rank {local} has no GPU: this machine has {gpus}; start at most {gpus} processes')
        torch.cuda.set_device(local % gpus)
    start_group(backend, timeout)
    watch = None if heartbeat is None else start_heartbeat(heartbeat)
    if watch is not None:
        _heartbeats.append(watch)


def close_distributed() -> None:
    """Leave the process group, if there is one, so that the processes end without warnings.

    Objects that refer to each other (a runner and its loops) keep the group's threads running, and threads that outlive
    the interpreter abort the process (`terminate called without an active exception`): unused objects go first.
    """
    if distributed.is_available() and distributed.is_initialized():
        while _heartbeats:
            _heartbeats.pop().stop()
        gc.collect()
        distributed.destroy_process_group()
        gc.collect()
