"""The list of images that could not be used while a run went on: one JSON object a line, written by every worker."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any


class BadImages:
    """Appends to a file that several processes share, and tells what was added.

    Args:
        path: The file; None warns instead of writing.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._read_to = self.path.stat().st_size if self.path is not None and self.path.exists() else 0

    def record(self, entry: dict[str, Any]) -> None:
        """Add an image: its ``img_path``, the ``reason``, what was done about it, and of which draw it is."""
        if self.path is None:
            warnings.warn(f'{entry["reason"]} ({entry["action"]})', stacklevel=2)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry, ensure_ascii=False) + '\n'
        # One write to a file that is opened for appending: lines of several processes do not mix.
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line.encode(errors='backslashreplace'))  # JSON's escape, too, of what is no UTF-8
        finally:
            os.close(handle)

    def added(self) -> list[dict[str, Any]]:
        """What all processes have added since this was asked last (or the list was opened)."""
        if self.path is None or not self.path.exists():
            return []
        with open(self.path, 'rb') as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b'\n') + 1]
        self._read_to += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
