"""Mistakes as people make them, through the command lines: one clear message, exit code 2, no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlcls.apis import TrainFlags, train
from mlcls.apis.cli import message_of
from mlcls.errors import DataError

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOLS / f'{tool}.py', *map(str, arguments)], capture_output=True, text=True, timeout=200
    )


def expect(done: subprocess.CompletedProcess[str], words: str, code: int = 2) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr and 'Traceback' not in done.stdout
    assert re.search(words, done.stderr), done.stderr


def edit(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def misspell_key(config: Path) -> None:
    edit(config, 'train_dataloader = dict', 'train_dataloder = dict')


def misspell_argument(config: Path) -> None:
    edit(config, 'num_classes=3', 'num_clases=3')


def misspell_type(config: Path) -> None:
    edit(config, "type='ResNet'", "type='Resnet'")


def wrong_class_count(config: Path) -> None:
    edit(config, 'num_classes=3', 'num_classes=80')


def truncate_image(config: Path) -> None:
    path = config.parent / 'squares/train/7.png'
    path.write_bytes(path.read_bytes()[:500])


def truncate_image_with_workers(config: Path) -> None:
    truncate_image(config)
    edit(
        config,
        "batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True)",
        "batch_size=8, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=True)",
    )


def remove_image(config: Path) -> None:
    (config.parent / 'squares/train/7.png').unlink()


def empty_annotation(config: Path) -> None:
    (config.parent / 'squares/train.json').write_text('')


def no_annotation(config: Path) -> None:
    (config.parent / 'squares/train.json').unlink()


def multi_hot(config: Path) -> None:
    path = config.parent / 'squares/train.json'
    content = json.loads(path.read_text())
    for item in content['data_list']:
        item['gt_label'] = [int(c in item['gt_label']) for c in range(3)]
    path.write_text(json.dumps(content))


def label_out_of_range(config: Path) -> None:
    path = config.parent / 'squares/train.json'
    content = json.loads(path.read_text())
    content['data_list'][4]['gt_label'] = [3]
    path.write_text(json.dumps(content))


def threshold_out_of_range(config: Path) -> None:
    edit(config, "dict(type='ThresholdMetric')", "dict(type='ThresholdMetric', thr=50)")


def syntax_error(config: Path) -> None:
    edit(config, 'test_cfg = dict()', 'test_cfg = dict(')


MISTAKES: list[tuple[Callable[[Path], None], str]] = [
    (misspell_key, r"tiny\.py:\d+: train_dataloder: .*did you mean 'train_dataloader'"),
    (misspell_argument, r"tiny\.py:\d+: model\.head\.num_clases: .*did you mean 'num_classes'"),
    (misspell_type, r"tiny\.py:\d+: model\.backbone\.type: .*did you mean 'ResNet'"),
    (wrong_class_count, r'num_classes=80, but the annotations have 3 classes'),
    (truncate_image, r'train/7\.png'),
    (truncate_image_with_workers, r'^error: \S*train/7\.png'),
    (remove_image, r'7\.png'),
    (empty_annotation, r'train\.json.*empty'),
    (no_annotation, r'train\.json'),
    (multi_hot, r'train\.json.*multi-hot'),
    (label_out_of_range, r'train\.json.*4\.png.*3'),
    (threshold_out_of_range, r'thr.*\[0, 1\]'),
    (syntax_error, r'tiny\.py:\d+'),
]


@pytest.mark.parametrize('mistake, words', MISTAKES, ids=lambda value: getattr(value, '__name__', ''))
def test_training_mistakes(tiny_config: Path, mistake: Callable[[Path], None], words: str) -> None:
    mistake(tiny_config)
    expect(run('train', tiny_config, '--no-validate'), words)


def test_missing_config(tmp_path: Path) -> None:
    (tmp_path / 'resnet50_ml.py').write_text('')
    expect(run('train', tmp_path / 'resnet50_m.py'), 'resnet50_m.py.*resnet50_ml.py')


def test_unknown_option_path(tiny_config: Path) -> None:
    expect(run('train', tiny_config, '--cfg-options', 'model.head.treshold=0.3'), r'--cfg-options.*treshold')


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folder of a run of one epoch."""
    from tests.conftest import TINY_CONFIG, make_squares

    folder = tmp_path_factory.mktemp('trained')
    make_squares(folder / 'squares', train=48, val=20)
    config = folder / 'tiny.py'
    config.write_text(TINY_CONFIG.format(root=str(folder / 'squares'), work_dir=str(folder / 'run')))
    return train(config, TrainFlags(), {'train_cfg.max_epochs': 1})


