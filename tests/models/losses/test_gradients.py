"""Gradients: those of the values, and where weights are constants, those of the values with constant weights."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mlcls.models.losses import AsymmetricLoss, FocalLoss, PartialAsymmetricLoss
from mlcls.models.losses.fused import BLOCK

from .cases import CLASSES, build, call, every_loss, gradient, summed

GAMMAS = (0, 0.5, 1, 2, 3, 4, 2.5)
#: Hard, soft and unknown targets.
TARGETS = torch.tensor(
    [[1.0, 0.0, -1.0, 0.3, 0.0], [0.0, 1.0, 1.0, 0.0, 0.9], [0.0, 0.0, 0.0, 1.0, -1.0]], dtype=torch.float64
)


def spread(low: float = -2.0, high: float = 3.0) -> torch.Tensor:
    """Logits (3, CLASSES), all well apart: no ties in selections, none at a margin or a threshold of the settings."""
    order = np.random.default_rng(0).permutation(3 * CLASSES)
    return torch.tensor(np.linspace(low, high, 3 * CLASSES)[order].reshape(3, CLASSES), requires_grad=True)


def eager_asymmetric(x: torch.Tensor, y: torch.Tensor, g_pos: float, g_neg: float, clip: float) -> torch.Tensor:
    """Asymmetric loss with weights that are constants, by autograd."""
    p = x.sigmoid()
    q = (p - clip).clamp(min=0)
    labels = y.clamp(min=0)
    loss = -labels * ((1 - p) ** g_pos).detach() * F.logsigmoid(x) - (1 - labels) * (q**g_neg).detach() * (1 - q).log()
    return loss * (y >= 0)


@every_loss(without=('PartialAsymmetricLoss',))
@pytest.mark.parametrize('epoch', [0, 2])
def test_gradient_is_that_of_the_value(cfg: dict[str, Any], epoch: int) -> None:
    if cfg.get('detach_weight'):
        pytest.skip('its gradient is not that of its value; see below')
    loss = build(cfg)
    loss.start_epoch(epoch)
    if cfg.get('mode') == 'correct_permanent' and epoch:
        pytest.skip('its value changes from call to call: it remembers')
    if cfg['type'] == 'RoleLoss':
        # Both sides are trained with the other one fixed: only the network's half can be seen from its value.
        pytest.skip('parts of its gradient are stopped; see below')
    assert torch.autograd.gradcheck(lambda x: call(loss, x, TARGETS), spread())
    assert torch.autograd.gradcheck(lambda x: call(loss, x, TARGETS, **summed(loss)), spread())


@pytest.mark.parametrize('gamma_pos', GAMMAS)
@pytest.mark.parametrize('gamma_neg', GAMMAS)
@pytest.mark.parametrize('clip', [0, 0.05, 0.2])
def test_asymmetric_gradient(gamma_pos: float, gamma_neg: float, clip: float) -> None:
    loss = AsymmetricLoss(gamma_pos, gamma_neg, clip)
    for low, high in ((-2.5, 3.0), (-9.0, -5.0), (4.0, 9.0)):
        assert torch.autograd.gradcheck(
            lambda x: loss(x, TARGETS, reduction_override='none'), spread(low, high), atol=1e-6
        )


@pytest.mark.parametrize('gamma', GAMMAS)
@pytest.mark.parametrize('alpha', [0, 0.25, 1])
def test_focal_gradient(gamma: float, alpha: float) -> None:
    loss = FocalLoss(gamma, alpha)
    for low, high in ((-2.0, 3.0), (-9.0, -5.0), (4.0, 9.0)):
        assert torch.autograd.gradcheck(lambda x: loss(x, TARGETS, reduction_override='none'), spread(low, high))


@pytest.mark.parametrize('gamma_pos, gamma_neg, clip', itertools.product((0, 0.5, 2), (0, 1, 2.5, 4), (0, 0.05, 0.2)))
def test_constant_weights(gamma_pos: float, gamma_neg: float, clip: float) -> None:
    loss = AsymmetricLoss(gamma_pos, gamma_neg, clip, detach_weight=True)
    logits = spread(-6, 6)
    eager = eager_asymmetric(logits, TARGETS, gamma_pos, gamma_neg, clip)
    torch.testing.assert_close(loss(logits, TARGETS, reduction_override='none'), eager, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(loss(logits, TARGETS, reduction_override='sum'), logits)[0],
        torch.autograd.grad(eager.sum(), logits)[0],
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize('mode', ['ignore', 'negative', 'selective'])
@pytest.mark.parametrize('clip', [0.0, 0.05])
def test_constant_weights_of_partial_labels(mode: str, clip: float) -> None:
    # No label is set aside: which ones are is tested with the formula.
    loss = PartialAsymmetricLoss(1, 2, 4, clip, mode=mode, likelihood_topk=0, prior=[0.0] * CLASSES)
    logits = spread(-4, 4)
    eager = eager_asymmetric(logits, TARGETS, 1, 2, clip)
    if mode != 'ignore':
        eager = eager + (TARGETS == -1) * eager_asymmetric(logits, torch.zeros_like(TARGETS), 1, 4, clip)
    torch.testing.assert_close(
        torch.autograd.grad(loss(logits, TARGETS, reduction_override='sum'), logits)[0],
        torch.autograd.grad(eager.sum(), logits)[0],
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize('epr_weight', [0.0, 1.0])
def test_role_trains_each_side_with_the_other_one_fixed(epr_weight: float) -> None:
    loss = build(dict(type='RoleLoss', expected_positives=1.5, epr_weight=epr_weight))
    logits = spread()
    targets = TARGETS.clamp(min=0)
    got = torch.autograd.grad(call(loss, logits, targets, reduction_override='sum'), [logits, loss.label_logits])
    q = loss.label_logits[:3].detach().requires_grad_()
    for own, other, gradient_of in ((logits, q, got[0]), (q, logits, got[1][:3])):
        p = own.sigmoid()
        expected = (p - other.sigmoid()) - targets * (1 - p)
        # Each of the 3 x C labels carries the penalty ((mean over images of sum p) - k)^2 / C^2.
        penalty = 2 * (p.sum(1).mean() - 1.5) / CLASSES**2 * p * (1 - p) / 3
        torch.testing.assert_close(gradient_of, 0.5 * (expected + epr_weight * 3 * CLASSES * penalty).detach())
    assert (got[1][3:] == 0).all()  # estimates of images that are not in the batch


@every_loss()
def test_gradient_of_a_weighted_loss_is_the_weighted_gradient(cfg: dict[str, Any]) -> None:
    loss = build(cfg)
    if loss.unit == 'batch':
        pytest.skip('takes no weights')
    factors = torch.tensor([0.0, 2.0, 0.5], dtype=torch.float64)
    logits = spread().detach()
    weighted = gradient(loss, logits, TARGETS, weight=factors, reduction_override='sum')
    if cfg['type'] == 'RoleLoss':
        assert torch.isfinite(weighted).all()  # the penalty ties the images of a batch
        return
    plain = gradient(loss, logits, TARGETS, reduction_override='sum')
    torch.testing.assert_close(weighted, plain * factors[:, None])


@every_loss('FocalLoss', 'AsymmetricLoss')
@pytest.mark.parametrize('reduction', ['sum', 'none'])
def test_blocks_meet_without_a_seam(cfg: dict[str, Any], reduction: str) -> None:
    """Fused losses run block by block; a batch of several blocks is the same as its images one by one."""
    images, classes = 5, BLOCK // 3 + 7
    logits = torch.randn(classes, images, dtype=torch.float64).T  # not contiguous
    targets = torch.randint(-1, 2, (classes, images)).T
    loss = build({key: value for key, value in cfg.items()})
    together = gradient(loss, logits, targets, reduction_override=reduction)
    alone = [gradient(loss, logits[n : n + 1], targets[n : n + 1], reduction_override=reduction) for n in range(images)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=0)
    each = loss(logits, targets, reduction_override='none')
    torch.testing.assert_close(loss(logits, targets, reduction_override='sum'), each.sum())
