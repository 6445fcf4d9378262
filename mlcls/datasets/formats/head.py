"""What can be known of annotations without reading them all: enough to recognise their format."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

#: How much of a file is looked at, in bytes.
HEAD_BYTES = 65536


@dataclass(frozen=True)
class Head:
    """The beginning of a file, or the names in a folder.

    Args:
        path: The file or folder.
        text: The first `HEAD_BYTES` of a file, without byte order mark; empty for a folder.
        names: What lies in a folder; empty for a file.
    """

    path: Path
    text: str = ''
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Head:
        """Look at a path. One that cannot be read gives an empty head: the reader that comes next says why."""
        path = Path(path)
        try:
            if path.is_dir():
                return cls(path, names=frozenset(os.listdir(path)))
            with open(path, 'rb') as file:
                return cls(path, file.read(HEAD_BYTES).removeprefix(b'\xef\xbb\xbf').decode(errors='replace'))
        except OSError:
            return cls(path)

    @property
    def extension(self) -> str:
        """Extension of the path, lower case, with its dot."""
        return self.path.suffix.lower()

    @cached_property
    def lines(self) -> list[str]:
        """The lines, without what may be cut off at the end."""
        lines = self.text.splitlines()
        return lines[:-1] if len(lines) > 1 and len(self.text) >= HEAD_BYTES // 4 else lines

    @cached_property
    def json_keys(self) -> frozenset[str]:
        """Keys that occur in the beginning of a JSON file, at any depth; empty if it is none."""
        if not self.text.lstrip().startswith(('{', '[')):
            return frozenset()
        return frozenset(re.findall(r'"([^"\\\n]{1,60})"\s*:', self.text))
