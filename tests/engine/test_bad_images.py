"""Broken pictures in a real run: what the config says happens, and the run says that it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlcls.apis import TestFlags, test, train
from mlcls.errors import ConfigError, DataError

ONE_EPOCH = {'train_cfg.max_epochs': 1}


def broken(root: Path, split: str, *numbers: int) -> None:
    for number in numbers:
        (root / split / f'{number}.png').write_bytes(b'')


def log_of(run: Path) -> str:
    return ''.join(path.read_text() for path in run.rglob('*.log'))


def listed(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / 'bad_images.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('workers', [0, 2])
def test_training_and_validation_go_on(tiny_config: Path, tiny_data: Path, tmp_path: Path, workers: int) -> None:
    broken(tiny_data, 'train', 1, 2)
    broken(tiny_data, 'val', 0)
    options = {
        'train_dataloader.dataset.on_error': 'replace',
        'val_dataloader.dataset.on_error': 'skip',
        'train_dataloader.num_workers': workers,
        'val_dataloader.num_workers': workers,
        **ONE_EPOCH,
    }
    train(tiny_config, options=options)
    entries = listed(tmp_path / 'run')
    assert sorted(entry['action'] for entry in entries) == ['replaced', 'replaced', 'skipped']
    text = log_of(tmp_path / 'run')
    assert '2 images could not be used (2 replaced); see ' in text and '1 image could not be used (1 skipped)' in text
    results = tmp_path / 'results.json'
    result = test(tmp_path / 'run', options={'test_dataloader.dataset.on_error': 'skip'}, flags=TestFlags(out=results))
    assert result.left_out == (0,) and result.num_images == 19
    assert json.loads(results.read_text())['num_images_left_out'] == 1


def test_the_table_says_what_is_left_out(tiny_config: Path, tiny_data: Path, tmp_path: Path, capsys: Any) -> None:
    train(tiny_config, options=ONE_EPOCH)
    broken(tiny_data, 'val', 3, 4)
    with pytest.raises(DataError, match=r'3\.png: the file is empty'):
        test(tmp_path / 'run')
    test(tmp_path / 'run', options={'test_dataloader.dataset.on_error': 'skip'})
    assert '2 images could not be used and are left out of these numbers' in capsys.readouterr().out


def test_validation_never_replaces(tiny_config: Path) -> None:
    with pytest.raises(ConfigError, match=r"val_dataloader\.dataset\.on_error='replace' would count other images"):
        train(tiny_config, options={'val_dataloader.dataset.on_error': 'replace', **ONE_EPOCH})


def test_a_whole_batch_that_cannot_be_used_ends_the_training(tiny_config: Path, tiny_data: Path) -> None:
    broken(tiny_data, 'train', *range(48))
    with pytest.raises(DataError, match=r'no image of a whole batch can be used; .*bad_images\.jsonl lists those'):
        train(tiny_config, options={'train_dataloader.dataset.on_error': 'skip', **ONE_EPOCH})


def test_a_healthy_run_has_no_list(tiny_config: Path, tmp_path: Path) -> None:
    train(tiny_config, options=ONE_EPOCH)
    assert not (tmp_path / 'run' / 'bad_images.jsonl').exists()


def test_a_batch_cut_down_to_one_image_ends_the_training(tiny_config: Path, tiny_data: Path) -> None:
    broken(tiny_data, 'train', *range(0, 48, 2))
    options = {
        'train_dataloader.dataset.on_error': 'skip',
        'train_dataloader.batch_size': 2,
        'train_dataloader.sampler.shuffle': False,
        **ONE_EPOCH,
    }
    with pytest.raises(
        DataError, match=r"a single image of a batch can be used.*on_error='replace' keeps batches whole"
    ):
        train(tiny_config, options=options)


def test_left_out_is_no_cover_for_a_batch_sampler_that_drops(tiny_config: Path) -> None:
    options = {
        'val_dataloader.batch_sampler': dict(type='torch.utils.data.BatchSampler', drop_last=True),
        'val_dataloader.dataset.on_error': 'skip',
        **ONE_EPOCH,
    }
    with pytest.raises(ConfigError, match=r'val_dataloader\.drop_last=True would leave images out'):
        train(tiny_config, options=options)


def test_training_with_a_batch_sampler(tiny_config: Path, tmp_path: Path) -> None:
    batches = dict(type='torch.utils.data.BatchSampler', drop_last=True)
    train(tiny_config, options={'train_dataloader.batch_sampler': batches, **ONE_EPOCH})
    assert list((tmp_path / 'run').glob('epoch_1.pth'))
