"""Finding the right reader."""

from __future__ import annotations

import json

import pytest

from mlcls.datasets.formats import guess_format, read_annotations
from mlcls.errors import DataError

NATIVE = json.dumps({'metainfo': {'classes': ['a', 'b']}, 'data_list': [{'img_path': 'x.jpg', 'gt_label': [1]}]})


@pytest.mark.parametrize(
    'name, content, expected',
    [
        ('a.json', NATIVE, 'native'),
        ('a.txt', NATIVE, 'native'),
        ('a', b'\xef\xbb\xbf \n' + NATIVE.encode(), 'native'),
        ('a.JSON', '[', 'native'),
        ('a.csv', 'filename,a', 'csv'),
        ('a.tsv', 'filename\ta', 'csv'),
        ('a.txt', 'x.jpg 1', 'text'),
        ('a.lst', 'x.jpg 1', 'text'),
    ],
)
def test_guess(write, name, content, expected):
    assert guess_format(write(name, content)) == expected


def test_guess_gives_up(write):
    with pytest.raises(
        DataError,
        match=r"the extension '\.xml' says nothing about the format; give format='...'; "
        'choose from csv, native, text',
    ):
        guess_format(write('a.xml', '<x/>'))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r'a\.json: no such file'):
        read_annotations(tmp_path / 'a.json')


def test_unknown_format_and_option(write):
    path = write('a.json', NATIVE)
    with pytest.raises(DataError, match=r"unknown annotation format 'nativ'; did you mean 'native'?"):
        read_annotations(path, 'nativ')
    with pytest.raises(DataError, match="annotation format 'native' has no option 'split'"):
        read_annotations(path, split='train')
    with pytest.raises(DataError, match=r"annotation format 'csv' has no option 'splitt'; did you mean 'split'?"):
        read_annotations(path, 'csv', splitt='train')


def test_format_can_be_said(write):
    assert len(read_annotations(write('a.dat', 'x.jpg 1'), 'text', ['u', 'v'])) == 1


def test_classes_as_list_or_file_reorder_the_labels(write):
    path = write('a.json', NATIVE)
    names = write('names.txt', 'b\na\n')
    for classes in (['b', 'a'], names, str(names)):
        annotations = read_annotations(path, classes=classes)
        assert annotations.classes == ('b', 'a') and annotations.labels.dense().tolist() == [[1, 0]]
    with pytest.raises(DataError, match="class 'c' of the config is not among"):
        read_annotations(path, classes=['a', 'c'])
    with pytest.raises(DataError, match='classes: the name of class 0 is empty'):
        read_annotations(path, classes=['', 'c'])
