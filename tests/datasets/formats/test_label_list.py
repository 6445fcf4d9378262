"""CSV files with a column of label lists."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.label_list import read_label_list
from mlcls.errors import DataError


def found(annotations):
    """Sets of names, by image."""
    names = annotations.classes
    labels = annotations.labels
    return {path: {names[number] for number in labels.present(row)} for row, path in enumerate(annotations.img_paths)}


@pytest.mark.parametrize(
    'cell',
    [
        'cat;dog',
        'cat|dog',
        'cat ; dog',
        '"cat,dog"',
        '"cat, dog"',
        '"[""cat"", ""dog""]"',
        "\"['cat', 'dog']\"",
        '"[\'cat\', ""dog"", ]"',
        'dog;cat;',
        'cat;;dog',
        '"cat;\ndog"',
    ],
)
def test_ways_to_write_a_list(write, cell):
    path = write('a.csv', f'filename,labels\na.jpg,{cell}\nb.jpg,\nc.jpg,dog\n')
    assert found(read_label_list(path)) == {'a.jpg': {'cat', 'dog'}, 'b.jpg': set(), 'c.jpg': {'dog'}}
    assert recognise_format(path) == ('label_list', "a CSV file with a column 'labels' of labels")


def test_an_empty_cell_is_all_absent_and_classes_are_sorted(write):
    path = write('a.csv', 'filename,labels\na.jpg,zebra\nb.jpg,\nc.jpg,ant;zebra\nd.jpg,[]\n')
    annotations = read_label_list(path)
    assert annotations.classes == ('ant', 'zebra')
    assert annotations.labels.dense().tolist() == [[0, 1], [0, 0], [1, 1], [0, 0]]
    assert annotations.notes == (f'{path}: 2 images of 4 without a present label',)


def test_one_label_an_image_needs_no_separator(write):
    path = write('a.csv', 'filename,label\na.jpg,hot dog\nb.jpg,cat\nc.jpg,cat\n')
    annotations = read_label_list(path)
    assert annotations.classes == ('cat', 'hot dog') and annotations.notes == ()


@pytest.mark.parametrize('name', ['N/A', 'None', 'nan', 'NULL', 'True', 'null', 'NaN', '-', 'no', '1st'])
def test_no_name_has_a_special_meaning(write, name):
    rows = [['filename', 'labels'], ['a.jpg', name], ['b.jpg', f'cat;{name}'], ['c.jpg', json.dumps([name, 'cat'])]]
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    path = write('a.csv', buffer.getvalue())
    expected = {'a.jpg': {name}, 'b.jpg': {'cat', name}, 'c.jpg': {'cat', name}}
    assert found(read_label_list(path)) == expected
    assert found(read_label_list(path, classes=['cat', name])) == expected
    assert found(read_annotations(path)) == expected


def test_separator_rule(write):
    assert found(read_label_list(write('a.csv', 'file,tags\na.jpg,"a, b;c"\n'))) == {'a.jpg': {'a, b', 'c'}}
    both = write('b.csv', 'file,tags\na.jpg,a;b\nb.jpg,\nc.jpg,c|d\n')
    message = "labels are separated by '|' (line 4) and ';' (line 2); say which one separates them with separator="
    with pytest.raises(DataError, match=re.escape(message)):
        read_label_list(both)
    assert found(read_label_list(both, separator=';')) == {'a.jpg': {'a', 'b'}, 'b.jpg': set(), 'c.jpg': {'c|d'}}
    spaces = write('c.csv', 'image_name,tags\na.jpg,haze primary\nb.jpg,haze  water\nc.jpg,primary water\nd.jpg,haze\n')
    assert found(read_label_list(spaces, separator=' '))['b.jpg'] == {'haze', 'water'}
    assert read_label_list(spaces).notes == (
        f"{spaces}: labels such as 'haze  water' are taken as one name each; if the words are labels of their own, "
        "give separator=' '",
    )
    comma = write('d.csv', 'file,tags\na.jpg,"Crossbow, arbalest"\n')
    assert found(read_label_list(comma, separator='')) == {'a.jpg': {'Crossbow, arbalest'}}
    assert found(read_label_list(comma, classes=['Crossbow, arbalest'])) == {'a.jpg': {'Crossbow, arbalest'}}
    assert found(read_label_list(write('e.csv', 'file,tags\na.jpg,a / b\n'), separator='/')) == {'a.jpg': {'a', 'b'}}


def test_ids_only_where_names_are_given(write):
    path = write('a.csv', 'filename,labels\na.jpg,0;2\nb.jpg,\n"c.jpg","[1, 2]"\n')
    assert found(read_label_list(path, ['x', 'y', 'z'])) == {'a.jpg': {'x', 'z'}, 'b.jpg': set(), 'c.jpg': {'y', 'z'}}
    with pytest.raises(DataError, match='the labels are numbers; give the names of their classes: classes='):
        read_label_list(path)
    with pytest.raises(DataError, match="line 4 .image 'c.jpg'.: class id 2 of the label list is out of range"):
        read_label_list(write('b.csv', 'filename,labels\na.jpg,0\n\nc.jpg,1;2\n'), ['x', 'y'])
    assert found(read_label_list(path, ['0', '1', '2'])) == {'a.jpg': {'0', '2'}, 'b.jpg': set(), 'c.jpg': {'1', '2'}}
    with pytest.raises(DataError, match="line 3 .image 'b.jpg'.: '0' is none of the 2 classes"):
        read_label_list(write('c.csv', 'filename,labels\na.jpg,cat\nb.jpg,0\n'), ['cat', 'dog'])


@pytest.mark.parametrize('cell', ['1.0', '0.5;1', '"[1.0]"', '"[0, 1.5]"'])
def test_fractions(write, cell):
    path = write('a.csv', f'filename,labels\na.jpg,{cell}\nb.jpg,1\n')
    with pytest.raises(DataError, match='label'):
        read_label_list(path)
    with pytest.raises(DataError, match="line 2 .image 'a.jpg'.: "):
        read_label_list(path, ['x', 'y'])


@pytest.mark.parametrize(
    'cell, message',
    [
        ('cat;dgo', "a.csv, line 3 (image 'b.jpg'): 'dgo' is none of the 2 classes; did you mean 'dog'?"),
        ("\"['cat' 'dog']\"", "\"['cat' 'dog']\" is neither a JSON nor a Python list; names are quoted and separated"),
        ('"[cat, dog]"', "'[cat, dog]' is neither a JSON nor a Python list"),
        ('"[[""cat""]]"', "the label list contains ['cat']; a label is the name of a class"),
        ('[null]', 'the label list contains None'),
        ('[NaN]', 'the label list contains nan'),
        ('[true]', 'the label list contains True'),
        ('"["" ""]"', "a label must be the name of a class, got ' '"),
        ('cat,dog', 'line 3: has 3 cells, the header has 2; a list with commas is put in quotes'),
    ],
)
def test_lists_that_cannot_be_used(write, cell, message):
    path = write('a.csv', f'filename,labels\na.jpg,cat\nb.jpg,{cell}\n')
    with pytest.raises(DataError, match=re.escape(message)):
        read_label_list(path, ['cat', 'dog'])


def test_columns(write):
    path = write('a.csv', 'key,split,what,labels\na.jpg,train,cat,x\nb.jpg,val,dog,y\n')
    options = {'path_column': 'key', 'label_column': 'what'}
    assert found(read_label_list(path, split='val', **options)) == {'b.jpg': {'dog'}}
    with pytest.raises(DataError, match="has a 'split' column with 'train'"):
        read_label_list(path, **options)
    with pytest.raises(DataError, match="has no column 'wat'; did you mean 'what'?"):
        read_label_list(path, path_column='key', label_column='wat')
    with pytest.raises(DataError, match=r'several columns look like labels \(label, tags\); say which with label_col'):
        read_label_list(write('b.csv', 'file,label,tags\na.jpg,x,y\n'))
    with pytest.raises(
        DataError, match=r"recognised as the labels among \['file', 'x'\]; say which one with label_col"
    ):
        read_label_list(write('c.csv', 'file,x\na.jpg,cat\n'))


def test_a_separator_in_a_class_of_the_list_counts_once(write):
    path = write('a.csv', 'filename,labels\na.jpg,cat;dog;cat\n')
    annotations = read_label_list(path, ['cat', 'dog'])
    assert annotations.labels.dense().tolist() == [[1, 1]]
    assert annotations.notes == (f'{path}: 1 label lists named a class more than once; once counts',)


@pytest.mark.parametrize(
    'text, expected',
    [
        ('filename,labels\na.jpg,cat\n', 'label_list'),
        ('filename;Tags\na.jpg;cat,dog\n', 'label_list'),
        ('\ufeff,image,id,classes\n0,a.jpg,7,cat\n', 'label_list'),
        ('filename,width,height,category\na.jpg,640,480,cat|dog\n', 'label_list'),
        ('filename,label\na.jpg,3\n', 'label_list'),
        ('filename,label\na.jpg,1\nb.jpg,0\n', 'csv'),
        ('filename,cat,label\na.jpg,1,0\n', 'csv'),
        ('filename,category,cat,dog,cow\na.jpg,x,1,0,0\n', 'csv'),
        ('filename,cat,dog\na.jpg,1,0\n', 'csv'),
        ('filename,labels\n', 'csv'),
        ('name,labels\na.jpg,cat\n', 'csv'),
        ('filename\na.jpg\n', 'csv'),
        ('', 'csv'),
    ],
)
def test_recognised_among_csv_files(write, text, expected):
    assert recognise_format(write('a.csv', text))[0] == expected


def test_a_file_cut_by_the_head_is_recognised(write):
    rows = ''.join(f'"{number}.jpg","[\'cat\',\n\'dog\']"\n' for number in range(5000))
    path = write('a.csv', f'filename,labels\n{rows}')
    assert recognise_format(path)[0] == 'label_list'
    assert len(read_annotations(path)) == 5000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(st.sets(st.from_regex(r'[a-zé"\'\\ .-]*[a-z]', fullmatch=True)), min_size=1, max_size=8),
    st.sampled_from([';', '|', 'json', 'python']),
    st.sampled_from([',', ';', '\t']),
    st.sampled_from(['\n', '\r\n', '\r']),
)
def test_round_trip(write, rows, style, delimiter, ends):
    """What Python's csv module writes reads back, in every style, with every delimiter and line end."""
    rows = [{name.strip() for name in row} for row in rows]
    styles = {'json': json.dumps, 'python': repr}
    cells = [styles.get(style, style.join)(sorted(row)) for row in rows]
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=ends)
    writer.writerow(['filename', 'labels'])
    writer.writerows([f'{number}.jpg', cell] for number, cell in enumerate(cells))
    path = write('a.csv', buffer.getvalue())
    names = sorted(set().union(*rows))
    separator = style if style in ';|' else None
    if names:
        annotations = read_label_list(path, separator=separator)
        assert annotations.classes == tuple(names)
        assert list(found(annotations).values()) == rows
    else:
        with pytest.raises(DataError, match='no image has a label, so there are no classes'):
            read_label_list(path)
