"""Operating points: the numbers that the page shows are those that the package computes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from .conftest import NAMES
from .reading import expected, live, one, row, same, slide, thresholds, wait_for
from .synthetic import AWKWARD, Case, limits, make_case

HOME = [float(np.float32(AWKWARD[c % 4])) for c in range(6)]


def counts_and_measures(case: Case, c: int, threshold: float) -> dict[str, float]:
    values = [threshold] * len(NAMES)
    _, counts, measures = expected(case.scores, case.targets, values)
    names = ('precision', 'recall', 'f1')
    return {name: float(getattr(counts, name)[c]) for name in ('tp', 'fp', 'fn', 'tn')} | {
        name: float(getattr(measures, name)[c]) for name in names
    }


def test_the_page_opens_at_the_models_thresholds_with_exact_figures(show: Any, case: Case) -> None:
    page = show(case.payload)
    summary, counts, _ = expected(case.scores, case.targets, HOME)
    same(live(page), summary)
    headline = page.eval_on_selector_all(
        '#overview .tile',
        "tiles => tiles.map(t => [t.querySelector('dt').textContent, +t.querySelector('.value').textContent])",
    )
    same(
        {name.replace(' ', '_'): value for name, value in headline if name != 'mAP'},
        {name: value for name, value in summary.items() if name not in ('tp', 'fp', 'fn')},
    )
    for c, name in enumerate(NAMES):
        texts = row(page, name)
        assert float(texts['threshold']) == AWKWARD[c % 4]
        assert [texts['tp'], texts['fp'], texts['fn']] == [
            str(int(getattr(counts, key)[c])) for key in ('tp', 'fp', 'fn')
        ]
    assert "The model's: each class its own, from 0.123457 to 0.61803" in page.locator('#all-text').inner_text()
    assert {tile.inner_text() for tile in page.locator('[data-live] .delta').all()} <= {'±0.00', '±0'}
    assert 'steps of 1/1,000' in page.locator('#thresholds').inner_text()
    assert 'optimistic' in page.locator('#thresholds').inner_text()


def test_one_slider_moves_all_classes(show: Any, case: Case) -> None:
    page = show(case.payload)
    for step in (0, 1, 70, 500, 930, 1000):
        slide(page, '#all-slider', step)
        summary, counts, measures = expected(case.scores, case.targets, step / 1000)
        same(live(page), summary)
        assert page.locator('#all-text').inner_text() == f'Now: {step / 1000:.3f} for every class'
        assert page.locator('#all-number').input_value() == f'{step / 1000:.3f}'
        for c, name in enumerate(NAMES):
            texts = row(page, name)
            assert texts['threshold'] == f'{step / 1000:.3f}'
            assert int(texts['fp']) == int(counts.fp[c])
            assert abs(float(texts['f1']) - float(measures.f1[c])) <= 0.005 + 1e-9


def test_the_change_from_the_models_thresholds_is_shown(show: Any, case: Case) -> None:
    page = show(case.payload)
    slide(page, '#all-slider', 300)
    before, after = (expected(case.scores, case.targets, value)[0] for value in (HOME, 0.3))
    for name in ('CF1', 'OP', 'fn'):
        text = page.locator(f'[data-live={name}] .delta').inner_text()
        change = after[name] - before[name]
        assert text[0] == ('+' if change > 0 else '\u2212')
        assert abs(float(text[1:]) - abs(change)) <= 0.005 + 1e-9


def test_the_slider_of_a_row_moves_one_class_and_snaps_to_the_steps(show: Any, case: Case) -> None:
    page = show(case.payload)
    slider = page.locator('#class-table tbody tr').nth(2).locator('input')
    assert slider.input_value() == '618'  # the nearest step to 0.61803, which no step is
    slider.focus()
    page.keyboard.press('ArrowRight')
    page.keyboard.press('ArrowRight')
    assert slider.get_attribute('aria-valuetext') == '0.620'
    assert row(page, 'Cat')['threshold'] == '0.620'
    moved = [*HOME[:2], 0.62, *HOME[3:]]
    same(live(page), expected(case.scores, case.targets, moved)[0])
    assert row(page, 'dog')['threshold'] == '0.5'  # the others stay, exactly
    assert slider.evaluate('node => node === document.activeElement')
    wait_for(lambda: page.locator('#announcer').inner_text().startswith('CF1 '))


def test_the_slider_of_the_chosen_class_and_that_of_its_row_are_one(show: Any, case: Case) -> None:
    page = show(case.payload)
    page.locator('#class-picker').select_option(label='traffic light')
    assert page.locator('#one-number').input_value() == '0.123457'
    same(one(page), counts_and_measures(case, 3, HOME[3]))
    slide(page, '#one-slider', 437)
    same(one(page), counts_and_measures(case, 3, 0.437))
    assert row(page, 'traffic light')['threshold'] == '0.437'
    assert "the model's: 0.123457" in page.locator('#one-text').inner_text()
    page.locator('#one-number').fill('0.2504')
    page.keyboard.press('Enter')
    assert page.locator('#one-number').input_value() == '0.250'  # snapped
    same(one(page), counts_and_measures(case, 3, 0.25))
    page.locator('#one-home').click()
    same(one(page), counts_and_measures(case, 3, HOME[3]))


def test_the_operating_point_moves_on_the_curve(show: Any, case: Case) -> None:
    page = show(case.payload)
    page.locator('#class-picker').select_option(label='dog')
    places = []
    for step in (200, 500, 800):
        slide(page, '#one-slider', step)
        wanted = counts_and_measures(case, 1, step / 1000)
        text = page.locator('#pr-chart svg').get_attribute('aria-label')
        assert f'precision {wanted["precision"]:.2f}, recall {wanted["recall"]:.2f}' in text
        dot = page.locator('#pr-chart .dot')
        x, y = float(dot.get_attribute('cx')), float(dot.get_attribute('cy'))
        # The dot lies on the drawn line.
        path = page.locator('#pr-chart path.curve')
        distance = path.evaluate(
            """(path, [x, y]) => { const all = path.getTotalLength(); let best = 1e9;
            for (let i = 0; i <= 4000; i++) { const p = path.getPointAtLength(all * i / 4000);
              best = Math.min(best, Math.hypot(p.x - x, p.y - y)); } return best; }""",
            [x, y],
        )
        assert distance < 1
        places.append((x, y))
    assert places[0][0] > places[1][0] > places[2][0]


# Objectives


@pytest.fixture(scope='module')
def coarse() -> list[Case]:
    """Few enough steps that every choice for three classes can be tried."""
    return [make_case(['a', 'b', 'c'], 90, seed=seed, steps=40, pictures=5) for seed in range(3)]


def every_choice(case: Case) -> dict[str, np.ndarray]:
    """Precision, recall and counts of each class at each step, float64 (C, K + 1)."""
    steps = case.payload['steps']
    decided = case.scores[:, :, None] >= limits(steps)
    positive, negative = (case.targets == 1)[:, :, None], (case.targets == 0)[:, :, None]
    tp, fp = (decided & positive).sum(0).astype(float), (decided & negative).sum(0).astype(float)
    all_positive = positive.sum(0).astype(float)
    precision = tp / np.maximum(tp + fp, 1)
    return {'tp': tp, 'fp': fp, 'P': all_positive, 'precision': precision, 'recall': tp / np.maximum(all_positive, 1)}


def test_best_f1_of_each_class_is_the_best_there_is(show: Any, coarse: list[Case]) -> None:
    for case in coarse:
        page = show(case.payload)
        page.locator('[data-objective=f1]').click()
        choice = every_choice(case)
        f1 = 200 * choice['tp'] / (choice['tp'] + choice['fp'] + choice['P'])
        for c, name in enumerate('abc'):
            texts = row(page, name)
            assert abs(float(texts['f1']) - f1[c].max()) <= 0.005 + 1e-9
            # In the middle of the thresholds that decide like the lowest best one.
            k = round(thresholds(page)[name] * 40)
            best = int(f1[c].argmax())
            alike = (choice['tp'][c] == choice['tp'][c, best]) & (choice['fp'][c] == choice['fp'][c, best])
            places = np.flatnonzero(alike)
            assert k == (places[0] + places[-1]) // 2


def test_best_cf1_and_of1_equal_a_search_through_all_choices(show: Any, coarse: list[Case]) -> None:
    for case in coarse:
        choice = every_choice(case)
        wide = np.ix_(*[range(41)] * 3)
        cp, cr, tp, fp = (
            sum(choice[name][c][wide[c]] for c in range(3)) for name in ('precision', 'recall', 'tp', 'fp')
        )
        cf1 = np.divide(200 * cp * cr / 3, cp + cr, out=np.zeros_like(cp), where=cp + cr > 0)
        of1 = 200 * tp / (tp + fp + choice['P'].sum())
        page = show(case.payload)
        page.locator('[data-objective=CF1]').click()
        assert abs(live(page)['CF1'] - cf1.max()) <= 0.005 + 1e-9
        page.locator('[data-objective=OF1]').click()
        assert abs(live(page)['OF1'] - of1.max()) <= 0.005 + 1e-9


def test_least_precision_gives_the_most_recall_and_least_recall_the_most_precision(
    show: Any, coarse: list[Case]
) -> None:
    case, choice = coarse[1], every_choice(coarse[1])
    page = show(case.payload)
    unreached = 0
    for least, (wanted, other) in itertools.product((60, 75.5, 90), (('precision', 'recall'), ('recall', 'precision'))):
        page.locator(f'#least-{wanted}').fill(str(least))
        page.locator(f'[data-objective={wanted}]').click()
        for c, name in enumerate('abc'):
            allowed = 100 * choice[wanted][c] >= least - 1e-9
            shown = row(page, name)
            if not allowed.any():
                unreached += 1
                assert float(shown['threshold']) == AWKWARD[c]
                assert name in page.locator('#objective-message').inner_text()
                continue
            best = choice[other][c][allowed].max()
            # Of those that are equal in the other measure, the best in the one that was asked for.
            first = choice[wanted][c][allowed & (choice[other][c] == best)].max()
            assert abs(float(shown[other]) - 100 * best) <= 0.005 + 1e-9
            assert abs(float(shown[wanted]) - 100 * first) <= 0.005 + 1e-9
    assert unreached < 6


def test_classes_that_cannot_reach_the_goal_keep_the_models_threshold_and_are_named(show: Any, case: Case) -> None:
    page = show(case.payload)
    slide(page, '#all-slider', 100)
    page.locator('#least-precision').fill('100')
    page.keyboard.press('Enter')
    text = page.locator('#objective-message').inner_text()
    assert text.startswith('Most recall with precision at least 100 % in each class.')
    assert "left at the model's threshold:" in text and 'never seen' in text
    assert row(page, 'never seen')['threshold'] == '0.5'
    page.locator('[data-objective=f1]').click()
    assert page.locator('#objective-message').inner_text() == (
        "Best F1 per class. 1 class without a positive, left at the model's threshold: never seen."
    ).replace('per class', 'of each class')


def test_half_and_back_to_the_models(show: Any, case: Case) -> None:
    page = show(case.payload)
    page.locator('[data-objective=half]').click()
    same(live(page), expected(case.scores, case.targets, 0.5)[0])
    assert page.locator('#objective-message').inner_text() == '0.500 for every class.'
    page.locator('[data-objective=home]').click()
    same(live(page), expected(case.scores, case.targets, HOME)[0])
    assert page.locator('#objective-message').inner_text() == "Back at the model's thresholds."
    assert row(page, 'person')['threshold'] == '0.31274'


def test_a_percentage_must_be_one(show: Any, case: Case) -> None:
    page = show(case.payload)
    for text in ('', '-1', '101'):
        page.locator('[data-objective=home]').click()
        page.locator('#least-recall').fill(text)
        page.locator('[data-objective=recall]').click()
        assert page.locator('#objective-message').inner_text() == 'Give a percentage from 0 to 100.'
        assert page.locator('#least-recall').get_attribute('aria-invalid') == 'true'
        same(live(page), expected(case.scores, case.targets, HOME)[0])


def test_a_threshold_typed_for_all_classes_snaps_and_must_lie_between_0_and_1(show: Any, case: Case) -> None:
    page = show(case.payload)
    page.locator('#all-number').fill('0.3456')
    page.keyboard.press('Enter')
    same(live(page), expected(case.scores, case.targets, 0.346)[0])
    page.locator('#all-number').fill('1.5')
    page.keyboard.press('Enter')
    assert page.locator('#objective-message').inner_text() == 'Give a threshold from 0 to 1.'
    assert page.locator('#all-number').input_value() == '0.346'


# Taking thresholds along


def points_of(text: str) -> Any:
    from mlcls.evaluation.operating_points import OperatingPoints

    return OperatingPoints.from_dict(json.loads(text), 'thresholds.json')


def test_copied_thresholds_are_read_and_decide_as_the_page_shows(show: Any, case: Case) -> None:
    import torch

    page = show(case.payload, permissions=['clipboard-read', 'clipboard-write'])
    slide(page, '#all-slider', 321)
    page.locator('#class-table tbody tr').nth(1).locator('input').fill('765')
    page.locator('#copy').click()
    wait_for(lambda: page.locator('#copy-message').inner_text() == 'Copied.')
    text = page.evaluate('navigator.clipboard.readText()')
    assert json.loads(text) == {
        'classes': list(NAMES),
        'thresholds': dict(zip(NAMES, [0.321, 0.765, 0.321, 0.321, 0.321, 0.321])),
        'source': 'chosen by hand in the report',
        'data_hash': '0123456789abcdef',
    }
    points = points_of(text)
    assert set(points.classes) == set(NAMES) and points.data_hash == '0123456789abcdef'
    order = [NAMES.index(name) for name in points.classes]
    decided = points.decide(torch.from_numpy(case.scores[:, order])).numpy()
    right = (decided & (case.targets[:, order] == 1)).sum()
    assert right == live(page)['tp']


def test_the_models_thresholds_are_copied_exactly(show: Any, case: Case, tmp_path: Any) -> None:
    page = show(case.payload)
    with page.expect_download() as waiting:
        page.locator('#download').click()
    assert waiting.value.suggested_filename == 'thresholds.json'
    path = tmp_path / 'thresholds.json'
    waiting.value.save_as(path)
    assert json.loads(path.read_text('utf-8'))['thresholds'] == dict(zip(NAMES, HOME))
    points = points_of(path.read_text('utf-8'))
    assert dict(zip(points.classes, points.thresholds)) == dict(zip(NAMES, HOME))


@pytest.mark.parametrize('lacking', ['navigator.clipboard', 'both'])
def test_copying_has_another_way_where_the_clipboard_is_locked(show: Any, case: Case, lacking: str) -> None:
    page = show(case.payload, permissions=['clipboard-read', 'clipboard-write'])
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('locked')); }")
    if lacking == 'both':
        page.evaluate('() => { document.execCommand = () => false; }')
    page.locator('#copy').click()
    message = page.locator('#copy-message')
    if lacking == 'both':
        wait_for(lambda: page.locator('#copy-message').inner_text())
        assert message.inner_text() == 'This browser does not let the page copy: use the download, or the text below.'
        assert page.locator('#json-text').is_visible()
        wait_for(lambda: page.locator('#json-text').input_value())
        assert json.loads(page.locator('#json-text').input_value())['thresholds']['dog'] == 0.5
    else:
        wait_for(lambda: page.locator('#copy-message').inner_text() == 'Copied.')
        assert json.loads(page.evaluate('navigator.clipboard.readText()'))['thresholds']['dog'] == 0.5
        assert page.locator('#copy').evaluate('node => node === document.activeElement')


def test_the_best_common_threshold_is_where_the_chart_is_highest(show: Any, coarse: list[Case]) -> None:
    case = coarse[0]
    page = show(case.payload)
    heights = [
        [float(part) for part in point.replace('M', '').split(' ')]
        for point in page.locator('#common-chart .curve.second').get_attribute('d').replace('L', '|').split('|')
    ]
    best = min(range(41), key=lambda k: (heights[k][1], k))
    values = [expected(case.scores, case.targets, float(value))[0]['OF1'] for value in limits(40)]
    assert values[best] == max(values)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(heights))


def test_copied_thresholds_bring_the_calibration_of_the_scores_along(show: Any, case: Case) -> None:
    from mlcls.evaluation.operating_points import Calibration

    number = len(NAMES)
    calibration = Calibration('temperature', (0.5,) * number, (0.0,) * number)
    payload = {**case.payload, 'calibration': calibration.to_dict()}
    page = show(payload, permissions=['clipboard-read', 'clipboard-write'])
    page.locator('#copy').click()
    wait_for(lambda: page.locator('#copy-message').inner_text() == 'Copied.')
    points = points_of(page.evaluate('navigator.clipboard.readText()'))
    assert points.calibration is not None and points.calibration.to_dict() == calibration.to_dict()
    assert points.classes == tuple(NAMES)
