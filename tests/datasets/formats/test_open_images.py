"""The Open Images format."""

from __future__ import annotations

import pickle
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets import MultiLabelDataset
from mlcls.datasets.class_balanced import repeat_factors
from mlcls.datasets.formats import read_annotations
from mlcls.datasets.formats.classes import order_classes
from mlcls.datasets.formats.open_images import read_open_images
from mlcls.errors import DataError
from mlcls.structures import LabelMatrix, LabelStatistics

HEADER = 'ImageID,Source,LabelName,Confidence\n'
ROWS = HEADER + (
    'a1,verification,/m/dog,1\n'
    'a1,verification,/m/cat,0\n'
    'b2,verification,/m/cat,0\n'
    'a1,crowdsource-verification,/m/head,1\n'
    'c3,verification,/m/head,1.0\n'
)
NAMES = '/m/head,Head\n/m/dog,Dog\n"/m/cat","Cat, small"\n/m/x,Dog\n'


@pytest.fixture
def path(write):
    write('names.csv', NAMES)
    return write('labels.csv', ROWS)


def test_classes_without_a_row_are_unknown(path):
    annotations = read_annotations(path)
    assert annotations.classes == ('/m/cat', '/m/dog', '/m/head')
    assert list(annotations.img_paths) == ['a1.jpg', 'b2.jpg', 'c3.jpg']
    assert annotations.labels.dense().tolist() == [[0, 1, 1], [0, -1, -1], [-1, -1, 1]]
    assert annotations.notes == (f'{path}: 1 of 3 images without a present label',)
    assert annotations.source == 'open_images: the columns ImageID, LabelName, Confidence'


def test_everything_that_reads_labels_works_with_unknown_as_default(path):
    annotations = read_annotations(path)
    labels = annotations.labels
    assert labels.default == -1 and len(labels.values) == 5  # nothing but what the file says is stored
    dense = labels.dense()
    for row in range(3):
        assert labels.row(row).tolist() == dense[row].tolist()
        assert labels.present(row).tolist() == np.flatnonzero(dense[row] == 1).tolist()
    for value in (1, 0, -1):
        assert labels.counts(value).tolist() == (dense == value).sum(0).tolist()
    assert labels.select(np.array([2, 0, 0])).dense().tolist() == dense[[2, 0, 0]].tolist()
    other = order_classes(annotations, ['/m/head', '/m/cat', '/m/dog'], '')
    assert other.labels.dense().tolist() == dense[:, [2, 0, 1]].tolist() and other.labels.default == -1
    assert annotations.select(np.array([2, 1])).labels.dense().tolist() == dense[[2, 1]].tolist()
    copy = pickle.loads(pickle.dumps(labels))
    assert copy.dense().tolist() == dense.tolist() and copy.counts().tolist() == [0, 1, 2]
    plain = LabelMatrix.from_dense(dense)
    assert repeat_factors(labels, 0.9).tolist() == repeat_factors(plain, 0.9).tolist()
    draws = np.array([1.0, 2.0, 0.5])
    for name in ('positives', 'negatives', 'prevalence', 'labels_per_image'):
        for change in (lambda statistics: statistics, LabelStatistics.with_unknown_as_absent):
            one, two = (getattr(change(LabelStatistics(each, draws)), name) for each in (labels, plain))
            assert np.allclose(one, two)


def test_a_dataset_of_them(path, tmp_path):
    data = MultiLabelDataset('labels.csv', data_root=str(tmp_path), missing='later')
    assert data.get_data_info(1) == {
        'img_path': f'{tmp_path}/b2.jpg',
        'gt_label': [],
        'gt_unknown': [1, 2],
        'sample_idx': 1,
    }
    assert data.get_cat_ids(0) == [1, 2]
    assert '3 images, 3 classes, 1.00 labels per image' in data.summary()
    assert '44.4% of the labels unknown' in data.summary()


def test_names_and_order_of_classes(path):
    annotations = read_annotations(path, class_descriptions='names.csv')
    assert annotations.classes == ('Head', 'Dog (/m/dog)', 'Cat, small', 'Dog (/m/x)')
    assert annotations.labels.dense().tolist() == [[1, 1, 0, -1], [-1, -1, 0, -1], [1, -1, -1, -1]]
    wanted = ['/m/cat', 'Head']
    annotations = read_annotations(path, class_descriptions='names.csv', classes=wanted)
    assert annotations.classes == ('/m/cat', 'Head')
    assert annotations.labels.dense().tolist() == [[0, 1], [0, -1], [-1, 1]]
    assert annotations.notes[0] == f'{path}: 1 rows of classes that were not asked for are left out'
    # An image of which nothing is known is left out; classes without any row may be asked for.
    annotations = read_annotations(path, classes=['/m/dog', '/m/zzz'])
    assert list(annotations.img_paths) == ['a1.jpg'] and annotations.labels.dense().tolist() == [[1, -1]]


