"""Writing a pack, so that a kill at any moment costs one image."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlcls.errors import ConfigError, DataError
from mlcls.structures import Annotations

from . import layout
from .images import SUBSAMPLING, PackSettings, Prepared, prepare_images
from .layout import LEFT_OUT, Record
from .reader import PackReader
from .tables import identity, to_arrays, to_meta

ON_ERROR = ('raise', 'skip')


@dataclass(frozen=True)
class PackJob:
    """What to pack, and how.

    Args:
        annotations: Classes, image paths and labels.
        paths: Where each image is, for reading.
        settings: How to prepare the images.
        split: Name of the part of the data, if it has one; a config may repeat it when it reads the pack.
        workers: Processes that prepare images; 0 does it in this one. The result does not depend on it.
        on_error: What to do about an image that cannot be used: ``'raise'``, or ``'skip'`` to leave it out.
        progress: Called with the number of images done and of all.

    Raises:
        ConfigError: If ``workers`` or ``on_error`` cannot be used.
    """

    annotations: Annotations
    paths: Sequence[str]
    settings: PackSettings = field(default_factory=PackSettings)
    split: str | None = None
    workers: int = 0
    on_error: str = 'raise'
    progress: Callable[[int, int], object] | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f'workers must be at least 0, got {self.workers}')
        if self.on_error not in ON_ERROR:
            raise ConfigError(f"on_error must be 'raise' or 'skip', got {self.on_error!r}")

    @property
    def identity(self) -> bytes:
        """32 bytes that differ where annotations or settings differ."""
        return identity(self.annotations, {**asdict(self.settings), 'subsampling': SUBSAMPLING, 'split': self.split})

    def images(self, start: int) -> Iterator[tuple[int, Prepared]]:
        """The images from number ``start`` on.

        Raises:
            DataError: One cannot be used, and ``on_error='raise'``.
        """
        total = len(self.paths)
        for number, prepared in prepare_images(self.paths, self.settings, start, self.workers):
            if prepared.kind == LEFT_OUT and self.on_error == 'raise':
                raise DataError(
                    f'{self.paths[number]}: {prepared.payload.decode()} (image {number + 1} of {total}); the images '
                    'before it are kept: mend it and run the same again to go on, or leave such images out with '
                    "on_error='skip' (--on-error skip)"
                )
            yield number, prepared
            if self.progress is not None:
                self.progress(number + 1, total)

    def meta(self, kept: np.ndarray, left_out: Sequence[Sequence[str]]) -> tuple[Annotations, dict[str, Any]]:
        """Annotations of the images that were kept, and what an index says about them."""
        if not len(kept):
            raise DataError(f'none of the {len(self.paths)} images can be used; the first: {": ".join(left_out[0])}')
        annotations = self.annotations if len(kept) == len(self.annotations) else self.annotations.select(kept)
        meta = {**to_meta(annotations), 'settings': asdict(self.settings), 'split': self.split}
        if left_out:
            note = f'{len(left_out)} of {len(self.paths)} images could not be used and were left out of the packing'
            meta['notes'] = [*meta['notes'], note]
        return annotations, {**meta, 'left_out': [list(entry) for entry in left_out]}


@dataclass(frozen=True)
class Packed:
    """What a packing has made.

    Args:
        images: Number of images in it.
        size: Its bytes.
        made: Images that this call prepared; fewer than all if it went on with what an earlier one had begun.
        left_out: Image path and reason of those that cannot be used.
    """

    images: int
    size: int
    made: int
    left_out: list[list[str]]


class _Table:
    """Where the images lie, in arrays that grow."""

    def __init__(self) -> None:
        self.numbers, self.offsets, self.lengths = array('q'), array('q'), array('q')
        self.sizes, self.kinds, self.checksums = array('i'), array('B'), array('I')
        self.left_out: list[tuple[int, str]] = []
        self.end = layout.HEADER.size

    def __len__(self) -> int:
        return len(self.numbers) + len(self.left_out)

    def add(self, record: Record, offset: int, payload: bytes) -> None:
        self.end = offset + record.length
        if record.kind == LEFT_OUT:
            self.left_out.append((record.number, payload.decode()))
            return
        self.numbers.append(record.number)
        self.offsets.append(offset)
        self.lengths.append(record.length)
        self.sizes.extend((record.height, record.width))
        self.kinds.append(record.kind)
        self.checksums.append(record.checksum)

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            'numbers': np.array(self.numbers, '<i8'),
            'offsets': np.array(self.offsets, '<i8'),
            'lengths': np.array(self.lengths, '<i8'),
            'sizes': np.array(self.sizes, '<i4').reshape(-1, 2),
            'kinds': np.array(self.kinds, '|u1'),
            'checksums': np.array(self.checksums, '<u4'),
        }


def write_pack(path: str | os.PathLike[str], job: PackJob) -> Packed:
    """Write a pack, or go on writing it where an earlier call was stopped.

    Images go to ``<path>.part``, which gets its name when it is whole. The bytes depend on annotations, images and
    settings alone (and on the versions of the image libraries).

    Args:
        path: Where the pack shall be; its folder is made if missing.
        job: What to pack.

    Raises:
        DataError: An image cannot be used; a pack of other annotations or settings is there already; another process
            is writing it; the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f'{path}: is a folder; name the file to write, such as {path / "train.pack"}')
    if path.exists():
        return _already_there(path, job)
    part = Path(f'{path}.part')
    with writing(part):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(part) as file:
            table = _resume(file, part, job)
            begun = len(table)
            for number, prepared in job.images(begun):
                _append(file, table, number, prepared)
            _finish(file, table, job)
            os.replace(part, path)
    reader = PackReader(path)
    return Packed(len(reader), path.stat().st_size, len(job.paths) - begun, reader.left_out)


