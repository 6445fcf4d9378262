"""Where in which file a config key is set, and which names are read; from syntax trees alone."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlcls.config.expressions import KeyPath, base_path, dict_entries, dicts_of, paths_of
from mlcls.config.syntax import Place, SourceFile, absolute
from mlcls.errors import ConfigError

#: The place of keys that were set on the command line.
COMMAND_LINE = Place('--cfg-options')

_DEEPEST = 40  # names that lead to each other in a circle are left


class _Miss(enum.Enum):
    ABSENT = enum.auto()  # a dict without the key: an inherited file may have it
    OPAQUE = enum.auto()  # set here, by code that cannot be followed


_Found = Place | _Miss


class Sources:
    """The files of a config, child first, then what they inherit from.

    Args:
        files: The config files; their base files are found from them. May be empty (a config from a checkpoint).
        options: The ``--cfg-options``: dotted keys and values.

    Raises:
        ConfigError: A file is missing, cannot be parsed, or inherits from itself.
    """

    def __init__(self, files: Sequence[Path], options: Mapping[str, Any] | None = None) -> None:
        self.options = dict(options or {})
        self.files: list[SourceFile] = []
        self._by_path: dict[Path, SourceFile] = {}
        for file in files:
            self._read(Path(file), ())

    def _read(self, path: Path, children: tuple[SourceFile, ...]) -> None:
        if absolute(path) in self._by_path:
            file = self._by_path[absolute(path)]
        else:
            file = self._by_path[absolute(path)] = SourceFile(path)
            self.files.append(file)
        line_of_heirs = (*children, file)
        # The last import wins in Python style; text style forbids the same name in two bases.
        for base in reversed(file.bases):
            if any(base.path == heir.path for heir in line_of_heirs):
                chain = ' -> '.join([*(heir.shown for heir in line_of_heirs), self._by_path[base.path].shown])
                raise ConfigError(f'{file.place(base.line)}: inherits from itself: {chain}')
            self._read(base.path, line_of_heirs)

    def locate(self, key_path: KeyPath) -> Place | None:
        """Where a key gets its value.

        Args:
            key_path: Keys and list positions from the top, for example ``('model', 'head', 'thr')``.

        Returns:
            The place, or None where it is not set, or set by code that cannot be followed (a loop, a function).
        """
        wanted = tuple(map(str, key_path))
        options = [tuple(key.split('.')) for key in self.options]
        if any(wanted[: len(option)] == option for option in options):
            return COMMAND_LINE
        for root in self._roots():
            found = self._in_file(root, tuple(key_path), _DEEPEST)
            if isinstance(found, Place):
                return found
            if found is _Miss.OPAQUE:
                return None
        return COMMAND_LINE if any(option[: len(wanted)] == wanted for option in options) else None

    def nearest(self, key_path: KeyPath) -> Place | None:
        """The place of the key or, where that is not known, of the innermost key around it that is."""
        for length in range(len(key_path), 0, -1):
            if place := self.locate(key_path[:length]):
                return place
        return self.files[0].place() if self.files else None

    def rank(self, place: Place | None) -> int:
        """Position of a place's file in the order of inheritance: command line, child, its bases."""
        names = [COMMAND_LINE.file, *(file.shown for file in self.files)]
        return names.index(place.file) if place and place.file in names else len(names)

    def ancestors(self, file: SourceFile) -> list[SourceFile]:
        """The files that ``file`` inherits from, directly or not."""
        found: list[SourceFile] = []
        for base in file.bases:
            parent = self._by_path[base.path]
            found += [parent, *self.ancestors(parent)]
        return found

    def is_read(self, name: str, file: SourceFile) -> bool:
        """Whether the value that ``file`` gives to ``name`` is read: there, or in a file that inherits from it."""
        heirs = [heir for heir in self.files if file in self.ancestors(heir)]
        return name in file.reads or any(name in heir.reads or name in heir.base_reads for heir in heirs)

    def uses(self, file: SourceFile, name: str) -> list[KeyPath]:
        """The keys whose value ``file`` writes as the variable ``name``, such as ``train_dataloader.dataset.pipeline``.

        Variables that only hold a part of another are followed: their own uses take their place.
        """
        return list(dict.fromkeys(self._uses(file, name, _DEEPEST)))

    def paths_to(self, key: str) -> Iterator[tuple[SourceFile, KeyPath]]:
        """Every file and key path that ends in ``key`` and holds a dict."""
        for file in self.files:
            for setting in file.settings:
                yield from ((file, path) for path in dicts_of(setting.value, setting.path) if path[-1] == key)

    def _uses(self, file: SourceFile, name: str, depth: int) -> Iterator[KeyPath]:
        for setting in file.settings:
            for path in paths_of(setting.value, name, setting.path):
                outer = list(self._uses(file, str(path[0]), depth - 1)) if depth and path[0] != name else []
                yield from [(*key, *path[1:]) for key in outer] or [path]

    def _roots(self) -> list[SourceFile]:
        inherited = {base.path for file in self.files for base in file.bases}
        return [file for file in self.files if file.path not in inherited]

    def _in_file(self, file: SourceFile, path: KeyPath, depth: int) -> _Found:
        """Find ``path`` in a file or its bases."""
        if depth == 0:
            return _Miss.OPAQUE
        around: Place | None = None  # a statement that sets a part of what is wanted
        for setting in reversed(file.settings):
            length = len(setting.path)
            if path[:length] == setting.path:
                found = self._in_value(file, setting.value, path[length:], setting.line, depth - 1)
                if found is not _Miss.ABSENT:
                    return found
            elif setting.path[: len(path)] == path:
                around = around or file.place(setting.line)
        found = self._in_bases(file, path, depth)
        return around if around and not isinstance(found, Place) else found

    def _in_bases(self, file: SourceFile, path: KeyPath, depth: int) -> _Found:
        for base in reversed(file.bases):
            found = self._in_file(self._by_path[base.path], path, depth - 1)
            if found is not _Miss.ABSENT:
                return found
        return _Miss.ABSENT

    def _in_value(self, file: SourceFile, node: ast.expr, rest: KeyPath, line: int, depth: int) -> _Found:
        """Find ``rest`` inside the expression that was set at ``line``."""
        if not rest:
            return file.place(line)
        if inherited := base_path(node):
            return self._in_bases(file, inherited + rest, depth)
        if isinstance(node, ast.Name):
            return self._in_file(file, (node.id, *rest), depth)
        if isinstance(node, (ast.List, ast.Tuple)):
            index = rest[0]
            plain = not any(isinstance(item, ast.Starred) for item in node.elts)
            if plain and isinstance(index, int) and index < len(node.elts):
                item = node.elts[index]
                return self._in_value(file, item, rest[1:], item.lineno, depth)
            return _Miss.OPAQUE
        entries = dict_entries(node)
        if entries is None:
            return _Miss.OPAQUE
        for key, value, at in reversed(entries):
            if key == rest[0]:
                return self._in_value(file, value, rest[1:], at, depth)
            if key is None:  # **part, or dict(part, ...)
                found = self._in_value(file, value, rest, at, depth)
                if found is not _Miss.ABSENT:
                    return found
        deletes = any(key == '_delete_' for key, _, _ in entries)
        return _Miss.OPAQUE if deletes else _Miss.ABSENT
