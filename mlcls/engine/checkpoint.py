"""What a checkpoint of a run holds, and finding one again."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mmengine
import numpy as np
import torch
from mmengine.model import is_model_wrapper
from torch import nn

import mlcls
from mlcls.config import to_plain
from mlcls.engine.averaging import averaging_hook
from mlcls.engine.dataloader import batch_size_of
from mlcls.engine.random_state import gather_rank_states
from mlcls.engine.sharding import whole
from mlcls.errors import CheckpointError, UserError
from mlcls.evaluation.operating_points import OperatingPoints
from mlcls.fileio import check_checksum, checksum_path, read_checkpoint, write_checked
from mlcls.models.fitting import training_state
from mlcls.models.weights import loaded_weights

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner

#: File in the work folder that names the newest checkpoint.
POINTER = 'last_checkpoint'
#: Above so many images, no hash is made of their labels.
_MANY_IMAGES = 1_000_000
#: Where a checkpoint keeps the thresholds of its model.
POINTS = 'operating_points'


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a distributed wrapper."""
    return cast(nn.Module, model.module) if is_model_wrapper(model) else model


def as_data(value: Any, copy: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Any:
    """Reduce a state to tensors, numbers, strings and containers of them, which can be read without unpickling code.

    Callables (a scheduler keeps its annealing function) are dropped: constructors make them anew.

    Args:
        value: The state.
        copy: Takes a tensor to the one that is kept; without it, tensors on the CPU are kept themselves.

    Raises:
        CheckpointError: Something that is none of these.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu() if copy is None else copy(value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: as_data(item, copy) for key, item in value.items() if not callable(item)}
    if isinstance(value, (list, tuple)):
        return type(value)(as_data(item, copy) for item in value) if type(value) in (list, tuple) else list(value)
    if value is None or isinstance(value, (str, bytes, Number)):
        return value
    raise CheckpointError(f'cannot save a {type(value).__name__} in a checkpoint')


def make_payload(
    runner: Runner,
    epoch: int,
    iteration: int,
    batches_done: int = 0,
    is_validated: bool = False,
    weights: str = 'averaged',
) -> dict[str, Any]:
    """Everything needed to go on from here, and to test without the config file; called by all ranks together.

    Args:
        runner: The run.
        epoch: Epochs finished.
        iteration: Iterations finished.
        batches_done: Batches of the next epoch that are finished, too.
        is_validated: The validation of the epochs finished is over.
        weights: Those to be used, ``'averaged'`` or ``'raw'``, where the run averages them.
    """
    schedulers = runner.param_schedulers or []
    payload = {
        'meta': {
            'epoch': epoch,
            'iter': iteration,
            'batches_done': batches_done,
            'is_validated': is_validated,
            'batch_size': batch_size_of(runner.train_dataloader),
            'world_size': runner.world_size,
            'num_workers': runner.train_dataloader.num_workers,
            **describe_data(runner.train_dataloader.dataset),
            'seed': runner.seed,
            'classes': list(runner.train_dataloader.dataset.metainfo['classes']),
            'config': to_plain(runner.cfg),
            'pretrained': loaded_weights(unwrap(runner.model)),
            'optimizer': type(runner.optim_wrapper.optimizer).__name__,
            'time': time.strftime('%Y-%m-%d %H:%M:%S'),
            'versions': {
                'mlcls': mlcls.__version__,
                'torch': str(torch.__version__),
                'mmengine': mmengine.__version__,
                'python': platform.python_version(),
            },
        },
        'state_dict': whole(unwrap(runner.model).state_dict()),
        'training_state': training_state(unwrap(runner.model)),
        'optimizer': whole(runner.optim_wrapper.state_dict()),
        'param_schedulers': [scheduler.state_dict() for scheduler in schedulers],
        'hooks': {type(hook).__name__: hook.state_dict() for hook in runner.hooks if hasattr(hook, 'state_dict')},
        'ranks': gather_rank_states(unwrap(runner.model), inside_epoch=batches_done > 0),
    }
    if runner.train_counts is not None:
        payload['meta']['train_counts'] = runner.train_counts
    if averaging_hook(runner) is not None:
        payload['meta']['weights'] = weights
    points = runner.raw_points if weights == 'raw' else runner.operating_points
    if points is not None:
        payload[POINTS] = points.to_dict()
    runner.call_hook('before_save_checkpoint', checkpoint=payload)
    return payload


def describe_data(dataset: Any) -> dict[str, Any]:
    """How many images a data set has and, unless they are so many that it takes long, a hash of their labels."""
    images = getattr(dataset, 'num_images', len(dataset))  # of shards, len is a rank's part
    is_quick = images <= _MANY_IMAGES
    return {'num_images': images, 'data_hash': str(getattr(dataset, 'fingerprint', '')) if is_quick else ''}


def points_path(path: str | Path) -> Path:
    """The JSON file beside a checkpoint that holds the thresholds of its model."""
    path = Path(path)
    return path.with_name(f'{path.stem}.thresholds.json')


def delete_checkpoint(path: Path) -> None:
    """Delete a checkpoint and what lies beside it."""
    path.unlink(missing_ok=True)
    checksum_path(path).unlink(missing_ok=True)
    points_path(path).unlink(missing_ok=True)


def stored_points(checkpoint: dict[str, Any], path: str | Path) -> OperatingPoints | None:
    """The thresholds kept in a checkpoint; None if it has none.

    Args:
        checkpoint: Its content.
        path: Its file, for messages.

    Raises:
        CheckpointError: They cannot be read.
    """
    stored = checkpoint.get(POINTS)
    if stored is None:
        return None
    try:
        return OperatingPoints.from_dict(stored, f'{path}, {POINTS}')
    except UserError as error:
        raise CheckpointError(str(error)) from error


def store_points(path: str | Path, points: OperatingPoints) -> None:
    """Put thresholds into a checkpoint, in place of those that are there; all else in it stays as it is.

    Args:
        path: A checkpoint of mlcls.
        points: For its classes.

    Raises:
        CheckpointError: The file cannot be read, holds weights alone or something that is no plain data, or cannot be
            written; it is untouched, and the thresholds can be kept in the file that `points_path` names.
        ConfigError: The thresholds are for other classes.
    """
    path = Path(path)
    content = read_checkpoint(path)
    elsewhere = f'the thresholds are kept in {points_path(path).name} beside it'
    if not isinstance(content.get('state_dict'), dict):
        raise CheckpointError(f'{path}: holds weights alone, and no place for thresholds; {elsewhere}')
    classes = stored_classes(content)
    if classes is not None:
        points.check_classes(classes, str(path))
    try:
        as_data(content)
        write_checked(path, lambda file: torch.save({**content, POINTS: as_data(points.to_dict())}, file))
    except CheckpointError as error:
        raise CheckpointError(f'{path}: is not rewritten, since it is not plain data ({error}); {elsewhere}') from None
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be written ({error.strerror}); {elsewhere}') from error


def find_good(folder: Path, warn: Callable[[str], None]) -> Path:
    """The newest checkpoint of a work folder that is not damaged.

    Args:
        folder: The work folder.
        warn: Called with a line for each damaged one that is passed over.

    Raises:
        CheckpointError: There is none, or all are damaged.
    """
    newest = find_checkpoint(folder)
    named = _named_by_pointer(folder)
    if named is not None and named != newest:
        warn(f'passed over: {named}, which {POINTER} names, is not there')
    others = sorted(
        (path for path in folder.glob('*.pth') if path != newest), key=lambda path: path.stat().st_mtime, reverse=True
    )
    reasons = []
    for path in (newest, *others):
        try:
            check_checksum(path)
            found = read_checkpoint(path, mmap=False)
            if 'optimizer' not in found:
                raise CheckpointError(f'{path}: holds no training state')
            return path
        except CheckpointError as error:
            reasons.append(str(error))
            warn(f'passed over: {error}')
    raise CheckpointError(f'{folder}: no checkpoint to resume from is whole: ' + '; '.join(reasons))


def find_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a work folder.

    Raises:
        CheckpointError: There is none.
    """
    named = _named_by_pointer(folder)
    if named is not None and named.is_file():
        return named
    found = sorted(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CheckpointError(f'{folder}: no checkpoint to resume from; leave --resume out to start afresh')
    return found[-1]


def _named_by_pointer(folder: Path) -> Path | None:
    """The checkpoint that the pointer names, there or not; None without a pointer, or with rubbish in it."""
    try:
        name = Path((folder / POINTER).read_text().strip()).name
        path = folder / name
        path.is_file()
    except (OSError, ValueError):
        return None
    return path if name.endswith('.pth') else None


def find_best(folder: Path) -> Path:
    """The best checkpoint of a work folder or, if no best one was kept, the newest.

    Raises:
        CheckpointError: There is no checkpoint, or there are best ones for several metrics.
    """
    best = sorted(folder.glob('best_*.pth'))
    if len(best) > 1:
        raise CheckpointError(
            f'{folder} has several best checkpoints; choose one of: {", ".join(path.name for path in best)}'
        )
    if best:
        return best[0]
    if not any(folder.glob('*.pth')):
        raise CheckpointError(f'{folder}: no checkpoint in this folder')
    return find_checkpoint(folder)


def stored_config(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """The resolved config in a checkpoint, as data.

    Raises:
        CheckpointError: It has none.
    """
    meta = checkpoint.get('meta')
    config = meta.get('config') if isinstance(meta, dict) else None
    if not isinstance(config, dict):
        raise CheckpointError(
            f'{path}: carries no config (not written by mlcls?); give the config file too: tools/test.py CONFIG {path}'
        )
    return config


def stored_train_counts(checkpoint: dict[str, Any]) -> list[int] | None:
    """Positive training images of each class, as a checkpoint of mlcls says; None if it does not."""
    meta = checkpoint.get('meta')
    counts = meta.get('train_counts') if isinstance(meta, dict) else None
    classes = stored_classes(checkpoint)
    if not isinstance(counts, list) or classes is None or len(counts) != len(classes):
        return None
    return counts if all(isinstance(count, int) for count in counts) else None


def stored_pretrained(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Weights files that the run of a checkpoint started from, as reports in plain data; empty if it does not say."""
    meta = checkpoint.get('meta')
    found = meta.get('pretrained') if isinstance(meta, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def stored_classes(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Class names in a checkpoint of mlcls or mmpretrain; None if it has none."""
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    classes = meta.get('classes') or (meta.get('dataset_meta') or {}).get('classes')
    return tuple(classes) if classes else None
