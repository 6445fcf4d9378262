"""Looking for image files."""

from __future__ import annotations

import os

import numpy as np

from mlcls.datasets.image_files import find_missing


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
