"""The page of a payload that the package itself has built."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from mlcls.evaluation.report import suspects_csv
from mlcls.evaluation.report.payload import build_payload
from mlcls.evaluation.report.source import ReportSource
from mlcls.evaluation.result import EvaluationResult

from .reading import expected, live, row, rows, same, slide, thresholds
from .synthetic import make_case

CLASSES = ('person', 'dog', 'cat', 'car', 'never')


def built() -> tuple[Any, dict[str, Any]]:
    import torch

    case = make_case(list(CLASSES), 500, seed=4)
    result = EvaluationResult(
        {}, {}, torch.from_numpy(case.scores), torch.from_numpy(case.targets), CLASSES, 500, [], ('never',)
    )
    source = ReportSource(
        'made up',
        [f'photos/{number}.jpg' for number in range(500)],
        lambda number: np.full((90, 120, 3), number % 256, np.uint8),
        [('checkpoint', 'best.pth')],
        [entry['threshold'] for entry in case.payload['classes']],
    )
    return case, build_payload(result, source)


def corrections(text: str) -> list[dict[str, Any]]:
    return [{**line, 'score': float(line['score'])} for line in csv.DictReader(io.StringIO(text))]


def test_figures_galleries_and_corrections_agree(show: Any) -> None:
    case, payload = built()
    page = show(payload)
    home = np.asarray([entry['threshold'] for entry in case.payload['classes']], np.float32)
    same(live(page), expected(case.scores, case.targets, home)[0])
    steps = payload['steps']
    for step in (0, steps // 3, steps // 2, steps):
        slide(page, '#all-slider', step)
        same(live(page), expected(case.scores, case.targets, step / steps)[0])
    page.locator('[data-objective=home]').click()
    for c, name in enumerate(CLASSES):
        shown = row(page, name)
        assert abs(float(shown['ece']) - payload['classes'][c]['ece']) <= 0.0051
        assert np.float32(thresholds(page)[name]) == home[c]
    page.locator('#class-picker').select_option(label='dog')
    signs = page.locator('[data-gallery=false_positives] .own .sign').all_inner_texts()
    assert signs and set(signs) == {'FP'}
    assert rows(page, '#confusion-table') and rows(page, '#pair-table')
    page.locator('#suspects-all').click()
    with page.expect_download() as waiting:
        page.locator('#suspects-export').click()
    text = waiting.value.path().read_text('utf-8')
    assert corrections(text) == corrections(suspects_csv(payload['suspects'], CLASSES))
