"""A checkpoint is resumed by the run that wrote it, and by no other."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mlcls.apis import TrainFlags, train
from mlcls.apis.training import apply_flags, prepare_config
from mlcls.config import to_plain
from mlcls.engine.same_run import check_same_run, walk
from mlcls.errors import CheckpointError
from mlcls.fileio import read_checkpoint

CONFIG: dict[str, Any] = dict(
    model=dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, out_indices=(3,), with_cp=False),
        head=dict(type='MultiLabelLinearClsHead', num_classes=3, loss=dict(type='CrossEntropyLoss', use_sigmoid=True)),
    ),
    train_dataloader=dict(
        batch_size=8,
        num_workers=0,
        dataset=dict(
            type='MultiLabelDataset', data_root='a', ann_file='b', pipeline=[dict(type='Load'), dict(type='Pack')]
        ),
    ),
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-4)),
    param_scheduler=[dict(type='CosineAnnealingLR', T_max=4)],
    train_cfg=dict(by_epoch=True, max_epochs=4),
    default_hooks=dict(logger=dict(type='LoggerHook', interval=5)),
    randomness=dict(seed=0),
    work_dir='first',
)


class Data:
    """A data set's names and hash."""

    def __init__(self, classes: tuple[str, ...] = ('a', 'b', 'c'), fingerprint: str = 'abc', number: int = 20) -> None:
        self.metainfo, self.fingerprint, self.number = {'classes': classes}, fingerprint, number

    def __len__(self) -> int:
        return self.number


