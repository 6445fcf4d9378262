"""The CSV format."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import read_csv
from mlcls.errors import DataError


def test_cells(write):
    rows = ('a.jpg,1,0,-1', 'b.jpg,1.0,0.0,-1.0', 'c.jpg,true,False,', 'd.jpg, TRUE , 0 ,  ')
    path = write('a.csv', '\n'.join(['filename,cat,dog,cow', *rows, '']))
    annotations = read_csv(path)
    assert annotations.classes == ('cat', 'dog', 'cow')
    assert list(annotations.img_paths) == ['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg']
    assert annotations.labels.dense().tolist() == [[1, 0, -1]] * 4
    assert annotations.notes == (f'{path}: 2 empty cells are taken as unknown',)


@pytest.mark.parametrize(
    'name',
    [
        'filename',
        'Filename',
        'FILE',
        'path',
        'img_path',
        'image',
        'image_path',
        'ImagePath',
        'filepath',
        'file_path',
        'image path',
        'image-name',
        'file_name',
        'fname',
    ],
)
def test_the_path_column_is_recognised_wherever_it_stands(write, name):
    annotations = read_csv(write('a.csv', f'cat,{name},dog\n1,a.jpg,0\n'))
    assert annotations.classes == ('cat', 'dog') and annotations.img_paths[0] == 'a.jpg'


def test_the_path_column_can_be_named(write):
    path = write('a.csv', 'key,file,image\na.jpg,1,0\n')
    assert read_csv(path, path_column='key').classes == ('file', 'image')
    with pytest.raises(DataError, match=r"has no column 'kay'; did you mean 'key'?"):
        read_csv(path, path_column='kay')
    with pytest.raises(DataError, match=r'several columns look like the image path \(file, image\); say which with pa'):
        read_csv(path)
    with pytest.raises(
        DataError,
        match=r"no column is recognised as the image path among \['a.jpg', '1'\]; the first "
        'row must name the columns; say which one with path_column=',
    ):
        read_csv(write('b.csv', 'a.jpg,1\nb.jpg,0\n'))


def test_a_path_column_that_is_there_twice(write):
    with pytest.raises(DataError, match="2 columns are called 'key'"):
        read_csv(write('a.csv', 'key,key,cat\na.jpg,b.jpg,1\n'), path_column='key')


def test_classes_pick_and_order_columns(write):
    path = write('a.csv', 'filename,cat,dog,width,split,cow\na.jpg,1,0,640,train,-1\n')
    annotations = read_csv(path, classes=['cow', 'cat'])
    assert annotations.classes == ('cow', 'cat')
    assert annotations.labels.dense().tolist() == [[-1, 1]]
    assert annotations.notes == (f'{path}: columns not used: dog, width',)
    with pytest.raises(DataError, match=r"has no column for class 'doge'; did you mean 'dog'?"):
        read_csv(path, classes=['doge'])


def test_a_class_may_have_the_name_of_a_special_column(write):
    path = write('a.csv', 'filename,image,split\na.jpg,1,0\n')
    assert read_csv(path, classes=['split', 'image']).labels.dense().tolist() == [[0, 1]]


SPLIT = 'filename,Split,cat\na.jpg,train,1\nb.jpg,train,0\nc.jpg, val ,1\n'


def test_split_selects_rows(write):
    path = write('a.csv', SPLIT)
    assert list(read_csv(path, split='train').img_paths) == ['a.jpg', 'b.jpg']
    assert list(read_csv(path, split='val').img_paths) == ['c.jpg']


def test_split_errors(write):
    path = write('a.csv', SPLIT)
    with pytest.raises(DataError, match=r"has a 'split' column with 'train' \(2\), 'val' \(1\); say which one with s"):
        read_csv(path)
    with pytest.raises(DataError, match=r"no row has split 'vall'; there are 'train' \(2\), 'val' \(1\); did you mea"):
        read_csv(path, split='vall')
    with pytest.raises(DataError, match=r"no row has split 'test'; there are 'train' \(2\), 'val' \(1\)$"):
        read_csv(path, split='test')
    with pytest.raises(DataError, match="split='val' was asked for, but there is no 'split' column"):
        read_csv(write('b.csv', 'filename,cat\na.jpg,1\n'), split='val')


def test_one_split_needs_no_choice(write):
    assert len(read_csv(write('a.csv', 'filename,split,cat\na.jpg,train,1\nb.jpg,train,0\n'))) == 2


@pytest.mark.parametrize('separator', [',', ';', '\t'])
def test_separators_and_quotes(write, separator):
    rows = [['filename', 'a "b"', 'c,d;e'], ['my, photo;1.jpg', '1', '0'], ['two\nlines.jpg', '0', '1']]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator).writerows(rows)
    annotations = read_csv(write('a.csv', '\ufeff' + buffer.getvalue()))
    assert annotations.classes == ('a "b"', 'c,d;e')
    assert list(annotations.img_paths) == ['my, photo;1.jpg', 'two\nlines.jpg']


@pytest.mark.parametrize(
    'text, message',
    [
        ('filename,cat\na.jpg,1,0\n', 'a.csv, line 2: has 3 cells, the header has 2'),
        ('filename,cat\n\na.jpg\n', 'a.csv, line 3: has 1 cells, the header has 2'),
        (
            'filename,cat\na.jpg,2\n',
            "a.csv, line 2 (image 'a.jpg'), column 'cat': '2' is not a label; write 1 (present), ",
        ),
        ('filename,cat\na.jpg,0.5\n', "'0.5' is not a label"),
        ('filename,cat\na.jpg,maybe\n', "'maybe' is not a label"),
        ('filename,cat\na.jpg,nan\n', "'nan' is not a label"),
        ('filename,cat\na.jpg,1e0\n', "'1e0' is not a label"),
        ('filename,cat\n"a.jpg,1\n', 'a.csv, line 2: not valid CSV'),
        ('filename,cat\n"a"x.jpg,1\n', 'not valid CSV'),
        ('filename,cat,cat\na.jpg,1,0\n', "a.csv, header: class name 'cat' is given twice"),
        (',filename,cat\n0,a.jpg,1\n', 'column 1 has no name; leave it out if it is a row index (as pandas writes)'),
        ('filename\na.jpg\n', 'a.csv, header: no class names'),
        ('filename,cat\n', 'lists no images'),
        ('filename,cat\n,1\n', 'a.csv, line 2: the image path must be a string'),
        ('filename,cat\na.jpg,1\na.jpg,0\n', "line 3 (image 'a.jpg'): the image is also in line 2, with other labels"),
        ('', 'is empty'),
    ],
)
def test_files_that_cannot_be_used(write, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_csv(write('a.csv', text))


def test_two_columns_of_a_chosen_name(write):
    with pytest.raises(DataError, match="2 columns are called 'cat'"):
        read_csv(write('a.csv', 'filename,cat,cat\na.jpg,1,0\n'), classes=['cat'])
    assert read_csv(write('a.csv', ',filename,cat\n0,a.jpg,1\n'), classes=['cat']).classes == ('cat',)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text('ab,;" \n', min_size=1).map(lambda text: text.strip() + '.jpg'),
        st.lists(st.sampled_from([1, 0, -1]), min_size=3, max_size=3),
        min_size=1,
    )
)
def test_round_trip(write, rows):
    buffer = io.StringIO()
    csv.writer(buffer).writerows([['filename', 'x', 'y', 'z'], *([path, *cells] for path, cells in rows.items())])
    annotations = read_csv(write('a.csv', buffer.getvalue()))
    assert list(annotations.img_paths) == list(rows)
    assert annotations.labels.dense().tolist() == list(rows.values())


def test_empty_cells_may_mean_absent(write):
    path = write('a.csv', 'filename,cat,dog\na.jpg,1,\nb.jpg,,1\n')
    assert read_csv(path).labels.dense().tolist() == [[1, -1], [-1, 1]]
    absent = read_csv(path, empty='absent')
    assert absent.labels.dense().tolist() == [[1, 0], [0, 1]] and '2 empty cells are taken as absent' in absent.notes[0]
    with pytest.raises(DataError, match="option 'empty' must be 'unknown' or 'absent', got 'zero'"):
        read_csv(path, empty='zero')


def test_empty_columns_at_the_end_are_left_aside(write):
    path = write('a.csv', 'filename,cat,dog,,\na.jpg,1,0,,\nb.jpg,0,1, ,\n')
    assert read_csv(path).labels.dense().tolist() == [[1, 0], [0, 1]]
    with pytest.raises(DataError, match='line 2: has a cell in a column without a name'):
        read_csv(write('b.csv', 'filename,cat,\na.jpg,1,x\n'))


def test_columns_that_are_no_classes(write):
    with pytest.raises(
        DataError, match="column 'Notes': 'blurry' is not a label.*if 'Notes' is no class, leave the column"
    ):
        read_csv(write('a.csv', 'filename,cat,Notes\na.jpg,1,blurry\n'))
    assert read_csv(write('b.csv', 'filename,cat,dog\na.jpg,yes,No\n')).labels.dense().tolist() == [[1, 0]]
