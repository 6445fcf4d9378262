"""CVAT for images."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import cvat, read_annotations, recognise_format
from mlcls.datasets.formats.cvat import read_cvat
from mlcls.errors import DataError

META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>x</name><labels>
    <label><name>cow</name><type>any</type><attributes><attribute><name>age</name></attribute></attributes></label>
    <label><name>cat</name><color>#fff</color></label>
    <label><name>dog</name><type>tag</type></label>
    <label><name>person</name><type>skeleton</type></label>
    <label><name>hand</name><type>points</type><parent>person</parent></label>
  </labels></task></meta>
"""
IMAGES = """
  <image id="0" name="x/a.jpg" width="9" height="9">
    <tag label="cat" source="manual"><attribute name="age">old</attribute></tag>
    <box label="cow" xtl="1"><attribute name="age">old</attribute></box>
    <tag label="dog"/><tag label="cat"/>
  </image>
  <image id="1" name="b &amp; &#233;.jpg"><polygon label="dog" points="1,2"/>
    <skeleton label="person"><points label="hand" points="1,1"/></skeleton></image>
  <image id="2" name="c.jpg"/>
</annotations>
"""


def test_tags(write):
    path = write('a.xml', META + IMAGES)
    read = read_annotations(path)
    assert read.source == 'cvat: an XML file with <annotations>'
    assert read.classes == ('cow', 'cat', 'dog')
    assert list(read.img_paths) == ['x/a.jpg', 'b & é.jpg', 'c.jpg']
    assert read.labels.dense().tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert read.notes == (
        f'{path}: 3 shapes are not used (shapes=True would take their labels)',
        f'{path}: 1 label lists named a class more than once; once counts',
        f'{path}: 2 images of 3 without a present label',
    )


def test_shapes_count_if_asked_for(write):
    read = read_cvat(write('a.xml', META + IMAGES), shapes=True)
    assert read.classes == ('cow', 'cat', 'dog', 'person')
    assert read.labels.dense().tolist() == [[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_classes_without_meta(write):
    path = write('a.xml', f'<annotations>{IMAGES}')
    assert read_cvat(path).classes == ('cat', 'dog')
    assert read_cvat(path, ['dog', 'cat', 'N/A']).labels.dense().tolist()[0] == [1, 1, 0]
    with pytest.raises(DataError, match=r"line 2 \(image 'x/a.jpg'\): 'cat' is none of the 1 classes"):
        read_cvat(path, ['dog'])


def test_only_shapes(write):
    path = write('a.xml', '<annotations><image name="a.jpg"><box label="cat"/></image></annotations>')
    with pytest.raises(DataError, match='has no tags, but 1 shapes; shapes=True takes their labels as those of the im'):
        read_cvat(path)
    assert read_cvat(path, shapes=True).classes == ('cat',)


def test_subsets(write):
    text = '<annotations>{}</annotations>'.format(
        ''.join(
            f'<image name="{name}.jpg" subset="{name[0]}"><tag label="cat"/></image>' for name in ('t1', 't2', 'v1')
        )
    )
    path = write('a.xml', text)
    assert list(read_cvat(path, split='t').img_paths) == ['t1.jpg', 't2.jpg']
    with pytest.raises(DataError, match=r"has the subsets 't' \(2\), 'v' \(1\); say which one with split="):
        read_cvat(path)
    with pytest.raises(DataError, match="no image is of the subset 'x'; choose from t, v"):
        read_cvat(path, split='x')


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    'text, message',
    [
        (f'{BOMB}<annotations><image name="&b;"/></annotations>', 'line 1: has a <!DOCTYPE>, which no CVAT export has'),
        (f'\n{OUTSIDE}<annotations><image name="&a;"/></annotations>', 'line 2: has a <!DOCTYPE>'),
        ('<annotations><image name="&a;"/></annotations>', 'a.xml:1:14: not valid XML: undefined entity'),
        ('<annotations>\n<image name="a.jpg">\n</annotations>', 'a.xml:3:3: not valid XML: mismatched tag'),
        ('<annotations>\n<image name="a.jpg"/>\n', 'a.xml:3:1: not valid XML: no element found'),
        ('<annotations>\n<image name="a\0.jpg"/></annotations>', 'a.xml:2:15: not valid XML: not well-formed'),
        ('', 'a.xml:1:1: not valid XML: no element found'),
        ('x', 'not valid XML: syntax error'),
        (b'<annotations><image name="\xff"/></annotations>', 'not valid XML: not well-formed (invalid token)'),
        ('<?xml version="1.0" encoding="x-none"?><annotations/>', 'a.xml: cannot be decoded (unknown encoding: x-'),
        (
            '<annotation><object/></annotation>',
            'the outermost element of a CVAT file is <annotations>, found <annotatio',
        ),
        ('<annotations><track label="cat"/></annotations>', "line 1: has a <track>, as 'CVAT for video' has"),
        ('<annotations>\n<image id="1"/></annotations>', "line 2: <image> has no attribute 'name'"),
        (
            '<annotations><image name="a.jpg"><tag lable="cat"/></image></annotations>',
            "no attribute 'label'; did you me",
        ),
        (
            '<annotations><image name="a.jpg"><tag label=""/></image></annotations>',
            'a label must be the name of a class',
        ),
        ('<annotations><image name=" "><tag label="cat"/></image></annotations>', 'the image path must be a string'),
        ('<annotations><image name="a.jpg"/></annotations>', 'no image has a label, so there are no classes'),
        ('<annotations></annotations>', 'lists no images'),
        (
            '<annotations><image name="a"><tag label="x"/></image>\n<image name="a"/></annotations>',
            "a.xml, line 2 (image 'a'): the image is also in line 1, with other labels",
        ),
    ],
)
def test_files_that_cannot_be_used(write, text, message):
    path = write('a.xml', text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_cvat(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r'b\.xml: no such file'):
        read_cvat(tmp_path / 'b.xml')
    with pytest.raises(DataError, match='cannot be read'):
        read_cvat(tmp_path)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'iso-8859-1'])
def test_encodings(write, encoding):
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    text += '<annotations>\r\n<image name="é ü.jpg"><tag label="naïve"/></image></annotations>'
    read = read_cvat(write('a.xml', text.encode(encoding)))
    assert list(read.img_paths) == ['é ü.jpg'] and read.classes == ('naïve',)


def test_recognised_among_xml_files(write):
    assert recognise_format(write('a.dat', META + IMAGES))[0] == 'cvat'
    with pytest.raises(DataError, match='of no known format'):
        recognise_format(write('a.xml', '<annotation><object><name>cat</name></object></annotation>'))


XML_TEXT = st.text('aé日\U0001f600 &<>"\'', min_size=1).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.dictionaries(XML_TEXT.filter(bool), st.sets(XML_TEXT.filter(bool), max_size=3), min_size=1))
def test_round_trip_in_pieces(write, images):
    """Written with the standard library's escapes; read in pieces that cut tags and characters."""
    rows = {f'{number}/{name}': labels for number, (name, labels) in enumerate(images.items())}
    text = ''.join(
        f'<image name={quoteattr(name)}>{"".join(f"<tag label={quoteattr(label)}/>" for label in labels)}</image>'
        for name, labels in rows.items()
    )
    path = write('a.xml', f'<annotations>{text}</annotations>')
    names = sorted({label for labels in rows.values() for label in labels})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cvat, '_CHUNK', 7)
        read = read_cvat(path, names or ['x'])
    assert list(read.img_paths) == list(rows)
    assert [{names[number] for number in read.labels.present(row)} for row in range(len(rows))] == list(rows.values())
