"""What every loss must keep: finite numbers, reductions, weights, types, memory layouts, copies."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from .cases import CLASSES, IMAGES, build, call, every_loss, example, gradient, summed

TARGET_TYPES = [torch.bool, torch.uint8, torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float32]
FLOATS = [torch.float16, torch.bfloat16, torch.float32]


def extreme(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits up to +-1e4 of both signs under every target, (12, CLASSES)."""
    values = [0.0, 1e-3, 3.0, 12.0, 18.0, 25.0, 45.0, 88.0, 104.0, 300.0, 1e3, 1e4]
    logits = torch.tensor([[v, -v, v, -v, v] for v in values], dtype=dtype)
    return logits, torch.tensor([[1, 1, 0, 0, -1]], dtype=torch.int8).expand(len(values), CLASSES)


@every_loss()
@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('epoch', [0, 2])
def test_finite_for_any_finite_logit(cfg: dict[str, Any], dtype: torch.dtype, epoch: int) -> None:
    loss = build(cfg).float()
    loss.start_epoch(epoch)
    logits, targets = extreme(dtype)
    for own in (targets, 1 - targets.clamp(min=0), targets * 0 + 1, targets * 0, targets * 0 - 1, targets * 0 + 0.3):
        for shown in (logits, logits.flip(1), -logits):
            value = call(loss, shown, own)
            slope = gradient(loss, shown, own, **summed(loss))
            assert value.dtype == torch.float32 and slope.dtype == dtype
            assert torch.isfinite(value) and torch.isfinite(slope).all()


@pytest.mark.parametrize('clip', [1e-9, 1e-7, 1e-4, 0.999])
@pytest.mark.parametrize('gamma_neg', [0, 0.5, 4])
def test_finite_for_any_margin(clip: float, gamma_neg: float) -> None:
    loss = build(dict(type='AsymmetricLoss', clip=clip, gamma_neg=gamma_neg)).float()
    logits, targets = extreme(torch.float32)
    assert torch.isfinite(loss(logits, targets)) and torch.isfinite(gradient(loss, logits, targets)).all()


@every_loss(without=('WeightedSum',))
@pytest.mark.parametrize('dtype', FLOATS)
def test_a_hopeless_positive_still_teaches(cfg: dict[str, Any], dtype: torch.dtype) -> None:
    """One positive at logit -25 among easy negatives keeps a hundredth of the greatest gradient of the loss."""
    loss = build(cfg).float()
    targets = torch.zeros(1, CLASSES)
    targets[0, 0] = 1
    slopes = []
    for x in [*np.linspace(-25, 10, 36)]:
        logits = torch.full((1, CLASSES), -3.0, dtype=dtype)
        logits[0, 0] = x
        slopes.append(-gradient(loss, logits, targets, **summed(loss))[0, 0].item())
    assert slopes[0] >= 0.01 * max(slopes) > 0


@every_loss()
def test_float32_inside_autocast(cfg: dict[str, Any]) -> None:
    loss = build(cfg).float()
    logits, targets = example('unknown')
    with torch.autocast('cpu', torch.bfloat16):
        inside = call(loss, logits.float(), targets)
        low = call(loss, logits.bfloat16(), targets)
    outside = call(build(cfg).float(), logits.float(), targets)
    assert inside.dtype == low.dtype == torch.float32
    torch.testing.assert_close(inside, outside)


@pytest.mark.gpu
@every_loss()
def test_same_on_a_gpu(cfg: dict[str, Any]) -> None:
    logits, targets = example('unknown')
    here, there = build(cfg), build(cfg).cuda()
    index = torch.arange(len(logits))
    with torch.autocast('cuda', torch.float16):
        got = there(logits.cuda(), targets.cuda(), index=index.cuda())
    torch.testing.assert_close(got.cpu(), here(logits, targets, index=index))


@every_loss(without=('WeightedSum',))
def test_reductions_and_factors(cfg: dict[str, Any]) -> None:
    logits, targets = example('unknown')
    loss = build(cfg)
    mean = call(loss, logits, targets)
    twice = build({**cfg, 'loss_weight': 2.0})
    torch.testing.assert_close(call(twice, logits, targets), 2 * mean)
    if loss.unit == 'batch':
        return
    each = call(loss, logits, targets, reduction_override='none')
    assert each.shape == (logits.shape if loss.unit == 'label' else logits.shape[:1])
    torch.testing.assert_close(mean, each.mean())
    torch.testing.assert_close(call(loss, logits, targets, avg_factor=4), each.sum() / 4)
    torch.testing.assert_close(call(loss, logits, targets, reduction_override='sum'), each.sum())
    for reduction in ('none', 'sum'):
        by_name = call(build({**cfg, 'reduction': reduction}), logits, targets)
        torch.testing.assert_close(by_name, each if reduction == 'none' else each.sum())
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.0, 1.0, 3.0])
    weighted = each * (weight if each.dim() == 1 else weight[:, None])
    torch.testing.assert_close(call(loss, logits, targets, weight=weight, reduction_override='none'), weighted)
    torch.testing.assert_close(call(loss, logits, targets, weight=weight, avg_factor=4), weighted.sum() / 4)
    torch.testing.assert_close(call(loss, logits, targets, weight=weight), weighted.mean())
    if loss.unit == 'label':
        full = torch.rand(logits.shape)
        torch.testing.assert_close(
            call(loss, logits, targets, weight=full, reduction_override='none'), each * full, check_dtype=False
        )


