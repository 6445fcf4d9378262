"""Losses against their formulas in float64, and what all of them must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models.losses import AsymmetricLoss, CrossEntropyLoss, FocalLoss, asymmetric_loss, focal_loss
from mlcls.registry import MODELS

SETTINGS = [
    dict(type='CrossEntropyLoss', use_sigmoid=True),
    dict(
        type='CrossEntropyLoss',
        use_sigmoid=True,
        pos_weight=[1.0, 2.0, 0.5, 3.0, 1.0],
        class_weight=[1.0, 0.25, 3.0, 1.0, 1.0],
    ),
    dict(type='CrossEntropyLoss', use_soft=True),
    dict(type='FocalLoss'),
    dict(type='FocalLoss', gamma=0.5, alpha=0.7),
    dict(type='AsymmetricLoss'),
    dict(type='AsymmetricLoss', gamma_pos=1, gamma_neg=2, clip=0.0),
    dict(type='AsymmetricLoss', gamma_pos=0.5, gamma_neg=0.5, clip=0.2),
]
IDS = [f'{cfg["type"]}-{number}' for number, cfg in enumerate(SETTINGS)]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_formula(cfg: dict, x: float, y: float, c: int, row: list[float]) -> float:
    """Loss of one logit, written from the papers with plain Python floats."""
    p = logistic(x)
    if cfg['type'] == 'CrossEntropyLoss' and cfg.get('use_soft'):
        return -y * (x - math.log(sum(math.exp(v) for v in row)))
    if cfg['type'] == 'CrossEntropyLoss':
        weight = cfg.get('class_weight', [1] * 5)[c]
        pos = cfg.get('pos_weight', [1] * 5)[c]
        return -weight * (pos * y * math.log(p) + (1 - y) * math.log(1 - p))
    if cfg['type'] == 'FocalLoss':
        gamma, alpha = cfg.get('gamma', 2), cfg.get('alpha', 0.25)
        return -y * alpha * (1 - p) ** gamma * math.log(p) - (1 - y) * (1 - alpha) * p**gamma * math.log(1 - p)
    g_pos, g_neg, clip = cfg.get('gamma_pos', 0), cfg.get('gamma_neg', 4), cfg.get('clip', 0.05)
    q = max(p - clip, 0)
    return -y * (1 - p) ** g_pos * math.log(p) - (1 - y) * q**g_neg * math.log(1 - q)


@pytest.mark.parametrize('cfg', SETTINGS, ids=IDS)
@pytest.mark.parametrize('kind', ['hard', 'soft', 'unknown'])
def test_agrees_with_the_formula(cfg: dict, kind: str) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (7, 5))
    targets = rng.integers(0, 2, (7, 5)).astype(float)
    if kind == 'soft':
        targets = rng.random((7, 5))
    if kind == 'unknown':
        targets[rng.random((7, 5)) < 0.3] = -1
    got = MODELS.build(dict(cfg)).double()(torch.tensor(logits), torch.tensor(targets), reduction_override='none')
    expected = [
        [0.0 if y < 0 else by_formula(cfg, x, y, c, list(row)) for c, (x, y) in enumerate(zip(row, labels))]
        for row, labels in zip(logits, targets)
    ]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize('cfg', SETTINGS, ids=IDS)
def test_gradient_is_that_of_the_value(cfg: dict) -> None:
    torch.manual_seed(0)
    # No logit near sigmoid(x) == clip, where the asymmetric loss has a kink.
    logits = torch.tensor(np.random.default_rng(0).uniform(-2, 3, (3, 5)), requires_grad=True)
    targets = torch.tensor(
        [[1.0, 0.0, -1.0, 0.3, 0.0], [0.0, 1.0, 1.0, 0.0, 0.9], [0.0, 0.0, 0.0, 1.0, -1.0]], dtype=torch.float64
    )
    loss = MODELS.build(dict(cfg)).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits)


@pytest.mark.parametrize('cfg', SETTINGS, ids=IDS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_finite_for_any_finite_logit(cfg: dict, dtype: torch.dtype) -> None:
    values = [0.0, 1e-3, 3.0, 12.0, 18.0, 25.0, 88.0, 1e3, 1e4]
    logits = torch.tensor([[v, -v, v, -v, v] for v in values], dtype=dtype, requires_grad=True)
    targets = torch.tensor([[1, 1, 0, 0, -1]], dtype=torch.int8).expand(len(values), 5)
    loss = MODELS.build(dict(cfg))(logits, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize('cfg', [cfg for cfg in SETTINGS if not cfg.get('use_soft')])
def test_a_hopeless_positive_still_teaches(cfg: dict) -> None:
    logit = torch.full((1, 5), -25.0, requires_grad=True)
    MODELS.build(dict(cfg))(logit, torch.ones(1, 5, dtype=torch.int8), reduction_override='sum').backward()
    assert (logit.grad < -0.05).all()


@pytest.mark.parametrize('cfg', [cfg for cfg in SETTINGS if not cfg.get('use_soft')])
def test_unknown_labels_change_nothing(cfg: dict) -> None:
    loss = MODELS.build(dict(cfg))
    logits = torch.randn(4, 5)
    targets = torch.randint(0, 2, (4, 5), dtype=torch.int8)
    targets[:, 2] = -1
    changed = logits.clone()
    changed[:, 2] = 100
    assert torch.equal(
        loss(logits, targets, reduction_override='sum'), loss(changed, targets, reduction_override='sum')
    )


def test_float32_inside_autocast() -> None:
    logits = torch.randn(4, 5)
    targets = torch.randint(0, 2, (4, 5))
    loss = FocalLoss()
    with torch.autocast('cpu', torch.bfloat16):
        inside = loss(logits, targets)
    assert inside.dtype == torch.float32 and torch.equal(inside, loss(logits, targets))


def test_reductions_and_weights() -> None:
    logits, targets = torch.randn(4, 5), torch.randint(0, 2, (4, 5))
    loss = CrossEntropyLoss(use_sigmoid=True, loss_weight=2.0)
    each = loss(logits, targets, reduction_override='none')
    torch.testing.assert_close(loss(logits, targets), each.mean())
    torch.testing.assert_close(loss(logits, targets, avg_factor=4), each.sum() / 4)
    torch.testing.assert_close(loss(logits, targets, reduction_override='sum'), each.sum())
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5])
    torch.testing.assert_close(loss(logits, targets, weight=weight, reduction_override='none'), each * weight[:, None])
    torch.testing.assert_close(
        loss(logits, targets, weight=weight[:, None].expand(4, 5), avg_factor=4), (each * weight[:, None]).sum() / 4
    )


def test_asymmetric_with_no_asymmetry_is_binary_cross_entropy() -> None:
    logits, targets = torch.randn(4, 5).double(), torch.rand(4, 5).double()
    torch.testing.assert_close(
        asymmetric_loss(logits, targets, 0, 0, 0),
        torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction='none'),
        rtol=1e-9,
        atol=1e-12,
    )


def test_focal_against_torchvision() -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, targets = torch.randn(4, 5), torch.randint(0, 2, (4, 5)).float()
    torch.testing.assert_close(focal_loss(logits, targets), sigmoid_focal_loss(logits, targets))


def test_easy_negatives_cost_nothing_after_the_margin() -> None:
    logits = torch.tensor([[-4.0, -3.0]], requires_grad=True)  # sigmoid: .018, .047, both below .05
    loss = AsymmetricLoss(clip=0.05)(logits, torch.zeros(1, 2), reduction_override='sum')
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12) and (logits.grad == 0).all()


def test_links() -> None:
    logits = torch.randn(3, 5)
    torch.testing.assert_close(CrossEntropyLoss(use_sigmoid=True).link(logits), logits.sigmoid())
    torch.testing.assert_close(CrossEntropyLoss(use_soft=True).link(logits).sum(1), torch.ones(3))
    assert FocalLoss().link(logits.half()).dtype == torch.float32


@pytest.mark.parametrize(
    'cfg, words',
    [
        (dict(type='CrossEntropyLoss'), 'use_sigmoid=True'),
        (dict(type='CrossEntropyLoss', use_sigmoid=True, use_soft=True), 'exclude each other'),
        (dict(type='CrossEntropyLoss', use_soft=True, pos_weight=2.0), 'pos_weight needs use_sigmoid'),
        (dict(type='FocalLoss', reduction='avg'), "unknown reduction 'avg'"),
        (dict(type='AsymmetricLoss', clip=1.5), r'clip must be in \[0, 1\)'),
        (dict(type='AsymmetricLoss', use_sigmoid=False), 'single-label'),
    ],
)
def test_settings_that_cannot_work_are_refused(cfg: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MODELS.build(cfg)
