"""Annotations from the cache are those of the reader, whatever happened to the cache."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import cache
from mlcls.datasets.formats.cache import cache_folder, read_through_cache
from mlcls.errors import DataError
from mlcls.structures import Annotations, LabelMatrix, MappedFile, StringList

ANNOTATIONS = Annotations(
    ('a', 'b', 'c'),
    StringList(['x.jpg', 'naïve/ü.jpg', 'bad\udcff.jpg']),
    LabelMatrix.from_lists([[0, 2], [], [1]], 3, unknown=[[1], [0], []]),
    ('f.txt: a note', 'another'),
    "text: its extension '.txt'",
)


class Reader:
    """Gives annotations and counts how often it is asked."""

    def __init__(self, annotations: Annotations = ANNOTATIONS) -> None:
        self.annotations, self.calls = annotations, 0

    def __call__(self) -> Annotations:
        self.calls += 1
        return self.annotations


def same(one: Annotations, other: Annotations) -> bool:
    return (
        (one.classes, one.notes, one.source) == (other.classes, other.notes, other.source)
        and list(one.img_paths) == list(other.img_paths)
        and (one.labels.default, one.labels.shape) == (other.labels.default, other.labels.shape)
        and all(
            getattr(one.labels, name).tolist() == getattr(other.labels, name).tolist()
            and getattr(one.labels, name).dtype == getattr(other.labels, name).dtype
            for name in ('indptr', 'indices', 'values')
        )
    )


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is worth keeping, also files that have only just been written."""
    monkeypatch.setattr(cache, 'WORTHWHILE_IMAGES', -1)
    monkeypatch.setattr(cache, '_SETTLED_NS', -(10**9))
    monkeypatch.delenv('MLCLS_CACHE', raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'cache'


@pytest.fixture
def path(write: Callable[..., Path]) -> Path:
    return write('data/f.txt', 'x.jpg 0,2\n')


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_was_read_comes_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    values = data.draw(st.sampled_from([[1], [1, -1], [1, 0], [0, -1]]))
    rows = data.draw(
        st.lists(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(values)), unique_by=lambda pair: pair[0]))
    )
    flat = [pair for row in rows for pair in row]
    labels = LabelMatrix(
        np.cumsum([0, *map(len, rows)]),
        np.array([pair[0] for pair in flat], np.int32),
        np.array([pair[1] for pair in flat], np.int8),
        7,
        data.draw(st.sampled_from([0, -1])),
    )
    text = st.text(st.characters(), max_size=5)
    paths = StringList(data.draw(st.lists(text, min_size=len(rows), max_size=len(rows))))
    notes, source = tuple(data.draw(st.lists(text, max_size=3))), data.draw(text)
    read = Reader(Annotations(tuple('abcdefg'), paths, labels, notes, source))
    folder = tmp_path_factory.mktemp('cache')
    file = folder / 'f.txt'
    file.touch()
    for _ in range(3):
        assert same(read_through_cache(file, {'reader': 'text'}, read, folder / 'cache'), read.annotations)
    assert read.calls == 1 and len(entries(folder / 'cache')) == 1


def test_arrays_are_mapped_and_travel_by_name(path, folder):
    read = Reader(replace(ANNOTATIONS, labels=LabelMatrix.from_lists([[0, 1], [2], []], 3)))
    for _ in range(2):  # both when it has just been stored and when it is found
        found = read_through_cache(path, {}, read, folder)
        (entry,) = entries(folder)
        copy = pickle.loads(pickle.dumps(found))
        for each in (found, copy):
            for array in (*each.img_paths.arrays, each.labels.indptr, each.labels.indices):
                assert isinstance(array.base, MappedFile) and array.base.path == str(entry)
                assert not array.flags.writeable
            assert each.labels.values.strides == (0,)  # all are present: no memory
        assert same(copy, read.annotations) and same(found, read.annotations)


