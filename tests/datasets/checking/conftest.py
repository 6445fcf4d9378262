"""Small data sets, clean or with the defect a test is about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlcls.datasets.checking import CheckReport, Split, check_splits, splits_of_source
from mlcls.structures import Annotations, LabelMatrix, StringList

from ..conftest import encode

CLASSES = ('ant', 'bee', 'cow')


@cache
def photo(seed: int, size: tuple[int, int] = (72, 96)) -> np.ndarray:
    """A picture like no other: large smooth shapes and some noise, uint8 RGB (H, W, 3)."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(30, 225, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(shapes.resize(size[::-1], Image.Resampling.BICUBIC), np.int64)
    pixels = np.clip(smooth + rng.integers(-6, 7, (*size, 3)), 0, 255).astype(np.uint8)
    pixels.flags.writeable = False  # all tests share it
    return pixels


@cache
def photo_png(seed: int) -> bytes:
    """The same as a file."""
    return encode(photo(seed), 'PNG')


class DataSet:
    """Files of a data set below a folder: a native annotation file and images for each split."""

    def __init__(self, root: Path, classes: Sequence[str] = CLASSES) -> None:
        self.root, self.classes = root, list(classes)
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def add(self, split: str, labels: Sequence[int], content: bytes | np.ndarray | None, **row: Any) -> Path:
        """Add an image: its bytes, its pixels (stored as PNG), or None for a file that is not there."""
        rows = self.rows.setdefault(split, [])
        path = self.root / split / f'{len(rows):03}.png'
        rows.append({'img_path': f'{split}/{path.name}', 'gt_label': list(labels), **row})
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else encode(content, 'PNG'))
        return path

    def write(self) -> Path:
        """Write the annotation files and give the folder."""
        for split, rows in self.rows.items():
            content = {'metainfo': {'classes': self.classes}, 'data_list': rows}
            (self.root / f'{split}.json').write_text(json.dumps(content))
        return self.root

    def check(self, **options: Any) -> CheckReport:
        """Write it and check it."""
        return check_splits(splits_of_source(self.write()), 'made', workers=0, **options)


@pytest.fixture
def clean(tmp_path: Path) -> DataSet:
    """40 + 20 pictures of which nothing bad can be said: every class 10 times and more in each split, all different."""
    data = DataSet(tmp_path / 'data')
    labels = ([0], [1], [2], [0, 1], [1, 2], [0, 2])
    for split, count, start in (('train', 40, 0), ('val', 36, 100)):
        for number in range(count):
            data.add(split, labels[number % len(labels)], photo_png(start + number))
    return data


def codes(report: CheckReport) -> dict[str, str]:
    """Severity of each code found."""
    return {finding.code: finding.severity for finding in report.findings}


def finding(report: CheckReport, code: str) -> Any:
    """The only finding of a code."""
    found = [each for each in report.findings if each.code == code]
    assert len(found) == 1, [f'{each.code}: {each.message}' for each in report.findings]
    return found[0]


def make_split(name: str, labels: np.ndarray, classes: Sequence[str] = (), source: str = 'native') -> Split:
    """A split of labels alone, int (N, C) of 1, 0 and -1."""
    names = tuple(classes) or tuple(f'c{number}' for number in range(labels.shape[1]))
    paths = StringList(f'{name}/{number}.jpg' for number in range(len(labels)))
    return Split(name, Annotations(names, paths, LabelMatrix.from_dense(labels), source=source), '')


def labels_with(counts: Sequence[int], images: int) -> np.ndarray:
    """(N, C) in which class c is present in the given number of images, spread evenly and independently."""
    dense = np.zeros((images, len(counts)), np.int8)
    for column, count in enumerate(counts):
        rows = np.random.default_rng((column, images)).permutation(images)[:count]
        dense[rows, column] = 1
    return dense
