"""FiftyOne's exports."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets import MultiLabelDataset
from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.fiftyone import read_fiftyone
from mlcls.errors import DataError

from ..conftest import encode


@pytest.fixture
def export(write):
    """Write an export; returns the path of its labels file."""

    def _export(content, *images, name='labels.json'):
        for image in images or ('a.jpg', 'b.png', 'x/c.v2.JPEG'):
            write(f'data/{image}', b'')
        return write(name, content if isinstance(content, str) else json.dumps(content))

    return _export


IDS = {'classes': ['cat', 'dog', 'cow'], 'labels': {'a': [2, 0], 'b': [], 'x/c.v2': 1}}
NAMES = {'classes': None, 'labels': {'a': ['cow', 'cat'], 'b': [], 'x/c.v2': 'dog'}}


@pytest.mark.parametrize(
    'content', [IDS, NAMES, {'labels': NAMES['labels']}, {**NAMES, 'classes': ['cat', 'cow', 'dog']}]
)
def test_ids_and_names(export, content):
    read = read_annotations(export(content))
    assert read.source == "fiftyone: a JSON object with 'labels'"
    assert list(read.img_paths) == ['data/a.jpg', 'data/b.png', 'data/x/c.v2.JPEG']
    labels = [{read.classes[number] for number in read.labels.present(row)} for row in range(3)]
    assert labels == [{'cat', 'cow'}, set(), {'dog'}]
    assert read.classes == (('cat', 'dog', 'cow') if content is IDS else ('cat', 'cow', 'dog'))


def test_ids_of_classes_that_the_caller_names(export):
    path = export({'labels': {'a': [1], 'b': 0}})
    assert read_fiftyone(path, ['cat', 'dog']).labels.dense().tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DataError, match='a label must be the name of a class, got 1'):
        read_fiftyone(path)


def test_targets_with_confidence(export):
    labels = {'a': [{'label': 0, 'confidence': 0.5}, {'label': 2, 'confidence': 0.9}], 'b': {'label': 1}}
    read = read_fiftyone(export({'classes': IDS['classes'], 'labels': labels}))
    assert read.labels.dense().tolist() == [[1, 0, 1], [0, 1, 0]]


def test_images_that_nobody_labelled_are_left_out(export):
    path = export({'classes': ['cat'], 'labels': {'a': None, 'b': [0]}})
    read = read_fiftyone(path)
    assert list(read.img_paths) == ['data/b.png']
    assert read.notes == (f'{path}: 1 of 2 images are not labelled and were left out',)


def test_the_folder_may_be_named_and_its_images_load(tmp_path, write, picture):
    write('out/data/one.jpg', encode(picture, 'JPEG'))
    write('out/labels.json', json.dumps({'classes': ['cat'], 'labels': {'one': [0]}}))
    reason = "fiftyone: a folder with 'data' and 'labels.json', a JSON object with 'labels'"
    assert ': '.join(recognise_format(tmp_path / 'out')) == reason
    for ann_file in ('out', 'out/labels.json'):
        data = MultiLabelDataset(ann_file=str(tmp_path / ann_file), pipeline=[{'type': 'LoadImageFromFile'}])
        assert data[0]['img'].shape == picture.shape


def test_files_are_found_by_listing(export):
    path = export({'classes': ['cat'], 'labels': {'a': [0], 'b.png': [0], 'gone': [0], 'x/gone': [0], 'y/a': [0]}})
    read = read_fiftyone(path)
    assert list(read.img_paths) == ['data/a.jpg', 'data/b.png', 'data/gone', 'data/x/gone', 'data/y/a']
    assert read.notes == (f"{path}: 3 of 5 images have no file in 'data'",)
    two = export({'classes': ['cat'], 'labels': {'a': [0]}}, 'a.jpg', 'a.png', 'a.txt')
    with pytest.raises(
        DataError, match=r"labels entry 0 \(image 'a'\): '.*data' has several such images: a.jpg, a.png"
    ):
        read_fiftyone(two)
    with pytest.raises(DataError, match=r"imgs: no such folder; FiftyOne's labels.json leaves out the extensions"):
        read_fiftyone(two, data='imgs')


@pytest.mark.parametrize(
    'content, message',
    [
        ({'classes': ['cat'], 'labels': {'a': [1]}}, "labels entry 0 (image 'a'): class id 1 of the target is out of"),
        ({'classes': ['cat'], 'labels': {'a': [-1]}}, 'class id -1 of the target is out of range'),
        ({'classes': ['cat'], 'labels': {'a': [0.5]}}, 'the target contains 0.5'),
        ({'classes': ['cat'], 'labels': {'a': {'confidence': 1}}}, 'the target contains None'),
        ({'classes': ['cat', 'dog', 'x'], 'labels': {'a': [0, 1, 1]}}, 'the target looks multi-hot'),
        ({'classes': ['cat'], 'labels': {'a': ['cta']}}, "'cta' is none of the 1 classes; did you mean 'cat'?"),
        ({'classes': ['cat', 'cat'], 'labels': {}}, "class name 'cat' is given twice"),
        ({'classes': ['cat'], 'labels': []}, "'labels' must be an object of one target an image, got []"),
        ({'classes': ['cat'], 'labels': {}}, 'lists no images'),
        ('{"labels": {"a": 0, "a": 1}}', "the key 'a' is given twice in one object"),
        ([], "should be FiftyOne's labels.json"),
        ({'classes': []}, "should be FiftyOne's labels.json"),
    ],
)
def test_files_that_cannot_be_used(export, content, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_fiftyone(export(content))


def sample(number, *labels, tags=(), kind='Classifications'):
    items = [{'_cls': 'Classification', 'label': label} for label in labels]
    field = {'_cls': kind, kind.lower(): items}
    return {'filepath': f'data/{number}.jpg', 'tags': list(tags), 'metadata': None, 'ground_truth': field}


def test_samples(export):
    unlabelled = {**sample(3), 'ground_truth': None}
    samples = [sample(0, 'cat', 'dog', tags=['train']), sample(1, tags=['train', 'x']), sample(2, 'cow'), unlabelled]
    path = export({'samples': samples}, name='samples.json')
    read = read_annotations(path)
    assert read.source == "fiftyone: a JSON object with 'samples' and 'filepath'"
    assert list(read.img_paths) == ['data/0.jpg', 'data/1.jpg', 'data/2.jpg']
    assert read.classes == ('cat', 'cow', 'dog')
    assert read.labels.dense().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert read.notes[0] == f'{path}: 1 of 4 images are not labelled and were left out'
    assert list(read_fiftyone(path, split='train').img_paths) == ['data/0.jpg', 'data/1.jpg']
    with pytest.raises(DataError, match="no sample has the tag 'trian'; did you mean 'train'?"):
        read_fiftyone(path, split='trian')
    with pytest.raises(DataError, match=r"samples entry 0 \(image 'data/0.jpg'\): 'dog' is none of the 2 classes"):
        read_fiftyone(path, ['cat', 'cow'])


def test_fields_of_samples(export):
    both = {**sample(0, 'cat'), 'boxes': {'_cls': 'Detections', 'detections': [{'label': 'dog'}, {'label': 'dog'}]}}
    path = export({'samples': [both, {**both, 'filepath': 'b.jpg', 'boxes': None}]}, name='samples.json')
    with pytest.raises(DataError, match=r'several fields hold labels \(boxes, ground_truth\); say which with field='):
        read_fiftyone(path)
    assert read_fiftyone(path, field='boxes').classes == ('dog',)
    with pytest.raises(DataError, match="no sample has labels in the field 'boxs'; did you mean 'boxes'?"):
        read_fiftyone(path, field='boxs')
    single = {'filepath': 'a.jpg', 'x': {'_cls': 'Classification', 'label': 'N/A'}}
    assert read_fiftyone(export({'samples': [single]}, name='samples.json')).classes == ('N/A',)
    with pytest.raises(DataError, match='no field holds labels'):
        read_fiftyone(export({'samples': [{'filepath': 'a.jpg'}]}, name='samples.json'))
    broken = {'filepath': 'a.jpg', 'x': {'_cls': 'Classifications', 'classifications': 3}}
    with pytest.raises(DataError, match="samples entry 0 .*: the field 'x' holds no labels"):
        read_fiftyone(export({'samples': [broken]}, name='samples.json'))


def test_options_and_folders_that_do_not_fit(export, tmp_path):
    path = export(IDS)
    with pytest.raises(DataError, match="field='x' is an option for samples.json; labels.json has none"):
        read_fiftyone(path, field='x')
    export({'samples': []}, name='samples.json')
    with pytest.raises(DataError, match='has both labels.json and samples.json; name the file'):
        read_fiftyone(tmp_path)
    with pytest.raises(DataError, match='has neither labels.json nor samples.json$'):
        read_fiftyone(tmp_path / 'data')


@pytest.mark.parametrize(
    'content, expected',
    [
        ({'metainfo': {'classes': ['a']}, 'data_list': []}, 'native'),
        ({'classes': ['a'], 'images': [], 'annotations': [{'image_id': 1}], 'labels': {}}, 'coco'),
        ({'labels': {'a': 0}}, 'fiftyone'),
        ({'samples': []}, 'native'),
    ],
)
def test_recognised_among_json_files(write, content, expected):
    assert recognise_format(write('a.json', json.dumps(content)))[0] == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.sets(st.sampled_from(['cat', 'dog', 'N/A', 'é'])), min_size=1, max_size=6), st.booleans())
def test_round_trip(write, rows, by_id):
    classes = ['dog', 'cat', 'é', 'N/A']
    names = [f'{number}.{number}' for number in range(len(rows))]
    for name in names:
        write(f'data/{name}.jpg', b'')
    targets = [[classes.index(label) if by_id else label for label in row] for row in rows]
    content = {'classes': classes, 'labels': dict(zip(names, targets))}
    read = read_annotations(write('labels.json', json.dumps(content)))
    assert [{classes[number] for number in read.labels.present(row)} for row in range(len(rows))] == rows
    assert list(read.img_paths) == [f'data/{name}.jpg' for name in names]
