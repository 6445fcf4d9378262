"""Every key of a valid config, misspelt in several ways: each is reported, where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mmengine import Config

from mlcls.config import Sources, check_config, load_config, normalise
from mlcls.config.expressions import KeyPath
from mlcls.errors import ConfigError

from .conftest import VALID, Write

#: Keys that are free: what they hold is not ours (norm_cfg), or the user chooses the name (a name of parameters).
FREE = {'norm_cfg', 'custom_keys'}


def paths_of(node: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            if key not in FREE:
                yield from paths_of(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from paths_of(value, (*path, index))


def renamed(node: Any, path: KeyPath, name: str) -> Any:
    """A copy of nested data with the last key of a path renamed."""
    if isinstance(node, list):
        return [renamed(value, path[1:], name) if index == path[0] else value for index, value in enumerate(node)]
    if len(path) == 1:
        return {name if key == path[0] else key: value for key, value in node.items()}
    return {key: renamed(value, path[1:], name) if key == path[0] else value for key, value in node.items()}


def config() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(VALID, namespace)
    return {key: value for key, value in namespace.items() if not key.startswith('__')}


CONFIG = config()
PATHS = [path for path in paths_of(CONFIG)]
MISTAKES = {
    'letter left out': lambda word: word[:1] + word[2:],
    'letter doubled': lambda word: word + word[-1],
    'letters swapped': lambda word: word[:-2] + word[-1] + word[-2],
    'capital': str.capitalize,
}


def test_there_are_many_keys() -> None:
    assert len(PATHS) > 90 and len(set(PATHS)) == len(PATHS)


@pytest.mark.parametrize('mistake', MISTAKES)
def test_every_misspelt_key_is_reported(write: Write, mistake: str) -> None:
    silent, elsewhere = [], []
    for path in PATHS:
        wrong = MISTAKES[mistake](str(path[-1]))
        if wrong == path[-1]:
            continue
        file = write({'a.py': '\n'.join(f'{key} = {value!r}' for key, value in renamed(CONFIG, path, wrong).items())})
        key_path = '.'.join(map(str, (*path[:-1], wrong)))
        try:
            check_config(load_config(file), Sources([file]))
            silent.append(key_path)
        except ConfigError as error:
            said = next((line for line in str(error).split('\n') if f': {key_path}: ' in line), '')
            right_place = said.startswith(f'a.py:{list(CONFIG).index(str(path[0])) + 1}: ')
            if not right_place or not (f"did you mean '{path[-1]}'?" in said or f' {path[-1]},' in said):
                elsewhere.append((key_path, str(error)))
    assert silent == []
    assert elsewhere == []


@pytest.mark.parametrize('mistake', ['letter left out', 'capital'])
def test_every_misspelt_option_is_reported(write: Write, mistake: str) -> None:
    file = write({'a.py': VALID})
    for path in PATHS:
        key = '.'.join(map(str, (*path[:-1], MISTAKES[mistake](str(path[-1])))))
        if '..' in key or key == '.'.join(map(str, path)) or path[:2] == ('default_hooks', 'checkpoint'):
            continue  # no dotted key, no mistake, or a hook of mmengine that takes any argument
        with pytest.raises(ConfigError, match=r'^--cfg-options: '):
            check_config(load_config(file, {key: 1}), Sources([file], {key: 1}))


JUNK: list[Any] = [
    None,
    0,
    -1.5,
    float('nan'),
    True,
    '',
    'x',
    [],
    [None],
    [[]],
    [3, 'x'],
    {},
    {'type': None},
    {'type': 'ZooLoss', 'type_': {}},
    {'a': {'b': [{}]}},
    {1: 2},
    (1,),
    object,
]


def replaced(node: Any, path: KeyPath, value: Any) -> Any:
    """A copy of nested data with the value at a path replaced."""
    if not path:
        return value
    if isinstance(node, list):
        return [replaced(item, path[1:], value) if index == path[0] else item for index, item in enumerate(node)]
    return {key: replaced(item, path[1:], value) if key == path[0] else item for key, item in node.items()}


@pytest.mark.parametrize('junk', JUNK, ids=repr)
def test_no_value_crashes_the_check(junk: Any) -> None:
    for path in PATHS:
        cfg = normalise(Config(replaced(CONFIG, path, junk)))
        try:
            check_config(cfg, Sources([], {'model.head.thr': 1}))
        except ConfigError as error:
            assert str(error)