def test_pickles_do_not_grow(path, folder):
    count = 5000
    labels = LabelMatrix.from_lists([[number % 3] for number in range(count)], 3)
    read = Reader(replace(ANNOTATIONS, img_paths=StringList(f'{number}.jpg' for number in range(count)), labels=labels))
    assert len(pickle.dumps(read_through_cache(path, {}, read, folder))) < 2000 < len(pickle.dumps(read.annotations))


def test_pickles_outlive_the_entry(path, folder):
    found = read_through_cache(path, {}, Reader(), folder)
    by_name = pickle.dumps(found)
    (entry,) = entries(folder)
    content = entry.read_bytes()
    entry.unlink()
    assert same(found, ANNOTATIONS)  # mapped pages stay
    assert same(pickle.loads(pickle.dumps(found)), ANNOTATIONS)  # by value, since the file is gone
    entry.write_bytes(b'?' * len(content))
    assert same(pickle.loads(pickle.dumps(found)), ANNOTATIONS)  # or is another
    for other in (b'', b'?' * len(content), content[:100]):
        entry.write_bytes(other)
        with pytest.raises(DataError, match=r'\.ann: this file of annotations was removed or changed while processes'):
            pickle.loads(by_name)


@pytest.mark.parametrize('images, seconds, kept', [(3, 1e9, False), (2, 1e9, True), (3, -1, True)])
def test_only_when_it_pays(path, folder, monkeypatch, images, seconds, kept):
    monkeypatch.setattr(cache, 'WORTHWHILE_IMAGES', images)
    monkeypatch.setattr(cache, 'WORTHWHILE_SECONDS', seconds)
    read = Reader()
    for _ in range(2):
        assert same(read_through_cache(path, {}, read, folder), ANNOTATIONS)
    assert read.calls == (1 if kept else 2) and len(entries(folder)) == kept


def change_content(path: Path) -> None:
    path.write_text('y.jpg 1\n')


def change_time(path: Path) -> None:
    os.utime(path, (1, 1))


def exchange(path: Path) -> None:
    """Another file of the same size and time."""
    status = path.stat()
    other = path.with_suffix('.new')
    other.write_text('y.jpg 0,2\n')
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize('change', [change_content, change_time, exchange])
def test_a_changed_file_is_read_again_and_replaces_its_entry(path, folder, change):
    read = Reader()
    read_through_cache(path, {}, read, folder)
    before = entries(folder)
    change(path)
    read.annotations = replace(ANNOTATIONS, notes=('changed',))
    assert same(read_through_cache(path, {}, read, folder), read.annotations)
    assert read.calls == 2 and len(entries(folder)) == 1 and entries(folder) != before


@pytest.mark.parametrize(
    'change',
    [
        lambda folder: (folder / 'sub/new.xml').touch(),
        lambda folder: (folder / 'sub/a.xml').rename(folder / 'sub/b.xml'),
        lambda folder: (folder / 'sub/a.xml').unlink(),
        lambda folder: (folder / 'sub/a.xml').write_text('longer'),
        lambda folder: os.utime(folder / 'sub/a.xml', (1, 1)),
        lambda folder: (folder / 'dead').symlink_to(folder / 'nowhere'),
    ],
)
def test_a_folder_is_all_that_lies_below_it(write, folder, change):
    data = write('data/sub/a.xml', 'a').parents[1]
    (data / 'sub/loop').symlink_to(data)
    read = Reader()
    for _ in range(2):
        read_through_cache(data, {}, read, folder)
    assert read.calls == 1
    change(data)
    read_through_cache(data, {}, read, folder)
    assert read.calls == 2 and len(entries(folder)) == 1


def test_other_inputs_count(path, write, folder):
    names, read = write('names.csv', 'a'), Reader()
    for expected in (1, 1, 2):
        if expected == 2:
            names.write_text('ab')
        read_through_cache(path, {}, read, folder, inputs=[names])
        assert read.calls == expected