def _already_there(path: Path, job: PackJob) -> Packed:
    reader = PackReader(path)
    if reader.identity != job.identity:
        raise DataError(
            f'{path}: is there already, packed from other annotations or with other settings; remove it or choose '
            'another name'
        )
    return Packed(len(reader), path.stat().st_size, 0, reader.left_out)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk, or a folder that cannot be written, becomes an error that says how to go on."""
    try:
        yield
    except BrokenPipeError:  # of the progress that is printed
        raise
    except OSError as error:
        raise DataError(
            f'{path}: cannot be written ({error.strerror or error}); run the same again to go on'
        ) from error


@contextmanager
def locked(part: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading and writing; no other process may do so meanwhile."""
    import fcntl

    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), 'r+b') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f'{part}: another process is writing it') from None
        yield file


def _resume(file: IO[bytes], part: Path, job: PackJob) -> _Table:
    """Take over the whole records of an earlier call, and cut off what is behind them."""
    header, table = layout.encode_header(job.identity), _Table()
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = file.read(len(header))
    if len(found) < len(header) and header.startswith(found):  # new, or killed while the header was written
        file.seek(0)
        file.write(header)
    elif layout.check_header(found, part) != job.identity:
        raise DataError(
            f'{part}: is a half-made pack of other annotations or settings; remove it to make this one, or run the '
            'earlier command to finish it'
        )
    else:
        for record, offset, payload in layout.whole_records(file, end):
            if record.number != len(table):  # the index, not a record
                break
            if record.kind == LEFT_OUT and job.on_error == 'raise':  # was left out by another call: try again
                break
            table.add(record, offset, payload)
    file.seek(table.end)
    file.truncate()
    return table


def _append(file: IO[bytes], table: _Table, number: int, prepared: Prepared) -> None:
    payload, kind, height, width = prepared
    record = Record(number, len(payload), height, width, kind).with_checksum(payload)
    file.write(record.encode())
    file.write(payload)
    file.flush()
    table.add(record, table.end + layout.RECORD_SIZE, payload)


def _finish(file: IO[bytes], table: _Table, job: PackJob) -> None:
    """Write the index, and see that all is on the disk."""
    left_out = [(job.annotations.img_paths[number], reason) for number, reason in table.left_out]
    arrays = table.arrays()
    annotations, meta = job.meta(arrays['numbers'], left_out)
    index = layout.encode_index(meta, {**to_arrays(annotations), **arrays})
    file.write(index)
    file.write(layout.encode_footer(table.end, index))
    file.flush()
    os.fsync(file.fileno())
