"""The head alone first, then everything: what moves when, resumed, over two processes, with other parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mmengine.hooks import Hook

from mlcls.apis import TrainFlags, train
from mlcls.engine.hooks import HeadFirstHook
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint
from mlcls.registry import HOOKS

from .ranks import TOOLS, launch

Options = dict[str, Any]
PRECISE = "dict(type='PreciseBNHook', num_batches=2)"


def with_hook(config: Path, *hooks: str) -> Path:
    config.write_text(config.read_text() + f'custom_hooks = [{", ".join(hooks)}]\n')
    return config


def state(run: Path, epoch: int) -> dict[str, Any]:
    return read_checkpoint(run / f'epoch_{epoch}.pth')


def moved(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {name for name in a['state_dict'] if not torch.equal(a['state_dict'][name], b['state_dict'][name])}


HEAD = {'head.fc.weight', 'head.fc.bias'}
#: Weight decay and clipping, which would move parameters that have no gradient or see those of frozen ones.
HARD: Options = {
    'optim_wrapper.optimizer.weight_decay': 0.1,
    'optim_wrapper.clip_grad': dict(max_norm=0.5),
    'train_cfg.max_epochs': 3,
}


def test_only_the_head_moves_at_first(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = with_hook(tiny_config, "dict(type='HeadFirstHook', epochs=2)")
    run = train(path, TrainFlags(validate=False), {**HARD, 'model.backbone.frozen_stages': 1})
    one, two, three = (state(run, epoch) for epoch in (1, 2, 3))
    assert moved(one, two) == HEAD  # statistics of batch normalisation stand still, too
    assert len(two['optimizer']['state']) == 2
    last = moved(two, three)
    assert last > HEAD and 'backbone.layer2.0.bn1.running_mean' in last and 'backbone.layer4.1.conv2.weight' in last
    assert not any(name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.layer1')) for name in last)
    out = capsys.readouterr().out
    assert 'head first: ResNet is frozen for the first 2 epoch(s)' in out
    assert 'head first: from epoch 3, iteration 13 on the backbone is trained, too' in out


def test_the_backbone_of_the_first_phase_is_the_one_it_began_with(tiny_config: Path) -> None:
    """Phase 1 equals a run whose backbone is frozen for good, up to the state that training mode would leave."""
    path = with_hook(tiny_config, "dict(type='HeadFirstHook', epochs=1)")
    options = {**HARD, 'train_cfg.max_epochs': 1}
    first = state(train(path, TrainFlags(validate=False), options), 1)
    frozen = {**options, 'custom_hooks': None, 'model.backbone.frozen_stages': 4}
    flags = TrainFlags(validate=False, work_dir=str(tiny_config.parent / 'frozen'))
    assert not moved(first, state(train(path, flags, frozen), 1))


@HOOKS.register_module(force=True)
class SpyHook(Hook):
    """Notes, in each step, whether features would need a backward pass and the mode of the backbone."""

    seen: ClassVar[list[tuple[bool, bool]]] = []

    def before_train(self, runner: Any) -> None:
        SpyHook.seen = []
        runner.model.backbone.register_forward_hook(
            lambda module, inputs, output: self.seen.append((output[-1].requires_grad, module.training))
        )


def test_by_iterations_the_backbone_is_without_gradient_until_then(tiny_config: Path) -> None:
    path = with_hook(tiny_config, "dict(type='HeadFirstHook', iterations=8)", "dict(type='SpyHook')")
    train(path, TrainFlags(validate=False), {'train_cfg.max_epochs': 2})
    assert SpyHook.seen == [(False, False)] * 8 + [(True, True)] * 4


@pytest.mark.parametrize('stop', [1, 2], ids=['frozen', 'thawed'])
def test_resumed_equals_uninterrupted_bit_for_bit(tiny_config: Path, tmp_path: Path, stop: int) -> None:
    path = with_hook(tiny_config, f"dict(type='HeadFirstHook', {'epochs=1' if stop == 2 else 'iterations=9'})")
    options = {
        **HARD,
        'optim_wrapper.constructor': 'LayerDecayOptimWrapperConstructor',
        'optim_wrapper.paramwise_cfg': dict(layer_decay_rate=0.7),
    }
    run = train(path, TrainFlags(work_dir=str(tmp_path / 'run'), validate=False), options)
    whole = state(run, 3)
    for epoch in range(stop + 1, 4):
        (run / f'epoch_{epoch}.pth').unlink()
    (run / 'last_checkpoint').write_text(f'epoch_{stop}.pth\n')
    train(path, TrainFlags(work_dir=str(run), resume=True, validate=False), options)
    again = state(run, 3)
    assert not moved(whole, again) and whole['param_schedulers'] == again['param_schedulers']
    ours, theirs = (each['optimizer']['state'] for each in (whole, again))
    assert ours.keys() == theirs.keys() and len(ours) == 62  # all parameters of ResNet-18 and the head
    assert all(torch.equal(ours[key]['momentum_buffer'], theirs[key]['momentum_buffer']) for key in ours)


def test_two_processes(tiny_config: Path, tmp_path: Path) -> None:
    """No process waits for gradients that do not come, before and after the thaw; both then hold the same weights."""
    spy = """
