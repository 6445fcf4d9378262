"""Tables: sorting, filtering, pages, and the corrections that are chosen."""

from __future__ import annotations

import copy
import csv
import io
from typing import Any

import pytest

from .conftest import NAMES
from .reading import number, row, rows, slide, wait_for
from .synthetic import Case

NUMERIC = (
    'positives',
    'threshold',
    'tp',
    'fp',
    'fn',
    'precision',
    'recall',
    'f1',
    'ap',
    'auroc',
    'ece',
    'brier',
    'train',
)


def head(page: Any, column: str, table: str = '#class-table') -> Any:
    return page.locator(f'{table} th[data-column={column}]').first


def test_classes_sort_by_every_column_both_ways_with_unknown_values_last(show: Any, case: Case) -> None:
    page = show(case.payload)
    for column in NUMERIC:
        for way in ('descending', 'ascending'):
            head(page, column).locator('button').click()
            assert head(page, column).get_attribute('aria-sort') == way
            texts = [texts[column] for texts in rows(page)]
            known = [number(text) for text in texts if text != '–']
            assert known == sorted(known, reverse=way == 'descending')
            assert '–' not in texts[: len(known)]
    head(page, 'name').locator('button').click()
    assert [texts['name'].removesuffix('note') for texts in rows(page)] == sorted(NAMES, key=str.lower)
    sorted_by = page.eval_on_selector_all('#class-table th[aria-sort]', 'heads => heads.map(head => head.ariaSort)')
    assert sorted(set(sorted_by)) == ['ascending', 'none'] and sorted_by.count('ascending') == 1


def test_sorting_works_by_keyboard_and_follows_moved_thresholds(show: Any, case: Case) -> None:
    page = show(case.payload)
    slide(page, '#all-slider', 650)
    head(page, 'f1').locator('button').focus()
    page.keyboard.press('Enter')
    known = [float(texts['f1']) for texts in rows(page)]
    assert known == sorted(known, reverse=True)
    before = [texts['name'] for texts in rows(page)]
    slide(page, '#class-table tbody tr:first-child input', 999)
    assert [texts['name'] for texts in rows(page)] == before  # a row does not run away from the hand that moves it


def test_classes_filter_by_part_of_a_name(show: Any, case: Case) -> None:
    page = show(case.payload)
    field = page.locator('#class-table input[type=search]')
    field.fill('c')
    assert {texts['name'].removesuffix('note') for texts in rows(page)} == {'Cat', 'traffic light', 'Zebra crossing'}
    assert page.locator('#class-table .shown').inner_text() == '3 of 6 classes'
    field.fill('xyz')
    assert page.locator('#class-table tbody').inner_text() == 'None.'
    assert page.locator('#class-table .shown').inner_text() == '0 of 6 classes'
    field.fill('')
    assert len(rows(page)) == 6


def test_a_name_leads_to_its_class(show: Any, case: Case) -> None:
    page = show(case.payload)
    page.locator('#class-table').get_by_role('button', name='Zebra crossing', exact=True).click()
    assert page.locator('#one-heading').inner_text() == 'One class: Zebra crossing'
    assert page.locator('#one-heading').evaluate('node => node === document.activeElement')
    facts = dict(
        page.eval_on_selector_all('#one-facts div', 'rows => rows.map(r => [...r.children].map(x => x.textContent))')
    )
    entry = case.payload['classes'][4]
    assert facts['positives'] == str(entry['positives']) and facts['unknown'] == str(entry['unknown'])
    assert facts['AP'] == f'{entry["ap"]:.2f}' and facts["the model's threshold"] == '0.31274'
    page.locator('#after-class').click()
    assert page.locator('#one-heading').inner_text() == 'One class: never seen'
    assert page.locator('#after-class').is_disabled()
    assert page.locator('#one-note').inner_text() == 'note Fewer than 20 positives: the threshold is a guess.'


def many(payload: dict[str, Any], count: int) -> dict[str, Any]:
    """More confusions than fit one page of a table."""
    payload = copy.deepcopy(payload)
    payload['confusions'] = [
        {'missed': i % 6, 'instead': (i + 1) % 6, 'count': 100 - i, 'of': 120} for i in range(count)
    ]
    return payload


def test_long_tables_have_pages(show: Any, case: Case) -> None:
    page = show(many(case.payload, 40))
    table = page.locator('#confusion-table')
    assert table.locator('.shown').inner_text() == '1 to 15 of 40 pairs'
    assert table.get_by_role('button', name='Previous').is_disabled()
    table.get_by_role('button', name='Next').click()
    assert rows(page, '#confusion-table')[0]['count'] == '85'
    table.get_by_role('button', name='Next').click()
    assert table.locator('.shown').inner_text() == '31 to 40 of 40 pairs'
    # The button that is spent hands the focus on.
    assert table.get_by_role('button', name='Previous').evaluate('node => node === document.activeElement')
    head(page, 'count', '#confusion-table').locator('button').click()
    assert table.locator('.shown').inner_text() == '1 to 15 of 40 pairs'


