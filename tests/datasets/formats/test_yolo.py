"""The YOLO format."""

from __future__ import annotations

import csv
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.yolo import label_path, read_yolo
from mlcls.errors import DataError

BOX = '0.5 0.5 0.1 0.1'


@pytest.mark.parametrize(
    'image, label',
    [
        ('images/train/a.jpg', 'labels/train/a.txt'),
        ('train/images/a.b.jpg', 'train/labels/a.b.txt'),
        ('images/x/images/a.jpg', 'images/x/labels/a.txt'),
        ('images2/a.jpg', 'images2/a.txt'),
        ('images.jpg', 'images.txt'),
        ('images', 'images.txt'),
        ('../images/a b.PNG', '../labels/a b.txt'),
        ('/abs/images/ü.jpg', '/abs/labels/ü.txt'),
        ('x/a.jpg', 'x/a.txt'),
    ],
)
def test_label_paths(image, label):
    assert label_path(image) == label


@pytest.fixture
def make(write, tmp_path):
    """Write a data set: ``data.yaml``, and label files by their image; None makes an image without one."""

    def _make(yaml, labels, yaml_name='set/data.yaml'):
        for image, text in labels.items():
            write(f'set/{image}', '')
            if text is not None:
                write(f'set/{label_path(image)}', text)
        write(yaml_name, yaml)
        return tmp_path / 'set'

    return _make


def dense(annotations):
    return dict(zip(annotations.img_paths, annotations.labels.dense().tolist()))


ULTRALYTICS = """\
path: .  # root
train: images/train
val: images/val

names:
  0: cat
  1: dog mix
  2: ü
"""


def test_ultralytics_layout(make):
    folder = make(
        ULTRALYTICS,
        {
            'images/train/b b.jpg': f'\ufeff0 {BOX}\r\n\r\n2 {BOX}\r\n0 {BOX}\r\n',
            'images/train/sub/ü.PNG': '1 0 0 1 0 1 1\n',
            'images/train/a.jpg': '',
            'images/train/c.jpeg': ' \n',
            'images/train/d.jpg': None,
            'images/val/v.jpg': f'1 {BOX}',
        },
    )
    (folder / 'images/train/notes.txt').write_text('no image')
    for path in (folder, folder / 'data.yaml'):
        annotations = read_annotations(path, split='train')
        assert annotations.classes == ('cat', 'dog mix', 'ü')
        assert list(annotations.img_paths) == [
            'images/train/a.jpg',
            'images/train/b b.jpg',
            'images/train/c.jpeg',
            'images/train/d.jpg',
            'images/train/sub/ü.PNG',
        ]
        assert annotations.labels.dense().tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
        assert annotations.notes[0] == (
            f"{folder / 'data.yaml'}: 1 of 5 images have no label file, the first 'labels/train/d.txt'; they are taken "
            'to show no class'
        )
    for split in ('val', 'valid'):
        assert dense(read_yolo(folder, split=split)) == {'images/val/v.jpg': [0, 1, 0]}


ROBOFLOW = "train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['cat', 'dog']\n"


def test_roboflow_layout(make):
    labels = {'train/images/a.jpg': f'1 {BOX}', 'valid/images/b.jpg': f'0 {BOX}', 'test/images/c.jpg': f'0 {BOX}'}
    folder = make(ROBOFLOW, labels)
    file = folder / 'data.yaml'
    train = read_yolo(file, split='train')
    assert dense(train) == {'train/images/a.jpg': [0, 1]}
    assert train.notes == (f"{file}: 'train' names '../train/images', which does not exist; 'train/images' is taken",)
    assert (
        dense(read_yolo(file, split='valid')) == dense(read_yolo(file, split='val')) == {'valid/images/b.jpg': [1, 0]}
    )
    test = read_yolo(file, split='test')
    assert dense(test) == {'test/images/c.jpg': [1, 0]}
    assert test.notes == (f"{file}: has no key 'test'; the folder 'test/images' is taken",)


def test_paths_above_the_yaml_file_are_taken_where_they_exist(make):
    labels = {'train/images/a.jpg': f'1 {BOX}'}
    folder = make(ROBOFLOW, labels, 'set/yaml/data.yaml')
    annotations = read_yolo(folder / 'yaml', split='train')
    assert dense(annotations) == {'../train/images/a.jpg': [0, 1]} and annotations.notes == ()


