"""A whole config checked before any data are loaded: names, types, arguments and values, each with its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from mlcls.config import schema
from mlcls.config.expressions import KeyPath
from mlcls.config.problems import Problems
from mlcls.config.schema import Slot
from mlcls.config.sources import Sources
from mlcls.config.toplevel import check_names
from mlcls.config.walk import Walk
from mlcls.errors import did_you_mean
from mlcls.registry import SCOPE


def check_config(cfg: Config, sources: Sources) -> None:
    """Check a config. Nothing is built and no data are read, but the modules of the parts that it names are imported.

    Args:
        cfg: The config, as :func:`load_config` or :func:`load_resolved` gives it.
        sources: Its files, for places: ``Sources([path], options)``, or ``Sources([])`` for one from a checkpoint.

    Raises:
        ConfigError: One line for each problem: ``file:line: key.path: what is wrong; did you mean ...``.
    """
    raw: Mapping[str, Any] = cfg._to_lazy_dict()
    problems = Problems(sources)
    check_names(raw, problems)
    walk = Walk(problems)
    for key, value in raw.items():
        if value is None:
            continue
        if key in schema.TOP_SLOTS:
            walk.slot((key,), value, schema.TOP_SLOTS[key])
        elif key in _RULES:
            _RULES[key](walk, (key,), value)
        elif key in schema.UNTYPED:
            walk.untyped((key,), value)
    _check_together(raw, problems)
    problems.raise_if_any()


def _check_together(raw: Mapping[str, Any], problems: Problems) -> None:
    """Note what must be given together, and the keys that a run cannot be without."""
    model = raw.get('model')
    if model is None:
        problems.add(('model',), 'is missing')
    if raw.get('data_preprocessor') is not None and isinstance(model, Mapping) and model.get('data_preprocessor'):
        text = 'has no effect, since model.data_preprocessor is set; write model = dict(data_preprocessor=...)'
        problems.add(('data_preprocessor',), text)
    for group in schema.GROUPS:
        given = [key for key in group if raw.get(key) is not None]
        missing = [key for key in group if key not in given]
        if given and missing:
            text = f'given without {" and ".join(missing)}; give all of {", ".join(group)}, or none of them'
            problems.add((given[0],), text)
    if raw.get('param_scheduler') is not None and raw.get('optim_wrapper') is None:
        problems.add(('param_scheduler',), 'given without optim_wrapper, whose learning rate it changes')


def _dataloader(walk: Walk, path: KeyPath, value: Any) -> None:
    if not isinstance(value, Mapping):
        walk.untyped(path, value)
        return
    walk.untyped(path, {key: item for key, item in value.items() if key != 'shuffle'})
    if 'shuffle' in value:
        walk.problems.add((*path, 'shuffle'), "is the sampler's: sampler=dict(type='DefaultSampler', shuffle=...)")
    if value.get('dataset') is None:
        walk.problems.add(path, "needs 'dataset'")
    for key in ('dataset', 'sampler'):
        if not isinstance(value.get(key), (Mapping, type(None))):
            walk.problems.add((*path, key), f'must be a dict with a type, not {value[key]!r}')


def _train_cfg(walk: Walk, path: KeyPath, value: Any) -> None:
    """The training loop: by type or, without one, by ``by_epoch``."""
    if isinstance(value, Mapping) and 'type' not in value:
        by_epoch = value.get('by_epoch', 'max_iters' not in value)
        slot = Slot('LOOPS', 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
        walk.typed(path, value, slot, consumed=frozenset({'by_epoch'}))
    else:
        walk.slot(path, value, Slot('LOOPS'))


def _evaluator(walk: Walk, path: KeyPath, value: Any) -> None:
    """A metric, a list of metrics, or an evaluator that holds ``metrics``."""
    is_evaluator = isinstance(value, Mapping) and 'metrics' in value
    walk.slot(path, value, Slot('EVALUATORS', 'Evaluator') if is_evaluator else Slot('METRICS'))


def _optim_wrapper(walk: Walk, path: KeyPath, value: Any) -> None:
    if not isinstance(value, Mapping):
        walk.slot(path, value, Slot('OPTIM_WRAPPERS'))
        return
    constructor = value.get('constructor', schema.DEFAULT_CONSTRUCTOR)
    if 'constructor' in value:
        walk.target((*path, 'constructor'), constructor, 'OPTIM_WRAPPER_CONSTRUCTORS')
    keys = schema.CONSTRUCTORS.get(constructor) if isinstance(constructor, str) else None
    if keys is None and 'type' not in value and 'optimizer' not in value:
        walk.children(path, value, 'OPTIM_WRAPPERS')  # several optimizers, under names that the constructor knows
        return
    walk.typed(path, value, Slot('OPTIM_WRAPPERS', 'OptimWrapper'))
    if keys is not None:
        _paramwise(walk, (*path, 'paramwise_cfg'), value.get('paramwise_cfg') or {}, keys)
        _needs_decay(walk, path, value)


def _needs_decay(walk: Walk, path: KeyPath, value: Mapping[str, Any]) -> None:
    """Factors of a weight decay need one to multiply."""
    factors, optimizer = value.get('paramwise_cfg'), value.get('optimizer')
    if not isinstance(factors, Mapping) or not isinstance(optimizer, Mapping) or 'weight_decay' in optimizer:
        return
    for key in ('norm_decay_mult', 'bias_decay_mult', 'dwconv_decay_mult'):
        if key in factors:
            walk.problems.add(
                (*path, 'paramwise_cfg', key), 'needs optim_wrapper.optimizer.weight_decay, which it multiplies'
            )


def _paramwise(walk: Walk, path: KeyPath, value: Any, keys: frozenset[str]) -> None:
    for constructor, more in schema.CONSTRUCTORS.items() if isinstance(value, Mapping) else ():
        for key in value.keys() & (more - keys):
            walk.problems.add((*path, key), f"needs optim_wrapper.constructor='{constructor}'")
            keys |= {key}
    walk.known_keys(path, value, keys)
    custom_keys = value.get('custom_keys') if isinstance(value, Mapping) else None
    for name, factors in custom_keys.items() if isinstance(custom_keys, Mapping) else ():
        walk.known_keys((*path, 'custom_keys', name), factors, schema.CUSTOM_KEY)


def _param_scheduler(walk: Walk, path: KeyPath, value: Any) -> None:
    """One scheduler, a list of them or, for several optimizers, a dict of those."""
    if isinstance(value, Mapping) and value and all(isinstance(each, (Mapping, list)) for each in value.values()):
        for key, each in value.items():
            walk.slot((*path, key), each, Slot('PARAM_SCHEDULERS'))
    else:
        walk.slot(path, value, Slot('PARAM_SCHEDULERS'))


def _default_hooks(walk: Walk, path: KeyPath, value: Any) -> None:
    """Hooks by slot; None takes a default hook out."""
    if not isinstance(value, Mapping):
        walk.problems.add(path, f'must be a dict of hooks, not {value!r}')
        return
    for name, hook in value.items():
        near = difflib.get_close_matches(str(name), schema.HOOK_SLOTS, n=1, cutoff=0.8)
        has_type = isinstance(hook, Mapping) and 'type' in hook
        if name not in schema.HOOK_SLOTS and near and not has_type and near[0] in value:
            walk.problems.add((*path, name), f"unknown slot; did you mean '{near[0]}'?")
            continue
        if name not in schema.HOOK_SLOTS and near and near[0] not in value:
            walk.problems.add(
                (*path, name),
                f"unknown slot, so that the default '{near[0]}' hook would run too; did you mean '{near[0]}'?",
            )
        walk.slot((*path, name), hook, Slot('HOOKS', schema.HOOK_SLOTS.get(str(name))))


def _custom_hooks(walk: Walk, path: KeyPath, value: Any) -> None:
    """A list of hooks."""
    if value is not None and not isinstance(value, (list, tuple)):
        walk.problems.add(path, f'must be a list of hooks, as in [dict(type=...)], not {type(value).__name__}')
        return
    walk.slot(path, value, Slot('HOOKS'))


def _runner_type(walk: Walk, path: KeyPath, value: Any) -> None:
    walk.target(path, value, 'RUNNERS')


def _default_scope(walk: Walk, path: KeyPath, value: Any) -> None:
    if value != SCOPE:
        walk.problems.add(path, f"is {value!r}; set default_scope = '{SCOPE}'")


def _launcher(walk: Walk, path: KeyPath, value: Any) -> None:
    if value not in schema.LAUNCHERS:
        walk.problems.add(path, f'unknown launcher {value!r}{did_you_mean(str(value), schema.LAUNCHERS)}')


#: Top-level keys with rules of their own; the others go by the tables of schema.py alone.
_RULES: dict[str, Callable[[Walk, KeyPath, Any], None]] = {
    'train_dataloader': _dataloader,
    'val_dataloader': _dataloader,
    'test_dataloader': _dataloader,
    'train_cfg': _train_cfg,
    'optim_wrapper': _optim_wrapper,
    'param_scheduler': _param_scheduler,
    'val_evaluator': _evaluator,
    'test_evaluator': _evaluator,
    'default_hooks': _default_hooks,
    'custom_hooks': _custom_hooks,
    'runner_type': _runner_type,
    'default_scope': _default_scope,
    'launcher': _launcher,
}
