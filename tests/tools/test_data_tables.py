"""The page of data measurements is what its artifacts say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/benchmarks'))
import data_tables  # noqa: E402


def test_the_page_is_generated() -> None:
    assert (data_tables.FOLDER / 'README.md').read_text() == data_tables.page()


def test_numbers_come_from_the_files(tmp_path: Path) -> None:
    content = json.loads((data_tables.FOLDER / 'splitting.json').read_text())
    content['rows'] = content['rows'][:1]
    content['rows'][0] |= {'missing': 7.25, 'size_off_by': 13.0}
    (tmp_path / 'splitting.json').write_text(json.dumps(content))
    page = data_tables.page(tmp_path)
    assert '| 7.2 | 13 |' in page and '## Balance' not in page
    assert sum(line.startswith('| `coco14') for line in page.splitlines()) == 1


def test_the_figures_in_the_text_are_those_of_the_files() -> None:
    text = (ROOT / 'docs/data.md').read_text()
    rows = {row['name']: row for row in json.loads((data_tables.FOLDER / 'balance.json').read_text())['rows']}
    once, sampled = (round(rows[name]['max_over_min']) for name in ('each image once', 'sampler 0.2 to 5'))
    assert f'{sampled} times as frequent as the rarest instead of {once} times' in text
    assert round(rows['ClassBalancedDataset 0.05']['extra_draws_with_head'], 1) == 0.5  # "half of the extra draws"
    up, exact = (rows[f'{name} 0.02']['epoch_length'] for name in ('mmengine', 'ClassBalancedDataset'))
    assert abs(up - 4 / 3) < 0.01 and f'grows by a third instead of {100 * exact - 100:.0f} %' in text
