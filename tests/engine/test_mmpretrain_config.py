"""A config as people write it for mmpretrain runs with ``default_scope = 'mlcls'`` and no other change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlcls.apis import TrainFlags, test, train
from mlcls.errors import ConfigError
from mlcls.models import ResNet

RUNTIME = """
default_scope = 'mlcls'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False))
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
"""

RUN = """
_base_ = ['runtime.py']
dataset_type = 'MultiLabelDataset'
data_preprocessor = dict(num_classes=3, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True,
                         to_onehot=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet', depth=18, num_stages=4, out_indices=(3, ), style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint={weights!r}, prefix='backbone')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=512,
              loss=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.7, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=40, edge='short'),
    dict(type='CenterCrop', crop_size=32),
    dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'ori_shape', 'img_shape'))]
train_dataloader = dict(
    batch_size=16, num_workers=2,
    dataset=dict(type=dataset_type, data_root={root!r}, ann_file='train.json', data_prefix='', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True), pin_memory=False, persistent_workers=True,
    collate_fn=dict(type='default_collate'))
val_dataloader = dict(
    batch_size=16, num_workers=2,
    dataset=dict(type=dataset_type, data_root={root!r}, ann_file='val.json', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False), persistent_workers=True,
    collate_fn=dict(type='default_collate'))
test_dataloader = val_dataloader
val_evaluator = [dict(type='AveragePrecision'), dict(type='MultiLabelMetric', average='macro'),
                 dict(type='MultiLabelMetric', average='micro')]
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
    paramwise_cfg=dict(custom_keys={{'.backbone.classifier': dict(lr_mult=10)}}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-7, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, milestones=[1, 2], gamma=0.1)]
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=16)
"""


@pytest.fixture
def config(tiny_data: Path, tmp_path: Path) -> Path:
    weights = {f'backbone.{name}': value for name, value in ResNet(18).state_dict().items()}
    torch.save({'state_dict': weights}, tmp_path / 'weights.pth')
    (tmp_path / 'runtime.py').write_text(RUNTIME)
    path = tmp_path / 'run.py'
    path.write_text(RUN.format(root=str(tiny_data), weights=str(tmp_path / 'weights.pth')))
    return path


def test_it_runs(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(config, TrainFlags(work_dir=str(tmp_path / 'work'), auto_scale_lr=True))
    assert "names after 'backbone.'" in capsys.readouterr().out
    (tmp_path / 'weights.pth').unlink()  # testing needs the checkpoint alone
    metrics = test(run / 'epoch_2.pth').metrics
    assert {'multi-label/mAP', 'multi-label/precision', 'multi-label/f1-score_micro'} <= metrics.keys()


def test_what_is_not_there_is_said(config: Path) -> None:
    with pytest.raises(ConfigError, match='VisualizationHook: drawing predictions'):
        train(config, options={'default_hooks.visualization.enable': True})
    config.write_text(config.read_text().replace('by_epoch=True, max_epochs=2, val_interval=1', 'max_iters=10'))
    with pytest.raises(ConfigError, match='training by iterations is not available'):
        train(config)
