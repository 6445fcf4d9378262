"""Opening annotation files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcls.datasets.formats.files import read_file_text, shown
from mlcls.errors import DataError


def test_utf8_with_and_without_byte_order_mark(write):
    assert read_file_text(write('a.txt', 'naïve\n')) == 'naïve\n'
    assert read_file_text(write('a.txt', b'\xef\xbb\xbf' + 'naïve\n'.encode())) == 'naïve\n'


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
def test_wrong_encoding_names_line_and_byte(write, mark):
    path = write('a.txt', mark + b'first\nna\xefve\n')
    with pytest.raises(DataError, match=r'a\.txt, line 2: byte 0xef is not UTF-8; save the file as UTF-8'):
        read_file_text(path)


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-be'])
def test_utf16(write, encoding):
    text = 'a.jpg 1\n' if encoding == 'utf-16' else '\ufeffa.jpg 1\n'
    with pytest.raises(DataError, match='UTF-16; save it as UTF-8'):
        read_file_text(write('a.txt', text.encode(encoding)))


@pytest.mark.parametrize('content', ['', ' \n\n', b'\xef\xbb\xbf'])
def test_empty_file(write, content):
    with pytest.raises(DataError, match=r'a\.txt: is empty'):
        read_file_text(write('a.txt', content))


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(DataError, match=r'b\.txt: no such file'):
        read_file_text(tmp_path / 'b.txt')
    with pytest.raises(DataError, match='cannot be read'):
        read_file_text(tmp_path)


def test_shown_is_cut():
    assert shown([1, 2]) == '[1, 2]'
    assert len(shown(list(range(1000)))) == 63
