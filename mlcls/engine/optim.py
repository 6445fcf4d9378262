"""The optimiser's step: accumulation, clipping, and the watch over gradients, without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from torch import nn
from torch.autograd import profiler
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from mlcls.engine.guard import StepGuard
from mlcls.errors import ConfigError
from mlcls.registry import OPTIM_WRAPPERS

_CLIPS = ('norm', 'value')
_NO_CONTEXT = nullcontext()


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(MMEngineOptimWrapper):
    """Takes a loss to an optimiser step; arguments of mmengine's wrapper.

    What differs: the norm of the gradient is measured in every step and stays on the device (`grad_norm`); cycles of
    accumulation end with the epoch, and the last one is as short as what is left; a step that is not finite does not
    reach the weights (`guard`); a batch may be worked on in parts (`part`).

    Args:
        optimizer: The optimiser.
        accumulative_counts: Batches for a step, at least 1.
        clip_grad: ``dict(max_norm=5.0, norm_type=2.0)``, or ``dict(type='value', clip_value=1.0)``.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1, clip_grad: dict[str, Any] | None = None
    ) -> None:
        _check_accumulation(accumulative_counts)
        clip = _check_clip(clip_grad)
        super().__init__(optimizer, accumulative_counts, clip)
        #: Norm of the gradient of the last step before clipping, 0-d on the device; a number where that is the CPU and
        #: nothing is clipped. None before the first step.
        self.grad_norm: torch.Tensor | float | None = None
        #: Whether the last step was made, as far as the host knows: the guard may leave one out.
        self.has_stepped = True
        #: Watches losses and gradients; None lets everything pass.
        self.guard: StepGuard | None = None
        self._part = (1.0, True)
        parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
        self._are_alike = (
            len({(parameter.device, parameter.dtype) for parameter in parameters}) == 1
            and all(type(parameter) in (nn.Parameter, torch.Tensor) for parameter in parameters)
            and not any(
                isinstance(parameter.grad, torch.Tensor) and parameter.grad.is_sparse for parameter in parameters
            )
        )

    def start_epoch(self, length: int, done: int = 0) -> None:
        """Begin an epoch.

        Args:
            length: Its batches, at least 1.
            done: Batches that were done before, of a resumed epoch.
        """
        self._inner_count, self._max_counts = done, length
        self._remainder_counts = length % self._accumulative_counts

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Count a row of batches that belong together, as `start_epoch` does."""
        super().initialize_count_status(model, 0, max_counts)
        self._inner_count = init_counts

    @property
    def is_between_steps(self) -> bool:
        """Whether no gradients of an unfinished cycle wait: the state is what weights and optimiser hold."""
        return self.should_update()

    @property
    def in_cycle(self) -> bool:
        """Whether gradients of earlier batches of the cycle wait."""
        return self._inner_count % self._accumulative_counts != 0

    def optim_context(self, model: nn.Module) -> AbstractContextManager[None]:
        """Within it the loss is computed: without averaging over the ranks, unless the backward pass ends a cycle."""
        return _NO_CONTEXT if self.should_sync() else super().optim_context(model)

    @contextmanager
    def part(self, share: float, is_last: bool) -> Iterator[None]:
        """Within it, a loss is that of a part of a batch.

        Args:
            share: Of the images of the batch, in (0, 1].
            is_last: The batch is complete with it.
        """
        self._part = (share, is_last)
        try:
            yield
        finally:
            self._part = (1.0, True)

    def update_params(
        self,
        loss: torch.Tensor,
        step_kwargs: dict[str, Any] | None = None,
        zero_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Gradients of a loss and, if a cycle is complete, a step."""
        is_last = self._part[1]
        self.backward(self.scale_loss(self._watched(loss)))
        if is_last and self.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def _watched(self, loss: torch.Tensor) -> torch.Tensor:
        return loss if self.guard is None else self.guard.mark(loss)

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss over the number of batches in its cycle, times the share of its part."""
        if self._accumulative_counts > 1:
            loss = super().scale_loss(loss)
        return loss if self._part[0] == 1.0 else loss * self._part[0]

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Gradients of the loss."""
        loss.backward(**kwargs)
        self._inner_count += self._part[1]

    def should_sync(self) -> bool:
        """Whether gradients are to be averaged over the ranks: in the last backward pass of a cycle."""
        return self._part[1] and super().should_sync()

    def step(self, **kwargs: Any) -> None:
        """One step, unless the gradient is not finite."""
        self.clip_gradients()
        self.has_stepped = self.guard is None or self.guard.admits(self.grad_norm, self.optimizer)
        if self.has_stepped:
            _step_of(self.optimizer)(**kwargs)

    def zero_grad(self, **kwargs: Any) -> None:
        """Drop the gradients, as the optimiser would, whose entry into a profile takes longer than the work itself."""
        if kwargs or type(self.optimizer).zero_grad is not torch.optim.Optimizer.zero_grad:
            super().zero_grad(**kwargs)
            return
        for group in self.optimizer.param_groups:
            for parameter in group['params']:
                parameter.grad = None

    def clip_gradients(self) -> None:
        """Measure the norm of the gradient, and clip it as the config says."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group['params']]
        gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
        settings = self.clip_grad_kwargs
        self.grad_norm = None
        if not gradients:
            return
        if not settings:
            self.grad_norm = self._norm_to_log(gradients)
        elif self.grad_name == 'grad_norm':
            self.grad_norm = norm = self._norm(gradients, settings.get('norm_type', 2.0))
            clip_grads_with_norm_(parameters, settings['max_norm'], norm)
        else:
            self.grad_norm = self._norm(gradients)
            clip_grad_value_(parameters, settings['clip_value'])

    def _norm_to_log(self, gradients: list[torch.Tensor]) -> torch.Tensor | float:
        if self._are_alike and gradients[0].is_cpu:  # a few operations less, which are a part of a short step
            return math.hypot(*(norm.item() for norm in torch._foreach_norm(gradients)))
        return self._norm(gradients)

    def _norm(self, gradients: list[torch.Tensor], kind: float = 2.0) -> torch.Tensor:
        return _norm_of_alike(gradients, kind) if self._are_alike else _whole(get_total_norm(gradients, kind))


def _step_of(optimizer: Any) -> Callable[..., Any]:
    # torch enters each step into a profile, whether or not somebody takes one, which takes half as long as the step of
    # a small network. Not left out where hooks hang on steps, or something else has taken the place of the method.
    entered = getattr(type(optimizer), 'step', None)
    plain = getattr(entered, '__wrapped__', None) if getattr(entered, 'hooked', False) else None
    if plain is None or 'step' in vars(optimizer) or profiler._is_profiler_enabled or _has_hooks(optimizer):
        return optimizer.step
    return partial(plain, optimizer)


def _has_hooks(optimizer: Any) -> bool:
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
    )


def _norm_of_alike(gradients: list[torch.Tensor], kind: float) -> torch.Tensor:
    # What get_total_norm computes, without its sorting of tensors by device and type, which takes longer than this.
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, kind)), kind)  # type: ignore[arg-type]


def _whole(norm: torch.Tensor) -> torch.Tensor:
    """The norm over all ranks, of parameters that are shared out over them."""
    return norm.full_tensor() if hasattr(norm, 'full_tensor') else norm


def _check_accumulation(counts: Any) -> None:
    if isinstance(counts, bool) or not isinstance(counts, int) or counts < 1:
        raise ConfigError(f'optim_wrapper.accumulative_counts must be a whole number of at least 1, got {counts!r}')


def _check_clip(clip: dict[str, Any] | None) -> dict[str, Any] | None:
    if not clip:
        return None
    kind = clip.get('type', 'norm')
    if kind not in _CLIPS:
        raise ConfigError(f"optim_wrapper.clip_grad: type must be 'norm' or 'value', got {kind!r}")
    needed = 'max_norm' if kind == 'norm' else 'clip_value'
    value = clip.get(needed)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f'optim_wrapper.clip_grad: {needed} must be a number above 0, got {value!r}')
    return dict(clip)
