"""Opening annotation files."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import files
from mlcls.datasets.formats.files import read_file_text, read_json, read_lines, shown
from mlcls.errors import DataError


def test_utf8_with_and_without_byte_order_mark(write):
    assert read_file_text(write('a.txt', 'naïve\n')) == 'naïve\n'
    assert read_file_text(write('a.txt', b'\xef\xbb\xbf' + 'naïve\n'.encode())) == 'naïve\n'


def read_all_lines(path):
    return list(read_lines(path))


BOTH = pytest.mark.parametrize('read', [read_file_text, read_all_lines])


@BOTH
@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('end', [b'\n', b'\r\n'])
def test_wrong_encoding_names_line_and_byte(write, mark, end, read):
    path = write('a.txt', mark + b'first' + end + b'na\xefve' + end)
    with pytest.raises(DataError, match=r'a\.txt, line 2: byte 0xef is not UTF-8; save the file as UTF-8'):
        read(path)


def test_wrong_encoding_behind_lone_carriage_returns(write):
    with pytest.raises(DataError, match=r'a\.txt, line 3: byte 0xef is not UTF-8'):
        read_all_lines(write('a.txt', b'a\rb\rna\xefve\n'))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from('aé\u2028\x0c\r\n\ufeff'), min_size=1).filter(str.strip))
def test_lines_are_those_of_python(write, text):
    """Universal newlines, as Python's text mode has them; the lines together are the file."""
    if not text.strip('\ufeff \r\n\x0c\u2028'):
        return
    path = write('a.txt', text.encode())
    with open(path, encoding='utf-8-sig', newline='') as file:
        assert read_all_lines(path) == list(file)


@BOTH
def test_nul_bytes(write, read):
    path = write('a.txt', b'a.jpg 1\nb\0.jpg 2\n')
    with pytest.raises(DataError, match=r'a\.txt, line 2: contains a NUL byte; the file is damaged or no UTF-8 text'):
        read(path)
    with pytest.raises(DataError, match='line 1: contains a NUL byte'):
        read(write('a.txt', 'a.jpg 1\n'.encode('utf-16-le')))


@BOTH
def test_two_gigabytes_of_nothing_are_not_read(tmp_path, read):
    path = tmp_path / 'a.txt'
    with open(path, 'wb') as file:
        file.write(b'a.jpg 1')
        file.truncate(2 << 30)  # sparse: takes no space
    tracemalloc.start()
    with pytest.raises(DataError, match='NUL byte'):
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


def test_long_lines(write, monkeypatch):
    monkeypatch.setattr(files, 'MAX_LINE', 1000)
    assert len(read_all_lines(write('a.txt', 'x' * 999 + '\n' + 'y' * 1000))) == 2
    path = write('a.txt', 'x\n' + 'y' * 5000)
    message = f'{path}, line 2: is longer than 1,000 bytes, so this is no file of one image a line'
    with pytest.raises(DataError, match=re.escape(message)):
        read_all_lines(path)


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"a": 1,\n "b": [,]}', 'a.json:2:8: not valid JSON: Expecting value'),
        ('{"a": 1} x', 'a.json:1:10: not valid JSON: Extra data'),
        ("{'a': 1}", 'a.json:1:2: not valid JSON: Expecting property name'),
        ('{"x": [{"a": 1, "b": 2, "a": 1}]}', "a.json: the key 'a' is given twice in one object, {'a': 1, 'b': 2}"),
        ('[' * 100_000, 'a.json: lists or objects are nested too deeply for an annotation file'),
        ('[' + '1' * 5000 + ']', 'a.json: Exceeds the limit'),
        ('', 'a.json: is empty'),
    ],
)
def test_json_that_cannot_be_used(write, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_json(write('a.json', text))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    )
)
def test_json_round_trip(write, content):
    assert read_json(write('a.json', json.dumps(content))) == content


@BOTH
@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-be'])
def test_utf16(write, encoding, read):
    text = 'a.jpg 1\n' if encoding == 'utf-16' else '\ufeffa.jpg 1\n'
    with pytest.raises(DataError, match='UTF-16; save it as UTF-8'):
        read(write('a.txt', text.encode(encoding)))


@BOTH
@pytest.mark.parametrize('content', ['', ' \n\n', b'\xef\xbb\xbf'])
def test_empty_file(write, content, read):
    with pytest.raises(DataError, match=r'a\.txt: is empty'):
        read(write('a.txt', content))


@BOTH
def test_missing_file_and_folder(tmp_path: Path, read):
    with pytest.raises(DataError, match=r'b\.txt: no such file'):
        read(tmp_path / 'b.txt')
    with pytest.raises(DataError, match=r'cannot be read \(Is a directory\)'):
        read(tmp_path)


def test_shown_is_cut():
    assert shown([1, 2]) == '[1, 2]'
    assert len(shown(list(range(1000)))) == 63
