"""Processes that a launcher starts again go on where the ones before them were; Slurm's script and environment."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlcls.apis import TrainFlags, train
from mlcls.engine.distributed import first_host, has_checkpoints, rank_environment, restarted
from mlcls.fileio import read_checkpoint

from .ranks import TOOLS, environment, options_of, run, start, wait
from .test_exact_resume import equal

SCRIPT = TOOLS / 'slurm_train.sh'


def elastic(*arguments: object) -> str:
    """What torchrun with two ranks, which starts them again once, and its training say."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '--max-restarts=1']
    command += ['-m', 'tests.engine.ranks', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_rank_killed_inside_an_epoch(tiny_config: Path, tmp_path: Path) -> None:
    arguments = options_of(
        custom_hooks=[dict(type='EndAt', rank=1, iteration=15, once=str(tmp_path / 'killed'))],
        train_dataloader__batch_size=4,
        default_hooks__checkpoint__save_best=None,
    )
    said = elastic(tiny_config, '--work-dir', tmp_path / 'run', *arguments)
    assert (tmp_path / 'killed').exists() and 'another process of this run is gone' in said
    assert 'resumed from' in said and 'epoch_2.pth: after epoch 2, iteration 12' in said
    run(2, tiny_config, '--work-dir', tmp_path / 'whole', *arguments)  # killed it was already
    one, two = (read_checkpoint(tmp_path / name / 'epoch_4.pth') for name in ('whole', 'run'))
    assert all(equal(one[part], two[part]) for part in ('state_dict', 'optimizer', 'param_schedulers'))


def test_a_signal_to_one_rank_stops_both(tiny_config: Path, tmp_path: Path) -> None:
    common = dict(train_dataloader__batch_size=4, train_cfg__max_epochs=2, default_hooks__checkpoint__save_best=None)
    hook = [dict(type='EndAt', rank=1, iteration=8, number='SIGTERM', once=str(tmp_path / 'told'))]
    arguments = (tiny_config, '--no-validate', '--work-dir')
    results = wait(start(2, *arguments, tmp_path / 'run', *options_of(custom_hooks=hook, **common)))
    assert [code for code, _ in results] == [75, 75], results
    # Taken up one step after the signal, by both together.
    assert 'after iteration 10; everything is in' in results[0][1] and (tmp_path / 'run/iter_10.pth').exists()
    run(2, *arguments, tmp_path / 'run', '--resume', *options_of(custom_hooks=hook, **common))
    run(2, *arguments, tmp_path / 'whole', *options_of(custom_hooks=hook, **common))
    one, two = (read_checkpoint(tmp_path / name / 'epoch_2.pth') for name in ('whole', 'run'))
    assert all(equal(one[part], two[part]) for part in ('state_dict', 'optimizer', 'param_schedulers'))


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({}, False),
        ({'TORCHELASTIC_RESTART_COUNT': '0'}, False),
        ({'TORCHELASTIC_RESTART_COUNT': '2'}, True),
        ({'SLURM_RESTART_COUNT': '1', 'TORCHELASTIC_RESTART_COUNT': '0'}, True),
        ({'SLURM_RESTART_COUNT': ''}, False),
        ({'SLURM_RESTART_COUNT': 'many'}, False),
    ],
)
def test_whether_processes_were_started_again(given: dict[str, str], expected: bool) -> None:
    assert restarted(given) is expected