def test_absolute_and_lost_roots(make, tmp_path):
    labels = {'images/train/a.jpg': f'1 {BOX}'}
    folder = make(f'path: {tmp_path / "set"}\ntrain: images/train\nnames: [a, b]', labels, 'other/data.yaml')
    assert dense(read_yolo(tmp_path / 'other')) == {f'{folder}/images/train/a.jpg': [0, 1]}
    folder = make('path: ../datasets/coco8\ntrain: images\\train\nnames: [a, b]', labels)
    annotations = read_yolo(folder)
    assert dense(annotations) == {'images/train/a.jpg': [0, 1]}
    assert annotations.notes == (
        f"{folder / 'data.yaml'}: 'train' names '../datasets/coco8/images/train', which does not exist; "
        "'images/train' is taken",
    )


@pytest.mark.parametrize('line', ['./images/a.jpg', 'images/a.jpg', 'images\\a.jpg', 'lists/../images/a.jpg'])
def test_lists_of_images(make, write, line):
    folder = make('train: [train.txt, more]\nnames: [a, b]', {'images/a.jpg': f'1 {BOX}', 'more/b.jpg': f'0 {BOX}'})
    write('set/train.txt', f'\ufeff{line}\r\n\n')
    assert dense(read_yolo(folder)) == {'images/a.jpg': [0, 1], 'more/b.jpg': [1, 0]}


def test_lists_in_a_folder(make, write):
    folder = make('train: lists/train.txt\nval: lists/val.txt\nnames: [a]', {'images/a.jpg': f'0 {BOX}'})
    write('set/lists/train.txt', '../images/a.jpg\n')
    write('set/lists/val.txt', 'images/a.jpg\n')  # relative to the root
    for split in ('train', 'val'):
        assert dense(read_yolo(folder, split=split)) == {'images/a.jpg': [1]}


def test_without_yaml_file(make, write, tmp_path):
    folder = make('', {'images/a.jpg': f'1 {BOX}'}, 'elsewhere')
    with pytest.raises(DataError, match='has neither data.yaml nor classes.txt to name the classes; give classes='):
        read_yolo(folder)
    assert dense(read_annotations(folder, classes=['x', 'y'])) == {'images/a.jpg': [0, 1]}
    write('set/labels/classes.txt', 'cat\r\ndog\r\n')
    assert read_annotations(folder).classes == ('cat', 'dog')
    write('set/classes.txt', 'dog\ncat')
    assert read_annotations(folder).classes == ('dog', 'cat')
    make('', {'images/train/b.jpg': f'0 {BOX}', 'images/val/b.jpg': ''}, 'elsewhere')
    with pytest.raises(DataError, match=r"set: has the splits 'train', 'val'; say which one with split='...'"):
        read_yolo(folder)
    assert dense(read_yolo(folder, split='train')) == {'images/train/b.jpg': [1, 0]}
    with pytest.raises(DataError, match=r"set: has no split 'test'; there are 'train', 'val'"):
        read_yolo(folder, split='test')
    with pytest.raises(DataError, match="has neither data.yaml nor a folder 'images'"):
        read_yolo(tmp_path, ['a'])


