"""A head whose classes come from a file serves the classes of another file with the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlcls.apis import TestFlags, TrainFlags, test, train
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint

VECTORS = {'red': (1, 0, 0), 'green': (0, 1, 0), 'blue': (0, 0, 1), 'rot': (1, 0, 0), 'blau': (0, 0, 1)}


def write_vectors(path: Path, names: list[str]) -> str:
    np.savez(path, names=np.array(names), vectors=np.array([VECTORS[name] for name in names], np.float32))
    return str(path)


def head(file: str, classes: int) -> dict:
    sizes = dict(in_channels=64, embed_dims=16, num_heads=2, feedforward_channels=16)
    return dict(_delete_=True, type='MLDecoderHead', num_classes=classes, label_embeddings=file, **sizes)


@pytest.fixture
def run(tiny_config: Path, tmp_path: Path) -> Path:
    file = write_vectors(tmp_path / 'english.npz', ['red', 'green', 'blue'])
    options = {'model.head': head(file, 3), 'model.neck': None, 'train_cfg.max_epochs': 2}
    return train(tiny_config, TrainFlags(), options)


def rename(folder: Path, split: str, kept: dict[int, str]) -> None:
    """Rename the classes of an annotation file, and drop those that are not named."""
    content = json.loads((folder / f'{split}.json').read_text())
    order = list(kept)
    content['metainfo']['classes'] = list(kept.values())
    for image in content['data_list']:
        image['gt_label'] = [order.index(label) for label in image['gt_label'] if label in kept]
    (folder / f'{split}.json').write_text(json.dumps(content))


def test_a_checkpoint_is_tested_on_other_classes(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    flags = TestFlags(thresholds='0.5', bootstrap=0)
    before = test(run, flags=flags).per_class['multi-label/AP_classwise']
    rename(tiny_data, 'val', {2: 'blau', 0: 'rot'})
    with pytest.raises(ConfigError, match='num_classes=3, but the annotations have 2 classes'):
        test(run, flags=flags)
    file = write_vectors(tmp_path / 'german.npz', ['blau', 'rot'])
    options = {'model.head.label_embeddings': file, 'model.head.num_classes': 2}
    after = test(run, options=options, flags=flags).per_class['multi-label/AP_classwise']
    assert after == pytest.approx([before[2], before[0]])
    write_vectors(tmp_path / 'german.npz', ['rot', 'blau'])
    with pytest.raises(ConfigError, match="class 0 is 'blau' in the test data but 'rot' in the classes or files of"):
        test(run, options=options, flags=flags)


def test_fine_tuning_on_other_classes_keeps_the_head(
    run: Path, tiny_config: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ('train', 'val'):
        rename(tiny_data, split, {2: 'blau', 0: 'rot'})
    options = {
        'model.head': head(write_vectors(tmp_path / 'german.npz', ['blau', 'rot']), 2),
        'model.neck': None,
        'load_from': str(run / 'epoch_2.pth'),
        'train_cfg.max_epochs': 1,
        'optim_wrapper.optimizer.lr': 1e-9,
    }
    capsys.readouterr()
    tuned = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'tuned')), options)
    assert 'the head starts anew' not in capsys.readouterr().out
    weights = [read_checkpoint(path)['state_dict'] for path in (run / 'epoch_2.pth', tuned / 'epoch_1.pth')]
    assert all(np.allclose(weights[0][n], weights[1][n], atol=1e-6) for n in weights[0] if n.startswith('head.'))
