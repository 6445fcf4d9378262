"""The page as a whole: any name, no network, any screen, print, contrast, names for every control."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from .conftest import NAMES
from .reading import live, rows, slide, thresholds, wait_for
from .synthetic import Case, make_case

#: Names that break pages: markup, ends of scripts, quotes, other directions, no end, special keys of JavaScript.
NASTY = [
    '<img src=x onerror="window.hacked=1">',
    '</script><script>window.hacked=2</script>',
    '"double\' &amp; <b>bold</b>',
    '\u202eright to left مرحبا שלום',
    '\U0001f98a fox \u2028 \u2029',
    'x' * 400,
    '__proto__',
    'constructor',
    'hasOwnProperty',
    '{{ 7 * 7 }} ${7 * 7}',
    '<!-- <script>',
    'C:\\new\\table',
]


@pytest.fixture(scope='module')
def nasty() -> dict[str, Any]:
    payload = make_case(NASTY, 120, seed=2, pictures=20).payload
    payload['title'] = NASTY[0] + NASTY[1] + NASTY[5]
    payload['facts'] = [[NASTY[1], NASTY[0]], ['long', NASTY[5]]]
    payload['protocol'] = [[NASTY[10], NASTY[3]]]
    payload['notes'] = [NASTY[1], NASTY[5]]
    for place, image in enumerate(payload['images']):
        image['name'] = NASTY[place % len(NASTY)] + f'/{place}.jpg'
    for suspect in payload['suspects']:
        suspect['name'] = NASTY[suspect['class']]
    for entry in payload['classes']:
        entry['note'] = NASTY[1]
    return payload


def test_names_may_hold_anything(show: Any, nasty: dict[str, Any]) -> None:
    page = show(nasty)
    assert page.evaluate('window.hacked') is None
    assert page.locator('h1').inner_text() == nasty['title']
    assert {texts['name'].removesuffix('note') for texts in rows(page)} == set(NASTY)
    assert page.eval_on_selector_all('#class-picker option', 'options => options.map(o => o.textContent)') == NASTY
    assert set(thresholds(page)) == set(NASTY)
    for button in page.locator('#class-table .link').all()[:3]:
        button.click()
        page.locator('#galleries .card-button').first.click()
        page.keyboard.press('Escape')
    assert page.evaluate('window.hacked') is None
    assert page.evaluate('({}).polluted') is None


def test_long_names_do_not_widen_the_page(show: Any, nasty: dict[str, Any]) -> None:
    for width in (1280, 390):
        page = show(nasty, viewport={'width': width, 'height': 844})
        page.locator('#class-picker').select_option(index=5)
        assert page.evaluate('document.documentElement.scrollWidth') <= width
        page.locator('#galleries .card-button').first.click()
        assert page.locator('#dialog').evaluate('node => node.scrollWidth <= node.clientWidth + 1')


def test_nothing_is_loaded_and_nothing_could_be(show: Any, case: Case) -> None:
    page = show(case.payload)
    answer = page.evaluate("() => fetch('http://127.0.0.1:9/').then(() => 'loaded', () => 'refused')")
    assert answer == 'refused'
    assert any('Content Security Policy' in text for text in page.watch.errors)
    assert page.watch.foreign == []
    page.watch.errors.clear()


def test_damaged_data_are_reported_on_the_page(show: Any, case: Case) -> None:
    for histograms, words in (
        (case.payload['histograms'][:-400], 'do not fit its classes'),
        ('gA==', 'are cut off'),
        ('AAUC', 'do not fit its classes'),
    ):
        page = show({**case.payload, 'histograms': histograms}, ready=False)
        wait_for(lambda page=page: page.locator('#failure').is_visible())
        text = page.locator('#failure').inner_text()
        assert text.startswith('The interactive part of this page does not work: ') and words in text
        assert page.locator('#overview .tile').count() == 8
        page.watch.errors.clear()


def test_without_scripts_the_overview_is_there(show: Any, case: Case) -> None:
    page = show(case.payload, ready=False, java_script_enabled=False)
    text = page.locator('main').inner_text()
    assert 'need JavaScript' in text
    assert f'{case.payload["headline"][2]["value"]:.2f}' in text and 'stored in the checkpoint' in text


@pytest.mark.parametrize('count', [1, 3])
def test_one_class_and_few_images(show: Any, count: int) -> None:
    page = show(make_case(NAMES[:count], 2, seed=count, steps=10).payload)
    slide(page, '#all-slider', 5)
    assert live(page)['tp'] >= 0
    for objective in ('f1', 'CF1', 'OF1', 'precision', 'recall', 'half', 'home'):
        page.locator(f'[data-objective={objective}]').click()
    assert page.locator('#thresholds').inner_text().count('1/10:') == 1


def test_a_set_without_any_positive(show: Any) -> None:
    case = make_case(['a', 'b'], 30, seed=1)
    case.targets[:] = 0
    payload = make_case(['a', 'b'], 30, seed=1).payload
    negatives = [entry['positives'] + entry['negatives'] for entry in payload['classes']]
    payload['classes'] = [
        {**entry, 'positives': 0, 'negatives': number, 'ap': None}
        for entry, number in zip(payload['classes'], negatives)
    ]
    payload['home'] = [[0, tp + fp, 0] for tp, fp, _ in payload['home']]
    payload['histograms'] = _only_negatives(case, payload['steps'])
    payload['reliability'] = [[[0, 0, None]] * 10] * 2
    page = show(payload)
    for objective in ('f1', 'CF1', 'OF1', 'precision', 'recall'):
        page.locator(f'[data-objective={objective}]').click()
        assert '2 classes' in page.locator('#objective-message').inner_text()
        assert live(page)['CF1'] == 0
    assert 'no known label' in page.locator('#reliability-chart').inner_html()


def _only_negatives(case: Case, steps: int) -> str:
    from .synthetic import _histograms

    return _histograms(case.scores, case.targets, steps)


# Screens


def test_a_phone_needs_no_sideways_scrolling(show: Any, case: Case) -> None:
    page = show(
        case.payload, viewport={'width': 390, 'height': 844}, is_mobile=True, has_touch=True, device_scale_factor=2
    )
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    assert page.evaluate('window.innerWidth') == 390
    slide(page, '#all-slider', 300)
    page.locator('#galleries .card-button').first.tap()
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    # Fingers need room.
    heights = page.eval_on_selector_all(
        '#thresholds button', 'nodes => nodes.map(node => node.getBoundingClientRect().height)'
    )
    assert min(heights) >= 36


def test_letters_in_charts_keep_their_size_on_a_phone(show: Any, case: Case) -> None:
    for width in (390, 1280):
        page = show(case.payload, viewport={'width': width, 'height': 844})
        scales = page.eval_on_selector_all(
            'figure svg', 'charts => charts.map(svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)'
        )
        assert len(scales) == 4 and all(0.95 < scale < 1.05 for scale in scales)
    page.set_viewport_size({'width': 400, 'height': 844})
    wait_for(lambda: page.locator('#common-chart svg').evaluate('svg => svg.viewBox.baseVal.width') < 390)


def test_print_leaves_controls_out_and_is_light(show: Any, case: Case) -> None:
    page = show(case.payload, color_scheme='dark')
    page.emulate_media(media='print', color_scheme='dark')
    for control in ('.bar', '#all-slider', '#class-table input', '#class-picker', '#suspects-all'):
        assert not page.locator(control).first.is_visible(), control
    assert page.locator('[data-live=CF1]').is_visible() and page.locator('#class-table output').first.is_visible()
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
    assert page.pdf(format='A4')[:5] == b'%PDF-'


CONTRAST = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return null;
  };
  const low = {};
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !node.checkVisibility() || node.closest('.sr, script, :disabled, option')) continue;
    const style = getComputedStyle(node);
    const first = light(parse(node.closest('svg') ? style.fill : style.color));
    const second = light(back(node) || [255, 255, 255]);
    const contrast = (Math.max(first, second) + 0.05) / (Math.min(first, second) + 0.05);
    seen++;
    if (contrast < 4.5) low[`${node.tagName}.${node.getAttribute('class')} ${text.slice(0, 20)}`] = contrast;
  }
  return [seen, low];
}
"""


