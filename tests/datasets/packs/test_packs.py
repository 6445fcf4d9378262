"""Packs, written and read."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.datasets import MultiLabelDataset, read_annotations
from mlcls.datasets.packs import PackReader, PackSettings, layout, verify_pack, write_pack
from mlcls.datasets.packs.images import prepare_image
from mlcls.datasets.packs.tables import from_arrays, identity, to_arrays, to_meta
from mlcls.errors import ConfigError, DataError
from mlcls.structures import Annotations, LabelMatrix, StringList

from .conftest import SHORT_SIDE, files, make_job


def same(found: Annotations, expected: Annotations) -> bool:
    return (
        found.classes == expected.classes
        and list(found.img_paths) == list(expected.img_paths)
        and found.labels.default == expected.labels.default
        and np.array_equal(found.labels.dense(), expected.labels.dense())
    )


@pytest.mark.parametrize('raw', [False, True])
def test_a_pack_gives_back_images_and_annotations(photos: Path, tmp_path: Path, raw: bool) -> None:
    job = make_job(photos, settings=PackSettings(SHORT_SIDE, raw), split='train')
    packed = write_pack(tmp_path / 'a.pack', job)
    reader = PackReader(tmp_path / 'a.pack')
    assert packed.images == packed.made == len(reader) == len(files()) and packed.left_out == []
    assert packed.size == (tmp_path / 'a.pack').stat().st_size
    assert reader.kind == ('raw' if raw else 'jpeg')
    assert same(reader.annotations, job.annotations) and reader.annotations.notes == job.annotations.notes
    assert reader.settings == {'short_side': SHORT_SIDE, 'raw': raw, 'quality': 90}
    for number, path in enumerate(job.paths):
        expected = prepare_image(path, job.settings)
        found = reader.image(number)
        assert bytes(found) == expected.payload
        assert tuple(reader.sizes[number]) == (expected.height, expected.width)
        if raw:
            assert isinstance(found, np.ndarray) and found.dtype == np.uint8
            assert found.shape == (expected.height, expected.width, 3)
        else:
            assert isinstance(found, memoryview)
        with pytest.raises((TypeError, ValueError), match='read-only|readonly'):
            found[0] = 0
    assert bytes(reader.image(-1)) == bytes(reader.image(len(reader) - 1))
    with pytest.raises(IndexError):
        reader.image(len(reader))


def test_the_bytes_depend_on_the_data_alone(photos: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / 'one.pack', make_job(photos))
    write_pack(tmp_path / 'two.pack', make_job(photos, workers=2))
    elsewhere = tmp_path / 'elsewhere'
    shutil.copytree(photos.parent, elsewhere)
    os.utime(elsewhere / 'large.jpg', (0, 0))
    write_pack(tmp_path / 'three.pack', make_job(elsewhere / photos.name, workers=1))
    contents = [(tmp_path / f'{name}.pack').read_bytes() for name in ('one', 'two')]
    assert contents[0] == contents[1]
    # The notes name the annotation file as it was given; images and table are the same wherever it lies.
    readers = [PackReader(tmp_path / f'{name}.pack') for name in ('one', 'three')]
    assert readers[0].identity == readers[1].identity
    assert all(bytes(readers[0].image(i)) == bytes(readers[1].image(i)) for i in range(len(readers[0])))


def test_unknown_labels_survive_also_as_default(tmp_path: Path) -> None:
    labels = LabelMatrix(np.array([0, 1, 1, 3]), np.array([1, 0, 2], np.int32), np.array([1, 0, 1], np.int8), 3, -1)
    expected = Annotations(('a', 'b', 'ü'), StringList(['x', 'y/ß.jpg', '']), labels, ('a note',), 'somewhere')
    found = from_arrays(to_arrays(expected), json.loads(json.dumps(to_meta(expected))))
    assert same(found, expected)
    assert (found.notes, found.source) == (expected.notes, expected.source)


def test_identity_tells_apart_what_differs(photos: Path) -> None:
    job = make_job(photos)
    annotations = job.annotations
    changed = [
        identity(annotations, {'quality': 90}),
        identity(annotations, {'quality': 91}),
        identity(annotations.select(np.arange(5)), {'quality': 90}),
        identity(annotations.select(np.arange(len(annotations))[::-1]), {'quality': 90}),
        make_job(photos, split='val').identity,
        make_job(photos, settings=PackSettings(SHORT_SIDE, raw=True)).identity,
        job.identity,
    ]
    assert len(set(changed)) == len(changed)
    assert job.identity == make_job(photos, workers=3, on_error='skip').identity


def test_a_reader_travels_by_its_path(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / 'a.pack'
    write_pack(path, make_job(photos))
    unopened = PackReader(path)
    reader = PackReader(path)
    first = bytes(reader.image(0))
    assert len(pickle.dumps(reader)) < 500
    assert bytes(pickle.loads(pickle.dumps(reader)).image(0)) == first
    assert bytes(pickle.loads(pickle.dumps(unopened)).image(0)) == first
    travelling = pickle.dumps(reader)
    path.unlink()
    write_pack(path, make_job(photos, settings=PackSettings(16)))
    with pytest.raises(DataError, match=r'a.pack: another pack has taken its place'):
        pickle.loads(travelling).image(0)
    assert bytes(reader.image(0)) == first  # what is open stays as it was


def test_bad_images_stop_a_packing_or_are_left_out_and_listed(photos: Path, tmp_path: Path) -> None:
    (photos.parent / 'small.png').write_bytes(b'')
    (photos.parent / 'more/é5.jpg').unlink()
    with pytest.raises(
        DataError, match=r'small.png: the file is empty \(0 bytes\) \(image 3 of 30\); the images before'
    ):
        write_pack(tmp_path / 'a.pack', make_job(photos))
    assert not (tmp_path / 'a.pack').exists()
    # The two that were finished are not prepared again.
    packed = write_pack(tmp_path / 'a.pack', make_job(photos, on_error='skip'))
    left_out = [['small.png', 'the file is empty (0 bytes)'], ['more/é5.jpg', 'no such file']]
    assert (packed.images, packed.made, packed.left_out) == (28, 28, left_out)
    reader = PackReader(tmp_path / 'a.pack')
    assert reader.left_out == left_out
    kept = np.setdiff1d(np.arange(30), [2, 15])
    assert same(reader.annotations, read_annotations(photos).select(kept))
    assert reader.annotations.notes[-1] == '2 of 30 images could not be used and were left out of the packing'
    for number, path in enumerate(make_job(photos).paths[i] for i in kept):
        assert bytes(reader.image(number)) == prepare_image(path, PackSettings(SHORT_SIDE)).payload
    assert verify_pack(tmp_path / 'a.pack') == 28


def test_what_another_call_left_out_is_tried_again(photos: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / 'expected.pack', make_job(photos))
    data = (photos.parent / 'small.png').read_bytes()
    (photos.parent / 'small.png').write_bytes(b'')

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack(tmp_path / 'a.pack', make_job(photos, on_error='skip', progress=stop))
    with pytest.raises(DataError, match='small.png: the file is empty'):
        write_pack(tmp_path / 'a.pack', make_job(photos))
    (photos.parent / 'small.png').write_bytes(data)
    write_pack(tmp_path / 'a.pack', make_job(photos))
    assert (tmp_path / 'a.pack').read_bytes() == (tmp_path / 'expected.pack').read_bytes()


def test_a_pipe_that_nobody_reads_is_no_full_disk(photos: Path, tmp_path: Path) -> None:
    def closed(done: int, total: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_pack(tmp_path / 'a.pack', make_job(photos, progress=closed))


def test_nothing_but_bad_images(photos: Path, tmp_path: Path) -> None:
    for name in files():
        (photos.parent / name).write_bytes(b'')
    with pytest.raises(DataError, match=r'none of the 30 images can be used; the first: small.jpg: the file is empty'):
        write_pack(tmp_path / 'a.pack', make_job(photos, on_error='skip'))


def test_a_finished_pack_is_not_made_again(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / 'a.pack'
    write_pack(path, make_job(photos))
    before = path.read_bytes()
    shutil.rmtree(photos.parent / 'more')
    assert write_pack(path, make_job(photos)).made == 0
    assert path.read_bytes() == before
    with pytest.raises(DataError, match=r'a.pack: is there already, packed from other annotations or with other'):
        write_pack(path, make_job(photos, settings=PackSettings(16)))
    assert path.read_bytes() == before


def test_two_processes_do_not_write_one_pack(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / 'a.pack'

    def second(done: int, total: int) -> None:
        if done == 1 and (child := os.fork()) == 0:
            try:
                write_pack(path, make_job(photos))
            except DataError as error:
                os._exit(7 if re.search(r'a\.pack\.part: another process is writing it', str(error)) else 1)
            os._exit(0)
        elif done == 1:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    codes: list[int] = []
    write_pack(path, make_job(photos, progress=second))
    assert codes == [7]
    assert verify_pack(path) == 30


def test_progress_counts_every_image(photos: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_pack(tmp_path / 'a.pack', make_job(photos, progress=lambda *call: calls.append(call)))
    assert calls == [(number, 30) for number in range(1, 31)]
    calls.clear()
    verify_pack(tmp_path / 'a.pack', lambda *call: calls.append(call))
    assert calls == [(number, 30) for number in range(1, 31)]


@pytest.mark.parametrize(
    'damage, words',
    [
        (lambda data: b'', r'the pack is truncated \(0 bytes\)'),
        (lambda data: data[:30], r'the pack is truncated \(30 bytes\)'),
        (lambda data: data[:100], 'the index at the end of the pack is missing, so the file is truncated'),
        (lambda data: data[:-1], 'the index at the end of the pack is missing, so the file is truncated'),
        (lambda data: data + b'x', 'the index at the end of the pack is missing'),
        (
            lambda data: b'{"metainfo"' + data[11:],
            r"is not a pack \(it begins with b'{.*tools/pack_data.py makes packs",
        ),
        (lambda data: data[:16] + b'\x02' + data[17:], r'has pack version 2, this mlcls reads version 1; update mlcls'),
        (lambda data: data[:60] + b'\x02' + data[61:], 'the header of the pack is damaged'),
        (lambda data: data[:-200] + b'?' + data[-199:], 'the index of the pack is damaged'),
    ],
)
def test_damaged_files_are_refused(photos: Path, tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    path = tmp_path / 'a.pack'
    write_pack(path, make_job(photos))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf'^{path}: {words}'):
        len(PackReader(path))


def test_a_pack_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'a.pack: no such file$'):
        len(PackReader(tmp_path / 'a.pack'))
    (tmp_path / 'a.pack.part').write_bytes(b'')
    with pytest.raises(
        DataError, match=r'a.pack: no such file; a half-made one is there: run tools/pack_data.py again'
    ):
        len(PackReader(tmp_path / 'a.pack'))
    with pytest.raises(DataError, match='cannot be read'):
        len(PackReader(tmp_path))


def test_a_flipped_byte_is_named(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / 'a.pack'
    write_pack(path, make_job(photos))
    data = bytearray(path.read_bytes())
    reader = PackReader(path)
    for number in (4, 7):
        data[bytes(data).index(bytes(reader.image(number))) + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"2 of 30 images are damaged: image 4 'upright.jpg', image 7 'cmyk.jpg'; copy or"
    ):
        verify_pack(path)
    # A run that does not verify it first notices the image when it is drawn, and says which it is.
    reader = PackReader(path)
    assert len(reader.image(3)) and len(reader.image(3))
    with pytest.raises(DataError, match='the image is damaged in the pack'):
        reader.image(4)
    dataset = MultiLabelDataset(path, pipeline=[{'type': 'LoadImageFromFile'}])
    with pytest.raises(DataError, match=r'upright\.jpg: the image is damaged in the pack; make it again, or copy'):
        dataset[4]


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of few images, one of them left out."""
    folder = tmp_path_factory.mktemp('finished')
    names = ['small.jpg', 'broken.jpg', 'small.png', 'large.jpg', 'late.jpg']
    for name in names:
        (folder / name).write_bytes(files().get(name, b'no image'))
    data_list = [{'img_path': name, 'gt_label': [0]} for name in names]
    (folder / 'a.json').write_text(json.dumps({'metainfo': {'classes': ['cat']}, 'data_list': data_list}))
    write_pack(folder / 'a.pack', make_job(folder / 'a.json', on_error='skip'))
    return folder / 'a.pack'