def test_keys_have_entries_of_their_own(path, folder):
    """Two parts of one file, say; the one must not push out the other."""
    keys = [{'split': 'train'}, {'split': 'val'}, {'split': 'val', 'classes': ['a']}, {'split': Path('val'), 'x': None}]
    readers = [Reader(replace(ANNOTATIONS, source=str(number))) for number in range(len(keys))]
    for _ in range(2):
        for key, read in zip(keys, readers):
            assert read_through_cache(path, key, read, folder).source == read.annotations.source
    assert [read.calls for read in readers] == [1] * len(keys) and len(entries(folder)) == len(keys)


def test_other_readers_other_entries(path, folder, monkeypatch):
    read = Reader()
    read_through_cache(path, {}, read, folder)
    monkeypatch.setattr(cache, '_readers', lambda: 'next version')
    read_through_cache(path, {}, read, folder)
    assert read.calls == 2


def test_paths_have_entries_of_their_own(write, folder, monkeypatch, tmp_path):
    for name in ('a.txt', 'b.txt'):
        read_through_cache(write(name, 'x'), {}, Reader(replace(ANNOTATIONS, source=name)), folder)
    assert len(entries(folder)) == 2
    monkeypatch.chdir(tmp_path)
    again = Reader()
    assert read_through_cache('a.txt', {}, again, folder).source == 'a.txt' and not again.calls


def damaged(content: bytes, how: str) -> list[bytes]:
    if how == 'flipped':
        return [content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :] for at in range(len(content))]
    if how == 'cut':
        return [content[:length] for length in range(0, len(content), 7)]
    return [content + b'\0', b'\0' * len(content), b'no cache', content[::-1]]


@pytest.mark.parametrize('how', ['flipped', 'cut', 'foreign'])
def test_damaged_entries_are_made_anew(path, folder, how):
    read = Reader()
    read_through_cache(path, {}, read, folder)
    (entry,) = entries(folder)
    content = entry.read_bytes()
    for other in damaged(content, how):
        entry.write_bytes(other)
        before = read.calls
        assert same(read_through_cache(path, {}, read, folder), ANNOTATIONS)
        assert other[:36] == content[:36] or read.calls == before + 1
        assert entry.read_bytes() == content or read.calls == before  # only bytes without meaning may differ


def test_entries_of_something_else_are_not_taken(path, folder):
    read_through_cache(path, {'split': 'val'}, Reader(replace(ANNOTATIONS, source='val')), folder)
    (val,) = entries(folder)
    read_through_cache(path, {'split': 'train'}, Reader(), folder)
    (train,) = set(entries(folder)) - {val}
    train.write_bytes(val.read_bytes())
    read = Reader()
    assert same(read_through_cache(path, {'split': 'train'}, read, folder), ANNOTATIONS) and read.calls == 1


@pytest.mark.parametrize(
    'indptr, indices', [([0, 1, 3, 2], [0, 1]), ([0, 1, 1, 1], [0, 1]), ([1, 1, 1, 2], [0, 1]), ([0, 1, 2, 2], [0, 3])]
)
def test_entries_that_point_outside_are_not_taken(path, folder, indptr, indices):
    """Even with the right check sums."""
    labels = LabelMatrix(np.array(indptr), np.array(indices, np.int32), np.array([1, 1], np.int8), 3)
    read = Reader(replace(ANNOTATIONS, labels=labels))
    for _ in range(2):
        assert read_through_cache(path, {}, read, folder) is read.annotations
    assert read.calls == 2


def test_without_a_place_to_write_it_goes_on_with_a_note(path, write, monkeypatch, tmp_path):
    blocked = write('file', '') / 'cache'
    found = read_through_cache(path, {}, Reader(), blocked)
    note = found.notes[-1]
    assert same(replace(found, notes=found.notes[:-1]), ANNOTATIONS)
    assert note.startswith(f'{path}: the annotations could not be kept in the cache folder {blocked} (Not a directory)')
    assert note.endswith('MLCLS_CACHE=... names another folder, MLCLS_CACHE=off uses none')

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, 'write_atomic', full)
    assert '(No space left on device)' in read_through_cache(path, {}, Reader(), tmp_path / 'full').notes[-1]


