"""Writing the native format."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import find_difference, read_annotations, read_native, write_native
from mlcls.structures import Annotations, LabelMatrix, StringList

from .test_class_map import annotations


def test_one_line_an_image(tmp_path):
    write_native(annotations(np.array([[1, -1, 0], [0, 0, 0]])), tmp_path / 'new/a.json')
    assert (tmp_path / 'new/a.json').read_text().split('\n') == [
        '{"metainfo": {"classes": ["c0", "c1", "c2"]},',
        '"data_list": [',
        '{"img_path": "0.jpg", "gt_label": [0], "gt_unknown": [1]},',
        '{"img_path": "1.jpg", "gt_label": []}',
        ']}',
        '',
    ]


def test_unknown_by_default_lists_what_is_known(tmp_path):
    write_native(annotations(np.array([[1, -1, 0]]), default=-1), tmp_path / 'a.json')
    content = json.loads((tmp_path / 'a.json').read_text())
    assert content['metainfo'] == {'classes': ['c0', 'c1', 'c2'], 'default': 'unknown'}
    assert content['data_list'] == [{'img_path': '0.jpg', 'gt_label': [0], 'gt_absent': [2]}]


PATHS = st.text(min_size=1).filter(lambda text: text.strip() and '\0' not in text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_reads_back_equal(tmp_path, data):
    count = data.draw(st.integers(1, 4))
    paths = data.draw(
        st.lists(PATHS.map(lambda text: text.replace('/', '_').replace('.', '_')), min_size=1, unique=True)
    )
    values = st.lists(st.sampled_from([1, 0, -1]), min_size=count, max_size=count)
    dense = np.array([data.draw(values) for _ in paths])
    default = data.draw(st.sampled_from([0, -1, 1]))
    names = data.draw(st.lists(PATHS.map(str.strip), min_size=count, max_size=count, unique=True))
    written = Annotations(tuple(names), StringList(paths), annotations(dense, default).labels)
    write_native(written, tmp_path / 'a.json')
    read = read_annotations(tmp_path / 'a.json')
    assert read.classes == written.classes and list(read.img_paths) == paths
    assert read.labels.dense().tolist() == dense.tolist()
    assert find_difference(written, read) == ''


def test_names_of_files_that_are_no_text(tmp_path):
    written = Annotations(('a',), StringList(['\udce9.jpg']), LabelMatrix.from_lists([[0]], 1))
    write_native(written, tmp_path / 'a.json')
    assert list(read_native(tmp_path / 'a.json').img_paths) == ['\udce9.jpg']


def test_entries_that_say_the_default_are_no_difference():
    dense = np.array([[1, 0]])
    spelt_out = LabelMatrix(np.array([0, 2]), np.array([1, 0], np.int32), np.array([0, 1], np.int8), 2)
    one = annotations(dense)
    assert find_difference(one, Annotations(one.classes, one.img_paths, spelt_out)) == ''
    assert find_difference(one, annotations(dense, default=-1)) == ''


@pytest.mark.parametrize('default', [0, -1])
@pytest.mark.parametrize('value', [-1, 1])
def test_differences_are_found(default, value):
    dense = np.zeros((3, 2), int)
    one = annotations(dense)
    dense[1, 1] = value
    assert find_difference(one, annotations(dense, default)) == "other labels of image '1.jpg'"
    assert find_difference(one, annotations(dense[:2], default)) == '3 and 2 images'
    assert find_difference(one, annotations(dense[:, :1])) == "classes ('c0', 'c1') and ('c0',)"
    other = Annotations(one.classes, StringList(['0.jpg', 'x.jpg', '2.jpg']), one.labels)
    assert find_difference(one, other) == "images '1.jpg' and 'x.jpg'"


@pytest.mark.parametrize('name', ['aquarium', 'bccd', 'coco_tiny'])
def test_real_data(test_data, tmp_path, name):
    """Each split of the real data sets, converted and read back."""
    source = test_data / f'datasets/{name}/labels.csv'
    rows = source.read_text().splitlines()[1:]
    for split in sorted({row.split(',')[1] for row in rows}):
        read = read_annotations(source, split=split)
        write_native(read, tmp_path / 'a.json')
        again = read_annotations(tmp_path / 'a.json')
        assert find_difference(read, again) == ''
        expected = [row.split(',') for row in rows if row.split(',')[1] == split]
        assert list(again.img_paths) == [row[0] for row in expected]
        assert again.labels.dense().tolist() == [[int(cell) for cell in row[2:]] for row in expected]
