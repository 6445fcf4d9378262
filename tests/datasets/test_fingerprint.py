"""The fingerprint of data: the same for the same labelled images, another for any others."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlcls.datasets import ClassBalancedDataset, MultiLabelDataset
from mlcls.datasets.fingerprint import fingerprint
from mlcls.datasets.formats.write import write_native
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations, LabelMatrix, StringList

CLASSES = ('cat', 'dog', 'cow')
NAMES = ('a.jpg', 'b/a.jpg', 'c.jpg', 'd.jpg')
LABELS = ((1, 0, -1), (0, 0, 0), (1, 1, 0), (-1, 0, 1))


def of(
    labels: Sequence[Sequence[int]] = LABELS, names: Sequence[str] = NAMES, classes: tuple[str, ...] = CLASSES
) -> Annotations:
    return Annotations(classes, StringList(names), LabelMatrix.from_dense(np.array(labels, np.int8)))


def stored_otherwise(labels: LabelMatrix, default: int, order: Callable[[Any], Any]) -> LabelMatrix:
    """The same labels against another default, the entries of each row in another order."""
    dense = labels.dense()
    rows = [order(np.flatnonzero(row != default)) for row in dense]
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32)
    values = np.concatenate([np.zeros(0, np.int8), *(dense[i][row] for i, row in enumerate(rows))]).astype(np.int8)
    return LabelMatrix(indptr, indices, values, labels.num_classes, default)


matrices = st.integers(1, 5).flatmap(
    lambda columns: st.lists(
        st.lists(st.sampled_from([1, 0, -1]), min_size=columns, max_size=columns).map(tuple), min_size=1, max_size=6
    )
)


@given(labels=matrices, seed=st.integers(0, 99), default=st.sampled_from([PRESENT, ABSENT, UNKNOWN]))
def test_order_of_images_and_way_of_storing_do_not_count(
    labels: list[tuple[int, ...]], seed: int, default: int
) -> None:
    classes = tuple(f'class {number}' for number in range(len(labels[0])))
    given = of(labels, [f'{number % 4}.jpg' for number in range(len(labels))], classes)  # some names are there twice
    order = np.random.default_rng(seed).permutation(len(labels))
    found = fingerprint(given)
    assert re.fullmatch('[0-9a-f]{16}', found)
    assert fingerprint(given.select(order)) == found
    for turn in (lambda ids: ids, lambda ids: ids[::-1]):
        assert fingerprint(replace(given, labels=stored_otherwise(given.labels, default, turn))) == found


@given(labels=matrices, data=st.data())
def test_any_other_label_counts(labels: list[tuple[int, ...]], data: st.DataObject) -> None:
    names = [f'{number}.jpg' for number in range(len(labels))]
    classes = tuple('abcde'[: len(labels[0])])
    row, column = data.draw(st.integers(0, len(labels) - 1)), data.draw(st.integers(0, len(classes) - 1))
    changed = [list(each) for each in labels]
    changed[row][column] = data.draw(st.sampled_from([value for value in (1, 0, -1) if value != labels[row][column]]))
    assert fingerprint(of(labels, names, classes)) != fingerprint(of(changed, names, classes))


def test_every_difference_gives_another_one() -> None:
    swapped = (LABELS[1], LABELS[0], *LABELS[2:])
    variants = [
        of(),
        of(swapped),  # the labels of two images exchanged
        of(names=('b.jpg', 'b/a.jpg', 'c.jpg', 'd.jpg')),
        of(classes=('dog', 'cat', 'cow')),
        of([[row[1], row[0], row[2]] for row in LABELS], classes=('dog', 'cat', 'cow')),  # the same facts, other order
        of(classes=('ca', 'tdog', 'cow')),
        of(LABELS[:3], NAMES[:3]),
        of((*LABELS, LABELS[0]), (*NAMES, NAMES[0])),  # an image twice
        of((*LABELS, LABELS[0], LABELS[0]), (*NAMES, NAMES[0], NAMES[0])),
        of([(*row, 0) for row in LABELS], classes=(*CLASSES, 'sheep')),
        of(LABELS[:1], NAMES[:1]),
        of([[0, 0, 0]], NAMES[:1]),
    ]
    assert len({fingerprint(each) for each in variants}) == len(variants)


def test_it_never_changes() -> None:
    """Thresholds of old checkpoints carry it: a change would make test data pass for others."""
    assert fingerprint(of()) == 'bd4deefa1d35d874'


def test_names_that_are_no_text() -> None:
    broken = b'\xff.jpg'.decode('utf-8', 'surrogateescape')
    assert fingerprint(of(names=(broken, *NAMES[1:]))) != fingerprint(of())


@pytest.mark.parametrize('name', ['./a.jpg', '/data/img/a.jpg', '/data/img/./a.jpg', '/data//img/a.jpg', 'b/../a.jpg'])
def test_names_are_taken_relative_to_the_root(name: str) -> None:
    assert fingerprint(of(names=(name, *NAMES[1:])), '/data/img') == fingerprint(of())
    assert fingerprint(of(names=('/other/a.jpg', *NAMES[1:])), '/data/img') != fingerprint(of())
    assert fingerprint(of(names=('s3://a/./a.jpg', *NAMES[1:])), 's3://a') != fingerprint(of())


def make_images(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(root / name)


def csv_text(root: str = '') -> str:
    words = {1: '1', 0: '0', -1: '-1'}
    lines = [f'{root}{name},' + ','.join(words[v] for v in row) for name, row in zip(NAMES, LABELS)]
    return '\n'.join([f'image,{",".join(CLASSES)}', *lines]) + '\n'


def test_formats_places_and_wrappers_do_not_count(tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'elsewhere/two'
    for root in (one, two):
        make_images(root, NAMES)
    write_native(of(), one / 'train.json')
    (two / 'train.csv').write_text(csv_text())
    (two / 'absolute.csv').write_text(csv_text(f'{two}/'))
    native = MultiLabelDataset('train.json', data_root=one)
    tables = [MultiLabelDataset(name, data_root=two) for name in ('train.csv', 'absolute.csv')]
    expected = fingerprint(of())
    assert [native.fingerprint, *(table.fingerprint for table in tables)] == [expected] * 3
    assert list(native.image_names) == list(tables[0].image_names) == list(NAMES)
    balanced = ClassBalancedDataset(native, oversample_thr=1.0)
    assert balanced.fingerprint == expected and list(balanced.image_names) == list(NAMES)
    assert pickle.loads(pickle.dumps(native)).fingerprint == expected


def test_a_part_is_other_data(tmp_path: Path) -> None:
    make_images(tmp_path, NAMES)
    write_native(of(), tmp_path / 'all.json')
    write_native(of(LABELS[:2], NAMES[:2]), tmp_path / 'part.json')
    part = MultiLabelDataset('all.json', data_root=tmp_path, indices=2)
    whole = MultiLabelDataset('all.json', data_root=tmp_path)
    assert part.fingerprint == MultiLabelDataset('part.json', data_root=tmp_path).fingerprint != whole.fingerprint
    assert list(part.image_names) == list(NAMES[:2])
    reordered = MultiLabelDataset('all.json', data_root=tmp_path, classes=['dog', 'cat', 'cow'])
    assert reordered.fingerprint != whole.fingerprint  # columns mean other classes
    (tmp_path / NAMES[0]).unlink()
    left = MultiLabelDataset('all.json', data_root=tmp_path, missing='skip')
    assert left.fingerprint == fingerprint(of(LABELS[1:], NAMES[1:]))


def test_shards_and_packs_have_that_of_their_images(tmp_path: Path) -> None:
    pytest.importorskip('webdataset')
    from mlcls.apis import PackFlags, pack_data
    from mlcls.datasets import ShardDataset
    from mlcls.datasets.shards import ShardSize

    make_images(tmp_path / 'data', NAMES)
    write_native(of(), tmp_path / 'data/train.json')
    pack_data(tmp_path / 'data/train.json', tmp_path / 'train.pack', PackFlags())
    pack_data(tmp_path / 'data/train.json', tmp_path / 'shards', PackFlags(shards=ShardSize()))
    expected = fingerprint(of())
    assert MultiLabelDataset(str(tmp_path / 'train.pack')).fingerprint == expected
    shards = ShardDataset(tmp_path / 'shards')
    assert shards.fingerprint == expected and list(shards.image_names) == list(NAMES)


def test_it_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcls.datasets import arguments

    make_images(tmp_path, NAMES)
    write_native(of(), tmp_path / 'all.json')
    data = MultiLabelDataset('all.json', data_root=tmp_path)
    calls = []
    monkeypatch.setattr(arguments, 'fingerprint', lambda *given: calls.append(given) or '0' * 16)
    assert data.fingerprint == data.fingerprint == '0' * 16 and len(calls) == 1


def test_blocks_of_labels_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    given = of(rng.integers(-1, 2, (50, 3)), [f'{n}.jpg' for n in range(50)])
    whole = fingerprint(given)
    for size in (1, 2, 7):
        monkeypatch.setattr('mlcls.datasets.fingerprint._BLOCK', size)
        assert fingerprint(given) == whole
