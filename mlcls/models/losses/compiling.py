"""``torch.compile`` where it works, the plain function where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A compiled function that becomes the plain one, with one warning, if it cannot be compiled.

    Args:
        function: Of tensors.
        name: Of the loss, for the warning.
    """
    state: dict[str, Callable[..., Any]] = {}

    def run(*arguments: Any) -> Any:
        if state.get('run') is function:
            return function(*arguments)
        try:
            if not state:
                state['run'] = torch.compile(function)
            return state['run'](*arguments)
        except Exception as error:  # compilers fail in many ways; the plain function raises whatever is wrong itself
            result = function(*arguments)
            state['run'] = function
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            warnings.warn(f'{name}: compile=True does not work here ({reason}); it runs uncompiled', stacklevel=2)
            return result

    return run
