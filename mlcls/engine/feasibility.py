"""Settings that cannot work, or would silently do nothing: refused, or said aloud, before the first step.

torch and mmengine accept most of them and fail late (a cycle that is over, a fused optimiser at its first step), do
nothing (a validation that is never due), or stop with an error that does not name the setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from mlcls.engine.checkpoint import unwrap
from mlcls.engine.schedule_check import RunLength, check_schedules
from mlcls.errors import ConfigError

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner

#: GPUs that compute in bfloat16 have at least this compute capability.
BFLOAT16_CAPABILITY = (8, 0)
#: Optimisers of torch that have a fused step, and the devices it does not run on.
FUSED: dict[str, tuple[str, ...]] = {'Adam': (), 'AdamW': (), 'SGD': (), 'Adagrad': ('cuda',)}
#: Arguments of hooks that say from when on they act, and their unit.
_BEGINS = {'begin_epoch': 'epoch', 'start_epoch': 'epoch', 'begin': 'epoch', 'begin_iter': 'iteration'}


def check_feasible(runner: Runner, loop: Any = None) -> None:
    """Check schedules, intervals, optimiser and precision of a training run; what is merely unusual is logged.

    To be called when the training loop is there, and before optimiser and schedulers are built, whose own errors do not
    name the setting.

    Args:
        runner: The run; its model is on its device.
        loop: The training loop, if the runner does not have it yet.

    Raises:
        ConfigError: A setting cannot work.
    """
    loop = runner.train_loop if loop is None else loop
    run = RunLength(loop.max_epochs, len(loop.dataloader))
    cfg = runner.cfg
    device = next(unwrap(runner.model).parameters()).device
    validates = bool(cfg.get('val_dataloader'))
    check_loop(cfg.get('train_cfg') or {}, validates)
    check_accumulation(cfg.get('optim_wrapper') or {}, run)
    check_optimiser(cfg.get('optim_wrapper') or {}, device.type)
    check_precision(cfg, device)
    notes = [
        *validation_notes(cfg.get('train_cfg') or {}, validates),
        *check_hooks(cfg, run),
        *check_schedules(cfg.get('param_scheduler'), run),
        *_cycle_notes(cfg),
    ]
    for note in notes:
        runner.logger.warning(note)


def check_loop(train_cfg: Mapping[str, Any], validates: bool = True) -> None:
    """Refuse numbers of epochs that are none, and a validation that would never be due.

    Raises:
        ConfigError: See there.
    """
    for key in ('max_epochs', 'val_interval', 'val_begin'):
        value = train_cfg.get(key, 1)
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value)
        if not whole or value < (0 if key == 'val_begin' else 1):
            raise ConfigError(f'train_cfg.{key}={value!r} must be a whole number of at least 1')
    epochs, begin = train_cfg.get('max_epochs'), train_cfg.get('val_begin', 1)
    if validates and epochs is not None and begin > epochs:
        raise ConfigError(
            f'train_cfg.val_begin={begin} is above max_epochs={epochs}: there would be no validation; lower it, or use '
            '--no-validate if none is wanted'
        )


def validation_notes(train_cfg: Mapping[str, Any], validates: bool) -> Iterator[str]:
    """Say when an interval leaves the last validation alone."""
    epochs, interval = train_cfg.get('max_epochs'), train_cfg.get('val_interval', 1)
    if validates and epochs is not None and interval > epochs:
        yield f'train_cfg.val_interval={interval} is above max_epochs={epochs}: validation only after the last epoch'


def check_accumulation(wrapper: Mapping[str, Any], run: RunLength) -> None:
    """Compare the number of accumulated batches with those of an epoch, with which each cycle ends.

    Raises:
        ConfigError: Not a number above 0, or above the batches of an epoch.
    """
    counts, key = wrapper.get('accumulative_counts', 1), 'optim_wrapper.accumulative_counts'
    if not _is_count(counts):
        raise ConfigError(f'{key}={counts!r} must be a whole number of at least 1')
    if counts > run.epoch_iters:
        raise ConfigError(
            f'{key}={counts} is above the {run.epoch_iters} batches of an epoch, with which each step of the optimiser '
            f'ends: no step would be made of {counts} batches; set it to {run.epoch_iters} at most'
        )


def check_optimiser(wrapper: Mapping[str, Any], device_type: str) -> None:
    """Refuse limits of the gradient that leave nothing of it, and a fused step where there is none.

    Args:
        wrapper: ``optim_wrapper`` of the config.
        device_type: Where the weights are: ``'cpu'`` or ``'cuda'``.

    Raises:
        ConfigError: See there.
    """
    clip = wrapper.get('clip_grad')
    for key in ('max_norm', 'clip_value'):
        value = (clip or {}).get(key)
        if value is not None and not value > 0:
            raise ConfigError(
                f'optim_wrapper.clip_grad.{key}={value} must be above 0, or no gradient would be left; without a limit '
                'set clip_grad=None'
            )
    optimizer = wrapper.get('optimizer') or {}
    if not isinstance(optimizer, Mapping) or not optimizer.get('fused'):
        return
    name = optimizer['type'] if isinstance(optimizer['type'], str) else optimizer['type'].__name__
    name = name.rpartition('.')[2]
    for other in ('foreach', 'differentiable'):
        if optimizer.get(other):
            raise ConfigError(f'optim_wrapper.optimizer: fused=True and {other}=True exclude each other; leave one out')
    if hasattr(torch.optim, name) and name not in FUSED:
        raise ConfigError(
            f'optim_wrapper.optimizer: {name} has no fused step ({", ".join(sorted(FUSED))} have); leave fused out'
        )
    if device_type in FUSED.get(name, ()):
        raise ConfigError(f'optim_wrapper.optimizer: {name} has no fused step on {device_type}; leave fused out')


def check_precision(cfg: Mapping[str, Any], device: torch.device) -> None:
    """Refuse a number format that the device does not compute in, also of the validation, which comes late.

    Args:
        cfg: The config.
        device: Where the weights are.

    Raises:
        ConfigError: float16 on a CPU, or bfloat16 on a GPU older than that.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    kind = wrapper.get('type', '')
    kind = kind if isinstance(kind, str) else kind.__name__
    wanted = [('optim_wrapper.dtype', wrapper.get('dtype') if kind.endswith('AmpOptimWrapper') else None)]
    for name in ('val_cfg', 'test_cfg'):
        loop = cfg.get(name) or {}
        wanted.append((f'{name}.fp16=True', 'float16' if loop.get('fp16') else None))
        wanted.append((f'{name}.dtype', loop.get('dtype')))
    for key, dtype in wanted:
        shown = key if '=' in key else f"{key}='{dtype}'"
        if dtype == 'float16' and device.type == 'cpu':
            raise ConfigError(f"{shown}: float16 needs a GPU; on a CPU use 'bfloat16', or leave it out")
        if dtype == 'bfloat16' and device.type == 'cuda':
            capability = torch.cuda.get_device_capability(device)
            if capability < BFLOAT16_CAPABILITY:
                raise ConfigError(
                    f'{shown}: {torch.cuda.get_device_name(device)} (compute capability {capability[0]}.'
                    f"{capability[1]}) has no bfloat16 arithmetic, which begins with 8.0; use 'float16'"
                )


