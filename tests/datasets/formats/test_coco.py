"""The COCO instances format."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.coco import read_coco
from mlcls.errors import DataError

IMAGES = [{'id': 7, 'file_name': 'a b.jpg'}, {'id': 9, 'file_name': 'ü/b.jpg'}, {'id': 3, 'file_name': 'c.jpg'}]
CATEGORIES = [{'id': 90, 'name': 'toothbrush'}, {'id': 1, 'name': 'person'}, {'id': 13, 'name': 'stop sign'}]
ANNOTATIONS = [
    {'id': 1, 'image_id': 9, 'category_id': 90, 'iscrowd': 0, 'bbox': [1, 2, 3, 4], 'segmentation': [[1.5, 2, 3]]},
    {'id': 2, 'image_id': 9, 'category_id': 1, 'iscrowd': 1, 'segmentation': {'counts': 'oR', 'size': [3, 4]}},
    {'id': 3, 'image_id': 7, 'category_id': 13},
    {'id': 4, 'image_id': 7, 'category_id': 13, 'iscrowd': 1},
]


def content(**changes):
    return {'images': IMAGES, 'categories': CATEGORIES, 'annotations': ANNOTATIONS, **changes}


@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_reads_ids_with_gaps_and_images_without_annotations(write, mark):
    path = write('instances.json', mark + json.dumps(content(), indent=1).replace('\n', '\r\n'))
    annotations = read_annotations(path)
    assert annotations.classes == ('person', 'stop sign', 'toothbrush')
    assert list(annotations.img_paths) == ['a b.jpg', 'ü/b.jpg', 'c.jpg']
    assert annotations.labels.dense().tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert annotations.notes == (f'{path}: 1 image of 3 without a present label',)
    assert annotations.source.startswith('coco: a JSON object with ')


@pytest.mark.parametrize('crowd, person', [('present', 1), ('unknown', -1), ('ignore', 0)])
def test_crowds(write, crowd, person):
    annotations = read_coco(write('a.json', json.dumps(content())), crowd=crowd)
    assert annotations.labels.dense().tolist() == [[0, 1, 0], [person, 0, 1], [0, 0, 0]]


def test_classes_give_the_order(write):
    path = write('a.json', json.dumps(content()))
    names = ['toothbrush', 'person', 'stop sign']
    assert read_annotations(path, classes=names).labels.dense().tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    with pytest.raises(DataError, match="class 'stop sign' of the annotations is not among the 2 classes of the conf"):
        read_annotations(path, classes=['toothbrush', 'person'])


def test_windows_paths_become_paths(write):
    path = write('a.json', json.dumps(content(images=[{'id': 7, 'file_name': 'x\\a.jpg'}], annotations=[])))
    annotations = read_coco(path)
    assert list(annotations.img_paths) == ['x/a.jpg']
    assert annotations.notes[0] == f'{path}: 1 image paths are written with \\, which is taken as /'


def test_an_image_given_twice_with_the_same_labels_counts_once(write):
    images = [*IMAGES, {'id': 11, 'file_name': './c.jpg'}]
    annotations = read_coco(write('a.json', json.dumps(content(images=images))))
    assert len(annotations) == 3
    assert 'dropped 1 row that repeated an image with the same labels' in annotations.notes[0]


def changed(key, number, **fields):
    """The content with one entry of one list changed; a field that is None goes."""
    entries = [dict(entry) for entry in content()[key]]
    entries[number].update(fields)
    entries[number] = {name: value for name, value in entries[number].items() if value is not None}
    return content(**{key: entries})


@pytest.mark.parametrize(
    'value, message',
    [
        (changed('annotations', 2, image_id=5), "annotations entry 2: image_id 5 is the id of none of the 3 'images'"),
        (
            changed('annotations', 0, category_id=2),
            "annotations entry 0 (image_id 9): category_id 2 is the id of none of the 3 'categories'; choose from 1, ",
        ),
        (changed('annotations', 0, category_id=-1), 'category_id -1 is the id of none'),
        (changed('annotations', 0, category_id='1'), "category_id must be a whole number, got '1'"),
        (
            changed('annotations', 0, category_id=1.0),
            'annotations entry 0: category_id must be a whole number, got 1.0',
        ),
        (changed('annotations', 0, category_id=float('nan')), 'category_id must be a whole number, got nan'),
        (changed('annotations', 0, category_id=True), 'category_id must be a whole number, got True'),
        (
            changed('annotations', 1, category_id=[1]),
            'annotations entry 1: category_id must be a whole number, got [1]',
        ),
        (changed('annotations', 1, category_id=None), "annotations entry 1: has no key 'category_id'"),
        (changed('annotations', 1, image_id=None, image_ids=9), "has no key 'image_id'; did you mean 'image_ids'?"),
        (changed('annotations', 1, iscrowd=2), 'annotations entry 1 (image_id 9): iscrowd must be 0 or 1, got 2'),
        (changed('annotations', 1, iscrowd='0'), "iscrowd must be 0 or 1, got '0'"),
        (changed('categories', 1, id=90), 'categories entry 1: the category id 90 is also that of entry 0'),
        (changed('categories', 1, id=-1), 'categories entry 1: id must be at least 0, got -1'),
        (changed('categories', 1, id=1.5), 'categories entry 1: id must be a whole number, got 1.5'),
        (changed('categories', 1, name='toothbrush'), "categories by id: class name 'toothbrush' is given twice"),
        (changed('categories', 1, name=None), "categories entry 1: has no key 'name'"),
        (changed('categories', 1, name=' '), 'categories by id: the name of class 0 is empty'),
        (changed('categories', 1, name=5), 'class 0 must be a string, got 5'),
        (changed('images', 1, id=7), 'images entry 1: the image id 7 is also that of entry 0'),
        (changed('images', 1, id='9'), "images entry 1: id must be a whole number, got '9'"),
        (
            changed('images', 1, file_name=None),
            'images entry 1 (id 9): file_name must be the path of the image, there is none',
        ),
        (changed('images', 1, file_name=''), "file_name must be the path of the image, got ''"),
        (changed('images', 1, file_name=['x']), "file_name must be the path of the image, got ['x']"),
        (
            changed('images', 1, file_name='a b.jpg'),
            "images entry 1 (image 'a b.jpg'): the image is also in images entry 0, with other labels",
        ),
        (changed('images', 0, neg_category_ids=[1]), "'neg_category_ids' is LVIS's, where classes not listed are unk"),
        (
            changed('annotations', 0, caption='A cat.'),
            "has captions ('caption'), not instances; take the file instance",
        ),
        (changed('annotations', 0, keypoints=[1]), "has keypoints of persons ('keypoints'), not instances"),
        (changed('annotations', 0, segments_info=[]), "has panoptic segmentation ('segments_info'), not instances"),
        (content(images=[]), 'annotations entry 0: image_id 9 is the id of none of the 0'),
        (content(images=[], annotations=[]), 'lists no images'),
        (content(categories=[]), 'categories by id: no class names'),
        (content(images=[[1]]), 'images entry 0: must be an object, got [1]'),
        (content(annotations=[[1]]), 'annotations entry 0: must be an object, got [1]'),
        (content(annotations=5), "'annotations' must be a list of objects, got 5"),
        (content(categories={'1': 'a'}), "'categories' must be a list of objects, got {'1': 'a'}"),
        ({'images': IMAGES, 'categories': CATEGORIES}, "has no key 'annotations'; choose from categories, images; a C"),
        ({'images': IMAGES, 'categories': CATEGORIES}, 'files such as image_info_*.json hold no labels'),
        ({'images': IMAGES, 'annotations': []}, "has no key 'categories'"),
        ([{'image_id': 7, 'category_id': 1, 'score': 0.5}], 'is a list, as results of a detector are; a COCO inst'),
        ('text', 'is a str; a COCO instances file has'),
        (None, 'is a NoneType; a COCO instances file has'),
    ],
)
def test_content_that_cannot_be_used(write, value, message):
    path = write('a.json', json.dumps(value))
    with pytest.raises(DataError, match=re.escape(str(path)) + '.*' + re.escape(message)):
        read_coco(path)


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"images": [\n  {"id": 1,}\n]}', 'a.json:2:12: not valid JSON: '),
        ('{"images": [', 'a.json:1:13: not valid JSON: Expecting value'),
        ('', 'a.json: is empty'),
        ('[' * 100000, 'a.json: lists or objects are nested too deeply'),
        ('{"images": [], "images": []}', "a.json: the key 'images' is given twice in one object"),
        (b'{"images": "\xff"}', 'a.json, line 1: byte 0xff is not UTF-8'),
    ],
)
def test_files_that_are_no_json(write, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_coco(write('a.json', text))


def test_unknown_treatment_of_crowds(write):
    with pytest.raises(DataError, match=r"a\.json: unknown crowd='presnt'; did you mean 'present'\?"):
        read_coco(write('a.json', json.dumps(content())), crowd='presnt')


@pytest.mark.parametrize(
    'value, name',
    [
        (content(), 'coco'),
        ({'categories': [{'id': 1, 'name': 'a', 'supercategory': 'b'}]}, 'coco'),
        ({'annotations': [{'image_id': 3, 'category_id': 1}]}, 'coco'),
        ([{'image_id': 3, 'category_id': 1, 'score': 1}], 'coco'),
        ({'annotations': [{'image_id': 3, 'caption': 'a'}]}, 'coco'),
        ({'metainfo': {'classes': ['images', 'file_name']}, 'data_list': []}, 'native'),
        ({'metainfo': {}, 'data_list': [], 'images': [{'file_name': 'x'}]}, 'native'),
    ],
)
def test_recognised(write, value, name):
    assert recognise_format(write('a.json', json.dumps(value)))[0] == name


@given(
    st.dictionaries(st.integers(-5, 10**12), st.text('abcß 1', min_size=1), max_size=8).filter(
        lambda images: images and len(set(images.values())) == len(images)
    ),
    st.sets(st.integers(0, 200), min_size=1, max_size=6),
    st.data(),
)
def test_equals_a_count_by_hand(tmp_path_factory, images, categories, data):
    objects = data.draw(
        st.lists(st.tuples(st.sampled_from(sorted(images)), st.sampled_from(sorted(categories)), st.booleans()))
    )
    value = {
        'images': [{'id': number, 'file_name': f'{name}.jpg'} for number, name in images.items()],
        'categories': [{'id': number, 'name': f'c{number}'} for number in categories],
        'annotations': [{'image_id': i, 'category_id': c, 'iscrowd': int(crowd)} for i, c, crowd in objects],
    }
    path = tmp_path_factory.mktemp('coco') / 'a.json'
    path.write_text(json.dumps(value))
    shown = defaultdict(list)
    for image, category, crowd in objects:
        shown[image, category].append(crowd)
    dense = read_coco(path, crowd='unknown').labels.dense()
    for row, image in enumerate(images):
        for column, category in enumerate(sorted(categories)):
            crowds = shown[image, category]
            assert dense[row, column] == (0 if not crowds else -1 if all(crowds) else 1)


@pytest.mark.parametrize('split', ['train2017', 'val2017'])
def test_real_data(test_data, split):
    folder = test_data / 'datasets/coco_tiny'
    with open(folder / 'labels.csv') as file:
        rows = list(csv.reader(file))
    annotations = read_annotations(folder / f'annotations/instances_{split}.json')
    assert list(annotations.classes) == rows[0][2:]
    found = dict(zip(annotations.img_paths, annotations.labels.dense().tolist()))
    assert {f'{split}/{path}': labels for path, labels in found.items()} == {
        row[0]: [int(cell) for cell in row[2:]] for row in rows if row[1] == split
    }
