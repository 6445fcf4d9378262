"""A data set of small and large pictures in files of many kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcls.datasets import read_annotations
from mlcls.datasets.packs import PackJob, PackSettings
from mlcls.structures import Annotations

from ..conftest import encode, exif

#: The shorter side that these tests reduce to: between the small pictures and the large ones.
SHORT_SIDE = 32


def noise(height: int, width: int, seed: int) -> np.ndarray:
    """A picture that compresses to different bytes for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def files() -> dict[str, bytes]:
    """File names and contents."""
    small, large = noise(24, 40, 1), noise(60, 90, 2)
    made = {
        'small.jpg': encode(small, 'JPEG', quality=80),
        'large.jpg': encode(large, 'JPEG', quality=95),
        'small.png': encode(small, 'PNG'),
        'grey.jpg': encode(Image.fromarray(small).convert('L'), 'JPEG'),
        'upright.jpg': encode(small, 'JPEG', exif=exif(1)),
        'turned.jpg': encode(small, 'JPEG', exif=exif(6)),
        'turned_large.jpg': encode(large, 'JPEG', exif=exif(8)),
        'cmyk.jpg': encode(Image.fromarray(small).convert('CMYK'), 'JPEG'),
        'edge.jpg': encode(noise(SHORT_SIDE, 70, 3), 'JPEG'),
        'thin.png': encode(noise(33, 300, 4), 'PNG'),
    }
    for number in range(20):
        made[f'more/é{number}.jpg'] = encode(noise(40 + number, 50, 10 + number), 'JPEG')
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Annotation file of the data set; its last image has an unknown label."""
    names = list(files())
    (tmp_path / 'photos/more').mkdir(parents=True)
    for name, data in files().items():
        (tmp_path / 'photos' / name).write_bytes(data)
    data_list = [{'img_path': name, 'gt_label': [i % 3] if i % 4 else []} for i, name in enumerate(names)]
    data_list[-1]['gt_unknown'] = [(len(names)) % 3]
    path = tmp_path / 'photos/train.json'
    path.write_text(json.dumps({'metainfo': {'classes': ['cat', 'dog', 'bird']}, 'data_list': data_list}))
    return path


def make_job(ann_file: Path, **arguments: object) -> PackJob:
    """What to pack, at `SHORT_SIDE`."""
    annotations: Annotations = read_annotations(ann_file)
    paths = [str(ann_file.parent / name) for name in annotations.img_paths]
    arguments = {'settings': PackSettings(SHORT_SIDE), **arguments}
    return PackJob(annotations, paths, **arguments)  # type: ignore[arg-type]
