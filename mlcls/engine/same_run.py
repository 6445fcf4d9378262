"""Whether a checkpoint can be resumed by this run: the same model, classes, optimiser and training data.

What else differs is allowed and said: the lists below tell which setting, and why it does no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import mmengine
import torch

import mlcls
from mlcls.config import to_plain
from mlcls.engine.preflight import check_classes
from mlcls.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner

#: Settings whose difference makes another run of it, and how the message calls them.
HARMFUL = {
    'model': 'the model is another one',
    'data_preprocessor': 'the model is another one',
    'optim_wrapper.optimizer.type': 'the optimiser is another one',
    'optim_wrapper.constructor': 'the groups of parameters are others',
    'optim_wrapper.paramwise_cfg': 'the groups of parameters are others',
}
#: Settings below those that may differ all the same (a star is one part of a key), with the reason; None: not worth a
#: word.
ALLOWED: dict[str, str | None] = {
    'model.init_cfg': None,  # the weights come from the checkpoint
    'model.*.init_cfg': None,
    'model.*.pretrained': None,
    'model.pretrained': None,
    'model.backbone.with_cp': 'memory against time, the same numbers',
    'model.head.thr': 'decides, does not train',
    'model.head.topk': 'decides, does not train',
    'model.head.cal_acc': None,
}
#: Settings that may differ, by their beginning, with what happens then; the first that fits counts. None: not a word.
NOTED: dict[str, str | None] = {
    'work_dir': 'checkpoints and logs go there',
    'resume': None,
    'load_from': None,
    'launcher': None,
    'default_scope': None,
    'cfg': None,
    'runner_type': None,
    'custom_imports': None,
    'randomness.seed': 'the seed of the checkpoint is taken over',
    'train_cfg.max_epochs': 'training goes on to the new end',
    'train_dataloader.batch_size': 'iterations are counted anew from here',
    'train_dataloader.num_workers': 'the order of the images does not depend on it',
    'train_dataloader.dataset.pipeline': 'images are prepared in another way from here on',
    'train_dataloader.dataset.data_root': 'the same images in another place',
    'train_dataloader.dataset.ann_file': 'the same labels in another file',
    'train_dataloader': 'goes on with the new setting',
    'optim_wrapper.optimizer': 'the optimiser goes on with the values of the checkpoint',
    'optim_wrapper': 'goes on with the new setting',
    'param_scheduler': 'from here on the new schedule counts, at the place where it would be',
    'auto_scale_lr': 'the learning rates of the checkpoint stay as they are',
    '': 'goes on with the new setting',
}
#: Settings that say where the training data lie.
_PLACES = ('train_dataloader.dataset.data_root', 'train_dataloader.dataset.ann_file')
#: Differences below one key of NOTED that are told one by one.
_TOLD = 3
#: Stands for a key that one of two dicts lacks.
_ABSENT = object()
Difference = tuple[tuple[str, ...], Any, Any]


def check_same_run(stored_meta: Mapping[str, Any], runner: Runner, path: str = 'the checkpoint') -> list[str]:
    """Refuse to resume what was another run.

    Args:
        stored_meta: ``meta`` of the checkpoint: ``config``, ``classes``, ``optimizer``, ``data_hash``, ``num_images``,
            ``versions``; what is missing is not compared.
        runner: The run; its training data and optimiser are built.
        path: The checkpoint, for messages.

    Returns:
        Differences that do no harm, as sentences.

    Raises:
        CheckpointError: Other classes, model, optimiser, schedules or training data; the first difference is named.
    """
    dataset = runner.train_dataloader.dataset
    stored = stored_meta.get('config')
    given = to_plain(runner.cfg)
    differences = list(walk(stored, given)) if isinstance(stored, Mapping) else []
    _check_classes(stored_meta, dataset.metainfo['classes'], path)
    _check_settings(differences, path)
    _check_optimiser(stored_meta, runner, path)
    _check_schedules(stored, given, path)
    same_data = _check_data(stored_meta, dataset, path)
    notes = (
        [] if isinstance(stored, Mapping) else [f'{path} carries no config: it was not compared with that of this run']
    )
    return [*notes, *_notes(differences, same_data), *_version_notes(stored_meta.get('versions'))]


def walk(stored: Any, given: Any, path: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Places at which two configs, as plain data, differ, in the order of the keys: (key path, stored, given).

    Lists are compared entry by entry; a tuple equals a list, and a number that of another type.
    """
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in dict.fromkeys([*stored, *given]):
            yield from walk(stored.get(key, _ABSENT), given.get(key, _ABSENT), (*path, str(key)))
    elif _is_list(stored) and _is_list(given):
        if any(isinstance(each, (Mapping, list, tuple)) for each in (*stored, *given)):
            for number, (old, new) in enumerate(zip_longest(stored, given, fillvalue=_ABSENT)):
                yield from walk(old, new, (*path, str(number)))
        elif list(stored) != list(given):
            yield path, stored, given
    elif not _equal(stored, given):
        yield path, stored, given


def _equal(stored: Any, given: Any) -> bool:
    if stored is given or (stored != stored and given != given):  # NaN is like NaN here
        return True
    return bool(stored == given) and isinstance(stored, bool) == isinstance(given, bool)


