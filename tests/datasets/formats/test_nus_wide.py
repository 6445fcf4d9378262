"""The NUS-WIDE format."""

from __future__ import annotations

import re

import pytest

from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.nus_wide import read_nus_wide
from mlcls.errors import DataError

FILES = {
    'ImageList/TrainImagelist.txt': '\ufeffactor\\0001 1.jpg\r\nbär\\2.jpg\r\n\r\n',
    'ImageList/TestImagelist.txt': 'x/3.jpg\n',
    'ImageList/Imagelist.txt': 'actor\\0001 1.jpg\nx/3.jpg\nbär\\2.jpg\n',
    'TrainTestLabels/Labels_sky_Train.txt': '1\r\n0\r\n',
    'TrainTestLabels/Labels_sky_Test.txt': '1',
    'TrainTestLabels/Labels_two_words_Train.txt': '1\n 1 \n',
    'TrainTestLabels/Labels_two_words_Test.txt': '0\n',
    'AllLabels/Labels_sky.txt': '1\n1\n0\n',
    'AllLabels/Labels_two_words.txt': '1\n0\n1\n',
}


@pytest.fixture
def folder(write, tmp_path):
    for name, text in FILES.items():
        write(name, text)
    return tmp_path


def dense(annotations):
    return dict(zip(annotations.img_paths, annotations.labels.dense().tolist()))


def test_reads_the_parts(folder):
    train = read_annotations(folder, split='Train')
    assert train.classes == ('sky', 'two_words')
    assert dense(train) == {'actor/0001 1.jpg': [1, 1], 'bär/2.jpg': [0, 1]}
    assert dense(read_annotations(folder, split='test')) == {'x/3.jpg': [1, 0]}
    assert dense(read_annotations(folder)) == {'actor/0001 1.jpg': [1, 1], 'x/3.jpg': [1, 0], 'bär/2.jpg': [0, 1]}


@pytest.mark.parametrize('place', ['Concepts81.txt', 'ConceptsList/Concepts81.txt'])
def test_order_of_concepts(folder, write, place):
    write(place, 'two_words\r\nsky\r\n')
    annotations = read_annotations(folder, split='Test')
    assert annotations.classes == ('two_words', 'sky') and dense(annotations) == {'x/3.jpg': [0, 1]}
    assert read_annotations(folder, split='Test', classes=['sky']).classes == ('sky',)
    write(place, 'two_words\nsky\nskyy\n')
    with pytest.raises(DataError, match=r"Concepts81.txt: class 'skyy' has no file 'Labels_skyy...txt'; did you mean"):
        read_annotations(folder, split='Test')


def test_layout_of_the_archives(folder):
    (folder / 'Groundtruth').mkdir()
    (folder / 'AllLabels').rename(folder / 'Groundtruth/AllLabels')
    (folder / 'TrainTestLabels').rename(folder / 'Groundtruth/TrainTestLabels')
    assert len(read_annotations(folder)) == 3 and len(read_annotations(folder, split='Train')) == 2
    assert recognise_format(folder) == ('nus_wide', "a folder with 'ImageList' and 'Groundtruth'")


@pytest.mark.parametrize(
    'name, text, message',
    [
        (
            'TrainTestLabels/Labels_sky_Train.txt',
            '1\n',
            r'Labels_sky_Train.txt: has 1 lines, but .*TrainImagelist.txt lists 2 images',
        ),
        ('TrainTestLabels/Labels_sky_Train.txt', '1\n0\n1\n', r'Labels_sky_Train.txt: has 3 lines, but .* lists 2'),
        ('TrainTestLabels/Labels_sky_Train.txt', '1\n2\n', r'Labels_sky_Train.txt, line 2: must be 0 or 1, got .2.'),
        ('TrainTestLabels/Labels_sky_Train.txt', '-1\n1\n', r'line 1: must be 0 or 1, got .-1.'),
        ('TrainTestLabels/Labels_sky_Train.txt', 'nan\n1\n', r'line 1: must be 0 or 1, got .nan.'),
        ('TrainTestLabels/Labels_sky_Train.txt', '0\n\n1\n', r"line 2: must be 0 or 1, got ''"),
        ('TrainTestLabels/Labels_sky_Train.txt', '0 1\n1 1\n', r"line 1: must be 0 or 1, got '0 1'"),
        ('TrainTestLabels/Labels_sky_Train.txt', '', r'Labels_sky_Train.txt: is empty'),
        ('TrainTestLabels/Labels_sky_Train.txt', b'1\n\xff', r'Labels_sky_Train.txt, line 2: byte 0xff is not UTF-8'),
        ('ImageList/TrainImagelist.txt', 'a.jpg\n\nb.jpg\n', r'Labels_sky_Train.txt: has 2 lines, but .* lists 3'),
        ('ImageList/TrainImagelist.txt', '\nb.jpg\n', r'TrainImagelist.txt, line 1: the image path must be a string'),
        (
            'ImageList/TrainImagelist.txt',
            'a\\b.jpg\na/b.jpg\n',
            r'line 2 \(image .a/b.jpg.\): the image is also in line 1, with other labels; keep one',
        ),
    ],
)
def test_files_that_cannot_be_used(folder, write, name, text, message):
    write(name, text)
    with pytest.raises(DataError, match=message):
        read_nus_wide(folder, split='Train')


def test_missing_files(folder, tmp_path):
    with pytest.raises(DataError, match=r"has no list of images for split 'trian'; did you mean 'Train'\?"):
        read_nus_wide(folder, split='trian')
    with pytest.raises(DataError, match="class 'sea' has no file 'Labels_sea...txt'; choose from sky, two_words"):
        read_nus_wide(folder, ['sea'], split='Train')
    for file in (folder / 'AllLabels').iterdir():
        file.unlink()
    with pytest.raises(DataError, match=re.escape("say which part of it with split='...' ('Test', 'Train')")):
        read_nus_wide(folder)
    for file in (folder / 'TrainTestLabels').iterdir():
        file.unlink()
    with pytest.raises(DataError, match="has no 'TrainTestLabels/Labels_<class>_Train.txt' for split 'train'"):
        read_nus_wide(folder, split='train')
    for file in (folder / 'ImageList').iterdir():
        file.unlink()
    with pytest.raises(DataError, match="has no 'ImageList/TrainImagelist.txt' or the like; give the folder of Image"):
        read_nus_wide(folder, split='train')


def test_recognised(folder):
    assert recognise_format(folder) == ('nus_wide', "a folder with 'ImageList' and 'AllLabels'")