def test_off(path, folder, monkeypatch):
    monkeypatch.setenv('MLCLS_CACHE', 'off')
    read = Reader()
    for _ in range(2):
        assert read_through_cache(path, {}, read, folder) is ANNOTATIONS
    assert read.calls == 2 and not entries(folder) and cache_folder() is None


def test_where_it_lies(path, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    assert cache_folder() == tmp_path / 'home/.cache/mlcls/annotations'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache_folder() == tmp_path / 'xdg/mlcls/annotations'
    monkeypatch.setenv('MLCLS_CACHE', '~/own')
    assert cache_folder() == tmp_path / 'home/own/annotations'
    read = Reader()
    for _ in range(2):
        read_through_cache(path, {}, read)
    assert read.calls == 1 and len(entries(tmp_path / 'home/own/annotations')) == 1


def test_errors_of_the_reader_go_through(path, folder, tmp_path):
    def fail() -> Annotations:
        raise DataError('f.txt, line 1: wrong')

    for source in (path, tmp_path / 'missing'):
        with pytest.raises(DataError, match='line 1: wrong'):
            read_through_cache(source, {}, fail, folder)
    assert not entries(folder)


def test_a_file_that_changes_while_it_is_read_is_not_kept(path, folder):
    def read() -> Annotations:
        path.write_text('something else')
        return ANNOTATIONS

    assert read_through_cache(path, {}, read, folder) is ANNOTATIONS and not entries(folder)


def test_a_file_that_has_only_just_changed_is_not_kept(path, folder, monkeypatch):
    """It might change again within the same tick of the clock."""
    monkeypatch.setattr(cache, '_SETTLED_NS', 3600 * 10**9)
    assert read_through_cache(path, {}, Reader(), folder) is ANNOTATIONS and not entries(folder)


def at_the_same_time(work: Callable[[], Annotations]) -> list[Annotations]:
    found: list[Annotations] = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_writers_that_come_at_the_same_time(path, folder):
    together = threading.Barrier(4)

    def read() -> Annotations:
        together.wait(20)
        return ANNOTATIONS

    found = at_the_same_time(lambda: read_through_cache(path, {}, read, folder))
    assert len(found) == 4 and all(same(each, ANNOTATIONS) for each in found)
    assert all(same(pickle.loads(pickle.dumps(each)), ANNOTATIONS) for each in found)
    assert len(entries(folder)) == 1


def test_a_large_file_is_read_by_one_process_at_a_time(path, folder, write, monkeypatch):
    """All ranks of a machine ask for it; were all to read it, each would take as long and as much memory."""
    monkeypatch.setattr(cache, '_LARGE', 0)
    read = Reader()
    found = at_the_same_time(lambda: read_through_cache(path, {}, read, folder))
    assert len(found) == 4 and all(same(each, ANNOTATIONS) for each in found) and read.calls == 1
    blocked = write('file', '') / 'cache'  # where nothing can be locked, all read
    assert len(at_the_same_time(lambda: read_through_cache(path, {}, read, blocked))) == 4 and read.calls == 5


def test_a_reader_that_fails_lets_the_next_try(path, folder, monkeypatch):
    monkeypatch.setattr(cache, '_LARGE', 0)

    def fail() -> Annotations:
        raise DataError('wrong')

    with pytest.raises(DataError, match='wrong'):
        read_through_cache(path, {}, fail, folder)
    assert same(read_through_cache(path, {}, Reader(), folder), ANNOTATIONS)


def test_what_killed_writers_left_is_removed(path, folder):
    read_through_cache(path, {}, Reader(), folder)
    (entry,) = entries(folder)
    old, new = (folder / f'.{entry.name}.{name}.tmp' for name in ('old', 'new'))
    for file in (old, new):
        file.write_bytes(b'part')
    os.utime(old, (1, 1))
    change_content(path)
    read_through_cache(path, {}, Reader(), folder)
    assert not old.exists() and new.exists()