def test_every_text_has_contrast_in_light_and_dark(show: Any, case: Case) -> None:
    backs = []
    for scheme in ('light', 'dark'):
        page = show(case.payload, color_scheme=scheme)
        page.locator('#least-precision').fill('100')
        page.locator('[data-objective=precision]').click()  # a warning is shown
        page.locator('#suspect-table input[type=checkbox]').first.check()  # and the button of the main action
        seen, low = page.evaluate(CONTRAST)
        assert seen > 300 and low == {}
        page.locator('#galleries .card-button').first.click()
        assert page.evaluate(CONTRAST)[1] == {}
        backs.append(page.evaluate('getComputedStyle(document.body).backgroundColor'))
    assert backs == ['rgb(255, 255, 255)', 'rgb(20, 23, 28)']


def test_every_control_has_a_name_and_headings_are_in_order(show: Any, case: Case) -> None:
    page = show(case.payload)
    nameless = page.eval_on_selector_all(
        'input, select, textarea, button, svg[role=img], [role=region], dialog',
        """nodes => nodes.filter(node => !(node.getAttribute('aria-label') || node.getAttribute('aria-labelledby')
          || node.textContent.trim() || (node.labels && node.labels.length)))
          .map(node => node.outerHTML.slice(0, 120))""",
    )
    assert nameless == []
    levels = page.eval_on_selector_all('h1, h2, h3, h4', 'nodes => nodes.map(node => Number(node.tagName[1]))')
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = page.eval_on_selector_all('[id]', 'nodes => nodes.map(node => node.id)')
    assert len(ids) == len(set(ids))
    assert page.locator('html').get_attribute('lang') == 'en'
    pointed = page.eval_on_selector_all(
        '[aria-labelledby], [aria-describedby], label[for], a[href^="#"]',
        """nodes => nodes.flatMap(node => [node.getAttribute('aria-labelledby'), node.getAttribute('aria-describedby'),
          node.htmlFor, (node.getAttribute('href') || '').slice(1)]).filter(Boolean)""",
    )
    assert set(pointed) <= set(ids)


