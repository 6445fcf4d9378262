"""Containers: the compact forms say the same as the plain ones."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlcls import structures
from mlcls.structures import Annotations, LabelMatrix, MappedFile, SampleIndex, StringList

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


@given(st.lists(st.text(st.characters())), st.data())
def test_string_list(strings: list[str], data: st.DataObject) -> None:
    """Any strings: also half surrogates, by which Python spells file names that are not UTF-8."""
    packed = StringList(iter(strings))
    assert list(packed) == strings and len(packed) == len(strings)
    for part in (slice(1, 3), slice(None, None, -1), slice(-2, None), slice(5, 0, -2)):
        assert packed[part] == strings[part]
    if strings:
        assert packed[-1] == strings[-1] and packed.index(strings[-1]) == strings.index(strings[-1])
    numbers = data.draw(st.lists(st.integers(0, len(strings) - 1))) if strings else []
    assert list(packed.select(np.array(numbers, np.int64))) == [strings[number] for number in numbers]
    assert list(pickle.loads(pickle.dumps(packed))) == strings
    assert list(StringList.from_arrays(*packed.arrays)) == strings


def test_long_lists_are_worked_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, '_BLOCK', 3)
    rng = np.random.default_rng(0)
    strings = ['x' * length for length in rng.integers(0, 4, 20)]
    labels = rng.integers(-1, 2, (20, 5)).astype(np.int8)
    packed, matrix = StringList(strings), LabelMatrix.from_dense(labels)
    assert list(packed) == strings
    for count in (0, 1, 3, 4, 50):
        chosen = rng.integers(0, 20, count)
        assert list(packed.select(chosen)) == [strings[number] for number in chosen]
        assert (matrix.select(chosen).dense() == labels[chosen]).all()
    for default in (0, -1):
        other = LabelMatrix(matrix.indptr, matrix.indices, matrix.values, 5, default)
        assert all((other.counts(value) == (other.dense() == value).sum(0)).all() for value in (1, 0, -1))


def test_labels_that_are_alike_take_no_memory() -> None:
    lists = [[0, 2], [], [1], [0, 1, 2]]
    plain = LabelMatrix.from_lists(lists, 3)
    alike = LabelMatrix(plain.indptr, plain.indices, LabelMatrix.alike(1, 6), 3)
    copies = [alike, pickle.loads(pickle.dumps(alike)), copy.deepcopy(alike)]
    for matrix in copies:
        assert matrix.values.strides == (0,) and matrix.values.dtype == np.int8
        assert (matrix.dense() == plain.dense()).all() and (matrix.counts() == plain.counts()).all()
        assert [matrix.row(number).tolist() for number in range(4)] == plain.dense().tolist()
        assert [matrix.present(number).tolist() for number in range(4)] == lists
        part = matrix.select(np.array([3, 1, 0]))
        assert part.values.strides == (0,) and (part.dense() == plain.dense()[[3, 1, 0]]).all()
    none = LabelMatrix(np.zeros(3, np.int64), np.zeros(0, np.int32), LabelMatrix.alike(1, 0), 3)
    for matrix in (none, pickle.loads(pickle.dumps(none)), none.select(np.array([1, 0]))):
        assert matrix.dense().tolist() == [[0, 0, 0]] * 2


def test_parts_of_a_mapped_array_travel_by_name(tmp_path: Path) -> None:
    numbers = np.arange(100, dtype=np.int64)
    (tmp_path / 'arrays').write_bytes(bytes(range(MappedFile.HEAD)) + numbers.tobytes())
    file = MappedFile(tmp_path / 'arrays')
    mapped = file.array(np.int64, MappedFile.HEAD, 100)
    for part, in_file in ((mapped, True), (mapped[20:90], True), (mapped[:0], True), (mapped[::2], False)):
        # Any arrays will do: what is asked is how they travel.
        pickled = pickle.dumps(LabelMatrix(part, part, part, 1))
        copied = pickle.loads(pickled).indptr
        assert copied.tolist() == part.tolist() and isinstance(copied.base, MappedFile) == in_file
        assert (str(tmp_path / 'arrays').encode() in pickled) == in_file
    with pytest.raises(TypeError):
        file.array(np.int64, MappedFile.HEAD, 101)
    file.release_pages()
    assert mapped[99] == 99


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


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_concatenated_matrices(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = [rng.integers(-1, 2, (length, 4)).astype(np.int8) for length in lengths]
    joined = LabelMatrix.concatenate([LabelMatrix.from_dense(part) for part in dense])
    assert np.array_equal(joined.dense(), np.concatenate(dense))
