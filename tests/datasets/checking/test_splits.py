"""Which splits a source has, in every layout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlcls.datasets import ClassBalancedDataset, MultiLabelDataset
from mlcls.datasets.checking.splits import is_training, split_of, splits_of_datasets, splits_of_source
from mlcls.errors import DataError

from ..conftest import Write
from .conftest import DataSet, photo_png


def names(source: Path, **options: Any) -> list[str]:
    found = splits_of_source(source, **options)
    assert not [each for each in found.findings if each.severity == 'error'], found.findings
    return [split.name for split in found.splits]


def test_a_csv_with_several_splits(write: Write) -> None:
    path = write(
        'labels.csv', 'filename,split,ant,bee\nb.jpg,val,1,0\na.jpg,train,1,0\nc.jpg,test,0,1\nd.jpg,train,0,1\n'
    )
    assert names(path) == ['train', 'val', 'test']
    assert names(path, split='val') == ['val']
    assert len(splits_of_source(path).splits[0]) == 2


def test_a_csv_with_one_split_or_none(write: Write) -> None:
    assert names(write('a.csv', 'filename,split,ant\na.jpg,val,1\n')) == ['data']
    assert names(write('b.csv', 'filename,ant\na.jpg,1\n')) == ['data']


def test_a_path_with_quotes_and_words_offers_no_splits(write: Write) -> None:
    path = write("the splits 'x', 'y'; /it's 'z'/l.csv", 'filename,split,ant\na.jpg,train,1\nb.jpg,val,1\n')
    assert names(path) == ['train', 'val']


@pytest.mark.parametrize(
    'files, expected',
    [
        (('train.json', 'val.json', 'test.json'), ['train', 'val', 'test']),
        (('my_train.json', 'my-valid.json'), ['train', 'valid']),
        (('instances_train2017.json', 'instances_val2017.json'), ['train', 'val']),
        (('training_set.json', 'notes.json', 'constrained.json'), ['training']),
    ],
)
def test_a_folder_with_a_file_a_split(write: Write, files: tuple[str, ...], expected: list[str]) -> None:
    content = {'metainfo': {'classes': ['ant']}, 'data_list': [{'img_path': 'a.jpg', 'gt_label': [0]}]}
    for name in files:
        path = write(f'data/{name}', json.dumps(content))
    assert names(path.parent) == expected
    assert names(path.parent, split=expected[0]) == expected[:1]
    with pytest.raises(DataError, match="no file of a split 'dev'; there are"):
        splits_of_source(path.parent, split='dev')


def test_text_files_take_the_classes_beside_them(write: Write) -> None:
    write('data/classes.txt', 'ant\nbee\n')
    write('data/train.txt', 'a.jpg 0\n')
    path = write('data/val.txt', 'b.jpg 1\n')
    assert names(path.parent) == ['train', 'val']
    assert splits_of_source(path.parent).splits[1].annotations.classes == ('ant', 'bee')


def coco(*images: str) -> str:
    return json.dumps(
        {
            'images': [{'id': i, 'file_name': name, 'width': 9, 'height': 9} for i, name in enumerate(images)],
            'categories': [{'id': 1, 'name': 'ant'}],
            'annotations': [{'id': 1, 'image_id': 0, 'category_id': 1, 'bbox': [0, 0, 2, 2], 'iscrowd': 0, 'area': 4}],
        }
    )


def test_cocos_layout_with_images_elsewhere(write: Write) -> None:
    write('annotations/instances_train2017.json', coco('a.jpg'))
    write('annotations/instances_val2017.json', coco('b.jpg'))
    write('annotations/captions_train2017.json', '{}')
    write('train2017/a.jpg', 'x')
    root = write('val2017/b.jpg', 'x').parents[1]
    found = splits_of_source(root)
    assert [(split.name, split.paths) for split in found.splits] == [
        ('train', [str(root / 'train2017/a.jpg')]),
        ('val', [str(root / 'val2017/b.jpg')]),
    ]


def test_the_folder_of_the_images_can_be_said(write: Write) -> None:
    path = write(
        'train.json', json.dumps({'metainfo': {'classes': ['a']}, 'data_list': [{'img_path': 'x', 'gt_label': []}]})
    )
    assert splits_of_source(path, images='/far').splits[0].paths == ['/far/x']
    assert splits_of_source(path).splits[0].paths == [str(path.parent / 'x')]


@pytest.mark.parametrize('layout, expected', [('voc', ['train', 'val', 'test']), ('yolo', ['train', 'val', 'test'])])
def test_layouts_that_name_their_splits(tmp_path: Path, test_data: Path, layout: str, expected: list[str]) -> None:
    source = test_data / 'datasets' / {'voc': 'bccd', 'yolo': 'aquarium'}[layout]
    if not source.is_dir():
        pytest.skip(f'no {source.name}')
    assert names(source) == expected  # and not voc's trainval, which is both


@pytest.mark.parametrize(
    'name, training', [('train', True), ('train2017', True), ('Train', True), ('val', False), ('test', False)]
)
def test_training_is_told_by_the_name(name: str, training: bool) -> None:
    assert is_training(name) == training


def test_class_folders_below_folders_of_splits(tmp_path: Path) -> None:
    for name in ('val/ant/c.png', 'train/ant/a.png', 'train/bee/b.png', 'val/bee/d.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(photo_png(len(name)) + name.encode())
    assert names(tmp_path) == ['train', 'val']


# Datasets of a config


def test_datasets_are_read_though_files_are_missing(clean: DataSet) -> None:
    clean.add('train', [0], None)
    root = clean.write()
    inner = {'type': 'MultiLabelDataset', 'ann_file': 'train.json', 'data_root': str(root), 'missing': 'skip'}
    wrapped = {
        'type': 'ClassBalancedDataset',
        'oversample_thr': 0.1,
        'dataset': {**inner, 'pipeline': [dict(type='Nonsense')]},
    }
    found = splits_of_datasets({'train': wrapped, 'val': {**inner, 'ann_file': 'none.json'}})
    assert [(split.name, len(split), split.missing) for split in found.splits] == [('train', 41, 'skip')]
    (finding,) = found.findings
    assert (finding.code, finding.split) == ('split-unreadable', 'val') and 'none.json' in finding.message
    assert found.splits[0].paths[0] == os.path.join(root, 'train/000.png')


def test_arguments_that_are_wrong_are_a_finding(clean: DataSet) -> None:
    config = {'type': 'MultiLabelDataset', 'ann_file': 'train.json', 'data_root': str(clean.write())}
    found = splits_of_datasets({'train': {**config, 'classes': ['ant', 'bee', 'dog']}})
    assert found.splits == () and "class 'dog'" in found.findings[0].message


def test_a_dataset_of_another_kind_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mlcls.datasets.checking.splits.DATASETS.build', lambda config: [1, 2])
    found = splits_of_datasets({'train': {'type': 'torch_list'}})
    assert found.splits == () and 'has no annotations that could be checked' in found.findings[0].message


def test_built_datasets_and_what_wraps_them(clean: DataSet) -> None:
    root = clean.write()
    dataset = MultiLabelDataset(ann_file='val.json', data_root=str(root), on_error='skip')
    for each in (dataset, ClassBalancedDataset(dataset, 0.9)):
        split = split_of('val', each)
        assert (split.annotations, split.on_error) == (dataset.annotations, 'skip')
    with pytest.raises(DataError, match='val: a list has no annotations that could be checked'):
        split_of('val', [])
