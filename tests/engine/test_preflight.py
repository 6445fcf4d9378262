"""Silent nonsense is refused, or said aloud, before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mlcls.apis import TrainFlags, test, train
from mlcls.engine.preflight import check_classes, check_head
from mlcls.errors import CheckpointError, ConfigError, DataError
from mlcls.models import MultiLabelLinearClsHead


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
    assert 'was trained on other classes; the head starts anew' in out
    assert 'filled 100 of 102 tensors' in out and 'not in the file: head.fc.weight, head.fc.bias' in out


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


@pytest.mark.parametrize(
    'options, words',
    [
        ({'train_dataloader.batch_size': 1}, r'would hold a single image \(48 images in batches of 1\)'),
        ({'val_dataloader.drop_last': True}, 'val_dataloader.drop_last=True would leave images out'),
        ({'randomness.diff_rank_seed': True}, 'diff_rank_seed=True is not available'),
        (
            {'train_dataloader.sampler.type': 'InfiniteSampler'},
            'sampler is a InfiniteSampler, which does not name draws',
        ),
        ({'runner_type': 'FlexibleRunner'}, 'FlexibleRunner is not derived from the Runner'),
        ({'model.train_cfg': {'augments': []}}, 'RandomBatchAugment: augments is empty'),
        ({'model.backbone.conv_cfg': dict(type='DCN')}, 'ResNet: only the default of conv_cfg is available'),
    ],
)
def test_what_would_go_wrong_later_is_refused(tiny_config: Path, options: dict[str, Any], words: str) -> None:
    refused(tiny_config, words, options)


def test_losses_that_remember_images_and_mixed_images(tiny_config: Path) -> None:
    text = tiny_config.read_text()
    loss = "dict(type='CrossEntropyLoss', use_sigmoid=True)"
    assert loss in text
    tiny_config.write_text(text.replace(loss, "dict(type='RoleLoss', expected_positives=1.8)"))
    options = {'model.train_cfg': dict(augments=dict(type='Mixup', alpha=0.8))}
    refused(tiny_config, 'RoleLoss remembers each training image, but batch_augments mixes images; remove one', options)


def test_wrappers_that_lose_the_keys_of_draws(tiny_config: Path) -> None:
    inner = "dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline)"
    text = tiny_config.read_text()
    assert inner in text
    tiny_config.write_text(text.replace(inner, f"dict(type='RepeatDataset', times=2, dataset={inner})"))
    refused(tiny_config, 'the train data set is a RepeatDataset, which loses the keys of draws')


def test_flags_that_cannot_be(tiny_config: Path, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match='--seed must be at least 0, got -1'):
        train(tiny_config, TrainFlags(seed=-1))
    with pytest.raises(ConfigError, match='--resume y.pth goes on with a run, .*give one of them'):
        train(tiny_config, TrainFlags(resume='y.pth', load_from='x.pth'))
    with pytest.raises(ConfigError, match='file: the work folder is a file'):
        train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'file')))


def test_resuming_with_another_optimizer_or_schedule(tiny_config: Path) -> None:
    train(tiny_config, options={'train_cfg.max_epochs': 1})
    text = tiny_config.read_text()
    tiny_config.write_text(text.replace("dict(type='SGD', lr=0.05, momentum=0.9)", "dict(type='AdamW', lr=0.05)"))
    with pytest.raises(CheckpointError, match="optimizer.type is 'SGD' in the checkpoint, 'AdamW' in the config"):
        train(tiny_config, TrainFlags(resume=True))
    tiny_config.write_text(text)
    with pytest.raises(CheckpointError, match='is CosineAnnealingLR in the checkpoint, none in the config'):
        train(tiny_config, TrainFlags(resume=True), {'param_scheduler': None})


def test_load_from_of_the_same_width_but_other_classes(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    for split in ('train', 'val'):
        relabel(tiny_config, split, ['blue', 'green', 'red'])
    flags = TrainFlags(work_dir=str(run.parent / 'tuned'))
    train(tiny_config, flags, {'load_from': str(run / 'epoch_1.pth'), 'train_cfg.max_epochs': 1})
    assert 'was trained on other classes; the head starts anew' in capsys.readouterr().out


def test_a_deeper_network_does_not_pass_for_a_shallower_one(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1, 'model.backbone.depth': 34})
    with pytest.raises(
        CheckpointError, match='(?s)of another model.*in the file but not in the model: backbone.layer1.2'
    ):
        test(run / 'epoch_1.pth', options={'model.backbone.depth': 18})


def test_what_decides_and_how_long_it_anneals_is_said(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny_config, options={'model.head.thr': 0.9, 'train_cfg.max_epochs': 1})
    out = capsys.readouterr().out
    assert 'the head predicts by thr=0.9, topk=None, but ThresholdMetric decides by thr=0.5' in out
    assert 'param_scheduler.0 (CosineAnnealingLR) goes on to epoch 4, but training ends after epoch 1' in out


@pytest.mark.parametrize('width', [2, 4])
def test_a_head_of_another_width(width: int) -> None:
    model = nn.Module()
    model.head = MultiLabelLinearClsHead(width, 4)
    words = rf'model.head.num_classes={width}, but the annotations have 3 classes; set model.head.num_classes=3'
    with pytest.raises(ConfigError, match=words):
        check_head(model, ('a', 'b', 'c'))
    model.head = MultiLabelLinearClsHead(3, 4)
    check_head(model, ('a', 'b', 'c'))


def test_models_whose_head_does_not_say() -> None:
    model = nn.Module()
    check_head(model, ('a', 'b'))
    model.head = nn.Linear(3, 3)
    check_head(model, ('a', 'b'))


def test_a_head_with_a_file_for_other_classes() -> None:
    model = nn.Module()
    model.head = MultiLabelLinearClsHead(2, 4)
    for names in (None, ('a', 'b'), ['a', 'b']):
        model.head.label_names = names
        check_head(model, ['a', 'b'])
    model.head.label_names = ('a', 'x')
    found_in = 'the classes or files of MultiLabelLinearClsHead'
    with pytest.raises(ConfigError, match=f"class 1 is 'b' in the training data but 'x' in {found_in}$"):
        check_head(model, ('a', 'b'))
    model.head.label_names = ('b', 'a')
    with pytest.raises(ConfigError, match=f'{found_in} .the same names in another order.'):
        check_head(model, ('a', 'b'))


def test_a_file_for_other_classes_is_refused_before_the_first_step(tiny_config: Path) -> None:
    text = tiny_config.read_text()
    assert "type='MultiLabelLinearClsHead'" in text
    groups = "groups=[dict(labels=['red', 'teal'])], classes=['red', 'green', 'teal']"
    tiny_config.write_text(text.replace("type='MultiLabelLinearClsHead'", f"type='ExclusiveGroupsHead', {groups}"))
    refused(
        tiny_config, "class 2 is 'blue' in the training data but 'teal' in the classes or files of ExclusiveGroupsHead"
    )


@pytest.mark.parametrize('place', ['model.data_preprocessor.batch_augments', 'model.train_cfg'])
@pytest.mark.parametrize('kind', ['LabelSequenceHead', 'LabelPowersetHead'])
def test_mixed_images_have_no_label_set(tiny_config: Path, kind: str, place: str) -> None:
    head = dict(_delete_=True, type=kind, num_classes=3, in_channels=64)
    mixing = dict(augments=[dict(type='Mixup', alpha=0.8)])
    refused(
        tiny_config,
        f'{kind} trains by the probability of whole label sets, which a mixed image does not have',
        {'model.head': head, place: mixing},
    )
