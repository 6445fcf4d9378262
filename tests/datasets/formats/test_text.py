"""The text format."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import read_text
from mlcls.datasets.formats.text import split_line
from mlcls.errors import DataError

CLASSES = ['a', 'b', 'c', 'd']


@pytest.mark.parametrize(
    'line, path, ids',
    [
        ('a.jpg 1,3', 'a.jpg', ['1', '3']),
        ('a.jpg 1 3', 'a.jpg', ['1', '3']),
        ('a.jpg\t1,3', 'a.jpg', ['1', '3']),
        ('a.jpg\t1\t3', 'a.jpg', ['1', '3']),
        ('a.jpg  1, 3 ', 'a.jpg', ['1', '3']),
        ('a.jpg,1,3', 'a.jpg', ['1', '3']),
        ('a.jpg', 'a.jpg', []),
        ('a.jpg\t', 'a.jpg', []),
        ('my photos/b c.JPEG 1,3', 'my photos/b c.JPEG', ['1', '3']),
        ('photo.jpg copy.jpg 2', 'photo.jpg copy.jpg', ['2']),
        ('b.jpg.png 0', 'b.jpg.png', ['0']),
        ('my file\t0', 'my file', ['0']),
        ('folder/noextension 0 1', 'folder/noextension', ['0', '1']),
        ('noextension', 'noextension', []),
        ('1 2.png 3', '1 2.png', ['3']),
    ],
)
def test_lines(line, path, ids):
    assert split_line(line) == (path, ids)


def test_reads_a_file_with_blank_lines_and_windows_line_ends(write):
    path = write('a.txt', '\ufeffx y.jpg 0,2\r\n\r\nz.png\r\nu.png 3 1')
    annotations = read_text(path, CLASSES)
    assert list(annotations.img_paths) == ['x y.jpg', 'z.png', 'u.png']
    assert annotations.labels.dense().tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    assert annotations.notes == (f'{path}: 1 image of 3 without a present label',)


@pytest.mark.parametrize(
    'line, message',
    [
        (
            'b.jpg 4',
            "a.txt, line 3 (image 'b.jpg'): class id 4 of the label list is out of range; 4 classes have the ids",
        ),
        ('b.jpg -1', 'class id -1 of the label list is out of range'),
        ('b.jpg 1.5', "line 3 (image 'b.jpg'): the label list contains 1.5"),
        ('b.jpg 1.0', 'the label list contains the fraction 1.0; write the whole number 1'),
        ('b.jpg c', "the label list contains the class name 'c'; write its id, 2"),
        ('b.jpg cat', "the label list contains the string 'cat'; write a whole number"),
        ('b.jpg 1;2', "the label list contains the string '1;2'"),
        ('b.jpg nan', 'contains nan'),
        ('b.jpg ١', 'the label list contains'),
        ('b.jpg 0 1 0 1', 'looks multi-hot'),
        ('a.jpg 2', 'the image is also in line 1, with other labels'),
    ],
)
def test_lines_that_cannot_be_used(write, line, message):
    path = write('a.txt', f'a.jpg 1\n\n{line}\n')
    with pytest.raises(DataError, match=re.escape(message)):
        read_text(path, CLASSES)


def test_classes_are_needed(write):
    with pytest.raises(DataError, match=r'a text annotation file has no class names; give classes=\[...\]'):
        read_text(write('a.txt', 'a.jpg 1'))
    with pytest.raises(DataError, match="classes: class name 'a' is given twice"):
        read_text(write('a.txt', 'a.jpg 1'), ['a', 'a'])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text('abcß 012,', min_size=1).map(lambda text: text.strip(' ,') + '_.jpg'),
        st.sets(st.integers(0, 9)),
        min_size=1,
    ),
    st.sampled_from([',', ' ', ', ']),
    st.sampled_from([' ', '\t', '   ']),
)
def test_round_trip(write, rows, between, after):
    text = '\n'.join(f'{path}{after}{between.join(map(str, sorted(ids)))}' for path, ids in rows.items())
    annotations = read_text(write('a.txt', text), [f'c{number}' for number in range(10)])
    assert list(annotations.img_paths) == list(rows)
    assert [set(annotations.labels.present(row).tolist()) for row in range(len(rows))] == list(rows.values())
