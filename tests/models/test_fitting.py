"""What models take from the labels of their training data, and what heads make of logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlcls.apis import test, train
from mlcls.errors import CheckpointError, ConfigError
from mlcls.fileio import read_checkpoint
from mlcls.models import MultiLabelClsHead, MultiLabelLinearClsHead
from mlcls.models.fitting import fit_heads, fit_losses, load_training_state, losses_of, start_biases, training_state
from mlcls.registry import MODELS
from mlcls.structures import LabelMatrix, LabelStatistics

LABELS = np.array([[1, 0, 0], [1, 1, -1], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]], np.int8)
STATISTICS = LabelStatistics(LabelMatrix.from_dense(LABELS))


def head(loss: dict | None = None, **settings: object) -> MultiLabelLinearClsHead:
    return MultiLabelLinearClsHead(num_classes=3, in_channels=4, loss=loss, **settings)


def test_values_are_filled_and_told() -> None:
    made = head(dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto', class_weight='balanced'))
    told = fit_losses(made, STATISTICS)
    np.testing.assert_allclose(made.loss_module.pos_weight, [2 / 4, 5 / 1, 4 / 1], rtol=1e-6)
    inverse = np.array([1 / 4, 1, 1])
    np.testing.assert_allclose(made.loss_module.class_weight, inverse / inverse.mean(), rtol=1e-6)
    assert any('pos_weight from the training labels: 0.5, 5, 4' in line for line in told)
    assert not fit_losses(head(), STATISTICS)


def test_values_of_many_classes_are_told_briefly() -> None:
    many = LabelStatistics(LabelMatrix.from_dense(np.eye(30, dtype=np.int8)))
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto')
    told = fit_losses(MultiLabelLinearClsHead(num_classes=30, in_channels=4, loss=loss), many)
    assert told == ['CrossEntropyLoss: pos_weight from the training labels: 30 values from 29 to 29, median 29']


@pytest.mark.parametrize(
    'loss', ['CrossEntropyLoss', 'FocalLoss', 'AsymmetricLoss', 'HillLoss', 'EntropyMaximizationLoss']
)
def test_the_first_scores_are_the_share_of_positives(loss: str) -> None:
    cfg = dict(type=loss, **(dict(use_sigmoid=True) if loss == 'CrossEntropyLoss' else {}))
    made = head(cfg, prior_bias=True)
    told = start_biases(made, STATISTICS)
    torch.nn.init.zeros_(made.fc.weight)
    # Laplace's rule: (positives + 1) / (known + 2).
    np.testing.assert_allclose(made.predict([torch.randn(1, 4)])[0].detach(), [5 / 8, 2 / 8, 2 / 7], rtol=1e-3)
    assert len(told) == 1 and 'MultiLabelLinearClsHead: bias from the training labels' in told[0]


def test_without_prior_bias_nothing_changes() -> None:
    made = head()
    before = made.fc.bias.clone()
    assert not start_biases(made, STATISTICS) and torch.equal(made.fc.bias, before)


def test_prior_bias_of_sigmoid_scores() -> None:
    made = head(dict(type='AsymmetricLoss'), prior_bias=True, score='sigmoid')
    start_biases(made, STATISTICS)
    np.testing.assert_allclose(made.fc.bias.detach().sigmoid(), [5 / 8, 2 / 8, 2 / 7], rtol=1e-5)


def test_scores() -> None:
    logits = torch.randn(4, 3)
    asymmetric = dict(type='AsymmetricLoss')
    calibrated, plain = (MultiLabelClsHead(asymmetric, score=score) for score in ('calibrated', 'sigmoid'))
    torch.testing.assert_close(plain.scores(logits), logits.sigmoid())
    torch.testing.assert_close(calibrated.scores(logits), calibrated.loss_module.link(logits))
    assert (calibrated.scores(torch.zeros(1, 3)) < 0.2).all()
    with pytest.raises(ConfigError, match="MultiLabelClsHead: unknown score 'calibrate'; did you mean 'calibrated'"):
        MultiLabelClsHead(score='calibrate')


def test_wrong_numbers_of_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match='class_weight has 2 values, but there are 3 classes'):
        head(dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=[1.0, 2.0]))
    wide = MultiLabelLinearClsHead(
        num_classes=5, in_channels=4, loss=dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto')
    )
    with pytest.raises(ConfigError, match='which have 3 classes, but 5 were announced'):
        fit_losses(wide, STATISTICS)


def test_memories_are_kept_apart_from_weights() -> None:
    source, target = (head(dict(type='RoleLoss')) for _ in range(2))
    fit_losses(source, STATISTICS)
    fit_losses(target, STATISTICS)
    with torch.no_grad():
        source.loss_module.label_logits += 1
    assert not any('label_logits' in name for name in source.state_dict())
    state = training_state(source)
    assert list(state) == ['loss_module.label_logits'] and list(losses_of(source)) == ['loss_module']
    load_training_state(target, state)
    assert torch.equal(source.loss_module.label_logits, target.loss_module.label_logits)
    load_training_state(target, {})  # of a run with another loss: nothing to take up
    with pytest.raises(CheckpointError, match=r'remembers \(2, 3\) labels .* have \(6, 3\)'):
        load_training_state(target, {'loss_module.label_logits': torch.zeros(2, 3)})


def test_statistics_count_what_an_epoch_draws() -> None:
    draws = np.array([1, 2, 1, 3, 0.5, 1])
    drawn = LabelStatistics(LabelMatrix.from_dense(LABELS), draws)
    np.testing.assert_allclose(drawn.positives, [(draws * (LABELS[:, c] == 1)).sum() for c in range(3)])
    np.testing.assert_allclose(drawn.negatives, [(draws * (LABELS[:, c] == 0)).sum() for c in range(3)])
    assert drawn.labels_per_image == pytest.approx((draws[:, None] * (LABELS == 1)).sum() / draws.sum())
    np.testing.assert_allclose(STATISTICS.positives, [4, 1, 1])
    np.testing.assert_allclose(STATISTICS.prevalence, [5 / 8, 2 / 8, 2 / 7])


class FittedHead(MultiLabelClsHead):
    """Takes something from the labels, into a buffer."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.register_buffer('share', torch.zeros(3))

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        self.share.copy_(torch.from_numpy(statistics.prevalence))
        return {'share': self.share}


