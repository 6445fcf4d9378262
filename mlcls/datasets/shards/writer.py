"""Writing tar shards, so that a kill at any moment costs one shard."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlcls.errors import ConfigError, DataError
from mlcls.fileio import write_atomic, write_json
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, LabelMatrix

from ..packs.images import Prepared
from ..packs.layout import LEFT_OUT, RAW
from ..packs.tables import to_arrays
from ..packs.writer import Packed, PackJob, locked, writing
from .index import ANNOTATIONS, FORMAT, INDEX, VERSION, checksum, file_checksum, read_index

JOURNAL = 'packing.jsonl'
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class ShardSize:
    """When a shard is full: at so many images or bytes, whichever comes first; 0 does not count.

    Raises:
        ConfigError: Neither is positive.
    """

    images: int = 1000
    size: int = 0

    def __post_init__(self) -> None:
        if min(self.images, self.size) < 0 or not (self.images or self.size):
            raise ConfigError(f'the size of a shard must be a positive number, got {self.images or self.size}')


class _OpenShard:
    """A tar file on its way."""

    def __init__(self, folder: Path, number: int) -> None:
        self.name = f'shard-{number:06d}.tar'
        self.path, self.part = folder / self.name, folder / f'{self.name}.part'
        self.file = open(self.part, 'wb')  # noqa: SIM115
        # Owner, date and mode are fixed: the same images give the same bytes.
        self.tar = tarfile.open(fileobj=self.file, mode='w', format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.images = self.size = 0

    def add(self, key: int, members: dict[str, bytes]) -> None:
        for extension, data in members.items():
            entry = tarfile.TarInfo(f'{key:09d}.{extension}')
            entry.size = len(data)
            self.tar.addfile(entry, io.BytesIO(data))
        self.images += 1
        self.size += _tar_size(members)

    def close(self) -> dict[str, Any]:
        """Give the file its name, and say what ``index.json`` shall say about it."""
        self.tar.close()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.part, self.path)
        entry = {'name': self.name, 'images': self.images, 'size': self.path.stat().st_size}
        return {**entry, 'blake2b': file_checksum(self.path)}


def _tar_size(members: dict[str, bytes]) -> int:
    return sum(_BLOCK + -(-len(data) // _BLOCK) * _BLOCK for data in members.values())


def write_shards(folder: str | os.PathLike[str], job: PackJob, size: ShardSize | None = None) -> Packed:
    """Write tar shards in webdataset's form, and their index; or go on where an earlier call was stopped.

    Image i becomes ``<i, 9 digits>.jpg`` (``.npy`` if raw) and ``.json``, which repeats path and labels for other
    programs. The bytes depend on annotations, images and settings alone.

    Args:
        folder: Where they go; made if missing.
        job: What to pack.
        size: When a shard is full.

    Raises:
        DataError: As `write_pack`.
    """
    folder, size = Path(folder), size or ShardSize()
    if folder.exists() and not folder.is_dir():
        raise DataError(f'{folder}: is a file; shards need a folder')
    identity = hashlib.blake2b(job.identity + json.dumps(asdict(size)).encode(), digest_size=32).hexdigest()
    if (folder / INDEX).exists():
        return _already_there(folder, identity)
    journal = folder / JOURNAL
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(journal) as file:
            done = _resume(file, folder, identity, job.on_error)
            begun = done[-1]['next'] if done else 0
            for entry in _write(folder, job, size, done, begun):
                file.write(json.dumps(entry).encode() + b'\n')
                file.flush()
                os.fsync(file.fileno())
                done.append(entry)
            packed = _finish(folder, job, done, identity, begun)
            journal.unlink()
    return packed


def _already_there(folder: Path, identity: str) -> Packed:
    index = read_index(folder)
    if index.meta['identity'] != identity:
        raise DataError(
            f'{folder}: has shards already, of other annotations or with other settings; remove them or choose another '
            'folder'
        )
    (folder / JOURNAL).unlink(missing_ok=True)
    return Packed(len(index.annotations), sum(shard.size for shard in index.shards), 0, index.meta['left_out'])


def _resume(file: IO[bytes], folder: Path, identity: str, on_error: str) -> list[dict[str, Any]]:
    """The shards that an earlier call finished; what the journal or the folder holds behind them is dropped."""
    done: list[dict[str, Any]] = []
    whole = 0
    for number, line in enumerate(file.read().split(b'\n')[:-1]):
        try:
            entry = json.loads(line)
        except ValueError:  # never reached the disk
            break
        if number == 0 and entry['identity'] != identity:
            raise DataError(
                f'{folder / JOURNAL}: a packing of other annotations or settings was begun here; remove the folder to '
                'make this one, or run the earlier command to finish it'
            )
        if number > 0:
            if entry['left_out'] and on_error == 'raise':  # by another call: try again
                break
            path = folder / entry['name']
            if not path.is_file() or file_checksum(path) != entry['blake2b']:
                break
            done.append(entry)
        whole += len(line) + 1
    file.seek(whole)
    file.truncate()
    if not whole:
        file.write(json.dumps({'identity': identity}).encode() + b'\n')
        file.flush()
    return done


def _write(
    folder: Path, job: PackJob, size: ShardSize, done: list[dict[str, Any]], begun: int
) -> Iterator[dict[str, Any]]:
    """Write the shards that are missing; yields the journal's line about each."""
    key = sum(entry['images'] for entry in done)
    number, shard = len(done), None
    left_out: list[tuple[int, str]] = []
    for source, prepared in job.images(begun):
        if prepared.kind == LEFT_OUT:
            left_out.append((source, prepared.payload.decode()))
            continue
        members = _members(job, source, prepared)
        if shard is not None and _is_full(shard, size, members):
            yield {**shard.close(), 'next': source, 'left_out': left_out}
            number, shard, left_out = number + 1, None, []
        shard = shard or _OpenShard(folder, number)
        shard.add(key, members)
        key += 1
    if shard is not None:
        yield {**shard.close(), 'next': len(job.paths), 'left_out': left_out}
    elif left_out:
        first, reason = left_out[0]
        which = f'{len(left_out)} images' + (' that remain' if done else '')
        raise DataError(f'none of the {which} can be used; the first: {job.annotations.img_paths[first]}: {reason}')


