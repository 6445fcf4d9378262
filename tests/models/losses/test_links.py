"""What a score means: links are in order, have the computed values, and give back the prevalence trained on."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from mlcls.models.losses import MultiLabelLoss
from mlcls.structures import LabelMatrix, LabelStatistics

from .cases import CLASSES, SETTINGS, build, every_loss, names, training_labels

#: Further settings whose links are easily wrong.
MORE: list[dict[str, Any]] = [
    dict(type='EntropyMaximizationLoss', alpha=0.01),
    dict(type='HillLoss', lamb=1.0),
    dict(type='AsymmetricLoss', gamma_neg=2, clip=0.0),
    dict(type='WeightedSum', losses=[dict(type='WeakAssumeNegativeLoss')]),
    dict(type='WeightedSum', losses=[dict(type='LabelSmoothLoss', mode='original', label_smooth_val=0.2)]),
    dict(type='WeightedSum', losses=[dict(type='LabelSmoothLoss'), dict(type='AsymmetricLoss')]),
    dict(type='WeightedSum', losses=[dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight=[1, 2, 3, 4, 5])]),
    dict(type='WeightedSum', losses=[dict(type='ClassBalancedLoss', gamma=2.0), dict(type='FocalLoss')]),
    dict(type='WeightedSum', losses=[dict(type='EntropyMaximizationLoss', unknown='unobserved')]),
]
TABLE = SETTINGS + MORE
IDS = names(SETTINGS) + [f'{cfg["type"]}-more{number}' for number, cfg in enumerate(MORE)]
with_links = pytest.mark.parametrize('cfg', TABLE, ids=IDS)
#: Logits beyond it have a sigmoid of 1 in float64: no gradient to see.
REACH = 36.0
SOFTMAX = 'scores of a softmax are shares of an image, not functions of one logit'


def is_softmax(cfg: dict[str, Any]) -> bool:
    return bool(cfg.get('use_soft') or cfg.get('use_softmax'))


def optimum(loss: MultiLabelLoss, labels: np.ndarray) -> torch.Tensor:
    """Logits (C,) of the best model that cannot tell images apart: where the mean gradient over all labels vanishes."""
    targets, index = torch.from_numpy(labels.astype(np.float64)), torch.arange(len(labels))
    low, high = (torch.full((labels.shape[1],), bound, dtype=torch.float64) for bound in (-REACH, REACH))
    for _ in range(70):
        middle = (low + high) / 2
        logits = middle.expand(len(labels), -1).clone().requires_grad_()
        value = loss(logits, targets, index=index, avg_factor=1.0)
        rising = torch.autograd.grad(value, logits)[0].sum(0) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return (low + high) / 2


def bernoulli(prevalence: float, absent: int = 0) -> np.ndarray:
    """1000 labels for each class, a share of which is exactly ``prevalence``."""
    labels = np.full((1000, CLASSES), absent, np.int8)
    labels[: round(1000 * prevalence)] = 1
    return labels


@with_links
def test_rises_with_the_logit(cfg: dict[str, Any]) -> None:
    loss = build(cfg).float()
    if is_softmax(cfg):
        pytest.skip(SOFTMAX)
    grid = torch.arange(-15, 15 + 1e-6, 1 / 8)
    scores = loss.link(grid[:, None].expand(-1, CLASSES))
    assert scores.dtype == torch.float32 and scores.shape == (len(grid), CLASSES)
    step = scores.double().diff(dim=0)
    assert (step[(scores[1:] < 1 - 1e-4) & (scores[:-1] > 1e-30)] > 0).all()


@with_links
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_never_falls_and_stays_a_score(cfg: dict[str, Any], dtype: torch.dtype) -> None:
    loss = build(cfg).float()
    if is_softmax(cfg):
        scores = loss.link(torch.randn(4, CLASSES, dtype=dtype) * 1e3)
        assert scores.dtype == torch.float32 and ((scores >= 0) & (scores <= 1)).all()
        torch.testing.assert_close(scores.sum(1), torch.ones(4))
        return
    grid = torch.cat(
        [torch.tensor([-1e4, -300.0, -100.0]), torch.linspace(-60, 60, 20001), torch.tensor([100.0, 300.0, 1e4])]
    ).to(dtype)
    scores = loss.link(grid[:, None].expand(-1, CLASSES))
    assert scores.dtype == torch.float32
    assert ((scores >= 0) & (scores <= 1)).all()  # NaN fails
    assert (scores.diff(dim=0) >= 0).all()


BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)
ASL = dict(type='AsymmetricLoss')
#: Sigmoid where the posterior is .5; posterior where the sigmoid is .5; sigmoid at 1 % and at 5 %: computed elsewhere.
MEANINGS = [
    (BCE, 0.500, 0.500, 0.010, 0.050),
    (dict(type='WeightedBCELoss'), 0.667, 0.333, 0.020, 0.095),
    (dict(type='FocalLoss'), 0.399, 0.750, 0.108, 0.182),
    (ASL, 0.684, 0.128, 0.319, 0.421),
    ({**ASL, 'detach_weight': True}, 0.799, 0.036, 0.406, 0.528),
    (dict(type='HillLoss'), 0.937, 0.196, 0.065, 0.169),
]


@pytest.mark.parametrize('cfg, even, at_half, one_percent, five_percent', MEANINGS)
def test_computed_values(
    cfg: dict[str, Any], even: float, at_half: float, one_percent: float, five_percent: float
) -> None:
    loss = build(cfg).float()
    assert loss.link(torch.zeros(1, CLASSES))[0].tolist() == pytest.approx([at_half] * CLASSES, abs=6e-4)
    logits = loss.prior_logits(torch.tensor([0.5, 0.01, 0.05, 0.5, 0.5]))
    assert logits.sigmoid()[:3].tolist() == pytest.approx([even, one_percent, five_percent], abs=6e-4)


@with_links
@pytest.mark.parametrize('prevalence', [0.02, 0.1, 0.3, 0.7])
def test_gives_back_the_prevalence(cfg: dict[str, Any], prevalence: float) -> None:
    """The property that makes a score a probability."""
    absent = -1 if 'unobserved' in str(cfg) else 0
    labels = bernoulli(prevalence, absent)
    loss = build(cfg, labels)
    if not loss.calibrated:
        pytest.skip('scores of this loss are for ranking')
    logits = optimum(loss, labels)
    if cfg['type'] == 'EntropyMaximizationLoss' and (logits > REACH - 1).any():
        pytest.skip('its optimum, x p = odds / alpha, is at a logit where a sigmoid is 1')
    assert (logits < REACH - 1).all(), 'the loss falls for ever: no logit means this prevalence'
    assert loss.link(logits[None])[0].tolist() == pytest.approx([prevalence] * CLASSES, rel=0.01)


@every_loss('DistributionBalancedLoss', 'ClassBalancedLoss', 'CrossEntropyLoss', 'MultiLabelSoftMarginLoss')
@pytest.mark.parametrize('unknown_share', [0.0, 0.3])
@pytest.mark.parametrize('drawn_alike', [True, False])
def test_gives_back_the_prevalence_of_each_class(cfg: dict[str, Any], unknown_share: float, drawn_alike: bool) -> None:
    if is_softmax(cfg):
        pytest.skip(SOFTMAX)
    rng = np.random.default_rng(3)
    labels = (rng.random((300, CLASSES)) < [0.6, 0.3, 0.2, 0.1, 0.05]).astype(np.int8)
    labels[:2] = [[1], [0]]
    # Unknown where the image has few labels, so that these images are not like the others.
    labels[(rng.random(labels.shape) < unknown_share) & (labels.sum(1, keepdims=True) < 2)] = -1
    draws = np.ones(300) if drawn_alike else rng.integers(1, 5, 300).astype(float)
    loss = build(cfg, labels, None if drawn_alike else draws)
    drawn = np.repeat(labels, draws.astype(int), axis=0)
    expected = (drawn == 1).sum(0) / (drawn >= 0).sum(0)
    assert loss.link(optimum(loss, drawn)[None])[0].tolist() == pytest.approx(expected.tolist(), rel=0.01)


@pytest.mark.parametrize('prevalence', [0.02, 0.1, 0.3, 0.7])
def test_zlpr_with_one_class(prevalence: float) -> None:
    labels = bernoulli(prevalence)[:, :1]
    loss = build(dict(type='ZLPRLoss'), labels)
    assert loss.link(optimum(loss, labels)[None]).item() == pytest.approx(prevalence, rel=0.01)


@with_links
def test_a_loss_without_a_link_says_why(cfg: dict[str, Any]) -> None:
    loss = build(cfg)
    if not loss.calibrated:
        words = ('score', 'link') if cfg['type'] == 'WeightedSum' else ('score',)
        assert any(word in inspect.getdoc(type(loss)).lower() for word in words)


@with_links
def test_prior_logits_undo_the_link(cfg: dict[str, Any]) -> None:
    loss = build(cfg).float()
    wanted = torch.tensor([0.002, 0.01, 0.1, 0.3, 0.6])
    if is_softmax(cfg):
        wanted = wanted / wanted.sum()
    logits = loss.prior_logits(wanted)
    assert logits.dtype == torch.float32 and logits.shape == (CLASSES,)
    torch.testing.assert_close(loss.link(logits[None])[0], wanted, rtol=1e-3, atol=1e-6)


@with_links
def test_first_used_in_inference_mode(cfg: dict[str, Any]) -> None:
    loss, other = build(cfg).float(), build(cfg).float()
    logits = torch.randn(2, CLASSES)
    with torch.inference_mode():
        scores = loss.link(logits.clone())
    torch.testing.assert_close(loss.link(logits), scores.clone())
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(other.link(logits), scores.clone())
    assert torch.isfinite(loss.link(logits.clone().requires_grad_()).sum())


def test_link_does_not_depend_on_the_epoch() -> None:
    logits = torch.randn(3, CLASSES)
    for cfg in SETTINGS:
        early, late = build(cfg).float(), build(cfg).float()
        late.start_epoch(9)
        torch.testing.assert_close(early.link(logits), late.link(logits))


def test_statistics_with_draws_are_those_of_a_longer_data_set() -> None:
    """What the tests above rest on."""
    labels, draws = training_labels(), np.arange(len(training_labels())) % 3
    drawn = LabelStatistics(LabelMatrix.from_dense(labels), draws)
    repeated = LabelStatistics(LabelMatrix.from_dense(np.repeat(labels, draws, axis=0)))
    np.testing.assert_allclose(drawn.positives, repeated.positives)
    np.testing.assert_allclose(drawn.negatives, repeated.negatives)
    assert drawn.labels_per_image == pytest.approx(repeated.labels_per_image)
