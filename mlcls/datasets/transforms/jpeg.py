"""Decoding no more of a JPEG than a crop needs.

A JPEG is coded from top to bottom, and a decoder stops after as many rows as the header announces. So the rows below a
crop cost nothing if the header is made to say that the image ends there: the rows above come out the same. And the
decoder can give the image at half or a quarter of its size for less than it takes to give all of it.
"""

from __future__ import annotations

import struct
import threading
from typing import NamedTuple

import numpy as np

#: Markers of the frame header (SOF) of images coded row by row, and of progressive ones, which are read to the end.
SEQUENTIAL, PROGRESSIVE = (b'\xff\xc0', b'\xff\xc1'), (b'\xff\xc2',)
#: Length of the frame header and bits a value, as a frame header has them, by the decoder's name of the colours.
FRAMES = {'Gray': b'\0\x0b\x08', 'YCbCr': b'\0\x11\x08', 'RGB': b'\0\x11\x08'}
EXIF = b'Exif\0\0'
#: Definition of restart markers: with them, the decoder's words about rows left out are those about damage.
RESTARTS = b'\xff\xdd\0\x04'
#: Bytes from the frame header on in which that definition comes, behind the code tables.
TABLES = 2048
ORIENTATION_TAG, SHORT = 0x0112, 3
#: Pillow looks here too.
XMP_ORIENTATION = b'tiff:Orientation'
#: The decoder's first complaint if nothing is wrong but that the header announces fewer rows than are coded.
UNREAD_ROWS = 'extraneous bytes before marker 0xd9'
#: Rows that are decoded below the last one needed: colours of neighbouring rows are mixed where they are coarser.
MARGIN = 2
#: Smaller images are never shrunk by the decoder: its sizes 3/8 and 1/2 must differ after rounding.
SMALLEST_SHRUNK = 64

_kept = threading.local()


class JpegFrame(NamedTuple):
    """What the header of a grey or coloured JPEG of 8 bits says.

    Args:
        height: In pixels.
        width: In pixels.
        height_at: Where in the file the height is written.
        can_end_early: Coded row by row, not progressively, and without restart markers.
        orientation: Of EXIF, 1 (upright) to 8; 0 if it cannot be told.
    """

    height: int
    width: int
    height_at: int
    can_end_early: bool
    orientation: int


def read_frame(data: bytes) -> JpegFrame | None:
    """Read the header of a JPEG; None if it is damaged, of another kind, or if simplejpeg is not installed."""
    try:
        import simplejpeg

        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (ImportError, ValueError, KeyError):
        return None
    kind = FRAMES.get(colours)
    if kind is None:
        return None
    size = kind + struct.pack('>HH', height, width)
    for marker in (*SEQUENTIAL, *PROGRESSIVE):
        start = data.find(marker + size)
        if start >= 0:
            # An image inside of the EXIF data of this one may be found if it is as large; decoding then fails.
            orientation = _orientation(data[:start])
            can_end_early = marker in SEQUENTIAL and data.find(RESTARTS, 0, start + TABLES) < 0
            return JpegFrame(height, width, start + len(marker) + len(kind), can_end_early, orientation)
    return None


def _orientation(head: bytes) -> int:
    exif = head.find(EXIF)
    if exif < 0:
        return 1
    return 0 if XMP_ORIENTATION in head else exif_orientation(head[exif + len(EXIF) :])


def exif_orientation(tiff: bytes) -> int:
    """Orientation (CIPA DC-008, tag 0x0112) in the first directory of EXIF data; 1 without, 0 if it cannot be told."""
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(tiff[:4])
    if order is None:
        return 0
    try:
        (start,) = struct.unpack_from(order + 'I', tiff, 4)
        (count,) = struct.unpack_from(order + 'H', tiff, start)
        for number in range(count):
            tag, kind, values, value = struct.unpack_from(order + 'HHIH', tiff, start + 2 + 12 * number)
            if tag == ORIENTATION_TAG:
                return value if kind == SHORT and values == 1 and 1 <= value <= 8 else 0
    except struct.error:
        return 0
    return 1


def scratch(size: int) -> np.ndarray:
    """Memory of this thread that every call gives out again, uint8 (size,)."""
    memory = getattr(_kept, 'memory', None)
    if memory is None or len(memory) < size:
        memory = _kept.memory = np.empty(size, np.uint8)
    return memory[:size]


def decode_top(data: bytes, frame: JpegFrame, bottom: int, shrink: int = 1) -> np.ndarray | None:
    """Decode a JPEG down to a row, or somewhat further.

    Args:
        data: The file's content.
        frame: Its header.
        bottom: The row, of the full image, above which all is needed.
        shrink: 1, 2 or 4: decode at 1/1, 1/2 or 1/4 of the size.

    Returns:
        uint8 RGB (H, W, 3), valid until this thread decodes again; None if the decoder complains about the data.
    """
    import simplejpeg

    coded: bytes | bytearray = data
    rows = min(bottom + MARGIN * shrink, frame.height) if frame.can_end_early else frame.height
    if rows < frame.height:
        coded = bytearray(data)
        coded[frame.height_at : frame.height_at + 2] = rows.to_bytes(2, 'big')
    height, width = -(-rows // shrink), -(-frame.width // shrink)
    pixels = scratch(3 * height * width)
    smallest = (height, width) if shrink > 1 else (0, 0)
    try:
        simplejpeg.decode_jpeg(coded, 'RGB', False, False, *smallest, buffer=pixels)
    except (ValueError, KeyError) as error:  # the pixels are there even so, if it is only about the rows left out
        if rows == frame.height or UNREAD_ROWS not in str(error):
            return None
    return pixels.reshape(height, width, 3)
