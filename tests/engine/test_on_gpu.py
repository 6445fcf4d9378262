"""What only a GPU shows: no waiting in a step, NaN kept from weights on the device, exact resuming, compiling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from mlcls.apis import TrainFlags, train
from mlcls.errors import RunStopped, TrainingError
from mlcls.fileio import read_checkpoint
from mlcls.registry import HOOKS
from tests.engine.test_exact_resume import MIX, SignalAt, equal, last
from tests.engine.test_guard import spoiled

pytestmark = pytest.mark.gpu

FAST = {
    'optim_wrapper.type': 'AmpOptimWrapper',
    'optim_wrapper.dtype': 'bfloat16',
    'optim_wrapper.optimizer.fused': True,
    'optim_wrapper.clip_grad': dict(max_norm=5.0),
    'channels_last': True,
    'default_hooks.logger.interval': 50,
}


@HOOKS.register_module(force=True)
class ForbidWaiting(Hook):
    """Makes every wait of the host for the device an error, from one iteration to another."""

    priority = 'VERY_HIGH'

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.begin:
            torch.cuda.set_sync_debug_mode('error')
        if runner.iter == self.end:
            torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('workers', [0, 2])
def test_no_step_makes_the_host_wait(tiny_config: Path, workers: int) -> None:
    try:
        hooks = {'custom_hooks': [dict(type='ForbidWaiting', begin=2, end=5)]}
        train(tiny_config, options={**FAST, **hooks, 'train_dataloader.num_workers': workers})
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_a_nan_is_kept_from_the_weights(tiny_config: Path, dtype: str) -> None:
    options = {**FAST, **spoiled([8], interval=4), 'optim_wrapper.dtype': dtype}
    with pytest.raises(TrainingError, match='became NaN or infinite in iteration 9'):
        train(tiny_config, options=options)
    run = tiny_config.parent / 'run'
    assert len(json.loads((run / 'nonfinite_iter_9.json').read_text())['images']) == 8
    state = read_checkpoint(run / 'epoch_1.pth')['state_dict']
    assert all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())


def test_resuming_is_exact_under_deterministic_algorithms(tiny_config: Path, tmp_path: Path) -> None:
    assert SignalAt  # registered by its module
    options = {**FAST, **MIX, 'randomness.deterministic': True}
    whole = last(train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), options))
    with pytest.raises(RunStopped):
        stop = {'custom_hooks': [dict(type='SignalAt', iteration=8)]}
        train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run')), {**options, **stop})
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run'), resume=True), options)
    assert equal(last(run), whole)


@pytest.mark.parametrize('compiled', [True, dict(target='step'), dict(mode='reduce-overhead')])
def test_compiled_runs_learn_the_same(tiny_config: Path, tmp_path: Path, compiled: Any) -> None:
    plain = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'plain')), FAST)
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run')), {**FAST, 'compile': compiled})
    assert 'failed' not in next(run.glob('*/*.log')).read_text()
    a, b = (read_checkpoint(folder / 'epoch_4.pth')['best']['multi-label/mAP']['score'] for folder in (plain, run))
    assert abs(a - b) < 10
