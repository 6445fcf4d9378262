"""torch.compile by config, with a way back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mlcls.errors import ConfigError, did_you_mean

TARGETS = ('model', 'step')
_OPTIONS = frozenset({'fullgraph', 'dynamic', 'backend', 'mode', 'options'})


class WithFallback:
    """Calls the compiled form of a function, or the function itself from the first error of compiling on.

    An error of the function itself is raised as ever: it comes again without compiling.

    Args:
        plain: The function.
        compiled: Its compiled form.
        logger: Where the one warning goes.
        what: What it is, for the warning.
    """

    def __init__(
        self, plain: Callable[..., Any], compiled: Callable[..., Any], logger: logging.Logger, what: str
    ) -> None:
        self._plain, self._logger, self._what = plain, logger, what
        self._compiled: Callable[..., Any] | None = compiled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        if self._compiled is None:
            return self._plain(*args, **kwargs)
        try:
            return self._compiled(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._compiled = None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self._logger.warning(
                f'torch.compile of {self._what} failed ({type(error).__name__}: {reason[0][:200]}); going on '
                'without it, at the speed of the plain network'
            )
            return self._plain(*args, **kwargs)


def read_settings(config: Any) -> tuple[str, dict[str, Any]] | None:
    """Target and arguments of ``torch.compile`` from the setting ``compile``; None if it is off.

    Args:
        config: False or None; True; or a dict of ``target`` (``'model'``: network and loss, ``'step'``: the optimiser's
            step, too) and arguments of ``torch.compile``, such as ``mode='reduce-overhead'`` for CUDA graphs.

    Raises:
        ConfigError: Something else.
    """
    if config is None or config is False:
        return None
    if config is True:
        return 'model', {}
    if not isinstance(config, Mapping):
        raise ConfigError(f'compile must be True, False or a dict, got {config!r}')
    options = dict(config)
    target = options.pop('target', 'model')
    if target not in TARGETS:
        raise ConfigError(f"compile.target must be 'model' or 'step', got {target!r}")
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ConfigError(f"compile: unknown argument '{unknown[0]}'{did_you_mean(unknown[0], _OPTIONS | {'target'})}")
    return target, options


def compile_training(model: nn.Module, optim_wrapper: Any, config: Any, logger: logging.Logger) -> None:
    """Compile what a training step computes, in place; validation runs the plain network, as a test does.

    Args:
        model: The network, without a distributed wrapper.
        optim_wrapper: Of the run.
        config: See `read_settings`.
        logger: Of the run.

    Raises:
        ConfigError: See `read_settings`.
    """
    settings = read_settings(config)
    if settings is None:
        return
    target, options = settings
    plain = type(model).forward.__get__(model)
    try:
        compiled = WithFallback(plain, torch.compile(plain, **options), logger, 'the network')
    except Exception as error:  # a backend or mode that torch does not have
        raise ConfigError(f'compile: {str(error).strip().splitlines()[0]}') from error

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (compiled if kwargs.get('mode') == 'loss' else plain)(*args, **kwargs)

    model.forward = forward  # type: ignore[method-assign]
    if target == 'step':
        step = optim_wrapper.optimizer.step
        optim_wrapper.optimizer.step = WithFallback(
            step, torch.compile(step, **options), logger, "the optimiser's step"
        )
    logger.info(f'torch.compile: {target}; the first steps take longer, up to minutes for a large network')
