"""Pictures and annotation files for the tests of the data part."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below ``tmp_path`` and give its path."""

    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.fixture(scope='session')
def picture() -> np.ndarray:
    """A smooth picture with a different look on each side, uint8 RGB (60, 90, 3)."""
    y, x = np.mgrid[0:60, 0:90]
    planes = [40 + 2 * x, 20 + 3 * y, 128 + 100 * np.sin(x / 9) * np.cos(y / 11)]
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF data with an orientation, among other things."""
    data = Image.Exif()
    data[0x010F] = 'Camera'
    data[0x0112] = orientation
    return data