def test_weighted_sum_hands_everything_on() -> None:
    logits, targets = example('unknown')
    parts = [dict(type='FocalLoss', loss_weight=3.0), dict(type='MultiLabelSoftMarginLoss'), dict(type='TwoWayLoss')]
    total = build(dict(type='WeightedSum', losses=parts, weights=[2.0, 0.5, 0.25]))
    single = [call(build(part), logits, targets, avg_factor=7) for part in parts]
    expected = 2 * single[0] + 0.5 * single[1] + 0.25 * single[2]
    torch.testing.assert_close(call(total, logits, targets, avg_factor=7), expected)
    remembering = build(
        dict(type='WeightedSum', losses=[dict(type='RoleLoss'), dict(type='LargeLoss', mode='correct_permanent')])
    )
    assert torch.isfinite(call(remembering, logits, targets))


@every_loss()
def test_no_images(cfg: dict[str, Any]) -> None:
    loss = build(cfg)
    for epoch in (0, 2):
        loss.start_epoch(epoch)
        logits = torch.zeros(0, CLASSES, requires_grad=True)
        value = call(loss, logits, torch.zeros(0, CLASSES))
        value.backward()
        assert value.item() == 0 and logits.grad.shape == (0, CLASSES)


@every_loss()
@pytest.mark.parametrize('dtype', TARGET_TYPES, ids=str)
def test_types_of_targets(cfg: dict[str, Any], dtype: torch.dtype) -> None:
    logits, targets = example('hard')
    for settings in [cfg] if cfg['type'] == 'WeightedSum' else [cfg, {**cfg, 'unknown': 'negative'}]:
        for epoch in (0, 2):
            got, expected = build(settings), build(settings)
            got.start_epoch(epoch)
            expected.start_epoch(epoch)
            torch.testing.assert_close(call(got, logits, targets.to(dtype)), call(expected, logits, targets))


@every_loss()
def test_memory_layout_does_not_matter(cfg: dict[str, Any]) -> None:
    logits, targets = example('unknown')
    expected = gradient(build(cfg), logits, targets)
    odd = torch.empty(CLASSES, len(logits), 2, dtype=torch.float64)
    odd[..., 0], odd[..., 1] = logits.T, torch.nan
    scattered = odd[..., 0].T
    assert not scattered.is_contiguous()
    torch.testing.assert_close(gradient(build(cfg), scattered, targets.T.contiguous().T), expected)
    row = logits[:1].expand(3, CLASSES)
    torch.testing.assert_close(
        call(build(cfg), row, targets[:3]).detach(), call(build(cfg), row.clone(), targets[:3]).detach()
    )


@every_loss()
def test_inputs_stay_as_they_are(cfg: dict[str, Any]) -> None:
    logits, targets = example('unknown')
    loss = build(cfg)
    loss.start_epoch(2)
    before = logits.clone(), targets.clone()
    gradient(loss, logits, targets)
    loss.link(logits)
    assert torch.equal(logits, before[0]) and torch.equal(targets, before[1])


@every_loss()
def test_copies_after_use(cfg: dict[str, Any]) -> None:
    logits, targets = example('unknown')
    loss = build(cfg)
    loss.start_epoch(1)
    call(loss, logits.requires_grad_(), targets).backward()
    loss.link(logits)
    copied = copy.deepcopy(loss)
    assert copied.epoch == 1
    torch.testing.assert_close(copied.link(logits), loss.link(logits))
    torch.testing.assert_close(call(copied, logits, targets), call(loss, logits, targets))


@every_loss()
def test_order_of_images_does_not_matter(cfg: dict[str, Any]) -> None:
    logits, targets = example('unknown', images=IMAGES)
    loss = build(cfg)
    order = torch.randperm(IMAGES)
    torch.testing.assert_close(
        loss(logits[order], targets[order], index=order), loss(logits, targets, index=torch.arange(IMAGES))
    )
