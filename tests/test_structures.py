"""Containers: the compact forms say the same as the plain ones."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlcls.structures import Annotations, LabelMatrix, SampleIndex, StringList

LABELS = arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 7)), elements=st.integers(-1, 1))


@given(LABELS)
def test_label_matrix_round_trip(labels: np.ndarray) -> None:
    matrix = LabelMatrix.from_dense(labels)
    assert matrix.shape == labels.shape and (matrix.dense() == labels).all()
    for number, row in enumerate(labels):
        assert (matrix.row(number) == row).all() and matrix.row(number).dtype == np.int8
        assert sorted(matrix.present(number)) == list(np.flatnonzero(row == 1))
    for value in (1, 0, -1):
        assert (matrix.counts(value) == (labels == value).sum(0)).all()


@given(LABELS, st.data())
def test_label_matrix_selects_rows(labels: np.ndarray, data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=12)), np.int64)
    assert (LabelMatrix.from_dense(labels).select(chosen).dense() == labels[chosen]).all()


def test_label_matrix_from_lists() -> None:
    matrix = LabelMatrix.from_lists([[0, 2], [], [1]], 4, unknown=[[3], [0], []])
    assert matrix.dense().tolist() == [[1, 0, 1, -1], [-1, 0, 0, 0], [0, 1, 0, 0]]
    assert LabelMatrix.from_lists([[0]], 2).dense().tolist() == [[1, 0]]


def test_unknown_by_default() -> None:
    matrix = LabelMatrix(np.array([0, 1, 2]), np.array([0, 1], np.int32), np.array([1, 0], np.int8), 3, default=-1)
    assert matrix.dense().tolist() == [[1, -1, -1], [-1, 0, -1]]
    assert matrix.counts(-1).tolist() == [1, 1, 2]


@given(st.lists(st.text()))
def test_string_list(strings: list[str]) -> None:
    packed = StringList(s for s in strings if s.isprintable())
    plain = [s for s in strings if s.isprintable()]
    assert list(packed) == plain and len(packed) == len(plain)
    assert packed[1:3] == plain[1:3]
    if plain:
        assert packed[-1] == plain[-1]


def test_string_list_ends() -> None:
    with pytest.raises(IndexError):
        StringList(['a'])[1]


def test_memory_does_not_grow_with_objects() -> None:
    paths = [f'train/{i:07d}.jpg' for i in range(10000)]
    assert len(pickle.dumps(StringList(paths))) < 2 * sum(map(len, paths))


def test_sample_index_travels() -> None:
    index = pickle.loads(pickle.dumps(SampleIndex(5, (1, 2, 3))))
    assert index == 5 and index.key == (1, 2, 3) and [10, 11, 12, 13, 14, 15][index] == 15


def test_annotations_select() -> None:
    whole = Annotations(('a', 'b'), StringList(['x', 'y', 'z']), LabelMatrix.from_lists([[0], [1], [0, 1]], 2))
    part = whole.select(np.array([2, 0]))
    assert list(part.img_paths) == ['z', 'x'] and part.labels.dense().tolist() == [[1, 1], [1, 0]] and len(part) == 2
