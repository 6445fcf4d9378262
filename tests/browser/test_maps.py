"""Where the network looked: one button turns all pictures over."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from .reading import wait_for
from .synthetic import Case, picture

WORDS = 'Grad-CAM <b>of</b> best.pth'


@pytest.fixture(scope='module')
def payload(case: Case) -> dict[str, Any]:
    """Maps of every picture of every gallery but one of class 2's, whose pictures stay as they are, and of suspects."""
    found = copy.deepcopy(case.payload)
    pictures: dict[str, dict[str, str]] = {}
    pairs = [
        (entry[0], int(c)) for c in found['galleries'] for each in found['galleries'][c].values() for entry in each
    ]
    pairs += [(entry['image'], entry['class']) for entry in found['suspects'] if entry['image'] is not None]
    for image, c in pairs:
        pictures.setdefault(str(image), {})[str(c)] = picture(1000 + 10 * image + c, (60, 60))
    del pictures[str(without(case))]['2']
    found['maps'] = {'words': WORDS, 'pictures': pictures}
    return found


def without(case: Case) -> int:
    """Number of the image without a map."""
    return case.payload['galleries']['2']['false_positives'][1][0]


def sources(page: Any) -> list[str | None]:
    """What the cards of the first gallery show."""
    return page.eval_on_selector_all(
        '[data-gallery=false_positives] .frame',
        "frames => frames.map(frame => frame.querySelector('img')?.src ?? null)",
    )


def expected(payload: dict[str, Any], mapped: bool, c: int = 2) -> list[str | None]:
    entries = payload['galleries'][str(c)]['false_positives']
    maps = payload['maps']['pictures'] if mapped else {}
    return [maps.get(str(image), {}).get(str(c), payload['images'][image]['thumb']) for image, _ in entries]


def open_class(show: Any, payload: dict[str, Any], name: str = 'Cat', **settings: Any) -> Any:
    page = show(payload, **settings)
    page.locator('#class-picker').select_option(label=name)
    return page


def test_a_click_turns_the_pictures_over_and_back(show: Any, payload: dict[str, Any]) -> None:
    page = open_class(show, payload)
    button = page.locator('#maps-toggle')
    before, after = expected(payload, False), expected(payload, True)
    assert sources(page) == before != after
    assert button.get_attribute('aria-pressed') == 'false'
    assert page.locator('#maps-text').inner_text() == WORDS
    button.click()
    assert button.get_attribute('aria-pressed') == 'true'
    assert sources(page) == after and after[1] == before[1]
    wait_for(lambda: page.locator('.frame img.map').first.evaluate('image => image.naturalWidth') == 60)
    button.click()
    assert button.get_attribute('aria-pressed') == 'false' and sources(page) == before


def test_by_keyboard_and_the_focus_stays(show: Any, payload: dict[str, Any]) -> None:
    page = open_class(show, payload)
    page.locator('#maps-toggle').focus()
    for key, mapped in (('Enter', True), ('Space', False), ('Space', True)):
        page.keyboard.press(key)
        assert sources(page) == expected(payload, mapped)
        assert page.evaluate('document.activeElement.id') == 'maps-toggle'
    page.keyboard.press('Tab')
    assert page.evaluate("document.activeElement.className === 'card-button'")


def test_it_holds_for_other_classes_and_is_not_remembered(show: Any, payload: dict[str, Any]) -> None:
    page = open_class(show, payload)
    page.locator('#maps-toggle').click()
    page.locator('#class-picker').select_option(label='dog')
    assert sources(page) == expected(payload, True, 1)
    page.reload()
    page.wait_for_selector('html[data-ready]')
    assert page.locator('#maps-toggle').get_attribute('aria-pressed') == 'false'
    assert page.locator('img.map').count() == 0


def test_the_enlarged_picture(show: Any, payload: dict[str, Any], case: Case) -> None:
    page = open_class(show, payload)
    page.locator('[data-gallery=false_positives] .card-button').first.click()
    image = page.locator('#dialog-picture img')
    before, after = expected(payload, False), expected(payload, True)
    assert image.get_attribute('src') == before[0]
    button = page.locator('#dialog-maps-toggle')
    assert page.locator('#dialog-maps-text').inner_text() == 'for Cat'
    button.focus()
    page.keyboard.press('Enter')
    assert image.get_attribute('src') == after[0] and button.get_attribute('aria-pressed') == 'true'
    name = payload['images'][payload['galleries']['2']['false_positives'][0][0]]['name']
    assert image.get_attribute('alt') == f'{name}: where it looked for Cat'
    page.keyboard.press('ArrowRight')  # the picture without a map
    assert image.get_attribute('src') == before[1]
    assert page.locator('#dialog-maps-text').inner_text() == 'is not known of this picture'
    page.keyboard.press('ArrowRight')
    assert image.get_attribute('src') == after[2]
    page.keyboard.press('Escape')
    assert page.locator('#maps-toggle').get_attribute('aria-pressed') == 'true' and sources(page) == after


def test_a_suspect_enlarged(show: Any, payload: dict[str, Any]) -> None:
    page = show(payload)
    entry = next(each for each in payload['suspects'] if each['image'] not in (None, 3))
    page.locator(f'#suspect-table [aria-label="enlarge {entry["name"]}"]').first.click()
    page.locator('#dialog-maps-toggle').click()
    maps = payload['maps']['pictures'][str(entry['image'])]
    assert page.locator('#dialog-picture img').get_attribute('src') in maps.values()


@pytest.mark.parametrize('maps', ['missing', None])
def test_hidden_without_maps(show: Any, case: Case, maps: str | None) -> None:
    payload = dict(case.payload) if maps == 'missing' else {**case.payload, 'maps': None}
    page = open_class(show, payload)
    assert page.locator('#maps-toggle').is_hidden()
    page.locator('[data-gallery=false_positives] .card-button').first.click()
    assert page.locator('#dialog-picture img').is_visible()
    assert page.locator('#dialog-maps-toggle').is_hidden()
