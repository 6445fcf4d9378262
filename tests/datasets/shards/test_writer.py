"""Shards, written and verified."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mlcls.datasets import read_annotations
from mlcls.datasets.packs import PackJob, PackSettings, write_pack
from mlcls.datasets.packs.reader import PackReader
from mlcls.datasets.shards import ShardSize, read_index, verify_shards, write_shards
from mlcls.errors import ConfigError, DataError

from .conftest import IMAGES, pack


def job_of(shards: Path, **arguments: object) -> PackJob:
    annotations = read_annotations(shards.parent / 'images/train.json')
    paths = [str(shards.parent / 'images' / path) for path in annotations.img_paths]
    return PackJob(annotations, paths, **arguments)  # type: ignore[arg-type]


def test_the_index_says_what_is_there(shards: Path) -> None:
    index = read_index(shards)
    assert [shard.images for shard in index.shards] == [6] * 7 + [3]
    assert [shard.name for shard in index.shards] == [f'shard-{number:06d}.tar' for number in range(8)]
    assert sorted(path.name for path in shards.iterdir()) == [
        'annotations.npz',
        'index.json',
        *(shard.name for shard in index.shards),
    ]
    expected = read_annotations(shards.parent / 'images/train.json')
    assert list(index.annotations.img_paths) == list(expected.img_paths)
    assert np.array_equal(index.annotations.labels.dense(), expected.labels.dense())
    assert index.meta['settings'] == {'short_side': 256, 'raw': False, 'quality': 90}
    calls: list[tuple[int, int]] = []
    assert verify_shards(shards, lambda *call: calls.append(call)) == IMAGES
    assert calls[0] == (6, IMAGES) and calls[-1] == (IMAGES, IMAGES) and len(calls) == 8


def test_images_are_those_of_a_pack(shards: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / 'a.pack', job_of(shards))
    reader = PackReader(tmp_path / 'a.pack')
    number = 0
    for path in sorted(shards.glob('*.tar')):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.uname) == (0, 0, '')
                if member.name.endswith('.jpg'):
                    assert member.name == f'{number:09d}.jpg'
                    assert tar.extractfile(member).read() == bytes(reader.image(number))  # type: ignore[union-attr]
                    number += 1
    assert number == IMAGES


def test_a_size_in_bytes_bounds_the_files(tmp_path: Path) -> None:
    root = pack(tmp_path, size=ShardSize(images=0, size=20_000))
    sizes = [shard.size for shard in read_index(root).shards]
    assert len(sizes) > 3
    # tarfile fills up to whole records of 10,240 bytes, with at least two blocks of 512 at the end.
    assert max(sizes) <= 30_720


def test_an_image_larger_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    root = pack(tmp_path, images=3, size=ShardSize(images=0, size=10))
    assert [shard.images for shard in read_index(root).shards] == [1, 1, 1]


def test_labels_whose_default_is_unknown(tmp_path: Path) -> None:
    root = pack(tmp_path, images=2)
    job = job_of(root)
    labels = job.annotations.labels
    object.__setattr__(labels, 'default', -1)
    write_shards(tmp_path / 'unknown', job)
    index = read_index(tmp_path / 'unknown')
    assert index.annotations.labels.default == -1
    with tarfile.open(tmp_path / 'unknown/shard-000000.tar') as tar:
        about = json.loads(tar.extractfile('000000001.json').read())  # type: ignore[union-attr]
    assert about == {'img_path': '1.png', 'gt_label': [0], 'gt_absent': []}


def test_finished_shards_are_not_made_again(tmp_path: Path) -> None:
    root = pack(tmp_path)
    assert write_shards(root, job_of(root), ShardSize(6)).made == 0
    for job, size in ((job_of(root, settings=PackSettings(16)), 6), (job_of(root), 7)):
        with pytest.raises(DataError, match='has shards already, of other annotations or with other settings; remove'):
            write_shards(root, job, ShardSize(size))
    (root / 'index.json').unlink()
    (root / 'packing.jsonl').write_text('{"identity": "other"}\n')
    with pytest.raises(DataError, match='a packing of other annotations or settings was begun here'):
        write_shards(root, job_of(root), ShardSize(6))


def test_bad_images(tmp_path: Path) -> None:
    root = pack(tmp_path, images=3)
    for name in ('0.png', '2.png'):
        (tmp_path / 'images' / name).write_bytes(b'')
    folder = tmp_path / 'new'
    with pytest.raises(DataError, match=r'images/0.png: the file is empty .*\(image 1 of 3\)'):
        write_shards(folder, job_of(root))
    packed = write_shards(folder, job_of(root, on_error='skip'), ShardSize(1000))
    assert (packed.images, [path for path, _ in packed.left_out]) == (1, ['0.png', '2.png'])
    assert list(read_index(folder).annotations.img_paths) == ['1.png']
    (tmp_path / 'images/1.png').write_bytes(b'')
    with pytest.raises(DataError, match='none of the 3 images can be used; the first: 0.png: the file is empty'):
        write_shards(tmp_path / 'none', job_of(root, on_error='skip'))


def test_what_another_call_left_out_is_tried_again(tmp_path: Path) -> None:
    root = pack(tmp_path)
    path = tmp_path / 'images/3.png'
    data = path.read_bytes()
    path.write_bytes(b'')

    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    folder = tmp_path / 'new'
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, job_of(root, on_error='skip', progress=stop), ShardSize(6))
    with pytest.raises(DataError, match='3.png: the file is empty'):
        write_shards(folder, job_of(root), ShardSize(6))
    path.write_bytes(data)
    write_shards(folder, job_of(root), ShardSize(6))
    assert [file.read_bytes() for file in sorted(folder.iterdir())] == [
        file.read_bytes() for file in sorted(root.iterdir()) if file.name != 'packing.jsonl'
    ]


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    root = pack(tmp_path)
    for name in ('shard-000001.tar', 'shard-000004.tar'):
        data = bytearray((root / name).read_bytes())
        data[700] ^= 1
        (root / name).write_bytes(data)
    with pytest.raises(DataError, match=r'2 of 8 shards are damaged: shard-000001.tar, shard-000004.tar; copy or make'):
        verify_shards(root)


def test_a_file_in_the_place_of_the_folder(shards: Path, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='is a file; shards need a folder'):
        write_shards(tmp_path / 'file', job_of(shards))
    with pytest.raises(DataError, match='cannot be written'):
        write_shards(tmp_path / 'file/below', job_of(shards))


@pytest.mark.parametrize('arguments', [(0, 0), (-1, 0), (0, -5)])
def test_impossible_sizes(arguments: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match='the size of a shard must be a positive number'):
        ShardSize(*arguments)
