"""Annotations that took long to read, kept as arrays in a file that the next run only maps into memory.

An entry is one file: `MappedFile.HEAD` bytes of magic number, version, lengths and check sums; what the entry was made
from, class names and notes as JSON; five arrays. It is found by a hash of what it was made from, and used only if that
and the check sums agree. Whatever is wrong with an entry, the annotations are read as if there were none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlcls import __version__
from mlcls.fileio import write_atomic
from mlcls.structures import Annotations, LabelMatrix, MappedFile, StringList

#: Annotations are kept if reading them took longer than this ...
WORTHWHILE_SECONDS = 2.0
#: ... or if there are more images than this.
WORTHWHILE_IMAGES = 200_000

_MAGIC, _LAYOUT = b'MLCLSANN', 1
_HEAD = struct.Struct('<8sIIIQQ')  # magic, layout, check sums of JSON and arrays, length of the JSON and of the file
_ARRAYS = {'path_bytes': '|u1', 'path_bounds': '<i8', 'indptr': '<i8', 'indices': '<i4', 'values': '|i1'}
_ALIGNMENT = 64
#: A file changed less than this before it was looked at may change again without a trace in its times.
_SETTLED_NS = 100_000_000
#: Of files with so many bytes, one process reads at a time.
_LARGE = 1 << 24
_ABANDONED_SECONDS = 86_400
_CHUNK = 1 << 24

Paths = str | os.PathLike[str]


def cache_folder() -> Path | None:
    """Where entries lie: ``$MLCLS_CACHE/annotations``, else ``$XDG_CACHE_HOME/mlcls/...``, else ``~/.cache/mlcls/...``.

    Returns:
        The folder, which need not exist; None if ``MLCLS_CACHE=off`` or there is no home.
    """
    base = os.environ.get('MLCLS_CACHE', '')
    if base.lower() == 'off':
        return None
    base = base or os.path.join(os.environ.get('XDG_CACHE_HOME') or '~/.cache', 'mlcls')
    base = os.path.expanduser(base)
    return None if base.startswith('~') else Path(base, 'annotations')


def read_through_cache(
    path: Paths,
    key: Mapping[str, Any],
    read: Callable[[], Annotations],
    folder: Paths | None = None,
    inputs: Iterable[Paths] = (),
) -> Annotations:
    """Take annotations from the cache, or read them and keep them there if that pays.

    It pays if reading took more than `WORTHWHILE_SECONDS` or gave more than `WORTHWHILE_IMAGES` images. Entries of the
    same path that were made from another state of the files are removed. Processes that ask for the same large file at
    the same time, as the ranks of a run do, take turns: the first reads it, the others find it.

    Args:
        path: Annotation file, or folder: all that lies in it at any depth counts.
        key: What else the result depends on: reader, options, classes, class map. Plain data.
        read: Reads the annotations; called if they are not in the cache. Its errors go through.
        folder: Where entries lie; `cache_folder` if None. ``MLCLS_CACHE=off`` switches the cache off either way.
        inputs: Other files and folders that are read.

    Returns:
        The annotations, their arrays mapped from the file if they are in the cache. If they could not be kept, a note
        says so.
    """
    default = cache_folder()
    folder = default if folder is None or default is None else Path(folder)
    sources = [os.path.abspath(source) for source in (path, *inputs)]
    looked = time.time_ns()
    state = None if folder is None else _state(sources)
    if folder is None or state is None:
        return read()
    made_from = json.dumps(
        [sources, state.digest, _readers(), _LAYOUT, key], sort_keys=True, default=str, separators=(',', ':')
    )
    entry = _Entry(folder, _digest(sources[0].encode(errors='surrogatepass')), made_from, state.digest)
    kept = entry.load()
    if kept is not None:
        return kept
    with entry.turn() if state.size >= _LARGE else contextlib.nullcontext():
        kept = entry.load()
        if kept is not None:
            return kept
        started = time.monotonic()
        annotations = read()
        pays = time.monotonic() - started > WORTHWHILE_SECONDS or len(annotations) > WORTHWHILE_IMAGES
        if not pays or looked - state.changed_ns < _SETTLED_NS or _state(sources) != state:
            return annotations
        try:
            entry.store(annotations)
        except OSError as error:
            note = (
                f'{path}: the annotations could not be kept in the cache folder {folder} ({error.strerror or error}), '
                'so the next run reads them anew; MLCLS_CACHE=... names another folder, MLCLS_CACHE=off uses none'
            )
            return replace(annotations, notes=(*annotations.notes, note))
        return entry.load() or annotations


@dataclass(frozen=True)
class _State:
    """What files look like from outside: a digest of their sizes and times, when one last changed, and all bytes."""

    digest: str
    changed_ns: int
    size: int


def _state(sources: Iterable[str]) -> _State | None:
    """None if one is missing or cannot be looked at: the reader says why."""
    hashed, changed, size = hashlib.blake2b(digest_size=16), 0, 0
    try:
        for source in sources:
            for name, status in _files(source, set()):
                times = (status.st_mtime_ns, status.st_ctime_ns)
                changed, size = max(changed, *times), size + status.st_size
                hashed.update(f'{name}\0{status.st_size}\0{times}\n'.encode(errors='surrogatepass'))
    except OSError:
        return None
    return _State(hashed.hexdigest(), changed, size)


def _files(path: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    """A file, or a folder and all that lies below it, in an order that does not depend on the file system."""
    status = os.stat(path)
    place = (status.st_dev, status.st_ino)
    yield path, status
    if not os.path.isdir(path) or place in above:  # a link may lead back to a folder above
        return
    with os.scandir(path) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.is_dir():
            yield from _files(entry.path, above | {place})
        else:
            yield entry.path, entry.stat(follow_symlinks=not entry.is_symlink() or os.path.exists(entry.path))


@lru_cache
def _readers() -> str:
    """The readers' version: a digest of their source, so that nobody has to remember to count one up."""
    source = b''.join(file.read_bytes() for file in sorted(Path(__file__).parent.glob('*.py')))
    return f'{__version__}-{_digest(source)}'


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


