"""Testing with thresholds, several checkpoints, files and a report; choosing thresholds."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mlcls.apis import FitFlags, TestFlags, TrainFlags, fit_thresholds, test, train
from mlcls.apis.thresholds import describe
from mlcls.errors import CheckpointError, ConfigError, DataError
from mlcls.evaluation import FitSettings, OperatingPoints
from mlcls.evaluation.functional import confusion_counts, decide, precision_recall_f1
from mlcls.evaluation.predictions import read_predictions
from mlcls.fileio import read_checkpoint
from tests.conftest import TINY_CONFIG, make_squares

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
CLASSES = ('red', 'green', 'blue')
QUICK = FitSettings(bootstrap=20)


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained work folder, whose test data are others than its validation data; not to be written to."""
    folder = tmp_path_factory.mktemp('testing')
    make_squares(folder / 'squares', train=48, val=20, test=24)
    config = folder / 'tiny.py'
    text = TINY_CONFIG.format(root=str(folder / 'squares'), work_dir=str(folder / 'run'))
    more = "test_dataloader = dict(batch_size=8, num_workers=0, dataset=dict(type='MultiLabelDataset', "
    more += "data_root=data_root, ann_file='test.json', pipeline=test_pipeline))\n"
    config.write_text(text + more)
    train(config, options={'train_cfg.max_epochs': 2})
    return folder / 'run'


@pytest.fixture
def best(run: Path, tmp_path: Path) -> Path:
    """A copy of the best checkpoint in a folder of its own."""
    path = tmp_path / 'best_multi-label_mAP.pth'
    path.write_bytes((run / path.name).read_bytes())
    return path


def results(path: Path) -> dict:
    return json.loads((path.parent / 'results.json').read_text())


def test_files_agree_with_each_other(best: Path) -> None:
    result = test(best, flags=TestFlags(predictions=['csv', 'jsonl']))
    stored = results(best)
    assert stored['checkpoint'] == best.name and stored['num_images'] == 24
    assert stored['classes'] == list(CLASSES)
    assert stored['protocol']['thresholds']['source'] == 'default'
    assert stored['metrics'] == pytest.approx(result.metrics)
    for name in ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1', 'mAP'):
        low, high = stored['intervals'][f'multi-label/{name}']
        assert low <= high and low >= 0 and high <= 100
    for ending in ('npz', 'csv', 'jsonl'):
        found = read_predictions(best.with_name(f'predictions.{ending}'))
        assert torch.equal(found.scores, result.scores) and torch.equal(found.targets, result.targets)
        assert found.data_hash == stored['protocol']['data_hash'] and found.names[0] == 'test/0.png'
    assert stored['predictions'] == 'predictions.npz'
    with open(best.with_name('per_class.csv'), newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['class'] for row in rows] == list(CLASSES)
    assert [int(row['positives']) for row in rows] == result.positives


def test_a_name_of_its_own_for_every_file(best: Path) -> None:
    test(best, flags=TestFlags(out=best.parent / 'flipped.json', tta=True))
    names = {path.name for path in best.parent.iterdir()}
    assert {'flipped.json', 'flipped.predictions.npz', 'flipped.per_class.csv'} <= names
    stored = json.loads((best.parent / 'flipped.json').read_text())
    assert 'mirrored' in stored['protocol']['test-time augmentation']
    assert stored['predictions'] == 'flipped.predictions.npz'


def test_fitted_thresholds_are_kept_and_used(best: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: value for name, value in read_checkpoint(best).items() if name != 'operating_points'}
    points, files = fit_thresholds(best, flags=FitFlags(QUICK))
    assert [path.name for path in files] == ['best_multi-label_mAP.thresholds.json', best.name]
    after = read_checkpoint(best)
    assert OperatingPoints.from_dict(after.pop('operating_points'), 'checkpoint').thresholds == points.thresholds
    assert after.keys() == before.keys()
    assert all(torch.equal(after['state_dict'][name], value) for name, value in before['state_dict'].items())
    assert OperatingPoints.from_dict(json.loads(files[0].read_text()), 'file').thresholds == points.thresholds

    result = test(best)
    stored = results(best)['protocol']['thresholds']
    assert stored['source'] == 'fitted' and stored['objective'] == 'f1'
    assert stored['data_hash'] == points.data_hash != results(best)['protocol']['data_hash']
    thr = torch.tensor(points.thresholds)
    for prefix, limits in (('multi-label', thr), ('at_0.5', 0.5)):
        counts = confusion_counts(decide(result.scores, limits), result.targets)
        assert result.metrics[f'{prefix}/CF1'] == precision_recall_f1(counts.tp, counts.fp, counts.fn).CF1
    assert 'validation data' in capsys.readouterr().out
    assert read_predictions(best.with_name('predictions.npz')).thresholds == points.thresholds


