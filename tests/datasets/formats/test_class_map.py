"""Renaming, merging and dropping classes."""

from __future__ import annotations

import json
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import map_classes, read_annotations, read_class_map
from mlcls.errors import DataError
from mlcls.structures import Annotations, LabelMatrix, StringList

NATIVE = json.dumps(
    {
        'metainfo': {'classes': ['cat', 'puppy', 'dog', 'sky']},
        'data_list': [
            {'img_path': 'a.jpg', 'gt_label': [1, 3], 'gt_unknown': [2]},
            {'img_path': 'b.jpg', 'gt_label': [0], 'gt_unknown': [1]},
            {'img_path': 'c.jpg', 'gt_label': [3]},
        ],
    }
)


def sparse(dense: np.ndarray, default: int) -> LabelMatrix:
    """Only what differs from the default, in no order."""
    rows, columns = np.nonzero(dense != default)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
    return LabelMatrix(indptr, columns.astype(np.int32), dense[rows, columns].astype(np.int8), dense.shape[1], default)


def annotations(dense: np.ndarray, default: int = 0) -> Annotations:
    names = tuple(f'c{number}' for number in range(dense.shape[1]))
    return Annotations(names, StringList(f'{row}.jpg' for row in range(len(dense))), sparse(dense, default))


@settings(max_examples=150)
@given(st.data())
def test_against_the_definition(data):
    """Cell by cell: present if any old class is, else unknown if any is, else absent; for each default."""
    count = data.draw(st.integers(1, 6))
    rows = data.draw(st.lists(st.lists(st.sampled_from([1, 0, -1]), min_size=count, max_size=count), min_size=1))
    default = data.draw(st.sampled_from([0, -1, 1]))
    before = annotations(np.array(rows), default)
    new_names = st.sampled_from([None, 'x', 'y', 'c0', 'c1', 'c5'])
    mapping = data.draw(st.dictionaries(st.sampled_from(before.classes), new_names))
    names = [mapping.get(name, name) for name in before.classes]
    expected_names = list(dict.fromkeys(name for name in names if name is not None))
    if not expected_names:
        with pytest.raises(DataError, match=f'the class map drops all {count} classes'):
            map_classes(before, mapping, 'f')
        return
    after = map_classes(before, mapping, 'f')
    assert list(after.classes) == expected_names
    assert after.labels.default == default and after.labels.num_classes == len(expected_names)
    for row, values in enumerate(rows):
        for column, name in enumerate(expected_names):
            parts = {value for value, old in zip(values, names) if old == name}
            assert after.labels.dense()[row, column] == (1 if 1 in parts else -1 if -1 in parts else 0)
    assert np.all(after.labels.values != default)


def test_a_matrix_stays_sparse():
    """As a table these labels would be a gigabyte."""
    count, classes = 100_000, 10_000
    labels = LabelMatrix(
        np.arange(count + 1), np.arange(count, dtype=np.int32) % classes, LabelMatrix.alike(1, count), classes, -1
    )
    names = tuple(map(str, range(classes)))
    before = Annotations(names, StringList(['a'] * count), labels)
    tracemalloc.start()
    after = map_classes(before, dict.fromkeys(names, 'all'), 'f')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after.labels.counts().tolist() == [count] and after.classes == ('all',)
    assert peak < 50e6


def test_notes(write):
    path = write('a.json', NATIVE)
    read = read_annotations(path, class_map={'puppy': 'dog', 'sky': None})
    assert read.classes == ('cat', 'dog')
    assert read.labels.dense().tolist() == [[0, 1], [1, -1], [0, 0]]
    assert read.notes == (
        f"{path}: the class map drops 'sky'",
        f"{path}: the class map merges 'puppy', 'dog' to 'dog'",
        f'{path}: by the class map 1 of 3 images lose their last present label',
    )


