"""Eight shards of unequal size, of 45 pictures of which each shows its number as a colour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlcls.datasets import read_annotations
from mlcls.datasets.packs import PackJob, PackSettings
from mlcls.datasets.shards import ShardSize, write_shards

from ..conftest import encode

IMAGES = 45
PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]


def pack(folder: Path, images: int = IMAGES, size: ShardSize | None = None, raw: bool = False) -> Path:
    """Write pictures of 8 pixels below ``folder`` and shards of them, 6 images each; gives the shards' folder."""
    (folder / 'images').mkdir(parents=True)
    data_list = []
    for number in range(images):
        picture = np.full((8, 8, 3), 5 * number, np.uint8)
        (folder / f'images/{number}.png').write_bytes(encode(picture, 'PNG'))
        entry = {'img_path': f'{number}.png', 'gt_label': [c for c in range(3) if number >> c & 1]}
        data_list.append({**entry, 'gt_unknown': [] if number & 1 else [0]})
    ann_file = folder / 'images/train.json'
    ann_file.write_text(json.dumps({'metainfo': {'classes': ['one', 'two', 'four']}, 'data_list': data_list}))
    annotations = read_annotations(ann_file)
    paths = [str(folder / 'images' / path) for path in annotations.img_paths]
    write_shards(folder / 'shards', PackJob(annotations, paths, PackSettings(raw=raw)), size or ShardSize(6))
    return folder / 'shards'


@pytest.fixture(scope='session')
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven shards of 6 images and one of 3; not to be changed."""
    return pack(tmp_path_factory.mktemp('shards'))