def _is_full(shard: _OpenShard, size: ShardSize, members: dict[str, bytes]) -> bool:
    return bool(
        (size.images and shard.images >= size.images) or (size.size and shard.size + _tar_size(members) > size.size)
    )


def _members(job: PackJob, source: int, prepared: Prepared) -> dict[str, bytes]:
    about = {'img_path': job.annotations.img_paths[source], **_label_lists(job.annotations.labels, source)}
    text = json.dumps(about, ensure_ascii=False).encode()
    if prepared.kind != RAW:
        return {'jpg': prepared.payload, 'json': text}
    buffer = io.BytesIO()
    np.save(buffer, np.frombuffer(prepared.payload, np.uint8).reshape(prepared.height, prepared.width, 3))
    return {'npy': buffer.getvalue(), 'json': text}


def _label_lists(labels: LabelMatrix, number: int) -> dict[str, list[int]]:
    """Ids of the classes that are present, and of those that are not what all others are."""
    row = labels.row(number)
    lists = {'gt_label': np.flatnonzero(row == PRESENT).tolist()}
    if labels.default == UNKNOWN:
        return {**lists, 'gt_absent': np.flatnonzero(row == ABSENT).tolist()}
    return {**lists, 'gt_unknown': np.flatnonzero(row == UNKNOWN).tolist()}


def _finish(folder: Path, job: PackJob, done: list[dict[str, Any]], identity: str, begun: int) -> Packed:
    left_out = [(number, reason) for entry in done for number, reason in entry['left_out']]
    kept = np.setdiff1d(np.arange(len(job.paths)), [number for number, _ in left_out])
    paths = job.annotations.img_paths
    annotations, meta = job.meta(kept, [(paths[number], reason) for number, reason in left_out])
    buffer = io.BytesIO()
    np.savez(buffer, **to_arrays(annotations))  # type: ignore[arg-type]
    data = buffer.getvalue()
    for stray in folder.glob('.*.tmp'):  # of a call that was killed at this point
        stray.unlink()
    write_atomic(folder / ANNOTATIONS, lambda file: file.write(data))
    shards = [{key: entry[key] for key in ('name', 'images', 'size', 'blake2b')} for entry in done]
    about = {'format': FORMAT, 'version': VERSION, 'identity': identity, 'annotations_blake2b': checksum(data)}
    write_json(folder / INDEX, {**about, **meta, 'shards': shards})
    total = sum(entry['size'] for entry in done)
    return Packed(len(annotations), total, len(job.paths) - begun, meta['left_out'])
