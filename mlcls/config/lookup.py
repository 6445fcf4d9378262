"""Names in registries: from a name to what it stands for, and back."""

from __future__ import annotations

import importlib
from typing import Any

from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from mlcls import registry as ours
from mlcls.errors import ConfigError

REGISTRIES: dict[str, Registry] = {name: value for name, value in vars(ours).items() if isinstance(value, Registry)}

#: What must be imported for the parents of our registries to be filled. Ours import their own parts.
_HOMES = {
    'MODELS': 'mmengine.model',
    'WEIGHT_INITIALIZERS': 'mmengine.model',
    'MODEL_WRAPPERS': 'mmengine.model',
    'DATASETS': 'mmengine.dataset',
    'DATA_SAMPLERS': 'mmengine.dataset',
    'FUNCTIONS': 'mmengine.dataset',
    'TRANSFORMS': 'mmcv.transforms',
    'METRICS': 'mmengine.evaluator',
    'EVALUATORS': 'mmengine.evaluator',
    'RUNNERS': 'mmengine.runner',
    'LOOPS': 'mmengine.runner',
    'LOG_PROCESSORS': 'mmengine.runner',
    'HOOKS': 'mmengine.hooks',
    'OPTIMIZERS': 'mmengine.optim',
    'OPTIM_WRAPPERS': 'mmengine.optim',
    'OPTIM_WRAPPER_CONSTRUCTORS': 'mmengine.optim',
    'PARAM_SCHEDULERS': 'mmengine.optim',
    'VISUALIZERS': 'mmengine.visualization',
    'VISBACKENDS': 'mmengine.visualization',
}


def is_lazy(value: Any) -> bool:
    """Whether a config value is a class (or anything else) imported by a config of Python style, not yet loaded."""
    return isinstance(value, (LazyObject, LazyAttr))


def resolve(value: Any) -> Any:
    """The object behind an import of a config of Python style; other values as they are.

    Raises:
        ConfigError: It cannot be imported.
    """
    if not is_lazy(value):
        return value
    try:
        return value.build()
    except (ImportError, AttributeError) as error:
        raise ConfigError(str(error)) from error


def find(name: str, registry: str) -> Any:
    """What a ``type`` names, or None.

    Unlike ``Registry.get`` a plain name is never taken for a module to import. A dotted one may be: ``mlcls.ResNet``
    and ``mmengine.SGD`` name a scope, ``torch.optim.SGD`` an importable object.

    Args:
        name: The name.
        registry: Name of the registry in ``mlcls.registry``.
    """
    scope, _, rest = name.rpartition('.')
    chain = _chain(registry)
    if scope:  # registries of other packages have a scope of their own
        chain = [member for member in (*chain, *chain[-1].children.values()) if member.scope == scope]
    for member in chain:
        member.import_from_location()
        if member.parent is None:
            _import_home(registry)
        if rest in member.module_dict:
            return member.module_dict[rest]
    found = importable(name) if scope and scope != ours.SCOPE else None
    return found if callable(found) else None


def importable(name: str) -> Any:
    """The object with a dotted name such as ``torch.optim.SGD``, or None."""
    try:
        return get_object_from_string(name)
    except ValueError:  # an empty part
        return None


def names(registry: str) -> set[str]:
    """The names that a ``type`` may have: those of a registry and of its parents."""
    _import_home(registry)
    for member in _chain(registry):
        member.import_from_location()
    return {name for member in _chain(registry) for name in member.module_dict}


def kind(registry: str) -> str:
    """A registry's kind in words, such as 'data sampler'."""
    return str(REGISTRIES[registry].name).replace('_', ' ')


def other_kinds(name: str, registry: str) -> list[str]:
    """The kinds of the other registries that have this name."""
    return [kind(other) for other in REGISTRIES if other != registry and name in names(other)]


def name_of(target: Any) -> str | None:
    """The name under which a class or function is registered, as a config would write it; None if it is not."""
    for registry in REGISTRIES:
        chain = _chain(registry)
        for member in chain:
            for name, value in member.module_dict.items():
                if value is target:
                    first = next(each for each in chain if name in each.module_dict)
                    # A part of ours may have taken the name of one of mmengine's.
                    return name if first is member else f'{member.scope}.{name}'
    return None


def _chain(registry: str) -> list[Registry]:
    """A registry and its parents, nearest first."""
    chain = [REGISTRIES[registry]]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    return chain


def _import_home(registry: str) -> None:
    try:
        importlib.import_module(_HOMES[registry])
    except ModuleNotFoundError as error:
        if error.name != 'mmcv':  # optional: without it there are fewer transforms
            raise