class Evil:
    """Would run a command when unpickled."""

    def __reduce__(self):
        return (os.system, ('touch owned',))


def test_malicious_checkpoint(trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained / 'epoch_1.pth', weights_only=True)
    torch.save({**content, 'extra': Evil()}, tmp_path / 'evil.pth')
    expect(run('test', tmp_path / 'evil.pth'), r'evil\.pth: refused.*system')
    assert not (Path.cwd() / 'owned').exists() and not (tmp_path / 'owned').exists()


def with_config(trained: Path, target: Path, **changes: object) -> Path:
    """A checkpoint whose stored config was changed by somebody else."""
    content = torch.load(trained / 'epoch_1.pth', weights_only=True)
    content['meta']['config'] |= changes
    torch.save(content, target)
    return target


def test_a_config_in_a_checkpoint_runs_no_code(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'this_would_be_code.py').write_text('open("owned", "w")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    sly = with_config(trained, tmp_path / 'imports.pth', custom_imports={'imports': ['this_would_be_code']})
    run('test', sly)
    sly = with_config(trained, tmp_path / 'type.pth', model={'type': 'os.system', 'command': 'touch owned'})
    expect(run('test', sly), r'os\.system')
    assert not (Path.cwd() / 'owned').exists() and not (tmp_path / 'owned').exists()


def test_truncated_checkpoint(trained: Path, tmp_path: Path) -> None:
    (tmp_path / 'half.pth').write_bytes((trained / 'epoch_1.pth').read_bytes()[:100_000])
    expect(run('test', tmp_path / 'half.pth'), r'half\.pth: (damaged|not a checkpoint)')


def test_checkpoint_of_another_model(trained: Path) -> None:
    expect(
        run('test', trained, '--cfg-options', 'model.backbone.depth=50', 'model.head.in_channels=256'),
        'checkpoint is of another model',
    )


def test_weights_without_config(trained: Path, tmp_path: Path) -> None:
    state = torch.load(trained / 'epoch_1.pth', weights_only=True)['state_dict']
    torch.save(state, tmp_path / 'weights.pth')
    expect(run('test', tmp_path / 'weights.pth'), r'carries no config.*tools/test\.py CONFIG')
    assert run('test', trained / 'tiny.py', tmp_path / 'weights.pth').returncode == 0


@pytest.mark.parametrize('reader', ['true', 'head -n 1'])  # gone before the first line, and after it
def test_a_reader_that_has_seen_enough(trained: Path, reader: str) -> None:
    command = f'{sys.executable} {TOOLS / "test.py"} {trained} | {reader}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True)
    assert 'Traceback' not in done.stderr and 'Broken' not in done.stderr
    assert done.returncode in (0, 141)  # 0 if it was faster than its reader


def test_arguments_of_test(trained: Path, tmp_path: Path) -> None:
    expect(run('test', trained / 'tiny.py'), 'is a config; name a checkpoint')
    expect(run('test', tmp_path), 'no checkpoint in this folder')
    expect(run('test', 'a.py', 'b.py', 'c.pth'), 'at most one config, before the checkpoints, got a.py b.py c.pth')
    expect(run('test', 'b.pth', 'a.py'), 'at most one config, before the checkpoints')


def test_paths_and_flags_in_any_order(trained: Path, tmp_path: Path) -> None:
    done = run('test', trained / 'tiny.py', '--out', tmp_path / 'out.json', trained / 'epoch_1.pth')
    assert done.returncode == 0, done.stderr
    assert re.search(r'CP +CR +CF1 +OP +OR +OF1 +macro_F1 +mAP', done.stdout)
    assert json.loads((tmp_path / 'out.json').read_text())['checkpoint'] == 'epoch_1.pth'


def test_message_from_a_worker_is_cut_to_the_point() -> None:
    text = (
        'Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
        '  File "x.py", line 1\nmlcls.errors.DataError: a.jpg: the file is empty'
    )
    assert message_of(DataError(text)) == 'a.jpg: the file is empty'
    assert message_of(DataError('plain')) == 'plain'
