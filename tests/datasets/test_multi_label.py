"""The dataset."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mlcls.config.signatures import arguments_of
from mlcls.datasets import EpochSampler, MultiLabelDataset, collate_batch
from mlcls.errors import ConfigError, DataError
from mlcls.registry import DATASETS
from mlcls.structures import SampleIndex
from tests.datasets.conftest import encode

RANDOM = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=16),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, hue=0.2),
    dict(type='RandomGrayscale', prob=0.3),
    dict(type='PackInputs'),
]
PLAIN = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=16), dict(type='PackInputs')]
ENTRIES = [
    {'img_path': f'{number}.png', 'gt_label': [number % 3], 'gt_unknown': [(number + 1) % 3] if number > 5 else []}
    for number in range(8)
]


@pytest.fixture
def folder(tmp_path: Path, picture) -> Path:
    """Eight images below ``img``, and their annotations beside it."""
    (tmp_path / 'img').mkdir()
    for number in range(8):
        (tmp_path / f'img/{number}.png').write_bytes(encode(np.roll(picture, 9 * number, axis=1), 'PNG'))
    annotate(tmp_path / 'ann.json', ENTRIES)
    return tmp_path


def annotate(path: Path, entries: list[dict], classes: tuple[str, ...] = ('cat', 'dog', 'cow')) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'metainfo': {'classes': list(classes)}, 'data_list': entries}))


def make(folder: Path, **arguments) -> MultiLabelDataset:
    return MultiLabelDataset(**{'data_root': str(folder), 'ann_file': 'ann.json', 'data_prefix': 'img', **arguments})


def test_what_it_knows(folder):
    data = make(folder)
    assert len(data) == 8 and data.classes == ('cat', 'dog', 'cow')
    assert data.metainfo == {'classes': ('cat', 'dog', 'cow')}
    assert data.labels.shape == (8, 3) and len(data.annotations) == 8
    assert data.get_cat_ids(4) == [1] and data.get_cat_ids(-1) == [1]
    assert data.get_data_info(7) == {
        'img_path': str(folder / 'img/7.png'),
        'gt_label': [1],
        'gt_unknown': [2],
        'sample_idx': 7,
    }
    assert data.notes == () and data.full_init() is None
    assert data.summary() == (
        "8 images, 3 classes, 1.00 labels per image, rarest class 'cow' (2 images), 8.3% of the labels unknown"
        "; read as native: a JSON object with 'metainfo'"
    )
    assert data.summary().count('\n') == 0
    for outside in (8, -9):
        with pytest.raises(IndexError):
            data[outside]
        with pytest.raises(IndexError):
            data.get_cat_ids(outside)


def test_samples(folder, picture):
    assert set(make(folder)[0]) == {'img_path', 'targets', 'index'}
    sample = make(folder, pipeline=[PLAIN[0], PLAIN[2]])[7]
    np.testing.assert_array_equal(sample['inputs'].numpy(), np.roll(picture, 63, axis=1).transpose(2, 0, 1))
    assert sample['targets'].tolist() == [0, 1, -1] and sample['targets'].dtype == torch.int8 and sample['index'] == 7


@pytest.mark.parametrize(
    'arguments',
    [
        {'data_prefix': {'img_path': 'img'}},
        {'data_prefix': Path('img'), 'data_root': None},
        {'data_root': '', 'ann_file': '{0}/ann.json', 'data_prefix': '{0}/img'},
        {'data_prefix': '{0}/img'},
        {'data_root': '{0}/', 'data_prefix': 'img/'},
        {'data_root': '{0}/img', 'data_prefix': '', 'ann_file': '../ann.json'},
        {'data_root': '{0}/elsewhere', 'ann_file': '{0}/ann.json', 'data_prefix': '{0}/img'},
    ],
)
def test_where_files_are_looked_for(folder, arguments):
    filled = {name: value.format(folder) if isinstance(value, str) else value for name, value in arguments.items()}
    if filled.get('data_root', '') is None:
        filled['data_root'] = folder
    assert len(make(folder, **filled)) == 8


def test_without_root_and_prefix_images_lie_beside_the_annotations(folder, monkeypatch):
    annotate(folder / 'img/ann.json', ENTRIES)
    assert len(MultiLabelDataset(str(folder / 'img/ann.json'))) == 8
    monkeypatch.chdir(folder / 'img')
    assert MultiLabelDataset('ann.json').get_data_info(0)['img_path'] == '0.png'
    monkeypatch.setenv('HOME', str(folder))
    assert len(MultiLabelDataset('~/img/ann.json')) == 8


def test_absolute_and_remote_image_paths(folder):
    annotate(
        folder / 'ann.json',
        [{'img_path': str(folder / 'img/0.png'), 'gt_label': [0]}, {'img_path': 's3://bucket/1.png', 'gt_label': [1]}],
    )
    data = make(folder, data_prefix='nowhere')
    assert data.get_data_info(0)['img_path'] == str(folder / 'img/0.png')
    assert data.get_data_info(1)['img_path'] == 's3://bucket/1.png'
    assert make(folder, data_prefix='s3://bucket').img_root == 's3://bucket'


def test_classes_in_another_order(folder, write):
    write('names.txt', 'cow\ncat\ndog\n')
    expected = make(folder).labels.dense()[:, [2, 0, 1]]
    names = ['cow', 'cat', 'dog']
    for arguments in (
        {'classes': names},
        {'classes': 'names.txt'},
        {'classes': str(folder / 'names.txt')},
        {'metainfo': {'classes': tuple(names)}},
        {'metainfo': {'CLASSES': names}},
        {'metainfo': {'classes': tuple(names)}, 'classes': ['cat', 'dog', 'cow']},
    ):
        data = make(folder, **arguments)
        assert data.classes == ('cow', 'cat', 'dog')
        np.testing.assert_array_equal(data.labels.dense(), expected)
        assert 'another order' in data.notes[0]


def test_other_metainfo_is_kept(folder):
    assert make(folder, metainfo={'dataset': 'pets'}).metainfo == {'dataset': 'pets', 'classes': ('cat', 'dog', 'cow')}


@pytest.mark.parametrize(
    'classes, message',
    [
        (['cat', 'dog'], "class 'cow' of the annotations is not among the 2 classes of the config"),
        (['cat', 'dog', 'cow', 'pig'], "class 'pig' of the config is not among the 3 classes of the annotations"),
        (
            ['cat', 'dgo', 'cow'],
            "class 'dgo' of the config is not among the 3 classes of the annotations; did you mean",
        ),
        ('absent.txt', 'absent.txt: no such file'),
    ],
)
def test_other_classes(folder, classes, message):
    with pytest.raises(DataError, match=re.escape(message)):
        make(folder, classes=classes)


def test_csv_options(folder):
    (folder / 'ann.csv').write_text('key,split,cat,dog\n0.png,train,1,0\n1.png,val,,1\n')
    data = make(folder, ann_file='ann.csv', split='val', path_column='key')
    assert data.labels.dense().tolist() == [[-1, 1]]
    with pytest.raises(DataError, match="annotation format 'native' has no option 'split'"):
        make(folder, split='val')


def test_text_format(folder, write):
    write('ann.txt', '0.png 1\n1.png 0,1\n')
    assert make(folder, ann_file='ann.txt', classes=['a', 'b']).labels.dense().tolist() == [[0, 1], [1, 1]]
    assert make(folder, ann_file='ann.txt', classes=['a', 'b'], format='text').labels.shape == (2, 2)


@pytest.mark.parametrize(
    'indices, expected',
    [(3, [0, 1, 2]), (np.int64(3), [0, 1, 2]), (-2, [6, 7]), ([5, 0, -1], [5, 0, 7]), (100, list(range(8)))],
)
def test_indices(folder, indices, expected):
    data = make(folder, indices=indices)
    stems = [Path(data.get_data_info(number)['img_path']).stem for number in range(len(data))]
    assert stems == [str(number) for number in expected]
    np.testing.assert_array_equal(data.labels.dense(), make(folder).labels.dense()[expected])


@pytest.mark.parametrize(
    'indices, message',
    [
        (0, 'leaves no images'),
        (True, 'must be a number or a list of numbers, got True'),
        ([], 'leaves no images'),
        ([8], 'indices must lie in 0 to 7, got 8'),
    ],
)
def test_impossible_indices(folder, indices, message):
    with pytest.raises(ConfigError, match=message):
        make(folder, indices=indices)


def test_missing_images_are_an_error(folder):
    for number in (1, 3, 5, 6):
        os.remove(folder / f'img/{number}.png')
    with pytest.raises(DataError) as caught:
        make(folder)
    message = str(caught.value)
    assert '4 of 8 images do not exist' in message and f"looked in '{folder}/img'" in message
    assert all(f'img/{number}.png' in message for number in (1, 3, 5)) and 'img/6.png' not in message
    assert "missing='skip'" in message


def test_missing_images_can_be_skipped(folder):
    for number in (1, 3):
        os.remove(folder / f'img/{number}.png')
    data = make(folder, missing='skip')
    assert len(data) == 6 and data.get_cat_ids(1) == [2]
    assert '2 of 8 images do not exist and were left out' in data.notes[-1]
    with pytest.raises(DataError, match=r'8 of 8 images do not exist.*there is no folder'):
        make(folder, data_prefix='nowhere', missing='skip')


def test_classes_without_images_are_noted(folder):
    annotate(folder / 'ann.json', [{'img_path': '0.png', 'gt_label': [0]}], tuple('abcdefgh'))
    assert make(folder).notes[-1].endswith("no image shows 'b', 'c', 'd', 'e', 'f' and 2 more")


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'missing': 'ignore'}, "missing must be one of 'error', 'skip', 'later', got 'ignore'"),
        ({'lazy_init': True}, 'MultiLabelDataset: lazy_init=True is not supported; leave it out'),
        ({'filter_cfg': {'min_size': 3}}, "filter_cfg={'min_size': 3} is not supported"),
        ({'max_refetch': 7}, 'max_refetch=7 is not supported'),
        ({'ann_file': ''}, "ann_file must name an annotation file, got ''"),
        ({'ann_file': 3}, 'ann_file must name an annotation file, got 3'),
        ({'data_prefix': {'img': 'img'}}, "data_prefix may only have the key 'img_path', got ['img']"),
        (
            {'pipeline': [dict(type='Resze', scale=3)]},
            "pipeline[0]: no transform is called 'Resze'; did you mean 'Resize'",
        ),
    ],
)
def test_arguments_that_are_refused(folder, arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make(folder, **arguments)


def test_arguments_of_mmpretrain_that_change_nothing(folder):
    data = make(folder, test_mode=True, serialize_data=False, lazy_init=False, filter_cfg=None, max_refetch=1000)
    assert len(data) == 8


def test_an_unknown_argument_is_an_error_and_the_config_checker_can_tell(folder):
    with pytest.raises(TypeError, match='spilt'):
        make(folder, spilt='val')
    known = arguments_of(MultiLabelDataset)
    assert not known.any_other and {'split', 'test_mode', 'missing', 'ann_file'} <= known.names


def test_built_from_the_registry(folder):
    config = dict(
        type='MultiLabelDataset', data_root=str(folder), ann_file='ann.json', data_prefix=dict(img_path='img')
    )
    assert len(DATASETS.build(config)) == 8


@pytest.mark.parametrize(
    'content, message',
    [(b'', r'the file is empty \(0 bytes\)'), (b'hello', 'not an image'), (b'\xff\xd8\xff\xe0\0', 'not an image')],
)
def test_failing_images_are_named_and_never_replaced(folder, content, message):
    data = make(folder, pipeline=PLAIN)
    (folder / 'img/2.png').write_bytes(content)
    for _ in range(3):
        with pytest.raises(DataError, match=re.escape(f'{folder}/img/2.png: ') + message):
            data[2]
    os.remove(folder / 'img/2.png')
    with pytest.raises(DataError, match=r'img/2\.png: no such file'):
        data[2]
    assert data[3]['index'] == 3


def test_failing_transforms_name_the_image(folder):
    data = make(folder, pipeline=[PLAIN[0], dict(type='mmcv.Normalize', mean=[0], std=[1]), dict(type='PackInputs')])
    with pytest.raises(DataError, match=r'img/2\.png: (Normalize failed|PackInputs: images must be uint8)'):
        data[2]


def test_failing_images_in_a_worker(folder):
    data = make(folder, pipeline=PLAIN)
    (folder / 'img/2.png').write_bytes(b'hello')
    with pytest.raises(DataError, match=r'DataError: .*img/2\.png: not an image'):
        list(DataLoader(data, 4, num_workers=1, collate_fn=collate_batch))


def test_the_key_decides_everything_random(folder):
    data = make(folder, pipeline=RANDOM)
    keys = [(0, 0, 1), (0, 1, 1), (1, 0, 1), (0, 0, 2)]
    drawn = {key: data[SampleIndex(3, key)]['inputs'].numpy().tobytes() for key in keys}
    assert len(set(drawn.values())) == 4
    for key in keys:
        np.random.seed(len(drawn))
        assert data[SampleIndex(3, key)]['inputs'].numpy().tobytes() == drawn[key]
    assert data[3]['inputs'].equal(data[SampleIndex(3, (0, 0, 3))]['inputs'])


def test_the_same_batches_with_any_number_of_workers(folder):
    data = make(folder, pipeline=RANDOM)
    sampler = EpochSampler(data, seed=5)
    epochs = []
    for workers in (0, 1, 2):
        loader = DataLoader(
            data, 3, sampler=sampler, num_workers=workers, collate_fn=collate_batch, persistent_workers=workers > 0
        )
        epochs.append([])
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            epochs[-1].append([(batch['index'].tolist(), batch['inputs'].numpy().tobytes()) for batch in loader])
    assert epochs[0] == epochs[1] == epochs[2]
    assert epochs[0][0] != epochs[0][1]


def test_no_python_object_an_image(tmp_path):
    """Workers get the annotations as arrays: a few bytes an image, in a number of objects that does not grow."""
    sizes = {}
    for count in (100, 10_000):
        annotate(
            tmp_path / f'{count}.json',
            [{'img_path': f's3://b/{number:08d}.jpg', 'gt_label': [number % 3]} for number in range(count)],
        )
        pickled = pickle.dumps(MultiLabelDataset(str(tmp_path / f'{count}.json'), pipeline=RANDOM[:1]), protocol=4)
        sizes[count] = len(pickled)
        assert pickled.count(b's3://b/') == count  # side by side in one array
        assert pickled.count(b'\x8c') < 400  # strings in the pickle
    # Characters and end; row end and class. That all labels are present takes no memory.
    path, label = len('s3://b/00000000.jpg') + 8, 8 + 4
    assert sizes[10_000] - sizes[100] == pytest.approx(9900 * (path + label), rel=0.01)


def test_real_data(test_data):
    folder = test_data / 'datasets/aquarium'
    data = MultiLabelDataset('labels.csv', data_root=str(folder), split='train', pipeline=PLAIN)
    rows = [line.split(',') for line in (folder / 'labels.csv').read_text().splitlines()]
    expected = np.array([row[2:] for row in rows[1:] if row[1] == 'train'], int)
    assert data.classes == tuple(rows[0][2:])
    np.testing.assert_array_equal(data.labels.dense(), expected)
    batch = collate_batch([data[number] for number in range(4)])
    assert batch['inputs'].shape == (4, 3, 16, 16) and batch['targets'].numpy().tolist() == expected[:4].tolist()
