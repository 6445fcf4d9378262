"""Class names and their order."""

from __future__ import annotations

import numpy as np
import pytest

from mlcls.datasets.formats.classes import check_classes, order_classes, read_classes
from mlcls.errors import DataError
from mlcls.structures import Annotations, LabelMatrix, StringList


@pytest.mark.parametrize(
    'names, message',
    [
        (['a', 'b', 'a'], "class name 'a' is given twice, as class 0 and 2"),
        (['a', ' a '], "class name 'a' is given twice"),
        (['a', ''], 'the name of class 1 is empty'),
        (['a', '  '], 'the name of class 1 is empty'),
        ([], 'no class names'),
        (['a', 1], "class 1 must be a string, got 1; write '1'"),
        ([None], 'class 0 must be a string'),
        ('cat', "classes must be a list of names, got 'cat'"),
        ({'cat': 0}, 'classes must be a list of names'),
        (3, 'classes must be a list of names'),
    ],
)
def test_names_that_cannot_be_used(names, message):
    with pytest.raises(DataError, match='here: ' + message.replace('(', r'\(')):
        check_classes(names, 'here')


def test_names_are_stripped_and_may_contain_anything_else():
    assert check_classes([' traffic light', 'Größe, 2"'], '') == ('traffic light', 'Größe, 2"')


def test_read_classes(write):
    assert read_classes(write('c.txt', 'cat\r\ntraffic light\r\n\r\n')) == ('cat', 'traffic light')
    assert read_classes(write('c.txt', b'\xef\xbb\xbfcat\rtraffic light\r')) == ('cat', 'traffic light')
    with pytest.raises(DataError, match=r'c\.txt: the name of class 1 is empty'):
        read_classes(write('c.txt', 'cat\n\ndog\n'))


def annotations() -> Annotations:
    labels = np.array([[1, 0, -1], [0, 1, 0]], np.int8)
    return Annotations(('a', 'b', 'c'), StringList(['x', 'y']), LabelMatrix.from_dense(labels))


def test_another_order_moves_the_labels_and_is_noted():
    made = order_classes(annotations(), ['c', 'a', 'b'], 'f.json')
    assert made.classes == ('c', 'a', 'b')
    assert made.labels.dense().tolist() == [[-1, 1, 0], [0, 0, 1]]
    assert 'f.json' in made.notes[0] and 'order' in made.notes[0]


def test_the_same_order_or_none_is_left_alone():
    given = annotations()
    assert order_classes(given, None, '') is given
    assert order_classes(given, ['a', 'b', 'c'], '') is given


def test_differing_names_are_named():
    with pytest.raises(
        DataError, match="f: class 'bb' of the config is not among the 3 classes of the annotations; did you mean 'b'"
    ):
        order_classes(annotations(), ['a', 'bb', 'c'], 'f')
    with pytest.raises(DataError, match="f: class 'c' of the annotations is not among the 2 classes of the config"):
        order_classes(annotations(), ['a', 'b'], 'f')
