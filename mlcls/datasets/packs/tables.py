"""Annotations as a few named arrays: the form in which packs and shards keep them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlcls.structures import Annotations, LabelMatrix, StringList

#: Number type of each array, with its byte order, so that files are the same on every machine.
DTYPES = {'path_bounds': '<i8', 'path_bytes': '|u1', 'indptr': '<i8', 'indices': '<i4', 'values': '|i1'}


def to_arrays(annotations: Annotations) -> dict[str, np.ndarray]:
    """Image paths and labels as arrays, named and typed as in `DTYPES`.

    Returns:
        ``path_bytes`` (UTF-8, one path behind the other) and ``path_bounds`` (N + 1,); ``indptr`` (N + 1,), ``indices``
        and ``values`` of the label matrix.
    """
    labels = annotations.labels
    path_bytes, path_bounds = annotations.img_paths.arrays
    arrays = {
        'path_bounds': path_bounds,
        'path_bytes': path_bytes,
        'indptr': labels.indptr,
        'indices': labels.indices,
        'values': labels.values,
    }
    return {name: np.ascontiguousarray(array, DTYPES[name]) for name, array in arrays.items()}


def to_meta(annotations: Annotations) -> dict[str, Any]:
    """What of annotations is no array, as plain data: ``classes``, ``default``, ``notes``, ``source``."""
    return {
        'classes': list(annotations.classes),
        'default': int(annotations.labels.default),
        'notes': list(annotations.notes),
        'source': annotations.source,
    }


def from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Annotations:
    """The opposite of `to_arrays` and `to_meta`. Nothing in the result refers to the memory of ``arrays``."""
    owned = {name: np.array(arrays[name]) for name in DTYPES}
    paths = StringList.from_arrays(owned['path_bytes'], owned['path_bounds'])
    labels = LabelMatrix(owned['indptr'], owned['indices'], owned['values'], len(meta['classes']), meta['default'])
    return Annotations(tuple(meta['classes']), paths, labels, tuple(meta['notes']), meta['source'])


def identity(annotations: Annotations, settings: Mapping[str, Any]) -> bytes:
    """32 bytes that differ where classes, image paths, labels or settings differ (BLAKE2b).

    Notes and source do not count: they tell how the annotations were read, not what they say.
    """
    plain = {'classes': list(annotations.classes), 'default': int(annotations.labels.default), **settings}
    digest = hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=32)
    for name, array in to_arrays(annotations).items():
        digest.update(f'{name} {len(array)}'.encode())
        digest.update(array.tobytes())
    return digest.digest()
