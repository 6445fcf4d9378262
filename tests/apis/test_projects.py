"""From labels to a config that trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcls.apis import TrainFlags, train
from mlcls.apis.projects import ProjectFlags, start_project
from mlcls.apis.training import prepare_config
from mlcls.datasets import read_annotations
from mlcls.errors import DataError, UserError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('red', 'green', 'blue')


def write_pictures(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Textured pictures, no two alike, and the rows of a sheet about them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(folder / f'{seed}-{number}.png')
        labels = rng.random(3) < (0.5, 0.4, 0.3)
        rows.append(f'{folder.name}/{seed}-{number}.png,{",".join(str(int(label)) for label in labels)}')
    return rows


@pytest.fixture
def flags(tmp_path: Path) -> ProjectFlags:
    """Everything below ``tmp_path``, beside the real ``_base_`` configs."""
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / '_base_').symlink_to(ROOT / 'configs' / '_base_')
    return ProjectFlags(
        image_size=32,
        data_folder=str(tmp_path / 'data'),
        config_folder=str(tmp_path / 'configs'),
        work_folder=str(tmp_path / 'work_dirs'),
    )


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A sheet about 60 pictures, without parts."""
    path = tmp_path / 'my photos' / 'sheet.csv'
    rows = write_pictures(path.parent / 'pictures', 60)
    path.write_text('\n'.join([f'filename,{",".join(CLASSES)}', *rows]))
    return path


def test_data_without_parts_are_split(sheet: Path, tmp_path: Path, flags: ProjectFlags) -> None:
    project = start_project(sheet, 'pets', flags)
    assert dict(project.parts) == {'train': 48, 'val': 6, 'test': 6}
    whole = {Path(path).name: row.tolist() for path, row in rows(read_annotations(sheet))}
    found = {}
    for role in project.parts:
        annotations = read_annotations(tmp_path / 'data' / 'pets' / f'{role}.json')
        assert annotations.classes == CLASSES
        for path, row in rows(annotations):
            assert (tmp_path / 'data' / 'pets' / path).is_file()
            found[Path(path).name] = row.tolist()
    assert found == whole and len(found) == sum(project.parts.values())
    assert project.page.read_text().startswith('<!')
    assert any('split by label' in note for note in project.notes)


def rows(annotations):
    return ((path, annotations.labels.row(number)) for number, path in enumerate(annotations.img_paths))


