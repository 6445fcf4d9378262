"""Paths are found again as in a dict."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets.formats import path_index
from mlcls.datasets.formats.path_index import PathIndex

PIECES = st.sampled_from(['a', 'b', 'ü', '.', '..', '...', '.a', 'a.', '', ' ', '\udcff', 'http:', 'x.jpg'])
PATHS = st.lists(PIECES, min_size=1, max_size=6).map('/'.join).filter(bool)


@given(st.lists(PATHS, max_size=60))
def test_same_as_a_dict_of_normal_paths(paths: list[str]) -> None:
    index, first = PathIndex(), dict[str, int]()
    for path in paths:
        normal = posixpath.normpath(path)
        assert index.add(path) == first.get(normal)
        first.setdefault(normal, len(first))
    kept = [next(path for path in paths if posixpath.normpath(path) == normal) for normal in first]
    assert [index[number] for number in range(len(index))] == kept == list(index.strings())


def test_many() -> None:
    index = PathIndex()
    assert all(index.add(f'{number % 7}/{number}.jpg') is None for number in range(5000))
    assert all(index.add(f'./{number % 7}//{number}.jpg') == number for number in range(5000))
    assert len(index) == 5000 and index[4999] == '1/4999.jpg'


@pytest.mark.parametrize('code', [lambda path: 31, lambda path: len(path), lambda path: -hash(path) % 40 - 20])
def test_paths_of_equal_hash(monkeypatch: pytest.MonkeyPatch, code) -> None:
    """As many as there are: they are told apart by the paths, and the table has room behind its end."""
    monkeypatch.setattr(path_index, 'hash', code, raising=False)
    index = PathIndex()
    assert all(index.add(f'{number}.jpg') is None for number in range(300))
    assert all(index.add(f'{number}.jpg') == number for number in range(300))
