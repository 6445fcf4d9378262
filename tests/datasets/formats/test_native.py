"""The native format."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import read_native
from mlcls.errors import DataError

ENTRY = {'img_path': 'a.jpg', 'gt_label': [0]}


def content(*entries: Any, **metainfo: Any) -> str:
    return json.dumps({'metainfo': metainfo or {'classes': ['cat', 'dog', 'cow']}, 'data_list': entries or [ENTRY]})


def test_reads_present_unknown_and_absent(write):
    path = write(
        'a.json',
        content(
            {'img_path': 'x/ä b.jpg', 'gt_label': [2, 0]}, {'img_path': 'y.jpg', 'gt_label': [], 'gt_unknown': [1]}
        ),
    )
    annotations = read_native(path)
    assert annotations.classes == ('cat', 'dog', 'cow')
    assert list(annotations.img_paths) == ['x/ä b.jpg', 'y.jpg']
    assert annotations.labels.dense().tolist() == [[1, 0, 1], [0, -1, 0]]
    assert annotations.notes == (f'{path}: 1 image of 2 without a present label',)


def test_byte_order_mark(write):
    assert len(read_native(write('a.json', b'\xef\xbb\xbf' + content().encode()))) == 1


@pytest.mark.parametrize(
    'metainfo',
    [
        {'classes': ['cat', 'dog']},
        {'CLASSES': ['cat', 'dog']},
        {'categories': [{'id': 1, 'category_name': 'dog'}, {'id': 0, 'category_name': 'cat'}]},
    ],
)
def test_spellings_of_the_classes(write, metainfo):
    assert read_native(write('a.json', content(**metainfo))).classes == ('cat', 'dog')


def test_classes_of_the_caller_serve_where_the_file_has_none(write):
    path = write('a.json', content(other=1))
    assert read_native(path, classes=['u', 'v']).classes == ('u', 'v')
    assert read_native(write('b.json', json.dumps({'data_list': [ENTRY]})), classes=['u']).classes == ('u',)


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"metainfo": {},\n "data_list": [,]}', 'a.json:2:16: not valid JSON: Expecting value'),
        ('{"metainfo": ', 'not valid JSON'),
        ('[1]', "should be an object with 'metainfo' and 'data_list', found a list"),
        ('"x"', "should be an object with 'metainfo' and 'data_list', found a str"),
        ('{"images": [], "annotations": [], "categories": []}', 'looks like COCO instances'),
        ('{"metainfo": {"classes": ["a"]}}', "has no key 'data_list'"),
        ('{"metainfo": {"classes": ["a"]}, "data_list": {}}', "'data_list' is not a list"),
        ('{"metainfo": {"classes": ["a"]}, "data_list": []}', 'lists no images'),
        ('{"metainfo": 3, "data_list": []}', "'metainfo' must be an object, got 3"),
        ('{"metainfo": {}, "data_list": []}', "metainfo has no key 'classes'; add it, or give classes="),
        ('{"data_list": []}', "metainfo has no key 'classes'"),
        ('{"metainfo": {"clases": ["a"]}, "data_list": []}', "metainfo has no key 'classes'; did you mean 'clases'?"),
        (content(classes='cat'), 'a.json, metainfo: classes must be a list of names'),
        (content(classes=['a', 'a']), "a.json, metainfo: class name 'a' is given twice"),
        (content(classes=['a', '']), 'a.json, metainfo: the name of class 1 is empty'),
        (content(categories=[{'id': 1, 'category_name': 'cat'}]), "the ids of 'categories' must be 0 to 0, each once"),
        (content(categories=[{'name': 'cat'}]), "'categories' must be a list of objects with id and category_name"),
        (content('a.jpg'), "a.json, data_list entry 0: must be an object with img_path and gt_label, got 'a.jpg'"),
        (content(ENTRY, {'img_path': 'b.jpg'}), "data_list entry 1 (image 'b.jpg'): has no key 'gt_label'"),
        (content({'img_path': 'b.jpg', 'img_label': [0]}), "has no key 'gt_label'; did you mean 'img_label'?"),
        (content({'gt_label': [0]}), "data_list entry 0: has no key 'img_path'"),
        (content({'img_path': None, 'gt_label': [0]}), 'data_list entry 0: the image path must be a string, got None'),
        (
            content(ENTRY, {'img_path': 'b.jpg', 'gt_label': [3]}),
            "data_list entry 1 (image 'b.jpg'): class id 3 of gt_label is out of range; 3 classes have the ids 0 to 2",
        ),
        (
            content({'img_path': 'b.jpg', 'gt_label': [0, 0, 1]}),
            "data_list entry 0 (image 'b.jpg'): gt_label looks multi-hot",
        ),
        (content({'img_path': 'b.jpg', 'gt_label': 1}), 'gt_label must be a list of class ids'),
        (content({'img_path': 'b.jpg', 'gt_label': [], 'gt_unknown': ['1']}), "gt_unknown contains the string '1'"),
        (content({'img_path': 'b.jpg', 'gt_label': [1], 'gt_unknown': [1]}), 'is both present and unknown'),
        (
            content(ENTRY, {'img_path': 'a.jpg', 'gt_label': [1]}),
            'the image is also in data_list entry 0, with other labels',
        ),
    ],
)
def test_files_that_cannot_be_used(write, text, message):
    path = write('a.json', text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_native(path)
    assert str(caught.value).startswith(str(path)) or 'classes' in message


def test_other_keys_are_left_alone_but_not_misspelt_ones(write):
    harmless = {'width': 3, 'gt_score': [0.5], 'sample_idx': 0}
    path = write('a.json', content({**ENTRY, **harmless}, {'img_path': 'b.jpg', 'gt_label': [], 'gt_unkown': [1]}))
    message = "data_list entry 1 (image 'b.jpg'): has a key 'gt_unkown'; did you mean 'gt_unknown'?"
    with pytest.raises(DataError, match=re.escape(message)):
        read_native(path)
    assert len(read_native(write('a.json', content({**ENTRY, **harmless})))) == 1


def test_labels_that_are_unknown_by_default(write):
    entries = [
        {'img_path': 'a.jpg', 'gt_label': [2], 'gt_absent': [0]},
        {'img_path': 'b.jpg', 'gt_label': []},
        {'img_path': 'c.jpg', 'gt_label': [1], 'gt_absent': []},
    ]
    path = write('a.json', content(*entries, classes=['cat', 'dog', 'cow'], default='unknown'))
    labels = read_native(path).labels
    assert labels.default == -1 and len(labels.indices) == 3
    assert labels.dense().tolist() == [[0, -1, 1], [-1, -1, -1], [-1, 1, -1]]
    assert labels.counts(0).tolist() == [1, 0, 0] and labels.counts(-1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    'default, entry, message',
    [
        ('unknown', {'gt_label': [1], 'gt_absent': [2, 1]}, "class id 1 ('dog') is in gt_label and gt_absent"),
        ('unknown', {'gt_label': [1], 'gt_absent': [3]}, 'class id 3 of gt_absent is out of range'),
        ('unknown', {'gt_label': [1], 'gt_unknown': []}, 'has gt_unknown, but labels that are not listed are unknown'),
        ('absent', {'gt_label': [1], 'gt_absent': [2]}, 'has gt_absent, but labels that are not listed are absent alr'),
        (-1, {'gt_label': [1]}, "a.json, metainfo: 'default' must be 'absent' or 'unknown', got -1"),
    ],
)
def test_defaults_that_cannot_be(write, default, entry, message):
    path = write('a.json', content({'img_path': 'a.jpg', **entry}, classes=['cat', 'dog', 'cow'], default=default))
    with pytest.raises(DataError, match=re.escape(message)):
        read_native(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1).filter(lambda text: text.strip() and not set(text) & set('/.\0')),
            st.sets(st.integers(0, 6)),
            st.sets(st.integers(0, 6)),
        ),
        min_size=1,
        unique_by=lambda row: row[0],
    )
)
def test_round_trip(write, rows):
    entries = [
        {'img_path': path, 'gt_label': sorted(present), 'gt_unknown': sorted(unknown - present)}
        for path, present, unknown in rows
    ]
    annotations = read_native(write('a.json', content(*entries, classes=[f'c{number}' for number in range(7)])))
    assert list(annotations.img_paths) == [path for path, _, _ in rows]
    for row, (_, present, unknown) in zip(annotations.labels.dense(), rows):
        assert {number for number in range(7) if row[number] == 1} == present
        assert {number for number in range(7) if row[number] == -1} == unknown - present
