"""What a page shows, as numbers, and what the package's own functions say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mlcls.evaluation.functional import confusion_counts, decide, precision_recall_f1

SUMMARY = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.replace(',', '').replace('\u2212', '-').replace('±', ''))


def live(page: Any) -> dict[str, float]:
    """The figures of all classes together."""
    texts = page.eval_on_selector_all(
        '[data-live]', "tiles => tiles.map(tile => [tile.dataset.live, tile.querySelector('.value').textContent])"
    )
    return {name: number(text) for name, text in texts}


def one(page: Any) -> dict[str, float]:
    """The figures of the class that is looked at."""
    texts = page.eval_on_selector_all('[data-one]', 'cells => cells.map(cell => [cell.dataset.one, cell.textContent])')
    return {name: number(text) for name, text in texts}


def row(page: Any, name: str) -> dict[str, str]:
    """Texts of the row of a class, by column."""
    for texts in rows(page):
        if texts['name'].removesuffix('note') == name:
            return texts
    raise AssertionError(f'no row {name}')


def rows(page: Any, table: str = '#class-table') -> list[dict[str, str]]:
    """Texts of all rows of a table, by column."""
    return page.eval_on_selector_all(
        f'{table} tbody tr',
        """rows => rows.map(row => Object.fromEntries([...row.cells].map(
            cell => [cell.dataset.column, cell.textContent])))""",
    )


def expected(scores: np.ndarray, targets: np.ndarray, thresholds: Any) -> tuple[dict[str, float], Any, Any]:
    """Summary, counts and measures per class at thresholds, by the package's functions."""
    found = decide(torch.from_numpy(scores), torch.as_tensor(thresholds))
    counts = confusion_counts(found, torch.from_numpy(targets))
    measures = precision_recall_f1(counts.tp, counts.fp, counts.fn)
    summary = {name: getattr(measures, name) for name in SUMMARY}
    summary |= {name: float(getattr(counts, name).sum()) for name in ('tp', 'fp', 'fn')}
    return summary, counts, measures


def same(shown: dict[str, float], wanted: dict[str, float]) -> None:
    """Figures agree to the digits that are shown."""
    assert shown.keys() == wanted.keys()
    for name, value in wanted.items():
        assert abs(shown[name] - value) <= 0.005 + 1e-9, (name, shown[name], value)


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Until something is true; the policy of the page forbids Playwright to look from inside it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)


def slide(page: Any, selector: str, step: int) -> None:
    """Move a slider to a step."""
    page.locator(selector).fill(str(step))


def thresholds(page: Any) -> dict[str, float]:
    """What the page would copy, by class."""
    if not page.locator('#json').evaluate('node => node.open'):
        page.locator('#json summary').click()
        wait_for(lambda: page.locator('#json-text').input_value())
    return json.loads(page.locator('#json-text').input_value())['thresholds']