class _Entry:
    """One file of the cache.

    Args:
        folder: Where it lies.
        path_digest: Stands for the annotation file's path, so that older entries of that are found.
        made_from: What it was made from, as JSON.
        state: Digest of the state of the annotation file.
    """

    def __init__(self, folder: Path, path_digest: str, made_from: str, state: str) -> None:
        self._folder, self._path_digest, self._made_from = folder, path_digest, made_from
        self._same_state = f'{path_digest}-{state[:16]}-'
        self._file = folder / f'{self._same_state}{_digest(made_from.encode())}.ann'

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other process reads the same path, so that of all ranks one reads and the others find it."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # without a lock, all read
                self._folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(open(self._folder / f'.{self._path_digest}.lock', 'ab'))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def load(self) -> Annotations | None:
        """The annotations in it; None if it is missing, damaged, or was made from something else."""
        try:
            return self._read(MappedFile(self._file))
        except (OSError, ValueError, TypeError, KeyError, struct.error):
            return None

    def _read(self, file: MappedFile) -> Annotations:
        magic, layout, json_sum, arrays_sum, json_length, length = _HEAD.unpack_from(file)
        start = file.HEAD + json_length
        if (magic, layout, length) != (_MAGIC, _LAYOUT, len(file)) or start > length:
            raise ValueError('no whole entry of this layout')
        content = file[file.HEAD : start]
        if zlib.crc32(content) != json_sum or _sum(file.array(np.uint8, start, length - start)) != arrays_sum:
            raise ValueError('damaged')
        about = json.loads(content)
        if about['made_from'] != self._made_from:
            raise ValueError('made from something else')
        arrays = {}
        for name, dtype in _ARRAYS.items():
            start += -start % _ALIGNMENT
            arrays[name] = file.array(dtype, start, about['lengths'][name])
            start += arrays[name].nbytes
        annotations = _assemble(about, arrays)
        # What was looked at for checking need not stay in this process's share of memory.
        file.release_pages()
        return annotations

    def store(self, annotations: Annotations) -> None:
        """Write it and remove entries of the same path in another state.

        Raises:
            OSError: It cannot be written.
        """
        labels = annotations.labels
        arrays = dict(zip(_ARRAYS, (*annotations.img_paths.arrays, labels.indptr, labels.indices, labels.values)))
        alike = int(labels.values[0]) if len(labels.values) and (labels.values == labels.values[0]).all() else None
        if alike is not None:
            arrays['values'] = labels.values[:0]
        arrays = {name: np.ascontiguousarray(array, _ARRAYS[name]) for name, array in arrays.items()}
        about = {
            'made_from': self._made_from,
            'classes': annotations.classes,
            'notes': annotations.notes,
            'source': annotations.source,
            'default': labels.default,
            'alike': alike,
            'lengths': {name: len(array) for name, array in arrays.items()},
        }
        content = json.dumps(about).encode()
        length, arrays_sum, parts = MappedFile.HEAD + len(content), 0, []
        for array in arrays.values():
            parts += [np.zeros(-length % _ALIGNMENT, np.uint8), array.view(np.uint8)]
            length += len(parts[-2]) + len(parts[-1])
        for part in parts:
            arrays_sum = _sum(part, arrays_sum)
        head = _HEAD.pack(_MAGIC, _LAYOUT, zlib.crc32(content), arrays_sum, len(content), length)

        def write(file: IO[bytes]) -> None:
            file.write(head.ljust(MappedFile.HEAD, b'\0') + content)
            for part in parts:
                file.write(part.data)

        write_atomic(self._file, write)
        self._remove_older()

    def _remove_older(self) -> None:
        """Also what was left by processes that were killed while they wrote."""
        for file in self._folder.glob(f'{self._path_digest}-*.ann'):
            if not file.name.startswith(self._same_state):
                _remove(file)
        for file in self._folder.glob(f'.{self._path_digest}-*.tmp'):
            try:
                abandoned = time.time() - file.stat().st_mtime > _ABANDONED_SECONDS
            except OSError:
                continue
            if abandoned:
                _remove(file)


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):  # another user's; it only takes room
        file.unlink(missing_ok=True)


