"""A real browser for the pages that the package writes."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlcls.evaluation.report.page import render_page

from .synthetic import Case, make_case

HOW_TO = 'needs a browser: pip install playwright, and apt-get install chromium'
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
ARGUMENTS = (
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--no-first-run',
    '--disable-component-update',
    '--disable-sync',
)


def absent() -> None:
    """Tests skip without a browser, but not where they are the gate."""
    if os.environ.get('MLCLS_NEED_BROWSER'):
        pytest.fail(HOW_TO)
    pytest.skip(HOW_TO)


# Not for the whole session: while it runs, no other test could start an event loop.
@pytest.fixture(scope='package')
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent()
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        absent()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield running
        running.close()


class Watch:
    """What a page says and asks for."""

    def __init__(self, page: Any) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.own: set[str] = set()
        page.on('console', lambda message: self.errors.append(message.text) if message.type == 'error' else None)
        page.on('pageerror', lambda error: self.errors.append(str(error)))
        page.on('request', self._ask)

    def _ask(self, request: Any) -> None:
        if request.url not in self.own and not request.url.startswith(('data:', 'blob:')):
            self.foreign.append(request.url)


def _open(browser: Any, **settings: Any) -> Any:
    context = browser.new_context(
        **{'viewport': {'width': 1280, 'height': 900}, 'reduced_motion': 'reduce', **settings}
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.watch = Watch(page)
    return page


@pytest.fixture(scope='package')
def desktop(browser: Any) -> Any:
    """A window that all tests share which want nothing special: a new one takes longer than most tests."""
    return _open(browser)


@pytest.fixture
def show(browser: Any, desktop: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``show(payload, **of the context)`` writes a page to a file and opens it.

    Without settings it is the same window each time. When the test is over, the pages must have said no error and asked
    for nothing; ``page.watch.errors.clear()`` in a test that makes one on purpose.
    """
    opened = []
    number = itertools.count()

    def open_page(payload: dict[str, Any], ready: bool = True, **settings: Any) -> Any:
        path = tmp_path / f'report-{next(number)}.html'
        path.write_text(render_page(payload), encoding='utf-8')
        page = _open(browser, **settings) if settings else desktop
        if page not in opened:
            opened.append(page)
        page.watch.own.add(path.as_uri())
        page.goto(path.as_uri())
        if ready:
            page.wait_for_selector('html[data-ready]')
        return page

    yield open_page
    errors = [error for page in opened for error in page.watch.errors]
    foreign = [url for page in opened for url in page.watch.foreign]
    for page in opened:
        page.watch.errors.clear()
        page.watch.foreign.clear()
        if page is not desktop:
            page.context.close()
    assert errors == []
    assert foreign == []


NAMES = ['person', 'dog', 'Cat', 'traffic light', 'Zebra crossing', 'never seen']


@pytest.fixture(scope='package')
def case() -> Case:
    """Six classes, the last without a positive; 400 images."""
    return make_case(NAMES, 400, seed=30)
