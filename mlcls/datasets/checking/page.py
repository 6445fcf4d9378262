"""The report as one HTML page: no scripts, no network, pictures inside."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from mlcls.datasets.transforms.loading import decode_image, read_bytes
from mlcls.errors import DataError

from .labels import MIN_POSITIVES
from .report import SEVERITIES, CheckReport, Finding, headline, summary

#: Classes in the table: all, if there are no more; else the most and the least frequent so many.
_MAX_ROWS, _TOP, _BOTTOM = 60, 20, 30
_MAX_HEAT = 30
#: Pairs of which thumbnails are shown, in the whole page and of one finding.
_MAX_PAIRS, _PAIRS_EACH = 24, 6
_THUMB_SIDE = 112
#: Sides of a cell of the co-occurrence map in pixels; up to so many classes, it has room for a number.
_CELL, _NUMBER_CELL, _MAX_NUMBERS = 18, 40, 12
_MAX_NAME = 22


def render_page(report: CheckReport) -> str:
    """The page as HTML text.

    Thumbnails of flagged pairs are read from their files; one that cannot be read is left out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template('page.html.j2').render(
        report=report,
        summary=summary(report),
        severities=[(severity, report.count(severity)) for severity in SEVERITIES if report.count(severity)],
        findings=_findings(report),
        splits=report.statistics.get('splits', {}),
        classes=_class_rows(report.statistics),
        sizes=_size_bars(report.statistics),
        heat=_heat_map(report.statistics),
        min_positives=MIN_POSITIVES,
    )


def _findings(report: CheckReport) -> list[dict[str, Any]]:
    """Findings with their thumbnails, as many as the page has room for."""
    room = _MAX_PAIRS
    rows = []
    for finding in report.findings:
        taken = min(_PAIRS_EACH, room, len(finding.pairs))
        room -= taken
        pairs = [
            [{'path': report.shorten(path), 'data': thumbnail(path)} for path in pair] for pair in finding.pairs[:taken]
        ]
        rest = [' ~ '.join(map(report.shorten, pair)) for pair in finding.pairs[taken:]]
        items = [report.shorten(item) for item in finding.items] + rest
        rows.append(
            {'finding': finding, 'headline': headline(finding), 'pairs': pairs, 'items': items, 'more': _more(finding)}
        )
    return rows


def _more(finding: Finding) -> int:
    listed = max(len(finding.items), len(finding.pairs))
    return max(finding.count - listed, 0) if listed else 0


def thumbnail(path: str, side: int = _THUMB_SIDE) -> str:
    """A small JPEG of an image as a data URI; empty if it cannot be read."""
    from PIL import Image

    try:
        image = Image.fromarray(decode_image(read_bytes(path)))
    except DataError:
        return ''
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=75)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _class_rows(statistics: dict[str, Any]) -> dict[str, Any]:
    """Rows of the table of classes, most frequent first, and how many are left out between."""
    names = statistics.get('classes', [])
    splits = {name: values for name, values in statistics.get('splits', {}).items() if values['classes'] == len(names)}
    counts = {name: np.array(values['positives']) for name, values in splits.items()}
    total = np.sum(list(counts.values()), axis=0) if counts else np.zeros(0)
    images = {name: max(values['images'], 1) for name, values in splits.items()}
    largest = max((count.max() / images[name] for name, count in counts.items() if len(count)), default=1) or 1
    order = np.argsort(-total, kind='stable').tolist()
    left_out = len(order) - _TOP - _BOTTOM if len(order) > _MAX_ROWS else 0
    if left_out:
        order = order[:_TOP] + order[-_BOTTOM:]
    rows = [
        {
            'name': names[i],
            'cells': [
                {
                    'count': int(counts[name][i]),
                    'share': counts[name][i] / images[name],
                    'bar': counts[name][i] / images[name] / largest,
                }
                for name in splits
            ],
        }
        for i in order
    ]
    return {'splits': list(splits), 'rows': rows, 'left_out': left_out, 'top': _TOP}


def _size_bars(statistics: dict[str, Any]) -> list[dict[str, Any]]:
    """Share of images with 0, 1, 2, ... labels, by split."""
    charts = []
    for name, values in statistics.get('splits', {}).items():
        counts = values['labels_per_image_counts']
        if len(counts) > 13:
            counts = [*counts[:12], sum(counts[12:])]
        largest = max(counts, default=0) or 1
        bars = [
            {'label': f'{number}{"+" if number == 12 else ""}', 'count': count, 'height': count / largest}
            for number, count in enumerate(counts)
        ]
        charts.append({'split': name, 'bars': bars, 'mean': values['labels_per_image']})
    return charts


def _heat_map(statistics: dict[str, Any]) -> dict[str, Any] | None:
    """Cells of the co-occurrence map of the most frequent classes: share of the images of a row that show a column."""
    together = statistics.get('cooccurrence', {'classes': [], 'counts': []})
    counts = np.array([row[:_MAX_HEAT] for row in together['counts'][:_MAX_HEAT]], np.float64)
    shown = int(np.count_nonzero(counts.diagonal())) if counts.size else 0  # the most frequent come first
    if shown < 2:
        return None
    names = [statistics['classes'][i] for i in together['classes'][:shown]]
    shares = counts[:shown, :shown] / counts.diagonal()[:shown, None]
    margin = 14 + 7 * min(max(map(len, names)), _MAX_NAME)
    cell = _CELL if shown > _MAX_NUMBERS else _NUMBER_CELL
    cells = [
        {
            'x': margin + column * cell,
            'y': margin + row * cell,
            'share': shares[row, column],
            'text': f'{shares[row, column]:.0%}' if cell == _NUMBER_CELL else '',
            'title': f'{shares[row, column]:.0%} of the images with {names[row]} show {names[column]}',
        }
        for row in range(len(names))
        for column in range(len(names))
        if row != column
    ]
    labels = [
        {'name': name if len(name) <= _MAX_NAME else f'{name[: _MAX_NAME - 1]}…', 'at': margin + i * cell}
        for i, name in enumerate(names)
    ]
    size = margin + len(names) * cell + 4
    every = len(statistics['classes'])
    return {'cells': cells, 'labels': labels, 'margin': margin, 'size': size, 'cell': cell, 'all': every}
