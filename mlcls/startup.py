"""Leaving out, at the start of a command, what most runs never use.

torch's optimisers import its compiler (1 s) only to tell it to leave them alone, and mmengine imports three classes for
sharded training together with all of torch's machinery for it (1 s). :func:`import_late` puts small stand-ins in their
places, which give way to the real modules as soon as anything else is asked of them. What a run does is the same.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

COMPILER = 'torch._dynamo'
#: Modules of mmengine: the class that others import from each, and its registry.
SHARDED = {
    'mmengine.model.wrappers.fully_sharded_distributed': ('MMFullyShardedDataParallel', 'MODEL_WRAPPERS'),
    'mmengine.optim.optimizer.zero_optimizer': ('ZeroRedundancyOptimizer', 'OPTIMIZERS'),
    'mmengine._strategy.fsdp': ('FSDPStrategy', 'STRATEGIES'),
}


def import_late() -> None:
    """Defer the imports that this module's docstring names, unless they are done; imports nothing itself."""
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = _Compiler()
    if not {'mmengine.model', 'mmengine.optim', 'mmengine._strategy'} & sys.modules.keys():
        for name, (wanted, registry) in SHARDED.items():
            sys.modules[name] = _OneClass(name, wanted, registry)


class _StandIn(ModuleType):
    """A module that is imported when something is asked of it that this one does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') and name != '__path__':  # what inspect and the like ask of all modules there are
            raise AttributeError(name)
        return getattr(self._load(), name)

    def _load(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            self._give_way()
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)

    def _give_way(self) -> None:
        """Take back what would be in the way of the real module."""


class _Compiler(_StandIn):
    """``torch._dynamo`` in a process that compiles nothing, so that there is nothing to keep out of graphs."""

    def __init__(self) -> None:
        super().__init__(COMPILER)
        self._kept_out: list[Any] = []

    def graph_break(self, *args: Any, **others: Any) -> None:
        """Nothing: there is no graph."""

    def disable(self, fn: Any = None, *args: Any, **others: Any) -> Any:
        """The function itself; what torch makes of it takes its place once there is a compiler."""
        if fn is None:
            return self._load().disable(fn, *args, **others)
        sys.modules['torch']._dynamo = self  # type: ignore[attr-defined]  # torch would look it up in every step
        self._kept_out.append(fn)
        return fn

    def _give_way(self) -> None:
        vars(sys.modules['torch']).pop('_dynamo', None)
        for fn in self._kept_out:  # torch keeps the answer in an attribute, and asks again if there is none
            vars(fn).pop('__dynamo_disable', None)
        self._kept_out.clear()


class _OneClass(_StandIn):
    """A module of which others import one class: they get one that makes objects of the real class."""

    def __init__(self, name: str, wanted: str, registry: str) -> None:
        super().__init__(name)
        self._wanted, self._registry = wanted, registry

    def __getattr__(self, name: str) -> Any:
        if name == '__path__':  # not a package
            raise AttributeError(name)
        if name != self._wanted or sys.modules.get(self.__name__) is not self:
            return super().__getattr__(name)

        def make(cls: type, *args: Any, **kwargs: Any) -> Any:
            return getattr(self._load(), name)(*args, **kwargs)

        given = type(name, (), {'__new__': make, '__module__': self.__name__, '__doc__': f'{name}, imported late.'})
        vars(self)[name] = given
        self._known()[name] = given
        return given

    def _known(self) -> dict[str, Any]:
        return getattr(importlib.import_module('mmengine.registry'), self._registry).module_dict

    def _give_way(self) -> None:
        self._known().pop(self._wanted, None)

    def _load(self) -> ModuleType:
        found = super()._load()
        given = vars(self).get(self._wanted)
        for name, module in list(sys.modules.items()):  # where it was imported from here
            if name.startswith('mmengine') and module is not self and vars(module).get(self._wanted) is given:
                setattr(module, self._wanted, getattr(found, self._wanted))
        return found
