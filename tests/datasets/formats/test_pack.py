"""A pack as an annotation file, and a dataset that takes its images from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mlcls.datasets import MultiLabelDataset, read_annotations
from mlcls.datasets.packs import PackJob, PackSettings, write_pack
from mlcls.errors import DataError

from ..conftest import encode

PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]


@pytest.fixture
def source(tmp_path: Path, picture: np.ndarray) -> Path:
    """Annotations of three pictures; a pack beside them is written by ``make``."""
    for number in range(3):
        (tmp_path / f'{number}.png').write_bytes(encode(np.roll(picture, number * 20, axis=1), 'PNG'))
    data_list = [{'img_path': f'{n}.png', 'gt_label': [n % 2]} for n in range(3)]
    path = tmp_path / 'train.json'
    path.write_text(json.dumps({'metainfo': {'classes': ['cat', 'dog']}, 'data_list': data_list}))
    return path


def make(source: Path, raw: bool = False, split: str | None = None) -> Path:
    annotations = read_annotations(source)
    paths = [str(source.parent / path) for path in annotations.img_paths]
    write_pack(source.with_suffix('.pack'), PackJob(annotations, paths, PackSettings(0, raw), split))
    return source.with_suffix('.pack')


def test_it_is_recognised_whatever_its_name(source: Path) -> None:
    path = make(source)
    for name in ('train.pack', 'train.json', 'other'):
        path = path.rename(source.with_name(name))
        found = read_annotations(path)
        assert found.source == 'pack: the first bytes of a pack'
        assert found.classes == ('cat', 'dog') and list(found.img_paths) == ['0.png', '1.png', '2.png']
        assert found.labels.dense().tolist() == [[1, 0], [0, 1], [1, 0]]
    assert read_annotations(path, 'pack', ['dog', 'cat']).labels.dense().tolist() == [[0, 1], [1, 0], [0, 1]]


def test_the_split_must_be_the_one_it_holds(source: Path) -> None:
    with pytest.raises(DataError, match=r"the pack holds no named part of the data, not 'val'"):
        read_annotations(make(source), split='val')
    source.with_suffix('.pack').unlink()
    path = make(source, split='train')
    assert len(read_annotations(path, split='train', path_column='file')) == 3
    with pytest.raises(DataError, match=r"the pack holds the part 'train' of the data, not 'val'"):
        read_annotations(path, split='val')


@pytest.mark.parametrize('raw', [False, True])
def test_a_dataset_takes_the_images_from_it(source: Path, raw: bool) -> None:
    """Nothing but ``ann_file`` changes; the image files may be gone."""
    before = MultiLabelDataset(source.name, data_root=source.parent, pipeline=PIPELINE)
    samples = [before[number] for number in range(3)]
    path = make(source, raw)
    for number in range(3):
        (source.parent / f'{number}.png').unlink()
    dataset = MultiLabelDataset(path.name, data_root=source.parent, pipeline=PIPELINE)
    for number, sample in enumerate(samples):
        found = dataset[number]
        assert torch.equal(found['targets'], sample['targets']) and int(found['index']) == number
        difference = (found['inputs'].int() - sample['inputs'].int()).abs().float()
        assert difference.max() == 0 if raw else 0 < difference.mean() < 5
    chosen = MultiLabelDataset(path.name, data_root=source.parent, pipeline=PIPELINE, indices=[2])
    assert torch.equal(chosen[0]['inputs'], dataset[2]['inputs'])
