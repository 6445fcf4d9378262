"""Averages of a network's weights over the steps of its training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlcls.engine.sharding import shared_like, whole
from mlcls.errors import CheckpointError

#: Where a checkpoint keeps the weights in training, where others are to be used.
TRAINING_WEIGHTS = 'training_weights'
#: Before the names of metrics of the weights in training, where averaged ones are evaluated, too.
RAW = 'raw/'


class WeightAverage:
    """The running average of the parameters of a network, in float32 (float64 of those in float64), on their device.

    Where parameters are shared out over the ranks, each rank averages its part. Buffers are those of the network,
    unless they are averaged, too, or `keep_buffers` gave the average some of its own.

    Args:
        model: The network, without a distributed wrapper.
        update_buffers: Average buffers of floating point, too.
    """

    def __init__(self, model: nn.Module, update_buffers: bool = False) -> None:
        self._model, self.update_buffers = model, update_buffers
        self._parameters: list[torch.Tensor] = []
        self._names: list[list[str]] = []  # of each parameter; shared ones have several
        self._averaged: list[torch.Tensor] = []
        self._buffers: dict[str, torch.Tensor] = {}

    @property
    def is_started(self) -> bool:
        """Whether there is an average; until then the weights are used as they are."""
        return bool(self._averaged)

    @torch.no_grad()
    def start(self) -> None:
        """Begin with the weights as they are."""
        names: dict[int, list[str]] = {}
        found: dict[int, torch.Tensor] = {}
        for name, parameter in self._model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
            found[id(parameter)] = parameter
        self._names, self._parameters = list(names.values()), list(found.values())
        self._averaged = [each.detach().to(_wide(each.dtype), copy=True) for each in self._parameters]
        self._buffers = (
            {name: each.clone() for name, each in self._own_buffers().items()} if self.update_buffers else {}
        )

    @torch.no_grad()
    def update(self, share: float) -> None:
        """Move the average towards the weights as they are; the first call takes them over.

        Args:
            share: How far to move, from 0 (not at all) to 1 (all the way).
        """
        if not self.is_started:
            self.start()
            return
        averaged, sources = self._pairs()
        torch._foreach_lerp_(averaged, sources, share)
        if not self.update_buffers:
            self._buffers = {}  # those kept were of the average before
            return
        for name, now in self._own_buffers().items():
            own = self._buffers[name]
            own.lerp_(now, share) if own.is_floating_point() else own.copy_(now)

    def _pairs(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Averages and weights: this rank's parts, of one type each."""
        averaged = [_part(each) for each in self._averaged]
        sources = [_part(each) for each in self._parameters]
        return averaged, [now if now.dtype == own.dtype else now.to(own.dtype) for own, now in zip(averaged, sources)]

    def _own_buffers(self) -> dict[str, torch.Tensor]:
        """Buffers of the network that are part of its state."""
        kept = self._model.state_dict(keep_vars=True).keys()
        return {name: each for name, each in self._model.named_buffers() if name in kept}

    def keep_buffers(self, modules: Iterable[tuple[str, nn.Module]]) -> None:
        """Take over buffers of the network as they are now: they belong to the average until it changes.

        Args:
            modules: With their names in the network.
        """
        for prefix, module in modules:
            for name, value in module.named_buffers(recurse=False):
                self._buffers[f'{prefix}.{name}'] = value.detach().clone()

    @torch.no_grad()
    def agree(self) -> None:
        """Make averaged statistics of batch normalisation those of all ranks: each has seen its share of images.

        Called at the end of an epoch, by all ranks together.
        """
        if not (self.update_buffers and self.is_started) or get_world_size() == 1:
            return
        for prefix, module in self._model.named_modules():
            if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None:
                for name in ('running_mean', 'running_var'):
                    all_reduce(self._buffers[f'{prefix}.{name}'], op='mean')

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Within it, the network has the averaged weights; at its end, also by an error, its own, bit for bit.

        Buffers are put back, too, so that what changes them meanwhile leaves nothing behind.
        """
        if not self.is_started:
            yield
            return
        buffers = self._own_buffers()
        inside = [_part(each) for each in self._parameters] + list(buffers.values())
        with torch.no_grad():
            kept = [each.detach().clone() for each in inside]
        try:
            with torch.no_grad():
                for target, average in zip(inside, self._averaged):
                    target.copy_(_part(average))
                for name, value in self._buffers.items():
                    buffers[name].copy_(value)
            yield
        finally:
            with torch.no_grad():
                for target, own in zip(inside, kept):
                    target.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        """Averages by the names of the network, whole and on rank 0 complete, without copies where nothing is shared
        out; empty before the first. Called by all ranks together."""
        weights: dict[str, torch.Tensor] = {}
        for names, average in zip(self._names, self._averaged):
            weights |= dict.fromkeys(names, whole(average))
        state: dict[str, Any] = {'weights': weights, 'buffers': dict(self._buffers)}
        if self.update_buffers and get_world_size() > 1:  # inside an epoch each rank has its own
            state['buffers_of_ranks'] = all_gather_object({name: each.cpu() for name, each in self._buffers.items()})
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Take up what `state_dict` gave.

        Returns:
            Parameters that it does not have in this shape: their averages begin with the weights as they are.
        """
        weights, ranks = state['weights'], state.get('buffers_of_ranks', [])
        if not weights:
            self._averaged = []
            return []
        self.start()
        missing = []
        for names, average in zip(self._names, self._averaged):
            stored = next((weights[name] for name in names if name in weights), None)
            if stored is None or stored.shape != average.shape:
                missing.append(names[0])
            else:
                _part(average).copy_(_part(shared_like(stored.to(average.dtype), average)))
        buffers = ranks[get_rank()] if len(ranks) == get_world_size() else state['buffers']
        own = self._own_buffers()
        for name, value in buffers.items():
            if name in own and own[name].shape == value.shape:
                self._buffers[name] = own[name].detach().clone().copy_(value)
        return missing


def _wide(dtype: torch.dtype) -> torch.dtype:
    """At least float32: steps of an average are too small for half types."""
    return torch.promote_types(dtype, torch.float32)


def _part(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of what is shared out over the ranks, else the tensor itself; without a history."""
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, 'to_local') else tensor  # type: ignore[no-any-return]


def averaging_hook(runner: Any) -> Any:
    """The hook of a run that averages weights, whose ``average`` is a `WeightAverage`; None if there is none."""
    return next((each for each in getattr(runner, 'hooks', ()) if hasattr(each, 'evaluate_raw')), None)


def take_training_weights(model: nn.Module, checkpoint: Mapping[str, Any], path: str) -> None:
    """Give a network that was filled from a checkpoint the weights that were in training.

    Args:
        model: Without a distributed wrapper.
        checkpoint: Its content; without weights of this kind, those that were loaded are the ones.
        path: For messages.

    Raises:
        CheckpointError: They are of another network.
    """
    stored = checkpoint.get(TRAINING_WEIGHTS)
    if stored is None:
        return
    try:
        model.load_state_dict(stored)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f'{path}: {TRAINING_WEIGHTS} are of another model ({reason})') from error


def ema_share(updates: int, momentum: float, warm_up: bool) -> float:
    """How far an exponential moving average moves towards the weights in its next step.

    Args:
        updates: Steps of the average so far, at least 1: the first takes over the weights.
        momentum: In the long run, in (0, 1); 1 less the decay.
        warm_up: The decay is at most (1 + updates) / (10 + updates): an average of few steps forgets faster, so that
            the weights of the beginning do not stay in it.
    """
    decay = 1 - momentum
    return 1 - min(decay, (1 + updates) / (10 + updates)) if warm_up else momentum
