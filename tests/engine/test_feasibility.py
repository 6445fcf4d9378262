"""What cannot work is refused at the start, whatever torch and mmengine would say later, or not at all."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict

from mlcls.engine.feasibility import (
    FUSED,
    check_accumulation,
    check_feasible,
    check_hooks,
    check_loop,
    check_optimiser,
    check_precision,
    validation_notes,
)
from mlcls.engine.schedule_check import RunLength
from mlcls.errors import ConfigError

RUN = RunLength(epochs=4, epoch_iters=6)
CPU = torch.device('cpu')


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(max_epochs=4, val_begin=5), r'val_begin=5 is above max_epochs=4: there would be no validation'),
        (dict(max_epochs=0), 'max_epochs=0 must be a whole number of at least 1'),
        (dict(max_epochs=2.5), r'max_epochs=2\.5 must be a whole number'),
        (dict(max_epochs=4, val_interval=0), 'val_interval=0 must be'),
        (dict(max_epochs=4, val_interval=-1), 'val_interval=-1 must be'),
        (dict(max_epochs='4'), "max_epochs='4' must be"),
    ],
)
def test_epochs(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_loop(settings)
    check_loop(dict(max_epochs=4, val_begin=4, val_interval=9))
    check_loop(dict(max_epochs=4, val_begin=5), validates=False)  # what the message advises


def test_validation_that_is_never_due_but_at_the_end() -> None:
    settings = dict(max_epochs=4, val_interval=5)
    assert list(validation_notes(settings, True)) == [
        'train_cfg.val_interval=5 is above max_epochs=4: validation only after the last epoch'
    ]
    assert not list(validation_notes(settings, False))
    assert not list(validation_notes(dict(max_epochs=4, val_interval=4), True))


@pytest.mark.parametrize(
    'counts, words', [(7, 'above the 6 batches of an epoch.*set it to 6 at most'), (0, 'at least 1'), (1.5, '1.5')]
)
def test_accumulation_that_cannot_be(counts: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_accumulation(dict(accumulative_counts=counts), RUN)


def test_accumulation_of_whole_epochs() -> None:
    for counts in (1, 4, 6):
        check_accumulation(dict(accumulative_counts=counts), RUN)


@pytest.mark.parametrize(
    'clip', [dict(max_norm=0), dict(max_norm=-1.0), dict(type='value', clip_value=0), dict(max_norm=float('nan'))]
)
def test_clipping_everything_away(clip: dict[str, Any]) -> None:
    key = 'clip_value' if 'clip_value' in clip else 'max_norm'
    with pytest.raises(ConfigError, match=rf'clip_grad\.{key}=.* must be above 0.*clip_grad=None'):
        check_optimiser(dict(clip_grad=clip), 'cpu')
    check_optimiser(dict(clip_grad=dict(max_norm=0.1)), 'cpu')


@pytest.mark.parametrize(
    'optimizer, device, words',
    [
        (dict(type='RMSprop', fused=True), 'cpu', r'RMSprop has no fused step \(Adagrad, Adam, AdamW, SGD have\)'),
        (dict(type='Adagrad', fused=True), 'cuda', 'Adagrad has no fused step on cuda; leave fused out'),
        (dict(type='SGD', fused=True, foreach=True), 'cpu', 'fused=True and foreach=True exclude each other'),
        (dict(type='AdamW', fused=True, differentiable=True), 'cpu', 'differentiable=True exclude each other'),
    ],
)
def test_fused_where_there_is_none(optimizer: dict[str, Any], device: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_optimiser(dict(optimizer=optimizer), device)


@pytest.mark.parametrize(
    'name', sorted(name for name in dir(torch.optim) if isinstance(getattr(torch.optim, name), type))
)
def test_torch_agrees_on_which_optimisers_are_fused(name: str) -> None:
    kind = getattr(torch.optim, name)
    if name == 'Optimizer' or not issubclass(kind, torch.optim.Optimizer):
        return
    weight = torch.nn.Parameter(torch.ones(3, 2))
    weight.grad = torch.ones(3, 2)
    try:
        kind([weight], lr=0.1, fused=True).step()
        works = not torch.equal(weight, torch.ones(3, 2))
    except (TypeError, RuntimeError):
        works = False
    assert works == (name in FUSED and 'cpu' not in FUSED.get(name, ()))


@pytest.mark.parametrize(
    'cfg, words',
    [
        (
            dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype='float16')),
            "optim_wrapper.dtype='float16': float16 needs a",
        ),
        (dict(val_cfg=dict(fp16=True)), 'val_cfg.fp16=True: float16 needs a GPU'),
        (dict(test_cfg=dict(dtype='float16')), "test_cfg.dtype='float16'"),
    ],
)
def test_float16_on_a_cpu(cfg: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_precision(cfg, CPU)
    check_precision(cfg, torch.device('cuda'))


def test_bfloat16_on_an_old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = dict(optim_wrapper=dict(type='mlcls.AmpOptimWrapper', dtype='bfloat16'))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Tesla T4')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    with pytest.raises(ConfigError, match=r"Tesla T4 \(compute capability 7\.5\) has no bfloat16.*use 'float16'"):
        check_precision(cfg, torch.device('cuda'))
    check_precision(cfg, CPU)
    check_precision(dict(optim_wrapper=dict(type='AmpOptimWrapper')), torch.device('cuda'))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    check_precision(cfg, torch.device('cuda'))


@pytest.mark.parametrize(
    'hooks, words',
    [
        (dict(logger=dict(type='LoggerHook', interval=0)), r'default_hooks\.logger\.interval=0 must be'),
        (dict(logger=dict(type='LoggerHook', interval=-5)), r'interval=-5 must be'),
        (dict(checkpoint=dict(type='CheckpointHook', interval=0)), 'checkpoint.interval=0 must be'),
        (dict(checkpoint=dict(type='CheckpointHook', interval=-2)), 'interval=-2 must be .*or -1: only the last'),
        (dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=0)), 'max_keep_ckpts=0 must be .*or -1: keep all'),
        (dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=-3)), 'max_keep_ckpts=-3'),
        (dict(ema=dict(type='EMAHook', begin_epoch=5)), r'begin_epoch=5 \(EMAHook\) is not before the end .*4 epochs'),
        (dict(ema=dict(type='EMAHook', begin_iter=25)), r'begin_iter=25 .*24 iterations'),
        (dict(swa=dict(type='SWAHook', begin=9)), 'begin=9'),
        (dict(visualization=dict(type='VisualizationHook', interval=0)), r'interval=0 \(VisualizationHook\)'),
    ],
)
def test_hooks_that_cannot_act(hooks: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_hooks(dict(default_hooks=hooks), RUN)
    with pytest.raises(ConfigError, match=r'custom_hooks\.1\.'):
        check_hooks(dict(custom_hooks=[dict(type='A'), *hooks.values()]), RUN)


def test_hooks_that_rarely_act() -> None:
    def notes(**hook: Any) -> list[str]:
        return check_hooks(dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', **hook))), RUN)

    assert 'interval=5 is above the 4 epochs of the training: only the last is written' in notes(interval=5)[0]
    assert 'none is written' in notes(interval=5, save_last=False)[0]
    assert 'above the 24 iterations' in notes(interval=25, by_epoch=False)[0]
    assert notes(interval=-1) == notes(interval=24, by_epoch=False) == notes(interval=4, max_keep_ckpts=2) == []
    fine = dict(
        ema=dict(type='EMAHook', begin_epoch=3, begin_iter=23), logger=dict(type='LoggerHook', interval=500), a=None
    )
    assert check_hooks(dict(default_hooks=fine), RUN) == []


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def make_runner(**cfg: Any) -> tuple[Any, Lines]:
    logger, lines = logging.Logger('feasibility'), Lines()
    logger.addHandler(lines)
    base = dict(
        train_cfg=dict(max_epochs=4),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, fused=True)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=4),
    )
    loop = SimpleNamespace(max_epochs=4, dataloader=range(6))
    model = torch.nn.Linear(2, 2)
    return SimpleNamespace(cfg=ConfigDict({**base, **cfg}), logger=logger, model=model, train_loop=loop), lines


def test_a_sound_run_passes_in_silence() -> None:
    runner, lines = make_runner()
    check_feasible(runner)
    assert lines.lines == []


def test_all_parts_are_checked() -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        (dict(train_cfg=dict(max_epochs=4, val_begin=5), val_dataloader=dict(batch_size=1)), 'val_begin'),
        (dict(optim_wrapper=dict(type='OptimWrapper', accumulative_counts=99)), 'accumulative_counts'),
        (dict(optim_wrapper=dict(type='OptimWrapper', clip_grad=dict(max_norm=0))), 'clip_grad'),
        (dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype='float16')), 'float16'),
        (dict(param_scheduler=[dict(type='LinearLR', end=0)]), 'is not after begin'),
        (dict(default_hooks=dict(logger=dict(type='LoggerHook', interval=0))), 'interval'),
    ]
    for cfg, words in bad:
        with pytest.raises(ConfigError, match=words):
            check_feasible(make_runner(**cfg)[0])


def test_one_cycle_takes_away_rates_of_groups() -> None:
    wrapper = dict(type='OptimWrapper', paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))
    runner, lines = make_runner(optim_wrapper=wrapper, param_scheduler=dict(type='OneCycleLR', eta_max=0.1))
    check_feasible(runner)
    assert len(lines.lines) == 1 and 'paramwise_cfg.custom_keys has no effect on it' in lines.lines[0]
    wrapper = dict(type='OptimWrapper', paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'a': dict(decay_mult=0)}))
    runner, lines = make_runner(optim_wrapper=wrapper, param_scheduler=dict(type='OneCycleLR', eta_max=0.1))
    check_feasible(runner)
    assert lines.lines == []
