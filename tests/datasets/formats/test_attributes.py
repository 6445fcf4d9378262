"""The attributes format of CelebA."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.attributes import read_attributes
from mlcls.errors import DataError

TEXT = '3\n5_o_Clock_Shadow Smiling\n000001.jpg -1  1\nmy face.jpg  0 -1\n\nü.jpg -1 -1\n'
CSV = 'image_id,5_o_Clock_Shadow,Smiling\n000001.jpg,-1,1\nmy face.jpg,1,-1\n\nü.jpg,-1,-1\n'


@pytest.mark.parametrize('change', [lambda text: text, lambda text: '\ufeff' + text.replace('\n', '\r\n')])
def test_reads_both_kinds(write, change):
    path = write('list_attr.txt', change(TEXT))
    annotations = read_annotations(path)
    assert annotations.classes == ('5_o_Clock_Shadow', 'Smiling')
    assert list(annotations.img_paths) == ['000001.jpg', 'my face.jpg', 'ü.jpg']
    assert annotations.labels.dense().tolist() == [[0, 1], [-1, 0], [0, 0]]
    assert annotations.notes == (f'{path}: 2 images of 3 without a present label',)
    annotations = read_annotations(write('list_attr.csv', change(CSV)))
    assert annotations.source.startswith("attributes: 'image_id' and cells of 1 and -1 alone; -1 is read as absent")
    assert annotations.labels.dense().tolist() == [[0, 1], [1, 0], [0, 0]]


def test_minus_one_is_unknown_only_if_the_format_is_said_to_be_csv(write):
    path = write('a.csv', CSV)
    assert read_annotations(path).labels.dense().tolist() == [[0, 1], [1, 0], [0, 0]]
    assert read_annotations(path, 'csv', path_column='image_id').labels.dense().tolist() == [[-1, 1], [1, -1], [-1, -1]]
    assert read_annotations(write('b.csv', CSV + 'd.jpg,0,1'), 'attributes').labels.row(3).tolist() == [-1, 1]


def test_taking_attributes(write):
    path = write('a.txt', TEXT)
    annotations = read_annotations(path, classes=['Smiling'])
    assert annotations.labels.dense().tolist() == [[1], [0], [0]]
    assert annotations.notes[0] == f'{path}: attributes not used: 5_o_Clock_Shadow'
    with pytest.raises(DataError, match=r"a.txt: has no attribute 'Smile'; did you mean 'Smiling'\?"):
        read_annotations(path, classes=['Smile'])


@pytest.mark.parametrize(
    'name, text',
    [
        ('list_eval_partition.txt', '000001.jpg 0\nmy face.jpg 2\r\nü.jpg 1\n'),
        ('own.csv', 'image_id,partition\n000001.jpg,0\nmy face.jpg,2\n\nü.jpg,1\n'),
    ],
)
def test_splits(write, name, text):
    path = write('a.txt', TEXT)
    write(name, text)
    options = {} if name.startswith('list') else {'partition': name}
    for split, expected in (('train', '000001.jpg'), ('val', 'ü.jpg'), ('test', 'my face.jpg')):
        assert list(read_annotations(path, split=split, **options).img_paths) == [expected]
    with pytest.raises(DataError, match=r"a.txt: unknown split='valid'; did you mean 'val'\?"):
        read_annotations(path, split='valid', **options)


@pytest.mark.parametrize(
    'text, message',
    [
        ('000001.jpg 0\n', "a.txt, line 4 (image 'my face.jpg'): the image is not in "),
        ('000001.jpg 3\n', 'list_eval_partition.txt, line 1: must be an image and 0 (train), 1 (val) or 2 (test), got'),
        (
            '000001.jpg\n',
            "list_eval_partition.txt, line 1: must be an image and 0 (train), 1 (val) or 2 (test), got '0",
        ),
        (None, 'list_eval_partition.txt: no such file'),
    ],
)
def test_partitions_that_cannot_be_used(write, text, message):
    path = write('a.txt', TEXT)
    if text is not None:
        write('list_eval_partition.txt', text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_attributes(path, split='train')


@pytest.mark.parametrize(
    'text, message',
    [
        ('x\na b\nu.jpg 1 1', "a.txt, line 1: must be the number of images, got 'x'"),
        ('-1\na b\nu.jpg 1 1', "line 1: must be the number of images, got '-1'"),
        ('nan\na b\nu.jpg 1 1', "line 1: must be the number of images, got 'nan'"),
        ('2\na b\nu.jpg 1 1', 'a.txt: line 1 says that there are 2 images, but 1 lines follow the names'),
        ('0\na b\n', 'a.txt: lists no images'),
        ('5', 'a.txt: line 1 says that there are 5 images, but 0 lines follow'),
        ('1\na b\nu.jpg 1', 'a.txt, line 3: has 2 columns, but the image and 2 attributes make 3'),
        ('1\na a\nu.jpg 1 1', "a.txt, names: class name 'a' is given twice, as class 0 and 1"),
        ('1\n\nu.jpg 1 1', 'a.txt, names: no class names'),
        (
            '1\na b\nu.jpg 1 2',
            "a.txt, line 3 (image 'u.jpg'), attribute 'b': '2' is not a label; write 1 (present), -1",
        ),
        ('1\na b\nu.jpg nan 1', "attribute 'a': 'nan' is not a label"),
        ('1\na b\nu.jpg 1.0 1', "attribute 'a': '1.0' is not a label"),
        ('1\na b\nu.jpg [1] 1', "attribute 'a': '[1]' is not a label"),
        ('2\na b\nu.jpg 1 1\nu.jpg 1 0', "line 4 (image 'u.jpg'): the image is also in line 3, with other labels"),
        ('image_id,a,b\nu.jpg,1', 'a.txt, line 2: has 2 cells, the header has 3'),
        ('image_id,a,b\nu.jpg,1,', "a.txt, line 2 (image 'u.jpg'), attribute 'b': '' is not a label"),
        ('image_id,a,a\nu.jpg,1,1', "a.txt, names: class name 'a' is given twice"),
        ('image_id,a,b\nu.jpg,"1,1', 'a.txt, line 2: not valid CSV: unexpected end of data'),
        ('image,a,b\nu.jpg,1,1', "a.txt: has no column 'image_id'"),
        ('image_id,a,b\n', 'a.txt: lists no images'),
        ('', 'a.txt: is empty'),
        (b'1\na\n\xff 1', 'a.txt, line 3: byte 0xff is not UTF-8'),
    ],
)
def test_files_that_cannot_be_used(write, text, message):
    path = write('a.txt', text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_attributes(path)


def test_what_stands_before_the_last_columns_is_the_path(write):
    assert list(read_attributes(write('a.txt', '1\na b\nu.jpg 1 1 1 ')).img_paths) == ['u.jpg 1']


@pytest.mark.parametrize(
    'name, text, expected',
    [
        ('a.txt', TEXT, 'attributes'),
        ('a.txt', '2\na.jpg 1\nb.jpg 1', 'text'),
        ('a.txt', '1\na b\nu.jpg 0 1', 'attributes'),
        ('a.txt', 'a.jpg 1 0', 'text'),
        ('a.txt', '1\n\nu.jpg', 'text'),
        ('a.csv', CSV, 'attributes'),
        ('a.csv', 'image_id,a\nu.jpg,1\nv.jpg,0\nw.jpg,-1\n', 'csv'),
        ('a.csv', 'image_id,a\nu.jpg,1\nv.jpg,\nw.jpg,-1\n', 'csv'),
        ('a.csv', 'image_id,a\nu.jpg,1\n', 'csv'),
        ('a.csv', 'filename,a\nu.jpg,1\nv.jpg,-1\n', 'csv'),
        ('a.csv', 'image_id,a\n', 'csv'),
    ],
)
def test_recognised(write, name, text, expected):
    assert recognise_format(write(name, text))[0] == expected


@given(st.lists(st.lists(st.sampled_from([1, -1, 0]), min_size=3, max_size=3), min_size=1, max_size=8))
def test_round_trip(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp('attributes')
    lines = [f'{number} .jpg  {" ".join(map(str, row))}' for number, row in enumerate(rows)]
    (folder / 'a.txt').write_text('\n'.join([str(len(rows)), 'a b c', *lines]))
    lines = [f'{number} .jpg,{",".join(map(str, row))}' for number, row in enumerate(rows)]
    (folder / 'a.csv').write_text('\n'.join(['image_id,a,b,c', *lines]))
    expected = [[{1: 1, -1: 0, 0: -1}[value] for value in row] for row in rows]
    for name in ('a.txt', 'a.csv'):
        annotations = read_attributes(folder / name)
        assert annotations.labels.dense().tolist() == expected
        assert list(annotations.img_paths) == [f'{number} .jpg' for number in range(len(rows))]