def test_other_thresholds_on_request(best: Path, tmp_path: Path) -> None:
    fit_thresholds(best, flags=FitFlags(QUICK))
    by_hand = tmp_path / 'hand.json'
    by_hand.write_text(json.dumps({'thresholds': {'blue': 0.2, 'red': 0.7, 'green': 0.4}}))
    for wanted, source, limits in (
        ('0.3', 'number', 0.3),
        ('config', 'config', 0.5),
        (str(by_hand), 'file', [0.7, 0.4, 0.2]),
    ):
        result = test(best, flags=TestFlags(thresholds=wanted, bootstrap=0))
        counts = confusion_counts(decide(result.scores, limits), result.targets)
        assert result.metrics['multi-label/OF1'] == precision_recall_f1(counts.tp, counts.fp, counts.fn).OF1
        assert results(best)['protocol']['thresholds']['source'] == source
        assert results(best)['intervals'] == {}


def test_a_threshold_in_the_config_stays_unless_others_are_asked_for(
    best: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_thresholds(best, flags=FitFlags(QUICK))
    options = {'test_evaluator': [dict(type='ThresholdMetric', thr=0.9), dict(type='AveragePrecision')]}
    stays = test(best, options=options, flags=TestFlags(bootstrap=0))
    assert '--thresholds fitted uses them' in capsys.readouterr().out
    counts = confusion_counts(decide(stays.scores, 0.9), stays.targets)
    assert stays.metrics['multi-label/OR'] == precision_recall_f1(counts.tp, counts.fp, counts.fn).OR
    asked = test(best, options=options, flags=TestFlags(thresholds='fitted', bootstrap=0))
    assert asked.metrics['multi-label/OR'] != stays.metrics['multi-label/OR']


def test_calibrated_scores(best: Path) -> None:
    raw = test(best, flags=TestFlags(bootstrap=0))
    points, _ = fit_thresholds(best, flags=FitFlags(FitSettings(calibration='temperature', bootstrap=0)))
    calibrated = test(best, flags=TestFlags(bootstrap=0))
    assert torch.equal(calibrated.scores, points.calibrate(raw.scores))
    assert not torch.equal(calibrated.scores, raw.scores)
    assert results(best)['protocol']['calibration'] != 'none'
    assert calibrated.metrics['multi-label/mAP'] == pytest.approx(raw.metrics['multi-label/mAP'])
    assert torch.equal(test(best, flags=TestFlags(thresholds='0.5', bootstrap=0)).scores, raw.scores)
    # Through the file, too.
    by_file = test(best, flags=TestFlags(thresholds=str(best.with_suffix('.thresholds.json')), bootstrap=0))
    assert torch.equal(by_file.scores, calibrated.scores)


def test_thresholds_chosen_on_the_test_data_are_refused(best: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='if they must, say --allow-fit-on-test'):
        fit_thresholds(best, flags=FitFlags(QUICK, part='test'))
    fit_thresholds(best, flags=FitFlags(QUICK, part='test', allow_fit_on_test=True, out=tmp_path / 'cheat.json'))
    for wanted in (str(tmp_path / 'cheat.json'),):
        with pytest.raises(DataError, match='chosen on the data that are to be tested'):
            test(best, flags=TestFlags(thresholds=wanted))
        test(best, flags=TestFlags(thresholds=wanted, allow_fit_on_test=True, bootstrap=0))
    # By what the data are, not by what they are called.
    fit_thresholds(best, flags=FitFlags(QUICK))
    with pytest.raises(DataError, match='chosen on the data that are to be tested'):
        test(best, options={'test_dataloader.dataset.ann_file': 'val.json'})


def test_several_checkpoints(run: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f'{number}.pth' for number in (1, 2)]
    for number, path in zip((1, 2), paths):
        source = sorted(run.glob('epoch_*.pth'))[number - 1]
        path.write_bytes(source.read_bytes())
    alone = [test(path, flags=TestFlags(bootstrap=0)) for path in paths]
    mean = (alone[0].scores.double() + alone[1].scores.double()) / 2
    together = test(paths, flags=TestFlags(bootstrap=0))
    torch.testing.assert_close(together.scores.double(), mean, rtol=0, atol=1e-6)
    stored = json.loads((tmp_path / 'ensemble.json').read_text())
    assert stored['checkpoint'] == ['1.pth', '2.pth'] and stored['protocol']['members'] == 2
    assert len(set(stored['protocol']['weights_hash'])) == 2

    with pytest.raises(ConfigError, match='name it, --out'):
        fit_thresholds(paths)
    both = tmp_path / 'both.json'
    assert fit_thresholds(paths, flags=FitFlags(QUICK, out=both)).files == (both,)
    test(paths, flags=TestFlags(thresholds=str(both), bootstrap=0, tta=True))
    # Without a file of their own: the mean of theirs, after each one's calibration.
    flags = FitFlags(FitSettings(calibration='platt', bootstrap=0))
    points = [fit_thresholds(path, flags=flags).points for path in paths]
    joined = test(paths, flags=TestFlags(bootstrap=0))
    expected = np.mean([each.thresholds for each in points], axis=0)
    assert read_predictions(tmp_path / 'ensemble.predictions.npz').thresholds == pytest.approx(expected, abs=1e-6)
    mean = (points[0].calibrate(alone[0].scores) + points[1].calibrate(alone[1].scores)) / 2
    torch.testing.assert_close(joined.scores, mean, rtol=0, atol=1e-6)


def test_checkpoints_that_do_not_belong_together(best: Path, run: Path, tmp_path: Path) -> None:
    make_squares(tmp_path / 'other', train=24, val=12)
    config = tmp_path / 'other.py'
    config.write_text(TINY_CONFIG.format(root=str(tmp_path / 'other'), work_dir=str(tmp_path / 'other_run')))
    train(config, TrainFlags(validate=False), {'train_cfg.max_epochs': 1})
    with pytest.raises(DataError, match='name other data; give one config for all'):
        test([best, tmp_path / 'other_run'])


@pytest.mark.parametrize(
    'wanted, message',
    [
        ('fitted', 'no thresholds are kept with this checkpoint'),
        ('fited', "'fited' is no file, no number and neither 'fitted' nor 'config'"),
        ('1.5', 'must be in [0, 1], got 1.5'),
    ],
)
def test_thresholds_that_cannot_be_used(best: Path, wanted: str, message: str) -> None:
    with pytest.raises((ConfigError, CheckpointError)) as raised:
        test(best, flags=TestFlags(thresholds=wanted))
    assert message in str(raised.value)


def test_thresholds_for_other_classes(best: Path, tmp_path: Path) -> None:
    path = tmp_path / 'others.json'
    path.write_text(json.dumps({'thresholds': {'red': 0.5, 'grean': 0.5, 'blue': 0.5}}))
    with pytest.raises(ConfigError, match="no threshold for the class 'green'"):
        test(best, flags=TestFlags(thresholds=str(path)))


def test_too_few_resamplings(best: Path) -> None:
    with pytest.raises(ConfigError, match='--bootstrap must be 0 or at least 100, got 99'):
        test(best, flags=TestFlags(bootstrap=99))


def test_a_config_without_the_part(best: Path) -> None:
    gone = {'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None}
    with pytest.raises(ConfigError, match='has no val_dataloader, val_cfg, val_evaluator; nothing to score'):
        fit_thresholds(best, options=gone, flags=FitFlags(QUICK))


def test_the_report(best: Path) -> None:
    pytest.importorskip('matplotlib')
    fit_thresholds(best, flags=FitFlags(QUICK))
    test(best, flags=TestFlags(report=best.parent / 'report'))
    page = (best.parent / 'report/report.html').read_text()
    assert 'best_multi-label_mAP.pth' in page and 'data:image/jpeg;base64' in page
    assert list((best.parent / 'report/plots').glob('*.png'))
    assert list((best.parent / 'report/tensorboard').glob('events*'))


def test_the_description_names_gain_classes_and_files(best: Path) -> None:
    text = describe(fit_thresholds(best, flags=FitFlags(QUICK)))
    lines = text.splitlines()
    assert all(len(line) <= 100 for line in lines if not line.startswith('kept in'))
    assert any(line.startswith('at 0.5') for line in lines)
    assert any(line.startswith('fitted, on folds left out') for line in lines)
    assert [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in CLASSES]


def test_the_commands(best: Path) -> None:
    """The two command lines, one after the other."""
    fitted = subprocess.run(
        [sys.executable, TOOLS / 'fit_thresholds.py', best, '--objective', 'OF1', '--bootstrap', '10'],
        capture_output=True,
        text=True,
    )
    assert fitted.returncode == 0, fitted.stderr
    assert 'tools/test.py uses them' in fitted.stdout
    command = [sys.executable, TOOLS / 'test.py', best, '--order', 'worst', '--bootstrap', '100']
    tested = subprocess.run(command, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    assert 'OF1' in tested.stdout and 'results:' in tested.stdout
    wrong = subprocess.run(
        [sys.executable, TOOLS / 'fit_thresholds.py', best, '--objective', 'f-one'], capture_output=True, text=True
    )
    assert wrong.returncode == 2 and wrong.stderr.startswith('error: ') and 'Traceback' not in wrong.stderr


def test_a_threshold_in_the_config_is_what_the_files_say(best: Path) -> None:
    fit_thresholds(best, flags=FitFlags(FitSettings(calibration='platt', bootstrap=0)))
    options = {'test_evaluator': [dict(type='ThresholdMetric', thr=0.3), dict(type='AveragePrecision')]}
    kept = test(best, options=options, flags=TestFlags(bootstrap=0))
    stored = results(best)['protocol']
    assert stored['thresholds']['source'] == 'config' and stored['calibration'] == 'none'
    assert read_predictions(best.with_name('predictions.npz')).thresholds == pytest.approx((0.3, 0.3, 0.3))
    raw = test(best, options=options, flags=TestFlags(thresholds='config', bootstrap=0))
    assert torch.equal(kept.scores, raw.scores)


def test_thresholds_are_in_the_files_whichever_metric_decides_by_them(best: Path) -> None:
    points, _ = fit_thresholds(best, flags=FitFlags(QUICK))
    options = {'test_evaluator': [dict(type='ExactMatchMetric')]}
    test(best, options=options, flags=TestFlags(bootstrap=0))
    assert read_predictions(best.with_name('predictions.npz')).thresholds == points.thresholds
    alone = {'test_evaluator': [dict(type='AveragePrecision')]}
    with pytest.raises(ConfigError, match='no metric of test_evaluator takes thresholds of classes'):
        test(best, options=alone, flags=TestFlags(thresholds='fitted'))


def test_thresholds_are_not_chosen_in_a_test(best: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = {'test_evaluator': [dict(type='ThresholdMetric'), dict(type='FittedThresholdMetric')]}
    assert not any(name.endswith('_fitted') for name in test(best, options=both, flags=TestFlags(bootstrap=0)).metrics)
    assert 'FittedThresholdMetric is left out' in capsys.readouterr().out
    asked = test(best, options=both, flags=TestFlags(bootstrap=0, allow_fit_on_test=True))
    assert 'multi-label/CF1_fitted' in asked.metrics
    alone = {'test_evaluator': [dict(type='FittedThresholdMetric')]}
    with pytest.raises(ConfigError, match='test_evaluator has FittedThresholdMetric alone'):
        test(best, options=alone)


def test_the_same_images_in_another_order(best: Path, run: Path, tmp_path: Path) -> None:
    root = run.parent / 'squares'
    content = json.loads((root / 'test.json').read_text())
    content['data_list'].reverse()
    (root / 'reversed.json').write_text(json.dumps(content))
    other = tmp_path / 'other.pth'
    checkpoint = read_checkpoint(best)
    checkpoint['meta']['config']['test_dataloader']['dataset']['ann_file'] = 'reversed.json'
    torch.save(checkpoint, other)
    with pytest.raises(DataError, match='name the images in another order'):
        test([best, other])


def test_what_cannot_be_written_is_refused_before_anything_is_scored(best: Path, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='is a folder; name a file in it'):
        test(best, flags=TestFlags(out=tmp_path))
    with pytest.raises(ConfigError, match='cannot be written'):
        fit_thresholds(best, flags=FitFlags(QUICK, out=tmp_path / 'file' / 'thresholds.json'))
    with pytest.raises(ConfigError, match='--report: .* cannot be written'):
        test(best, flags=TestFlags(report=tmp_path / 'file'))


def test_a_file_of_results_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    path.write_text('{}')
    with pytest.raises(CheckpointError, match='is a JSON file, not a checkpoint'):
        test(path)


def test_a_checkpoint_that_cannot_hold_thresholds(best: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, points: OperatingPoints) -> None:
        raise CheckpointError(f'{path}: is not rewritten')

    monkeypatch.setattr('mlcls.apis.thresholds.store_points', refuse)
    fitted = fit_thresholds(best, flags=FitFlags(QUICK))
    assert [path.name for path in fitted.files] == ['best_multi-label_mAP.thresholds.json']
    assert any('is not rewritten' in note for note in fitted.points.notes)
    assert '--thresholds' in describe(fitted)


def test_calibrated_on_the_images_of_the_fit(best: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other.pth'
    other.write_bytes(best.read_bytes())
    for path in (best, other):
        fit_thresholds(path, flags=FitFlags(FitSettings(calibration='temperature', bootstrap=0)))
    together = fit_thresholds([best, other], flags=FitFlags(QUICK, out=tmp_path / 'both.json')).points
    assert any('calibrated on these very images' in note for note in together.notes)
    joined = test([best, other], flags=TestFlags(thresholds=str(tmp_path / 'both.json'), bootstrap=0))
    alone = test(best, flags=TestFlags(bootstrap=0))
    torch.testing.assert_close(joined.scores, alone.scores, rtol=0, atol=1e-6)