@given(position=st.integers(0, 10**9), change=st.integers(1, 255))
@settings(max_examples=150)
def test_no_byte_of_a_pack_can_change_unnoticed(finished: Path, position: int, change: int) -> None:
    data = bytearray(finished.read_bytes())
    data[position % len(data)] ^= change
    path = finished.with_name('changed.pack')
    path.write_bytes(data)
    with pytest.raises(DataError):
        verify_pack(path)


@given(length=st.integers(0, 10**9), garbage=st.binary(max_size=40))
@settings(max_examples=60)
def test_a_half_written_pack_is_finished_to_the_same_bytes(finished: Path, length: int, garbage: bytes) -> None:
    """Cut anywhere, also within the index, and with garbage behind (what a crash of the machine may leave)."""
    whole = finished.read_bytes()
    length %= len(whole) + 1
    if length < layout.HEADER.size:
        garbage = b''
    path = finished.with_name('again.pack')
    finished.with_name('again.pack.part').write_bytes(whole[:length] + garbage)
    write_pack(path, make_job(finished.with_name('a.json'), on_error='skip'))
    assert path.read_bytes() == whole
    path.unlink()


def test_a_half_written_pack_of_other_data_is_left_alone(photos: Path, tmp_path: Path) -> None:
    path, part = tmp_path / 'a.pack', tmp_path / 'a.pack.part'
    write_pack(part, make_job(photos))
    before = part.read_bytes()
    with pytest.raises(
        DataError, match=r'a.pack.part: is a half-made pack of other annotations or settings; remove it'
    ):
        write_pack(path, make_job(photos, settings=PackSettings(16)))
    part.write_bytes(b'my thesis, which must not be overwritten by anybody, ever, whatever its name')
    with pytest.raises(DataError, match=r'a.pack.part: is not a pack'):
        write_pack(path, make_job(photos))
    assert part.read_bytes().startswith(b'my thesis') and before


@pytest.mark.parametrize(
    'arguments, words',
    [
        ({'workers': -1}, 'workers must be at least 0, got -1'),
        ({'on_error': 'ignore'}, "on_error must be 'raise' or 'skip', got 'ignore'"),
    ],
)
def test_impossible_arguments(photos: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_job(photos, **arguments)


def test_places_that_cannot_be_written(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'is a folder; name the file to write, such as .*/train.pack'):
        write_pack(tmp_path, make_job(photos))
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match=r'file/a.pack.part: cannot be written \((Not a directory|File exists)\)'):
        write_pack(tmp_path / 'file/a.pack', make_job(photos))


def test_a_full_disk_is_an_error_that_says_how_to_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(
        DataError, match=r'a.pack.part: cannot be written \(No space left on device\); run the same again'
    ):
        write_pack(tmp_path / 'a.pack', make_job(photos))
    monkeypatch.undo()
    assert write_pack(tmp_path / 'a.pack', make_job(photos)).made == 0