def test_the_first_stop_of_tab_skips_to_the_report_and_focus_is_seen(show: Any, case: Case) -> None:
    page = show(case.payload)
    page.keyboard.press('Tab')
    skip = page.locator('.skip')
    assert skip.evaluate('node => node === document.activeElement') and skip.bounding_box()['y'] >= 0
    page.keyboard.press('Enter')
    assert page.evaluate('document.activeElement.id') == 'main'
    page.locator('#copy').focus()
    page.keyboard.press('Shift+Tab')
    page.keyboard.press('Tab')
    assert page.locator('#copy').evaluate('node => getComputedStyle(node).outlineStyle') == 'solid'


def test_motion_is_reduced_where_it_is_asked_for(show: Any, case: Case) -> None:
    moves = [
        show(case.payload, reduced_motion=wish).evaluate('getComputedStyle(document.documentElement).scrollBehavior')
        for wish in ('reduce', 'no-preference')
    ]
    assert moves == ['auto', 'smooth']


@pytest.mark.slow
def test_a_thousand_classes_and_forty_thousand_images(show: Any, tmp_path: Any) -> None:
    """Under 15 MB, usable in 2 s, a slider answers in 100 ms; the best of several, for other work goes on beside."""
    case = make_case([f'class {number:04d}' for number in range(1000)], 40_000, seed=1, pictures=1900)
    case.payload['suspects'] *= 5
    page = show(case.payload)
    size = (tmp_path / 'report-0.html').stat().st_size
    assert 8e6 < size < 15e6
    usable = []
    for _ in range(4):
        page.reload()
        page.wait_for_selector('html[data-ready]')
        usable.append(page.evaluate("performance.getEntriesByName('usable')[0].startTime"))
    steps = page.evaluate(
        """() => [...Array(40).keys()].map((i) => {
          const slider = document.getElementById('all-slider');
          const start = performance.now();
          slider.value = 200 + 10 * i;
          slider.dispatchEvent(new Event('input'));
          document.body.offsetHeight;  // with the layout
          return performance.now() - start; })"""
    )
    objectives = {
        name: page.evaluate(
            """(name) => { const start = performance.now();
              document.querySelector(`[data-objective=${name}]`).click(); return performance.now() - start; }""",
            name,
        )
        for name in ('f1', 'CF1', 'OF1', 'precision')
    }
    print(json.dumps({'bytes': size, 'usable_ms': min(usable), 'slider_ms': min(steps), 'objectives_ms': objectives}))
    assert min(usable) < 2000
    assert min(steps) < 100
    field = page.locator('#class-table input[type=search]')
    field.fill('class 0999')
    assert len(rows(page)) == 1
    assert page.locator('#class-table .shown').inner_text() == '1 of 1,000 classes'