import torch
from mmengine.hooks import Hook
from mlcls.registry import HOOKS
from mmengine.dist import all_gather
@HOOKS.register_module()
class SameWeightsHook(Hook):
    def after_train_epoch(self, runner):
        model = runner.model.module
        total = torch.stack([value.double().sum() for value in model.state_dict().values()])
        first, second = all_gather(total)
        norm = model.backbone.bn1.running_mean
        assert torch.equal(first, second), 'ranks differ'
        print(f'epoch {runner.epoch}: same, {int(norm.abs().sum() > 0)}\\n', end='', flush=True)
"""
    (tmp_path / 'spy_hook.py').write_text(spy)
    script = tmp_path / 'start.py'
    script.write_text(
        f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\nsys.argv[0] = sys.argv.pop(1)\n'
        "from runpy import run_path\nrun_path(sys.argv[0], run_name='__main__')\n"
    )
    path = with_hook(
        tiny_config,
        "dict(type='HeadFirstHook', epochs=1)",
        PRECISE,
        "dict(type='SameWeightsHook', priority='VERY_LOW')",
    )
    path.write_text(path.read_text() + "custom_imports = dict(imports=['spy_hook'])\n")
    arguments = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=2', 'optim_wrapper.clip_grad.max_norm=1.0']
    done = launch(script, TOOLS / 'train.py', path, '--work-dir', tmp_path / 'two', *arguments)
    assert done.returncode == 0, done.stdout[-3000:]
    # In the second epoch normalisation is re-estimated from the images of both.
    assert done.stdout.count('epoch 0: same, 0') == done.stdout.count('epoch 1: same, 1') == 2
    assert done.stdout.count('exact statistics of the trained weights over 2 training batches') == 1
    one, two = (state(tmp_path / 'two', epoch) for epoch in (1, 2))
    assert moved(one, two) > HEAD and len(one['optimizer']['state']) == 2


@pytest.mark.parametrize(
    'arguments, words',
    [
        ({}, 'give epochs or iterations, and one of them only'),
        (dict(epochs=1, iterations=1), 'give epochs or iterations, and one of them only'),
        (dict(epochs=0), 'epochs must be a whole number of at least 1, got 0'),
        (dict(iterations=2.5), 'iterations must be a whole number of at least 1, got 2.5'),
    ],
)
def test_arguments_that_cannot_be(arguments: Options, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        HeadFirstHook(**arguments)


def test_a_backbone_that_never_trains_is_refused(tiny_config: Path) -> None:
    path = with_hook(tiny_config, "dict(type='HeadFirstHook', epochs=1)")
    with pytest.raises(ConfigError, match='nothing of model.backbone is trained, so there is nothing to thaw'):
        train(path, TrainFlags(validate=False), {'model.backbone.frozen_stages': 4})


def test_a_model_without_a_backbone() -> None:
    class FakeRunner:
        model = torch.nn.Linear(2, 2)

    with pytest.raises(ConfigError, match='the model needs a backbone and a head'):
        HeadFirstHook(epochs=1).before_train(FakeRunner())


def test_a_training_that_ends_before_the_thaw_is_said(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = with_hook(tiny_config, "dict(type='HeadFirstHook', iterations=6)")
    train(path, TrainFlags(validate=False), {'train_cfg.max_epochs': 1})
    assert 'warning: head first: the training ends before the backbone is trained' in capsys.readouterr().out


def test_frozen_weights_are_one_line_of_the_log(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {'model.backbone.frozen_stages': 4, 'train_cfg.max_epochs': 1}
    options |= {'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0), 'optim_wrapper.optimizer.weight_decay': 1e-4}
    train(tiny_config, TrainFlags(validate=False), options)
    out = capsys.readouterr().out
    assert 'frozen: 60 of 62 tensors of weights are not trained' in out and 'is skipped' not in out