def check_hooks(cfg: Mapping[str, Any], run: RunLength) -> list[str]:
    """Compare intervals and beginnings of hooks with the length of the run.

    Returns:
        What is possible, but rarely meant.

    Raises:
        ConfigError: An interval that is none, or a hook that would begin after the end.
    """
    notes: list[str] = []
    default, custom = cfg.get('default_hooks') or {}, cfg.get('custom_hooks') or []
    named = [(f'default_hooks.{name}', hook) for name, hook in default.items()]
    named += [(f'custom_hooks.{number}', hook) for number, hook in enumerate(custom)]
    for key, hook in named:
        if not isinstance(hook, Mapping):
            continue
        kind = hook.get('type', '')
        kind = (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]
        if kind == 'CheckpointHook':
            notes += _checkpoint_notes(key, hook, run)
        elif kind == 'LoggerHook':
            _check_logger(key, hook)
        elif hook.get('interval') == 0:
            raise ConfigError(f'{key}.interval=0 ({kind}) must be at least 1')
        if 'EMA' in kind or 'SWA' in kind:
            _check_begin(key, kind, hook, run)
    return notes


def _checkpoint_notes(key: str, hook: Mapping[str, Any], run: RunLength) -> Iterator[str]:
    interval, kept = hook.get('interval', 1), hook.get('max_keep_ckpts', -1)
    if not _is_count(interval) and interval != -1:
        raise ConfigError(f'{key}.interval={interval!r} must be a whole number of at least 1, or -1: only the last')
    if not _is_count(kept) and kept != -1:
        raise ConfigError(f'{key}.max_keep_ckpts={kept!r} must be a whole number of at least 1, or -1: keep all')
    by_epoch = hook.get('by_epoch', True)
    limit, unit = (run.epochs, 'epochs') if by_epoch else (run.iters, 'iterations')
    if interval > limit:
        result = 'only the last is written' if hook.get('save_last', True) else 'none is written'
        yield f'{key}.interval={interval} is above the {limit} {unit} of the training: {result}'


def _check_logger(key: str, hook: Mapping[str, Any]) -> None:
    # One above the length of the run is no mistake: the end of each short epoch is logged.
    interval = hook.get('interval', 10)
    if not _is_count(interval):
        raise ConfigError(f'{key}.interval={interval!r} must be a whole number of at least 1')


def _check_begin(key: str, kind: str, hook: Mapping[str, Any], run: RunLength) -> None:
    for name, unit in _BEGINS.items():
        begin = hook.get(name)
        if isinstance(begin, bool) or not isinstance(begin, (int, float)):
            continue
        # A begin between 0 and 1 may be a share of the run.
        limit = run.epochs if unit == 'epoch' else run.iters
        done_before = begin - 1 if 'EMA' in kind else begin  # EMA counts from 1, SWA those trained before
        if done_before >= limit:
            raise ConfigError(
                f'{key}.{name}={begin:g} ({kind}) is not before the end of the training ({limit} {unit}s): no weights '
                'would be averaged; lower it'
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _cycle_notes(cfg: Mapping[str, Any]) -> Iterator[str]:
    """OneCycleLR sets all groups of parameters to the same rate, whatever the optimiser was told."""
    schedulers = cfg.get('param_scheduler') or []
    settings = (cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}
    custom = (settings.get('custom_keys') or {}).values()
    rates = [key for key in settings if key == 'layer_decay_rate' or key.endswith('lr_mult')]
    rates += ['custom_keys' for each in custom if each.get('lr_mult', 1) != 1][:1]
    for number, each in enumerate([schedulers] if isinstance(schedulers, Mapping) else schedulers):
        one = isinstance(each, Mapping) and str(each.get('type')).endswith('OneCycleLR')
        if one and rates and not isinstance(each.get('eta_max'), (list, tuple)):
            yield (
                f'param_scheduler.{number} (OneCycleLR): eta_max becomes the highest rate of all parameters, and '
                f'optim_wrapper.paramwise_cfg.{rates[0]} has no effect on it; use LinearLR and CosineAnnealingLR, '
                'which keep the ratios'
            )