def test_confusions_and_pairs_show_their_numbers(show: Any, case: Case) -> None:
    page = show(case.payload)
    first, shown = case.payload['confusions'][0], rows(page, '#confusion-table')[0]
    assert shown['missed'] == NAMES[first['missed']] and shown['instead'] == NAMES[first['instead']]
    assert [shown['count'], shown['of']] == [str(first['count']), str(first['of'])]
    assert abs(float(shown['share']) - 100 * first['count'] / first['of']) <= 0.005 + 1e-9
    pair, shown = case.payload['pairs'][0], rows(page, '#pair-table')[0]
    assert [number(shown[key]) for key in ('observed', 'predicted')] == [pair['observed'], pair['predicted']]
    assert number(shown['off']) == pair['predicted'] - pair['observed']
    assert abs(number(shown['expected']) - pair['expected']) <= 0.05 + 1e-9


def test_where_nothing_was_found_the_page_says_so(show: Any, case: Case) -> None:
    empty = {**case.payload, 'confusions': [], 'pairs': [], 'suspects': [], 'galleries': {}, 'images': []}
    page = show(empty)
    for table in ('confusion', 'pair', 'suspect'):
        assert page.locator(f'#{table}-table tbody').inner_text() == 'None.'
    assert not page.locator('#suspect-tools').is_visible()
    assert 'No image with this label is missed.' in page.locator('#galleries').inner_text()
    assert 'No image without this label is decided to have it.' in page.locator('#galleries').inner_text()


def test_columns_without_a_value_are_left_out(show: Any, case: Case) -> None:
    payload = {
        **case.payload,
        'classes': [{**entry, 'train': None, 'auroc': None} for entry in case.payload['classes']],
    }
    page = show(payload)
    assert 'train' not in row(page, 'dog') and 'auroc' not in row(page, 'dog') and 'ap' in row(page, 'dog')


# Corrections


@pytest.fixture
def awkward(case: Case) -> dict[str, Any]:
    """Names that a CSV has to quote."""
    payload = copy.deepcopy(case.payload)
    for place, name in enumerate(['a,b.jpg', 'say "cheese".jpg', 'two\nlines.jpg', ' spaced .jpg', 'bild-ü-日本.jpg']):
        payload['suspects'][place]['name'] = name
    payload['classes'][1]['name'] = 'dog, "hot"'
    payload['suspects'][1]['class'] = 1
    return payload


def saved(page: Any) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        page.locator('#suspects-export').click()
    assert waiting.value.suggested_filename == 'corrections.csv'
    text = waiting.value.path().read_bytes().decode('utf-8')
    return list(csv.DictReader(io.StringIO(text, newline='')))


def wanted(payload: dict[str, Any], suspect: dict[str, Any]) -> dict[str, str]:
    return {
        'image': suspect['name'],
        'class': payload['classes'][suspect['class']]['name'],
        'label': '1' if suspect['kind'] == 'missing' else '0',
        'score': str(suspect['score']),
        'kind': suspect['kind'],
    }


def plain(found: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [{**line, 'score': float(line['score'])} for line in found]


def test_chosen_corrections_are_saved_as_csv(show: Any, awkward: dict[str, Any]) -> None:
    page = show(awkward)
    button = page.locator('#suspects-export')
    assert button.is_disabled() and button.inner_text() == 'Download 0 corrections as CSV'
    boxes = page.locator('#suspect-table input[type=checkbox]')
    for place in (4, 0, 1, 2, 3):
        boxes.nth(place).check()
    assert button.inner_text() == 'Download 5 corrections as CSV'
    boxes.nth(3).uncheck()
    chosen = [awkward['suspects'][place] for place in (0, 1, 2, 4)]
    assert plain(saved(page)) == plain([wanted(awkward, suspect) for suspect in chosen])


def test_all_that_match_are_chosen_over_all_pages_and_stay_chosen(show: Any, awkward: dict[str, Any]) -> None:
    page = show(awkward)
    field = page.locator('#suspect-table input[type=search]')
    field.fill('zebra')
    page.locator('#suspects-all').click()
    field.fill('')
    chosen = [suspect for suspect in awkward['suspects'] if suspect['class'] == 4]
    assert len(chosen) > 1
    assert page.locator('#suspects-export').inner_text() == f'Download {len(chosen)} corrections as CSV'
    assert plain(saved(page)) == plain([wanted(awkward, suspect) for suspect in chosen])
    page.locator('#suspects-all').click()
    assert len(saved(page)) == len(awkward['suspects'])
    assert {line['kind'] for line in saved(page)} == {'missing', 'wrong'}
    page.locator('#suspects-none').click()
    assert page.locator('#suspects-export').is_disabled()


def test_a_suspect_is_looked_at_before_it_is_chosen(show: Any, case: Case) -> None:
    page = show(case.payload)
    place = next(i for i, suspect in enumerate(case.payload['suspects']) if suspect['image'] is not None)
    opener = page.locator('#suspect-table tbody tr').nth(place).locator('.thumb-button')
    opener.click()
    assert page.locator('#dialog').is_visible()
    assert page.locator('#dialog-name').inner_text() == case.payload['suspects'][place]['name']
    page.keyboard.press('Escape')
    wait_for(lambda: opener.evaluate('node => node === document.activeElement'))
