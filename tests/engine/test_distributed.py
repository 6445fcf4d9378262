"""Two processes with Gloo: they train, agree with one process, and end cleanly."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mlcls.apis import TestFlags, test, train
from mlcls.engine.distributed import rank_environment
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint

from .ranks import TOOLS, free_port, launch


def torchrun(*arguments: str | Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        f'--nproc_per_node={processes}',
        f'--master_port={free_port()}',
        *map(str, arguments),
    ]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_two_processes_train_and_test_like_one(tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / 'two'
    done = torchrun(TOOLS / 'train.py', tiny_config, '--work-dir', run)  # --launcher is understood
    assert done.returncode == 0, done.stderr
    assert len(list(run.glob('*/*.log'))) == 1
    assert 'Traceback' not in done.stderr and 'destroy_process_group' not in done.stderr
    assert done.stdout.count('Epoch(val)   [4]') == 1  # one rank talks

    # 19 images do not divide by two ranks.
    path = tiny_config.parent / 'squares/val.json'
    content = json.loads(path.read_text())
    content['data_list'] = content['data_list'][:19]
    path.write_text(json.dumps(content))
    alone = test(run / 'epoch_4.pth', flags=TestFlags(out=tmp_path / 'one.json'))
    done = torchrun(TOOLS / 'test.py', run / 'epoch_4.pth', '--launcher', 'pytorch', '--out', tmp_path / 'two.json')
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name).read_text()) for name in ('one.json', 'two.json'))
    assert one['num_images'] == two['num_images'] == alone.num_images == 19
    assert two['metrics'] == pytest.approx(one['metrics'], abs=1e-6)
    assert two['per_class']['positives'] == one['per_class']['positives']


def test_ranks_end_with_the_same_weights_and_half_the_steps(tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / 'two'
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    done = launch(TOOLS / 'train.py', tiny_config, '--work-dir', run, '--launcher', 'pytorch', *options)
    assert done.returncode == 0, done.stdout
    two = read_checkpoint(run / 'epoch_1.pth')
    assert two['meta']['iter'] == 3  # 48 images, two ranks, batches of 8
    # One process on the same draws in batches of 16 takes the same steps, up to per-rank normalisation statistics.
    one = read_checkpoint(
        train(tiny_config, options={'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 16}) / 'epoch_1.pth'
    )
    assert one['meta']['iter'] == 3
    assert two['state_dict'].keys() == one['state_dict'].keys()
    assert not any(name.startswith('module.') for name in two['state_dict'])


def test_an_error_ends_all_ranks(tiny_config: Path, tmp_path: Path) -> None:
    done = torchrun(
        TOOLS / 'train.py', tiny_config, '--launcher', 'pytorch', '--cfg-options', 'model.head.num_classes=7'
    )
    assert done.returncode != 0
    assert 'error: model.head.num_classes=7, but the annotations have 3 classes' in done.stderr


LIST_THREADS = """
import os, sys
from pathlib import Path
sys.argv[0] = sys.argv.pop(1)
from runpy import run_path
command = run_path(sys.argv[0])
from mlcls.apis.cli import run_command
try:
    run_command(command['main'])
finally:
    names = sorted(path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm'))
    print(f'rank {os.environ["RANK"]} threads:', *names, flush=True)
"""


@pytest.mark.parametrize('options', [[], ['--cfg-options', 'model.head.num_classes=7']], ids=['ends', 'fails'])
def test_no_thread_of_the_process_group_outlives_a_command(
    tiny_config: Path, tmp_path: Path, options: list[str]
) -> None:
    """One that is alive when the interpreter ends aborts the process now and then."""
    script = tmp_path / 'list_threads.py'
    script.write_text(LIST_THREADS)
    done = torchrun(script, TOOLS / 'train.py', tiny_config, '--cfg-options', 'train_cfg.max_epochs=1', *options)
    assert (done.returncode == 0) == (not options), done.stderr
    threads = re.findall('rank . threads:(.*)', done.stdout)
    assert len(threads) == 2
    assert not any('gloo' in line for line in threads)


@pytest.mark.parametrize(
    'launcher, environment, expected',
    [
        (
            'pytorch',
            dict(RANK='1', WORLD_SIZE='4', LOCAL_RANK='1', MASTER_ADDR='h', MASTER_PORT='1'),
            ('1', '4', '1', 'h', '1'),
        ),
        (
            'slurm',
            dict(SLURM_PROCID='3', SLURM_NTASKS='8', SLURM_LOCALID='1', SLURM_STEP_NODELIST='node7'),
            ('3', '8', '1', 'node7', '29500'),
        ),
        (
            'mpi',
            dict(OMPI_COMM_WORLD_RANK='0', OMPI_COMM_WORLD_SIZE='2', OMPI_COMM_WORLD_LOCAL_RANK='0'),
            ('0', '2', '0', '127.0.0.1', '29500'),
        ),
    ],
)
def test_environment_of_launchers(launcher: str, environment: dict[str, str], expected: tuple[str, ...]) -> None:
    found = rank_environment(launcher, environment)
    assert tuple(found[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')) == expected


def test_slurm_asks_for_the_first_of_many_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        assert command == ['scontrol', 'show', 'hostnames', 'node[3-5]']
        return subprocess.CompletedProcess(command, 0, 'node3\nnode4\nnode5\n')

    monkeypatch.setattr(subprocess, 'run', run)
    environment = dict(SLURM_PROCID='0', SLURM_NTASKS='3', SLURM_LOCALID='0', SLURM_NODELIST='node[3-5]')
    assert rank_environment('slurm', environment)['MASTER_ADDR'] == 'node3'


@pytest.mark.parametrize('launcher, words', [('pytorch', 'torchrun'), ('slurm', 'srun'), ('mpi', 'mpirun')])
def test_a_launcher_that_did_not_launch(launcher: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f'--launcher {launcher}: the environment has no .*start with: {words}'):
        rank_environment(launcher, {})


@pytest.mark.gpu
def test_nccl(tiny_config: Path, tmp_path: Path) -> None:
    processes = min(2, torch.cuda.device_count())
    done = torchrun(
        TOOLS / 'train.py',
        tiny_config,
        '--work-dir',
        tmp_path / 'nccl',
        '--launcher',
        'pytorch',
        '--amp',
        processes=processes,
    )
    assert done.returncode == 0, done.stderr
    assert read_checkpoint(tmp_path / 'nccl/epoch_4.pth')['meta']['iter'] == 24 // processes


@pytest.mark.gpu
def test_more_ranks_than_gpus_are_refused(tiny_config: Path) -> None:
    processes = torch.cuda.device_count() + 1
    done = torchrun(TOOLS / 'train.py', tiny_config, '--launcher', 'pytorch', processes=processes)
    assert done.returncode != 0 and 'has no GPU' in done.stderr
