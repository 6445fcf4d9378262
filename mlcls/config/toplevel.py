"""The names at the top of a config: known keys, helper variables, and those that do nothing."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

from mlcls.config.lookup import is_lazy
from mlcls.config.problems import Problems, dotted
from mlcls.config.schema import KNOWN_KEYS
from mlcls.config.sources import COMMAND_LINE, Sources
from mlcls.config.syntax import SourceFile
from mlcls.errors import did_you_mean


def check_names(raw: Mapping[str, Any], problems: Problems) -> None:
    """Note every top-level name that is neither a known key nor a variable that something reads.

    Args:
        raw: The config as plain dicts.
        problems: Where to note them.
    """
    sources = problems.sources
    not_keys = {name for file in sources.files for name in file.other_names - file.assigned.keys()}
    from_options = {key.split('.')[0] for key in sources.options}
    for name, value in raw.items():
        if name in KNOWN_KEYS or name.startswith('_') or name in not_keys:
            continue
        if is_lazy(value) or isinstance(value, (types.FunctionType, types.ModuleType, type)):
            continue
        setters = [file for file in sources.files if name in file.assigned]
        if name in from_options:
            _check_option(name, setters, problems)
        for file in setters:
            _check_variable(name, file, problems)


def _check_option(name: str, setters: list[SourceFile], problems: Problems) -> None:
    for file in setters:
        if problems.sources.is_read(name, file):
            text = f'has no effect here: {file.place(file.assigned[name])} sets it and its value is already used'
            problems.add((name,), text + _instead(name, file, problems.sources), COMMAND_LINE)
            return
    problems.add((name,), 'unknown key' + _near(name), COMMAND_LINE)


def _check_variable(name: str, file: SourceFile, problems: Problems) -> None:
    sources = problems.sources
    if sources.is_read(name, file):
        return
    place = file.place(file.assigned[name])
    for base in sources.ancestors(file):
        if name in base.assigned and name in base.reads:
            text = f'has no effect: {base.place(base.assigned[name])} sets it and has already used its own value'
            reference = '' if file.style != 'text' else f" (the base's own value is _base_.{name} here)"
            problems.add((name,), text + _instead(name, base, sources) + reference, place)
            return
    advice = _near(name) or "; remove it or, if it is a note, start its name with '_'"
    problems.add((name,), f'unknown key, and no file reads it{advice}', place)


def _near(name: str) -> str:
    near = did_you_mean(name, KNOWN_KEYS)
    return near if near.startswith('; did you mean') else ''  # a list of all keys would bury the message


def _instead(name: str, base: SourceFile, sources: Sources) -> str:
    uses = [dotted(path) for path in sources.uses(base, name)]
    known = [use for use in uses if use.split('.')[0] in KNOWN_KEYS]
    return f'; set {" and ".join(known)} instead' if known else ''