@pytest.mark.parametrize(
    'text, message',
    [
        (f'0 {BOX}\n\n3 {BOX}', 'a.txt, line 3: class id 3 is out of range; 3 classes have the ids 0 to 2'),
        (f'-1 {BOX}', 'a.txt, line 1: class id -1 is out of range'),
        (f'1.0 {BOX}', "a.txt, line 1: the class id is '1.0'; write 1"),
        (f'1.5 {BOX}', "a.txt, line 1: the class id is '1.5'; class ids are whole numbers"),
        (f'nan {BOX}', "a.txt, line 1: the class id is 'nan'; class ids are whole numbers"),
        (f'cat {BOX}', "a.txt, line 1: the class id is 'cat'; class ids are whole numbers"),
        (f'١ {BOX}', "a.txt, line 1: the class id is '١'; write 1"),
        (
            '0',
            'a.txt, line 1: has 1 columns; an object is a class id and 4 numbers of a box, or 6 and more of a polygon',
        ),
        ('0 0.5 0.5 0.1', 'a.txt, line 1: has 4 columns'),
        (f'0 {BOX} 0.9', 'a.txt, line 1: has 6 columns'),
        ('0,0.5,0.5,0.1,0.1', 'a.txt, line 1: has 1 columns'),
        ('0 0.5 0.5 nan 0.1', "a.txt, line 1, column 4: 'nan' is not a number"),
        ('0 0.5 0.5 0.1 inf', "a.txt, line 1, column 5: 'inf' is not a number"),
        ('0 0.5 x 0.1 0.1', "a.txt, line 1, column 3: 'x' is not a number"),
        (b'0 \xff', 'a.txt, line 1: byte 0xff is not UTF-8'),
    ],
)
def test_label_files_that_cannot_be_used(make, text, message):
    folder = make(ULTRALYTICS, {'images/train/0.jpg': f'0 {BOX}', 'images/train/a.jpg': text})
    with pytest.raises(DataError, match=re.escape(f'{folder}/labels/train/{message}')):
        read_yolo(folder, split='train')


@pytest.mark.parametrize(
    'yaml, message',
    [
        ('train: images\nnames: [a, b', 'data.yaml:2:13: not valid YAML: expected'),
        ('train: images\n\tnames: [a]', 'data.yaml:2:1: not valid YAML: found character'),
        ('- a', "data.yaml: should have the keys 'names', 'train' and 'val', got ['a']"),
        ('', 'data.yaml: is empty'),
        ('train: images', "data.yaml: has no key 'names'; choose from train; add it, or give classes=[...]"),
        ('train: images\nname: [a]', "has no key 'names'; did you mean 'name'?"),
        ('train: images\nnames: [a]\nnc: 2', "data.yaml: 'nc' is '2', but 'names' has 1 names"),
        ('train: images\nnames: [a]\nnc: true', "'nc' is 'true', but 'names' has 1 names"),
        ('train: images\nnames: [a]\nnc: 1.0', "'nc' is '1.0', but 'names' has 1 names"),
        ('train: images\nnames: [a]\nnc: [1]', "'nc' is ['1'], but 'names' has 1 names"),
        ('train: images\nnames: [a, a]', "'names': class name 'a' is given twice, as class 0 and 1"),
        ("train: images\nnames: [a, '']", "'names': the name of class 1 is empty"),
        ('train: images\nnames: [[a], b]', "class 0 must be a string, got ['a']"),
        ('train: images\nnames: a', "'names': classes must be a list of names, got 'a'"),
        ('train: images\nnames: []', "'names': no class names"),
        ('train: images\nnames: {0: a, 2: b}', "data.yaml: the ids of 'names' must be 0 to 1, got ['0', '2']"),
        ('train: images\nnames: {1: a, 2: b}', "the ids of 'names' must be 0 to 1, got ['1', '2']"),
        ('train: images\nnames: {a: 0, b: 1}', "the ids of 'names' must be 0 to 1, got ['a', 'b']"),
        ('train: images\nnames:\n  0: a\n  0: b', "data.yaml, line 4: the key '0' is given twice"),
        ('train: &x images\nval: *x\nnames: [a]', 'data.yaml, line 2: aliases (*) are not read; write out what they'),
        ('names: [a]\nnames: [b]', "data.yaml, line 2: the key 'names' is given twice"),
        ('names: [a]', "data.yaml: names no images; add the keys 'train' and 'val'"),
        ('names: [a]\ntrain: images\nval: images', "has the splits 'train', 'val'; say which one with split='...'"),
        (
            'names: [a]\ntrain: {x: y}',
            "data.yaml: 'train' must be a folder, a list of images, or several, got {'x': 'y'}",
        ),
        ('names: [a]\ntrain: [[images]]', "'train' must be a folder, a list of images, or several, got ['images']"),
        ('names: [a]\npath: [x]\ntrain: images', "'path' must be the folder of the data set, got ['x']"),
        ('names: [a]\ntrain: imges', "'train' names 'imges', which does not exist; looked for '"),
        ('names: [a]\ntrain: empty', 'set/empty: contains no images (.jpg, '),
        ('names: [a]\ntrain: data.yaml', 'set/data.yaml: must be a folder of images or a list of images (.txt)'),
        ('names: [a]\ntrain: bad.txt', "bad.txt, line 2: should be the path of an image, got 'x.txt'"),
        (
            'names: [a]\ntrain: nolabels',
            "1 of 1 images have no label file, the first 'nolabels/n.txt' (looked for below",
        ),
        ('names: !!python/object/apply:os.system [ls]\ntrain: images\nnc: 0', "'nc' is '0', but 'names' has 1 names"),
        ('names: [a]\n? [x, y]\n: z', 'data.yaml:2:3: not valid YAML: found unhashable key'),
    ],
)
def test_yaml_files_that_cannot_be_used(make, write, yaml, message):
    write('set/empty/x.gz', '')
    write('set/nolabels/n.jpg', '')
    write('set/bad.txt', 'images/a.jpg\nx.txt')
    folder = make(yaml, {'images/a.jpg': f'0 {BOX}'})
    with pytest.raises(DataError, match=re.escape(message)):
        read_yolo(folder)


