"""Losses in a training run: data, epochs, memories, checkpoints, several processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mlcls.apis import TrainFlags, test, train
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint
from mlcls.models.losses import SPLCLoss
from tests.engine.ranks import TOOLS, launch


def with_loss(loss: dict, **options: object) -> dict:
    return {'model.head.loss': dict(_delete_=True, **loss), **options}


def one_log(run: Path) -> str:
    return next(run.glob('*/*.log')).read_text()


def test_weights_come_from_the_training_labels_and_travel(tiny_config: Path) -> None:
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto')
    run = train(tiny_config, options=with_loss(loss, **{'model.head.prior_bias': True, 'train_cfg.max_epochs': 1}))
    labels = json.loads((tiny_config.parent / 'squares/train.json').read_text())['data_list']
    positives = [sum(c in item['gt_label'] for item in labels) for c in range(3)]
    stored = read_checkpoint(run / 'epoch_1.pth')['state_dict']['head.loss_module.pos_weight']
    torch.testing.assert_close(stored, torch.tensor([(48 - n) / n for n in positives]))
    log = one_log(run)
    assert 'CrossEntropyLoss: pos_weight from the training labels: ' in log
    assert 'MultiLabelLinearClsHead: bias from the training labels: ' in log
    assert test(run).num_images == 20  # without the training data


def test_balanced_sampling_is_counted(tiny_config: Path) -> None:
    text = tiny_config.read_text().replace(
        "dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline))",
        "dataset=dict(type='ClassBalancedDataset', oversample_thr=0.9, rounding='up', dataset=dict("
        "type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline)))",
    )
    tiny_config.write_text(text)
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto')
    run = train(tiny_config, options=with_loss(loss, **{'train_cfg.max_epochs': 1}))
    items = json.loads((tiny_config.parent / 'squares/train.json').read_text())['data_list']
    # Every class is below .9, so that an image with any label is drawn twice, one without once.
    draws = [2 if item['gt_label'] else 1 for item in items]
    ratios = []
    for c in range(3):
        positive = sum(n for n, item in zip(draws, items) if c in item['gt_label'])
        ratios.append((sum(draws) - positive) / positive)
    stored = read_checkpoint(run / 'epoch_1.pth')['state_dict']['head.loss_module.pos_weight']
    torch.testing.assert_close(stored, torch.tensor(ratios))


def test_losses_are_told_the_epoch(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = SPLCLoss.start_epoch
    monkeypatch.setattr(SPLCLoss, 'start_epoch', lambda self, epoch: (seen.append(epoch), original(self, epoch)))
    run = train(tiny_config, options=with_loss(dict(type='SPLCLoss'), **{'train_cfg.max_epochs': 3}))
    assert seen == [0, 1, 2]
    seen.clear()
    train(
        tiny_config,
        TrainFlags(resume=str(run / 'epoch_2.pth')),
        with_loss(dict(type='SPLCLoss'), **{'train_cfg.max_epochs': 3}),
    )
    assert seen == [2]


@pytest.mark.parametrize(
    'loss, name',
    [
        (dict(type='RoleLoss', expected_positives=1.8), 'label_logits'),
        (dict(type='LargeLoss', mode='correct_permanent', delta_rel=0.05), 'flipped'),
    ],
    ids=['role', 'large_loss'],
)
def test_memories_are_resumed_exactly(tiny_config: Path, loss: dict, name: str) -> None:
    whole = train(tiny_config, TrainFlags(work_dir=str(tiny_config.parent / 'whole')), with_loss(loss))
    resumed = tiny_config.parent / 'resumed'
    train(
        tiny_config,
        TrainFlags(work_dir=str(resumed), resume=str(whole / 'epoch_2.pth')),
        with_loss(loss),
    )
    one, two = (read_checkpoint(folder / 'epoch_4.pth') for folder in (whole, resumed))
    key = f'head.loss_module.{name}'
    assert one['training_state'][key].shape == (48, 3) and key not in one['state_dict']
    assert torch.equal(one['training_state'][key], two['training_state'][key])
    early = read_checkpoint(whole / 'epoch_1.pth')['training_state'][key]
    assert not torch.equal(early, one['training_state'][key])  # it was trained
    assert all(torch.equal(one['state_dict'][n], two['state_dict'][n]) for n in one['state_dict'])
    assert test(whole).num_images == 20


def test_the_link_changes_decisions_but_not_the_ranking(tiny_config: Path) -> None:
    run = train(tiny_config, options=with_loss(dict(type='AsymmetricLoss')))
    linked, plain = (test(run, options={'model.head.score': score}) for score in ('calibrated', 'sigmoid'))
    assert linked.metrics['multi-label/mAP'] == pytest.approx(plain.metrics['multi-label/mAP'], abs=1e-4)
    assert linked.metrics['multi-label/OR'] <= plain.metrics['multi-label/OR']
    assert (linked.scores < plain.scores + 1e-6)[plain.scores < 0.8].all()


@pytest.mark.parametrize(
    'options, words',
    [
        ({'model.head.loss.type': 'AsymetricLoss'}, "did you mean 'AsymmetricLoss'"),
        (
            {'model.head.loss': dict(_delete_=True, type='WeightedSum', losses=[dict(type='FocalLos')])},
            "did you mean 'FocalLoss'",
        ),
        (
            {'model.head.loss': dict(_delete_=True, type='WeightedSum', losses=[dict(type='FocalLoss', gama=1)])},
            "FocalLoss has no argument 'gama'; did you mean 'gamma'",
        ),
        ({'model.head.loss': dict(_delete_=True, type='HillLoss', unknwon='ignore')}, "did you mean 'unknown'"),
        ({'model.head.loss.class_weight': [1.0, 2.0]}, 'class_weight has 2 values, but there are 3 classes'),
        ({'model.head.loss.class_weight': 'balance'}, "unknown class_weight 'balance'; did you mean 'balanced'"),
    ],
)
def test_mistakes_are_named(tiny_config: Path, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train(tiny_config, options=options)


def test_two_processes_share_what_they_remember(tiny_config: Path, tmp_path: Path) -> None:
    config = tmp_path / 'large.py'
    config.write_text(
        f'_base_ = {str(tiny_config)!r}\n'
        "model = dict(head=dict(loss=dict(_delete_=True, type='LargeLoss', mode='correct_permanent', delta_rel=.05)))\n"
    )
    done = launch(TOOLS / 'train.py', config, '--work-dir', tmp_path / 'two', '--cfg-options', 'train_cfg.max_epochs=3')
    assert done.returncode == 0, done.stdout
    flipped = read_checkpoint(tmp_path / 'two/epoch_3.pth')['training_state']['head.loss_module.flipped']
    # 3 steps an epoch of 8 images on each of 2 ranks, ceil(8 * 3 * .05) = 2 labels a step and rank in epochs 2 and 3.
    assert 12 < flipped.sum() <= 24  # more than rank 0 alone could have found