def test_headers_of_descriptions_and_extension(path, write):
    names = write('else/names.csv', '\ufeffLabelName,DisplayName\r\n' + NAMES.replace('\n', '\r\n'))
    annotations = read_annotations(path, class_descriptions=names, extension='.png')
    assert annotations.classes[0] == 'Head' and annotations.img_paths[0] == 'a1.png'


def test_other_columns_orders_marks_and_boxes(write):
    text = '\ufeffLabelName,XMin,Confidence,ImageID\r\n/m/ü,0.1,1,a b\r\n\r\n/m/ü,0.5,1,a b\r\n/m/x,0.5,1,"q"\r\n'
    path = write('a.csv', text)
    annotations = read_annotations(path)
    assert annotations.classes == ('/m/x', '/m/ü')
    assert dict(zip(annotations.img_paths, annotations.labels.dense().tolist())) == {
        'a b.jpg': [-1, 1],
        'q.jpg': [1, -1],
    }
    assert annotations.notes == (f'{path}: 1 rows repeat the image and class of another; each counts once',)


def test_threshold(write):
    path = write('a.csv', HEADER + 'a,machine,/m/x,0.7\na,machine,/m/y,0.69\nb,machine,/m/x,0.1\nc,v,/m/x,0\n')
    annotations = read_open_images(path, threshold=0.7)
    assert annotations.classes == ('/m/x', '/m/y')
    assert list(annotations.img_paths) == ['a.jpg', 'c.jpg']
    assert annotations.labels.dense().tolist() == [[1, -1], [0, -1]]
    assert annotations.notes[0] == f'{path}: 2 rows below threshold=0.7 are taken as unknown'


@pytest.mark.parametrize('conflicts, label', [('present', 1), ('absent', 0), ('unknown', -1)])
def test_conflicts(write, conflicts, label):
    path = write('a.csv', HEADER + 'a,v,/m/x,1\nb,v,/m/x,1\na,v,/m/y,1\n\na,c,/m/x,0\na,c,/m/x,0\n')
    with pytest.raises(
        DataError,
        match=r"a.csv: class '/m/x' of image 'a' is present by line 2 and absent by line 6; correct one, or say which",
    ):
        read_open_images(path)
    dense = read_open_images(path, conflicts=conflicts).labels.dense().tolist()
    assert dense == [[label, 1], [1, -1]]


def test_conflict_with_a_class_that_is_not_the_first(write):
    path = write('a.csv', HEADER + 'a,v,/m/z,1\nb,v,/m/y,0\nb,v,/m/x,0\nb,c,/m/y,1.0\n')
    for classes in (None, ['/m/x', '/m/y', '/m/z']):
        with pytest.raises(DataError, match=r"class '/m/y' of image 'b' is present by line 5 and absent by line 3"):
            read_open_images(path, classes)


