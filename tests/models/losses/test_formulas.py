"""Values of the losses against the published formulas, and against torch and torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mlcls.models.losses import (
    HillLoss,
    LargeLoss,
    MultiLabelLoss,
    MultiLabelSoftMarginLoss,
    PartialAsymmetricLoss,
    asymmetric_loss,
    focal_loss,
)
from mlcls.registry import MODELS

from .cases import SETTINGS, build, call, example, training_labels
from .reference import FORMULAS, Context

#: Epochs whose formulas differ.
EPOCHS = {'SPLCLoss': (0, 1, 2), 'LargeLoss': (0, 1, 2, 5)}
CASES = [(cfg, epoch) for cfg in SETTINGS for epoch in EPOCHS.get(cfg['type'], (0,))]


def test_every_loss_is_in_the_table() -> None:
    registered = {
        name
        for name, made in MODELS.module_dict.items()
        if issubclass(made, MultiLabelLoss) and made.__module__.startswith('mlcls.')
    }
    assert registered == {cfg['type'] for cfg in SETTINGS} == set(FORMULAS)


@pytest.mark.parametrize('cfg, epoch', CASES, ids=[f'{cfg["type"]}-{n}' for n, (cfg, _) in enumerate(CASES)])
@pytest.mark.parametrize('kind', ['hard', 'soft', 'unknown'])
@pytest.mark.parametrize('seed', [1, 2])
def test_agrees_with_the_formula(cfg: dict[str, Any], epoch: int, kind: str, seed: int) -> None:
    logits, targets = example(kind, seed)
    loss = build(cfg)
    loss.start_epoch(epoch)
    estimates = loss.label_logits.detach().numpy() if cfg['type'] == 'RoleLoss' else None
    context = Context(training_labels(), epoch, estimates)
    expected = FORMULAS[cfg['type']](cfg, logits.numpy(), targets.numpy(), context)
    got = call(loss, logits, targets, reduction_override='mean' if loss.unit == 'batch' else 'none')
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-7, atol=1e-9)


def test_multi_label_soft_margin_against_torch() -> None:
    logits, targets = example('hard')
    weight = torch.tensor([1.0, 0.25, 3.0, 1.0, 1.0])
    loss = MultiLabelSoftMarginLoss(weight=weight.tolist())
    torch.testing.assert_close(loss(logits, targets), F.multilabel_soft_margin_loss(logits, targets, weight))
    torch.testing.assert_close(
        MultiLabelSoftMarginLoss()(logits, targets, reduction_override='none'),
        F.multilabel_soft_margin_loss(logits, targets, reduction='none'),
    )


@pytest.mark.parametrize('gamma', [0, 0.5, 2])
@pytest.mark.parametrize('alpha', [0.25, 0.7])
def test_focal_against_torchvision(gamma: float, alpha: float) -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, targets = example('hard')  # torchvision mixes p and 1 - p through soft targets
    torch.testing.assert_close(
        focal_loss(logits, targets, gamma, alpha), sigmoid_focal_loss(logits, targets, alpha, gamma)
    )


def test_asymmetric_with_no_asymmetry_is_binary_cross_entropy() -> None:
    logits, targets = example('soft')
    torch.testing.assert_close(
        asymmetric_loss(logits, targets, 0, 0, 0),
        F.binary_cross_entropy_with_logits(logits, targets, reduction='none'),
        rtol=1e-9,
        atol=1e-12,
    )


def test_easy_negatives_cost_nothing_after_the_margin() -> None:
    logits = torch.tensor([[-4.0, -3.0]], requires_grad=True)  # sigmoid: .018, .047, both below .05
    loss = MODELS.build(dict(type='AsymmetricLoss', clip=0.05))(logits, torch.zeros(1, 2), reduction_override='sum')
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12) and (logits.grad == 0).all()


def test_hill_takes_the_weight_off_negatives_of_high_score() -> None:
    logits = torch.linspace(-6, 8, 200, dtype=torch.float64)[None].requires_grad_()
    HillLoss()(logits, torch.zeros(1, 200), reduction_override='sum').backward()
    # d/dp (1.5 - p) p^2 times p (1 - p) is 3 p^2 (1 - p)^2: greatest at p = 1/2.
    p = logits.detach().sigmoid()
    torch.testing.assert_close(logits.grad, 3 * p**2 * (1 - p) ** 2)


@pytest.mark.parametrize('epoch, share, count', [(3, 0.1, 3), (7, 0.1, 7), (6, 0.05, 3), (1, 0.0001, 1), (9, 0.5, 10)])
def test_large_loss_drops_the_right_number(epoch: int, share: float, count: int) -> None:
    logits, targets = torch.randn(2, 5), torch.zeros(2, 5)
    loss = LargeLoss(delta_rel=share)
    loss.start_epoch(epoch)
    dropped = loss(logits, targets, reduction_override='none') == 0
    assert dropped.sum() == count
    assert logits[dropped].min() >= logits[~dropped].max() if count < 10 else True


def test_selective_sets_aside_some_labels_of_every_image_on_average() -> None:
    """``likelihood_topk`` is a number an image: the authors take ``likelihood_topk x batch size`` of a batch."""
    loss = PartialAsymmetricLoss(likelihood_topk=2, prior=[0.0] * 5)
    logits = torch.randn(6, 5)
    free = loss(logits, torch.full((6, 5), -1.0), reduction_override='none') == 0
    assert free.sum() == 2 * 6
    assert logits[free].min() > logits[~free].max()


def test_selective_leaves_frequent_classes_out() -> None:
    loss = PartialAsymmetricLoss(likelihood_topk=0, prior=[0.0, 0.51, 0.5, 1.0, 0.2])
    each = loss(torch.randn(6, 5), torch.full((6, 5), -1.0), reduction_override='none')
    assert (each == 0).all(0).tolist() == [False, True, False, True, False]


def test_two_way_depends_on_differences_alone() -> None:
    logits, targets = example('hard')
    targets[0], targets[:, 1] = 1, 1  # an image and a class without negatives
    loss = build(dict(type='TwoWayLoss', t_pos=1.0))
    torch.testing.assert_close(loss(logits + 3.0, targets), loss(logits, targets))
