"""Mistakes in settings of the engine: one sentence each, before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlcls.apis import TrainFlags, train
from mlcls.engine.checkpoint import find_good
from mlcls.errors import ConfigError, DataError
from mlcls.fileio import read_checkpoint


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'custom_hooks': dict(type='EMAHook')}, r'custom_hooks: must be a list of hooks, as in \[dict\(type=...\)\]'),
        ({'default_hooks.checkpoint.minutes': 'ten'}, "CheckpointHook: minutes must be above 0, or None; got 'ten'"),
        ({'default_hooks.logger.interval': 0}, 'interval'),
        ({'default_hooks.chekpoint': dict(interval=1)}, "chekpoint: unknown slot; did you mean 'checkpoint'"),
        ({'optim_wrapper.type': 'mmengine.OptimWrapper'}, 'is not derived from mlcls.engine.OptimWrapper'),
        ({'compile': 'yes'}, 'compile must be True, False or a dict'),
    ],
)
def test_settings(tiny_config: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train(tiny_config, options=options)


def test_a_work_folder_that_cannot_be_made(tiny_config: Path) -> None:
    (tiny_config.parent / 'file').write_text('')
    with pytest.raises(ConfigError, match='the work folder cannot be made or written; choose another with --work-dir'):
        train(tiny_config, TrainFlags(work_dir=str(tiny_config.parent / 'file/run')))


def test_the_type_of_a_default_hook_need_not_be_said(tiny_config: Path) -> None:
    run = train(tiny_config, options={'default_hooks.finite_loss.skip': 3, 'train_cfg.max_epochs': 1})
    assert read_checkpoint(run / 'epoch_1.pth')['hooks']['FiniteLossHook'] == {'skipped': 0}


def test_a_checkpoint_that_the_pointer_names_and_that_is_gone_is_said(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 2})
    (run / 'epoch_2.pth').unlink()
    said: list[str] = []
    assert find_good(run, said.append).suffix == '.pth'
    assert said == [f'passed over: {run / "epoch_2.pth"}, which last_checkpoint names, is not there']


def test_what_was_trained_is_kept_when_the_next_batch_cannot_be_had(tiny_config: Path, tiny_data: Path) -> None:
    for path in (tiny_data / 'train').glob('*.png'):
        if path.stem in ('7', '8'):
            path.write_bytes(b'no picture')
    with pytest.raises(DataError):
        train(tiny_config, options={'train_dataloader.sampler.shuffle': False, 'train_dataloader.batch_size': 4})
    (kept,) = (tiny_config.parent / 'run').glob('*.pth')
    assert kept.name == 'iter_1.pth' and read_checkpoint(kept)['meta']['batches_done'] == 1


def test_resuming_what_is_over_says_so(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1, 'param_scheduler.T_max': 1})
    options = {'train_cfg.max_epochs': 1, 'param_scheduler.T_max': 1}
    train(tiny_config, TrainFlags(resume=True), options)
    assert 'training is over: 1 of 1 epochs are done' in '\n'.join(path.read_text() for path in run.glob('*/*.log'))


def test_load_from_and_resume_together_go_on_after_a_stop(tiny_config: Path, tmp_path: Path) -> None:
    first = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'first')), {'train_cfg.max_epochs': 1})
    flags = TrainFlags(work_dir=str(tmp_path / 'run'), load_from=str(first / 'epoch_1.pth'), resume=True)
    run = train(tiny_config, flags, {'train_cfg.max_epochs': 1})  # nothing to resume yet
    assert read_checkpoint(run / 'epoch_1.pth')['meta']['iter'] == 6
    train(tiny_config, flags, {'train_cfg.max_epochs': 2})
    assert read_checkpoint(run / 'epoch_2.pth')['meta']['iter'] == 12
    assert 'resumed from' in '\n'.join(path.read_text() for path in run.glob('*/*.log'))
