"""Whole runs on a tiny data set: learning, resuming, best checkpoints, precision, logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mlcls.apis import TrainFlags, test, train
from mlcls.errors import CheckpointError, ConfigError, TrainingError
from mlcls.fileio import read_checkpoint


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)['state_dict']


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_learns_and_leaves_everything_behind(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 12, 'param_scheduler.T_max': 12})
    assert {path.name for path in run.glob('*.pth')} == {f'epoch_{n}.pth' for n in range(1, 13)} | {
        'best_multi-label_mAP.pth'
    }
    assert (run / 'last_checkpoint').read_text() == 'epoch_12.pth\n' and (run / 'tiny.py').is_file()
    (log,) = run.glob('*/*.log')
    text = log.read_text()
    assert 'Environment:' in text and 'Epoch(train) [12][6/6]' in text and 'best multi-label/mAP so far' in text
    scalars = [json.loads(line) for line in (log.parent / 'vis_data/scalars.json').read_text().splitlines()]
    assert {'loss', 'lr', 'multi-label/mAP', 'multi-label/CF1'} <= set().union(*scalars)
    assert list((log.parent / 'vis_data').glob('events.out.tfevents*'))

    result = test(run)
    best = read_checkpoint(run / 'best_multi-label_mAP.pth')
    score = best['best']['multi-label/mAP']
    assert result.metrics['multi-label/mAP'] == pytest.approx(score['score'], abs=1e-6)  # val and test are one set here
    assert score['epoch'] == best['meta']['epoch'] and score['score'] > 90
    stored = json.loads((run / 'results.json').read_text())
    assert stored['metrics']['multi-label/CF1'] == result.metrics['multi-label/CF1']
    assert stored['classes'] == ['red', 'green', 'blue'] and len(stored['per_class']['positives']) == 3


@pytest.mark.parametrize('mixed', [False, True], ids=['plain', 'mixup'])
def test_resumed_and_uninterrupted_runs_are_equal_bit_for_bit(tiny_config: Path, tmp_path: Path, mixed: bool) -> None:
    mix = {'model.data_preprocessor.batch_augments': dict(augments=dict(type='Mixup', alpha=0.8))} if mixed else {}
    whole = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), mix)
    options = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True, **mix}
    half = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'half')), options)
    for name in ('epoch_3.pth', 'epoch_4.pth', 'best_multi-label_mAP.pth'):
        (half / name).unlink()
    (half / 'last_checkpoint').write_text('epoch_2.pth\n')
    train(tiny_config, TrainFlags(work_dir=str(half), resume=True, seed=123), mix)  # the seed of the checkpoint counts
    for name in ('epoch_4.pth', 'best_multi-label_mAP.pth'):
        a, b = read_checkpoint(whole / name), read_checkpoint(half / name)
        assert (
            same(a['state_dict'], b['state_dict']) and a['best'] == b['best'] and a['meta']['iter'] == b['meta']['iter']
        )
        for state_a, state_b in zip(a['optimizer']['state'].values(), b['optimizer']['state'].values()):
            assert torch.equal(state_a['momentum_buffer'], state_b['momentum_buffer'])
        assert a['param_schedulers'] == b['param_schedulers']


def test_the_seed_decides_everything(tiny_config: Path, tmp_path: Path) -> None:
    runs = [
        weights(
            train(tiny_config, TrainFlags(work_dir=str(tmp_path / name), seed=seed), {'train_cfg.max_epochs': 1})
            / 'epoch_1.pth'
        )
        for name, seed in (('a', 1), ('b', 1), ('c', 2))
    ]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_old_checkpoints_go_after_new_ones_came(tiny_config: Path) -> None:
    run = train(tiny_config, options={'default_hooks.checkpoint.max_keep_ckpts': 2})
    assert {path.name for path in run.glob('epoch_*.pth')} == {'epoch_3.pth', 'epoch_4.pth'}


def test_interval_and_several_best(tiny_config: Path) -> None:
    run = train(
        tiny_config,
        options={
            'default_hooks.checkpoint.interval': 3,
            'train_cfg.val_interval': 2,
            'default_hooks.checkpoint.save_best': ['multi-label/CF1', 'auto'],
        },
    )
    assert {path.name for path in run.glob('*.pth')} == {
        'epoch_3.pth',
        'epoch_4.pth',
        'best_multi-label_CF1.pth',
        'best_multi-label_CP.pth',
    }
    with pytest.raises(CheckpointError, match='several best checkpoints; choose one of: best_multi-label_CF1.pth'):
        test(run)


def test_amp_on_a_cpu_learns(tiny_config: Path) -> None:
    run = train(tiny_config, TrainFlags(amp=True), {'optim_wrapper.dtype': 'bfloat16'})
    state = read_checkpoint(run / 'epoch_4.pth')
    assert 'loss_scaler' in state['optimizer']
    assert state['state_dict']['backbone.conv1.weight'].dtype == torch.float32
    plain = weights(train(tiny_config, TrainFlags(work_dir=str(run.parent / 'plain'))) / 'epoch_4.pth')
    assert not same(plain, state['state_dict'])


def test_float16_on_a_cpu_is_refused(tiny_config: Path) -> None:
    with pytest.raises(ConfigError, match='float16 needs a GPU'):
        train(tiny_config, TrainFlags(amp=True), {'optim_wrapper.dtype': 'float16'})
    with pytest.raises(ConfigError, match="unknown dtype 'bfloat'; did you mean 'bfloat16'"):
        train(tiny_config, TrainFlags(amp=True), {'optim_wrapper.dtype': 'bfloat'})


def test_without_validation(tiny_config: Path) -> None:
    run = train(tiny_config, TrainFlags(validate=False), {'train_cfg.max_epochs': 1})
    assert {path.name for path in run.glob('*.pth')} == {'epoch_1.pth'}
    assert test(run).num_images == 20  # the newest stands in for the best


def test_a_nan_loss_ends_the_run_before_it_is_saved(tiny_config: Path) -> None:
    with pytest.raises(TrainingError, match=r'became NaN or infinite in iteration \d.*Lower the learning rate'):
        train(tiny_config, options={'optim_wrapper.optimizer.lr': 1e20})
    assert not list((tiny_config.parent / 'run').glob('*.pth'))


def test_auto_scale_lr(tiny_config: Path) -> None:
    run = train(
        tiny_config, TrainFlags(auto_scale_lr=True), {'auto_scale_lr.base_batch_size': 16, 'train_cfg.max_epochs': 1}
    )
    assert read_checkpoint(run / 'epoch_1.pth')['param_schedulers'][0]['base_values'] == [0.025]
    with pytest.raises(ConfigError, match='--auto-scale-lr needs auto_scale_lr'):
        text = tiny_config.read_text().replace('auto_scale_lr = dict(base_batch_size=8)', '')
        tiny_config.write_text(text)
        train(tiny_config, TrainFlags(auto_scale_lr=True))


def test_gradient_accumulation_equals_one_large_batch(tiny_config: Path, tmp_path: Path) -> None:
    # Normalisation sees the small batches, so it is fixed; crops are keyed by image, so they are the same.
    shared = {'model.backbone.norm_eval': True, 'train_cfg.max_epochs': 1, 'param_scheduler': None}
    large = train(
        tiny_config, TrainFlags(work_dir=str(tmp_path / 'large')), {**shared, 'train_dataloader.batch_size': 16}
    )
    small = train(
        tiny_config, TrainFlags(work_dir=str(tmp_path / 'small')), {**shared, 'optim_wrapper.accumulative_counts': 2}
    )
    a, b = weights(large / 'epoch_1.pth'), weights(small / 'epoch_1.pth')
    assert all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-5) for name in a)


@pytest.mark.parametrize('loss', [dict(type='FocalLoss'), dict(type='AsymmetricLoss')])
def test_the_loss_is_swapped_by_config(tiny_config: Path, loss: dict) -> None:
    text = tiny_config.read_text().replace("loss=dict(type='CrossEntropyLoss', use_sigmoid=True)", f'loss={loss!r}')
    tiny_config.write_text(text)
    train(tiny_config, options={'train_cfg.max_epochs': 1})


def test_class_balanced_wrapper_by_config(tiny_config: Path) -> None:
    text = tiny_config.read_text().replace(
        "dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline)",
        "dataset=dict(type='ClassBalancedDataset', oversample_thr=1.0, "
        "dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline))",
    )
    tiny_config.write_text(text)
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    assert read_checkpoint(run / 'epoch_1.pth')['meta']['iter'] > 6  # more draws than the 48 images


def test_mmpretrains_evaluator_by_config(tiny_config: Path) -> None:
    text = tiny_config.read_text().replace(
        "[dict(type='ThresholdMetric'), dict(type='AveragePrecision')]",
        "[dict(type='AveragePrecision'), dict(type='MultiLabelMetric', topk=1)]",
    )
    tiny_config.write_text(text)
    metrics = test(train(tiny_config, options={'train_cfg.max_epochs': 1})).metrics
    assert 'multi-label/precision_top1' in metrics and 'multi-label/mAP' in metrics


def test_a_second_run_in_the_same_folder_does_not_mix_with_the_first(tiny_config: Path) -> None:
    run = train(tiny_config)
    (run / '.epoch_9.pth.abc.tmp').touch()  # as a kill leaves it
    options = {'train_cfg.max_epochs': 1, 'default_hooks.checkpoint.max_keep_ckpts': 1}
    train(tiny_config, TrainFlags(validate=False), options)
    assert {path.name for path in run.glob('*.pth')} == {'epoch_1.pth'} and not list(run.glob('.*.tmp'))
    assert (run / 'last_checkpoint').read_text() == 'epoch_1.pth\n'
    (earlier,) = run.glob('earlier_*')
    assert {'epoch_4.pth', 'best_multi-label_mAP.pth'} <= {path.name for path in earlier.iterdir()}


def test_settings_may_be_left_out_or_switched_off(tiny_config: Path) -> None:
    text = tiny_config.read_text().replace("sampler=dict(type='DefaultSampler', shuffle=True),", '')
    text = text.replace('max_epochs=4', 'max_epochs=1, dynamic_intervals=[(2, 1)]')
    tiny_config.write_text(text + "default_hooks['finite_loss'] = None\ndefault_hooks['progress'] = None\n")
    train(tiny_config)


def test_mmcvs_resizing_by_name(tiny_config: Path) -> None:
    load = "pipeline = [dict(type='LoadImageFromFile'),"
    for name, scales in (
        ('RandomChoiceResize', 'scales=[(40, 40), (60, 60)]'),
        ('RandomResize', 'scale=[(40, 40), (60, 60)]'),
    ):
        text = tiny_config.read_text()
        path = tiny_config.with_name(f'{name}.py')
        path.write_text(text.replace(load, f"{load} dict(type='{name}', {scales}),", 1))
        train(path, options={'train_cfg.max_epochs': 1})


def test_a_backbones_file_by_load_from(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlcls.models import ResNet

    torch.save(ResNet(18, base_channels=8, stem_channels=8).state_dict(), tmp_path / 'backbone.pth')
    train(tiny_config, options={'load_from': str(tmp_path / 'backbone.pth'), 'train_cfg.max_epochs': 1})
    assert 'not in the file: head.fc.weight, head.fc.bias' in capsys.readouterr().out


PYTHON_STYLE = """
from mmengine.config import read_base
from torch.optim import AdamW