def test_a_restart_resumes_what_is_there(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = TrainFlags(work_dir=str(tmp_path / 'run'), validate=False)
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    short = {'train_cfg.max_epochs': 1}
    folder = train(tiny_config, flags, short)
    assert 'resumed from' not in capsys.readouterr().out, 'nothing was saved: afresh'
    assert has_checkpoints(folder) and not has_checkpoints(tmp_path)
    first = folder / 'epoch_1.pth'
    other = tmp_path / 'other.pth'
    first.rename(other)
    (folder / 'last_checkpoint').unlink()
    (folder / 'best_mAP.pth').touch()
    assert not has_checkpoints(folder), 'the best epoch alone is none to go on from'
    train(tiny_config, TrainFlags(work_dir=str(folder), validate=False, resume=str(other)), {'train_cfg.max_epochs': 2})
    assert f'resumed from {other}' in capsys.readouterr().out
    # What was saved since counts, whatever --resume and load_from say.
    options = {'train_cfg.max_epochs': 3, 'load_from': str(tmp_path / 'none.pth')}
    train(tiny_config, TrainFlags(work_dir=str(folder), validate=False, resume=str(other)), options)
    assert f'resumed from {folder / "epoch_2.pth"}' in capsys.readouterr().out
    monkeypatch.setenv('SLURM_RESTART_COUNT', '0')
    train(tiny_config, flags, short)
    assert 'resumed from' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('nodes', 'host'),
    [
        ('node3', 'node3'),
        ('node[3-5]', 'node3'),
        ('node[03-05,9],other', 'node03'),
        ('a,b', 'a'),
        ('gpu-[7,9-11]-ib,x', 'gpu-7-ib'),
        ('rack[1-2]n[04-05]', 'rack1n04'),
        ('', '127.0.0.1'),
    ],
)
def test_the_first_host(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_several_nodes_without_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    given = dict(
        SLURM_PROCID='5', SLURM_NTASKS='8', SLURM_LOCALID='1', SLURM_NODELIST='n[10-13]', SLURM_JOB_ID='1234567'
    )
    found = rank_environment('slurm', given)
    assert found == dict(RANK='5', WORLD_SIZE='8', LOCAL_RANK='1', MASTER_ADDR='n10', MASTER_PORT='24567')
    assert rank_environment('slurm', {**given, 'SLURM_JOB_ID': '1234568'})['MASTER_PORT'] == '24568'
    assert rank_environment('slurm', {**given, 'MASTER_PORT': '1234'})['MASTER_PORT'] == '1234'


def slurm(tmp_path: Path, code: int, script: Path = SCRIPT, **others: str) -> tuple[int, list[str], str]:
    """Run the script with commands that only write down how they were called."""
    folder = tmp_path / 'bin'
    folder.mkdir(exist_ok=True)
    calls = tmp_path / 'calls'
    calls.unlink(missing_ok=True)
    for name, result in (('srun', code), ('scontrol', 0), ('sbatch', 0)):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\nexit {result}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    given = {**environment(**others), 'PATH': f'{folder}:{os.environ["PATH"]}'}
    command = ['bash', str(script), 'part', 'name', 'config.py', 'work', '--amp']
    done = subprocess.run(command, capture_output=True, text=True, env=given, cwd=TOOLS.parent)
    return done.returncode, calls.read_text().splitlines() if calls.exists() else [], done.stdout + done.stderr


def test_slurm_script(tmp_path: Path) -> None:
    assert subprocess.run(['bash', '-n', str(SCRIPT)]).returncode == 0
    code, calls, said = slurm(tmp_path, 0, GPUS='12', GPUS_PER_NODE='8', SRUN_ARGS='--time=1:00:00 --mem=8G')
    assert (code, said, len(calls)) == (0, '', 1)
    assert calls[0].startswith('srun --partition=part --job-name=name --nodes=2 --gres=gpu:8 --ntasks=12 ')
    assert '--signal=USR1@120' in calls[0] and '--time=1:00:00 --mem=8G python' in calls[0]
    assert calls[0].endswith('tools/train.py config.py --work-dir work --launcher slurm --amp')

    code, calls, said = slurm(tmp_path, 75, GPUS='2')
    assert code == 75 and len(calls) == 1 and 'run the same command with --resume' in said
    assert '--gres=gpu:2 --ntasks=2 --ntasks-per-node=2' in calls[0]

    code, calls, said = slurm(tmp_path, 75, SLURM_JOB_ID='77')
    assert code == 75 and calls[1] == 'scontrol requeue 77' and 'job 77 is put back' in said
    assert '--partition' not in calls[0]

    code, calls, _ = slurm(tmp_path, 2, SLURM_JOB_ID='77')
    assert code == 2 and len(calls) == 1, 'an error is not tried again'

    code, calls, _ = slurm(tmp_path, 0, BATCH='1', SBATCH_ARGS='--time=60')
    assert code == 0 and len(calls) == 1 and calls[0].startswith('sbatch --partition=part --job-name=name --nodes=1 ')
    assert calls[0].endswith(f'--time=60 {SCRIPT} part name config.py work --amp')


def test_the_copy_of_the_script_that_slurm_runs(tmp_path: Path) -> None:
    copy = tmp_path / 'spool' / 'slurm_script'
    copy.parent.mkdir()
    copy.write_bytes(SCRIPT.read_bytes())
    code, calls, _ = slurm(tmp_path, 0, copy, SLURM_JOB_ID='77', SLURM_SUBMIT_DIR=str(TOOLS.parent))
    assert code == 0 and f'python -u {TOOLS}/train.py config.py' in calls[0]


def test_slurm_script_needs_its_arguments() -> None:
    done = subprocess.run(['bash', str(SCRIPT), 'part'], capture_output=True, text=True)
    assert done.returncode == 2 and 'usage:' in done.stderr