def describe(difference: Difference) -> str:
    """A difference in words: ``model.backbone.depth is 18 in the checkpoint, 50 in the config``."""
    path, stored, given = difference
    return f'{".".join(path)} is {_shown(stored)} in the checkpoint, {_shown(given)} in the config'


def _check_classes(stored_meta: Mapping[str, Any], classes: Sequence[str], path: str) -> None:
    if not stored_meta.get('classes'):
        return
    try:
        check_classes(stored_meta['classes'], classes, path, 'the training data')
    except ConfigError as error:
        raise CheckpointError(f'cannot resume: {error}{_advice(path)}') from None


def _check_settings(differences: list[Difference], path: str) -> None:
    for difference in differences:
        what = next((words for key, words in HARMFUL.items() if _below(difference[0], key)), None)
        if what is not None and _allowance(difference[0]) is _ABSENT and not _means_nothing(difference):
            raise CheckpointError(f'{path}: {what}: {describe(difference)}{_advice(path)}')


def _check_optimiser(stored_meta: Mapping[str, Any], runner: Runner, path: str) -> None:
    stored, given = stored_meta.get('optimizer'), type(runner.optim_wrapper.optimizer).__name__
    if stored is not None and stored != given:
        raise CheckpointError(f'{path}: was written with the optimizer {stored}, the config has {given}{_advice(path)}')


def _check_schedules(stored: Any, given: Mapping[str, Any], path: str) -> None:
    # The state of a schedule holds all of its numbers: loaded into another type it would drive that one silently.
    if not isinstance(stored, Mapping):
        return
    old, new = ([each.get('type') for each in _entries(config.get('param_scheduler'))] for config in (stored, given))
    if old != new:
        words = [', '.join(str(each) for each in types) or 'none' for types in (old, new)]
        raise CheckpointError(
            f'{path}: the schedules are others: param_scheduler is {words[0]} in the checkpoint, {words[1]} in the '
            f'config{_advice(path)}'
        )


def _check_data(stored_meta: Mapping[str, Any], dataset: Any, path: str) -> bool | None:
    """Whether the training data are the same; None if there is nothing to tell it by."""
    count, now = stored_meta.get('num_images'), getattr(dataset, 'num_images', len(dataset))
    if count is not None and count != now:
        raise CheckpointError(f'{path}: was trained on {count} images, the training data have {now}{_advice(path)}')
    old = stored_meta.get('data_hash') or ''
    new = str(getattr(dataset, 'fingerprint', '')) if old else ''
    if old and new and old != new:
        raise CheckpointError(
            f'{path}: was trained on other data (hash {old}) than the training data (hash {new}): image names or '
            f'labels differ{_advice(path)}'
        )
    return True if old and new else None


def _notes(differences: list[Difference], same_data: bool | None) -> Iterator[str]:
    told: Counter[str] = Counter()
    for difference in differences:
        allowance = _allowance(difference[0])
        key = next(key for key in NOTED if _below(difference[0], key))
        words = NOTED[key] if allowance is _ABSENT else allowance
        if _means_nothing(difference) or words is None:
            continue
        told[key] += 1
        if key and told[key] > _TOLD:
            continue
        if key in _PLACES and not same_data:
            words = 'whether they are the same data is not known'
        yield f'{describe(difference)}: {words}'
    for key, count in told.items():
        if key and count > _TOLD:
            yield f'{key}: {count - _TOLD} more settings differ'


def _version_notes(versions: Any) -> Iterator[str]:
    now = {'mlcls': mlcls.__version__, 'torch': str(torch.__version__), 'mmengine': mmengine.__version__}
    for name, version in now.items():
        stored = versions.get(name) if isinstance(versions, Mapping) else None
        if stored is not None and stored != version:
            yield f'the checkpoint was written with {name} {stored}, this is {version}: numbers may differ slightly'


def _allowance(path: tuple[str, ...]) -> Any:
    return next((words for key, words in ALLOWED.items() if _below(path, key)), _ABSENT)


def _below(path: tuple[str, ...], key: str) -> bool:
    """Whether a key path is ``key`` or below it; a star stands for one part or more."""
    parts = key.split('.') if key else []
    if '*' not in parts:
        return list(path[: len(parts)]) == parts
    star = parts.index('*')
    head, tail = parts[:star], parts[star + 1 :]
    if list(path[:star]) != head:
        return False
    rest = list(path[star + 1 :])
    return any(rest[start : start + len(tail)] == tail for start in range(len(rest) - len(tail) + 1))


def _means_nothing(difference: Difference) -> bool:
    """Whether a setting is given in one and left out (or None) in the other, both meaning the default."""
    values = {id(_ABSENT): None}
    old, new = (values.get(id(value), value) for value in difference[1:])
    return old is None and new is None


def _entries(value: Any) -> list[Mapping[str, Any]]:
    entries = [value] if isinstance(value, Mapping) else list(value or [])
    return [each for each in entries if isinstance(each, Mapping)]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return 'not set'
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


def _advice(path: str) -> str:
    file = path if path.endswith(('.pth', '.safetensors')) else 'CHECKPOINT'
    return f"; to start a new run from its weights use --load-from {file} (in the config: load_from='{file}')"
