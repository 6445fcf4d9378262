"""The index of a folder of tar shards: ``index.json`` for people and programs, ``annotations.npz`` for the labels."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlcls.errors import DataError
from mlcls.structures import Annotations

from ..packs.tables import from_arrays
from ..transforms.loading import read_bytes

INDEX, ANNOTATIONS = 'index.json', 'annotations.npz'
FORMAT, VERSION = 'mlcls shards', 1
_NAME = re.compile(r'[\w-]+\.tar')


class Shard(NamedTuple):
    """One tar file.

    Args:
        name: Its file name.
        images: How many images it holds.
        size: Its bytes.
        checksum: BLAKE2b (32 bytes) in hexadecimal.
    """

    name: str
    images: int
    size: int
    checksum: str


@dataclass(frozen=True)
class ShardIndex:
    """What is known of a folder of shards before one of them is opened.

    Args:
        root: The folder, or the URL before the names of the shards.
        shards: The tar files, in the order of their images.
        annotations: Classes, image paths and labels; image i has the key i in its shard.
        meta: What else ``index.json`` says: ``settings``, ``split``, ``identity``, ``left_out``.
    """

    root: str
    shards: tuple[Shard, ...]
    annotations: Annotations
    meta: dict[str, Any]

    def path(self, shard: Shard) -> str:
        """Path or URL of a shard."""
        return f'{self.root.rstrip("/")}/{shard.name}'


def read_index(root: str | os.PathLike[str]) -> ShardIndex:
    """Read the index of shards.

    Args:
        root: The folder, its ``index.json``, or the URL of either.

    Raises:
        DataError: It is missing, damaged or of a newer version.
    """
    folder = str(root)
    folder = folder.removesuffix(INDEX) if folder.endswith('/' + INDEX) else folder
    folder = folder if '://' in folder else os.path.normpath(os.path.expanduser(folder))
    path = f'{folder.rstrip("/")}/{INDEX}'
    try:
        content = json.loads(_read(path, folder))
    except ValueError as error:  # JSON, or UTF-8
        if isinstance(error, DataError):
            raise
        raise DataError(f'{path}: is not valid JSON ({error}); make the shards again') from None
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise DataError(f'{path}: is not an index of shards (no "format": "{FORMAT}")')
    if content.get('version', 0) > VERSION:
        raise DataError(f'{path}: has version {content["version"]}, this mlcls reads version {VERSION}; update mlcls')
    try:
        shards = tuple(
            Shard(*(entry[key] for key in ('name', 'images', 'size', 'blake2b'))) for entry in content['shards']
        )
        annotations = _annotations(f'{folder.rstrip("/")}/{ANNOTATIONS}', content)
    except KeyError as error:
        raise DataError(f'{path}: lacks the key {error}; make the shards again') from None
    for shard in shards:
        if not _NAME.fullmatch(shard.name):  # a name goes into a path, or into what webdataset opens
            raise DataError(f"{path}: '{shard.name}' is no name of a shard (such as shard-000000.tar)")
    if sum(shard.images for shard in shards) != len(annotations):
        raise DataError(f'{path}: the shards hold other images than {ANNOTATIONS}; make the shards again')
    return ShardIndex(folder, shards, annotations, content)


def _read(path: str, folder: str) -> bytes:
    try:
        return read_bytes(path)
    except DataError as error:
        if '://' not in path and not os.path.exists(path):
            started = ' (a packing was begun and not finished: run it again)' if has_begun(folder) else ''
            raise DataError(f'{path}: no such file{started}; root must be a folder of shards') from None
        raise error


def has_begun(folder: str | os.PathLike[str]) -> bool:
    """Whether shards are being written there."""
    return (Path(folder) / 'packing.jsonl').exists()


def _annotations(path: str, content: dict[str, Any]) -> Annotations:
    data = read_bytes(path)
    if checksum(data) != content['annotations_blake2b']:
        raise DataError(f'{path}: is damaged, or does not belong to {INDEX}; copy or make the shards again')
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return from_arrays(dict(arrays), content)
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f'{path}: cannot be read ({error})') from error


def checksum(data: bytes) -> str:
    """BLAKE2b, 32 bytes, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def file_checksum(path: str | os.PathLike[str]) -> str:
    """The same of a file, read piece by piece."""
    digest = hashlib.blake2b(digest_size=32)
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_files(index: ShardIndex) -> None:
    """See that local shards are there and as long as they should be; remote ones are taken to be.

    Raises:
        DataError: One is missing or truncated.
    """
    if '://' in index.root:
        return
    for shard in index.shards:
        path = index.path(shard)
        try:
            size = os.path.getsize(path)
        except OSError:
            raise DataError(f'{path}: no such shard, but {INDEX} lists it; copy or make it again') from None
        if size != shard.size:
            raise DataError(
                f'{path}: has {size} bytes instead of {shard.size}: it is truncated or belongs to other shards; copy '
                'or make it again'
            )


def verify_shards(root: str | os.PathLike[str], progress: Callable[[int, int], object] | None = None) -> int:
    """Read all shards and compare them with their checksums.

    Args:
        root: The folder.
        progress: Called with the number of images that were read and of all.

    Returns:
        The number of images.

    Raises:
        DataError: One is missing, truncated or damaged; the message names those that are damaged.
    """
    index = read_index(root)
    check_files(index)
    done, damaged = 0, []
    for shard in index.shards:
        if file_checksum(index.path(shard)) != shard.checksum:
            damaged.append(shard.name)
        done += shard.images
        if progress is not None:
            progress(done, len(index.annotations))
    if damaged:
        shown = ', '.join(damaged[:5]) + (', ...' if len(damaged) > 5 else '')
        raise DataError(
            f'{index.root}: {len(damaged)} of {len(index.shards)} shards are damaged: {shown}; copy or make them again'
        )
    return done