def test_names_may_be_swapped(write):
    read = read_annotations(write('a.json', NATIVE), class_map={'cat': 'dog', 'dog': 'cat'})
    assert read.classes == ('dog', 'puppy', 'cat', 'sky')
    assert read.labels.dense().tolist() == read_annotations(write('a.json', NATIVE)).labels.dense().tolist()


def test_classes_order_the_new_names(write):
    path = write('a.json', NATIVE)
    read = read_annotations(path, classes=['sky', 'animal'], class_map=dict.fromkeys(['cat', 'dog', 'puppy'], 'animal'))
    assert read.classes == ('sky', 'animal')
    assert read.labels.dense().tolist() == [[1, 1], [0, 1], [1, 0]]
    with pytest.raises(DataError, match="class 'cat' of the config is not among the 4 classes of the annotations"):
        read_annotations(path, classes=['cat', 'dog'], class_map={'cat': 'kitten'})


def test_where_classes_are_needed_they_are_the_old_names(write):
    read = read_annotations(write('a.txt', 'a.jpg 0 2\nb.jpg 1\n'), classes=['x', 'y', 'z'], class_map={'z': 'y'})
    assert read.classes == ('x', 'y') and read.labels.dense().tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    'mapping, message',
    [
        ({'dgo': 'x'}, "'dgo' of the class map is none of the 4 classes; did you mean 'dog'?"),
        ({'dog': ''}, "the class map gives 'dog' the name ''; write a string, or null to drop it"),
        ({'dog': 3}, "the class map gives 'dog' the name 3"),
        ({'cat': None, 'puppy': None, 'dog': None, 'sky': None}, 'the class map drops all 4 classes'),
        ([('dog', 'cat')], 'a class map is a mapping from old to new names, got ['),
    ],
)
def test_maps_that_cannot_be_used(write, mapping, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_annotations(write('a.json', NATIVE), class_map=mapping)


@pytest.mark.parametrize(
    'name, text',
    [
        ('m.json', '{"puppy": "dog", "sky": null}'),
        ('m.yaml', 'puppy: dog\nsky: null\n'),
        ('m.yml', '"puppy": "dog"\nsky: ~\n'),
        ('m.txt', '{puppy: dog, sky: }'),
    ],
)
def test_files(write, name, text):
    path = write(name, text)
    assert read_class_map(path) == {'puppy': 'dog', 'sky': None}
    for class_map in (path, str(path)):
        assert read_annotations(write('a.json', NATIVE), class_map=class_map).classes == ('cat', 'dog')


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('m.json', '{"a": "b", "a": "c"}', "m.json: the key 'a' is given twice in one object"),
        ('m.yaml', 'x: y\na: b\na: c\n', "m.yaml, line 1: the key 'a' is given twice"),
        ('m.yaml', 'a: [\n', 'm.yaml: not valid YAML: '),
        ('m.yaml', '- a\n', "a class map is written as old name: new name, got ['a']"),
        ('m.yaml', 'no: cat\n', "False is no string; put the name in quotes, as in 'False'"),
        ('m.yaml', 'cat: 3\n', "3 is no string; put the name in quotes, as in '3'"),
        ('m.yaml', '~: cat\n', 'None is no string'),
        ('m.yaml', '!!python/object/apply:os.system ["echo"]', 'not valid YAML'),
        ('m.yaml', '', 'm.yaml: is empty'),
        ('m.yaml', 'doge: cat\n', "m.yaml: 'doge' of the class map is none of the 4 classes; did you mean 'dog'?"),
    ],
)
def test_files_that_cannot_be_used(write, name, text, message):
    path = write(name, text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_annotations(write('a.json', NATIVE), class_map=path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.dictionaries(st.sampled_from(['cat', 'dog', 'sky']), st.sampled_from([None, 'N/A', 'None', 'x'])))
def test_files_give_what_was_written(write, mapping):
    import yaml

    assert read_class_map(write('m.json', json.dumps(mapping))) == mapping
    assert read_class_map(write('m.yaml', yaml.safe_dump(mapping))) == mapping
