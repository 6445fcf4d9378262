"""A config as plain data, and back: what a checkpoint stores of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import mmengine
from mmengine.config import Config

import mlcls
from mlcls.config import lookup
from mlcls.config.expressions import KeyPath
from mlcls.config.normalise import normalise, set_scope
from mlcls.config.problems import dotted
from mlcls.config.schema import KNOWN_KEYS
from mlcls.errors import ConfigError

_CODE_KEYS = ('type', 'constructor')


def to_plain(cfg: Config) -> dict[str, Any]:
    """A config as data that JSON can hold.

    Only known keys are kept: helper variables have done their work. Tuples stay (JSON makes them lists).
    Classes and functions become
    the names under which they are registered or, if they are not, the names to import them by.

    Args:
        cfg: A config.

    Raises:
        ConfigError: A value has no plain form, such as a lambda, or a key is not a string.
    """
    raw: Mapping[str, Any] = cfg._to_lazy_dict()
    return {key: _plain(value, (key,)) for key, value in raw.items() if key in KNOWN_KEYS}


def load_resolved(data: str | Mapping[str, Any], importable: Collection[str] = ()) -> Config:
    """A config from plain data, such as :func:`to_plain` gives and a checkpoint stores. No Python is executed.

    A ``type`` in it must be a plain, registered name. mmengine builds from any importable name, so a checkpoint of
    unknown origin could otherwise call any function of any installed package.

    Args:
        data: A dict, or its JSON text.
        importable: Dotted names that are trusted all the same, such as ``'my_project.heads.MyHead'``.

    Raises:
        ConfigError: Not JSON, not a dict, another ``default_scope``, or a type that is not a plain name.
    """
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except json.JSONDecodeError as error:
            raise ConfigError(f'the stored config is not JSON: line {error.lineno}: {error.msg}') from error
    if not isinstance(data, Mapping):
        raise ConfigError(f'the stored config is not a dict but a {type(data).__name__}')
    for path, name in _dotted_types(data, ()):
        if name not in importable:
            raise ConfigError(
                f"the stored config: {dotted(path)}: '{name}' is not a registered name; if you trust it, "
                'load the config from its file instead'
            )
    try:
        cfg = Config(dict(data))
    except KeyError as error:  # mmengine reserves a few keys
        raise ConfigError(f'the stored config: {error.args[0]}') from error
    set_scope(cfg, 'the stored config')
    return normalise(cfg)


def importable_names(data: Mapping[str, Any]) -> set[str]:
    """The dotted names in plain data that :func:`load_resolved` would refuse; trust them only from a file of yours."""
    return {name for _, name in _dotted_types(data, ())}


def _plain(value: Any, path: KeyPath) -> Any:
    try:
        value = lookup.resolve(value)
    except ConfigError as error:
        raise ConfigError(f'{dotted(path)}: cannot be imported: {error}') from error
    if value is None or isinstance(value, (bool, int, float, str)):
        return _own_name(value, path)
    if isinstance(value, Mapping):
        return {_key(key, path): _plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):  # some of mmcv's and mmengine's arguments must be tuples
        items = (_plain(item, (*path, index)) for index, item in enumerate(value))
        return tuple(items) if isinstance(value, tuple) else list(items)
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item, path) for item in value), key=str)
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__name__ == 'dtype':  # 'float16' is what optimizer wrappers take
        return str(value).removeprefix('torch.')
    if hasattr(value, 'tolist'):  # arrays and numbers of NumPy and torch
        return value.tolist()
    return _name(value, path)


def _own_name(value: Any, path: KeyPath) -> Any:
    # 'mlcls.ResNet' is the same as 'ResNet', and load_resolved takes plain names.
    prefix = mlcls.__name__ + '.'
    if path[-1] == 'type' and isinstance(value, str) and value.startswith(prefix) and value.count('.') == 1:
        return value[len(prefix) :]
    return value


def _key(key: Any, path: KeyPath) -> str:
    if not isinstance(key, str):
        raise ConfigError(f'{dotted(path)}: the key {key!r} is not a string')
    return key


def _name(value: Any, path: KeyPath) -> str:
    """The registered or importable name of a class, a function or another named object."""
    if registered := lookup.name_of(value):
        return registered
    module, name = getattr(value, '__module__', None), getattr(value, '__qualname__', None)
    importable = f'{module}.{name}' if module and name else str(value)  # str(torch.float16) is its importable name
    if lookup.importable(importable) is not value:
        raise ConfigError(f'{dotted(path)}: {value!r} cannot be stored as plain data; use a registered name')
    return importable


def _dotted_types(node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every type below ``node`` that is not a plain name."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if isinstance(value, str) and _names_code(str(key)) and not _is_registered_only(value):
                yield (*path, key), value
            yield from _dotted_types(value, (*path, key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _dotted_types(value, (*path, index))


def _names_code(key: str) -> bool:
    return key in _CODE_KEYS or key.endswith('_type')


def _is_registered_only(name: str) -> bool:
    """Whether a name can mean nothing but a registered part."""
    scope, _, rest = name.partition('.')
    # 'mmengine.SGD' is one, while 'mmengine.track_progress' is a function of the package.
    return not rest or (scope == 'mmengine' and '.' not in rest and not hasattr(mmengine, rest))
