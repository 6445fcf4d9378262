"""The report as JSON, as text and as a page."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mlcls.datasets.checking import CheckReport, Finding, SplitSet, check_splits, to_json, to_text
from mlcls.datasets.checking import report as report_module
from mlcls.datasets.checking.page import render_page, thumbnail
from mlcls.datasets.checking.report import CODES, SEVERITIES, sort_findings

from .conftest import DataSet, labels_with, make_split, photo_png

FINDINGS = (
    Finding('note', 'n', 'a note', 'train', ('x',), 1),
    Finding('error', 'e', 'an error', 'val', ('/root/v/1', '/root/v/2', '/root/v/3', '/root/v/4'), 12),
    Finding(
        'warning', 'w', 'a warning', 'val, train', (), 2, (('/root/v/1', '/root/t/1'), ('/rootless/2', '/root/t/2'))
    ),
)


def report(*findings: Finding) -> CheckReport:
    return CheckReport('data.csv', sort_findings(findings), advice=('Do this.',) if findings else (), root='/root')


def test_worst_first_and_counted() -> None:
    made = report(*FINDINGS)
    assert [each.severity for each in made.findings] == list(SEVERITIES)
    assert made.worst == 'error' and [made.count(severity) for severity in SEVERITIES] == [1, 1, 1]
    assert report().worst == ''


def test_every_code_is_explained_and_used() -> None:
    """By the source: what looks like a code there is one, and each is there."""
    folder = Path(report_module.__file__).parent
    source = '\n'.join(path.read_text() for path in folder.glob('*.py') if path.name != 'report.py')
    words = '|'.join({code.partition('-')[0] for code in CODES})
    assert set(re.findall(rf"'((?:{words})-[a-z-]+)'", source)) == set(CODES)


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(ValueError, match='severity must be one of'):
        Finding('bad', 'x', 'y')


def test_json_is_plain_stable_and_whole(clean: DataSet) -> None:
    clean.add('train', [0], b'')
    made = clean.check()
    plain = to_json(made)
    assert json.loads(json.dumps(plain)) == json.loads(json.dumps(plain))
    assert list(plain) == ['version', 'source', 'worst', 'counts', 'findings', 'advice', 'root', 'statistics']
    assert list(plain['findings'][0]) == [field.name for field in dataclasses.fields(Finding)]
    assert plain['findings'][0]['code'] == 'image-empty' and plain['counts'] == {'error': 1, 'warning': 0, 'note': 0}
    assert list(plain['statistics']) == ['classes', 'splits', 'cooccurrence']
    assert plain['statistics']['splits']['train']['images'] == 41


def test_text_shows_three_items_and_leaves_the_common_folder_out() -> None:
    text = to_text(report(*FINDINGS))
    assert '1 error, 1 warning, 1 note' in text
    assert text.index('an error') < text.index('a warning') < text.index('a note') < text.index('Do this.')
    assert 'v/3' in text and 'v/4' not in text and '... and 9 more' in text
    assert 'v/1  ~  t/1' in text and '/rootless/2  ~  t/2' in text and '/root/' not in text
    assert max(map(len, text.splitlines())) <= 110


class Page(HTMLParser):
    """Checks that all tags are closed; keeps tags, attributes and text."""

    VOID = frozenset(('meta', 'img', 'br', 'link'))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.values: list[str] = []
        self.text = ''
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or '' for _, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(text: str) -> Page:
    page = Page(text)
    assert not {'script', 'link', 'iframe', 'object'} & set(page.tags)
    assert not re.search(r'(?:https?:)?//[a-z]', ' '.join(page.values)) and 'url(' not in text and '@import' not in text
    assert 'prefers-color-scheme: dark' in text and '@media print' in text
    return page


def test_page_of_a_data_set(clean: DataSet) -> None:
    clean.add('val', [0], photo_png(0))
    clean.add('train', [0], b'')
    page = check_page(render_page(clean.check()))
    assert page.tags.count('img') == 2
    assert 'identical to images of train' in page.text and 'val/036.png' in page.text and '0 bytes' in page.text
    assert sum(value.startswith('data:image/jpeg;base64,') for value in page.values) == 2


def test_page_of_clean_data_and_of_nothing(clean: DataSet) -> None:
    assert 'Nothing unusual.' in check_page(render_page(clean.check())).text
    check_page(render_page(report()))
    empty = check_splits(SplitSet((), FINDINGS[:1]), 'none', workers=0)
    assert 'a note' in check_page(render_page(empty)).text


def test_what_stands_in_the_data_is_escaped() -> None:
    evil = '<script>alert("1")</script>'
    split = make_split('train', labels_with([30, 3], 60), (evil, '<b>&amp;'))
    made = check_splits(SplitSet((split,), (Finding('error', evil, evil, evil, (evil,), 1),)), evil, images=False)
    page = check_page(render_page(made))
    assert page.text.count(evil) >= 5 and '<b>&amp;' in page.text


def test_a_thousand_classes_stay_readable() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.random((300, 1200)) < rng.uniform(0, 0.1, 1200)).astype(np.int8)
    names = [f'class number {number}' for number in range(1200)]
    splits = (make_split('train', dense, names), make_split('val', dense[:100], names))
    made = check_splits(SplitSet(splits, ()), 'many', images=False)
    text = render_page(made)
    page = check_page(text)
    assert (
        page.tags.count('tr') < 60 and '1,150 classes between' in page.text and '30 most frequent of 1200' in page.text
    )
    assert len(text) < 400_000
    order = np.argsort(-(dense.sum(0) + dense[:100].sum(0)), kind='stable')
    assert f'class number {order[0]}' in page.text and f'class number {order[-1]}' in page.text
    assert len(json.dumps(to_json(made))) < 400_000


def test_pairs_are_shown_up_to_a_limit(clean: DataSet) -> None:
    for number in range(40):
        clean.add('val', [0], photo_png(number))
        clean.add('test', [0], photo_png(number))
    page = check_page(render_page(clean.check()))
    assert 2 * 6 <= page.tags.count('img') <= 2 * 24


def test_a_thumbnail_of_what_cannot_be_read_is_left_out(clean: DataSet) -> None:
    path = clean.add('train', [0], b'no image')
    assert thumbnail(str(path)) == '' and thumbnail(f'{path}.none') == ''
