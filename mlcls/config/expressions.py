"""Key paths in Python expressions and statements."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

#: A way into a config: ('model', 'head', 'thr'), ('param_scheduler', 0, 'type').
KeyPath = tuple[str | int, ...]

BASE = '_base_'
#: mmengine's placeholder for a value of a base file.
PLACEHOLDER = re.compile(r'\{\{\s*_base_\.(\w+(?:\.\w+)*)\s*\}\}')


def target_path(node: ast.AST) -> KeyPath:
    """The key path of ``name``, ``name.key``, ``name['key']``, ``name[0].key``; empty for anything else."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        inner = target_path(node.value)
        return (*inner, node.attr) if inner else ()
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        inner, key = target_path(node.value), node.slice.value
        return (*inner, key) if inner and isinstance(key, (str, int)) else ()
    return ()


def base_path(node: ast.AST) -> KeyPath:
    """The path below ``_base_`` that ``_base_.a.b`` or ``{{_base_.a.b}}`` reads; else empty."""
    if isinstance(node, ast.Set) and len(node.elts) == 1 and isinstance(node.elts[0], ast.Set):
        inner = node.elts[0].elts  # mmengine's placeholder, unquoted, is a set in a set to Python
        return base_path(inner[0]) if len(inner) == 1 else ()
    path = target_path(node)
    return path[1:] if path[:1] == (BASE,) else ()


#: Key, value and line.
Entry = tuple[Any, ast.expr, int]


def dict_entries(node: ast.expr) -> list[Entry] | None:
    """Key, value and line of ``dict(...)`` or ``{...}``; the key is None for ``**part``. None for other expressions."""
    if isinstance(node, ast.Dict):
        return [(_literal(key), value, (key or value).lineno) for key, value in zip(node.keys, node.values)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        entries: list[Entry] = [(None, part, part.lineno) for part in node.args]
        return entries + [(word.arg, word.value, word.lineno) for word in node.keywords]
    return None


def _literal(key: ast.expr | None) -> Any:
    # A computed key is a node, which equals no key that anyone asks for.
    return key.value if isinstance(key, ast.Constant) else key


def paths_of(node: ast.expr, name: str, path: KeyPath) -> Iterator[KeyPath]:
    """Key paths below ``path`` at which the variable ``name`` stands in an expression."""
    if isinstance(node, ast.Name) and node.id == name:
        yield path
    elif isinstance(node, (ast.List, ast.Tuple)):
        for index, item in enumerate(node.elts):
            yield from paths_of(item, name, (*path, index))
    else:
        for key, value, _ in dict_entries(node) or []:
            yield from paths_of(value, name, path if key is None else (*path, key))


def dicts_of(node: ast.expr, path: KeyPath) -> Iterator[KeyPath]:
    """Key paths of the dicts in an expression, itself included."""
    entries = dict_entries(node)
    if entries is not None:
        yield path
        for key, value, _ in entries:
            if isinstance(key, str):
                yield from dicts_of(value, (*path, key))


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a file, with those inside its branches and loops."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.For, ast.While, ast.With, ast.Try)):
            for part in ('body', 'orelse', 'finalbody'):
                yield from statements(getattr(statement, part, []))
            for handler in getattr(statement, 'handlers', []):
                yield from statements(handler.body)


def names_in(target: ast.AST) -> list[str]:
    """The names in an expression."""
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]
