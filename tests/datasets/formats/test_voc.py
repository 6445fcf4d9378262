"""The Pascal VOC format."""

from __future__ import annotations

import csv
import re

import pytest

from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.voc import read_voc
from mlcls.errors import DataError


def xml(*objects, head=''):
    """An XML file; an object is a name, or a name and what difficult says."""
    lines = []
    for each in objects:
        name, difficult = each if isinstance(each, tuple) else (each, '0')
        lines.append(f'<object>\n <name>{name}</name><difficult>{difficult}</difficult>\n</object>')
    return head + '<annotation><filename>wrong.jpg</filename>\n' + '\n'.join(lines) + '\n</annotation>'


@pytest.fixture
def voc(write, tmp_path):
    """Two images in train, one in val, one in neither; lists of a class as VOC has them."""
    for name, text in {
        'Annotations/a.xml': xml('dog', 'cat', 'dog'),
        'Annotations/b 1.xml': xml(('cat', '1'), ('dog', '1'), 'dog'),
        'Annotations/ü.xml': xml(('zebra', '1')),
        'Annotations/d.xml': xml('aardvark', head='<?xml version="1.0" encoding="utf-8"?>'),
        'ImageSets/Main/train.txt': '\ufeffa\r\n\r\nb 1\r\n',
        'ImageSets/Main/val.txt': 'ü\n',
        'ImageSets/Main/cat_train.txt': 'a  1\nb 1 0\n',
        'ImageSets/Main/dog_val.txt': 'ü -1\n',
        'JPEGImages/a.jpg': '',
        'JPEGImages/b 1.PNG': '',
        'JPEGImages/d.png': '',
        'JPEGImages/d.jpg': '',
        'JPEGImages/a.txt': '',
    }.items():
        write(f'voc/{name}', text)
    return tmp_path / 'voc'


def test_reads_a_split(voc):
    annotations = read_annotations(voc, split='train')
    # Classes are those of all files, so that every split has the same.
    assert annotations.classes == ('aardvark', 'cat', 'dog', 'zebra')
    assert list(annotations.img_paths) == ['JPEGImages/a.jpg', 'JPEGImages/b 1.PNG']
    assert annotations.labels.dense().tolist() == [[0, 1, 1, 0], [0, -1, 1, 0]]
    assert annotations.source == "voc: a folder with 'Annotations' and 'JPEGImages'"
    assert annotations.notes == ()


@pytest.mark.parametrize('difficult, label', [('ignore', -1), ('positive', 1), ('negative', 0)])
def test_difficult_objects(voc, difficult, label):
    labels = {}
    for split in ('train', 'val'):
        annotations = read_voc(voc, split=split, difficult=difficult)
        labels.update(zip(annotations.img_paths, annotations.labels.dense().tolist()))
    assert labels['JPEGImages/b 1.PNG'] == [0, label, 1, 0]  # of two dogs one is plain
    assert labels['JPEGImages/ü.jpg'] == [0, 0, 0, label]


def test_splits(voc, write):
    with pytest.raises(DataError, match=r"voc: has the splits 'train', 'val'; say which one with split='...'"):
        read_voc(voc)
    with pytest.raises(
        DataError, match=r"Main/trian.txt: no such list, so there is no split 'trian'; did you mean 'tr"
    ):
        read_voc(voc, split='trian')
    with pytest.raises(
        DataError, match=r'cat_train.txt, line 1: image .a  1. has no file .*list of one class, which is'
    ):
        read_voc(voc, split='cat_train')
    assert list(read_voc(voc, split='ImageSets/Main/val.txt').img_paths) == ['JPEGImages/ü.jpg']
    own = write('own.txt', 'd\na\n')
    assert list(read_voc(voc, split=str(own)).img_paths) == ['JPEGImages/d.jpg', 'JPEGImages/a.jpg']
    with pytest.raises(DataError, match='other.txt: no such list'):
        read_voc(voc, split='other.txt')


def test_one_list_is_taken_and_without_lists_all_files(voc):
    (voc / 'ImageSets/Main/train.txt').unlink()
    (voc / 'ImageSets/Main/cat_train.txt').unlink()
    assert list(read_voc(voc).img_paths) == ['JPEGImages/ü.jpg']
    for file in (voc / 'ImageSets/Main').iterdir():
        file.unlink()
    assert [path[11:] for path in read_voc(voc).img_paths] == ['a.jpg', 'b 1.PNG', 'd.jpg', 'ü.jpg']


def test_list_with_an_underscore_is_a_split_if_it_has_no_labels(voc, write):
    write('voc/ImageSets/Main/small_train.txt', 'a\n')
    with pytest.raises(DataError, match="has the splits 'small_train', 'train', 'val'"):
        read_voc(voc)


def test_given_classes(voc):
    annotations = read_annotations(voc, classes=['dog', 'cat', 'unicorn'], split='train')
    assert annotations.classes == ('dog', 'cat', 'unicorn')
    assert annotations.labels.dense().tolist() == [[1, 1, 0], [1, -1, 0]]
    with pytest.raises(
        DataError, match=r"Annotations/ü.xml, line 2: 'zebra' is none of the 2 classes; choose from cat"
    ):
        read_voc(voc, ['dog', 'cat'], split='val')
    with pytest.raises(DataError, match=r"a.xml, line 5: 'cat' is none of the 2 classes; did you mean 'cats'\?"):
        read_voc(voc, ['dog', 'cats'], split='train')