@pytest.mark.parametrize(
    'text, message',
    [
        (
            HEADER + 'a,v,/m/x,1\na,v,/m/y,0.5\n',
            "a.csv, line 3 (image 'a'): Confidence is 0.5, as machines give it, ne",
        ),
        (HEADER + 'a,v,/m/x,-1', "a.csv, line 2 (image 'a'): Confidence must lie in 0 to 1, got -1"),
        (HEADER + 'a,v,/m/x,2', 'Confidence must lie in 0 to 1, got 2'),
        (HEADER + 'a,v,/m/x,nan', 'Confidence must lie in 0 to 1, got nan'),
        (HEADER + 'a,v,/m/x,', "Confidence must be a number from 0 to 1, got ''"),
        (HEADER + 'a,v,/m/x,yes', "Confidence must be a number from 0 to 1, got 'yes'"),
        (HEADER + 'a,v,/m/x', 'a.csv, line 2: has 3 cells, the header has 4'),
        (HEADER + 'a,v,/m/x,1,1', 'a.csv, line 2: has 5 cells, the header has 4'),
        (HEADER + ',v,/m/x,1', 'a.csv, line 2: ImageID is empty'),
        (HEADER + 'a,v,,1', "a.csv, line 2 (image 'a'): LabelName is empty"),
        (HEADER + 'a,v,"/m/x,1', 'a.csv, line 2: not valid CSV: unexpected end of data'),
        (HEADER, 'a.csv: has no row with a label of the classes asked for'),
        ('ImageID,LabelName,LabelName,Confidence\na,b,c,1', "a.csv: 2 columns are called 'LabelName'"),
        ('ImageID,ImageID,LabelName,Confidence\na,b,c,1', "a.csv: 2 columns are called 'ImageID'"),
        ('ImageID,Label,Confidence\na,b,1', "a.csv: has no column 'LabelName'; did you mean 'Label'?"),
        ('', 'a.csv: is empty'),
        (HEADER.encode() + b'a,v,/m/\xff,1', 'a.csv, line 2: byte 0xff is not UTF-8'),
        (HEADER.encode('utf-16'), 'a.csv: is encoded as UTF-16'),
    ],
)
def test_files_that_cannot_be_used(write, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_open_images(write('a.csv', text))


@pytest.mark.parametrize(
    'names, message',
    [
        ('/m/head,Head\n/m/dog,Dog\n', "labels.csv, line 3 (image 'a1'): the class id '/m/cat' is not in class_desc"),
        ('/m/head,Head\n/m/head,Dog\n', "names.csv, line 2: the class id '/m/head' is given twice"),
        ('/m/head,Head,x\n', 'names.csv, line 1: must be a class id and its name (/m/04hgtk,Head), got '),
        ('/m/head\n', "names.csv, line 1: must be a class id and its name (/m/04hgtk,Head), got ['/m/head']"),
        ('/m/head,"Head\n', 'names.csv, line 1: not valid CSV'),
        ('/m/head,\n', 'names.csv: the name of class 0 is empty'),
        ('', 'names.csv: is empty'),
        ('LabelName,DisplayName\n', 'names.csv: no class names'),
    ],
)
def test_descriptions_that_cannot_be_used(path, write, names, message):
    write('names.csv', names)
    with pytest.raises(DataError, match=re.escape(message)):
        read_open_images(path, class_descriptions='names.csv')


def test_options_that_cannot_be_used(path):
    for options, message in (
        ({'threshold': 0}, r'labels.csv: threshold must be a confidence in \(0, 1\], got 0'),
        ({'threshold': 50}, 'got 50'),
        ({'threshold': float('nan')}, 'got nan'),
        ({'conflicts': 'unknwon'}, r"unknown conflicts='unknwon'; did you mean 'unknown'\?"),
        ({'class_descriptions': 'nowhere.csv'}, 'nowhere.csv: no such file'),
        (
            {'classes': ['Head']},
            "class 'Head' is none of Open Images'.*without class_descriptions=..., classes are giv",
        ),
        ({'classes': ['Haed'], 'class_descriptions': 'names.csv'}, r"'Haed' is none of .*; did you mean 'Head'\?"),
        ({'classes': ['Head', '/m/head'], 'class_descriptions': 'names.csv'}, "class '/m/head' is asked for twice, by"),
        ({'classes': ['/m/zzz']}, 'has no row with a label of the classes asked for'),
    ):
        with pytest.raises(DataError, match=message):
            read_open_images(path, **options)


@given(
    st.lists(
        st.tuples(st.sampled_from(['a', 'b', 'c', 'dd']), st.sampled_from(['/m/x', '/m/y', '/m/z']), st.booleans()),
        min_size=1,
    ),
    st.sampled_from(['present', 'absent', 'unknown']),
)
def test_equals_a_dict_filled_by_hand(tmp_path_factory, rows, conflicts):
    path = tmp_path_factory.mktemp('open_images') / 'a.csv'
    path.write_text(HEADER + ''.join(f'{image},v,{label},{int(present)}\n' for image, label, present in rows))
    said: dict[tuple[str, str], set[int]] = {}
    for image, label, present in rows:
        said.setdefault((image, label), set()).add(int(present))
    both = {'present': 1, 'absent': 0, 'unknown': -1}[conflicts]
    annotations = read_open_images(path, conflicts=conflicts)
    assert annotations.classes == tuple(sorted({label for _, label, _ in rows}))
    assert list(annotations.img_paths) == [f'{image}.jpg' for image in dict.fromkeys(image for image, _, _ in rows)]
    for image, row in zip(annotations.img_paths, annotations.labels.dense().tolist()):
        for label, value in zip(annotations.classes, row):
            found = said.get((image[:-4], label), {-1})
            assert value == (both if len(found) == 2 else min(found))


def test_memory_is_a_few_bytes_a_row(tmp_path):
    path, rows = tmp_path / 'a.csv', 60000
    with open(path, 'w') as file:
        file.write(HEADER)
        file.writelines(f'{row // 12:016x},verification,/m/{row % 12:07d},{row % 2}\n' for row in range(rows))
    tracemalloc.start()
    annotations = read_open_images(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(annotations) == rows // 12 and len(annotations.labels.values) == rows
    assert peak < 80 * rows  # one small tuple alone takes as much
