"""``--cfg-options``: single values of a config, set by dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from mlcls.errors import ConfigError

DELETE = '_delete_'


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Set values of a config in place.

    Unlike mmengine's ``merge_from_dict`` it can replace a plain element of a list (``milestones.0=5``), and it says
    which option does not fit. New keys are made; whether they mean anything is for ``check_config`` to say.

    Args:
        cfg: The config.
        options: Dotted keys, with positions in lists (``param_scheduler.0.end``), and their values. A value that is a
            dict is merged into a dict. ``'model.head._delete_': True`` empties that dict before the others are set.

    Raises:
        ConfigError: A key is not a dotted name, leads through something that has no keys, or beyond the end of a list.
    """
    deletes_first = sorted(options.items(), key=lambda option: not str(option[0]).endswith(DELETE))
    for key, value in deletes_first:
        parts = key.split('.') if isinstance(key, str) else []
        if not parts or not all(parts):
            raise ConfigError(f"--cfg-options: '{key}' is not a dotted key such as model.head.thr")
        _put(cfg._cfg_dict, parts, value, key, '')


def _put(node: Any, parts: list[str], value: Any, key: str, done: str) -> Any:
    """``node`` with the value set below it."""
    if not parts:
        return _merge(node, value)
    part, rest = parts[0], parts[1:]
    here = f'{done}.{part}' if done else part
    if isinstance(node, dict):
        if part == DELETE and not rest:
            if value:
                node.clear()
            return node
        # dict.get, since ConfigDict's own would import classes that the config only names
        node[part] = _put(dict.get(node, part, ConfigDict() if rest else None), rest, value, key, here)
        return node
    if not isinstance(node, (list, tuple)):
        raise ConfigError(f'--cfg-options: {key}: {done} is {node!r} and has no keys')
    if not part.isdecimal() or int(part) >= len(node):
        raise ConfigError(f"--cfg-options: {key}: {done} is a list of {len(node)}; '{part}' is not a position in it")
    items = list(node)
    items[int(part)] = _put(items[int(part)], rest, value, key, here)
    return tuple(items) if isinstance(node, tuple) else items


def _merge(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, Mapping):
        return new
    if new.get(DELETE):
        return {key: value for key, value in new.items() if key != DELETE}
    for key, value in new.items():
        old[key] = _merge(dict.get(old, key), value)
    return old
