"""The arguments that a registered class or function takes, through ``**kwargs`` up its base classes."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Arguments:
    """What a call takes.

    Args:
        names: Arguments that may be given by name.
        required: Those of them that must be.
        any_other: Further names are accepted too, or it cannot be known.
        first: Name of the first positional argument.
        switches: Arguments that are True or False and nothing else.
    """

    names: frozenset[str]
    required: frozenset[str]
    any_other: bool
    first: str | None = None
    switches: frozenset[str] = frozenset()


UNKNOWN = Arguments(frozenset(), frozenset(), True)


@functools.cache
def arguments_of(target: Any) -> Arguments:
    """The arguments of a class (of making one) or of a function.

    An ``__init__`` with ``**kwargs`` that it hands to ``super().__init__`` also takes what that one takes, less what it
    fills in itself. Where the source shows another use of ``**kwargs``, any name is accepted.
    """
    if not inspect.isclass(target):
        return _of_function(target, skip=0)[0]
    owners = [owner for owner in target.__mro__ if '__init__' in vars(owner) and owner is not object]
    if not owners:
        return _of_function(target, skip=0)[0]
    names: set[str] = set()
    required: set[str] = set()
    switches: set[str] = set()
    use = _Use()
    for owner in owners:
        if owner.__module__ == 'torch.nn.modules.module':
            break  # nn.Module declares **kwargs only to refuse them
        own, rest = _of_function(vars(owner)['__init__'], skip=1)
        filled = use.filled | set(own.order[: use.positional])
        names |= own.names - filled
        required |= own.required - filled - use.read
        switches |= own.switches - filled
        if rest is None:
            return Arguments(frozenset(names), frozenset(required), own.any_other, switches=frozenset(switches))
        use = _use_of_kwargs(vars(owner)['__init__'], rest)
        names |= use.read
        if use.elsewhere:
            return Arguments(frozenset(names), frozenset(required), True, switches=frozenset(switches))
    return Arguments(frozenset(names), frozenset(required), False, switches=frozenset(switches))


@dataclass(frozen=True)
class _Own(Arguments):
    order: tuple[str, ...] = ()


def _of_function(function: Callable[..., Any], skip: int) -> tuple[_Own, str | None]:
    """Arguments of one function without its first ``skip``, and the name of its ``**kwargs``."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):  # builtins without a signature
        return _Own(frozenset(), frozenset(), True), None
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    order = tuple(each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD))
    rest = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
    required = frozenset(each.name for each in named if each.default is each.empty)
    return _Own(
        frozenset(each.name for each in named),
        required,
        rest is not None and skip == 0,
        order[0] if order else None,
        frozenset(each.name for each in named if each.annotation in (bool, 'bool')),
        order,
    ), rest


@dataclass
class _Use:
    """What an ``__init__`` does with its ``**kwargs``.

    Args:
        filled: Arguments that it names itself when it calls the next ``__init__``.
        positional: Number of those that it gives by position.
        read: Names that it takes out of its ``**kwargs``.
        elsewhere: It hands them to something else, so their names cannot be known.
    """

    filled: set[str] = field(default_factory=set)
    positional: int = 0
    read: set[str] = field(default_factory=set)
    elsewhere: bool = False


def _use_of_kwargs(function: Callable[..., Any], kwargs: str) -> _Use:
    use = _Use()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except TypeError:  # not written in Python
        return _Use(elsewhere=True)
    except (OSError, SyntaxError):
        return use  # without source, assume that they go to the next __init__
    accounted: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            spread = [word.value for word in node.keywords if word.arg is None and _is_name(word.value, kwargs)]
            if spread and node.func.attr == '__init__':
                accounted.update(spread)
                use.filled |= {word.arg for word in node.keywords if word.arg is not None}
                use.positional = _plain_arguments(node)
            if node.func.attr in ('pop', 'get', 'setdefault') and _is_name(node.func.value, kwargs) and node.args:
                _note(node.args[0], node.func.value, use, accounted)
        elif isinstance(node, ast.Subscript) and _is_name(node.value, kwargs):
            _note(node.slice, node.value, use, accounted)
        elif isinstance(node, ast.Compare) and _is_name(node.comparators[-1], kwargs):
            _note(node.left, node.comparators[-1], use, accounted)
    use.elsewhere = any(_is_name(node, kwargs) and node not in accounted for node in ast.walk(tree))
    return use


def _note(key: ast.expr, name: ast.expr, use: _Use, accounted: set[ast.AST]) -> None:
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        use.read.add(key.value)
        accounted.add(name)


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _plain_arguments(call: ast.Call) -> int:
    """Positional arguments of a call up to the first ``*args``, without the ``self`` of ``Base.__init__(self)``."""
    count = 0
    for argument in call.args:
        if isinstance(argument, ast.Starred):
            break
        count += not (count == 0 and _is_name(argument, 'self'))
    return count