def make_runner(
    changes: dict[str, Any] | None = None, data: Data | None = None, optimizer: Any = torch.optim.SGD
) -> Any:
    cfg = Config(copy.deepcopy(CONFIG))
    cfg.merge_from_dict(changes or {})
    built = optimizer([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    return SimpleNamespace(
        cfg=cfg,
        train_dataloader=SimpleNamespace(dataset=data or Data()),
        optim_wrapper=SimpleNamespace(optimizer=built),
    )


def meta(**changes: Any) -> dict[str, Any]:
    stored = {
        'config': to_plain(Config(copy.deepcopy(CONFIG))),
        'classes': ['a', 'b', 'c'],
        'optimizer': 'SGD',
        'data_hash': 'abc',
        'num_images': 20,
    }
    return {**stored, **changes}


def test_the_same_run() -> None:
    assert check_same_run(meta(), make_runner()) == []


@pytest.mark.parametrize(
    'changes, words',
    [
        ({'model.backbone.depth': 50}, r'model\.backbone\.depth is 18 in the checkpoint, 50 in the config'),
        ({'model.backbone.type': 'SEResNet'}, r"backbone\.type is 'ResNet' in the checkpoint, 'SEResNet' in the"),
        ({'model.backbone.out_indices': (2, 3)}, r'out_indices is \(3,\) in the checkpoint, \(2, 3\) in the config'),
        ({'model.head.loss.type': 'AsymmetricLoss'}, r'model\.head\.loss\.type is'),
        (
            {'model.neck': dict(type='GeM')},
            r"model\.neck is not set in the checkpoint, \{'type': 'GeM'\} in the config",
        ),
        ({'data_preprocessor': dict(mean=[1, 2, 3])}, 'the model is another one: data_preprocessor is not set'),
        ({'optim_wrapper.optimizer.type': 'AdamW'}, r"the optimiser is another one: .*type is 'SGD' .* 'AdamW'"),
        ({'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0)}, 'the groups of parameters are others: '),
        ({'param_scheduler.0.type': 'PolyLR'}, 'param_scheduler is CosineAnnealingLR in the checkpoint, PolyLR in the'),
        ({'param_scheduler': []}, 'CosineAnnealingLR in the checkpoint, none in the config'),
    ],
)
def test_another_run_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        check_same_run(meta(), make_runner(changes), 'run/epoch_3.pth')
    assert "use --load-from run/epoch_3.pth (in the config: load_from='run/epoch_3.pth')" in str(caught.value)


def test_the_first_difference_is_named() -> None:
    with pytest.raises(CheckpointError, match=r'model\.backbone\.depth') as caught:
        check_same_run(meta(), make_runner({'model.backbone.depth': 50, 'model.head.num_classes': 4}))
    assert 'num_classes' not in str(caught.value) and '--load-from CHECKPOINT' in str(caught.value)


def test_other_classes_come_before_the_width_of_the_head() -> None:
    runner = make_runner({'model.head.num_classes': 4}, Data(('a', 'b', 'c', 'd')))
    with pytest.raises(
        CheckpointError, match="the checkpoint has 3 classes, the training data 4; only one .* 'd'.*--load"
    ):
        check_same_run(meta(), runner)
    with pytest.raises(CheckpointError, match=r"class 1 is 'b' in .* but 'c' in the training data \(the same names"):
        check_same_run(meta(), make_runner(data=Data(('a', 'c', 'b'))))


def test_another_optimiser_than_the_config_of_old_checkpoints_tells() -> None:
    with pytest.raises(CheckpointError, match='was written with the optimizer SGD, the config has AdamW.*--load-from'):
        check_same_run({'optimizer': 'SGD'}, make_runner(optimizer=torch.optim.AdamW))


def test_other_training_data() -> None:
    with pytest.raises(CheckpointError, match='was trained on 20 images, the training data have 19.*--load-from'):
        check_same_run(meta(), make_runner(data=Data(number=19)))
    with pytest.raises(
        CheckpointError, match=r'other data \(hash abc\) than the training data \(hash xyz\).*--load-from'
    ):
        check_same_run(meta(), make_runner(data=Data(fingerprint='xyz')))
    for unknown in ({'data_hash': ''}, {'data_hash': None}):
        assert check_same_run(meta(**unknown), make_runner(data=Data(fingerprint='xyz'))) == []
    assert check_same_run(meta(), make_runner(data=Data(fingerprint=''))) == []


def test_data_that_moved() -> None:
    changes = {'train_dataloader.dataset.data_root': 'elsewhere'}
    assert check_same_run(meta(), make_runner(changes)) == [
        "train_dataloader.dataset.data_root is 'a' in the checkpoint, 'elsewhere' in the config: the same images in "
        'another place'
    ]
    assert 'is not known' in check_same_run(meta(data_hash=''), make_runner(changes))[0]


@pytest.mark.parametrize(
    'changes, words',
    [
        ({'work_dir': 'second'}, "work_dir is 'first' in the checkpoint, 'second' in the config: checkpoints and logs"),
        ({'train_dataloader.num_workers': 4}, 'the order of the images does not depend on it'),
        ({'train_dataloader.batch_size': 16}, 'is 8 in the checkpoint, 16 in the config: iterations are counted anew'),
        ({'randomness.seed': 1}, 'the seed of the checkpoint is taken over'),
        ({'train_cfg.max_epochs': 9}, 'training goes on to the new end'),
        ({'default_hooks.logger.interval': 9}, 'goes on with the new setting'),
        ({'optim_wrapper.optimizer.lr': 0.2}, 'the optimiser goes on with the values of the checkpoint'),
        ({'optim_wrapper.accumulative_counts': 2}, 'is not set in the checkpoint, 2 in the config: goes on with'),
        ({'param_scheduler.0.T_max': 9}, 'from here on the new schedule counts'),
        ({'model.backbone.with_cp': True}, 'memory against time'),
        ({'model.head.thr': 0.3}, 'decides, does not train'),
    ],
)
def test_what_does_no_harm_is_noted(changes: dict[str, Any], words: str) -> None:
    notes = check_same_run(meta(), make_runner(changes))
    assert len(notes) == 1 and words in notes[0]


def test_what_is_not_worth_a_word() -> None:
    changes = {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='a.pth'), 'resume': True, 'load_from': 'a'}
    assert check_same_run(meta(), make_runner({**changes, 'model.neck': None})) == []


def test_many_differences_are_counted() -> None:
    steps = [dict(type=f'Step{number}') for number in range(9)]
    notes = check_same_run(meta(), make_runner({'train_dataloader.dataset.pipeline': steps}))
    assert len(notes) == 4 and notes[3] == 'train_dataloader.dataset.pipeline: 6 more settings differ'


def test_a_checkpoint_that_says_little() -> None:
    notes = check_same_run({'versions': {'torch': '1.0'}}, make_runner())
    assert 'carries no config' in notes[0] and 'written with torch 1.0, this is' in notes[1] and len(notes) == 2


@pytest.mark.parametrize(
    'stored, given, count',
    [
        ({'a': (1, 2)}, {'a': [1, 2]}, 0),
        ({'a': 1}, {'a': 1.0}, 0),
        ({'a': True}, {'a': 1}, 1),
        ({'a': float('nan')}, {'a': float('nan')}, 0),
        ({'a': None}, {}, 1),
        ({'a': [{'b': 1}]}, {'a': [{'b': 2}, {'c': 3}]}, 2),
        ({'a': {'b': 1}}, {'a': 5}, 1),
        ({'a': '1'}, {'a': 1}, 1),
    ],
)
def test_walking(stored: Any, given: Any, count: int) -> None:
    assert len(list(walk(stored, given))) == count


def test_of_a_real_checkpoint(tiny_config: Path) -> None:
    from mlcls.engine import Runner

    run = train(tiny_config, TrainFlags(validate=False), {'train_cfg.max_epochs': 1})
    stored = read_checkpoint(run / 'epoch_1.pth')['meta']

    def check(options: dict[str, Any]) -> list[str]:
        cfg = prepare_config(tiny_config, {'train_cfg.max_epochs': 1, **options})
        apply_flags(cfg, TrainFlags(validate=False, work_dir=str(run.parent / 'other')))
        runner = Runner.from_cfg(cfg)
        with runner.closing():
            runner._train_loop = runner.build_train_loop(runner._train_loop)
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            return check_same_run(stored, runner, str(run / 'epoch_1.pth'))

    notes = check({})
    assert len(notes) == 1 and notes[0].startswith('work_dir is ')
    with pytest.raises(CheckpointError, match=r'model\.backbone\.depth is 18 in the checkpoint, 34 in the config'):
        check({'model.backbone.depth': 34})
