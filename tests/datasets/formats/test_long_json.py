"""Long JSON files say the same as short ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlcls.datasets.formats import long_json, read_native
from mlcls.datasets.formats.files import read_json
from mlcls.datasets.formats.long_json import LongList, read_long_json
from mlcls.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(['data_list', 'metainfo', 'x', '']), VALUES, max_size=4)


@pytest.fixture(autouse=True)
def _every_file_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_json, 'LONG', 0)
    monkeypatch.setattr(long_json, '_CHUNK', 5)


@settings(deadline=None, max_examples=100)
@example({'data_list': [1.2565938010740992e16, 10, -1.5e-7, 12345678]}, None, True, '')
@given(OBJECTS | VALUES, st.sampled_from([None, 1]), st.booleans(), st.sampled_from(['', '\ufeff', '\n ']))
def test_says_what_json_says(tmp_path_factory: pytest.TempPathFactory, content, indent, ascii_only, start):
    path = tmp_path_factory.getbasetemp() / 'long.json'
    path.write_text(start + json.dumps(content, indent=indent, ensure_ascii=ascii_only) + start.strip('\ufeff'))
    found = read_long_json(path, 'data_list')
    is_long = isinstance(content, dict) and isinstance(content.get('data_list'), list) and content['data_list'] != []
    if is_long:
        items = found['data_list']
        assert isinstance(items, LongList) and len(items) == len(content['data_list'])
        assert list(items) == list(items) == content['data_list']
        found['data_list'] = list(items)
    assert found == content


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{"data_list": [1, 2',
        '{"data_list": [1, 2]',
        '{"data_list": [1, 2,]}',
        '{"data_list": [1 2]}',
        '{"data_list": [1, 2]} 3',
        '{"data_list": [1, 2],}',
        '{"data_list": [1], "data_list": [2]}',
        '{"data_list": [{"a": 1, "a": 2}]}',
        '{"x": 1, "x": 2, "data_list": [1]}',
        '{"data_list": [1], 3: 4}',
        '{"data_list": ["' + '[' * 3 + '\0"]}',
        '{"data_list": [' + '[' * 100_000,
        b'\xff\xfe{',
        b'{"data_list": ["\xef"]}',
    ],
)
def test_what_is_wrong_is_said_as_ever(write, text):
    path = write('a.json', text)
    with pytest.raises(DataError) as expected:
        read_json(path)
    with pytest.raises(DataError, match=re.escape(str(expected.value))):
        read_long_json(path, 'data_list')


def test_missing_file(tmp_path: Path):
    with pytest.raises(DataError, match=r'a\.json: no such file'):
        read_long_json(tmp_path / 'a.json', 'data_list')


@pytest.mark.parametrize('other', ['{"data_list": [1, ', '', b'\xff'])
def test_a_file_that_changes_meanwhile(write, other):
    items = read_long_json(write('a.json', '{"data_list": [1, 2, 3]}'), 'data_list')['data_list']
    write('a.json', other)
    with pytest.raises(DataError, match=r'a\.json: was changed while it was read'):
        list(items)


def test_short_files_are_read_at_once(write, monkeypatch):
    monkeypatch.setattr(long_json, 'LONG', 10**6)
    assert read_long_json(write('a.json', '{"data_list": [1]}'), 'data_list') == {'data_list': [1]}


@pytest.mark.parametrize('order', [('metainfo', 'data_list'), ('data_list', 'metainfo')])
def test_native_files_may_be_long(write, order):
    content = {
        'metainfo': {'classes': ['cat', 'dog']},
        'data_list': [{'img_path': f'{number}.jpg', 'gt_label': [number % 2]} for number in range(40)],
    }
    annotations = read_native(write('a.json', json.dumps({key: content[key] for key in order})))
    assert annotations.labels.dense().argmax(1).tolist() == [0, 1] * 20 and annotations.img_paths[39] == '39.jpg'
    content['data_list'][30]['gt_label'] = [2]
    with pytest.raises(
        DataError, match=r"data_list entry 30 \(image '30.jpg'\): class id 2 of gt_label is out of range"
    ):
        read_native(write('a.json', json.dumps(content)))
