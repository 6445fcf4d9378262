"""Files of vectors and graphs of labels: what is read, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models.heads.label_files import read_label_graph, read_label_vectors

NAMES = ['cat', 'traffic light', 'dog']
VECTORS = [[1.0, 2.0], [0.5, -1.5], [3.0, 0.0]]
COUNTS = [[4, 1, 2], [1, 3, 0], [2, 0, 2]]


def write(folder: Path, suffix: str, **content: Any) -> Path:
    path = folder / f'labels{suffix}'
    if suffix == '.npz':
        np.savez(path, **{name: np.array(value) for name, value in content.items()})
    else:
        path.write_text(json.dumps(content))
    return path


def write_text(folder: Path, text: str, suffix: str = '.txt') -> Path:
    path = folder / f'words{suffix}'
    path.write_text(text)
    return path


@pytest.mark.parametrize('suffix', ['.npz', '.json'])
def test_vectors(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, names=NAMES, vectors=VECTORS)
    names, vectors = read_label_vectors(path)
    assert names == tuple(NAMES) and vectors.dtype == torch.float32 and vectors.tolist() == VECTORS
    names, vectors = read_label_vectors(str(path), ['dog', 'cat'])
    assert names == ('dog', 'cat') and vectors.tolist() == [VECTORS[2], VECTORS[0]]
    names, vectors = read_label_vectors(write(tmp_path, suffix, vectors=VECTORS))
    assert names is None and vectors.tolist() == VECTORS


def test_vectors_by_name_in_json(tmp_path: Path) -> None:
    names, vectors = read_label_vectors(write(tmp_path, '.json', **dict(zip(NAMES, VECTORS))))
    assert names == tuple(NAMES) and vectors.tolist() == VECTORS


@pytest.mark.parametrize('head', ['', '3 2\n'])
def test_vectors_as_text(tmp_path: Path, head: str) -> None:
    path = write_text(tmp_path, head + 'cat 1 2\ntraffic_light .5 -1.5e0\n\ndog 3 0\n')
    names, vectors = read_label_vectors(path)
    assert names == tuple(NAMES) and vectors.tolist() == VECTORS


def test_vectors_as_table(tmp_path: Path) -> None:
    names, vectors = read_label_vectors(write_text(tmp_path, 'cat,1,2\ntraffic light, .5,-1.5\na_b,3,0\n', '.csv'))
    assert names == ('cat', 'traffic light', 'a_b') and vectors.tolist() == VECTORS


def test_classes_are_found_in_a_file_of_words(tmp_path: Path) -> None:
    path = write_text(tmp_path, 'the 9 9\ncat 1 2\nCat 7 7\ntraffic 1 0\nlight 0 3\nhot_dog 5 6\n, broken line\n')
    names, vectors = read_label_vectors(path, ['Cat', 'CAT', 'Traffic light', 'hot dog', 'hot_dog'])
    assert names == ('Cat', 'CAT', 'Traffic light', 'hot dog', 'hot_dog')
    assert vectors.tolist() == [[7, 7], [1, 2], [0.5, 1.5], [5, 6], [5, 6]]


@pytest.mark.parametrize('suffix', ['.npz', '.json'])
@pytest.mark.parametrize('key', ['counts', 'matrix'])
def test_graph(tmp_path: Path, suffix: str, key: str) -> None:
    path = write(tmp_path, suffix, names=NAMES, **{key: COUNTS})
    found = read_label_graph(path)
    assert found.names == tuple(NAMES) and found.matrix.tolist() == COUNTS and found.counts == (key == 'counts')
    chosen = read_label_graph(path, ['dog', 'cat'])
    assert chosen.names == ('dog', 'cat') and chosen.matrix.tolist() == [[2, 2], [2, 4]]
    assert read_label_graph(write(tmp_path, suffix, **{key: COUNTS})).names is None


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(vectors=[[1, 2], [3]]), "'vectors' must be rows of numbers, all of one length"),
        (dict(vectors=[1, 2]), r'all of one length, got shape \(2,\)'),
        (dict(vectors=[]), 'all of one length, got shape'),
        (dict(vectors=[['a', 'b']]), "'vectors' must be rows of numbers"),
        (dict(vectors=[[1, float('nan')]]), r"'vectors' holds nan in row 0, column 1 \(from 0\)"),
        (dict(vectors=[[1, 2], [1e300, 1]]), r"'vectors' holds 1e\+300 in row 1, column 0"),
        (dict(vectors=VECTORS, names=['cat', 'dog']), 'has 2 names for 3 rows'),
        (dict(vectors=VECTORS, names=['cat', 'dog', 'cat']), "'cat' comes more than once"),
        (dict(vectors=VECTORS, names=[1, 2, 3]), "'names' must be a list of strings"),
        (dict(vectors=VECTORS, names='cat'), "'names' must be a list of strings"),
    ],
)
def test_bad_vectors(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf'labels\.json: .*{message}'):
        read_label_vectors(write(tmp_path, '.json', **content))


@pytest.mark.parametrize(
    'text, message',
    [
        ('cat 1 2\ndog 1\n', ':2: 1 numbers behind the name, 2 in the lines before'),
        ('cat\n', ':1: 0 numbers behind the name'),
        ('cat 1 2\nhot dog 1 2\n', ':2: must be a name and numbers'),
        ('\n', ': holds no vectors'),
        ('cat 1 2\ncat 1 2\n', ": 'cat' comes more than once"),
        ('cat 1 nan\n', ": 'vectors' holds nan in row 0"),
    ],
)
def test_bad_text(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf'words\.txt{message}'):
        read_label_vectors(write_text(tmp_path, text))


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(names=NAMES), "must have one of 'matrix' and 'counts', has names"),
        (dict(matrix=COUNTS, counts=COUNTS), "must have one of 'matrix' and 'counts', has counts, matrix"),
        (dict(matrix=VECTORS), r"'matrix' must be square \(labels, labels\), got \(3, 2\)"),
        (dict(matrix=[[1, -0.5], [0, 1]]), "'matrix' must be at least 0 everywhere, has -0.5"),
        (dict(matrix=[[1, float('inf')], [0, 1]]), "'matrix' holds inf in row 0, column 1"),
        (
            dict(counts=[[0, 2], [2, 5]], names=['a', 'b']),
            "2 images with 'a' and 'b', but 0 with 'a' and 5 with 'b'; the diagonal of counts must hold the images",
        ),
        (dict(counts=[[2, 3], [0, 5]]), '3 images with label 0 and label 1, but 2 with label 0'),
        (dict(matrix=COUNTS, names=['a', 'b']), 'has 2 names for 3 rows'),
    ],
)
def test_bad_graphs(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf'labels\.json: .*{message}'):
        read_label_graph(write(tmp_path, '.json', **content))


def test_classes_that_a_file_does_not_have(tmp_path: Path) -> None:
    words = write_text(tmp_path, 'cat 1 2\ndogs 1 2\n')
    with pytest.raises(ConfigError, match=r"words\.txt: has no vector of 'dog'"):
        read_label_vectors(words, ['cat', 'dog'])
    with pytest.raises(ConfigError, match=r'words\.txt: holds no vectors of the classes'):
        read_label_vectors(words, ['bird'])
    graph = write(tmp_path, '.json', names=NAMES, matrix=COUNTS)
    with pytest.raises(ConfigError, match=r"labels\.json: has no label 'dogg'; did you mean 'dog'\?"):
        read_label_graph(graph, ['cat', 'dogg'])
    with pytest.raises(ConfigError, match=r"does not name its labels; add 'names', or leave classes out"):
        read_label_graph(write(tmp_path, '.npz', matrix=COUNTS), ['cat'])


def test_no_file_another_format_and_damage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'none\.json: no such file of labels'):
        read_label_vectors(tmp_path / 'none.json')
    with pytest.raises(ConfigError, match=r"cannot read a '\.jsn' file of labels; did you mean '\.json'\?"):
        read_label_vectors(tmp_path / 'labels.jsn')
    with pytest.raises(ConfigError, match=r'words\.csv: a label graph must be a \.npz or \.json file'):
        read_label_graph(write_text(tmp_path, 'cat,1\n', '.csv'))
    path = tmp_path / 'broken.json'
    path.write_text('{"names": ')
    with pytest.raises(ConfigError, match=r'broken\.json: cannot be read'):
        read_label_vectors(path)
    path.write_text('[1]')
    with pytest.raises(ConfigError, match=r'must hold an object with names and numbers, holds a list'):
        read_label_vectors(path)
    whole = write(tmp_path, '.npz', names=NAMES, vectors=VECTORS)
    for content in (whole.read_bytes()[:50], b'', b'PK\x03\x04'):
        whole.write_bytes(content)
        with pytest.raises(ConfigError, match=r'labels\.npz: cannot be read'):
            read_label_vectors(whole)
    with pytest.raises(ConfigError, match=r"labels\.npz: has no 'vectors'; did you mean 'vector'"):
        read_label_vectors(write(tmp_path, '.npz', vector=VECTORS))
    (tmp_path / 'latin.txt').write_bytes(b'caf\xe9 1 2\n')
    with pytest.raises(ConfigError, match=r'latin\.txt: cannot be read'):
        read_label_vectors(tmp_path / 'latin.txt')


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    objects = np.empty(1, object)
    objects[0] = Bomb()
    np.savez(tmp_path / 'a.npz', vectors=objects, allow_pickle=True)
    with pytest.raises(ConfigError, match=r'a\.npz: cannot be read'):
        read_label_vectors(tmp_path / 'a.npz')
    (tmp_path / 'b.npz').write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigError, match=r'b\.npz: cannot be read'):
        read_label_graph(tmp_path / 'b.npz')
