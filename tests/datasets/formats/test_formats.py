"""Finding the right reader."""

from __future__ import annotations

import json

import pytest

from mlcls.datasets.formats import FORMATS, Head, cache, find_difference, read_annotations, recognise_format
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
    assert recognise_format(write(name, content))[0] == expected


def test_guess_gives_up(write):
    with pytest.raises(
        DataError,
        match=r"a\.xml: content and extension '\.xml' are of no known format; give format='...'; choose from ",
    ):
        recognise_format(write('a.xml', '<x/>'))
    with pytest.raises(DataError, match='b: no such file or folder'):
        recognise_format('b')


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


def test_options_of_another_type(write):
    path = write('a.csv', 'filename,split,cat\na.jpg,2017,1\nb.jpg,2014,1\n')
    assert len(read_annotations(path, split='2017')) == 1
    with pytest.raises(DataError, match="a.csv: option 'split' must be a string, got 2017"):
        read_annotations(path, split=2017)
    with pytest.raises(DataError, match="option 'shapes' must be True or False, got 'no'"):
        read_annotations(path, 'cvat', shapes='no')


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


@pytest.mark.parametrize('name', FORMATS)
def test_nothing_is_recognised_in_nothing(name, tmp_path):
    for head in (Head(tmp_path / 'a'), Head(tmp_path, names=frozenset(('a', '.b'))), Head(tmp_path / 'a', '\0{"\n<')):
        assert FORMATS[name].recognise(head) == ''


@pytest.mark.parametrize('name', FORMATS)
def test_a_path_that_is_not_there_is_an_error_of_the_user(name, tmp_path):
    with pytest.raises(DataError, match='none'):
        read_annotations(tmp_path / 'none', name, classes=['a'])


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Keeps all annotations in the cache, and gives its folder."""
    monkeypatch.setenv('MLCLS_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(cache, 'WORTHWHILE_SECONDS', -1.0)
    monkeypatch.setattr(cache, '_SETTLED_NS', 0)
    return tmp_path / 'cache'


def entries(folder):
    return {path for path in folder.rglob('*') if path.is_file() and not path.name.endswith('.lock')}


def test_the_second_reading_is_from_the_cache(write, cached, monkeypatch):
    path = write('a.csv', 'filename,split,cat,dog\na.jpg,train,1,0\nb.jpg,val,0,1\n')
    first = read_annotations(path, split='train')
    kept = entries(cached)
    assert len(kept) == 1
    monkeypatch.setitem(FORMATS, 'csv', FORMATS['csv']._replace(read=_fails))
    again = read_annotations(path, split='train')
    assert find_difference(first, again) == '' and again.notes == first.notes and again.source == first.source
    with pytest.raises(AssertionError, match='read again'):
        read_annotations(path, split='val')


def _fails(path, classes=None, split: str | None = None):
    raise AssertionError('read again')


def test_the_cache_knows_what_else_was_read(write, cached):
    path = write('a.csv', 'filename,cat,dog\na.jpg,1,0\n')
    names = write('names.yml', 'dog: animal\n')
    assert read_annotations(path, class_map=names).classes == ('cat', 'animal')
    write('names.yml', 'cat: animal\ndog: animal\n')
    assert read_annotations(path, class_map=names).classes == ('animal',)


def test_folders_that_readers_look_into_are_not_kept(tmp_path, cached):
    for name in ('cat/1.jpg', 'dog/2.jpg'):
        (tmp_path / 'data' / name).parent.mkdir(parents=True)
        (tmp_path / 'data' / name).write_bytes(name.encode())
    assert len(read_annotations(tmp_path / 'data')) == 2
    assert not cached.exists() or not entries(cached)


@pytest.mark.parametrize(
    'files, message',
    [
        ({}, 'the folder is empty'),
        ({'a.jpg': b''}, 'this folder has images, but no labels'),
        ({'photos/a.jpg': b'', 'labels.csv': b'filename,cat'}, "if 'labels.csv' in it has the labels, name that file"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, files, message):
    (tmp_path / 'data').mkdir()
    for name, content in files.items():
        (tmp_path / 'data' / name).parent.mkdir(exist_ok=True)
        (tmp_path / 'data' / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        recognise_format(tmp_path / 'data')


def test_a_workbook(write):
    with pytest.raises(DataError, match=r'a\.xlsx: is a workbook of a spreadsheet; save the sheet as CSV \(UTF-8\)'):
        recognise_format(write('a.xlsx', b'PK\x03\x04'))