def test_heads_take_what_they_need_and_tell() -> None:
    made = nn.ModuleDict({'backbone': nn.Linear(2, 2), 'head': FittedHead(), 'second': nn.Sequential(FittedHead())})
    told = fit_heads(made, STATISTICS)
    assert told == ['FittedHead: share from the training labels: 0.625, 0.25, 0.286'] * 2
    for name, value in made.state_dict().items():  # a checkpoint carries it
        if name.endswith('share'):
            np.testing.assert_allclose(value, [5 / 8, 2 / 8, 2 / 7], rtol=1e-6)
    assert sum(name.endswith('share') for name in made.state_dict()) == 2


def test_heads_and_parts_that_take_nothing_are_left_alone() -> None:
    plain = nn.Sequential(head(), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    assert fit_heads(plain, STATISTICS) == []
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())

    class Other(nn.Module):  # not a head: its fit is something else
        def fit(self, data: object) -> None:
            raise AssertionError

    assert fit_heads(nn.Sequential(Other()), STATISTICS) == []


def test_labels_that_a_head_cannot_work_with_are_refused() -> None:
    sets = MODELS.build(dict(type='LabelPowersetHead', num_classes=3, in_channels=4, max_sets=2))
    with pytest.raises(ConfigError, match='3 label sets in 5 images, more than max_sets=2'):
        fit_heads(nn.Sequential(sets), STATISTICS)


def test_a_head_is_fitted_before_its_weights_are_filled_and_trained(tiny_config: Path) -> None:
    """A head whose layer comes of the labels: an optimiser that was built before would not know it."""
    text = tiny_config.read_text().replace("type='MultiLabelLinearClsHead'", "type='LabelPowersetHead'")
    text = text.replace("loss=dict(type='CrossEntropyLoss', use_sigmoid=True)", '')
    tiny_config.write_text(text)
    run = train(tiny_config, options={'train_cfg.max_epochs': 2})
    one, two = (read_checkpoint(run / f'epoch_{epoch}.pth') for epoch in (1, 2))
    data = json.loads((tiny_config.parent / 'squares/train.json').read_text())['data_list']
    sets = len({tuple(item['gt_label']) for item in data})
    weight = two['state_dict']['head.fc.weight']
    assert weight.shape == (sets, 64) and one['state_dict']['head.label_sets'].shape == (sets, 3)
    assert not torch.equal(one['state_dict']['head.fc.weight'], weight)
    (log,) = run.glob('*/*.log')
    assert f'LabelPowersetHead: label sets from the training labels: {sets}' in log.read_text()
    assert test(run / 'epoch_2.pth').num_images == 20  # without a look at the training data
