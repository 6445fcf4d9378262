"""What command lines and users call: plain functions over the engine. They load when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcls.apis.testing import test
    from mlcls.apis.training import TrainFlags, train

__all__ = ['TrainFlags', 'test', 'train']


def __getattr__(name: str) -> Any:
    import importlib

    rooms = {'test': 'mlcls.apis.testing', 'train': 'mlcls.apis.training', 'TrainFlags': 'mlcls.apis.training'}
    if name not in rooms:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(rooms[name]), name)
