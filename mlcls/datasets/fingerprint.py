"""A short name for a set of labelled images: tells whether thresholds were chosen on the data that are tested."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mlcls.structures import PRESENT, UNKNOWN, Annotations, LabelMatrix, StringList

#: Stored labels, or names, that are worked on at a time.
_BLOCK = 1 << 20


def fingerprint(annotations: Annotations, img_root: str = '') -> str:
    """Hash classes, image names and labels.

    It depends on the names of the classes and their order, and on which image has which labels (1, 0, -1). It does not
    depend on the order of the images, on the format they are annotated in, or on where the data lie: names are taken
    relative to the folder of the images. The pixels are not looked at.

    Args:
        annotations: Of N images.
        img_root: Folder of the images; absolute names below it are taken relative to it.

    Returns:
        16 hexadecimal digits (64 bits of BLAKE2b).
    """
    labels = _label_hashes(annotations.labels).astype('<u8').tobytes()
    images = bytearray()
    for number, name in enumerate(_plain_names(annotations.img_paths, img_root)):
        images += hashlib.blake2b(labels[8 * number : 8 * number + 8] + name, digest_size=8).digest()
    whole = hashlib.blake2b(digest_size=8)
    for word in annotations.classes:
        text = word.encode('utf-8', 'surrogatepass')
        whole.update(len(text).to_bytes(8, 'little') + text)
    # Sorted, so that the order of the images does not count, but an image that is there twice does.
    whole.update(np.sort(np.frombuffer(images, '<u8')).tobytes())
    return whole.hexdigest()


def _plain_names(names: StringList, img_root: str) -> Iterator[bytes]:
    """Names in UTF-8, relative to the root, each written in one way."""
    root = os.path.abspath(img_root).encode('utf-8', 'surrogatepass').rstrip(b'/') + b'/' if img_root else b''
    data, bounds = names.arrays
    for first in range(0, len(names), _BLOCK):
        ends = bounds[first : first + _BLOCK + 1]
        block = data[ends[0] : ends[-1]].tobytes()
        for start, end in pairwise((ends - ends[0]).tolist()):
            name = block[start:end]
            # Most need nothing, and normpath takes longer than all else.
            if (b'//' in name or b'./' in name or name.startswith(b'/')) and b'://' not in name:
                name = posixpath.normpath(name)
                name = name[len(root) :] if root and name.startswith(root) else name
            yield name


def _label_hashes(labels: LabelMatrix) -> np.ndarray:
    """A number for each image's labels, uint64 (N,): the sum (modulo 2^64) of one for each class and label but 0.

    A sum needs the stored labels alone and does not depend on how they are stored: in which order, or against which
    default.
    """
    marks = np.zeros((3, labels.num_classes), '<u8')
    stream = hashlib.shake_128(b'mlcls labels').digest(2 * 8 * labels.num_classes)
    # Interleaved, so that the number of a class does not depend on how many there are.
    pairs = np.frombuffer(stream, '<u8').reshape(-1, 2)
    marks[PRESENT], marks[UNKNOWN] = pairs[:, 0], pairs[:, 1]
    default = marks[labels.default]
    differences = marks - default
    found = np.empty(len(labels), '<u8')
    bounds = labels.indptr
    first = 0
    while first < len(labels):
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + _BLOCK, side='right')) - 1)
        part = slice(bounds[first], bounds[last])
        sums = np.zeros(bounds[last] - bounds[first] + 1, '<u8')
        np.cumsum(differences[labels.values[part], labels.indices[part]], out=sums[1:])
        ends = bounds[first : last + 1] - bounds[first]
        found[first:last] = sums[ends[1:]] - sums[ends[:-1]]
        first = last
    return found + default.sum(dtype='<u8')
