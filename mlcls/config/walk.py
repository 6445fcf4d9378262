"""The way down into a config: types, arguments and values of every nested dict."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Any

from mlcls.config import lookup, schema
from mlcls.config.expressions import KeyPath
from mlcls.config.problems import Problems, dotted
from mlcls.config.schema import SLOTS, Slot
from mlcls.config.signatures import UNKNOWN, Arguments, arguments_of
from mlcls.config.sources import COMMAND_LINE
from mlcls.config.values import wrong_value
from mlcls.errors import ConfigError, did_you_mean
from mlcls.registry import SCOPE

#: Keys that any config with a type may have.
_ALWAYS = frozenset({'type', '_scope_'})
Node = Mapping[str, Any]


class Walk:
    """Checks parts of a config by the tables of schema.py.

    Args:
        problems: Where to note what is wrong.
    """

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.sources = problems.sources

    def slot(self, path: KeyPath, value: Any, slot: Slot) -> None:
        """Check what stands where a config with a type, or a list of such, belongs."""
        if isinstance(value, Mapping):
            self.typed(path, value, slot)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.slot((*path, index), item, slot)
        elif value is not None:
            self.problems.add(path, f'must be a dict with a type, not {value!r}')

    def typed(self, path: KeyPath, node: Node, slot: Slot, consumed: frozenset[str] = frozenset()) -> None:
        """Check a config with a type: its name, its arguments, and what is nested in it.

        Args:
            path: Where it stands.
            node: The config.
            slot: What belongs there.
            consumed: Keys, besides those in ``schema.CONSUMED``, that do not reach the type.
        """
        kind = node.get('type', slot.default)
        taken = UNKNOWN
        if kind is None:
            self._no_type(path, node)
        elif 'type' in node or kind in lookup.names(slot.registry):
            target = self.target((*path, 'type'), kind, slot.registry)
            taken = UNKNOWN if target is None else arguments_of(target)
        else:
            self._misspelt_type(path, node, slot.registry)
        if node.get('_scope_') not in (None, SCOPE, 'mmengine'):
            self.problems.add((*path, '_scope_'), f"unknown scope '{node['_scope_']}'; remove it")
        consumed |= slot.consumed | schema.CONSUMED.get(slot.registry, frozenset())
        name = kind.__name__ if isinstance(kind, (type, types.FunctionType)) else str(kind)
        self._unknown_arguments(path, node, name, taken, slot.registry, consumed)
        for key in taken.switches & node.keys():
            if not isinstance(node[key], (bool, int)):  # any text would count as True
                self.problems.add((*path, key), f'must be True or False, not {node[key]!r}')
        if not slot.filled_by_owner:
            self._missing_arguments(path, node, name, taken, slot.registry)
        self.children(path, node, slot.registry)

    def target(self, path: KeyPath, name: Any, registry: str) -> Any:
        """The class or function that a ``type`` means; None, with a problem noted, if it means none."""
        try:
            name = lookup.resolve(name)
        except ConfigError as error:
            self.problems.add(path, f'cannot be imported: {error}')
            return None
        if not isinstance(name, str):
            if not callable(name):
                self.problems.add(path, f'must be a name or a class, not {name!r}')
                return None
            return name
        found = lookup.find(name, registry)
        if found is None:
            others = lookup.other_kinds(name, registry)
            hint = (
                f'; that is the name of a {others[0]}'
                if others
                else did_you_mean(name.rpartition('.')[2], lookup.names(registry))
            )
            self.problems.add(path, f"unknown {lookup.kind(registry)} '{name}'{hint}")
        return found

    def children(self, path: KeyPath, node: Node, registry: str | None) -> None:
        """Check the values of a dict and what is nested in them.

        Args:
            path: Where it stands.
            node: The dict.
            registry: Where to look up types in arguments that schema.py does not list; None to let them be.
        """
        for key, value in node.items():
            if key in _ALWAYS:
                continue
            if wrong := wrong_value(key, value, registry):
                self.problems.add((*path, key), wrong)
            if dotted((*path, key)) in schema.UNTYPED:
                self.untyped((*path, key), value)
            elif key not in schema.PASSED_OVER:
                around = None if registry is None else Slot(registry, filled_by_owner=True)
                self._nested((*path, key), value, SLOTS.get(key, around), key in SLOTS)

    def untyped(self, path: KeyPath, node: Any) -> None:
        """Check a dict without a type whose keys schema.py lists."""
        self.known_keys(path, node, schema.UNTYPED[dotted(path)])
        if isinstance(node, Mapping):
            self.children(path, node, None)

    def known_keys(self, path: KeyPath, node: Any, known: Iterable[str]) -> None:
        """Note the keys of a dict that are not among the known ones; or that it is no dict."""
        if node is not None and not isinstance(node, Mapping):
            self.problems.add(path, f'must be a dict, not {node!r}')
        for key in node if isinstance(node, Mapping) else ():
            if key not in known:
                advice = _LOST_DELETE if key == '_delete_' else 'unknown key' + did_you_mean(str(key), known)
                self.problems.add((*path, key), advice)

    def _nested(self, path: KeyPath, value: Any, slot: Slot | None, must_have_type: bool) -> None:
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._nested((*path, index), item, slot, must_have_type)
        elif isinstance(value, Mapping):
            if slot is None:
                self.children(path, value, None)
                return
            if must_have_type or 'type' in value:
                self.typed(path, value, slot)
                return
            self._misspelt_type(path, value, slot.registry)
            self.children(path, value, slot.registry)

    def _misspelt_type(self, path: KeyPath, node: Node, registry: str) -> None:
        """Note a key like 'type' in a dict that needs none; only a registered name shows that it was meant so."""
        for key, value in node.items():
            if _like_type(key) and isinstance(value, str) and lookup.find(value, registry):
                self.problems.add((*path, key), "unknown key; did you mean 'type'?")

    def _no_type(self, path: KeyPath, node: Node) -> None:
        wrong = [key for key in node if _like_type(key)]
        if wrong:
            self.problems.add((*path, wrong[0]), "unknown key; did you mean 'type'?")
        else:
            self.problems.add(path, 'has no type')

    def _unknown_arguments(
        self, path: KeyPath, node: Node, kind: str, taken: Arguments, registry: str, consumed: frozenset[str]
    ) -> None:
        provided = schema.PROVIDED.get(registry, frozenset())
        for key in node:
            if key in _ALWAYS or key in consumed or key in taken.names:
                continue
            if key == '_delete_':
                self.problems.add((*path, key), _LOST_DELETE)
            elif taken.any_other and not difflib.get_close_matches(str(key), taken.names, cutoff=_ALIKE):
                continue
            elif not self._stale(path, key, kind):
                near = did_you_mean(str(key), (taken.names - provided) | consumed | {'type'})
                self.problems.add((*path, key), f"{kind} has no argument '{key}'{near}")

    def _stale(self, path: KeyPath, key: str, kind: str) -> bool:
        """Note an argument that was left over when a child file changed the type; False if it is not one."""
        type_place, place = self.sources.locate((*path, 'type')), self.sources.locate((*path, key))
        if not type_place or not place or self.sources.rank(place) <= self.sources.rank(type_place):
            return False
        where = dotted(path)
        advice = (
            f'add --cfg-options {where}._delete_=True'
            if type_place == COMMAND_LINE
            else (f'add _delete_=True to {where}')
        )
        self.problems.add(
            (*path, key),
            f"{kind} has no argument '{key}', which is inherited from {place}, where the type was another; {advice}",
            type_place,
        )
        return True

    def _missing_arguments(self, path: KeyPath, node: Node, kind: str, taken: Arguments, registry: str) -> None:
        missing = taken.required - node.keys() - schema.PROVIDED.get(registry, frozenset())
        if registry == 'FUNCTIONS':  # called with a batch, or the number of a worker
            missing -= {taken.first or ''}
        if missing:
            listed = ', '.join(f"'{name}'" for name in sorted(missing))
            self.problems.add(path, f'{kind} needs {listed}', self.sources.nearest((*path, 'type')))


#: Likeness from which an argument that ``**kwargs`` would swallow is taken for a misspelt one.
_ALIKE = 0.85
_LOST_DELETE = 'no base file sets this dict, so there is nothing to delete; remove _delete_'


def _like_type(key: object) -> bool:
    if not isinstance(key, str) or key == 'dtype':
        return False
    return bool(difflib.get_close_matches(key.lower(), ['type'], cutoff=0.7))