def _sum(array: np.ndarray, value: int = 0) -> int:
    """CRC-32 of bytes."""
    for first in range(0, len(array), _CHUNK):
        value = zlib.crc32(array[first : first + _CHUNK].data, value)
    return value


def _assemble(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Annotations:
    """Annotations from arrays, of which none may point outside of another.

    Raises:
        ValueError: If one does.
    """
    classes, indices, values = tuple(about['classes']), arrays['indices'], arrays['values']
    if about['alike'] is not None:
        values = LabelMatrix.alike(about['alike'], len(indices))
    pairs = ((arrays['path_bounds'], arrays['path_bytes']), (arrays['indptr'], indices))
    for bounds, data in pairs:
        if not len(bounds) or bounds[0] != 0 or bounds[-1] != len(data) or (bounds[1:] < bounds[:-1]).any():
            raise ValueError('impossible bounds')
    if len(arrays['path_bounds']) != len(arrays['indptr']) or len(values) != len(indices):
        raise ValueError('arrays of different lengths')
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(classes):
        raise ValueError('impossible class ids')
    labels = LabelMatrix(arrays['indptr'], indices, values, len(classes), about['default'])
    paths = StringList.from_arrays(arrays['path_bytes'], arrays['path_bounds'])
    return Annotations(classes, paths, labels, tuple(about['notes']), about['source'])
