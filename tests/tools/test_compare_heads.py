"""The comparison of heads and backbones: its configs and experiments, a run, and the page written from artifacts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mlcls.apis.training import prepare_config
from mlcls.models import heads
from mlcls.models.heads import MultiLabelClsHead
from mlcls.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted([*(ROOT / 'configs/heads').glob('*.py'), *(ROOT / 'configs/backbones').glob('*.py')])

sys.path.insert(0, str(ROOT / 'tools/benchmarks'))
import compare_heads  # noqa: E402
import head_tables  # noqa: E402


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_are_small_and_build(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 25
    assert f'python tools/train.py {path.relative_to(ROOT)}' in text.split('"""')[1]
    cfg = prepare_config(path)
    assert isinstance(MODELS.build(dict(cfg.model)).head, MultiLabelClsHead)


def test_every_head_has_a_config() -> None:
    kinds = {name for name in heads.__all__ if name.endswith('Head')} - {'MultiLabelClsHead'}
    shown = {prepare_config(path).model.head.type for path in (ROOT / 'configs/heads').glob('*.py')}
    assert kinds == shown


def test_experiments_are_configs_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compare_heads.WEIGHTS, '/weights.pth')
    found = compare_heads.experiments()
    assert len({experiment.name for experiment in found}) == len(found)
    for experiment in found:
        cfg = prepare_config(ROOT / experiment.config, experiment.options)
        weights = cfg.model.backbone.get('weights')
        assert weights == ('/weights.pth' if 'full' in experiment.name or 'frozen' in experiment.name else None)


def test_a_run(tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_heads, 'WORK', tmp_path)
    evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='FittedThresholdMetric')]
    head = dict(_delete_=True, type='CSRAClsHead', num_classes=3, in_channels=64, num_heads=1, lam=0.1)
    options = {'model.head': head, 'model.neck': None, 'val_evaluator': evaluator}
    options['test_dataloader.dataset.ann_file'] = 'train.json'  # thresholds are chosen on val.json
    record = compare_heads.run_one(compare_heads.Experiment('tiny', str(tiny_config), options), seed=3)
    assert record['seed'] == 3 and record['train_seconds'] > 0
    stored = json.loads((tmp_path / 'tiny_3/results.json').read_text())
    for name in compare_heads.METRICS:
        assert stored['metrics'][f'multi-label/{name}'] == pytest.approx(record[name], abs=0.01)
    assert stored['metrics']['multi-label/subset_accuracy'] <= 100


def test_neighbours_are_counted_by_number(tmp_path: Path) -> None:
    sheet = tmp_path / 'labels.csv'
    names = {'train': (10, 20), 'test': (11, 13, 14, 27, 19), 'valid': (27,)}
    lines = [f'{split}/IMG_{number}_x.jpg,{split}' for split, numbers in names.items() for number in numbers]
    sheet.write_text('\n'.join(['filename,split', *lines, 'other.jpg,test']))
    assert compare_heads.neighbours(sheet) == {'test': 5, 'distance': 3, 'close': 3, 'next': 2}


def test_limits_are_those_of_the_pictures_that_are_made(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    from mlcls.datasets.panels import LABEL_SETS, PanelsSpec, make_panels, posterior

    count = 300
    make_panels(tmp_path, PanelsSpec(num_train=1, num_val=1, num_test=count))
    shades = []
    for path in sorted((tmp_path / 'test').glob('*.png')):
        shades.append(cv2.imread(str(path))[[0, 0, -1, -1], [0, -1, -1, 0], ::-1])
    listed = json.loads((tmp_path / 'test.json').read_text())['data_list']
    truth = np.zeros((count, 12), np.int8)
    for row, image in zip(truth, listed):
        row[image['gt_label']] = 1
    best = LABEL_SETS[posterior(np.stack(shades)).argmax(1)]
    found = compare_heads.limits()
    assert 100 * (best == truth).all(1).mean() == pytest.approx(found['label_sets'], abs=9)
    assert found['single_labels'] < found['label_sets']


def study(**experiments: list[float]) -> dict:
    runs = {
        name: {
            'runs': [
                {'seed': seed, 'train_seconds': 60.0, 'mAP': v, 'CF1': v, 'OF1': v, 'subset_accuracy': v}
                for seed, v in enumerate(values)
            ]
        }
        for name, values in experiments.items()
    }
    return {'hardware': 'H', 'limits': {'single_labels': 38.0, 'label_sets': 48.0}, 'experiments': runs}


def test_the_table_ranks_and_tells_noise_from_gain() -> None:
    lines = head_tables.dependence(study(linear=[30.0, 31.0], chain=[40.0, 41.0], gcn=[30.5, 31.5]))
    rows = [line for line in lines if line.startswith('| `')]
    assert [row.split('`')[1] for row in rows] == ['chain', 'gcn', 'linear']
    assert '+10.0, above' in rows[0] and '+0.5, not to be told from' in rows[1]
    assert any('38.0' in line and '48.0' in line for line in lines)


def test_photographs_need_paths(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, 'argv', ['compare_heads.py', '--study', 'transfer'])
    with pytest.raises(SystemExit):
        compare_heads.main()
    assert '--aquarium and --weights are needed' in capsys.readouterr().err


def test_the_page_is_that_of_the_artifacts(tmp_path: Path) -> None:
    made = [name for name in compare_heads.STUDIES if (head_tables.RESULTS / f'{name}.json').is_file()]
    assert made  # a study that has not been run is left out of the page
    for name in made:
        artifact = json.loads((head_tables.RESULTS / f'{name}.json').read_text())
        names = {experiment.name.removeprefix(f'{name}_') for experiment in compare_heads.experiments(name)}
        assert set(artifact['experiments']) == names
        assert all(len(experiment['runs']) >= 2 for experiment in artifact['experiments'].values())
    page = tmp_path / 'heads.md'
    page.write_text(head_tables.PAGE.read_text())
    head_tables.write_page(page)
    assert page.read_text() == head_tables.PAGE.read_text()
