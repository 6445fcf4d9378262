"""Runs that draw images by their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlcls.apis import TrainFlags, train
from mlcls.datasets import MultiLabelDataset
from mlcls.datasets.balance_weights import balanced_weights
from mlcls.fileio import read_checkpoint

SAMPLER = {
    'train_dataloader.sampler.type': 'MultiLabelBalancedSampler',
    'train_dataloader.sampler.num_images': 24,
    'train_cfg.max_epochs': 2,
    'param_scheduler.T_max': 2,
}


BATCHES = {'train_dataloader.batch_sampler': dict(type='torch.utils.data.BatchSampler', drop_last=True)}
with_and_without_batch_sampler = pytest.mark.parametrize('batches', [{}, BATCHES], ids=['', 'batch_sampler'])


@with_and_without_batch_sampler
def test_losses_are_fitted_to_what_is_drawn(tiny_config: Path, tiny_data: Path, batches: dict) -> None:
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto')
    run = train(tiny_config, options={**SAMPLER, **batches, 'model.head.loss': loss, 'train_cfg.max_epochs': 1})
    labels = MultiLabelDataset(ann_file=tiny_data / 'train.json').labels
    positives = balanced_weights(labels, 5.0, 0.2).multipliers @ labels.dense()
    stored = read_checkpoint(run / 'epoch_1.pth')
    found = stored['state_dict']['head.loss_module.pos_weight']
    torch.testing.assert_close(found.double(), torch.from_numpy((48 - positives) / positives), rtol=1e-5, atol=1e-5)
    assert stored['meta']['iter'] == 3  # 24 draws in batches of 8


@with_and_without_batch_sampler
def test_a_resumed_run_draws_as_the_uninterrupted_one(tiny_config: Path, tmp_path: Path, batches: dict) -> None:
    options = {**SAMPLER, **batches}
    whole = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), options)
    half = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'half')), options)
    (half / 'epoch_2.pth').unlink()
    (half / 'last_checkpoint').write_text('epoch_1.pth\n')
    train(tiny_config, TrainFlags(work_dir=str(half), resume=True, seed=9), options)  # the checkpoint's seed counts
    one, other = (read_checkpoint(run / 'epoch_2.pth')['state_dict'] for run in (whole, half))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_threshold_is_found_in_a_run(tiny_config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = tiny_config.read_text()
    inner = "dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline))"
    outer = inner.replace('dataset=', "dataset=dict(type='ClassBalancedDataset', oversample_thr='auto', dataset=") + ')'
    assert inner in text
    tiny_config.write_text(text.replace(inner, outer))
    run = train(tiny_config, options={'train_cfg.max_epochs': 1, 'param_scheduler.T_max': 1})
    (log,) = run.glob('*/*.log')
    assert "class-balanced by oversample_thr='auto', found to be 0." in log.read_text()