from mlcls.models import FocalLoss

with read_base():
    from .{base} import *

model['head']['loss'] = dict(type=FocalLoss, gamma=1.0)
optim_wrapper['optimizer'] = dict(type=AdamW, lr=1e-3)
"""


def test_a_config_in_pure_python_style(tiny_config: Path) -> None:
    base = tiny_config.with_name('base_settings.py')
    base.write_text(tiny_config.read_text())
    config = tiny_config.with_name('python_style.py')
    config.write_text(PYTHON_STYLE.format(base=base.stem))
    run = train(config, options={'train_cfg.max_epochs': 1})
    checkpoint = read_checkpoint(run / 'epoch_1.pth')
    assert checkpoint['meta']['optimizer'] == 'AdamW'
    assert checkpoint['meta']['config']['model']['head']['loss'] == {'type': 'FocalLoss', 'gamma': 1.0}
    assert test(run).num_images == 20


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', None])
def test_amp_on_a_gpu(tiny_config: Path, dtype: str | None) -> None:
    run = train(
        tiny_config,
        TrainFlags(amp=True),
        {
            'optim_wrapper.dtype': dtype,
            'channels_last': True,
            'train_dataloader.pin_memory': True,
            'train_cfg.max_epochs': 12,
            'param_scheduler.T_max': 12,
        },
    )
    state = read_checkpoint(run / 'epoch_12.pth')
    assert bool(state['optimizer']['loss_scaler']) == (dtype != 'bfloat16')
    assert state['best']['multi-label/mAP']['score'] > 90


@pytest.mark.gpu
def test_resuming_keeps_the_loss_scale(tiny_config: Path) -> None:
    odd = {'optim_wrapper.loss_scale': {'init_scale': 96.0}}
    run = train(tiny_config, TrainFlags(amp=True), odd)
    assert read_checkpoint(run / 'epoch_4.pth')['optimizer']['loss_scaler']['scale'] == 96
    train(tiny_config, TrainFlags(amp=True, resume=True), {'train_cfg.max_epochs': 5})
    assert read_checkpoint(run / 'epoch_5.pth')['optimizer']['loss_scaler']['scale'] == 96
