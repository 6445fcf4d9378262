"""Steps that are not finite stay away from the weights, on the host and on the device."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from mlcls.apis import TrainFlags, train
from mlcls.engine.guard import StepGuard
from mlcls.engine.optim import OptimWrapper
from mlcls.errors import TrainingError
from mlcls.fileio import read_checkpoint
from mlcls.registry import HOOKS


def wrapper_with(weight: torch.nn.Parameter, allowed: int = 0, several: bool = False, **settings: Any) -> OptimWrapper:
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=0.5, momentum=0.9), **settings)
    wrapper.guard = StepGuard(allowed, several)
    return wrapper


@pytest.mark.parametrize('several', [False, True])
@pytest.mark.parametrize('factor', [math.nan, math.inf, -math.inf])
def test_neither_a_loss_nor_a_gradient_reaches_the_weights(factor: float, several: bool) -> None:
    for spoil in (lambda loss, weight: loss * factor, lambda loss, weight: loss + (weight * 0).sqrt().sum()):
        weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        wrapper = wrapper_with(weight, several=several)
        wrapper.update_params((weight**2).sum())
        before, momentum = weight.clone(), wrapper.optimizer.state[weight]['momentum_buffer'].clone()
        assert wrapper.guard is not None and wrapper.guard.look() == 0
        wrapper.guard.iteration = 7
        wrapper.update_params(spoil((weight**2).sum(), weight))
        assert torch.equal(weight, before) and torch.equal(wrapper.optimizer.state[weight]['momentum_buffer'], momentum)
        assert wrapper.guard.look() == 1 and wrapper.guard.first_bad == 7 and wrapper.guard.look() == 0
        wrapper.update_params((weight**2).sum())
        assert torch.isfinite(weight).all() and not torch.equal(weight, before)


def test_a_finite_loss_is_the_same_number_for_several_ranks() -> None:
    for value in (0.1, 3e38, -1e-45, 0.0):
        loss = torch.tensor(value)
        assert StepGuard(several=True).mark(loss).item() == loss.item()


def test_a_loss_that_is_not_finite_spoils_all_gradients_for_several_ranks() -> None:
    """Else one rank would leave out its step, and the others would not."""
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    loss = a.sum() + b.sum() + torch.tensor(math.nan)
    StepGuard(several=True).mark(loss).backward()
    assert a.grad is not None and b.grad is not None and a.grad.isnan().all() and b.grad.isnan().all()


@pytest.mark.parametrize('allowed', [0, 3])
@pytest.mark.parametrize('kind', ['SGD', 'AdamW'])
def test_a_fused_optimiser_leaves_out_the_step_by_a_flag_on_the_device(kind: str, allowed: int) -> None:
    """The way of a GPU; fused optimisers of a CPU read the same flag."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5))
    optimizer = getattr(torch.optim, kind)([weight], lr=0.1, fused=True)
    guard = StepGuard(allowed)
    gradients = [torch.randn(5) for _ in range(6)]
    gradients[2][1] = math.nan
    kept = [weight.detach().clone()]
    for guard.iteration, gradient in enumerate(gradients):
        weight.grad = gradient.clone()
        guard._leave_to_device(torch.linalg.vector_norm(gradient), optimizer)
        optimizer.step()
        kept.append(weight.detach().clone())
    assert torch.equal(kept[2], kept[3]) and not torch.equal(kept[1], kept[2])
    # Without an allowance nothing moves any more, until the host has looked; otherwise only that step is left out.
    assert torch.equal(kept[3], kept[6]) == (allowed == 0)
    assert guard.look() == 1 and guard.first_bad == 2
    reference = torch.nn.Parameter(kept[0].clone())
    plain = getattr(torch.optim, kind)([reference], lr=0.1, fused=True)
    for gradient in gradients[:2] + (gradients[3:] if allowed else []):
        reference.grad = gradient.clone()
        plain.step()
    assert torch.equal(reference, weight)


@HOOKS.register_module(force=True)
class SpoilAt(Hook):
    """Multiplies the loss of given iterations by NaN."""

    def __init__(self, iterations: list[int], leave_out: bool = False) -> None:
        self.iterations, self.leave_out = iterations, leave_out

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        head = runner.model.head
        plain = type(head).loss.__get__(head)
        bad = runner.iter in self.iterations

        def loss(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
            return {name: value * (math.nan if bad else 1.0) for name, value in plain(*args, **kwargs).items()}

        head.loss = loss


def spoiled(iterations: list[int], **finite_loss: Any) -> dict[str, Any]:
    return {
        'custom_hooks': [dict(type='SpoilAt', iterations=iterations)],
        'default_hooks.finite_loss': dict(type='FiniteLossHook', **finite_loss),
        'default_hooks.checkpoint.max_keep_ckpts': 2,
    }


def test_a_run_ends_before_the_step_and_names_the_images(tiny_config: Path) -> None:
    with pytest.raises(
        TrainingError, match=r'became NaN or infinite in iteration 9 \(epoch 2\); the step was not made'
    ):
        train(tiny_config, options=spoiled([8]))
    run = tiny_config.parent / 'run'
    report = json.loads((run / 'nonfinite_iter_9.json').read_text())
    assert report['epoch'] == 2 and len(report['images']) == 8
    assert all(Path(image).is_file() for image in report['images']) and report['losses'] == {'loss': 'nan'}
    assert {entry['name'] for entry in report['tensors']} >= {'inputs', 'backbone.conv1', 'head.fc'}
    assert not report['first_not_finite'], 'the layers were finite; the loss was not'
    assert [path.name for path in run.glob('epoch_*.pth')] == ['epoch_1.pth']
    assert all(torch.isfinite(value).all() for value in read_checkpoint(run / 'epoch_1.pth')['state_dict'].values())


def test_the_images_are_those_of_the_step(tiny_config: Path) -> None:
    seen: list[Any] = []

    @HOOKS.register_module(force=True)
    class Remember(Hook):
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            seen.append([runner.train_dataloader.dataset.img_path(int(i)) for i in data_batch['index']])

    options = spoiled([8])
    options['custom_hooks'].append(dict(type='Remember'))
    with pytest.raises(TrainingError):
        train(tiny_config, options=options)
    assert json.loads((tiny_config.parent / 'run/nonfinite_iter_9.json').read_text())['images'] == seen[8]


def test_steps_may_be_left_out_up_to_a_number(tiny_config: Path, tmp_path: Path) -> None:
    run = train(tiny_config, options=spoiled([3, 8], skip=2))
    text = next(run.glob('*/*.log')).read_text()
    assert 'the step is left out (1 of 2 that may be)' in text and '(2 of 2 that may be)' in text
    state = read_checkpoint(run / 'epoch_4.pth')
    assert all(torch.isfinite(value).all() for value in state['state_dict'].values() if value.is_floating_point())
    assert state['hooks']['FiniteLossHook'] == {'skipped': 2}
    with pytest.raises(TrainingError, match='in iteration 16 .* after 2 that were left out'):
        train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'b')), spoiled([3, 8, 15], skip=2))


def test_a_resumed_run_has_no_new_allowance(tiny_config: Path) -> None:
    train(tiny_config, options={**spoiled([3], skip=1), 'train_cfg.max_epochs': 1})
    with pytest.raises(TrainingError, match='in iteration 9 .* after 1 that were left out'):
        train(tiny_config, TrainFlags(resume=True), spoiled([8], skip=1))