def test_parts_of_an_object_are_no_objects(write, tmp_path):
    text = '<annotation><object><part><name>head</name></part><name>person</name></object></annotation>'
    write('Annotations/a.xml', text)
    write('JPEGImages/a.jpg', '')
    assert read_voc(tmp_path).classes == ('person',)


def test_other_folders_and_encodings(write, tmp_path):
    write('xml/a.xml', '<?xml version="1.0" encoding="latin-1"?><annotation/>'.encode('latin-1'))
    write('xml/b.xml', xml('käse', head='<?xml version="1.0" encoding="latin-1"?>').encode('latin-1'))
    annotations = read_voc(tmp_path, img_dir='photos', ann_dir='xml')
    assert annotations.classes == ('käse',)
    assert dict(zip(annotations.img_paths, annotations.labels.dense().tolist())) == {
        'photos/a.jpg': [0],
        'photos/b.jpg': [1],
    }


BOMB = '<!DOCTYPE a [<!ENTITY x "ha">\n<!ENTITY y "&x;&x;">]>\n<annotation>&y;</annotation>'


@pytest.mark.parametrize(
    'text, message',
    [
        (xml('cat')[:-5], 'a.xml:5:1: not valid XML: unclosed token'),
        (xml('a<b'), 'a.xml:3:11: not valid XML: not well-formed'),
        ('', 'a.xml:1:1: not valid XML: no element found'),
        ('{}', 'a.xml:1:1: not valid XML: not well-formed (invalid token)'),
        (BOMB, "a.xml, line 1: declares the entity 'x'; annotation files with entities are not read"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation/>', "line 1: declares the entity 'x'"),
        ('<!DOCTYPE a [<!ENTITY % x SYSTEM "http://x.y/">]><annotation/>', "line 1: declares the entity 'x'"),
        ('<annotation>&x;</annotation>', 'a.xml:1:13: not valid XML: undefined entity'),
        ('<html/>', 'a.xml: the outermost element of a VOC file is <annotation>, found <html>'),
        (xml('cat', ''), 'a.xml, line 5: an <object> without a <name>'),
        ('<annotation>\n<object/></annotation>', 'a.xml, line 2: an <object> without a <name>'),
        (xml(('cat', 'yes')), "a.xml, line 2: <difficult> of 'cat' must be 0 or 1, got 'yes'"),
        (xml(('cat', '-1')), "<difficult> of 'cat' must be 0 or 1, got '-1'"),
        (
            '<?xml version="1.0" encoding="klingon"?><annotation/>',
            'a.xml: cannot be decoded (unknown encoding: klingon); save it as UTF-8',
        ),
        ('<?xml version="1.0" encoding="gbk"?><annotation/>', 'a.xml: cannot be decoded (multi-byte encodings are not'),
        (b'<annotation>\n\xff</annotation>', 'a.xml:2:1: not valid XML: not well-formed'),
    ],
)
def test_xml_that_cannot_be_used(write, tmp_path, text, message):
    write('JPEGImages/a.jpg', '')
    write('Annotations/a.xml', text)
    for classes in (None, ['cat']):
        with pytest.raises(DataError, match=re.escape(message)):
            read_voc(tmp_path, classes)


@pytest.mark.parametrize(
    'line, message',
    [
        ('x' * 300, r"train.txt, line 2: image 'xxx.*' has no file "),
        ('x', r"train.txt, line 2: image 'x' has no file 'x.xml' in .*Annotations$"),
        ('a.jpg', r"line 2: image 'a.jpg' has no file 'a.jpg.xml' in .*Annotations; write it without the extension"),
        ('a 1', r"line 2: image 'a 1' has no file .*; this looks like the list of one class, which is no split"),
    ],
)
def test_lists_that_cannot_be_used(voc, write, line, message):
    write('voc/ImageSets/Main/train.txt', f'a\n{line}\n')
    with pytest.raises(DataError, match=message):
        read_voc(voc, split='train')


def test_repeated_images_count_once(voc, write):
    path = write('voc/ImageSets/Main/train.txt', 'a\na\n')
    assert read_voc(voc, split='train').notes == (f'{path}: dropped 1 row that repeated an image with the same labels',)


def test_other_errors(voc, tmp_path):
    with pytest.raises(DataError, match=r"voc: unknown difficult='postive'; did you mean 'positive'\?"):
        read_voc(voc, difficult='postive')
    with pytest.raises(DataError, match="has no folder 'Annotations' of XML files; give the folder that contains it"):
        read_voc(tmp_path)
    with pytest.raises(DataError, match="annotation format 'voc' has no option 'splitt'; did you mean 'split'"):
        read_annotations(voc, splitt='train')
    for file in (voc / 'Annotations').iterdir():
        file.write_text('<annotation/>')
    with pytest.raises(DataError, match='no XML file names an object, so there are no classes; give classes='):
        read_voc(voc, split='train')


def test_recognised(voc, tmp_path):
    assert recognise_format(voc) == ('voc', "a folder with 'Annotations' and 'JPEGImages'")
    with pytest.raises(DataError, match='this folder is of no known format'):
        recognise_format(tmp_path)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_real_data(test_data, split):
    folder = test_data / 'datasets/bccd'
    with open(folder / 'labels.csv') as file:
        rows = list(csv.reader(file))
    annotations = read_annotations(folder, split=split)
    assert list(annotations.classes) == rows[0][2:]
    assert dict(zip(annotations.img_paths, annotations.labels.dense().tolist())) == {
        row[0]: [int(cell) for cell in row[2:]] for row in rows if row[1] == split
    }
    assert all((folder / img_path).is_file() for img_path in annotations.img_paths)
