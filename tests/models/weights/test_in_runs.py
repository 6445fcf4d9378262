"""Checkpoints say which weights a run started from, also after it was resumed or fine-tuned."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mlcls.apis import TrainFlags, test, train
from mlcls.errors import CheckpointError
from mlcls.fileio import read_checkpoint
from mlcls.models import ResNet

EPOCHS = {'train_cfg.max_epochs': 1}


def pretrained(checkpoint: Path) -> list[dict[str, object]]:
    return read_checkpoint(checkpoint)['meta']['pretrained']


def test_from_start_through_resuming_to_fine_tuning(tiny_config: Path, tmp_path: Path) -> None:
    path = tmp_path / 'w.safetensors'
    save_file(ResNet(18, base_channels=8, stem_channels=8).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    start = {**EPOCHS, 'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=str(path))}
    run = train(tiny_config, options=start)
    (entry,) = pretrained(run / 'epoch_1.pth')
    assert (entry['part'], entry['module'], entry['file']) == ('backbone', 'ResNet', str(path))
    assert (entry['sha256'], entry['tensors'], entry['all_tensors']) == (digest, 100, 100)
    (log,) = run.glob('*/*.log')
    assert f'sha256 {digest[:12]}' in log.read_text()

    train(tiny_config, TrainFlags(resume=True), {**start, 'train_cfg.max_epochs': 2})
    assert pretrained(run / 'epoch_2.pth') == [entry]
    path.unlink()  # the checkpoint alone is enough
    assert test(run / 'epoch_2.pth').metrics

    tuned = train(
        tiny_config, TrainFlags(work_dir=str(tmp_path / 'tuned')), {**EPOCHS, 'load_from': f'{run}/epoch_2.pth'}
    )
    (entry,) = pretrained(tuned / 'epoch_1.pth')
    assert (entry['part'], entry['file'], entry['num_missing']) == ('', f'{run}/epoch_2.pth', 0)


def test_from_nothing(tiny_config: Path) -> None:
    assert pretrained(train(tiny_config, options=EPOCHS) / 'epoch_1.pth') == []


def test_testing_takes_no_tensor_that_was_changed_to_fit(tiny_config: Path, tmp_path: Path) -> None:
    run = train(tiny_config, options=EPOCHS)
    checkpoint = read_checkpoint(run / 'epoch_1.pth')
    checkpoint['state_dict']['backbone.conv1.weight'] = torch.zeros(8, 1, 7, 7)
    torch.save(checkpoint, tmp_path / 'grey.pth')
    with pytest.raises(CheckpointError, match='this checkpoint is of another model:'):
        test(tmp_path / 'grey.pth')
