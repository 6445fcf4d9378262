"""What people's files look like when something went wrong: each is an error with file and place, or is read rightly.

Every row of a table is the content of a file and the whole message behind the file's path.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import files, read_annotations
from mlcls.errors import DataError

#: End of the message about an image with other labels than before.
AGAIN = 'with other labels; keep one of them, or write all its labels in one'

CLASSES = ['cat', 'dog', 'cow']
#: What a format cannot be read without.
OPTIONS: dict[str, dict[str, Any]] = {'text': {'classes': CLASSES}}

#: Words with which a place in the file begins.
PLACES = ('line', 'data_list entry', 'labels entry', 'task', 'metainfo', 'header')


def native(*entries: Any, classes: Any = CLASSES) -> str:
    return json.dumps({'metainfo': {'classes': classes}, 'data_list': list(entries)})


def entry(img_path: Any, *ids: Any, **others: Any) -> dict[str, Any]:
    return {'img_path': img_path, 'gt_label': list(ids), **others}


def task(image: Any, *choices: Any) -> dict[str, Any]:
    result = [{'type': 'choices', 'from_name': 'x', 'value': {'choices': list(choices)}}]
    return {'data': {'image': image}, 'annotations': [{'result': result}]}


def cvat(*images: str) -> str:
    labels = ''.join(f'<label><name>{name}</name></label>' for name in CLASSES)
    lines = '\n'.join(images)
    return f'<annotations><meta><labels>{labels}</labels></meta>\n{lines}\n</annotations>'


NATIVE = [
    (
        native(entry('a', 0, 3)),
        "data_list entry 0 (image 'a'): class id 3 of gt_label is out of range; 3 classes have the ids 0 to 2",
    ),
    (
        native(entry('a', 1, 2), entry('b', 3)),
        "data_list entry 1 (image 'b'): class id 3 of gt_label is out of range; 3 "
        'classes have the ids 0 to 2 (no id 0 came before it; do the ids run from 1 to 3? then subtract 1)',
    ),
    (
        native(entry('a', 0), entry('b', 3)),
        "data_list entry 1 (image 'b'): class id 3 of gt_label is out of range; 3 classes have the ids 0 to 2",
    ),
    (
        native(entry('a', 4)),
        "data_list entry 0 (image 'a'): class id 4 of gt_label is out of range; 3 classes have the ids 0 to 2",
    ),
    (
        native(entry('a', -1)),
        "data_list entry 0 (image 'a'): class id -1 of gt_label is out of range; 3 classes have the ids 0 to 2",
    ),
    (
        native(entry('a', 1, 0, 1)),
        "data_list entry 0 (image 'a'): gt_label looks multi-hot ([1, 0, 1]); write the ids of its classes, [0, 2]",
    ),
    (
        native(entry('a', 0, 1, 0, 1), entry('b', 0, 0, 0, 1)),
        'every label list has 4 entries of 0 or 1, which looks '
        'multi-hot for 4 classes, but there are 3 classes; write class ids',
    ),
    (native(entry('a', 0.5)), "data_list entry 0 (image 'a'): gt_label contains 0.5; class ids are whole numbers"),
    (
        native(entry('a', 1.0)),
        "data_list entry 0 (image 'a'): gt_label contains the fraction 1.0; write the whole number 1",
    ),
    (
        native(entry('a', 'dog')),
        "data_list entry 0 (image 'a'): gt_label contains the class name 'dog'; write its id, 1",
    ),
    (
        native(entry('a', '1')),
        "data_list entry 0 (image 'a'): gt_label contains the string '1'; write a whole number, 1",
    ),
    (native(entry('a', [1])), "data_list entry 0 (image 'a'): gt_label contains [1]; class ids are whole numbers"),
    (native(entry('a', None)), "data_list entry 0 (image 'a'): gt_label contains None; class ids are whole numbers"),
    (native(entry('a', True)), "data_list entry 0 (image 'a'): gt_label contains True; class ids are whole numbers"),
    (
        native(entry('a', float('nan'))),
        "data_list entry 0 (image 'a'): gt_label contains nan; class ids are whole numbers",
    ),
    (
        native(entry('a', float('-inf'))),
        "data_list entry 0 (image 'a'): gt_label contains -inf; class ids are whole numbers",
    ),
    (native(entry(float('nan'), 1)), 'data_list entry 0: the image path must be a string, got nan'),
    (native(entry('a\0.jpg', 1)), "data_list entry 0: the image path contains a NUL character, 'a\\x00.jpg'"),
    (
        native(entry('a', 1), entry('./a', 2)),
        "data_list entry 1 (image './a'): the image is also in data_list entry 0, " + AGAIN,
    ),
    (
        native(entry('a', 1, gt_unknown=[1])),
        "data_list entry 0 (image 'a'): class id 1 ('dog') is both present and unknown",
    ),
    (native(entry('a', 1), classes=['cat', float('nan')]), "metainfo: class 1 must be a string, got nan; write 'nan'"),
    (native(entry('a', 1), classes=['cat', 'cat']), "metainfo: class name 'cat' is given twice, as class 0 and 1"),
    (
        '{"data_list": [{"img_path": "a", "gt_label": [0], "gt_label": [1]}]}',
        "the key 'gt_label' is given twice in one object, {'img_path': 'a', 'gt_label': [1]}",
    ),
    ('{"data_list": [], "data_list": []}', "the key 'data_list' is given twice in one object, {'data_list': []}"),
    (native(entry('a', 0)).encode('utf-16'), 'is encoded as UTF-16; save it as UTF-8'),
    (native(entry('a', 0)).encode() + b'\0', 'line 1: contains a NUL byte; the file is damaged or no UTF-8 text'),
    (b'{"data_list":\n["\xe9"]}', 'line 2: byte 0xe9 is not UTF-8; save the file as UTF-8'),
]

TEXT = [
    (
        'a.jpg 0,3',
        "line 1 (image 'a.jpg'): class id 3 of the label list is out of range; 3 classes have the ids 0 to 2",
    ),
    (
        'a.jpg 1\nb.jpg 3',
        "line 2 (image 'b.jpg'): class id 3 of the label list is out of range; 3 classes have the ids 0 "
        'to 2 (no id 0 came before it; do the ids run from 1 to 3? then subtract 1)',
    ),
    (
        'a.jpg -1',
        "line 1 (image 'a.jpg'): class id -1 of the label list is out of range; 3 classes have the ids 0 to 2",
    ),
    (
        'a.jpg 1 0 1',
        "line 1 (image 'a.jpg'): the label list looks multi-hot ([1, 0, 1]); write the ids of its classes, [0, 2]",
    ),
    ('a.jpg 0.5', "line 1 (image 'a.jpg'): the label list contains 0.5; class ids are whole numbers"),
    ('a.jpg dog', "line 1 (image 'a.jpg'): the label list contains the class name 'dog'; write its id, 1"),
    ('a.jpg [0,1]', "line 1 (image 'a.jpg'): the label list contains the string '[0'; write a whole number"),
    ('a.jpg nan', "line 1 (image 'a.jpg'): the label list contains nan; class ids are whole numbers"),
    (
        'a.jpg 1\ra.jpg 2',
        "line 2 (image 'a.jpg'): the image is also in line 1, " + AGAIN,
    ),
    (
        'a.jpg 1\r\n\r\nb.jpg 9',
        "line 3 (image 'b.jpg'): class id 9 of the label list is out of range; 3 classes have the ids 0 to 2",
    ),
    ('a.jpg 1\nb.jpg 2'.encode('utf-16'), 'is encoded as UTF-16; save it as UTF-8'),
    ('a.jpg 1\nb.jpg 2'.encode('utf-16-be'), 'line 1: contains a NUL byte; the file is damaged or no UTF-8 text'),
    (b'a.jpg 1\n\0\0\0', 'line 2: contains a NUL byte; the file is damaged or no UTF-8 text'),
    (b'a.jpg 1\n\xe9.jpg 2', 'line 2: byte 0xe9 is not UTF-8; save the file as UTF-8'),
    ('a.jpg 1\n' + 'b' * 200 + ' 1', 'line 2: is longer than 150 bytes, so this is no file of one image a line'),
    ('\ufeff', 'is empty'),
]

CSV = [
    (
        'filename,cat,dog\na.jpg,2,0',
        "line 2 (image 'a.jpg'), column 'cat': '2' is not a label; write 1 (present), 0 "
        '(absent), or -1 or nothing (unknown)',
    ),
    (
        'filename,cat\na.jpg,0.5',
        "line 2 (image 'a.jpg'), column 'cat': '0.5' is not a label; write 1 (present), 0 "
        '(absent), or -1 or nothing (unknown)',
    ),
    (
        'filename,cat\na.jpg,NaN',
        "line 2 (image 'a.jpg'), column 'cat': 'NaN' is not a label; write 1 (present), 0 "
        '(absent), or -1 or nothing (unknown)',
    ),
    (
        'filename,cat\na.jpg,[1]',
        "line 2 (image 'a.jpg'), column 'cat': '[1]' is not a label; write 1 (present), 0 "
        '(absent), or -1 or nothing (unknown)',
    ),
    ('filename,cat,cat\na.jpg,1,0', "header: class name 'cat' is given twice, as class 0 and 1"),
    (
        'filename,filename,cat\na.jpg,a.jpg,1',
        "several columns look like the image path (filename, filename); say which with path_column='...'",
    ),
    (
        'filename,cat\ra.jpg,1\ra.jpg,0',
        "line 3 (image 'a.jpg'): the image is also in line 2, " + AGAIN,
    ),
    ('filename,cat\r\n\r\na.jpg', 'line 3: has 1 cells, the header has 2'),
    ('filename,cat\n"a.jpg,1\nb.jpg,1\n', 'line 3: not valid CSV: unexpected end of data'),
    (
        'filename,cat\n' + '"' + 'a\n' * 70_000 + '",1',
        'line 65538: not valid CSV: field larger than field limit (131072)',
    ),
    ('filename,cat\na.jpg,1\n'.encode('utf-16'), 'is encoded as UTF-16; save it as UTF-8'),
    (b'filename,cat\na.jpg,1\nb.jpg,\0', 'line 3: contains a NUL byte; the file is damaged or no UTF-8 text'),
    (b'filename,cat\n\xe9.jpg,1', 'line 2: byte 0xe9 is not UTF-8; save the file as UTF-8'),
    ('filename,cat\na.jpg,' + '1' * 200, 'line 2: is longer than 150 bytes, so this is no file of one image a line'),
    ('filename,cat\n', 'lists no images'),
]

LABEL_LIST = [
    (
        'filename,labels\na.jpg,0;1',
        'the labels are numbers; give the names of their classes: classes=[...] or '
        "classes='classes.txt' (one name a line)",
    ),
    (
        'filename,labels\na.jpg,1.0',
        'the labels are numbers; give the names of their classes: classes=[...] or '
        "classes='classes.txt' (one name a line)",
    ),
    (
        'filename,labels\na.jpg,"[[\'cat\']]"',
        "line 2 (image 'a.jpg'): \"[['cat']]\" is neither a JSON nor a Python list; "
        "names are quoted and separated by commas, as in ['cat', 'dog']",
    ),
    (
        'filename,labels\na.jpg,[NaN]',
        "line 2 (image 'a.jpg'): the label list contains nan; a label is the name of a class",
    ),
    (
        'filename,labels\na.jpg,cat\na.jpg,dog',
        "line 3 (image 'a.jpg'): the image is also in line 2, " + AGAIN,
    ),
    (
        'filename,labels\ra.jpg,cat\ra.jpg,dog',
        "line 3 (image 'a.jpg'): the image is also in line 2, " + AGAIN,
    ),
    (
        'filename,labels,labels\na.jpg,cat,dog',
        "several columns look like labels (labels, labels); say which with label_column='...'",
    ),
    ('filename,labels\na.jpg,cat,dog', 'line 2: has 3 cells, the header has 2; a list with commas is put in quotes'),
    ('filename,labels\n,cat', "line 2: the image path must be a string, got ''"),
    ('filename,labels\na.jpg,"cat', 'line 2: not valid CSV: unexpected end of data'),
    ('filename,labels\na.jpg,cat'.encode('utf-16'), 'is encoded as UTF-16; save it as UTF-8'),
    (b'filename,labels\na.jpg,ca\0t', 'line 2: contains a NUL byte; the file is damaged or no UTF-8 text'),
    (b'filename,labels\na.jpg,\xe9', 'line 2: byte 0xe9 is not UTF-8; save the file as UTF-8'),
    ('filename,labels\na.jpg,' + 'x' * 200, 'line 2: is longer than 150 bytes, so this is no file of one image a line'),
]


def fiftyone(labels: Any, classes: Any = CLASSES) -> str:
    return json.dumps({'classes': classes, 'labels': labels})


FIFTYONE = [
    (
        fiftyone({'a': [3]}),
        "labels entry 0 (image 'a'): class id 3 of the target is out of range; 3 classes have the ids "
        '0 to 2 (no id 0 came before it; do the ids run from 1 to 3? then subtract 1)',
    ),
    (
        fiftyone({'a': [1, 0, 1]}),
        "labels entry 0 (image 'a'): the target looks multi-hot ([1, 0, 1]); write the ids of its classes, [0, 2]",
    ),
    (
        fiftyone({'a': -1}),
        "labels entry 0 (image 'a'): class id -1 of the target is out of range; 3 classes have the ids 0 to 2",
    ),
    (fiftyone({'a': 0.5}), "labels entry 0 (image 'a'): the target contains 0.5; class ids are whole numbers"),
    (
        fiftyone({'a': [float('nan')]}),
        "labels entry 0 (image 'a'): the target contains nan; class ids are whole numbers",
    ),
    (fiftyone({'a': [[0]]}), "labels entry 0 (image 'a'): the target contains [0]; class ids are whole numbers"),
    (fiftyone({'a': ['dgo']}), "labels entry 0 (image 'a'): 'dgo' is none of the 3 classes; did you mean 'dog'?"),
    (
        fiftyone({'a': 'cat', './a': 'dog'}, None),
        "labels entry 1 (image 'data/./a.jpg'): the image is also in labels entry 0, " + AGAIN,
    ),
    ('{"labels": {"a": "cat", "a": "dog"}', "the key 'a' is given twice in one object, {'a': 'dog'}"),
    (fiftyone({'a': 'cat'}).encode('utf-16'), 'is encoded as UTF-16; save it as UTF-8'),
]

LABEL_STUDIO = [
    (json.dumps([task('a.jpg', 1)]), "task 0 (image 'a.jpg'): a label must be the name of a class, got 1"),
    (json.dumps([task('a.jpg', ['cat'])]), "task 0 (image 'a.jpg'): a label must be the name of a class, got ['cat']"),
    (json.dumps([task('a.jpg', float('nan'))]), "task 0 (image 'a.jpg'): a label must be the name of a class, got nan"),
    (
        json.dumps([task('a.jpg', 'cat'), task('a.jpg', 'dog')]),
        "task 1 (image 'a.jpg'): the image is also in task 0, " + AGAIN,
    ),
    (json.dumps([task(None, 'cat')]), "task 0: the image's address must be a string, got None"),
    ('[{"data": {}, "data": {}}]', "the key 'data' is given twice in one object, {'data': {}}"),
    ('[{"data": {}}', "1:14: not valid JSON: Expecting ',' delimiter"),
    (json.dumps([task('a.jpg', 'cat')]).encode('utf-16'), 'is encoded as UTF-16; save it as UTF-8'),
]

CVAT = [
    (
        cvat('<image name="a"><tag label="dgo"/></image>'),
        "line 2 (image 'a'): 'dgo' is none of the 3 classes; did you mean 'dog'?",
    ),
    (
        cvat('<image name="a"/>', '<image name="a"><tag label="cat"/></image>'),
        "line 3 (image 'a'): the image is also in line 2, " + AGAIN,
    ),
    (cvat('<image name="a"><tag label="cat"></image>'), '2:36: not valid XML: mismatched tag'),
    (cvat('<image name="a" name="b"/>'), '2:17: not valid XML: duplicate attribute'),
    (cvat('<image name="a\0"/>'), '2:15: not valid XML: not well-formed (invalid token)'),
    ('<!DOCTYPE a>' + cvat(), 'line 1: has a <!DOCTYPE>, which no CVAT export has; such files are not read'),
    (b'', '1:1: not valid XML: no element found'),
]

TABLE = [
    *(('native', 'a.json', *row) for row in NATIVE),
    *(('text', 'a.txt', *row) for row in TEXT),
    *(('csv', 'a.csv', *row) for row in CSV),
    *(('label_list', 'a.csv', *row) for row in LABEL_LIST),
    *(('fiftyone', 'labels.json', *row) for row in FIFTYONE),
    *(('label_studio', 'a.json', *row) for row in LABEL_STUDIO),
    *(('cvat', 'a.xml', *row) for row in CVAT),
]


@pytest.mark.parametrize('format, name, content, message', TABLE)
def test_the_message(write, monkeypatch, format, name, content, message):
    monkeypatch.setattr(files, 'MAX_LINE', 150)
    write('data/a.jpg', '')
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_annotations(path, format, **OPTIONS.get(format, {}))
    place = ':' if message[0].isdigit() else ', ' if message.startswith(PLACES) else ': '
    assert str(caught.value) == f'{path}{place}{message}'


MARKS = pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'], ids=['plain', 'bom'])
ENDS = pytest.mark.parametrize('end', ['\n', '\r\n', '\r'], ids=['lf', 'crlf', 'cr'])
PATHS = ['my photos/näh — 日本.jpg', 'a b.jpg', 'x\\y.jpg', 'C:\\data\\a.jpg', '../up.jpg', "it's.jpg", '#1 100%.jpg']


@MARKS
@ENDS
@pytest.mark.parametrize('format', ['native', 'text', 'csv', 'label_list', 'label_studio'])
def test_marks_line_ends_and_names_that_are_fine(write, mark, end, format):
    """Byte order mark, any line end, spaces, non-ASCII letters and backslashes change nothing; paths stay."""
    lines = {
        'native': [native(*(entry(path, 1) for path in PATHS)), ''],
        'text': [*(f'{path} 1' for path in PATHS), ''],
        'csv': ['filename,cat,dog,cow', *(f'{path},0,1,0' for path in PATHS)],
        'label_list': ['filename,labels', *(f'{path},dog' for path in PATHS)],
        'label_studio': [json.dumps([task(path, 'dog') for path in PATHS], indent=1).replace('\n', end), ''],
    }[format]
    path = write('a.x', mark + end.join(lines).encode())
    read = read_annotations(path, format, classes=CLASSES)
    assert list(read.img_paths) == PATHS
    assert read.labels.dense().tolist() == [[0, 1, 0]] * len(PATHS)


def test_folders(write, tmp_path):
    write('top/cat/a.txt', '')
    formats = ', '.join(['jpg', 'jpeg', 'png', 'bmp', 'webp', 'tif', 'tiff', 'gif', 'ppm', 'pgm', 'jfif', 'jp2'])
    rows = [
        ('top', f'top: no class folder holds an image ({formats})'),
        ('top/cat', 'top/cat: has no folders, which would be the classes'),
        ('top/cat/a.txt', 'top/cat/a.txt: is a file, not a folder'),
        ('none', 'none: no such folder'),
    ]
    for name, message in rows:
        with pytest.raises(DataError) as caught:
            read_annotations(tmp_path / name, 'folders')
        assert str(caught.value) == f'{tmp_path}/{message}'
    write('top/train/cat/a.jpg', '')
    with pytest.raises(DataError) as caught:
        read_annotations(tmp_path / 'top', 'folders')
    assert str(caught.value) == (
        f"{tmp_path}/top/train: has folders of its own ('cat', ...), but a class folder holds images only; if they are "
        "splits, say which one with split='train'"
    )


def test_backslashes_are_named_where_images_are_missing(write):
    from mlcls.datasets import MultiLabelDataset

    write('images/a.jpg', '')
    path = write('a.json', native(entry('images\\a.jpg', 0)))
    with pytest.raises(DataError, match=r'images do not exist: .*\(the paths contain backslashes; write /\)'):
        MultiLabelDataset(ann_file=str(path))


VALID = {
    'native': native(entry('a', 0, 2), entry('b é', gt_unknown=[1])),
    'text': 'a.jpg 0,2\nb é.jpg\t1\nc.jpg\n',
    'csv': 'filename,split,cat,dog\na.jpg,x,1,0\n"b é.jpg",x,,-1\n',
    'label_list': "filename,labels\na.jpg,\"['cat', 'dog']\"\nb é.jpg,cat;dog\nc.jpg,\n",
    'fiftyone': fiftyone({'a': [0, 2], 'b é': [], 'c': None, 'd': {'label': 1}}),
    'label_studio': json.dumps([task('a.jpg', 'cat', 'dog'), task('/data/local-files/?d=b'), task('c', 'dog')]),
    'cvat': cvat('<image name="a.jpg"><tag label="cat"/></image>', '<image name="b&#233;"><box label="dog"/></image>'),
}
PARTS = [
    b'',
    b'\0',
    b'\r',
    b'\n',
    b'"',
    b"'",
    b'[',
    b']',
    b'{',
    b'}',
    b',',
    b':',
    b';',
    b'<',
    b'&',
    b'/',
    b'-1',
    b'9',
    b'.5',
]
PARTS += [b'null', b'NaN', b'\xff', b'\\', b'\\u0000', b'\\ud800', b'image', b'labels', b'://', b' ']


@pytest.mark.parametrize('format', VALID)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_damage_is_never_an_internal_error(write, format, data):
    """Bytes replaced, removed and put in anywhere: the file is read, or refused with a message that names it."""
    content = VALID[format].encode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = min(len(content), start + data.draw(st.integers(0, 8)))
        content = content[:start] + data.draw(st.sampled_from(PARTS)) + content[stop:]
    write('data/a.jpg', '')
    path = write('labels.json' if format == 'fiftyone' else 'a.x', content)
    try:
        read = read_annotations(path, format, **OPTIONS.get(format, {}))
    except DataError as error:
        assert str(error).startswith(str(path)) or str(error).startswith('classes: ')
    else:
        assert len(read) == len(read.labels) > 0
        assert set(read.labels.dense().ravel()) <= {1, 0, -1}
