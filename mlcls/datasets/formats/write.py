"""Writing annotations in the native format, and comparing what was read with what was written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from mlcls.fileio import write_atomic
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations, LabelMatrix


def write_native(
    annotations: Annotations, path: str | os.PathLike[str], metainfo: Mapping[str, Any] | None = None
) -> None:
    """Write annotations as native JSON, one line an image, whole or not at all.

    `read_native` gives back the same classes, paths and labels. Labels whose default is unknown are written with
    ``"default": "unknown"`` and ``gt_absent``.

    Args:
        annotations: What to write; image paths are written as they are.
        path: The file; its folder is made if missing.
        metainfo: What else the file should say about itself; readers leave it aside.

    Raises:
        OSError: If it cannot be written; an older file is untouched.
    """
    metainfo = {**(metainfo or {}), 'classes': list(annotations.classes)}
    if annotations.labels.default == UNKNOWN:
        metainfo['default'] = 'unknown'

    def write(file: IO[bytes]) -> None:
        file.write(f'{{"metainfo": {json.dumps(metainfo)},\n"data_list": ['.encode())
        for number, entry in enumerate(_entries(annotations)):
            file.write(f'{"," if number else ""}\n{json.dumps(entry)}'.encode())
        file.write(b'\n]}\n')

    write_atomic(path, write)


def _entries(annotations: Annotations) -> Iterator[dict[str, Any]]:
    labels = annotations.labels
    key, value = ('gt_absent', ABSENT) if labels.default == UNKNOWN else ('gt_unknown', UNKNOWN)
    for number, img_path in enumerate(annotations.img_paths):
        if labels.default == PRESENT:  # the format has no such default
            values = labels.row(number)
            indices = np.arange(labels.num_classes)
        else:
            part = slice(labels.indptr[number], labels.indptr[number + 1])
            indices, values = labels.indices[part], labels.values[part]
        entry = {'img_path': img_path, 'gt_label': indices[values == PRESENT].tolist()}
        if others := indices[values == value].tolist():
            entry[key] = others
        yield entry


def find_difference(one: Annotations, other: Annotations) -> str:
    """What distinguishes the classes, image paths or labels of two annotations: the first difference, or nothing."""
    if one.classes != other.classes:
        return f'classes {one.classes} and {other.classes}'
    if len(one) != len(other):
        return f'{len(one)} and {len(other)} images'
    if not all(map(np.array_equal, one.img_paths.arrays, other.img_paths.arrays)):
        first, second = next(pair for pair in zip(one.img_paths, other.img_paths) if pair[0] != pair[1])
        return f"images '{first}' and '{second}'"
    number = _first_other_row(one.labels, other.labels)
    return '' if number is None else f"other labels of image '{one.img_paths[number]}'"


def _first_other_row(one: LabelMatrix, other: LabelMatrix) -> int | None:
    if one.default != other.default:
        rows = (row for row in range(len(one)) if not np.array_equal(one.row(row), other.row(row)))
        return next(rows, None)
    found = np.setxor1d(_entry_keys(one), _entry_keys(other))
    return int(found[0] // (3 * one.num_classes)) if len(found) else None


def _entry_keys(labels: LabelMatrix) -> np.ndarray:
    """One number for each entry that is not the default, from its row, class and value."""
    rows = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))
    keys = (rows * labels.num_classes + labels.indices) * 3 + (labels.values + 1)
    return keys[labels.values != labels.default]
