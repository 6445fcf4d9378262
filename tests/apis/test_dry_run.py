"""A dry run: what it tells is what a training does, and it leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlcls.apis import TrainFlags, train
from mlcls.apis.dry_run import (
    DryRunReport,
    PhaseReport,
    _duration,
    _kept_bytes,
    _validations,
    dry_run,
    free_space,
    kept_files,
)
from mlcls.engine.hooks import CheckpointHook
from mlcls.errors import CheckpointError, ConfigError, DataError
from mlcls.fileio import read_checkpoint


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_a_dry_run_leaves_nothing_and_tells_what_comes(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'temporary').mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'temporary'))
    monkeypatch.chdir(tmp_path)
    before = content(tmp_path)
    # A service would be written to; and a checkpoint each step, into the work folder.
    options: dict[str, Any] = {
        'vis_backends': [dict(type='LocalVisBackend', save_dir=str(tmp_path / 'elsewhere'))],
        'default_hooks.checkpoint.interval': 2,
        'train_cfg.val_interval': 3,
    }
    report = dry_run(tiny_config, options=options)
    assert content(tmp_path) == before
    assert not (tmp_path / 'run').exists() and not (tmp_path / 'elsewhere').exists()
    assert list((tmp_path / 'temporary').glob('mlcls*')) == []

    assert report.work_dir == str(tmp_path / 'run') and report.memory_total is None
    assert report.train.tensors == {
        'inputs': 'uint8 (8, 3, 32, 32)', 'targets': 'int8 (8, 3)', 'index': 'int64 (8,)'
    }  # fmt: skip
    assert report.val is not None and report.test is not None
    assert (report.train.batches, report.val.batches, report.test.batches) == (6, 3, 3)
    assert report.val.tensors == report.test.tensors == report.train.tensors
    assert (report.epochs, report.validations) == (4, 2)  # after epochs 3 and 4
    assert report.memory is not None and 50e6 < report.memory < 20e9
    assert report.fits and report.free_bytes is not None
    assert all(0 <= each.wait_seconds < each.seconds for each in (report.train, report.val, report.test))
    assert 'Epoch(train)' not in capsys.readouterr().out

    # A training with the same settings shows what a checkpoint is.
    del options['vis_backends']
    work = train(tiny_config, TrainFlags(validate=False), {**options, 'train_cfg.max_epochs': 2})
    file = work / 'epoch_2.pth'
    assert report.checkpoint_bytes == pytest.approx(file.stat().st_size, rel=0.02)
    state = read_checkpoint(file)['state_dict']
    weights = sum(value.numel() for name, value in state.items() if not re.search('running_|num_batches', name))
    assert report.parameters == weights == report.trained

    # The same folder, resumed: two epochs are left, and nothing in it is touched.
    before = content(tmp_path)
    capsys.readouterr()
    resumed = dry_run(tiny_config, TrainFlags(resume=True, validate=False), options)
    assert 'work_dir' not in capsys.readouterr().out  # as the same run it is compared with the checkpoint
    assert content(tmp_path) == before and list((tmp_path / 'temporary').glob('mlcls*')) == []
    assert resumed.epochs == 2 and resumed.val is None and resumed.validations == 0


def test_frozen_weights_and_no_test(tiny_config: Path) -> None:
    none = {'test_dataloader': None, 'test_cfg': None, 'test_evaluator': None}
    report = dry_run(tiny_config, options={**none, 'model.backbone.frozen_stages': 4})
    assert report.test is None
    assert report.trained == 64 * 3 + 3 < report.parameters  # the head alone


def break_images(config: Path, split: str) -> None:
    for path in (config.parent / 'squares' / split).glob('*.png'):
        path.write_bytes(path.read_bytes()[:60])


def test_the_command(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(__file__).resolve().parents[2] / 'tools/train.py'
    spec: Any = importlib.util.spec_from_file_location('tool_train', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr('sys.argv', ['train.py', str(tiny_config), '--dry-run', '--no-validate', '--work-dir', 'other'])
    tool.main()
    out = capsys.readouterr().out
    assert re.search('^validation +none$', out, re.MULTILINE) and 'will be kept in other, ' in out
    assert not (tmp_path / 'run').exists() and not Path('other').exists()
    with pytest.raises(SystemExit):
        tool.make_parser().parse_args(['c.py', '--dry-run', '--profile'])
    assert 'not allowed with argument --dry-run' in capsys.readouterr().err


@pytest.mark.parametrize('split', ['train', 'val'])
def test_broken_data_say_so_themselves(tiny_config: Path, tmp_path: Path, split: str) -> None:
    break_images(tiny_config, split)
    with pytest.raises(DataError, match=rf'squares/{split}/\d+\.png: '):
        dry_run(tiny_config)
    assert not (tmp_path / 'run').exists()


def test_nothing_to_validate_on(tiny_config: Path) -> None:
    break_images(tiny_config, 'val')
    skip = {'val_dataloader.dataset.on_error': 'skip'}
    with pytest.raises(DataError, match='val_dataloader gives no batch: none of its images can be used'):
        dry_run(tiny_config, options=skip)


def test_refusals(tiny_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='--dry-run tries one process: start it without a launcher'):
        dry_run(tiny_config, TrainFlags(launcher='pytorch'))
    nothing = {'train_dataloader': None, 'train_cfg': None, 'optim_wrapper': None, 'param_scheduler': None}
    with pytest.raises(ConfigError, match='nothing to train'):
        dry_run(tiny_config, options=nothing)
    with pytest.raises(CheckpointError):
        dry_run(tiny_config, TrainFlags(resume=True))
    with pytest.raises(ConfigError, match='runner_type'):
        dry_run(tiny_config, options={'runner_type': 'mmengine.Runner'})
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'interval, keep, length, files',
    [(1, -1, 10, 10), (3, -1, 10, 4), (5, -1, 10, 2), (1, 3, 10, 3), (4, 3, 10, 3), (-1, -1, 10, 1), (20, 2, 10, 1)],
)
def test_kept_files(interval: int, keep: int, length: int, files: int) -> None:
    """As many as the hook leaves: after each interval and at the end, of which some are deleted."""
    written = {epoch for epoch in range(1, length + 1) if epoch == length or (interval > 0 and epoch % interval == 0)}
    assert files == (len(written) if keep < 0 else min(len(written), keep))
    assert kept_files(interval, keep, length) == files


def test_kept_bytes() -> None:
    import torch

    model = torch.nn.Linear(3, 2)  # 32 bytes

    def kept(**arguments: Any) -> int:
        runner: Any = SimpleNamespace(hooks=[object(), CheckpointHook(**arguments)], model=model)
        return _kept_bytes(runner, 1000, epochs=4, batches=6)

    assert kept(minutes=None) == 5000  # four, and the one being written
    assert kept() == 6000  # one a while
    assert kept(minutes=None, max_keep_ckpts=2, save_best=['a', 'b']) == 3000 + 2 * 1000 + 2 * 32
    assert kept(minutes=None, max_keep_ckpts=2, save_best='a', safetensors=False) == 4000
    assert kept(by_epoch=False, interval=8, minutes=None) == 4000  # of 24 steps
    assert _kept_bytes(SimpleNamespace(hooks=[], model=model), 1000, 4, 6) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'epoch, most, begin, interval, count',
    [(0, 10, 1, 1, 10), (0, 10, 1, 3, 4), (0, 9, 1, 3, 3), (4, 10, 6, 1, 5), (10, 10, 1, 1, 0), (0, 10, 6, 4, 2)],
)
def test_validations(epoch: int, most: int, begin: int, interval: int, count: int) -> None:
    loop = SimpleNamespace(epoch=epoch, max_epochs=most, val_begin=begin, val_interval=interval)
    assert _validations(loop) == count


def report(**changes: Any) -> DryRunReport:
    values: Mapping[str, Any] = dict(
        work_dir='w', device='CPU', train=PhaseReport(100, {'inputs': 'uint8 (2, 3)'}, 5.0, 0.2, 0.05),
        val=PhaseReport(10, {}, 1.0, 0.1, 0.0), test=None, parameters=1000, trained=10, memory=None,
        memory_total=None, epochs=3, validations=2, checkpoint_bytes=2**20, kept_bytes=4 * 2**20, free_bytes=2**30,
    )  # fmt: skip
    return DryRunReport(**{**values, **changes})


def test_expected_time() -> None:
    assert report().train.expected_seconds == pytest.approx(5 + 99 * 0.2)
    # the slow first step comes once; each validation starts its loader anew
    assert report().run_seconds == pytest.approx(5 + 299 * 0.2 + 2 * (1 + 9 * 0.1))
    assert report(val=None, validations=0).run_seconds == pytest.approx(5 + 299 * 0.2)


def test_table() -> None:
    text = str(report())
    assert text.startswith('dry run: nothing was written')
    for words in (
        'inputs        uint8 (2, 3)',
        '200.0 ms, 50.0 ms of it waiting for data (the first: 5.00 s)',
        '1,000, of which 10 are trained',
        'not told by this system',
        'about 20.0 s',
        'about 1 min: 3 epoch(s), 2 validation(s)',
        '4 MiB of checkpoints will be kept in w, 1.0 GiB are free',
    ):
        assert words in text, text
    assert re.search(r'^test +none$', text, re.MULTILINE)
    assert '6.0 GiB at most, of 80.0 GiB on the GPU' in str(report(memory=6 * 2**30, memory_total=80 * 2**30))


@pytest.mark.parametrize(
    'free, words',
    [
        (2 * 2**20, 'NOT ENOUGH: 4 MiB of checkpoints will be kept in w, 2 MiB are free: lower '),
        (4.2 * 2**20, 'are free; that is tight'),
        (None, 'how much is free cannot be told'),
    ],
)
def test_room_on_the_disk(free: float | None, words: str) -> None:
    found = report(free_bytes=free)
    assert words in str(found) and found.fits == (free != 2 * 2**20)


def test_free_space_of_a_folder_to_be(tmp_path: Path) -> None:
    found = free_space(tmp_path / 'not/yet/there')
    status = os.statvfs(tmp_path)
    assert found == pytest.approx(status.f_bavail * status.f_frsize, rel=0.1)
    assert not (tmp_path / 'not').exists()


@pytest.mark.parametrize(
    'seconds, words',
    [
        (0.04, '0.0 s'),
        (59.94, '59.9 s'),
        (60, '1 min'),
        (3599, '1 h 0 min'),
        (12000, '3 h 20 min'),
        (180000, '2 d 2 h'),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert _duration(seconds) == words
