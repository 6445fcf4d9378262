"""Thresholds fitted at a validation: kept with the weights they were fitted for, and with no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer

from mlcls.apis import TrainFlags, train
from mlcls.datasets import MultiLabelDataset
from mlcls.engine import checkpoint as checkpoints
from mlcls.engine.checkpoint import points_path, store_points, stored_points
from mlcls.errors import CheckpointError, ConfigError
from mlcls.evaluation.operating_points import OperatingPoints
from mlcls.fileio import read_checkpoint

from .collect_worker import evaluate, open_runner
from .ranks import launch

BEST = 'best_multi-label_mAP.pth'


@pytest.fixture
def fitting_config(tiny_config: Path) -> Path:
    """The tiny config with a metric that fits thresholds."""
    text = tiny_config.read_text()
    old = "dict(type='AveragePrecision')]"
    assert old in text
    tiny_config.write_text(text.replace(old, "dict(type='AveragePrecision'), dict(type='FittedThresholdMetric')]"))
    return tiny_config


def points_of(path: Path) -> OperatingPoints | None:
    return stored_points(read_checkpoint(path), path)


def val_data(config: Path) -> MultiLabelDataset:
    return MultiLabelDataset('val.json', data_root=config.parent / 'squares')


def test_the_best_checkpoint_holds_what_was_fitted_for_it(
    fitting_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(fitting_config)
    points = points_of(run / BEST)
    assert points is not None and points.classes == ('red', 'green', 'blue')
    data = val_data(fitting_config)
    assert points.data_hash == data.fingerprint and points.num_images == 20
    assert list(points.positives) == data.labels.counts().tolist()
    assert json.loads((run / 'best_multi-label_mAP.thresholds.json').read_text()) == points.to_dict()
    # The same weights on the same images (they are the test data here) give the same thresholds.
    runner = open_runner(run / BEST)
    with runner.closing():
        loop = runner.open_test()
        again = loop.evaluator.result(runner.collect()).points
    assert again is not None and again.thresholds == pytest.approx(points.thresholds, abs=1e-5)
    out = capsys.readouterr().out
    assert out.count('thresholds fitted on the validation data for f1: CF1 ') == 4
    figures = points.figures
    line = (
        f'CF1 {figures["at 0.5"]["CF1"]:.2f} at 0.5 -> {figures["cross-fitted"]["CF1"]:.2f} fitted (measured on folds'
    )
    assert line in out


def test_no_checkpoint_holds_thresholds_of_other_weights(fitting_config: Path) -> None:
    run = train(fitting_config, options={'train_cfg.val_interval': 2})
    for epoch in range(1, 5):  # epoch 3 was saved after the validation of epoch 2, the others before their own
        assert points_of(run / f'epoch_{epoch}.pth') is None
        assert not points_path(run / f'epoch_{epoch}.pth').exists()
    assert points_of(run / BEST) is not None


def test_without_a_metric_that_fits_there_are_none(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    assert points_of(run / BEST) is None and not list(run.glob('*.thresholds.json'))


def test_a_resumed_run_fits_the_same(fitting_config: Path, tmp_path: Path) -> None:
    whole = train(fitting_config, TrainFlags(work_dir=str(tmp_path / 'whole')))
    half = train(fitting_config, TrainFlags(work_dir=str(tmp_path / 'half')))
    for name in ('epoch_3.pth', 'epoch_4.pth', BEST, 'best_multi-label_mAP.thresholds.json'):
        (half / name).unlink()
    (half / 'last_checkpoint').write_text('epoch_2.pth\n')
    train(fitting_config, TrainFlags(work_dir=str(half), resume=True))
    one, two = points_of(whole / BEST), points_of(half / BEST)
    assert one is not None and two is not None and one.to_dict() == two.to_dict()
    assert points_of(half / 'epoch_3.pth') is None


def test_a_run_that_ends_after_its_resumed_validation_has_them(fitting_config: Path) -> None:
    run = train(fitting_config, options={'train_cfg.max_epochs': 1})
    before = points_of(run / BEST)
    (run / BEST).unlink()
    train(fitting_config, TrainFlags(resume=True), {'train_cfg.max_epochs': 1})
    after = points_of(run / BEST)
    assert before is not None and after is not None and before.to_dict() == after.to_dict()


def test_files_beside_go_with_their_checkpoints(fitting_config: Path) -> None:
    run = train(fitting_config, options={'train_cfg.max_epochs': 2})
    for name in ('epoch_1', 'epoch_2'):
        (run / f'{name}.thresholds.json').write_text('{}')  # as tools/fit_thresholds.py leaves it
    options = {'default_hooks.checkpoint.max_keep_ckpts': 1, 'train_cfg.max_epochs': 3}
    train(fitting_config, TrainFlags(resume=True), options)
    assert not (run / 'epoch_1.thresholds.json').exists() and not (run / 'epoch_2.thresholds.json').exists()
    (run / 'epoch_3.thresholds.json').write_text('{}')
    train(fitting_config, TrainFlags(validate=False), {'train_cfg.max_epochs': 3})
    assert not list(run.glob('*.thresholds.json'))
    (earlier,) = run.glob('earlier_*')
    assert (earlier / 'epoch_3.thresholds.json').exists() and points_path(earlier / BEST).exists()


def test_counts_of_the_training_labels_reach_the_metrics(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    counts = MultiLabelDataset('train.json', data_root=tiny_config.parent / 'squares').labels.counts().tolist()
    assert read_checkpoint(run / 'epoch_1.pth')['meta']['train_counts'] == counts
    runner = open_runner(run / 'epoch_1.pth')
    with runner.closing():
        loop = runner.open_test()
    meta = loop.evaluator.dataset_meta
    assert meta['train_counts'] == counts and meta['classes'] == ('red', 'green', 'blue')
    assert loop.data_hash == val_data(tiny_config).fingerprint


@pytest.mark.parametrize('counts', [None, [1, 2], ['a', 'b', 'c'], 'abc'])
def test_counts_that_are_none_are_passed_over(tiny_config: Path, counts: Any) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    content = read_checkpoint(run / 'epoch_1.pth')
    content['meta']['train_counts'] = counts
    torch.save(content, run / 'epoch_1.pth')
    runner = open_runner(run / 'epoch_1.pth')
    with runner.closing():
        assert 'train_counts' not in runner.open_test().evaluator.dataset_meta


def test_collect_gives_the_rows_of_a_run_and_calls_its_hooks(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    runner = open_runner(run / 'epoch_1.pth')
    calls: list[str] = []
    original = runner.call_hook

    def call_hook(name: str, **arguments: Any) -> None:
        calls.append(name)
        original(name, **arguments)

    runner.call_hook = call_hook  # type: ignore[method-assign]
    with runner.closing():
        loop = runner.open_test()
        rows = runner.collect()
        collected, calls[:] = [name for name in calls if name != 'after_load_checkpoint'], []
        assert loop.result is None
        runner.test()
    assert collected == calls and collected.count('after_test_iter') == 20
    assert loop.result is not None and rows.left_out == ()
    assert torch.equal(rows.scores, loop.result.scores) and torch.equal(rows.targets, loop.result.targets)
    assert loop.dtype_words == 'float32' and loop.tta_words == 'none'


def test_two_processes_give_the_same_bits(fitting_config: Path, tmp_path: Path) -> None:
    path = fitting_config.parent / 'squares/val.json'
    content = json.loads(path.read_text())
    content['data_list'] = content['data_list'][:19]  # does not divide by two
    path.write_text(json.dumps(content))
    checkpoint = train(fitting_config, options={'train_cfg.max_epochs': 1}) / 'epoch_1.pth'
    settings: list[dict[str, Any]] = [{}, {'tta': {'scales': [0.75], 'five_crops': 0.75}}]
    worker, out = Path(__file__).with_name('collect_worker.py'), tmp_path / 'two.pt'
    done = launch(worker, checkpoint, out, json.dumps(settings), processes=2)
    assert done.returncode == 0, done.stdout
    ones, twos = evaluate(checkpoint, settings), torch.load(out, weights_only=True)
    assert len(ones) == len(twos) == 2 and not torch.equal(ones[0]['scores'], ones[1]['scores'])
    for one, two in zip(ones, twos):
        assert len(one['scores']) == 19
        assert torch.equal(one['scores'], two['scores']) and torch.equal(one['targets'], two['targets'])
        assert one['points'] is not None and one['points'] == two['points']


# Keeping points that were fitted later.


def some_points(**changes: Any) -> OperatingPoints:
    settings: dict[str, Any] = dict(classes=('red', 'green', 'blue'), thresholds=(0.1, 0.2, 0.3), objective='f1')
    return OperatingPoints(**{**settings, **changes})


def flat(value: Any, name: str = '') -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f'{name}.{key}').items()} or {name: {}}
    if isinstance(value, list):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f'{name}.{key}').items()} or {name: []}
    return {name: value}


def test_points_are_put_into_a_checkpoint_and_nothing_else_changes(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    path = run / 'epoch_1.pth'
    before = read_checkpoint(path)
    store_points(path, some_points(thresholds=(0.5, 0.5, 0.5)))
    store_points(path, some_points())  # in place of the first
    after = read_checkpoint(path)
    stored = after.pop('operating_points')
    assert OperatingPoints.from_dict(stored, 'there').thresholds == some_points().thresholds
    old, new = flat(before), flat(after)
    assert list(old) == list(new)
    for name, value in old.items():
        same = torch.equal(value, new[name]) if isinstance(value, torch.Tensor) else value == new[name]
        assert same and type(value) is type(new[name]), name
    train(tiny_config, TrainFlags(resume=True), {'train_cfg.max_epochs': 2})  # such a checkpoint can be resumed
    assert points_of(run / 'epoch_2.pth') is None


def test_checkpoints_that_cannot_hold_points_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'other.pth'
    state = {'fc.weight': torch.ones(3, 2)}
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    for content, words in (
        ({'state_dict': state, 'meta': {}, 'message_hub': {'loss': buffer}}, 'cannot save a HistoryBuffer'),
        (state, 'holds weights alone, and no place for thresholds'),
    ):
        torch.save(content, path)
        before = path.read_bytes()
        with pytest.raises(CheckpointError, match=rf'other\.pth: .*{words}.* in other\.thresholds\.json beside it'):
            store_points(path, some_points())
        assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ['other.pth']
    torch.save({'state_dict': state, 'meta': {'classes': ['red', 'blue', 'green']}}, path)
    with pytest.raises(ConfigError, match='another order of classes'):
        store_points(path, some_points())

    def full(path: Path, write: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(checkpoints, 'write_checked', full)
    with pytest.raises(
        CheckpointError, match=r'cannot be written \(No space left on device\); the thresholds are kept'
    ):
        store_points(path, some_points(classes=('red', 'blue', 'green')))
    with pytest.raises(CheckpointError, match='no such checkpoint file'):
        store_points(tmp_path / 'gone.pth', some_points())


def test_points_that_cannot_be_read() -> None:
    assert stored_points({}, 'a.pth') is None
    with pytest.raises(CheckpointError, match="a.pth, operating_points: .*'red'.*must be in"):
        stored_points({'operating_points': {'thresholds': {'red': 7}}}, 'a.pth')


def test_where_the_file_beside_lies() -> None:
    assert points_path('work_dirs/run/epoch_3.pth') == Path('work_dirs/run/epoch_3.thresholds.json')
    assert points_path(Path('a.b.pth')) == Path('a.b.thresholds.json')


def test_metrics_that_follow_the_kept_thresholds_contradict_no_head(
    fitting_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(fitting_config, options={'train_cfg.max_epochs': 1})
    assert 'the head predicts by' not in capsys.readouterr().out


def test_a_resumed_run_keeps_thresholds_that_were_chosen_afterwards(tiny_config: Path) -> None:
    from mlcls.apis import FitFlags, fit_thresholds
    from mlcls.evaluation import FitSettings

    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    best = run / 'best_multi-label_mAP.pth'
    points = fit_thresholds(best, flags=FitFlags(FitSettings('recall>=0.9', bootstrap=0))).points
    train(tiny_config, TrainFlags(resume=True), {'train_cfg.max_epochs': 1})
    kept = stored_points(read_checkpoint(best), best)
    assert kept is not None and kept.thresholds == points.thresholds and points_path(best).is_file()


def test_thresholds_of_other_weights_are_dropped_with_a_word(
    tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlcls.apis import FitFlags, fit_thresholds
    from mlcls.evaluation import FitSettings

    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    best = run / 'best_multi-label_mAP.pth'
    fit_thresholds(best, flags=FitFlags(FitSettings(bootstrap=0)))
    content = read_checkpoint(best)
    content['state_dict']['head.fc.bias'] += 1
    torch.save(content, best)
    train(tiny_config, TrainFlags(resume=True), {'train_cfg.max_epochs': 1})
    assert stored_points(read_checkpoint(best), best) is None and not points_path(best).exists()
    assert 'were of other weights and are dropped' in capsys.readouterr().out
