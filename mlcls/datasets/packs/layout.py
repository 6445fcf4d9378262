"""The bytes of a pack: header, one record an image, index, footer. All numbers are little-endian.

::

    header   64 bytes: magic, version, identity of annotations and settings, BLAKE2b checksum of these
    record   32 bytes (see `Record`), then the image: a JPEG file, or height * width * 3 bytes of RGB
    ...
    index    JSON and arrays: annotations, and where each image lies
    footer   64 bytes: where the index lies, its BLAKE2b checksum, magic

A record names its number, length and CRC-32, so a file that was cut short while it was written can be continued behind
its last whole record. Every byte of the file is covered by a checksum or has a known value.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from mlcls.errors import DataError

VERSION = 1
MAGIC = b'mlcls pack\n'
#: What a record holds: the reason why an image was left out, pixels, a JPEG made here, or the image file as it was.
LEFT_OUT, RAW, ENCODED, KEPT = range(4)

HEADER = struct.Struct('<16sII32s8s')
FOOTER = struct.Struct('<QQ32s16s')
_RECORD = struct.Struct('<QQIIIB3x')
RECORD_SIZE = _RECORD.size
_ALIGNMENT = 64


class Record(NamedTuple):
    """What stands before an image.

    Args:
        number: Number of the image in the annotations that were packed.
        length: Bytes of the image.
        height: Height in pixels, upright; 0 for an image that was left out.
        width: Width in pixels.
        kind: `LEFT_OUT`, `RAW`, `ENCODED` or `KEPT`.
        checksum: CRC-32 of the image and of the other five numbers.
    """

    number: int
    length: int
    height: int
    width: int
    kind: int
    checksum: int = 0

    def with_checksum(self, payload: bytes | memoryview) -> Record:
        """The record of a certain image."""
        bare = _RECORD.pack(self.number, self.length, 0, self.height, self.width, self.kind)
        return self._replace(checksum=zlib.crc32(payload, zlib.crc32(bare)))

    def encode(self) -> bytes:
        """Its 32 bytes."""
        return _RECORD.pack(self.number, self.length, self.checksum, self.height, self.width, self.kind)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Record:
        """The opposite of `encode`."""
        number, length, checksum, height, width, kind = _RECORD.unpack(data)
        return cls(number, length, height, width, kind, checksum)


def encode_header(identity: bytes) -> bytes:
    """The first bytes of a pack."""
    bare = HEADER.pack(MAGIC, VERSION, 0, identity, b'')[:-8]
    return bare + hashlib.blake2b(bare, digest_size=8).digest()


def check_header(data: bytes | memoryview, path: str | os.PathLike[str]) -> bytes:
    """Check the first bytes of a pack, and give its identity.

    Raises:
        DataError: They are no pack's, or those of a newer version.
    """
    if len(data) < HEADER.size and MAGIC.startswith(bytes(data[: len(MAGIC)])):
        raise DataError(f'{path}: the pack is truncated ({len(data)} bytes); copy or make it again')
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise DataError(f'{path}: is not a pack (it begins with {bytes(data[:12])!r}); tools/pack_data.py makes packs')
    _, version, _, identity, _ = HEADER.unpack(data[: HEADER.size])
    if version > VERSION:
        raise DataError(
            f'{path}: has pack version {version}, this mlcls reads version {VERSION}; update mlcls or make it again'
        )
    if bytes(data[: HEADER.size]) != encode_header(identity):
        raise DataError(f'{path}: the header of the pack is damaged; copy or make it again')
    return identity


def whole_records(file: IO[bytes], end: int) -> Iterator[tuple[Record, int, bytes]]:
    """Read records from where the file stands, to ``end`` or to the first that is not whole or whose checksum is wrong.

    Yields:
        The record, the offset of its image, and the image.
    """
    position = file.tell()
    while position + RECORD_SIZE <= end:
        data = file.read(RECORD_SIZE)
        record = Record.decode(data)
        position += RECORD_SIZE + record.length
        if position > end:
            return
        payload = file.read(record.length)
        if record.with_checksum(payload) != record or record.encode() != data:
            return
        yield record, position - record.length, payload


def encode_index(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Plain data and arrays as bytes, which `decode_index` reads without copying the arrays."""
    table: dict[str, list[Any]] = {}
    blocks: list[bytes] = []
    position = 0
    for name, array in arrays.items():
        table[name] = [array.dtype.str, list(array.shape), position]
        data = array.tobytes()
        blocks.append(data + bytes(-len(data) % _ALIGNMENT))
        position += len(blocks[-1])
    text = json.dumps({**meta, 'arrays': table}, ensure_ascii=False).encode()
    text += b' ' * (-(8 + len(text)) % _ALIGNMENT)
    return struct.pack('<Q', len(text)) + text + b''.join(blocks)


def decode_index(data: memoryview) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The opposite of `encode_index`; the arrays are views of ``data``."""
    (length,) = struct.unpack('<Q', data[:8])
    meta = json.loads(bytes(data[8 : 8 + length]))
    blocks = data[8 + length :]
    arrays = {}
    for name, (dtype, shape, offset) in meta.pop('arrays').items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(blocks, dtype, count, offset).reshape(shape) if count else np.empty(shape, dtype)
    return meta, arrays


def encode_footer(offset: int, index: bytes) -> bytes:
    """The last bytes of a pack whose index begins at ``offset``."""
    return FOOTER.pack(offset, len(index), index_checksum(index), MAGIC)


def index_checksum(index: bytes | memoryview) -> bytes:
    """BLAKE2b of an index, 32 bytes."""
    return hashlib.blake2b(index, digest_size=32).digest()


def find_index(data: memoryview, path: str | os.PathLike[str]) -> tuple[int, memoryview]:
    """Find the index of a whole pack, and check it.

    Returns:
        Where it begins, and its bytes.

    Raises:
        DataError: There is none (the file is truncated), or its checksum is wrong.
    """
    footer = data[max(HEADER.size, len(data) - FOOTER.size) :]
    offset, length, checksum, magic = FOOTER.unpack(footer) if len(footer) == FOOTER.size else (0, 0, b'', b'')
    if magic.rstrip(b'\0') != MAGIC or offset + length + FOOTER.size != len(data):
        raise DataError(
            f'{path}: the index at the end of the pack is missing, so the file is truncated ({len(data)} bytes) or was '
            'not copied whole; copy or make it again'
        )
    index = data[offset : offset + length]
    if index_checksum(index) != checksum:
        raise DataError(f'{path}: the index of the pack is damaged (its checksum is wrong); copy or make it again')
    return offset, index
