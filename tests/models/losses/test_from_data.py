"""Settings that come from the training labels: their values, how they are saved, and use without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models.losses import MultiLabelLoss
from mlcls.registry import MODELS
from mlcls.structures import LabelMatrix, LabelStatistics

from .cases import CLASSES, build, call, every_loss, example, training_labels

BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)
#: Positives 8, 4, 2, 1; of the last class nothing but absence is known. Negatives 0, 4, 5, 7, 8.
LABELS = np.array(
    [
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [1, 0, -1, 0, 0],
    ],
    np.int8,
)
FROM_DATA = [
    {**BCE, 'class_weight': 'balanced'},
    {**BCE, 'class_weight': 'effective_number'},
    {**BCE, 'class_weight': 'sqrt_inverse', 'pos_weight': 'auto'},
    dict(type='CrossEntropyLoss', use_soft=True, class_weight='balanced'),
    dict(type='MultiLabelSoftMarginLoss', weight='balanced'),
    dict(type='ClassBalancedLoss'),
    dict(type='DistributionBalancedLoss'),
    dict(type='PartialAsymmetricLoss'),
    dict(type='WeightedSum', losses=[{**BCE, 'pos_weight': 'auto'}, dict(type='ClassBalancedLoss')]),
]
from_data = pytest.mark.parametrize('cfg', FROM_DATA, ids=[cfg['type'] for cfg in FROM_DATA])


def mean_one(weights: list[float]) -> list[float]:
    return [weight / (sum(weights) / len(weights)) for weight in weights]


@pytest.mark.parametrize(
    'word, expected',
    [
        ('balanced', mean_one([1 / 8, 1 / 4, 1 / 2, 1, 1])),  # a class without positives counts as one of 1
        ('sqrt_inverse', mean_one([8**-0.5, 4**-0.5, 2**-0.5, 1, 1])),
        ('effective_number', mean_one([0.001 / (1 - 0.999**n) for n in (8, 4, 2, 1, 1)])),
    ],
)
@pytest.mark.parametrize('kind, name', [('CrossEntropyLoss', 'class_weight'), ('MultiLabelSoftMarginLoss', 'weight')])
def test_class_weights(word: str, expected: list[float], kind: str, name: str) -> None:
    cfg = {'type': kind, name: word, **({'use_sigmoid': True} if kind == 'CrossEntropyLoss' else {})}
    assert build(cfg, LABELS).setting(name).tolist() == pytest.approx(expected, rel=1e-9)


def test_positive_weights() -> None:
    got = build({**BCE, 'pos_weight': 'auto'}, LABELS).setting('pos_weight')
    assert got.tolist() == pytest.approx([1, 1, 5 / 2, 7, 1])  # 1 where a side is empty


@pytest.mark.parametrize('beta, expected', [(0.0, [1] * 5), (0.9, None), (0.9999, None)])
def test_effective_numbers(beta: float, expected: list[float] | None) -> None:
    expected = expected or mean_one([(1 - beta) / (1 - beta**n) for n in (8, 4, 2, 1, 1)])
    loss = build(dict(type='ClassBalancedLoss', beta=beta), LABELS)
    assert loss.class_weight.tolist() == pytest.approx(expected, rel=1e-6)


def test_distribution_balanced_statistics() -> None:
    loss = build(dict(type='DistributionBalancedLoss', init_bias=0.1, neg_scale=4.0), LABELS)
    assert loss.counts.tolist() == [8, 4, 2, 1, 1]
    shifts = [-np.log(odds) * 0.1 / 4 for odds in (4 / 4, 5 / 2, 7 / 1, 7 / 1)]
    assert loss.shift[1:].tolist() == pytest.approx(shifts, rel=1e-6)
    assert loss.shift[0] > 0.05 and loss.shift.isfinite().all()  # always present: log(8 / 7.5 - 1) or beyond


def test_prior_of_partial_labels() -> None:
    loss = build(dict(type='PartialAsymmetricLoss'), LABELS)
    assert loss.prior.tolist() == pytest.approx([8 / 8, 4 / 8, 2 / 7, 1 / 8, 0])
    without_negatives = np.where(LABELS == 1, 1, -1).astype(np.int8)
    loss = build(dict(type='PartialAsymmetricLoss'), without_negatives)
    assert loss.prior.tolist() == pytest.approx([8 / 8, 4 / 8, 2 / 8, 1 / 8, 0])


@pytest.mark.parametrize('cfg', [*FROM_DATA, dict(type='RoleLoss')], ids=str)
def test_draws_count_as_repetitions(cfg: dict[str, Any]) -> None:
    draws = np.array([3, 1, 2, 1, 1, 2, 1, 4])
    drawn, repeated = build(cfg, LABELS, draws.astype(float)), build(cfg, np.repeat(LABELS, draws, axis=0))
    for (name, got), (_, expected) in zip(drawn.named_buffers(), repeated.named_buffers()):
        if name != 'flipped':
            torch.testing.assert_close(got, expected, msg=name)
    if cfg['type'] == 'RoleLoss':
        assert drawn.expected_positives == pytest.approx(repeated.expected_positives)


@from_data
def test_what_was_filled_is_told(cfg: dict[str, Any]) -> None:
    for part in build(cfg).modules():
        if isinstance(part, MultiLabelLoss) and not hasattr(part, 'losses'):
            told = part.fit(LabelStatistics(LabelMatrix.from_dense(LABELS)))
            assert told and all(len(values) == CLASSES and values.isfinite().all() for values in told.values())


def announced(cfg: dict[str, Any]) -> MultiLabelLoss:
    """A loss that knows the number of classes and no data."""
    loss = MODELS.build(dict(cfg))
    for part in loss.modules():
        if isinstance(part, MultiLabelLoss):
            part.set_classes(CLASSES)
    return loss


@every_loss()
def test_saved_and_loaded(cfg: dict[str, Any]) -> None:
    """Settings from data travel with the weights; memories of the training images do not."""
    loss = build(cfg)
    state = loss.state_dict()
    assert not any(name.endswith(('label_logits', 'flipped')) for name in state)
    fresh = announced(cfg).double()
    fresh.load_state_dict(state, strict=cfg['type'] != 'RoleLoss')
    logits, targets = example('unknown')
    torch.testing.assert_close(fresh.link(logits), loss.link(logits))
    if not loss.training_state:
        torch.testing.assert_close(call(fresh, logits, targets), call(loss, logits, targets))


@every_loss('RoleLoss', 'LargeLoss')
def test_own_weights_can_be_loaded_strictly(cfg: dict[str, Any]) -> None:
    loss = build(cfg)
    loss.load_state_dict(loss.state_dict())


@from_data
def test_what_comes_from_data_is_saved(cfg: dict[str, Any]) -> None:
    loss = build(cfg)
    filled = [name for name, _ in loss.named_buffers()]
    assert filled and set(filled) <= set(loss.state_dict())


def test_what_the_config_says_is_not_saved() -> None:
    assert not build({**BCE, 'class_weight': [1.0] * CLASSES, 'pos_weight': 2.0}).state_dict()


@from_data
@pytest.mark.parametrize('ready', [False, True])
def test_use_without_the_data_is_refused(cfg: dict[str, Any], ready: bool) -> None:
    loss = announced(cfg) if ready else MODELS.build(dict(cfg))
    with pytest.raises(ConfigError, match=r'Loss: \w+ comes from the training labels.*set_classes.*fit'):
        call(loss, *example('unknown'))


@pytest.mark.parametrize('cfg', [{**BCE, 'pos_weight': 'auto'}, dict(type='DistributionBalancedLoss')], ids=str)
@pytest.mark.parametrize('ready', [False, True])
def test_links_without_the_data_are_refused(cfg: dict[str, Any], ready: bool) -> None:
    loss = announced(cfg) if ready else MODELS.build(dict(cfg))
    with pytest.raises(ConfigError, match='comes from the training labels'):
        loss.link(torch.zeros(2, CLASSES))


@every_loss('RoleLoss')
def test_role_needs_images_and_data(cfg: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r'RoleLoss.*index=.*fit'):
        call(announced(cfg), *example('hard'))
    with pytest.raises(ConfigError, match=r'RoleLoss.*index=.*fit'):
        build(cfg)(*example('hard'))


def test_permanent_corrections_need_images_and_data() -> None:
    cfg = dict(type='LargeLoss', mode='correct_permanent')
    with pytest.raises(ConfigError, match=r"LargeLoss.*'correct_permanent'.*index=.*fit"):
        call(announced(cfg), *example('hard'))
    with pytest.raises(ConfigError, match=r"LargeLoss.*'correct_permanent'.*index=.*fit"):
        build(cfg)(*example('hard'))


@from_data
def test_data_of_another_number_of_classes(cfg: dict[str, Any]) -> None:
    statistics = LabelStatistics(LabelMatrix.from_dense(training_labels()[:, :3]))
    with pytest.raises(ConfigError, match=r'Loss: \w+ is to come from the data, which have 3 classes, but 5'):
        for part in announced(cfg).modules():
            if isinstance(part, MultiLabelLoss):
                part.fit(statistics)
