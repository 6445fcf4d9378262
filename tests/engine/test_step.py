"""Steps that do not fit into memory, checkpoints inside cycles, schedules that changed, precision and compiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlcls.apis import TrainFlags, train
from mlcls.engine.compiling import WithFallback, read_settings
from mlcls.engine.optim import OptimWrapper
from mlcls.errors import ConfigError, TrainingError
from mlcls.fileio import read_checkpoint
from mlcls.registry import HOOKS

FIXED_NORM = {'model.backbone.norm_eval': True, 'train_cfg.max_epochs': 2, 'param_scheduler': None}


@HOOKS.register_module(force=True)
class LittleMemory(Hook):
    """Makes a network run out of memory above a number of images."""

    def __init__(self, images: int) -> None:
        self.images = images

    def before_train(self, runner: Any) -> None:
        backbone = runner.model.backbone
        plain = backbone.forward

        def forward(inputs: torch.Tensor) -> Any:
            if len(inputs) > self.images and backbone.training:
                raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')
            return plain(inputs)

        backbone.forward = forward


def weights(run: Path, name: str = 'epoch_2.pth') -> dict[str, torch.Tensor]:
    return read_checkpoint(run / name)['state_dict']


@pytest.mark.parametrize('images', [4, 3])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tiny_config: Path, tmp_path: Path, images: int) -> None:
    whole = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), FIXED_NORM)
    little = {
        'custom_hooks': [dict(type='LittleMemory', images=images)],
        'train_cfg.out_of_memory': 'halve',
        **FIXED_NORM,
    }
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'parts')), little)
    parts = 2 if images == 4 else 4
    assert f'a batch of 8 is worked on in {parts} parts' in next(run.glob('*/*.log')).read_text()
    a, b = weights(whole), weights(run)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


def test_out_of_memory_says_what_to_change(tiny_config: Path) -> None:
    little = {'custom_hooks': [dict(type='LittleMemory', images=4)]}
    with pytest.raises(
        TrainingError, match=r'out of memory with 8 images at a time .*batch_size.*--amp.*with_cp.*halve'
    ):
        train(tiny_config, options=little)
    little = {'custom_hooks': [dict(type='LittleMemory', images=0)], 'train_cfg.out_of_memory': 'halve', **FIXED_NORM}
    with pytest.raises(TrainingError, match='out of memory with a single image'):
        train(tiny_config, options=little)
    with pytest.raises(ConfigError, match="out_of_memory must be 'stop' or 'halve', got 'half'"):
        train(tiny_config, options={'train_cfg.out_of_memory': 'half'})


def test_cycles_of_accumulation_end_with_the_epoch() -> None:
    """Five batches in cycles of two: steps after the second, the fourth and the fifth, whose cycle is alone."""
    weight = torch.nn.Parameter(torch.zeros(1))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=2)
    seen, values = [], [1.0, 3.0, 5.0, 7.0, 100.0]
    for _ in range(2):
        wrapper.start_epoch(5)
        for value in values:
            wrapper.update_params(weight.sum() * value)
            seen.append(weight.item())
    assert seen == [0, -2, -2, -8, -108, -108, -110, -110, -116, -216]


@pytest.mark.parametrize(
    ('clip', 'words'),
    [
        (dict(max_norm=0), 'max_norm must be a number above 0, got 0'),
        (dict(type='norm'), 'max_norm must be a number above 0, got None'),
        (dict(type='value', clip_value=-1), 'clip_value must be a number above 0, got -1'),
        (dict(type='size', max_norm=1), "type must be 'norm' or 'value', got 'size'"),
    ],
)
def test_clipping_that_cannot_work(clip: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), clip_grad=clip)
    with pytest.raises(ConfigError, match='accumulative_counts must be a whole number of at least 1, got 0'):
        OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), accumulative_counts=0)


@pytest.mark.parametrize('kind', [2.0, 1.0, float('inf')])
def test_the_norm_is_torchs_and_clipping_too(kind: float) -> None:
    torch.manual_seed(0)
    a = [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(7))]
    b = [torch.nn.Parameter(value.detach().clone()) for value in a]
    wrapper = OptimWrapper(torch.optim.SGD(a, lr=1.0), clip_grad=dict(max_norm=0.5, norm_type=kind))
    wrapper.update_params(sum((value**3).sum() for value in a))
    optimizer = torch.optim.SGD(b, lr=1.0)
    sum((value**3).sum() for value in b).backward()
    norm = torch.nn.utils.clip_grad_norm_(b, 0.5, kind)
    optimizer.step()
    assert wrapper.grad_norm is not None
    torch.testing.assert_close(wrapper.grad_norm, norm)
    for x, y in zip(a, b):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize('alike', [True, False])
def test_the_norm_of_gradients_that_are_not_clipped_is_torchs(alike: bool) -> None:
    torch.manual_seed(0)
    kinds = (torch.float32, torch.float32 if alike else torch.float64)
    weights = [torch.nn.Parameter(torch.randn(5, 3, dtype=kind)) for kind in kinds]
    unused = torch.nn.Parameter(torch.randn(2))
    wrapper = OptimWrapper(torch.optim.SGD([*weights, unused], lr=0.0))
    wrapper.update_params(sum((value**3).sum().float() for value in weights))
    norm = torch.cat([3 * value.detach().double().flatten() ** 2 for value in weights]).norm()
    assert float(wrapper.grad_norm or 0) == pytest.approx(norm.item(), rel=1e-6)
    assert all(value.grad is None for value in (*weights, unused))
    wrapper.update_params(sum(value.sum().float() for value in weights) * float('nan'))
    assert wrapper.grad_norm is not None and torch.tensor(float(wrapper.grad_norm)).isnan()


def test_steps_are_torchs_with_hooks_profiles_and_what_takes_their_place() -> None:
    def stepped(prepare: Any = None) -> tuple[torch.Tensor, OptimWrapper]:
        weight = torch.nn.Parameter(torch.arange(4.0))
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        wrapper = OptimWrapper(optimizer)
        if prepare is not None:
            prepare(optimizer)
        for _ in range(3):
            wrapper.update_params((weight**2).sum())
        return weight.detach(), wrapper

    weight = torch.nn.Parameter(torch.arange(4.0))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    assert torch.equal(stepped()[0], weight)

    seen: list[str] = []
    hooked, _ = stepped(lambda optimizer: optimizer.register_step_pre_hook(lambda *given: seen.append('before')))
    stepped(lambda optimizer: optimizer.register_step_post_hook(lambda *given: seen.append('after')))
    handle = register_optimizer_step_post_hook(lambda *given: seen.append('of all'))
    stepped()
    handle.remove()
    stepped()
    assert seen == ['before'] * 3 + ['after'] * 3 + ['of all'] * 3 and torch.equal(hooked, weight)

    def replace(optimizer: Any) -> None:
        optimizer.step = lambda: seen.append('replaced')

    assert torch.equal(stepped(replace)[0], torch.arange(4.0)) and seen[-3:] == ['replaced'] * 3

    with torch.profiler.profile() as profile:
        stepped()
    assert sum(event.key == 'Optimizer.step#AdamW.step' and event.count == 3 for event in profile.key_averages()) == 1


def test_gradients_are_dropped_as_the_optimiser_says() -> None:
    class Keeping(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            super().zero_grad(set_to_none=False)

    weight = torch.nn.Parameter(torch.ones(2))
    kept = dict(set_to_none=False)
    for kind, given, is_kept in ((Keeping, {}, True), (torch.optim.SGD, {}, False), (torch.optim.SGD, kept, True)):
        wrapper = OptimWrapper(kind([weight], lr=0.1))
        weight.sum().backward()
        wrapper.zero_grad(**given)
        assert (weight.grad is not None) == is_kept


def test_a_longer_schedule_is_followed_after_resuming(tiny_config: Path, tmp_path: Path) -> None:
    """Training on: the rate is that of a run that had the longer schedule from the start."""
    longer = {'train_cfg.max_epochs': 6, 'param_scheduler.T_max': 6}
    whole = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), longer)
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run')), {'train_cfg.max_epochs': 3})
    train(tiny_config, TrainFlags(work_dir=str(run), resume=True), longer)
    found, expected = (read_checkpoint(folder / 'epoch_6.pth') for folder in (run, whole))
    assert found['param_schedulers'][0]['_last_value'] == pytest.approx(expected['param_schedulers'][0]['_last_value'])
    text = '\n'.join(path.read_text() for path in run.glob('*/*.log'))
    assert 'from here on the new schedule counts' in text


def test_settings_of_compile() -> None:
    assert read_settings(None) is None and read_settings(False) is None and read_settings(True) == ('model', {})
    assert read_settings(dict(target='step', mode='default')) == ('step', {'mode': 'default'})
    for bad, words in [
        (3, 'compile must be True, False or a dict, got 3'),
        (dict(target='loss'), "compile.target must be 'model' or 'step', got 'loss'"),
        (dict(moed='default'), "compile: unknown argument 'moed'; did you mean 'mode'"),
    ]:
        with pytest.raises(ConfigError, match=words):
            read_settings(bad)


def test_a_compiler_that_fails_is_left_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    def broken(value: int) -> int:
        raise RuntimeError('no C++ compiler\nmore')

    call = WithFallback(lambda value: value + 1, broken, logging.getLogger('compile'), 'the network')
    assert [call(n) for n in range(3)] == [1, 2, 3]
    assert len(caplog.records) == 1 and 'failed (RuntimeError: no C++ compiler); going on without it' in caplog.text


@pytest.mark.slow
def test_a_compiled_run_equals_a_plain_one(tiny_config: Path, tmp_path: Path) -> None:
    shared: dict[str, Any] = {'train_cfg.max_epochs': 1, 'param_scheduler.T_max': 1}
    # One stage is compiled sooner than four.
    shared |= {'model.backbone.out_indices': (0,), 'model.head.in_channels': 8}
    plain = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'plain')), shared)
    compiled = dict(backend='aot_eager', target='step')
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'run')), {'compile': compiled, **shared})
    log = next(run.glob('*/*.log')).read_text()
    assert 'torch.compile: step' in log and 'failed' not in log
    a, b = weights(plain, 'epoch_1.pth'), weights(run, 'epoch_1.pth')
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)
    with pytest.raises(ConfigError, match='compile: Invalid backend'):
        train(tiny_config, options={'compile': dict(backend='nonsense')})
