"""What a label list may contain."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets.formats.builder import AnnotationsBuilder
from mlcls.errors import DataError


def builder(count: int = 5) -> AnnotationsBuilder:
    return AnnotationsBuilder('f.json', tuple(f'c{number}' for number in range(count)), 'line')


@pytest.mark.parametrize(
    'ids, message',
    [
        ([0, 5], 'class id 5 of gt_label is out of range; 5 classes have the ids 0 to 4'),
        ([-1], 'class id -1 of gt_label is out of range'),
        ([10**30], 'is out of range'),
        (['3'], "contains the string '3'; write a whole number, 3"),
        ([' 3 '], "contains the string ' 3 '; write a whole number, 3"),
        (['c3'], "contains the class name 'c3'; write its id, 3"),
        (['cat'], "contains the string 'cat'; write a whole number"),
        ([1.0], 'contains the fraction 1.0; write the whole number 1'),
        ([0.5], 'contains 0.5; class ids are whole numbers'),
        ([float('nan')], 'contains nan; class ids are whole numbers'),
        ([float('inf')], 'contains inf; class ids are whole numbers'),
        ([True], 'contains True; class ids are whole numbers'),
        ([None], 'contains None; class ids are whole numbers'),
        ([[1]], r'contains [1]; class ids are whole numbers'),
        ([{}], 'contains {}; class ids are whole numbers'),
        (3, 'must be a list of class ids such as [0, 3], got 3'),
        ('0,3', "must be a list of class ids such as [0, 3], got '0,3'"),
        (None, 'must be a list of class ids such as [0, 3], got None'),
        ({'0': 1}, 'must be a list of class ids such as [0, 3], got {'),
        ([0, 1, 0, 0, 1], 'looks multi-hot ([0, 1, 0, 0, 1]); write the ids of its classes, [1, 4]'),
        ([0.0, 1.0, 0.0, 0.0, 1.0], 'looks multi-hot'),
        ([False, True, False, False, True], 'looks multi-hot'),
        ([0, 1, -1, 0, 1], 'looks multi-hot'),
        ([0, 0, 0, 0, 0], 'looks multi-hot ([0, 0, 0, 0, 0]); write the ids of its classes, []'),
    ],
)
def test_lists_that_are_refused(ids, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        builder().check_ids(ids, 7, 'a.jpg')
    assert str(caught.value).startswith("f.json, line 7 (image 'a.jpg'): ")


@pytest.mark.parametrize('ids', [[], [4], [0, 1], [1, 0], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
def test_lists_that_are_taken(ids):
    assert builder().check_ids(ids, 0, 'a.jpg') == ids


def test_repeats_count_once_and_are_noted():
    made = builder()
    made.add(1, 'a.jpg', made.check_ids([3, 1, 3, 3], 1, 'a.jpg'))
    made.add(2, 'b.jpg', made.check_ids([2], 2, 'b.jpg'))
    annotations = made.build()
    assert annotations.labels.dense().tolist() == [[0, 1, 0, 1, 0], [0, 0, 1, 0, 0]]
    assert annotations.notes == ('f.json: 1 image listed a class more than once; once counts',)


def test_multi_hot_of_another_width_is_seen_in_the_file_as_a_whole():
    made = builder(10)
    for row, ids in enumerate([[0, 1, 0], [1, 1, 0], [0, 0, 0]]):
        made.add(row, f'{row}.jpg', made.check_ids(ids, row, ''))
    with pytest.raises(
        DataError,
        match='every label list has 3 entries of 0 or 1, which looks multi-hot for 3 classes, but there are 10 classes',
    ):
        made.build()


def test_repeated_boxes_of_the_first_classes_are_no_multi_hot():
    made = builder(10)
    for row, ids in enumerate([[0, 0, 0], [0, 1, 0, 0]]):
        made.add(row, f'{row}.jpg', made.check_ids(ids, row, ''))
    assert made.build().labels.dense()[:, :2].tolist() == [[1, 0], [1, 1]]


def test_images_without_labels_are_noted():
    made = builder()
    made.add(1, 'a.jpg', [])
    made.add(2, 'b.jpg', [], [1])
    made.add(3, 'c.jpg', [2])
    annotations = made.build()
    assert annotations.labels.dense().tolist() == [[0] * 5, [0, -1, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert annotations.notes == ('f.json: 2 images of 3 without a present label',)


def test_present_and_unknown_at_once():
    message = "line 4 (image 'a.jpg'): class id 2 ('c2') is both present and unknown"
    with pytest.raises(DataError, match=re.escape(message)):
        builder().add(4, 'a.jpg', [1, 2], [2, 3])


@pytest.mark.parametrize('again', ['a/b.jpg', './a/b.jpg', 'a//b.jpg', 'a/x/../b.jpg'])
def test_equal_rows_of_one_image_are_kept_once(again):
    made = builder()
    made.add(1, 'a/b.jpg', [1, 2], [3])
    made.add(2, again, [2, 1], [3])
    annotations = made.build()
    assert list(annotations.img_paths) == ['a/b.jpg']
    assert annotations.notes == ('f.json: dropped 1 row that repeated an image with the same labels',)


@pytest.mark.parametrize('present, unknown', [([1], [3]), ([1, 2], []), ([1, 2, 3], []), ([], [])])
def test_rows_of_one_image_that_differ_are_an_error(present, unknown):
    made = builder()
    made.add(1, 'a.jpg', [1, 2], [3])
    with pytest.raises(
        DataError, match=re.escape("f.json, line 9 (image 'a.jpg'): the image is also in line 1, with other labels")
    ):
        made.add(9, 'a.jpg', present, unknown)


@pytest.mark.parametrize('path', [None, 3, '', '  ', ['a.jpg']])
def test_image_paths_that_cannot_be_used(path):
    with pytest.raises(DataError, match=r'f.json, line 1: the image path must be a string'):
        builder().add(1, path, [])


def test_no_images():
    with pytest.raises(DataError, match=r'f\.json: lists no images'):
        builder().build()


@given(st.lists(st.lists(st.integers(0, 19), unique=True), min_size=1, max_size=20))
def test_valid_lists_go_through_unchanged(rows):
    made = builder(20)
    for row, ids in enumerate(rows):
        made.add(row, f'{row}.jpg', made.check_ids(ids, row, ''))
    labels = made.build().labels
    assert [labels.present(row).tolist() for row in range(len(rows))] == rows


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.dictionaries(st.integers(0, 4), st.sampled_from([1, -1]))),
        min_size=1,
        max_size=30,
    )
)
def test_rows_become_labels(rows):
    """Beside plain dicts: rows with and without unknown labels in any order, images that come again."""
    made, first, repeats = builder(), dict[int, tuple[int, dict[int, int]]](), 0
    for row, (image, labels) in enumerate(rows):
        present = [number for number, value in labels.items() if value == 1]
        unknown = [number for number, value in labels.items() if value == -1]
        line, before = first.setdefault(image, (row, labels))
        if before != labels:
            with pytest.raises(DataError, match=f'line {row} .*: the image is also in line {line}, with other labels'):
                made.add(row, f'{image}.jpg', present, unknown)
            return
        repeats += line != row
        made.add(row, f'{image}.jpg', present, unknown)
    annotations = made.build()
    expected = [[labels.get(number, 0) for number in range(5)] for _, labels in first.values()]
    assert annotations.labels.dense().tolist() == expected
    assert list(annotations.img_paths) == [f'{image}.jpg' for image in first]
    empty = sum(1 not in labels.values() for _, labels in first.values())
    notes = ' '.join(annotations.notes)
    assert (f'dropped {repeats} row' in notes) == bool(repeats)
    assert (f'{empty} image' in notes and f'of {len(first)} without a present label' in notes) == bool(empty)
