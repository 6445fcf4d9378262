"""Silent nonsense is refused, or said aloud, before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlcls.apis import TrainFlags, test, train
from mlcls.engine.preflight import check_classes
from mlcls.errors import CheckpointError, ConfigError, DataError


def refused(config: Path, words: str, options: dict[str, Any] | None = None, flags: TrainFlags = TrainFlags()) -> None:
    with pytest.raises(ConfigError, match=words):
        train(config, flags, options)
    run = Path(flags.work_dir or config.parent / 'run')
    assert not list(run.glob('*.pth'))


def test_head_wider_than_the_data(tiny_config: Path) -> None:
    refused(
        tiny_config,
        'num_classes=5, but the annotations have 3 classes; set model.head.num_classes=3',
        {'model.head.num_classes': 5},
    )


def test_data_smaller_than_one_batch(tiny_config: Path) -> None:
    refused(
        tiny_config,
        'give 48 images a process, fewer than one batch of 64, and drop_last=True',
        {'train_dataloader.batch_size': 64, 'train_dataloader.drop_last': True},
    )


def test_last_batch_of_one(tiny_config: Path) -> None:
    refused(
        tiny_config,
        r'last batch of an epoch would hold a single image \(48 images in batches of 47\)',
        {'train_dataloader.batch_size': 47},
    )
    train(
        tiny_config,
        options={'train_dataloader.batch_size': 47, 'train_dataloader.drop_last': True, 'train_cfg.max_epochs': 1},
    )


def test_save_best_of_an_unknown_metric(tiny_config: Path) -> None:
    refused(
        tiny_config,
        r"save_best='multi-label/map'.*did you mean 'multi-label/mAP'",
        {'default_hooks.checkpoint.save_best': 'multi-label/map'},
    )


def test_save_best_without_validation(tiny_config: Path) -> None:
    refused(
        tiny_config,
        'needs validation, and this run has none',
        {'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None},
    )


def test_nothing_to_resume(tiny_config: Path) -> None:
    with pytest.raises(CheckpointError, match='no checkpoint to resume from; leave --resume out'):
        train(tiny_config, TrainFlags(resume=True))
    with pytest.raises(CheckpointError, match=r'gone\.pth: no such checkpoint file'):
        train(tiny_config, TrainFlags(resume='gone.pth'))


def test_weights_alone_cannot_be_resumed(tiny_config: Path, tmp_path: Path) -> None:
    import torch

    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    state = torch.load(run / 'epoch_1.pth', weights_only=True)['state_dict']
    torch.save(state, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='holds weights but no training state to resume.*load_from='):
        train(tiny_config, TrainFlags(resume=str(tmp_path / 'weights.pth')))
    train(tiny_config, options={'train_cfg.max_epochs': 1, 'load_from': str(tmp_path / 'weights.pth')})


def relabel(config: Path, split: str, classes: list[str]) -> None:
    path = config.parent / f'squares/{split}.json'
    content = json.loads(path.read_text())
    content['metainfo']['classes'] = classes
    path.write_text(json.dumps(content))


def test_training_and_validation_of_other_classes(tiny_config: Path) -> None:
    relabel(tiny_config, 'val', ['red', 'blue', 'green'])
    refused(tiny_config, r"class 1 is 'green' in the training data but 'blue' in the validation data \(the same names")


def test_checkpoint_of_other_classes(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    relabel(tiny_config, 'val', ['red', 'green', 'teal'])
    with pytest.raises(ConfigError, match=r"class 2 is 'blue' in .*epoch_1\.pth but 'teal' in the test data"):
        test(run / 'epoch_1.pth')


def test_checkpoint_of_another_model(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    with pytest.raises(CheckpointError, match='(?s)this checkpoint is of another model.*shapes differ'):
        test(run / 'epoch_1.pth', options={'model.backbone.base_channels': 16, 'model.head.in_channels': 128})


def test_fine_tuning_says_what_it_left_out(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    relabel(tiny_config, 'train', ['red', 'green', 'blue', 'black'])
    relabel(tiny_config, 'val', ['red', 'green', 'blue', 'black'])
    train(
        tiny_config,
        TrainFlags(work_dir=str(run.parent / 'tuned')),
        {'load_from': str(run / 'epoch_1.pth'), 'model.head.num_classes': 4, 'train_cfg.max_epochs': 1},
    )
    out = capsys.readouterr().out
    assert 'filled 120 of 122 tensors' in out and 'head.fc.weight (file (3, 64), model (4, 64))' in out


def test_one_class_is_said_aloud(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ('train', 'val'):
        path = tiny_config.parent / f'squares/{split}.json'
        content = json.loads(path.read_text())
        content['metainfo']['classes'] = ['red']
        for item in content['data_list']:
            item['gt_label'] = [label for label in item['gt_label'] if label == 0]
        path.write_text(json.dumps(content))
    train(tiny_config, options={'model.head.num_classes': 1, 'train_cfg.max_epochs': 1})
    assert "warning: the data have one class ('red')" in capsys.readouterr().out


def test_threshold_list_of_another_length(tiny_config: Path) -> None:
    text = tiny_config.read_text().replace("dict(type='ThresholdMetric')", "dict(type='ThresholdMetric', thr=[.5, .4])")
    tiny_config.write_text(text)
    refused(tiny_config, '2 thresholds are given for 3 classes')


def test_images_of_several_sizes_in_a_batch(tiny_config: Path) -> None:
    from PIL import Image

    Image.new('RGB', (40, 32)).save(tiny_config.parent / 'squares/val/1.png')
    with pytest.raises(DataError, match='(?s)size.*Resize'):
        train(tiny_config, options={'train_cfg.max_epochs': 1})


@pytest.mark.parametrize(
    'expected, found, words',
    [
        (('a', 'b'), ('a', 'c'), "class 1 is 'b' in A but 'c' in B$"),
        (('a', 'b'), ('b', 'a'), "class 0 is 'a' in A but 'b' in B .the same names in another order.$"),
        (('a', 'b'), ('a',), "A has 2 classes, B 1; only one of them has 'b'"),
    ],
)
def test_first_difference_of_class_lists(expected: tuple[str, ...], found: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_classes(expected, found, 'A', 'B')
    check_classes(expected, list(expected), 'A', 'B')
