"""Shared by the tests of models."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the run's logger is told."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def warnings_in(records: pytest.LogCaptureFixture) -> list[str]:
    """The warnings among what was told."""
    return [record.getMessage() for record in records.records if record.levelno >= logging.WARNING]
