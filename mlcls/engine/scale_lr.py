"""Learning rates for another batch size than the one they were chosen for (Goyal et al., arXiv 1706.02677)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mlcls.errors import ConfigError

#: Arguments of schedulers that are learning rates themselves, not factors of one.
_ABSOLUTE = ('eta_max', 'eta_min')
#: Where an optimiser's wrapper remembers its factor, so that nothing is scaled twice.
_MARK = 'lr_scale'


def real_batch_size(batch_size: int | None, world_size: int = 1, accumulative_counts: int = 1) -> int:
    """Images that one optimiser step sees: those of a batch, times processes, times accumulated batches.

    Args:
        batch_size: Of a process, as the loader says; None where a batch sampler decides.
        world_size: Number of processes.
        accumulative_counts: Batches whose gradients are added up before a step.

    Raises:
        ConfigError: The size of a batch is not known.
    """
    if not batch_size:
        raise ConfigError(
            'auto_scale_lr: train_dataloader has a batch sampler, so the size of its batches is not known; leave '
            '--auto-scale-lr out and set optim_wrapper.optimizer.lr'
        )
    return batch_size * world_size * accumulative_counts


def scale_lr(optim_wrapper: Any, base_batch_size: int, real_batch_size: int) -> float:
    """Multiply the learning rate of each group of parameters by ``real_batch_size / base_batch_size``, once.

    To be called after the optimiser is built, and before its schedulers, which note the rates as they find them. A
    second call with the same sizes changes nothing. A resumed run may call it too: the optimiser's state that is
    loaded afterwards brings the rates of the checkpoint, which were scaled when that run began.

    Args:
        optim_wrapper: Wrapper of one optimiser. Groups keep the ratios of their rates.
        base_batch_size: Images a step for which the config's rates were chosen.
        real_batch_size: Images that a step sees, see `real_batch_size`.

    Returns:
        The factor.

    Raises:
        ConfigError: A size that is no whole number above 0.
        RuntimeError: A scheduler is built already, or the rates were scaled by another factor.
    """
    for name, size in (('base_batch_size', base_batch_size), ('the real batch size', real_batch_size)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f'auto_scale_lr: {name} must be a whole number above 0, got {size!r}')
    factor = real_batch_size / base_batch_size
    done = getattr(optim_wrapper, _MARK, None)
    if done == factor:
        return factor
    if done is not None:
        raise RuntimeError(f'the learning rates were scaled by {done:g} already')
    groups = optim_wrapper.optimizer.param_groups
    if any('initial_lr' in group for group in groups):
        raise RuntimeError('learning rates are scaled before schedulers are built')
    seen: set[int] = set()
    for group in groups:
        lr = group['lr']
        if isinstance(lr, torch.Tensor):  # one tensor may serve several groups
            if id(lr) not in seen:
                lr.mul_(factor)
            seen.add(id(lr))
        else:
            group['lr'] = lr * factor
    setattr(optim_wrapper, _MARK, factor)
    return factor


def scale_schedules(schedulers: Any, factor: float) -> Any:
    """Configs of schedulers with those of their arguments scaled that are learning rates: ``eta_max`` of OneCycleLR,
    ``eta_min`` of the cosine ones. Rates given as factors follow the optimiser by themselves.

    Args:
        schedulers: A config, a list of them, or None; built schedulers are returned as they are.
        factor: What `scale_lr` returned.
    """
    if isinstance(schedulers, Mapping):
        scaled: Any = copy.deepcopy(dict(schedulers))
        if str(scaled.get('type')).endswith('LR') or scaled.get('param_name') == 'lr':
            for key in _ABSOLUTE:
                if scaled.get(key) is not None:
                    scaled[key] = _times(scaled[key], factor)
        return scaled
    if isinstance(schedulers, Sequence) and not isinstance(schedulers, str):
        return [scale_schedules(each, factor) for each in schedulers]
    return schedulers


def _times(value: Any, factor: float) -> Any:
    return [each * factor for each in value] if isinstance(value, (list, tuple)) else value * factor
