"""Stopping anywhere and going on: the weights are those of a run that was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from mlcls.apis import TrainFlags, train
from mlcls.errors import RunStopped
from mlcls.fileio import read_checkpoint
from mlcls.registry import HOOKS


@HOOKS.register_module(force=True)
class SignalAt(Hook):
    """Sends a signal to the own process in a given iteration, or in the validation after an epoch."""

    def __init__(self, iteration: int = -1, number: str = 'SIGTERM', in_val_of: int = -1) -> None:
        self.iteration, self.number, self.in_val_of = iteration, getattr(signal, number), in_val_of

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)

    def before_val_epoch(self, runner: Any) -> None:
        if runner.epoch == self.in_val_of:
            os.kill(os.getpid(), self.number)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def last(run: Path) -> dict[str, Any]:
    found = read_checkpoint(run / 'epoch_4.pth')
    return {name: found[name] for name in ('state_dict', 'optimizer', 'param_schedulers', 'best', 'hooks')}


MIX = {
    'model.data_preprocessor.batch_augments': dict(augments=dict(type='Mixup', alpha=0.8)),
    'model.backbone.drop_path_rate': 0.2,
}


@pytest.fixture
def whole(tiny_config: Path, tmp_path: Path) -> dict[str, Any]:
    return last(train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), MIX))


@pytest.mark.parametrize(('iteration', 'workers'), [(0, 0), (1, 2), (8, 3), (11, 0), (17, 2)])
def test_a_signal_in_any_step_and_any_number_of_workers(
    tiny_config: Path, tmp_path: Path, whole: dict[str, Any], iteration: int, workers: int
) -> None:
    flags = TrainFlags(work_dir=str(tmp_path / 'run'))
    stopping = {'custom_hooks': [dict(type='SignalAt', iteration=iteration, priority='LOWEST')], **MIX}
    with pytest.raises(RunStopped, match='stopped by SIGTERM after iteration') as stopped:
        train(tiny_config, flags, stopping)
    assert stopped.value.exit_code == 75
    options = {'train_dataloader.num_workers': workers, 'train_dataloader.persistent_workers': workers > 2, **MIX}
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run'), resume=True), options)
    assert equal(last(run), whole)
    assert not list(run.glob('iter_*')), 'taken the place of by the checkpoint of the epoch'


def test_a_signal_in_the_validation(tiny_config: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    flags = TrainFlags(work_dir=str(tmp_path / 'run'))
    options = {'custom_hooks': [dict(type='SignalAt', in_val_of=2)], 'default_hooks.checkpoint.interval': 3, **MIX}
    with pytest.raises(RunStopped, match='after iteration 12; everything is in .*iter_12.pth'):
        train(tiny_config, flags, options)
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run'), resume=True), MIX)
    assert equal(last(run), whole)


@pytest.mark.filterwarnings('error:Detected call of')  # of schedules, which step inside cycles of accumulation, too
@pytest.mark.parametrize('counts', [1, 4])
def test_checkpoints_each_few_iterations(tiny_config: Path, tmp_path: Path, counts: int) -> None:
    accumulate = {'optim_wrapper.accumulative_counts': counts, **MIX}
    whole = last(train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), accumulate))
    flags = TrainFlags(work_dir=str(tmp_path / 'run'))
    often = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 5, **accumulate}
    run = train(tiny_config, flags, often)
    names = sorted(int(path.stem.split('_')[1]) for path in run.glob('iter_*.pth'))
    # Six batches an epoch; with cycles of 4 and 2 a checkpoint waits for the end of the cycle.
    assert names == ([5, 10, 15, 20] if counts == 1 else [6, 10, 16, 22])
    for number in names:
        other = tmp_path / f'from_{number}'
        run2 = train(tiny_config, TrainFlags(work_dir=str(other), resume=str(run / f'iter_{number}.pth')), accumulate)
        found = last(run2)
        assert equal(found['state_dict'], whole['state_dict']) and equal(found['optimizer'], whole['optimizer'])


def test_ctrl_c_and_usr1_end_the_command_with_their_codes(tiny_config: Path, tmp_path: Path) -> None:
    for name, code in (('SIGINT', 130), ('SIGUSR1', 75)):
        script = (
            'import tests.engine.test_exact_resume\n'
            'from mlcls.apis import train\nfrom mlcls.apis.cli import run_command\n'
            f'run_command(lambda: train({str(tiny_config)!r}, options={{"custom_hooks": '
            f'[dict(type="SignalAt", iteration=2, number="{name}")]}}))'
        )
        done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
        assert done.returncode == code
        assert f'stopped by {name} after iteration 3; everything is in' in done.stderr and '--resume' in done.stderr
        assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1', 'SIGINT'])
def test_a_signal_to_all_processes_of_a_job_stops_the_run_in_order(tiny_config: Path, name: str) -> None:
    """As schedulers and terminals send it: the data workers get it, too, while the step still needs them."""
    script = (
        'from mlcls.apis import train\nfrom mlcls.apis.cli import run_command\n'
        f'run_command(lambda: train({str(tiny_config)!r}, options={{"train_cfg.max_epochs": 50, '
        '"train_dataloader.num_workers": 2}))'
    )
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, '-c', script], start_new_session=True, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if '[2][3/6]' in line:
                os.killpg(process.pid, getattr(signal, name))
                break
        process.stdout.read()
        message = process.stderr.read()
    assert process.returncode == (130 if name == 'SIGINT' else 75), message
    assert f'stopped by {name}' in message and 'everything is in' in message


def test_a_schedule_that_is_run_to_its_place_has_the_rate_of_a_whole_run(tiny_config: Path, tmp_path: Path) -> None:
    """Steps of another size, or more epochs: also with a warm-up, whose first factor acts when it is made."""
    schedule = {
        'param_scheduler': [
            dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, begin=2, end=5, convert_to_iter_based=True),
        ]
    }
    whole = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), {'train_cfg.max_epochs': 5, **schedule})
    longer = {**schedule, 'train_cfg.max_epochs': 3}
    cosine = {**schedule['param_scheduler'][1], 'T_max': 9, 'end': 11}
    longer['param_scheduler'] = [schedule['param_scheduler'][0], cosine]
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run')), longer)
    train(tiny_config, TrainFlags(work_dir=str(run), resume=True), {'train_cfg.max_epochs': 5, **schedule})
    for a, b in zip(*(read_checkpoint(folder / 'epoch_5.pth')['param_schedulers'] for folder in (run, whole))):
        assert a['_last_value'] == pytest.approx(b['_last_value']) and a['last_step'] == b['last_step']


def test_the_best_checkpoint_is_resumed_exactly_with_a_schedule_that_follows_the_metric(
    tiny_config: Path, tmp_path: Path
) -> None:
    plateau: dict[str, Any] = {
        'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='multi-label/mAP', rule='less', patience=0)]
    }
    plateau['default_hooks.checkpoint.rule'] = 'less'  # so that the best is early, and the rate falls each epoch
    whole = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), plateau)
    best = read_checkpoint(whole / 'best_multi-label_mAP.pth')['meta']
    assert best['is_validated'] and best['epoch'] < 4, 'else there is nothing to go on with'
    flags = TrainFlags(work_dir=str(tmp_path / 'run'), resume=str(whole / 'best_multi-label_mAP.pth'))
    assert equal(last(train(tiny_config, flags, plateau)), last(whole))