def test_the_config_trains(sheet: Path, tmp_path: Path, flags: ProjectFlags) -> None:
    from torchvision.models import mobilenet_v2

    weights = tmp_path / 'weights.pth'
    torch.save(mobilenet_v2().state_dict(), weights)
    flags = ProjectFlags(**{**vars(flags), 'weights': str(weights)})
    project = start_project(sheet, 'pets', flags)
    cfg = prepare_config(project.config)
    assert cfg.model.head.num_classes == 3 and cfg.train_cfg.max_epochs == 40
    assert len(project.config.read_text().splitlines()) <= 60
    options = {'train_cfg.max_epochs': 1, 'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0}
    run = train(project.config, TrainFlags(work_dir=str(tmp_path / 'run')), options)
    assert list(run.glob('best_*.pth'))


def test_parts_of_the_data_are_kept(tmp_path: Path, flags: ProjectFlags) -> None:
    source = tmp_path / 'sheet.csv'
    lines = ['filename,split,red,green,blue']
    for seed, (split, count) in enumerate((('train', 40), ('valid', 12))):
        for row in write_pictures(tmp_path / 'pictures', count, seed):
            path, _, labels = row.partition(',')
            lines.append(f'{path},{split},{labels}')
    source.write_text('\n'.join(lines))
    project = start_project(source, 'pets', flags)
    assert dict(project.parts) == {'train': 40, 'val': 12}
    (note,) = project.notes
    assert note == 'there is no test part: val, by which the best epoch is chosen, stands in, which flatters'
    assert prepare_config(project.config).test_dataloader.dataset.ann_file == 'val.json'
    source.write_text(source.read_text().replace(',valid,', ',test,'))
    project = start_project(source, 'pets2', flags)
    assert dict(project.parts) == {'train': 34, 'val': 6, 'test': 12}
    assert prepare_config(project.config).test_dataloader.dataset.ann_file == 'test.json'


def test_leaking_parts_are_refused_or_split_anew(tmp_path: Path, flags: ProjectFlags) -> None:
    source = tmp_path / 'sheet.csv'
    rows = write_pictures(tmp_path / 'pictures', 60)
    lines = ['filename,split,red,green,blue']
    for split, start in (('train', 0), ('val', 40)):  # train has the images of val, too
        lines += [row.replace(',', f',{split},', 1) for row in rows[start:]]
    source.write_text('\n'.join(lines))
    with pytest.raises(DataError, match=r'(?s)the data have errors, see .*; --split-anew mixes the parts and splits'):
        start_project(source, 'pets', flags)
    project = start_project(source, 'pets', ProjectFlags(**{**vars(flags), 'split_anew': True}))
    assert dict(project.parts) == {'train': 48, 'val': 6, 'test': 6}
    names = [
        (tmp_path / 'data' / 'pets' / path).resolve()
        for role in project.parts
        for path in read_annotations(tmp_path / 'data' / 'pets' / f'{role}.json').img_paths
    ]
    assert len(set(names)) == 60 and all(name.is_file() for name in names)


def test_what_is_there_stays(sheet: Path, tmp_path: Path, flags: ProjectFlags) -> None:
    start_project(sheet, 'pets', flags)
    with pytest.raises(DataError, match=r'pets\.py: exists; choose another name, or force=True \(--force\)'):
        start_project(sheet, 'pets', flags)
    start_project(sheet, 'pets', ProjectFlags(**{**vars(flags), 'force': True}))


def test_data_with_errors(sheet: Path, tmp_path: Path, flags: ProjectFlags) -> None:
    (sheet.parent / 'pictures' / '0-3.png').write_bytes(b'')
    with pytest.raises(DataError, match=r'the data have errors, see .*data\.html:\n.*0-3\.png'):
        start_project(sheet, 'pets', flags)
    assert (tmp_path / 'work_dirs' / 'pets' / 'data.html').is_file()
    assert not (tmp_path / 'data').exists() and not (tmp_path / 'configs' / 'pets.py').exists()


@pytest.mark.parametrize(
    'parts, message',
    [
        (('a', 'b'), r"which of the parts 'a', 'b' are for training, validation and test cannot be told"),
        (('val', 'test'), 'has no part for training, only val, test'),
    ],
)
def test_parts_that_cannot_be_told(tmp_path: Path, flags: ProjectFlags, parts: tuple[str, str], message: str) -> None:
    source = tmp_path / 'sheet.csv'
    lines = ['filename,split,red,green,blue']
    for seed, split in enumerate(parts):
        rows = write_pictures(tmp_path / 'pictures', 30, seed)
        lines += [row.replace(',', f',{split},', 1) for row in rows]
    source.write_text('\n'.join(lines))
    with pytest.raises(DataError, match=message):
        start_project(source, 'pets', flags)


def test_names_and_sources(sheet: Path, flags: ProjectFlags) -> None:
    with pytest.raises(DataError, match=r"letters, digits, _ and - only, got 'a/b'"):
        start_project(sheet, 'a/b', flags)
    with pytest.raises(DataError, match=r'nowhere\.csv: no such annotation file or folder'):
        start_project('nowhere.csv', 'pets', flags)


def test_the_command(sheet: Path, tmp_path: Path, flags: ProjectFlags) -> None:
    command = [sys.executable, str(ROOT / 'tools' / 'start_project.py'), str(sheet), 'pets']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'train 48 images, val 6 images, test 6 images' in done.stdout
    assert done.stdout.rstrip().endswith('train: python tools/train.py configs/pets.py')
    record = json.loads((tmp_path / 'data' / 'pets' / 'train.json').read_text())['metainfo']['split']
    assert record['seed'] == 0
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.startswith('error: configs/pets.py: exists')


@pytest.mark.parametrize(
    'change, message',
    [
        ({'image_size': 8}, '--image-size must be at least 32, got 8'),
        ({'weights': 'nowhere.pth'}, r'nowhere\.pth: no such checkpoint file'),
    ],
)
def test_what_training_would_fail_at(
    sheet: Path, tmp_path: Path, flags: ProjectFlags, change: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        start_project(sheet, 'pets', ProjectFlags(**{**vars(flags), **change}))
    assert not (tmp_path / 'data').exists()


def test_too_few_images(sheet: Path, tmp_path: Path, flags: ProjectFlags) -> None:
    sheet.write_text('\n'.join(sheet.read_text().splitlines()[:8]))
    with pytest.raises(DataError, match=r'sheet\.csv: has fewer than 20 images, too few to train and to measure on'):
        start_project(sheet, 'pets', flags)


def test_a_sheet_of_ones(sheet: Path, flags: ProjectFlags) -> None:
    sheet.write_text(sheet.read_text().replace(',0', ','))
    with pytest.raises(DataError, match=r"labelled absent in no image.*empty='absent' \(--options empty=absent\)"):
        start_project(sheet, 'pets', flags)
    project = start_project(sheet, 'pets', ProjectFlags(**{**vars(flags), 'options': {'empty': 'absent'}}))
    assert dict(project.parts) == {'train': 48, 'val': 6, 'test': 6}
