"""Shared by all tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

# Workers of pytest-xdist share the cores; before torch starts its threads.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)

# Tests must not leave anything in the cache of annotations, nor find anything there.
os.environ.setdefault('MLCLS_CACHE', 'off')

ROOT = Path(__file__).resolve().parents[1]

# A busy machine is no failure: examples may take as long as they take.
settings.register_profile('patient', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('patient')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` skip where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if 'gpu' in item.keywords:
                item.add_marker(pytest.mark.skip(reason='no GPU on this machine'))


@pytest.fixture(scope='session')
def test_data() -> Path:
    """Folder of the real data sets and weights (``MLCLS_TEST_DATA`` or ``../shared``); skips where there is none."""
    folder = Path(os.environ.get('MLCLS_TEST_DATA', ROOT.parent / 'shared'))
    if not (folder / 'datasets').is_dir():
        pytest.skip(f'no test data at {folder}; set MLCLS_TEST_DATA')
    return folder


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """A data set that is learnt in seconds: a red, a green and a blue square, any of them present; train and val."""
    make_squares(tmp_path / 'squares', train=48, val=20)
    return tmp_path / 'squares'


def make_squares(root: Path, **counts: int) -> None:
    """Write pictures of 32 pixels with coloured squares, and their annotations."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        data_list = []
        for number in range(count):
            image = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            labels = [c for c in range(3) if rng.random() < 0.5]
            for c in labels:
                x, y = rng.integers(0, 20, 2)
                image[y : y + 12, x : x + 12, c] = 250
            name = f'{split}/{number}.png'
            Image.fromarray(image).save(root / name)
            data_list.append({'img_path': name, 'gt_label': labels})
        content = {'metainfo': {'classes': ['red', 'green', 'blue']}, 'data_list': data_list}
        (root / f'{split}.json').write_text(json.dumps(content))


TINY_CONFIG = """
default_scope = 'mlcls'
data_root = {root!r}
pipeline = [dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.8, 1.0)),
            dict(type='PackInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[64, 64, 64], std=[64, 64, 64], to_rgb=True),
    backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=64,
              loss=dict(type='CrossEntropyLoss', use_sigmoid=True)))
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline))
val_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='val.json', pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision')]
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = dict(type='CosineAnnealingLR', T_max=4, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=4)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='multi-label/mAP'),
                     logger=dict(type='LoggerHook', interval=3))
auto_scale_lr = dict(base_batch_size=8)
randomness = dict(seed=0)
work_dir = {work_dir!r}
"""


@pytest.fixture
def tiny_config(tiny_data: Path, tmp_path: Path) -> Path:
    """A config that trains on ``tiny_data`` in a few seconds; its work folder is ``tmp_path / 'run'``."""
    path = tmp_path / 'tiny.py'
    path.write_text(TINY_CONFIG.format(root=str(tiny_data), work_dir=str(tmp_path / 'run')))
    return path
