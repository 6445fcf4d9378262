"""Without a browser the tests say how to get one; where they are the gate, they fail."""

from __future__ import annotations

import pytest

from .conftest import HOW_TO, absent


def test_without_a_browser_tests_skip_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('MLCLS_NEED_BROWSER', raising=False)
    with pytest.raises(pytest.skip.Exception, match='pip install playwright, and apt-get install chromium'):
        absent()


def test_in_ci_a_missing_browser_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MLCLS_NEED_BROWSER', '1')
    with pytest.raises(pytest.fail.Exception) as caught:
        absent()
    assert str(caught.value) == HOW_TO
