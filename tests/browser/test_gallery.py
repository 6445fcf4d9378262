"""Pictures: by keyboard, with labels and scores, enlarged in a dialog."""

from __future__ import annotations

from typing import Any

from .conftest import NAMES
from .reading import slide, wait_for
from .synthetic import Case


def focused(page: Any) -> int:
    """Which card of the first gallery has the focus; -1 if none."""
    return page.evaluate(
        "() => [...document.querySelectorAll('[data-gallery=false_positives] button')].indexOf(document.activeElement)"
    )


def open_class(show: Any, case: Case, name: str = 'Cat', **settings: Any) -> Any:
    page = show(case.payload, **settings)
    page.locator('#class-picker').select_option(label=name)
    return page


def test_galleries_show_the_images_of_the_class_in_order(show: Any, case: Case) -> None:
    page = open_class(show, case)
    for kind in ('false_positives', 'false_negatives', 'uncertain'):
        entries = case.payload['galleries']['2'][kind]
        assert entries, kind
        cards = page.locator(f'[data-gallery={kind}] .card-button')
        assert cards.count() == len(entries)
        for place, (index, score) in enumerate(entries):
            own = cards.nth(place).locator('.label-line.own')
            assert own.locator('.name').inner_text() == 'Cat'
            assert own.locator('.score').inner_text() == f'{score:.3f}'
            assert case.payload['images'][index]['name'] in cards.nth(place).inner_text()
    signs = page.locator('[data-gallery=false_positives] .own .sign').all_inner_texts()
    assert set(signs) == {'FP'}
    assert set(page.locator('[data-gallery=false_negatives] .own .sign').all_inner_texts()) == {'FN'}


def test_every_present_label_and_every_decision_is_shown(show: Any, case: Case) -> None:
    page = open_class(show, case)
    index, _ = case.payload['galleries']['2']['false_positives'][0]
    image = case.payload['images'][index]
    lines = page.locator('[data-gallery=false_positives] .card-button').first.locator('.label-line')
    shown = {line.locator('.name').inner_text(): line.locator('.sign').inner_text() for line in lines.all()}
    for c, name in enumerate(NAMES):
        score, threshold = case.scores[index, c], case.payload['classes'][c]['threshold']
        if c in image['present']:
            assert shown[name] == ('TP' if score >= threshold else 'FN')
        elif score >= threshold and c not in image['unknown']:
            assert shown[name] == 'FP'


def test_signs_follow_the_thresholds_and_the_focus_stays(show: Any, case: Case) -> None:
    page = open_class(show, case)
    card = page.locator('[data-gallery=false_positives] .card-button').first
    assert card.locator('.own .sign').inner_text() == 'FP'
    slide(page, '#one-slider', 1000)
    assert card.locator('.own .sign').inner_text() == ''
    slide(page, '#one-slider', 0)
    assert set(page.locator('[data-gallery=false_negatives] .own .sign').all_inner_texts()) == {'TP'}


def test_a_gallery_is_walked_by_arrows_and_is_one_stop_of_tab(show: Any, case: Case) -> None:
    page = open_class(show, case)
    buttons = page.locator('[data-gallery=false_positives] button')
    count = buttons.count()
    assert count >= 7
    page.locator('#after-class').focus()
    for _ in range(12):
        page.keyboard.press('Tab')
        if focused(page) >= 0:
            break
    assert focused(page) == 0
    for key, place in (
        ('ArrowRight', 1),
        ('ArrowRight', 2),
        ('ArrowLeft', 1),
        ('End', count - 1),
        ('ArrowRight', count - 1),
        ('Home', 0),
        ('ArrowLeft', 0),
    ):
        page.keyboard.press(key)
        assert focused(page) == place, key
    top = buttons.first.bounding_box()['y']
    columns = sum(abs(button.bounding_box()['y'] - top) < 1 for button in buttons.all())
    page.keyboard.press('ArrowDown')
    assert focused(page) == columns
    page.keyboard.press('ArrowUp')
    assert focused(page) == 0
    page.keyboard.press('ArrowRight')
    assert [button.get_attribute('tabindex') for button in buttons.all()].count('0') == 1
    page.keyboard.press('Tab')
    assert focused(page) == -1
    page.keyboard.press('Shift+Tab')
    assert focused(page) == 1


def test_the_dialog_opens_by_enter_moves_by_arrows_and_gives_the_focus_back(show: Any, case: Case) -> None:
    page = open_class(show, case)
    entries = case.payload['galleries']['2']['false_positives']
    names = [case.payload['images'][index]['name'] for index, _ in entries]
    page.locator('[data-gallery=false_positives] button').first.focus()
    page.keyboard.press('Enter')
    dialog = page.locator('#dialog')
    assert dialog.is_visible() and dialog.evaluate('node => node.contains(document.activeElement)')
    assert page.locator('#dialog-name').inner_text() == names[0]
    assert page.locator('#dialog-before').is_disabled()
    page.keyboard.press('ArrowRight')
    page.keyboard.press('ArrowRight')
    page.keyboard.press('ArrowLeft')
    assert page.locator('#dialog-name').inner_text() == names[1]
    assert page.locator('#dialog-place').inner_text() == f'2 of {len(entries)}'
    assert page.locator('#dialog-size').inner_text() == '640 × 480 pixels'
    first = [text.strip() for text in page.locator('#dialog-labels tr').first.inner_text().split('\t')]
    assert first == ['Cat', f'{entries[1][1]:.3f}', '0.61803', 'absent, but decided']
    # All scores that are known of it.
    assert page.locator('#dialog-labels tr').count() == len(case.payload['images'][entries[1][0]]['scores'])
    page.keyboard.press('Escape')
    assert not dialog.is_visible()
    wait_for(lambda: focused(page) == 1)
    page.keyboard.press('Enter')
    page.locator('#dialog-close').click()
    assert not dialog.is_visible()


def test_a_picture_that_could_not_be_read_is_said_to_be_missing(show: Any, case: Case) -> None:
    payload = {**case.payload, 'images': [{**image, 'thumb': None} for image in case.payload['images']]}
    page = show(payload)
    assert page.locator('#galleries img').count() == 0
    assert page.locator('#galleries .no-picture').first.inner_text() == 'no picture'
    page.locator('#galleries .card-button').first.click()
    assert page.locator('#dialog-picture').inner_text() == 'no picture'


def test_an_image_with_very_many_unknown_labels_names_their_number(show: Any, case: Case) -> None:
    image = {**case.payload['images'][0], 'unknown': [1, 3, 4], 'present': [0], 'scores': [[0, 0.9], [3, 0.7]]}
    galleries = {'2': {'false_positives': [[0, 0.8]], 'false_negatives': [], 'uncertain': []}}
    page = open_class(
        show, case._replace(payload={**case.payload, 'images': [image], 'galleries': galleries, 'suspects': []})
    )
    page.locator('#galleries .card-button').click()
    assert page.locator('#dialog-unknown').inner_text() == '3 labels of this image unknown.'
    assert [
        [row[0].strip(), row[3]]
        for row in (line.split('\t') for line in page.locator('#dialog-labels tr').all_inner_texts())
    ] == [
        ['Cat', 'absent, but decided'],
        ['person', 'present, found'],
        ['traffic light', 'unknown, decided'],
    ]
