"""The list of what is wrong in a config, with places."""

from __future__ import annotations

from mlcls.config.expressions import KeyPath
from mlcls.config.sources import Sources
from mlcls.config.syntax import Place
from mlcls.errors import ConfigError


def dotted(path: KeyPath) -> str:
    """A key path as ``--cfg-options`` takes it."""
    return '.'.join(map(str, path))


class Problems:
    """Collects problems and raises them together.

    Args:
        sources: The files of the config, for places.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._found: list[tuple[Place | None, KeyPath, str]] = []

    def add(self, path: KeyPath, text: str, place: Place | None = None) -> None:
        """Note a problem.

        Args:
            path: Key that is wrong.
            text: What is wrong and what would be right.
            place: Where, if not where the key is set.
        """
        self._found.append((place or self.sources.nearest(path), path, text))

    def raise_if_any(self) -> None:
        """Raise what was found.

        Raises:
            ConfigError: One line a problem, in the order of files (command line, child, bases) and lines.
        """
        order = sorted(self._found, key=lambda each: (self.sources.rank(each[0]), (each[0] and each[0].line) or 0))
        lines: dict[object, str] = {}
        for place, path, text in order:
            line = f'{dotted(path)}: {text}'
            # A pipeline that two data loaders share is wrong once, not twice.
            lines.setdefault((place, path[-1], text) if place else line, f'{place}: {line}' if place else line)
        if lines:
            raise ConfigError('\n'.join(lines.values()))
