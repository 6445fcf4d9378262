"""Mixed precision on GPUs and CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn

from mlcls.engine.optim import OptimWrapper
from mlcls.errors import ConfigError, did_you_mean
from mlcls.registry import OPTIM_WRAPPERS

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


def cpu_has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 (AVX-512 and later, recent ARM); elsewhere it is emulated, far slower."""
    operations = torch.ops.mkldnn
    return hasattr(operations, '_is_mkldnn_bf16_supported') and bool(operations._is_mkldnn_bf16_supported())


def autocast_dtype(name: str | None, device_type: str) -> torch.dtype | None:
    """The type to compute in; None is float32, without autocast.

    Args:
        name: ``'float16'``, ``'bfloat16'``, or None for what the device is best at: float16 on a GPU, bfloat16 on a
            CPU that has it, else float32.
        device_type: ``'cpu'`` or ``'cuda'``.

    Raises:
        ConfigError: Another name, or float16 on a CPU.
    """
    logger = MMLogger.get_current_instance()
    if name is None and device_type != 'cpu':
        return torch.float16
    if name is None:
        if cpu_has_bfloat16():
            return torch.bfloat16
        logger.info('mixed precision: this CPU has no bfloat16 arithmetic; computing in float32')
        return None
    if name not in DTYPES:
        raise ConfigError(f"mixed precision: unknown dtype '{name}'{did_you_mean(str(name), DTYPES)}")
    if name == 'float16' and device_type == 'cpu':
        raise ConfigError("mixed precision: float16 needs a GPU; on a CPU use dtype='bfloat16' (or leave dtype out)")
    if device_type == 'cpu' and not cpu_has_bfloat16():
        logger.warning(
            'mixed precision: this CPU has no bfloat16 arithmetic and emulates it, several times slower than float32; '
            'leave dtype out'
        )
    return DTYPES[name]


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Trains under autocast: float16 with loss scaling or bfloat16 on a GPU, bfloat16 on a CPU that has it.

    mmengine's wrapper of this name refuses a CPU.

    Args:
        loss_scale: ``'dynamic'``, a fixed scale, or arguments of ``torch.amp.GradScaler``; used by float16 only.
        dtype: ``'float16'`` or ``'bfloat16'``; None takes what the device is best at.
        **kwargs: Arguments of mmengine's ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.

    Raises:
        ConfigError: A type that the device cannot compute in, or a loss scale of another kind.
    """

    def __init__(
        self, loss_scale: str | float | dict[str, Any] = 'dynamic', dtype: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.device_type = self.optimizer.param_groups[0]['params'][0].device.type
        self.dtype = autocast_dtype(dtype, self.device_type)
        settings: dict[str, Any] = {}
        self._fixed_scale: float | None = None
        if isinstance(loss_scale, dict):
            settings = loss_scale
        elif isinstance(loss_scale, (int, float)):
            settings = dict(init_scale=float(loss_scale))
            self._fixed_scale = float(loss_scale)
        elif loss_scale != 'dynamic':
            raise ConfigError(f"AmpOptimWrapper: loss_scale must be 'dynamic', a number or a dict, got '{loss_scale}'")
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16, **settings)

    def _watched(self, loss: torch.Tensor) -> torch.Tensor:
        if self.guard is None or not self.scaler.is_enabled():
            return super()._watched(loss)
        self.guard.note(loss)  # gradients of float16 overflow at times, and the scaler leaves out such steps
        return loss

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Gradients of the (scaled) loss."""
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """One optimiser step; left out by the scaler if a float16 gradient overflowed."""
        if not self.scaler.is_enabled():
            super().step(**kwargs)
            return
        self.scaler.unscale_(self.optimizer)
        self.clip_gradients()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update(self._fixed_scale)

    def state_dict(self) -> dict[str, Any]:
        """State of optimiser and scaler."""
        return {**super().state_dict(), 'loss_scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; a state without a scaler (another precision) is accepted."""
        state = dict(state_dict)
        scaler = state.pop('loss_scaler', {})
        if scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass."""
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
            yield
