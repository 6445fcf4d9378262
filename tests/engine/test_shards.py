"""Training and testing from tar shards, with one process and with two."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mlcls.apis import TrainFlags, test, train
from mlcls.apis.packing import PackFlags, pack_data
from mlcls.datasets.packs import PackSettings
from mlcls.datasets.shards import ShardSize
from mlcls.errors import CheckpointError, ConfigError, RunStopped
from mlcls.fileio import read_checkpoint

from .ranks import TOOLS, launch
from .test_exact_resume import SignalAt, equal, last


@pytest.fixture
def shard_config(tiny_config: Path, tmp_path: Path) -> Path:
    """``tiny_config``, whose 48 training and 20 validation images are in shards of 7 images, as pixels."""
    text = tiny_config.read_text()
    for part in ('train', 'val'):
        flags = PackFlags(part, settings=PackSettings(0, raw=True), shards=ShardSize(7))
        pack_data(tiny_config, tmp_path / part, flags)
        old = f"type='MultiLabelDataset', data_root=data_root, ann_file='{part}.json'"
        assert old in text
        text = text.replace(old, f"type='ShardDataset', root={str(tmp_path / part)!r}")
    tiny_config.write_text(re.sub('data_root = .*\n', '', text))  # nothing reads it any more
    return tiny_config


def test_a_run_learns_from_shards(shard_config: Path, tmp_path: Path) -> None:
    run = train(shard_config, options={'train_dataloader.num_workers': 2})
    result = test(run / 'epoch_4.pth')
    assert result.num_images == 20
    assert result.metrics['multi-label/mAP'] > 60  # by chance: 45


def test_evaluation_equals_that_of_the_files(tiny_config: Path, tmp_path: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    flags = PackFlags('test', settings=PackSettings(0, raw=True), shards=ShardSize(7))
    pack_data(tiny_config, tmp_path / 'shards', flags)
    text = tiny_config.read_text()
    old = "type='MultiLabelDataset', data_root=data_root, ann_file='val.json'"
    tiny_config.write_text(text.replace(old, f"type='ShardDataset', root={str(tmp_path / 'shards')!r}"))
    from_files = test(run / 'epoch_1.pth')
    from_shards = test(run / 'epoch_1.pth', tiny_config)
    assert from_shards.metrics == pytest.approx(from_files.metrics, abs=1e-6)
    done = launch(
        TOOLS / 'test.py', tiny_config, run / 'epoch_1.pth', '--launcher', 'pytorch', '--out', tmp_path / 'two.json'
    )
    assert done.returncode == 0, done.stdout
    two = json.loads((tmp_path / 'two.json').read_text())
    assert two['num_images'] == 20
    assert two['metrics'] == pytest.approx(from_files.metrics, abs=1e-6)


def test_two_processes_train_from_shards(shard_config: Path, tmp_path: Path) -> None:
    options = [
        '--cfg-options',
        'train_cfg.max_epochs=2',
        'train_dataloader.num_workers=2',
        'val_dataloader.num_workers=1',
    ]
    done = launch(TOOLS / 'train.py', shard_config, '--work-dir', tmp_path / 'two', *options)
    assert done.returncode == 0, done.stdout
    assert read_checkpoint(tmp_path / 'two/epoch_2.pth')['meta']['iter'] == 6  # 24 images a rank, batches of 8
    assert 'Traceback' not in done.stdout


def test_a_resumed_run_equals_one_that_was_not_stopped(shard_config: Path, tmp_path: Path) -> None:
    options = {'train_cfg.max_epochs': 2, 'train_dataloader.num_workers': 2}
    run = train(shard_config, options=options)
    whole = read_checkpoint(run / 'epoch_2.pth')['state_dict']
    (run / 'epoch_1.pth').rename(tmp_path / 'epoch_1.pth')
    flags = TrainFlags(work_dir=str(tmp_path / 'again'), resume=str(tmp_path / 'epoch_1.pth'))
    again = read_checkpoint(train(shard_config, flags, options) / 'epoch_2.pth')['state_dict']
    assert all(bool((value == again[name]).all()) for name, value in whole.items())


@pytest.mark.parametrize(
    'option, value',
    [
        ('train_dataloader.sampler', {'type': 'MultiLabelBalancedSampler'}),
        ('train_dataloader.batch_sampler', {'type': 'EpochSampler'}),
        ('train_dataloader.sampler.round_up', False),
    ],
)
def test_other_orders_are_refused(shard_config: Path, option: str, value: object) -> None:
    if option.endswith('round_up'):
        train(shard_config, options={option: value, 'train_cfg.max_epochs': 1})  # one process: no harm
        return
    with pytest.raises(ConfigError, match='a ShardDataset orders its images itself'):
        train(shard_config, options={option: value})


def test_a_run_that_is_stopped_inside_an_epoch_goes_on_with_the_shards_that_are_left(
    shard_config: Path, tmp_path: Path
) -> None:
    workers = {'train_dataloader.num_workers': 2}
    whole = train(shard_config, TrainFlags(work_dir=str(tmp_path / 'whole')), workers)
    stop = {'custom_hooks': [dict(type='SignalAt', iteration=8)], **workers}
    with pytest.raises(RunStopped):
        train(shard_config, TrainFlags(work_dir=str(tmp_path / 'run')), stop)
    with pytest.raises(CheckpointError, match='set train_dataloader.num_workers=2 .got 3. until this epoch ends'):
        other = {'train_dataloader.num_workers': 3}
        train(shard_config, TrainFlags(work_dir=str(tmp_path / 'run'), resume=True), other)
    run = train(shard_config, TrainFlags(work_dir=str(tmp_path / 'run'), resume=True), workers)
    assert SignalAt and equal(last(run), last(whole))
