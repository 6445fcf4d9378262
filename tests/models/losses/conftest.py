"""Shared by the tests of losses."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    """Seed torch, so that a failure can be repeated."""
    torch.manual_seed(0)
