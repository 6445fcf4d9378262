"""The report as one HTML file: opens from disk, needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

#: Parts of the script, in the order in which they are joined.
SCRIPTS = (
    'data',
    'measures',
    'dom',
    'table',
    'state',
    'charts',
    'explorer',
    'classes',
    'detail',
    'looks',
    'gallery',
    'lists',
    'main',
)
_FOLDER = Path(__file__).parent
#: What could end a script element or begin a comment in one; the last two end a line in older scripts.
_ESCAPES = {ord(sign): f'\\u{ord(sign):04x}' for sign in '<>&\u2028\u2029'}


def render_page(payload: Mapping[str, Any]) -> str:
    """The report as one HTML document.

    Style, script and data lie in the document. A content security policy lets nothing else run and nothing be loaded.

    Args:
        payload: What ``build_payload`` gives: plain data that JSON can hold.

    Returns:
        Text that UTF-8 can encode, also where a name cannot (a lone surrogate, from a file name that is no UTF-8, is
        shown as U+FFFD in what the page writes down; the data keep it).

    Raises:
        KeyError: A field is missing.
        ValueError: A number is NaN or infinite.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_FOLDER / 'page.css').read_text('utf-8'), join_scripts()
    headline = [_headline(row) for row in payload['headline']]
    page = environment.get_template('page.html.j2').render(
        {name: payload[name] for name in ('title', 'num_images', 'data_hash', 'facts', 'protocol', 'notes', 'steps')},
        num_classes=len(payload['classes']),
        headline=headline,
        any_interval=any(row['interval'] for row in headline),
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        payload=Markup(embed_json(payload)),
    )
    return page.encode('utf-8', 'surrogatepass').decode('utf-8', 'replace') if _has_surrogate(page) else page


def join_scripts() -> str:
    """All parts of the script in one function, so that no name of theirs is seen from outside."""
    parts = [(_FOLDER / 'scripts' / f'{name}.js').read_text('utf-8') for name in SCRIPTS]
    return "(() => {\n'use strict';\n" + '\n'.join(parts) + '})();\n'


def embed_json(data: Any) -> str:
    """JSON that may stand in a ``<script>`` element: no ``<``, ``>`` or ``&``, and only ASCII.

    Raises:
        ValueError: A number is NaN or infinite, which JSON has no word for.
    """
    return json.dumps(data, separators=(',', ':'), allow_nan=False).translate(_ESCAPES)


def _headline(row: Mapping[str, Any]) -> dict[str, str]:
    """A headline number as the page writes it: the interval in words, and where its band begins and how long it is."""
    value, low, high = row['value'], row.get('low'), row.get('high')
    found = {
        'label': str(row['name']).replace('_', ' '),
        'value': '\u2013' if value is None else _percent(value),
        'interval': '',
    }
    if low is None or high is None:
        return found
    # Half a percent is the least that can be seen.
    band = {'start': f'{low:.2f}', 'length': f'{max(high - low, 0.5):.2f}'}
    return {**found, **band, 'interval': f'{_percent(low)} to {_percent(high)}'}


def _percent(value: float) -> str:
    """Two digits after the point; a half is rounded up, as the script does."""
    return str(Decimal(value).quantize(Decimal('0.01'), ROUND_HALF_UP))


def _hash(text: str) -> str:
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')


def _has_surrogate(text: str) -> bool:
    try:
        text.encode('utf-8')
    except UnicodeEncodeError:
        return True
    return False
