"""Corrections of single labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.datasets.corrections import apply_corrections, read_corrections
from mlcls.errors import DataError
from mlcls.structures import Annotations, LabelMatrix, StringList

LABELS = np.int8([[1, 0, -1], [0, 0, 0], [1, 1, 1]])
NAMES = ['photos/a.jpg', 'photos/b.jpg', 'more/c.jpg']


def annotations(labels: np.ndarray = LABELS, names: list[str] | None = None) -> Annotations:
    classes = ('cat', 'hot dog', 'cow')[: labels.shape[1]]
    return Annotations(classes, StringList(names or NAMES), LabelMatrix.from_dense(labels), ('before',))


def write(folder: Path, *rows: str, head: str = 'image,class,label') -> Path:
    path = folder / 'fix.csv'
    path.write_text('\n'.join([head, *rows]) + '\n', encoding='utf-8')
    return path


def test_labels_change_and_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'photos/a.jpg,cow,1',
        'photos/a.jpg,cat,0',
        'photos/b.jpg,hot dog,-1',
        'more/c.jpg,cow,1',
        'more/c.jpg,cow,1',
        'photos/b.jpg,cat,0',
    )
    given_labels = annotations()
    found = apply_corrections(given_labels, path)
    assert found.annotations.labels.dense().tolist() == [[0, 0, 1], [0, -1, 0], [1, 1, 1]]
    assert (found.changed, found.same, found.repeated) == (3, 2, 1)
    assert found.annotations.notes == (
        'before',
        f'{path}: 3 labels corrected (1 now present, 1 now absent, 1 now unknown); 2 rows change nothing; '
        '1 repeated row',
    )
    assert given_labels.labels.dense().tolist() == LABELS.tolist(), 'what was given stays as it was'
    assert list(found.annotations.img_paths) == NAMES


def test_nothing_to_do(tmp_path: Path) -> None:
    found = apply_corrections(annotations(), write(tmp_path))
    assert (found.changed, found.same) == (0, 0) and found.annotations.notes[-1].endswith('fix.csv: 0 labels corrected')
    found = apply_corrections(annotations(), write(tmp_path, 'photos/a.jpg,cat,1'))
    assert found.annotations.notes[-1].endswith(': 0 labels corrected; 1 row changes nothing')
    assert found.annotations.labels.dense().tolist() == LABELS.tolist()
    found = apply_corrections(annotations(), write(tmp_path, 'photos/a.jpg,cat,0', *['photos/a.jpg,cat,0'] * 2))
    assert found.annotations.notes[-1].endswith(': 1 label corrected (1 now absent); 2 repeated rows')


@settings(max_examples=60)
@given(
    st.data(),
    hnp.arrays(np.int8, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.sampled_from([-1, 0, 1])),
    st.sampled_from([0, -1, 1]),
)
def test_against_a_dense_matrix(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, labels: np.ndarray, default: int
) -> None:
    """Whatever is stored and what is not: any default, entries of a row in any order."""
    rows, columns = np.nonzero(labels != default)
    order = np.lexsort((-columns, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(labels)))])
    matrix = LabelMatrix(
        indptr, columns[order].astype(np.int32), labels[rows, columns][order], labels.shape[1], default
    )
    assert matrix.dense().tolist() == labels.tolist()
    wanted = labels.copy()
    cells = data.draw(st.sets(st.tuples(*(st.integers(0, size - 1) for size in labels.shape))))
    lines = []
    names = [f'{row}.jpg' for row in range(len(labels))]
    given_labels = annotations(labels, names)
    for row, column in cells:
        wanted[row, column] = data.draw(st.sampled_from([-1, 0, 1]))
        lines.append(f'{row}.jpg,{given_labels.classes[column]},{wanted[row, column]}')
    made = Annotations(given_labels.classes, given_labels.img_paths, matrix)
    found = apply_corrections(made, write(tmp_path_factory.mktemp('x'), *lines))
    assert found.annotations.labels.dense().tolist() == wanted.tolist()
    assert found.changed == int((wanted != labels).sum()) and found.changed + found.same == len(cells)
    stored = found.annotations.labels
    assert not (stored.values == stored.default).any(), 'a default label is stored'
    assert stored.values.dtype == np.int8 and stored.indices.dtype == np.int32 and stored.indptr[0] == 0


def test_columns_in_any_order_and_spreadsheets(tmp_path: Path) -> None:
    path = tmp_path / 'fix.csv'
    lines = 'split;label;class;image;note', 'x;1.0; hot dog ;"photos/b.jpg";a', 'y;TRUE;cow;photos/b.jpg;'
    path.write_bytes('\r\n'.join(['\ufeff' + lines[0], *lines[1:]]).encode())
    found = read_corrections(path)
    assert [(row.image, row.class_name, row.label, row.line) for row in found] == [
        ('photos/b.jpg', 'hot dog', 1, 2),
        ('photos/b.jpg', 'cow', 1, 3),
    ]
    assert apply_corrections(annotations(), path).changed == 2


def test_names_with_spaces_around(tmp_path: Path) -> None:
    """An image whose name has a space is meant before one whose name has not."""
    given_labels = annotations(LABELS[:2], [' a.jpg', 'a.jpg'])
    assert apply_corrections(given_labels, write(tmp_path, ' a.jpg,hot dog,1')).annotations.labels.row(0).tolist() == [
        1,
        1,
        -1,
    ]
    one = annotations(LABELS[:1], ['a.jpg'])
    assert apply_corrections(one, write(tmp_path, ' a.jpg ,hot dog,1')).changed == 1


@pytest.mark.parametrize(
    'row, message',
    [
        ('photos/x.jpg,cat,1', r"fix\.csv, line 3: no image 'photos/x\.jpg'; did you mean 'photos/[ab]\.jpg'\?"),
        ('elsewhere/c.jpg,cat,1', r"line 3: no image 'elsewhere/c\.jpg'; did you mean 'more/c\.jpg'\?"),
        ('q,cat,1', r"line 3: no image 'q' among the 3 of the annotations, whose first is 'photos/a\.jpg'"),
        ('photos/a.jpg,hotdog,1', r"line 3: no class 'hotdog'; did you mean 'hot dog'\?"),
        ('photos/a.jpg,cat,2', r"line 3: the label is '2'; write 1 \(present\), 0 \(absent\) or -1 \(unknown\)"),
        ('photos/a.jpg,cat,', r"line 3: the label is ''; write 1"),
        ('photos/a.jpg,,1', r"line 3: the cell of 'class' is empty"),
        (' ,cat,1', r"line 3: the cell of 'image' is empty"),
        ('photos/b.jpg,cat,0', r"line 3: 'cat' of image 'photos/b\.jpg' is absent here, and present in line 2"),
        ('photos/b.jpg,cat,-1', r"line 3: 'cat' of image 'photos/b\.jpg' is unknown here, and present in line 2"),
        ('photos/a.jpg,cat', r'line 3: has 2 cells, the header has 3'),
    ],
)
def test_rows_that_cannot_be_applied(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        apply_corrections(annotations(), write(tmp_path, 'photos/b.jpg,cat,1', row))


@pytest.mark.parametrize(
    'head, message',
    [
        ('image,clas,label', "has no column 'class'; did you mean 'clas'?"),
        ('image,class,value', "has no column 'label'"),
        ('file,class,label', "has no column 'image'"),
        ('image,class,label,label', "2 columns are called 'label'"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        apply_corrections(annotations(), write(tmp_path, head=head))
    assert message in str(raised.value) and 'fix.csv' in str(raised.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'none\.csv: no such file'):
        apply_corrections(annotations(), tmp_path / 'none.csv')
