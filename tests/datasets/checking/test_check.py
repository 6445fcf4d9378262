"""Whole checks of small data sets, each with one defect, and of a clean one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mlcls.datasets.checking import check_splits, splits_of_datasets, splits_of_source, to_text
from mlcls.datasets.checking.copies import real_paths, shared_files
from mlcls.structures import StringList

from ..conftest import encode, exif
from .conftest import DataSet, codes, finding, labels_with, make_split, photo


def test_a_clean_data_set_has_no_finding_at_all(clean: DataSet) -> None:
    report = clean.check()
    assert report.findings == () and report.advice == () and report.worst == ''
    assert to_text(report).endswith('nothing unusual')
    assert clean.check(images=False).findings == ()


def test_two_processes_find_the_same(clean: DataSet) -> None:
    clean.add('train', [0], b'')
    clean.add('val', [0], photo(3))
    found = splits_of_source(clean.write())
    assert check_splits(found, 'made', workers=0) == check_splits(found, 'made', workers=2)


def cmyk(image: np.ndarray) -> bytes:
    return encode(Image.fromarray(image).convert('CMYK'), 'JPEG')


JPEG = encode(photo(500), 'JPEG', quality=90)
DEFECTS: dict[str, tuple[bytes | None, str, str]] = {
    'missing': (None, 'image-missing', 'error'),
    'empty': (b'', 'image-empty', 'error'),
    'truncated': (JPEG[: len(JPEG) // 2], 'image-damaged', 'error'),
    'no image': (b'hello' * 50, 'image-not-an-image', 'error'),
    'flat': (encode(np.full((60, 60, 3), 90, np.uint8), 'PNG'), 'image-flat', 'warning'),
    'tiny': (encode(photo(500, (20, 40)), 'PNG'), 'image-tiny', 'warning'),
    'long': (encode(photo(500, (50, 400)), 'PNG'), 'image-aspect', 'note'),
    'turned': (encode(photo(500), 'JPEG', exif=exif(6)), 'image-turned', 'note'),
    'CMYK': (cmyk(photo(500)), 'image-mode', 'note'),
    'alpha': (encode(Image.fromarray(photo(500)).convert('RGBA'), 'PNG'), 'image-mode', 'note'),
    'grey': (encode(Image.fromarray(photo(500)).convert('L'), 'PNG'), 'image-grey', 'note'),
}


@pytest.mark.parametrize('name', DEFECTS)
def test_one_bad_image_is_one_finding(clean: DataSet, name: str) -> None:
    content, code, severity = DEFECTS[name]
    path = clean.add('val', [0], content)
    report = clean.check()
    assert codes(report) == {code: severity}
    found = finding(report, code)
    assert (found.split, found.count) == ('val', 1)
    assert found.items[0].startswith(str(path)) and str(path.parent.parent) not in to_text(report).split('\n', 1)[1]


def test_a_huge_image(clean: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mlcls.datasets.checking.pictures.HUGE', 100 * 100)
    clean.add('val', [0], photo(500, (101, 100)))
    assert codes(clean.check()) == {'image-huge': 'note'}


def test_missing_files_without_opening_any(clean: DataSet) -> None:
    clean.add('train', [0], None)
    report = clean.check(images=False)
    assert codes(report) == {'image-missing': 'error'}
    assert '1 image of 41 does not exist' in finding(report, 'image-missing').message


def test_what_a_config_tolerates_is_a_warning(clean: DataSet) -> None:
    clean.add('train', [0], None)
    clean.add('val', [0], b'')
    root = str(clean.write())
    config = {'type': 'MultiLabelDataset', 'data_root': root, 'missing': 'skip', 'on_error': 'skip'}
    found = splits_of_datasets({name: {**config, 'ann_file': f'{name}.json'} for name in ('train', 'val')})
    assert codes(check_splits(found, 'made', workers=0)) == {'image-missing': 'warning', 'image-empty': 'warning'}


def test_all_images_missing_says_where_it_looked(clean: DataSet) -> None:
    clean.write()
    (clean.root / 'val').rename(clean.root / 'elsewhere')
    report = clean.check()
    assert "there is no folder '" in finding(report, 'image-missing').message
    assert 'first set the folder of the images right' in report.advice[0]


# Leaks


@pytest.mark.parametrize('images', [True, False])
def test_the_same_file_in_two_splits(clean: DataSet, images: bool) -> None:
    clean.add('val', [0], None)
    clean.rows['val'][-1]['img_path'] = 'train/../train/000.png'
    report = clean.check(images=images)
    code = 'identical-across-splits' if images else 'file-in-two-splits'
    assert codes(report) == {code: 'error'}
    assert finding(report, code).split == 'val, train'
    assert 'tools/split_data.py' in report.advice[0]


def test_a_link_to_a_file_of_another_split(clean: DataSet) -> None:
    path = clean.add('val', [0], b'')
    path.unlink()
    os.symlink(clean.root / 'train/000.png', path)
    assert codes(clean.check(images=False)) == {'file-in-two-splits': 'error'}


def test_identical_pixels_in_another_file_format(clean: DataSet) -> None:
    path = clean.add('val', [0], encode(photo(0), 'BMP'))
    report = clean.check()
    assert codes(report) == {'identical-across-splits': 'error'}
    found = finding(report, 'identical-across-splits')
    assert found.pairs == ((str(path), str(clean.root / 'train/000.png')),)
    assert found.message == '1 image of val (2.7%) identical to images of train: scores on val come out too high'


def test_few_leaked_images_are_no_error() -> None:
    train, val = make_split('train', labels_with([60, 50], 120)), make_split('val', labels_with([120, 110], 240))
    for leaked, severity in ((2, 'warning'), (3, 'error')):
        paths = [*list(train.annotations.img_paths)[:leaked], *list(val.annotations.img_paths)[leaked:]]
        other = replace(val, annotations=replace(val.annotations, img_paths=StringList(paths)))
        (found,) = shared_files([train, other], real_paths([train, other]))
        assert (found.severity, found.count) == (severity, leaked)  # 1 % of 240 are 2.4


ALTERED: dict[str, Callable[[Image.Image], bytes]] = {
    'recompressed': lambda image: encode(image, 'JPEG', quality=40),
    'resized': lambda image: encode(image.resize((64, 48)), 'PNG'),
    'brighter': lambda image: encode(ImageEnhance.Brightness(image).enhance(1.1), 'PNG'),
}


@pytest.mark.parametrize('name', ALTERED)
def test_altered_copies_across_splits(clean: DataSet, name: str) -> None:
    path = clean.add('val', [0], ALTERED[name](Image.fromarray(photo(0))))
    report = clean.check()
    assert codes(report) == {'near-identical-across-splits': 'warning'}
    assert finding(report, 'near-identical-across-splits').pairs == ((str(path), str(clean.root / 'train/000.png')),)
    assert any('tools/split_data.py' in sentence for sentence in report.advice)


def test_an_image_is_told_of_as_identical_or_as_near_but_not_as_both(clean: DataSet) -> None:
    clean.add('train', [0], ALTERED['recompressed'](Image.fromarray(photo(0))))
    clean.add('val', [0], photo(0))
    report = clean.check()
    assert codes(report) == {'identical-across-splits': 'error', 'near-identical-within-split': 'note'}


def test_copies_within_a_split(clean: DataSet) -> None:
    clean.add('train', [0], photo(0))
    clean.add('train', [0], photo(0))
    clean.add('train', [1], ALTERED['recompressed'](Image.fromarray(photo(1))))
    report = clean.check()
    assert codes(report) == {'identical-within-split': 'note', 'near-identical-within-split': 'note'}
    assert finding(report, 'identical-within-split').count == 2
    assert finding(report, 'near-identical-within-split').count == 1


def test_identical_images_with_conflicting_labels(clean: DataSet) -> None:
    clean.add('train', [1], photo(0))
    clean.add('train', [], photo(1), gt_unknown=[0, 1, 2])  # what is unknown conflicts with nothing
    report = clean.check()
    found = finding(report, 'identical-conflict')
    assert found.severity == 'warning' and found.count == 1
    assert found.pairs == ((str(clean.root / 'train/000.png'), str(clean.root / 'train/040.png')),)
    assert "(of 'ant', 'bee')" in found.message


def test_flat_images_are_not_taken_for_copies(clean: DataSet) -> None:
    for grey in range(100, 105):
        clean.add('train', [0], np.full((40, 40, 3), grey, np.uint8))
        clean.add('val', [0], np.full((40, 50, 3), grey, np.uint8))
    report = clean.check()
    assert {each.code for each in report.findings} == {'image-flat'}


def test_broken_files_are_not_copies_of_each_other(clean: DataSet) -> None:
    for _ in range(2):
        clean.add('train', [0], b'')
        clean.add('val', [1], None)
    assert set(codes(clean.check())) == {'image-empty', 'image-missing'}


# Splits as a whole


def test_a_split_that_cannot_be_read_is_a_finding(clean: DataSet) -> None:
    clean.write()
    (clean.root / 'test.json').write_text('{"metainfo": ')
    report = check_splits(splits_of_source(clean.root), 'made', workers=0)
    assert codes(report) == {'split-unreadable': 'error'}
    assert 'not valid JSON' in finding(report, 'split-unreadable').message
    assert list(report.statistics['splits']) == ['train', 'val']


def test_rows_that_conflict_are_a_finding(clean: DataSet) -> None:
    clean.rows['train'].append({**clean.rows['train'][0], 'gt_label': [2]})
    assert 'with other labels; keep one of them' in finding(clean.check(), 'split-unreadable').message


def test_splits_with_other_classes(clean: DataSet) -> None:
    clean.write()
    text = (clean.root / 'val.json').read_text()
    (clean.root / 'val.json').write_text(text.replace('"cow"', '"dog"'))
    report = check_splits(splits_of_source(clean.root), 'made', workers=0)
    assert codes(report) == {'classes-differ': 'error'}


def test_a_split_listed_twice_is_looked_at_once(clean: DataSet) -> None:
    clean.write()
    (clean.root / 'test.json').write_text((clean.root / 'val.json').read_text())
    report = check_splits(splits_of_source(clean.root), 'made', workers=0)
    assert codes(report) == {'same-split': 'note'}
    (clean.root / 'val.json').write_text((clean.root / 'train.json').read_text())
    report = check_splits(splits_of_source(clean.root), 'made', workers=0)
    assert finding(report, 'identical-across-splits').count == 40  # to validate on the training data is no repetition


def test_what_a_reader_mended_is_told_once(clean: DataSet) -> None:
    clean.rows['train'].append(clean.rows['train'][0])
    clean.add('train', [], photo(77))
    report = clean.check()
    assert codes(report) == {'reader-remark': 'note', 'images-without-labels': 'note'}
    assert 'dropped 1 row that repeated an image' in finding(report, 'reader-remark').message


def test_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / 'a.json').write_text('[]')
    report = check_splits(splits_of_source(tmp_path / 'a.json'), 'made', workers=0)
    assert report.worst == 'error' and report.statistics['splits'] == {}
    assert 'split-unreadable' in codes(report)