def test_words_that_yaml_reads_as_something_else_are_names(make):
    folder = make('train: images\nval:\ntest: null\nnames: [1, no, 2001-13-99]', {'images/a.jpg': f'1 {BOX}'})
    annotations = read_yolo(folder)
    assert annotations.classes == ('1', 'no', '2001-13-99') and dense(annotations) == {'images/a.jpg': [0, 1, 0]}


def test_unknown_split(make):
    folder = make(ULTRALYTICS, {'images/train/a.jpg': f'0 {BOX}'})
    with pytest.raises(DataError, match=r"data.yaml: has no split 'test'; there are 'train', 'val'"):
        read_yolo(folder, split='test')
    with pytest.raises(DataError, match='nowhere: no such file'):
        read_yolo(folder / 'nowhere')


def test_classes_for_a_yaml_file_without_names(make):
    folder = make('train: images', {'images/a.jpg': f'1 {BOX}'})
    assert dense(read_annotations(folder, classes=['x', 'y'])) == {'images/a.jpg': [0, 1]}


def test_an_image_listed_twice_counts_once(make, write):
    folder = make('train: [l.txt, images]\nnames: [a]', {'images/a.jpg': f'0 {BOX}'})
    write('set/l.txt', './images/a.jpg')
    annotations = read_yolo(folder)
    assert len(annotations) == 1 and 'dropped 1 row that repeated an image' in annotations.notes[0]


def test_recognised(make, write, tmp_path):
    folder = make(ULTRALYTICS, {'images/train/a.jpg': f'0 {BOX}'})
    assert recognise_format(folder) == ('yolo', "a folder with 'data.yaml'")
    assert recognise_format(folder / 'data.yaml') == ('yolo', "a YAML file with 'names' or 'train'")
    (folder / 'data.yaml').unlink()
    assert recognise_format(folder) == ('yolo', "a folder with 'images' and 'labels'")
    with pytest.raises(DataError, match='of no known format'):
        recognise_format(write('config.yaml', 'model: x'))


@given(st.dictionaries(st.text('aä .1', min_size=1, max_size=6), st.lists(st.integers(0, 4)), min_size=1, max_size=6))
def test_round_trip(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp('yolo')
    (folder / 'images').mkdir()
    (folder / 'labels').mkdir()
    (folder / 'data.yaml').write_text('train: images\nnames: [a, b, c, d, e]')
    for name, ids in images.items():
        (folder / f'images/_{name}_.jpg').write_text('')
        (folder / f'labels/_{name}_.txt').write_text('\n'.join(f'{number} {BOX}' for number in ids))
    assert dense(read_yolo(folder)) == {
        f'images/_{name}_.jpg': [int(number in ids) for number in range(5)] for name, ids in images.items()
    }


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
def test_real_data(test_data, split):
    folder = test_data / 'datasets/aquarium'
    with open(folder / 'labels.csv') as file:
        rows = list(csv.reader(file))
    annotations = read_annotations(folder, split=split)
    assert list(annotations.classes) == rows[0][2:]
    assert dense(annotations) == {row[0]: [int(cell) for cell in row[2:]] for row in rows if row[1] == split}
    assert all((folder / img_path).is_file() for img_path in annotations.img_paths)
