"""Looking for image files."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.datasets import image_files
from mlcls.datasets.image_files import find_missing
from mlcls.structures import StringList


def test_one_listing_a_folder(tmp_path, monkeypatch):
    paths = []
    for folder in ('a', 'b/c'):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(50):
            paths.append(str(tmp_path / folder / f'{number}.jpg'))
            if number % 10:
                (tmp_path / folder / f'{number}.jpg').touch()
    paths = [paths[number // 2 + 50 * (number % 2)] for number in range(100)]  # from both folders in turn
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, 'scandir', lambda folder: listed.append(folder) or scandir(folder))
    missing = find_missing(paths)
    monkeypatch.undo()
    assert missing.images.tolist() == sorted([*range(0, 100, 20), *range(1, 100, 20)])
    assert sorted(set(listed)) == [str(tmp_path / 'a'), str(tmp_path / 'b/c')] and len(listed) <= 3
    assert missing.examples == tuple(paths[number] for number in (0, 1, 20))
    assert missing.describe() == f"'{paths[0]}', '{paths[1]}', '{paths[20]}', ..."


def test_nothing_is_missing(tmp_path, monkeypatch):
    (tmp_path / 'a.jpg').touch()
    monkeypatch.chdir(tmp_path)
    missing = find_missing([str(tmp_path / 'a.jpg'), 'a.jpg', './a.jpg', 's3://bucket/b.jpg', 'http://host/c.jpg'])
    assert missing.images.tolist() == [] and missing.images.dtype == np.int64


def test_hints(tmp_path):
    (tmp_path / 'IMG_1.JPG').touch()
    hint = find_missing([str(tmp_path / 'img_1.jpg')]).describe()
    assert hint.endswith(" (there is 'IMG_1.JPG': upper and lower case differ)")
    assert find_missing([f'{tmp_path}/train\\a.jpg']).describe().endswith(' (the paths contain backslashes; write /)')
    assert find_missing([f'{tmp_path}/train/a.jpg']).describe().endswith(f" (there is no folder '{tmp_path}/train')")
    assert find_missing([f'{tmp_path}/a.jpg']).hint == ''


NAMES = st.sampled_from(['a.jpg', 'ä.jpg', 'b', 'no.jpg'])
FOLDERS = st.sampled_from(['', 'x/', 'x/y/', './', 'x//', 'x/../x/', 'none/', 'x/./', '/', 's3://x/'])


@settings(deadline=None)
@given(st.lists(st.tuples(FOLDERS, NAMES).map(''.join), max_size=30), st.booleans(), st.sampled_from(['', '/', '//']))
def test_the_files_that_do_not_exist(tmp_path_factory, paths, packed, end):
    root = tmp_path_factory.getbasetemp() / 'files'
    for folder in ('', 'x', 'x/y'):
        (root / folder).mkdir(exist_ok=True, parents=True)
        for name in ('a.jpg', 'ä.jpg', 'b'):
            (root / folder / name).touch()
    expected = [
        number
        for number, path in enumerate(paths)
        if '://' not in path and not os.path.exists(os.path.join(root, path))
    ]
    missing = find_missing(StringList(paths) if packed else paths, str(root) + end)
    assert missing.images.tolist() == expected
    assert missing.examples == tuple(os.path.join(f'{root}{end}', paths[number]) for number in expected[:3])


def test_folders_of_equal_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, 'hash', lambda folder: 0, raising=False)
    monkeypatch.setattr(image_files, '_BLOCK', 2)
    for name in ('a/1.jpg', 'b/2.jpg'):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    paths = ['a/1.jpg', 'b/1.jpg', 'a/2.jpg', 'b/2.jpg', 'a/1.jpg']
    assert find_missing(StringList(paths), str(tmp_path)).images.tolist() == [1, 2]


@pytest.mark.parametrize('root', ['s3://bucket', 's3://bucket/'])
def test_below_a_remote_root_only_absolute_paths_are_looked_for(tmp_path, root):
    assert find_missing(['a.jpg', str(tmp_path / 'a.jpg'), 'x/b.jpg'], root).images.tolist() == [1]


def test_a_relative_root_and_none(tmp_path, monkeypatch):
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x/a.jpg').touch()
    monkeypatch.chdir(tmp_path)
    for root, path in (('x', 'a.jpg'), ('', 'x/a.jpg'), ('.', 'x/a.jpg'), ('x', str(tmp_path / 'x/a.jpg'))):
        assert not len(find_missing([path], root).images)
        assert find_missing([path.replace('a.', 'b.')], root).images.tolist() == [0]
