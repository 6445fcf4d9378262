"""The document that ``render_page`` writes, as text; what it does in a browser is tested in tests/browser."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlcls.evaluation.report.page as page_module
from mlcls.evaluation.report.page import SCRIPTS, embed_json, join_scripts, render_page
from tests.browser.synthetic import make_case

FOLDER = Path(page_module.__file__).parent


@pytest.fixture(scope='module')
def payload() -> dict[str, Any]:
    return make_case(['cat', 'dog', 'bird'], 60, seed=1, steps=100, pictures=10).payload


class Elements(HTMLParser):
    """Tags of a document, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == 'script'
        if self._in_script:
            self.scripts.append('')

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


def test_the_document_is_whole_and_points_nowhere(payload: dict[str, Any]) -> None:
    document = Elements(render_page(payload))
    for tag, attributes in document.tags:
        assert tag not in ('link', 'iframe', 'object', 'embed', 'form', 'base')
        for name in ('src', 'href', 'action', 'srcset'):
            assert (attributes.get(name) or '#').startswith(('#', 'data:')), (tag, attributes)
        assert not any(name.startswith('on') or name == 'style' for name in attributes), (tag, attributes)
    assert len(document.scripts) == 2
    assert 'http' not in join_scripts().replace('http://www.w3.org/2000/svg', '')
    assert 'url(' not in (FOLDER / 'page.css').read_text('utf-8')


def test_the_payload_comes_back_as_it_was(payload: dict[str, Any]) -> None:
    document = Elements(render_page(payload))
    assert json.loads(document.scripts[0]) == payload


def test_the_policy_names_the_very_script_and_style(payload: dict[str, Any]) -> None:
    text = render_page(payload)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    style, script = re.search(r'<style>(.*?)</style>', text, re.S), Elements(text).scripts[1]
    assert policy is not None and style is not None
    for name, content in (('style', style[1]), ('script', script)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    assert 'unsafe' not in policy[1]


TEXTS = st.one_of(
    st.text(), st.sampled_from(['</script>', '<!--', ']]>', '\u2028', '&lt;', '"', "'", '<img src=x onerror=1>'])
)


@settings(max_examples=25)
@given(TEXTS, TEXTS, TEXTS)
def test_any_text_is_only_text(first: str, second: str, third: str) -> None:
    payload = make_case(['a', 'b'], 8, seed=0, steps=10, pictures=1).payload
    plain = [tag for tag, _ in Elements(render_page(payload)).tags]
    nasty = copy.deepcopy(payload)
    nasty['title'], nasty['notes'] = first, [second]
    nasty['facts'][0], nasty['protocol'][0] = [second, first], [third, third]
    nasty['classes'][0]['name'], nasty['images'][0]['name'], nasty['data_hash'] = third, first, 'x'
    document = Elements(render_page(nasty))
    assert [tag for tag, _ in document.tags] == plain
    assert json.loads(document.scripts[0]) == nasty


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_embedded_json_is_ascii_without_markup(data: Any) -> None:
    text = embed_json(data)
    assert text.isascii() and not set(text) & set('<>&')
    assert json.loads(text) == data


def test_a_name_that_is_no_utf_8_does_not_stop_the_page(payload: dict[str, Any]) -> None:
    odd = {**payload, 'title': 'photo\udcff.jpg', 'facts': [['file', 'caf\udce9']]}
    text = render_page(odd)
    assert 'photo\ufffd' in text.encode('utf-8').decode('utf-8')
    assert json.loads(Elements(text).scripts[0])['title'] == 'photo\udcff.jpg'


def test_headline_numbers_with_and_without_intervals(payload: dict[str, Any]) -> None:
    rows = [
        {'name': 'macro_F1', 'value': 88.125, 'low': 87.0, 'high': 100.0},
        {'name': 'mAP', 'value': None, 'low': None, 'high': None},
        {'name': 'CF1', 'value': 12.0, 'low': None, 'high': None},
    ]
    text = render_page({**payload, 'headline': rows})
    assert '88.13' in text and '87.00 to 100.00' in text  # a half upwards, as the script rounds
    assert 'macro F1' in text and '<span class="value">–</span>' in text and '12.00' in text
    assert text.count('class="whiskers"') == 1 and 'is its 95 % interval' in text
    assert 'is its 95 % interval' not in render_page({**payload, 'headline': rows[1:]})


@pytest.mark.parametrize('key', ['title', 'facts', 'classes', 'headline', 'steps'])
def test_a_field_that_is_missing_is_an_error(payload: dict[str, Any], key: str) -> None:
    with pytest.raises(KeyError, match=key):
        render_page({name: value for name, value in payload.items() if name != key})


def test_a_number_that_is_not_finite_is_an_error(payload: dict[str, Any]) -> None:
    classes = [{**payload['classes'][0], 'ap': float('nan')}, *payload['classes'][1:]]
    with pytest.raises(ValueError, match='not JSON compliant'):
        render_page({**payload, 'classes': classes})


def test_scripts_are_all_joined_and_end_no_element(payload: dict[str, Any]) -> None:
    assert {path.stem for path in (FOLDER / 'scripts').iterdir()} == set(SCRIPTS)
    text = join_scripts()
    assert '</' not in re.sub(r'//.*', '', text) and '<!--' not in text
    assert not re.search(r'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function', text)
    for name in SCRIPTS:
        assert len((FOLDER / 'scripts' / f'{name}.js').read_text('utf-8').splitlines()) < 400


def test_counts_of_one_are_written_in_the_singular(payload: dict[str, Any]) -> None:
    one = {**payload, 'num_images': 1, 'classes': payload['classes'][:1]}
    assert '1 image, 1 class,' in render_page(one)
    assert '40,000 images, 3 classes,' in render_page({**payload, 'num_images': 40_000})
