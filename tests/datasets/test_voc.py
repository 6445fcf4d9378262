"""The dataset VOC, built as mmpretrain's configs build it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mlcls.config.signatures import arguments_of
from mlcls.datasets import voc
from mlcls.datasets.voc import VOC, VOC_CLASSES
from mlcls.errors import ConfigError, DataError
from mlcls.registry import DATASETS
from tests.datasets.conftest import encode

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=16), dict(type='PackInputs')]
OBJECT = '<object><name>{}</name><difficult>{}</difficult></object>'


@pytest.fixture
def root(write, tmp_path, picture) -> Path:
    """Three images: a person; a difficult dog; a person and a cat."""
    objects = {'1': [('person', 0)], '2': [('dog', 1)], '3': [('person', 0), ('cat', 0)]}
    for name, shown in objects.items():
        text = ''.join(OBJECT.format(*each) for each in shown)
        write(f'VOC2007/Annotations/{name}.xml', f'<annotation>{text}</annotation>')
        write(f'VOC2007/JPEGImages/{name}.jpg', encode(picture, 'JPEG'))
    write('VOC2007/ImageSets/Main/trainval.txt', '1\n2\n')
    write('VOC2007/ImageSets/Main/test.txt', '3\n')
    return tmp_path / 'VOC2007'


def present(data):
    return [[data.classes[number] for number in data.get_cat_ids(index)] for index in range(len(data))]


def test_configs_of_mmpretrain_run(root):
    data = DATASETS.build(dict(type='VOC', data_root=f'{root}/', split='trainval', pipeline=PIPELINE, test_mode=True))
    assert data.classes == VOC_CLASSES and len(VOC_CLASSES) == 20 and list(VOC_CLASSES) == sorted(VOC_CLASSES)
    assert present(data) == [['person'], []]
    assert data.get_data_info(1)['gt_unknown'] == [VOC_CLASSES.index('dog')]
    assert data[0]['inputs'].shape[-1] == 16
    older = dict(
        type='VOC',
        data_root=str(root),
        image_set_path='ImageSets/Main/test.txt',
        data_prefix=dict(img_path='JPEGImages', ann_path='Annotations'),
    )
    assert present(DATASETS.build(older)) == [['cat', 'person']]
    assert present(VOC(root)) == [['person'], []]  # trainval
    assert present(VOC(root, 'test')) == [['cat', 'person']]


@pytest.mark.parametrize('difficult, label', [('ignore', -1), ('positive', 1), ('negative', 0)])
def test_difficult(root, difficult, label):
    data = VOC(root, difficult=difficult)
    assert data.labels.row(1)[VOC_CLASSES.index('dog')] == label
    assert np.count_nonzero(data.labels.row(1)) == abs(label)


def test_other_folders(root, write):
    (root / 'JPEGImages').rename(root / 'photos')
    for prefix in ('photos', 'photos/', dict(img_path='photos'), dict(img_path=str(root / 'photos'))):
        data = VOC(root, data_prefix=prefix, pipeline=PIPELINE)
        assert data[0]['inputs'].shape[-1] == 16
    with pytest.raises(DataError, match="2 of 2 images do not exist: .*looked in '.*VOC2007'"):
        VOC(root)
    with pytest.raises(DataError, match="has no folder 'xml' of XML files"):
        VOC(root, data_prefix=dict(img_path='photos', ann_path='xml'))


def test_other_classes(root):
    data = VOC(root, metainfo=dict(classes=['person', 'dog'], author='me'))
    assert data.metainfo == {'classes': ('person', 'dog'), 'author': 'me'} and present(data) == [['person'], []]
    (root / 'names.txt').write_text('dog\nperson\n')
    assert VOC(root, classes='names.txt').classes == ('dog', 'person')
    with pytest.raises(DataError, match="3.xml, line 1: 'cat' is none of the 2 classes"):
        VOC(root, 'test', classes=['person', 'dog'])


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(data_root=''), "VOC: data_root must be the folder of 'Annotations', got ''"),
        (dict(data_prefix=dict(img='x')), 'VOC: data_prefix must be dict'),
        (dict(data_prefix=dict(img_path='x', ann_path=None)), "VOC: data_prefix must be dict.*'ann_path': None"),
        (dict(image_set_path='ImageSets/Main'), r'VOC: image_set_path must be the path of a list \(.txt\)'),
        (dict(missing='maybe'), 'missing must be one of'),
    ],
)
def test_arguments_that_cannot_be_used(root, arguments, message):
    with pytest.raises(ConfigError, match=message):
        VOC(**{'data_root': root, **arguments})


def test_unknown_split(root):
    with pytest.raises(
        DataError, match=r"Main/tset.txt: no such list, so there is no split 'tset'; did you mean 'test'"
    ):
        VOC(root, 'tset')


def test_arguments_that_a_config_may_give():
    arguments = arguments_of(voc.VOC)
    assert {'data_root', 'split', 'image_set_path', 'data_prefix', 'metainfo', 'test_mode', 'pipeline', 'indices'} <= (
        arguments.names
    )
    assert 'ann_file' not in arguments.names and not arguments.any_other and arguments.required == {'data_root'}


def test_real_data(test_data):
    root = test_data / 'datasets/bccd'
    with open(root / 'labels.csv') as file:
        rows = list(csv.reader(file))
    data = VOC(root, 'test', metainfo=dict(classes=rows[0][2:]), pipeline=PIPELINE)
    expected = {row[0]: [int(cell) for cell in row[2:]] for row in rows if row[1] == 'test'}
    assert dict(zip(data.annotations.img_paths, data.labels.dense().tolist())) == expected
    assert data[0]['inputs'].shape[-1] == 16
