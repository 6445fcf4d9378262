"""The configs that are shipped: they load, pass the check, stay small, and their results come from artifacts."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlcls.apis.training import prepare_config
from mlcls.config import load_resolved, to_plain
from mlcls.models import ImageClassifier
from mlcls.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_loads_and_builds(path: Path) -> None:
    cfg = prepare_config(path)
    plain = to_plain(cfg)
    assert to_plain(load_resolved(plain)) == plain  # what a checkpoint will carry
    json.dumps(plain)
    model = MODELS.build(dict(cfg.model))
    assert isinstance(model, ImageClassifier)
    assert model.head.num_classes == {'mobilenetv2_aquarium': 7, 'resnet18w16_panels': 12}.get(path.stem, 10)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').rglob('*.py')), ids=lambda path: path.stem)
def test_is_small_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 60
    if path.parent.name == 'configs':
        assert f'python tools/train.py configs/{path.name}' in text.split('"""')[1]


def seeds_tool():
    spec = importlib.util.spec_from_file_location('seeds', ROOT / 'tools/benchmarks/seeds.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_results_in_docstrings_and_tables_are_those_of_the_artifacts(tmp_path: Path) -> None:
    tool = seeds_tool()
    artifacts = sorted((ROOT / 'docs/results').glob('*.json'))
    assert artifacts
    for path in artifacts:
        result = json.loads(path.read_text())
        config = tmp_path / Path(result['config']).name
        config.write_text((ROOT / result['config']).read_text())
        tool.write_docstring(config, result)
        assert config.read_text() == (ROOT / result['config']).read_text()
    before = (ROOT / 'docs/results/README.md').read_text()
    tool.write_table(tmp_path / 'README.md')
    assert (tmp_path / 'README.md').read_text() == before


def test_docstring_is_replaced_not_appended(tmp_path: Path) -> None:
    tool = seeds_tool()
    config = tmp_path / 'c.py'
    config.write_text('"""Title.\n\n    python x\n"""\n_base_ = []\n')
    runs = [
        {'seed': s, 'train_seconds': 60, 'test_seconds': 6, 'metrics': dict.fromkeys(tool.METRICS, 50.0 + s)}
        for s in range(3)
    ]
    for hardware in ('a machine', 'another machine'):
        tool.write_docstring(config, {'hardware': hardware, 'runs': runs})
    text = config.read_text()
    assert text.count('Result') == 1 and 'another machine' in text and 'mAP 51.0 +- 1.0' in text
    assert text.startswith('"""Title.\n\n    python x\n\nResult') and text.endswith('"""\n_base_ = []\n')


@pytest.mark.slow
def test_real_photographs(test_data: Path, tmp_path: Path) -> None:
    """The shipped aquarium config on the real photographs, through the command lines."""
    data, weights = test_data / 'datasets/aquarium', test_data / 'weights/mobilenet_v2_features_torchvision.pth'
    options = [
        'train_dataloader.dataset.dataset.data_root',
        'val_dataloader.dataset.data_root',
        'test_dataloader.dataset.data_root',
    ]
    config, run = ROOT / 'configs/mobilenetv2_aquarium.py', tmp_path / 'run'
    arguments = [f'{option}={data}' for option in options] + [f'model.backbone.weights={weights}']
    # The rate of the MultiDigits configs: here only data and model differ from them.
    arguments += ['optim_wrapper.optimizer.lr=2e-3', 'train_cfg.max_epochs=1']
    command = [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', run, '--cfg-options', *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'filled 260 of 260 tensors' in done.stdout
    done = subprocess.run([sys.executable, ROOT / 'tools/test.py', run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / 'results.json').read_text())['metrics']
    # Prevalence alone gives a mAP of about 23; the weights without training about 30.
    assert metrics['multi-label/mAP'] > 65 and metrics['multi-label/CF1'] > 50, done.stdout
