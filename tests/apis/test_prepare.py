"""Converting annotations to the native format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcls.apis import prepare
from mlcls.apis.prepare import describe, prepare_data, relocate
from mlcls.datasets import MultiLabelDataset
from mlcls.datasets.formats import find_difference, read_annotations, write_native
from mlcls.errors import DataError
from mlcls.evaluation import EvaluationResult
from mlcls.evaluation.report import ReportSource, build_payload, suspects_csv
from mlcls.structures import Annotations, LabelMatrix, StringList


def write(path: Path, content: str | bytes = b'') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A label list of two images (which are there) in ``data``."""
    for name in ('a', 'b'):
        write(tmp_path / f'data/images/{name}.jpg')
    return write(tmp_path / 'data/labels.csv', 'filename,labels\nimages/a.jpg,cat;dog\nimages/b.jpg,cat\n')


def paths(path: Path) -> list[str]:
    return [entry['img_path'] for entry in json.loads(path.read_text())['data_list']]


@pytest.mark.parametrize(
    'target, expected',
    [
        ('data/new.json', 'images/a.jpg'),
        ('new.json', 'data/images/a.jpg'),
        ('other/deep/new.json', '../../data/images/a.jpg'),
        ('data/images/new.json', '../images/a.jpg'),
    ],
)
def test_paths_lead_to_the_same_files(source: Path, tmp_path: Path, target: str, expected: str) -> None:
    made = prepare_data(source, tmp_path / target)
    assert paths(tmp_path / target)[0] == expected and made.img_paths[0] == expected
    for path, name in zip(paths(tmp_path / target), 'ab'):
        assert os.path.samefile((tmp_path / target).parent / path, tmp_path / f'data/images/{name}.jpg')
    assert made.notes == ()


def test_relative_arguments(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / 'data')
    prepare_data('labels.csv', '../out/new.json')
    assert paths(tmp_path / 'out/new.json')[0] == '../data/images/a.jpg'
    prepare_data('labels.csv', 'new.json')
    assert paths(tmp_path / 'data/new.json')[0] == 'images/a.jpg'


def test_a_folder_behind_a_link(source: Path, tmp_path: Path) -> None:
    """From a linked folder, '..' leads to where the folder really is."""
    (tmp_path / 'far/away/out').mkdir(parents=True)
    os.symlink(tmp_path / 'far/away/out', tmp_path / 'out')
    assert prepare_data(source, tmp_path / 'out/new.json').notes == ()
    assert len(MultiLabelDataset(ann_file=str(tmp_path / 'out/new.json'))) == 2


def test_paths_that_stay() -> None:
    given = ['/abs/a.jpg', 's3://bucket/a.jpg', '../a.jpg', './b.jpg']
    assert relocate(given, Path('/x/y'), Path('/x')) == ['/abs/a.jpg', 's3://bucket/a.jpg', 'y/../a.jpg', 'y/./b.jpg']
    assert relocate(given, Path('/x'), Path('/x')) == given


def test_images_elsewhere(source: Path, tmp_path: Path) -> None:
    moved = source.rename(write(tmp_path / 'csv/x').parent / 'labels.csv')
    made = prepare_data(moved, tmp_path / 'new.json')
    assert made.notes[-1].startswith(f'{tmp_path}/new.json: 2 of 2 images do not exist: ')
    made = prepare_data(moved, tmp_path / 'new.json', images=tmp_path / 'data', force=True)
    assert made.notes == () and made.img_paths[0] == 'data/images/a.jpg'
    with pytest.raises(DataError, match='none: no such folder of images'):
        prepare_data(moved, tmp_path / 'new.json', images=tmp_path / 'none', force=True)


def test_classes_map_and_options(source: Path, tmp_path: Path) -> None:
    made = prepare_data(source, tmp_path / 'a.json', class_map={'dog': 'animal'}, classes=['animal', 'cat'])
    assert made.classes == ('animal', 'cat') and made.labels.dense().tolist() == [[1, 1], [0, 1]]
    assert read_annotations(tmp_path / 'a.json').classes == ('animal', 'cat')
    made = prepare_data(source, tmp_path / 'b.json', 'label_list', options={'separator': ','})
    assert made.classes == ('cat', 'cat;dog')
    with pytest.raises(
        DataError, match="annotation format 'label_list' has no option 'separtor'; did you mean 'separat"
    ):
        prepare_data(source, tmp_path / 'c.json', options={'separtor': ','})
    assert not (tmp_path / 'c.json').exists()


def test_nothing_is_overwritten_unasked(source: Path, tmp_path: Path) -> None:
    old = write(tmp_path / 'new.json', 'precious')
    with pytest.raises(DataError, match=r'new\.json: exists; force=True \(--force\) replaces it'):
        prepare_data(source, old)
    assert old.read_text() == 'precious'
    prepare_data(source, old, force=True)
    assert len(paths(old)) == 2
    with pytest.raises(DataError, match=r'new\.json: is the file that is read; write to another one'):
        prepare_data(old, tmp_path / 'data/../new.json', force=True)
    with pytest.raises(DataError, match='data: is a folder; name the file to write'):
        prepare_data(source, tmp_path / 'data')


def test_a_target_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'labels\.csv/new\.json: cannot be written'):
        prepare_data(source, source / 'new.json')


