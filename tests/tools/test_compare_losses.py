"""The comparison of losses: its configs, a run of it, and the page that is written from its artifact."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlcls.apis.training import prepare_config
from mlcls.models import losses
from mlcls.models.losses import MultiLabelLoss
from mlcls.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs/losses').glob('*.py'))

sys.path.insert(0, str(ROOT / 'tools/benchmarks'))
import compare_losses  # noqa: E402
import loss_tables  # noqa: E402


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_are_small_and_build(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 15
    assert f'python tools/train.py configs/losses/{path.name}' in text.split('"""')[1]
    cfg = prepare_config(path)
    assert isinstance(MODELS.build(dict(cfg.model)).head.loss_module, MultiLabelLoss)


def test_every_loss_has_a_config() -> None:
    kinds = {name for name in losses.__all__ if isinstance(MODELS.get(name), type)}
    shown = {prepare_config(path).model.head.loss.type for path in CONFIGS}
    assert kinds == shown


def test_a_run(tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_losses, 'WORK', tmp_path)
    options = {'model.head.loss': dict(_delete_=True, type='AsymmetricLoss'), 'train_cfg.max_epochs': 4}
    record = compare_losses.run_one(compare_losses.Experiment('tiny', str(tiny_config), options), seed=3)
    assert record['seed'] == 3 and record['train_seconds'] > 0
    assert record['calibrated']['mAP'] == pytest.approx(record['sigmoid']['mAP'], abs=0.02)
    assert record['calibrated']['OR'] <= record['sigmoid']['OR']
    stored = json.loads((tmp_path / 'tiny_3/sigmoid.json').read_text())
    assert stored['metrics']['multi-label/CF1'] == pytest.approx(record['sigmoid']['CF1'], abs=0.01)
    recalls, counts = stored['per_class']['multi-label/R_classwise'], stored['per_class']['positives']
    assert len(counts) == 3 and record['sigmoid']['recall_of_rare'] == pytest.approx(sum(recalls) / 3, abs=0.01)


def test_the_rare_classes_are_those_with_fewest_images() -> None:
    recalls = {'multi-label/R_classwise': [10.0, 20.0, 30.0, 40.0, 50.0]}
    result = SimpleNamespace(classes='abcde', positives=[9, 1, 8, 2, 3], per_class=recalls)
    assert compare_losses.recall_of_rare(result) == pytest.approx((20 + 40 + 50) / 3)


@pytest.mark.parametrize(
    'a, b, words',
    [
        ([80.0, 81.0, 82.0], [70.0, 71.0, 72.0], 'above'),
        ([70.0, 71.0, 72.0], [80.0, 81.0, 82.0], 'below'),
        ([80.0, 81.0, 82.0], [79.0, 80.0, 81.0], 'not to be told from'),
    ],
)
def test_differences_within_the_noise_are_none(a: list[float], b: list[float], words: str) -> None:
    assert loss_tables.compare(a, b) == words


def test_losses_are_described_as_they_are_written() -> None:
    assert compare_losses.described(dict(type='FocalLoss', gamma=2.0)) == 'FocalLoss(gamma=2.0)'
    parts = dict(type='WeightedSum', losses=[dict(type='ZLPRLoss'), dict(type='HillLoss')], weights=[1.0, 0.5])
    assert compare_losses.described(parts) == '1 ZLPRLoss() + 0.5 HillLoss()'


def test_the_page_is_that_of_the_artifact(tmp_path: Path) -> None:
    artifact = json.loads(compare_losses.ARTIFACT.read_text())
    names = {experiment.name for experiment in compare_losses.experiments()}
    assert set(artifact['experiments']) == names
    assert all(len(experiment['runs']) >= 2 for experiment in artifact['experiments'].values())
    page = tmp_path / 'losses.md'
    page.write_text(loss_tables.PAGE.read_text())
    loss_tables.write_page(artifact, page)
    assert page.read_text() == loss_tables.PAGE.read_text()
