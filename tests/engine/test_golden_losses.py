"""Fifty losses that are written down: a change of the loop, the order of images or the randomness shows here.

``python -m tests.engine.test_golden_losses`` writes the file anew, after a change that is meant.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from mlcls.apis import TrainFlags, train
from tests.conftest import TINY_CONFIG, make_squares

GOLDEN = Path(__file__).with_name('golden_losses.json')
OPTIONS = {
    'train_cfg.max_epochs': 9,
    'param_scheduler.T_max': 9,
    'optim_wrapper.optimizer.lr': 0.01,
    'model.backbone.drop_path_rate': 0.1,
    'model.data_preprocessor.batch_augments': dict(augments=dict(type='Mixup', alpha=0.8)),
    'default_hooks.logger.interval': 1,
}


def losses(config: Path, run: Path, workers: int) -> list[float]:
    options = {'train_dataloader.num_workers': workers, **OPTIONS}
    train(config, TrainFlags(work_dir=str(run), validate=False), options)
    entries = map(json.loads, next(run.glob('*/vis_data/scalars.json')).read_text().splitlines())
    return [entry['loss'] for entry in entries][:50]


@pytest.mark.parametrize('workers', [0, 2, 3])
def test_fifty_losses_are_those_that_are_written_down(tiny_config: Path, tmp_path: Path, workers: int) -> None:
    found, golden = losses(tiny_config, tmp_path / 'run', workers), json.loads(GOLDEN.read_text())
    assert len(found) == len(golden) == 50
    # The first hardly depend on the processor; later ones do, since its roundings are trained on.
    assert found[:5] == pytest.approx(golden[:5], rel=1e-4)
    assert found == pytest.approx(golden, rel=2e-2)


def test_the_number_of_workers_changes_no_bit(tiny_config: Path, tmp_path: Path) -> None:
    runs = [losses(tiny_config, tmp_path / str(workers), workers) for workers in (0, 2, 3)]
    assert runs[0] == runs[1] == runs[2]


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_squares(root / 'squares', train=48, val=20)
        (root / 'tiny.py').write_text(TINY_CONFIG.format(root=str(root / 'squares'), work_dir=str(root / 'run')))
        GOLDEN.write_text(json.dumps(losses(root / 'tiny.py', root / 'run', 0), indent=0) + '\n')