def test_a_file_that_reads_back_otherwise_is_an_error(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is real: a writer that loses a label is found out."""
    write_native = prepare.write_native

    def lossy(annotations, path):
        write_native(annotations, path)
        path.write_text(path.read_text().replace('[0, 1]', '[0]'))

    monkeypatch.setattr(prepare, 'write_native', lossy)
    with pytest.raises(
        DataError, match="does not read back as it was written .other labels of image '.*a.jpg'.; do not"
    ):
        prepare_data(source, tmp_path / 'new.json')


def test_the_description(source: Path, tmp_path: Path) -> None:
    made = prepare_data(source, tmp_path / 'new.json', class_map={'dog': None})
    assert describe(made).split('\n') == [
        "recognised as label_list: a CSV file with a column 'labels' of labels",
        '2 images, 1 classes, 2 present labels (1.00 an image), 0 unknown labels',
        '  cat: 2',
        f"note: {source}: the class map drops 'dog'",
    ]
    assert describe(prepare_data(source, tmp_path / 'b.json', 'label_list')).startswith('read as label_list\n')


def test_many_classes_are_cut(tmp_path: Path) -> None:
    names = ';'.join(f'c{number:02}' for number in range(23))
    source = write(tmp_path / 'a.csv', f'filename,labels\na.jpg,{names}\n')
    lines = describe(prepare_data(source, tmp_path / 'new.json')).split('\n')
    assert lines[21] == '  c19: 1' and lines[22] == '  ... and 3 more classes' and lines[23].startswith('note: ')


@pytest.mark.parametrize('name', ['aquarium', 'bccd', 'coco_tiny'])
def test_real_data(test_data: Path, tmp_path: Path, name: str) -> None:
    """Every split of the real data sets: read back equal, and the images are found from the new place."""
    source = test_data / f'datasets/{name}/labels.csv'
    rows = [row.split(',') for row in source.read_text().splitlines()]
    for split in sorted({row[1] for row in rows[1:]}):
        target = tmp_path / f'{split}.json'
        made = prepare_data(source, target, options={'split': split})
        again = read_annotations(target)
        assert find_difference(made, again) == ''
        expected = [row for row in rows[1:] if row[1] == split]
        assert list(again.classes) == rows[0][2:]
        assert again.labels.dense().tolist() == [[int(cell) for cell in row[2:]] for row in expected]
        assert not any('do not exist' in note for note in made.notes)
        for path, row in zip(again.img_paths, expected):
            assert os.path.samefile(tmp_path / path, source.parent / row[0])
    data = MultiLabelDataset(ann_file=str(target), pipeline=[{'type': 'LoadImageFromFile'}])
    with Image.open(source.parent / expected[0][0]) as image:
        assert data[0]['img'].shape == np.asarray(image.convert('RGB')).shape


def test_corrections_are_applied_before_paths_move(source: Path, tmp_path: Path) -> None:
    fix = write(tmp_path / 'fix.csv', 'image,class,label,score\nimages/b.jpg,animal,1,0.9\nimages/a.jpg,cat,-1,0.4\n')
    made = prepare_data(source, tmp_path / 'new.json', class_map={'dog': 'animal'}, corrections=fix)
    assert made.img_paths[0] == 'data/images/a.jpg' and made.labels.dense().tolist() == [[-1, 1], [1, 1]]
    assert read_annotations(tmp_path / 'new.json').labels.dense().tolist() == [[-1, 1], [1, 1]]
    assert f'{fix}: 2 labels corrected (1 now present, 1 now unknown)' in made.notes
    with pytest.raises(DataError, match=r"fix\.csv, line 2: no class 'animal'; choose from cat, dog"):
        prepare_data(source, tmp_path / 'other.json', corrections=fix)
    assert not (tmp_path / 'other.json').exists()


def test_what_a_report_suspects_mends_the_labels(tmp_path: Path) -> None:
    """Errors in labels, scores that know better: the CSV of the report gives the clean labels back."""
    rng = np.random.default_rng(0)
    clean = (rng.random((150, 4)) < 0.3).astype(np.int8)
    clean[:, 3] = rng.random(150) < 0.1
    noisy = np.where(rng.random(clean.shape) < 0.06, 1 - clean, clean).astype(np.int8)
    noisy[rng.random(clean.shape) < 0.03] = -1
    assert ((noisy == 0) & (clean == 1)).any() and ((noisy == 1) & (clean == 0)).any()
    scores = np.where(clean == 1, rng.uniform(0.7, 0.95, clean.shape), 0.02).astype(np.float32)
    classes = ('cat', 'red "bus", old', 'naïve', '狐')
    names = [f'images/{number}, "x".jpg' for number in range(150)]
    native = write(tmp_path / 'noisy.json', '')
    write_native(Annotations(classes, StringList(names), LabelMatrix.from_dense(noisy)), native)
    result = EvaluationResult({}, {}, torch.from_numpy(scores), torch.from_numpy(noisy), classes, 150)
    payload = build_payload(result, ReportSource('', names, lambda row: None, [], [0.5] * 4))
    fix = write(tmp_path / 'fix.csv', suspects_csv(payload['suspects'], classes))
    made = prepare_data(native, tmp_path / 'clean.json', corrections=fix)
    errors = int(((noisy >= 0) & (noisy != clean)).sum())
    assert len(payload['suspects']) == errors
    assert any(note.startswith(f'{fix}: {errors} labels corrected') for note in made.notes)
    mended = read_annotations(tmp_path / 'clean.json').labels.dense()
    assert mended.tolist() == np.where(noisy == -1, -1, clean).tolist()
