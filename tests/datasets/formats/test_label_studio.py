"""Label Studio's exports."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.label_studio import image_path, read_label_studio
from mlcls.errors import DataError


def annotation(*choices, control='animals', **others):
    result = [{'from_name': control, 'to_name': 'image', 'type': 'choices', 'value': {'choices': list(choices)}}]
    return {'id': 1, 'was_cancelled': False, 'result': result if choices else [], **others}


def task(name, *annotations, **others):
    return {'data': {'image': f'/data/upload/1/{name}'}, 'annotations': list(annotations), **others}


def rows(read):
    names = read.classes
    labels = read.labels.dense()
    return {
        path.removeprefix('upload/1/'): {name: int(value) for name, value in zip(names, labels[number]) if value}
        for number, path in enumerate(read.img_paths)
    }


def test_one_annotator(write):
    tasks = [
        task('3fa85f64-a.jpg', annotation('dog', 'cat'), predictions=[annotation('cow')]),
        task('b.jpg', annotation()),
        task('c.jpg'),
        task('d.jpg', annotation('cat', was_cancelled=True)),
        task('e.jpg', annotation('cat', was_cancelled=True), annotation('dog')),
    ]
    path = write('a.json', json.dumps(tasks))
    read = read_annotations(path)
    assert read.source == "label_studio: a JSON list of tasks with 'data' and 'result'"
    assert read.classes == ('cat', 'dog')
    assert rows(read) == {'3fa85f64-a.jpg': {'cat': 1, 'dog': 1}, 'b.jpg': {}, 'e.jpg': {'dog': 1}}
    assert read.notes == (
        f'{path}: 2 of 5 tasks have no annotation and were left out',
        f'{path}: 1 image of 3 without a present label',
    )


def test_several_annotators_against_a_count(write):
    """All ways in which three (or two) annotators choose among two classes."""
    choices = [(), ('cat',), ('dog',), ('cat', 'dog')]
    for number in (2, 3):
        for votes in product(choices, repeat=number):
            path = write('a.json', json.dumps([task('a.jpg', *(annotation(*vote) for vote in votes))]))
            if not any(votes):
                continue
            counts = {name: sum(name in vote for vote in votes) for name in ('cat', 'dog')}
            read = {key: rows(read_label_studio(path, ['cat', 'dog'], key))['a.jpg'] for key in ('any', 'majority')}
            assert read['any'] == {name: 1 for name, count in counts.items() if count}
            assert read['majority'] == {
                name: 1 if count > number / 2 else -1 for name, count in counts.items() if count >= number / 2
            }
            if set(counts.values()) <= {0, number}:
                assert rows(read_label_studio(path, ['cat', 'dog']))['a.jpg'] == read['any']
            else:
                with pytest.raises(DataError, match=rf"task 0 \(image 'upload/1/a.jpg'\): . of {number} annotators ch"):
                    read_label_studio(path, ['cat', 'dog'])


def test_disagreement_names_the_class(write):
    path = write('a.json', json.dumps([task('a.jpg', annotation('cat'), annotation('cat', 'dog'))]))
    message = "1 of 2 annotators chose 'dog'; annotators='majority' or 'any' decides such cases"
    with pytest.raises(DataError, match=re.escape(message)):
        read_label_studio(path)
    with pytest.raises(DataError, match="unknown annotators='major'; did you mean 'majority'?"):
        read_label_studio(path, annotators='major')


def test_groups_of_choices(write):
    both = {'result': annotation('cat')['result'] + annotation('sunny', control='weather')['result']}
    path = write('a.json', json.dumps([task('a.jpg', both), task('b.jpg', annotation('dog'))]))
    with pytest.raises(
        DataError, match=r'several groups of choices \(animals, weather\); say which to take with contr'
    ):
        read_label_studio(path)
    assert rows(read_label_studio(path, control='weather')) == {'a.jpg': {'sunny': 1}, 'b.jpg': {}}
    read = read_label_studio(path, control=['weather', 'animals'])
    assert rows(read) == {'a.jpg': {'cat': 1, 'sunny': 1}, 'b.jpg': {'dog': 1}}
    with pytest.raises(DataError, match="no choices called 'animal'; did you mean 'animals'?"):
        read_label_studio(path, control='animal')


def test_boxes_are_no_labels_of_the_image(write):
    box = {'from_name': 'box', 'type': 'rectanglelabels', 'value': {'rectanglelabels': ['cow']}}
    mixed = {'result': [box, *annotation('cat')['result']]}
    assert rows(read_label_studio(write('a.json', json.dumps([task('a.jpg', mixed)])))) == {'a.jpg': {'cat': 1}}
    with pytest.raises(DataError, match='no task has choices, which are what labels of whole images are called here'):
        read_label_studio(write('a.json', json.dumps([task('a.jpg', {'result': [box]})])))


def test_the_old_name_of_annotations(write):
    old = {'data': {'image': 'a.jpg'}, 'completions': [annotation('cat'), annotation('dog', skipped=True)]}
    path = write('a.json', json.dumps([old]))
    assert recognise_format(path)[0] == 'label_studio' and rows(read_label_studio(path)) == {'a.jpg': {'cat': 1}}


def test_json_min(write):
    entries = [
        {'image': 'a.jpg', 'id': 1, 'animals': {'choices': ['cat', 'dog']}, 'annotator': 1, 'annotation_id': 1},
        {'image': 'b.jpg', 'id': 2, 'animals': 'cat', 'annotator': 1, 'annotation_id': 2, 'note': 'dark'},
        {'image': 'c.jpg', 'id': 3, 'annotator': 1, 'annotation_id': 3},
        {'image': 'd.jpg', 'id': 4},
    ]
    path = write('a.json', json.dumps(entries))
    read = read_annotations(path)
    assert read.source == "label_studio: a JSON list of annotations with 'annotation_id'"
    assert rows(read) == {'a.jpg': {'cat': 1, 'dog': 1}, 'b.jpg': {'cat': 1}, 'c.jpg': {}}
    assert read.notes[0] == f'{path}: 1 of 4 tasks have no annotation and were left out'


def test_json_min_of_single_choices(write):
    path = write('a.json', json.dumps([{'img': 'a.png', 'mood': 'calm', 'annotation_id': 1, 'text': 'x'}]))
    with pytest.raises(DataError, match='no task has choices'):
        read_label_studio(path)
    assert rows(read_label_studio(path, control='mood')) == {'a.png': {'calm': 1}}
    path = write('a.json', json.dumps([{'image': 'a.png', 'choice': 'calm', 'annotation_id': 1, 'text': 'x'}]))
    assert rows(read_label_studio(path)) == {'a.png': {'calm': 1}}


def test_json_min_gathers_the_annotators_of_an_image(write):
    def entries(*votes):
        return json.dumps([{'image': 'a.jpg', 'choice': {'choices': list(vote)}, 'annotation_id': 1} for vote in votes])

    path = write('a.json', entries(['cat'], ['cat', 'dog'], ['cat']))
    assert rows(read_label_studio(path, annotators='majority')) == {'a.jpg': {'cat': 1}}
    assert rows(read_label_studio(path, annotators='any')) == {'a.jpg': {'cat': 1, 'dog': 1}}
    with pytest.raises(DataError, match="1 of 3 annotators chose 'dog'"):
        read_label_studio(path)


@pytest.mark.parametrize(
    'address, path',
    [
        ('/data/upload/1/abc-name.jpg', 'upload/1/abc-name.jpg'),
        ('/data/upload/1/abc-my%20name%C3%A9.jpg', 'upload/1/abc-my nameé.jpg'),
        ('http://localhost:8080/data/upload/1/a.jpg', 'upload/1/a.jpg'),
        ('/data/local-files/?d=folder/name.jpg', 'folder/name.jpg'),
        ('/data/local-files/?d=folder%2Fmy%20name+1.jpg', 'folder/my name+1.jpg'),
        ('/data/local-files?d=/folder/name.jpg', 'folder/name.jpg'),
        ('folder/name 1.jpg', 'folder/name 1.jpg'),
        ('s3://bucket/a.jpg', 's3://bucket/a.jpg'),
        ('https://example.com/a%20b.jpg', 'https://example.com/a%20b.jpg'),
    ],
)
def test_addresses(address, path):
    assert image_path(address, 'f') == path


@pytest.mark.parametrize(
    'tasks, message',
    [
        ({'a': 1}, 'should be a list of tasks, as Label Studio exports JSON, found {'),
        ([3], 'should be a list of tasks'),
        ([task('a.jpg', annotation('cat')), {'image': 'b.jpg'}], "a.json, task 1: has no object 'data'"),
        ([{'data': {'image': 'a.jpg'}, 'annotations': 3}], "task 0: 'annotations' must be a list of objects, got 3"),
        ([{'data': {'image': 3}, 'annotations': [annotation('cat')]}], "task 0: the image's address must be a string"),
        (
            [{'data': {'image': 'data:image/png;base64,iVBO'}, 'annotations': [annotation('cat')]}],
            'the image itself st',
        ),
        (
            [{'data': {'image': '/data/local-files/?x=1'}, 'annotations': [annotation('cat')]}],
            "names no file with '?d='",
        ),
        (
            [{'data': {'text': 'a'}, 'annotations': [annotation('cat')]}],
            'no key of the tasks holds an image; say which',
        ),
        ([task('a.jpg', annotation(3))], "image 'upload/1/a.jpg'): a label must be the name of a class, got 3"),
        ([task('a.jpg', annotation('ctt'))], "task 0 (image 'upload/1/a.jpg'): 'ctt' is none of the 2 classes; did yo"),
        ([task('a.jpg', {'result': [{'type': 'choices', 'value': {}}]})], 'choices must be a list of names, got {}'),
        (
            [task('a.jpg', annotation('cat')), task('a.jpg', annotation('dog'))],
            'the image is also in task 0, with other',
        ),
    ],
)
def test_files_that_cannot_be_used(write, tasks, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_label_studio(write('a.json', json.dumps(tasks)), ['cat', 'dog'])


def test_the_key_of_the_image(write):
    two = [{'data': {'left': 'a.jpg', 'right': 'b.jpg'}, 'annotations': [annotation('cat')]}]
    path = write('a.json', json.dumps(two))
    with pytest.raises(DataError, match=r'several keys look like images \(left, right\); say which with image_key'):
        read_label_studio(path)
    assert rows(read_label_studio(path, image_key='right')) == {'b.jpg': {'cat': 1}}
    with pytest.raises(DataError, match="no task has the key 'rigth'; did you mean 'right'?"):
        read_label_studio(path, image_key='rigth')


def test_coco_results_are_no_export(write):
    assert recognise_format(write('a.json', '[{"image_id": 1, "category_id": 2}]'))[0] == 'coco'
