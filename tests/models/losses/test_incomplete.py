"""Unknown labels, labels that nobody looked at, and what changes from epoch to epoch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mlcls.models.losses import EntropyMaximizationLoss, LargeLoss, SPLCLoss, WeakAssumeNegativeLoss

from .cases import CLASSES, IMAGES, build, call, every_loss, example, gradient, summed, training_labels

INCOMPLETE = (
    'EntropyMaximizationLoss',
    'FocalMarginLoss',
    'LargeLoss',
    'RoleLoss',
    'SPLCLoss',
    'WeakAssumeNegativeLoss',
)


def ignored(cfg: dict[str, Any]) -> dict[str, Any]:
    """The config with -1 left out, in losses that can; skips those that give -1 a meaning of its own."""
    if cfg['type'] == 'PartialAsymmetricLoss' and cfg.get('mode') != 'ignore':
        pytest.skip('-1 is what this loss is about; it has a formula of its own')
    if cfg.get('use_soft') or cfg.get('use_softmax'):
        pytest.skip('unknown classes stay in the sum of a softmax, as its docstring says')
    return cfg if cfg['type'] == 'WeightedSum' else {**cfg, 'unknown': 'ignore'}


@every_loss()
@pytest.mark.parametrize('epoch', [0, 3])
def test_unknown_labels_change_nothing(cfg: dict[str, Any], epoch: int) -> None:
    cfg = ignored(cfg)
    logits, targets = example('hard')
    targets[:, 2] = targets[1] = -1
    slopes, values = [], []
    for value in (0.0, 30.0, -30.0, 1e4):
        changed = torch.where(targets < 0, value, logits)
        loss = build(cfg)
        loss.start_epoch(epoch)
        values.append(call(loss, changed, targets, **summed(loss)))
        slopes.append(gradient(loss, changed, targets, **summed(loss)))
    for value, slope in zip(values, slopes):
        torch.testing.assert_close(value, values[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(slope, slopes[0], rtol=1e-12, atol=1e-12)
        assert (slope[targets < 0] == 0).all()


@every_loss()
def test_everything_unknown_is_worth_nothing(cfg: dict[str, Any]) -> None:
    loss = build(ignored({**cfg, 'epr_weight': 0.0} if cfg['type'] == 'RoleLoss' else cfg))
    logits, _ = example('hard')
    targets = torch.full_like(logits, -1)
    assert call(loss, logits, targets).item() == 0
    assert (gradient(loss, logits, targets) == 0).all()


@every_loss(without=('WeightedSum',))
@pytest.mark.parametrize('epoch', [0, 3])
def test_unknown_taken_as_absent(cfg: dict[str, Any], epoch: int) -> None:
    logits, targets = example('unknown')
    absent = training_labels().clip(min=0)  # settings from the data count -1 as absent, too
    as_absent, plain = build({**cfg, 'unknown': 'negative'}), build({**cfg, 'unknown': 'ignore'}, absent)
    for loss in (as_absent, plain):
        loss.start_epoch(epoch)
    zeros = targets.clamp(min=0)
    torch.testing.assert_close(
        call(as_absent, logits, targets, **summed(plain)), call(plain, logits, zeros, **summed(plain))
    )
    torch.testing.assert_close(
        gradient(build({**cfg, 'unknown': 'negative'}), logits, targets),
        gradient(build({**cfg, 'unknown': 'ignore'}, absent), logits, zeros),
    )


@every_loss(*INCOMPLETE)
def test_verified_negatives_cost_what_a_negative_does(cfg: dict[str, Any]) -> None:
    """Under ``unknown='unobserved'`` a zero is never corrected, whatever its score."""
    loss = build({**cfg, 'unknown': 'unobserved'})
    logits = torch.full((4, CLASSES), 8.0, dtype=torch.float64)
    targets = torch.zeros(4, CLASSES)
    first = gradient(loss, logits, targets)
    loss.start_epoch(5)
    assert torch.equal(gradient(loss, logits, targets), first) and (first > 0).all()


@every_loss(*INCOMPLETE)
def test_unobserved_labels_are_those_that_zeros_are_otherwise(cfg: dict[str, Any]) -> None:
    """On data without verified negatives the two ways to write unobserved labels mean the same."""
    logits, targets = example('hard')
    written = {}
    for unknown, absent in (('ignore', 0.0), ('unobserved', -1.0)):
        loss = build({**cfg, 'unknown': unknown})
        loss.start_epoch(2)
        written[unknown] = call(loss, logits, torch.where(targets > 0, targets, absent))
    torch.testing.assert_close(written['ignore'], written['unobserved'])


def test_weights_of_assumed_negatives() -> None:
    logits = torch.zeros(1, 3)
    targets = torch.tensor([[1.0, 0.0, -1.0]])
    half = torch.log(torch.tensor(2.0)).item()
    each = WeakAssumeNegativeLoss(unknown='unobserved')(logits, targets, reduction_override='none')
    assert each[0].tolist() == pytest.approx([half, half, half / 2])
    each = EntropyMaximizationLoss(alpha=0.2, unknown='unobserved')(logits, targets, reduction_override='none')
    assert each[0].tolist() == pytest.approx([half, half, -0.2 * half])


def test_splc_corrects_from_its_epoch_on() -> None:
    loss = SPLCLoss(tau=0.6, change_epoch=2)
    logits, targets = torch.tensor([[3.0, 0.1]]), torch.zeros(1, 2)
    slopes = []
    for epoch in range(4):
        loss.start_epoch(epoch)
        slopes.append(gradient(loss, logits, targets)[0])
        loss.end_epoch()
    assert [slope[0].item() > 0 for slope in slopes] == [True, True, False, False]
    assert all(slope[1] > 0 for slope in slopes)  # a score of .52 is below tau


@pytest.mark.parametrize('mode', ['reject', 'correct_temporary'])
def test_large_losses_of_a_step_are_forgotten(mode: str) -> None:
    loss = build(dict(type='LargeLoss', mode=mode, delta_rel=0.04))
    targets = torch.zeros(5, CLASSES)
    for epoch in (0, 1, 2):
        loss.start_epoch(epoch)
        for _ in range(2):
            logits = torch.randn(5, CLASSES)
            slope = gradient(loss, logits, targets, reduction_override='sum')
            treated = slope == 0 if mode == 'reject' else slope < 0
            assert treated.sum() == epoch  # ceil(25 x epoch x .04)
            if epoch:
                assert logits[treated].min() > logits[~treated].max()
        loss.end_epoch()


def test_permanent_corrections_are_remembered_by_image() -> None:
    loss = build(dict(type='LargeLoss', mode='correct_permanent', delta_rel=0.05))
    logits = torch.full((2, CLASSES), -2.0, dtype=torch.float64)
    logits[0, 3] = 2.0
    targets = torch.zeros(2, CLASSES)

    def treated(images: list[int], x: torch.Tensor) -> list[list[int]]:
        x = x.clone().requires_grad_()
        loss(x, targets, index=torch.tensor(images)).backward()
        return (x.grad < 0).nonzero().tolist()

    assert treated([4, 9], logits) == [] and not loss.flipped.any()
    loss.end_epoch()
    loss.start_epoch(1)
    assert treated([4, 9], logits) == [[0, 3]]
    assert loss.flipped.nonzero().tolist() == [[4, 3]]
    loss.end_epoch()
    loss.start_epoch(2)
    quiet = torch.full((2, CLASSES), -2.0, dtype=torch.float64)
    quiet[0, 1] = 1.0
    assert treated([9, 4], quiet) == [[0, 1], [1, 3]]  # one more, and the remembered one wherever its image is
    assert loss.flipped.nonzero().tolist() == [[4, 3], [9, 1]]


def test_permanent_corrections_of_an_image_drawn_twice() -> None:
    """Balanced sampling may draw an image twice in a batch; what either draw flips is kept."""
    loss = build(dict(type='LargeLoss', mode='correct_permanent', delta_rel=0.2))
    loss.start_epoch(1)
    logits = torch.full((2, CLASSES), -2.0)
    logits[0, 1] = logits[1, 2] = 3.0
    loss(logits, torch.zeros(2, CLASSES), index=torch.tensor([4, 4]))
    assert loss.flipped.nonzero().tolist() == [[4, 1], [4, 2]]


def test_observed_labels_are_never_flipped() -> None:
    for mode in ('reject', 'correct_temporary', 'correct_permanent'):
        loss = build(dict(type='LargeLoss', mode=mode, delta_rel=1.0))
        plain = LargeLoss(delta_rel=0.0)
        loss.start_epoch(3)
        logits = torch.randn(4, CLASSES)
        targets = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).expand(4, CLASSES)
        torch.testing.assert_close(call(loss, logits, targets), plain(logits, targets))


@every_loss('RoleLoss')
def test_role_starts_at_the_labels(cfg: dict[str, Any]) -> None:
    loss = build(cfg)
    labels = torch.from_numpy(training_labels())
    estimates = loss.label_logits.sigmoid()
    assert estimates.shape == (IMAGES, CLASSES)
    assert estimates[labels == 1].detach().numpy() == pytest.approx(0.995)
    assert ((estimates[labels != 1] - 0.5).abs() <= 0.1 + 1e-6).all()
    logits, targets = example('hard')
    loss(logits, targets, index=torch.arange(7)).backward()
    assert (loss.label_logits.grad[:7] != 0).any() and (loss.label_logits.grad[7:] == 0).all()
