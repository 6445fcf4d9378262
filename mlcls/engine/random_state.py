"""Randomness of a run: keyed by the step, and the rest kept in checkpoints."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object
from torch import nn

from mlcls.models.fitting import load_training_state, training_state


def step_seed(seed: int, iteration: int, rank: int = 0) -> int:
    """Seed of what the model and the batch augmentations draw in a step; a function of its arguments alone."""
    return (seed * 1_000_003 + iteration) * 1_009 + rank


def seed_step(seed: int, iteration: int, rank: int = 0) -> None:
    """Seed torch's generators for a step: a resumed run draws as if it had never been stopped."""
    number = step_seed(seed, iteration, rank)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


def gather_rank_states(model: nn.Module, inside_epoch: bool) -> list[dict[str, Any]]:
    """What differs between ranks, of all ranks; to be called by all of them together.

    Args:
        model: The network, without a distributed wrapper.
        inside_epoch: The epoch is not over: statistics of batch normalisation and memories of losses, which ranks
            exchange at its end, are still those of each.
    """
    state: dict[str, Any] = {
        'python': _plain(random.getstate()),
        'numpy': _plain(np.random.get_state()),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    if inside_epoch:
        state['buffers'] = {name: value.detach().cpu() for name, value in model.named_buffers()}
        state['memories'] = {name: value.cpu() for name, value in training_state(model).items()}
    return all_gather_object(state)


def restore_rank_state(model: nn.Module, states: list[dict[str, Any]], rank: int, world_size: int) -> None:
    """Take up this rank's part of what `gather_rank_states` gave.

    With another number of ranks, statistics and memories of all of them are combined, and generators are left as they
    are.
    """
    if len(states) != world_size:
        _take_combined(model, states)
        return
    state = states[rank]
    random.setstate(_as_tuple(state['python']))
    name, keys, *rest = state['numpy']
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state['torch'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])
    _take_buffers(model, state.get('buffers', {}))
    load_training_state(model, state.get('memories', {}))


def _take_buffers(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    own = dict(model.named_buffers())
    for name, value in buffers.items():
        if name in own and own[name].shape == value.shape:
            own[name].copy_(value)


def _take_combined(model: nn.Module, states: list[dict[str, Any]]) -> None:
    """What ranks exchange at the end of an epoch, exchanged now."""
    for kind, take in (('buffers', _take_buffers), ('memories', load_training_state)):
        parts = [state[kind] for state in states if kind in state]
        if parts:
            take(model, {name: _combine([part[name] for part in parts]) for name in parts[0]})


def _combine(values: list[torch.Tensor]) -> torch.Tensor:
    stacked = torch.stack(values)
    return stacked.mean(0) if stacked.is_floating_point() else stacked.amax(0)


def _plain(value: Any) -> Any:
    """Nested tuples and arrays as lists of numbers."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
