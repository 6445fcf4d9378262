"""Parts with names of their own, so that these tests do not depend on the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcls import registry
from mlcls.config import Sources, check_config, load_config
from mlcls.config.lookup import REGISTRIES
from mlcls.errors import ConfigError


@registry.MODELS.register_module()
class ZooNet:
    def __init__(self, backbone: Any, neck: Any = None, head: Any = None, data_preprocessor: Any = None) -> None: ...


@registry.MODELS.register_module()
class ZooBackbone:
    def __init__(self, depth: int, norm_cfg: Any = None, init_cfg: Any = None) -> None: ...


class ZooBase:
    def __init__(self, loss: Any = None, thr: Any = None, topk: Any = None, init_cfg: Any = None) -> None: ...


@registry.MODELS.register_module()
class ZooHead(ZooBase):
    def __init__(self, num_classes: int, in_channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


@registry.MODELS.register_module()
class ZooOtherHead(ZooBase):
    def __init__(self, num_queries: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)


@registry.MODELS.register_module()
class ZooLoss:
    def __init__(self, gamma: float = 0.0, loss_weight: float = 1.0) -> None: ...


@registry.MODELS.register_module()
class ZooPreprocessor:
    def __init__(self, mean: Any = None, std: Any = None) -> None: ...


@registry.DATASETS.register_module()
class ZooSet:
    def __init__(self, ann_file: str, data_root: str = '', pipeline: Any = ()) -> None: ...


@registry.DATASETS.register_module()
class ZooBalanced:
    def __init__(self, dataset: Any, oversample_thr: float) -> None: ...


@registry.TRANSFORMS.register_module()
class ZooLoad:
    def __init__(self, color: str = 'rgb') -> None: ...


@registry.TRANSFORMS.register_module()
class ZooChoice:
    def __init__(self, transforms: Any, prob: float = 0.5) -> None: ...


@registry.FUNCTIONS.register_module()
def zoo_collate(samples: Any, pad: int = 0) -> Any:
    return samples


@registry.METRICS.register_module()
class ZooMetric:
    def __init__(self, thr: Any = None, topk: Any = None, prefix: str | None = None) -> None: ...


@registry.HOOKS.register_module()
class ZooHook:
    def __init__(self, interval: int = 1) -> None: ...


@pytest.fixture(autouse=True)
def no_real_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries do not import the packages that fill them."""
    for each in REGISTRIES.values():
        monkeypatch.setattr(each, '_imported', True)


VALID = """
model = dict(
    type='ZooNet',
    data_preprocessor=dict(type='ZooPreprocessor', mean=[0, 0, 0], std=[1, 1, 1]),
    backbone=dict(type='ZooBackbone', depth=18, norm_cfg=dict(type='BN', requires_grad=True),
                  init_cfg=dict(type='Normal', layer='Linear', std=0.01)),
    neck=None,
    head=dict(
        type='ZooHead',
        num_classes=20,
        in_channels=512,
        loss=dict(type='ZooLoss', gamma=2.0, loss_weight=1.0),
        thr=0.5))
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='zoo_collate', pad=1),
    dataset=dict(
        type='ZooBalanced',
        oversample_thr=0.1,
        dataset=dict(
            type='ZooSet',
            ann_file='train.json',
            pipeline=[
                dict(type='ZooLoad', color='rgb'),
                dict(type='ZooChoice', prob=0.5, transforms=[[dict(type='ZooLoad', color='bgr')]]),
            ])),
    sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(norm_decay_mult=0., custom_keys={'.head': dict(lr_mult=10.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=8, begin=2, end=10),
]
val_dataloader = dict(
    batch_size=32,
    dataset=dict(type='ZooSet', ann_file='val.json', pipeline=[dict(type='ZooLoad')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_cfg = dict(fp16=False)
val_evaluator = [dict(type='ZooMetric', thr=0.5), dict(type='ZooMetric', topk=3, prefix='top3')]
default_hooks = dict(logger=dict(type='LoggerHook', interval=10), checkpoint=dict(type='CheckpointHook', interval=1))
custom_hooks = [dict(type='ZooHook', interval=2, priority='LOW')]
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0, deterministic=False)
auto_scale_lr = dict(enable=False, base_batch_size=256)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend', img_save_dir='images')])
log_processor = dict(window_size=20)
"""

Write = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files under the working directory and returns the path of the first."""
    monkeypatch.chdir(tmp_path)

    def _write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        return Path(next(iter(files)))

    return _write


def problems_of(path: Path, options: Mapping[str, Any] | None = None) -> list[str]:
    """The lines of what ``check_config`` says about a config file."""
    cfg = load_config(path, options)
    try:
        check_config(cfg, Sources([path], options))
    except ConfigError as error:
        return str(error).split('\n')
    return []
