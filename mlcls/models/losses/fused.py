"""Losses whose gradient is written by hand, computed together with the value, a block of memory at a time.

Autograd keeps a dozen tensors of the size of the logits for such a loss and walks over each of them twice; here the
temporaries of a block stay in the processor's cache and only the gradient is kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from mlcls.models.losses.base import PointwiseLoss, known_labels
from mlcls.models.losses.compiling import compiled

#: (n,) logits and labels in [0, 1] to (n,) losses and their derivatives by the logits.
Kernel = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
#: Elements of a block, 384 KiB of float32: larger ones gain little and make the temporaries larger.
BLOCK = 98304


def value_and_gradient(
    kernel: Kernel, logits: torch.Tensor, targets: torch.Tensor, total: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a kernel over all elements; unknown labels give 0.

    Args:
        kernel: Value and derivative, elementwise.
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        total: Give this factor times the sum of the losses instead of each.

    Returns:
        (N, C) losses and their derivatives; with ``total`` a scalar and its derivatives (N, C).
    """
    # A GPU has no use for blocks: its kernels are limited by their launches.
    size = BLOCK if logits.device.type == 'cpu' else max(logits.numel(), 1)
    logits, targets = logits.contiguous(), targets.contiguous()
    gradient = torch.empty_like(logits)
    loss = torch.empty_like(logits) if total is None else logits.new_zeros(())
    for start in range(0, logits.numel(), size):
        x, y, gradient_out = (tensor.view(-1)[start : start + size] for tensor in (logits, targets, gradient))
        value, slope = masked(kernel, x, y, _may_be_unknown(y))
        if total is None:
            gradient_out.copy_(slope)
            loss.view(-1)[start : start + size] = value
        else:
            torch.mul(slope, total, out=gradient_out)
            loss += value.sum()
    return loss if total is None else loss * total, gradient


def masked(
    kernel: Kernel, logits: torch.Tensor, targets: torch.Tensor, mask: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and derivatives of a kernel, 0 where the label is unknown; ``mask=False`` says that none is."""
    if not mask:
        return kernel(logits, targets.to(logits.dtype))
    labels, known = known_labels(targets, logits.dtype)
    value, slope = kernel(logits, labels)
    return value * known, slope * known


def _may_be_unknown(targets: torch.Tensor) -> bool:
    return targets.device.type != 'cpu' or bool(targets.amin() < 0)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, run: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        loss, gradient = run()
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        if grad_output.dim() == 0 and grad_output.device.type == 'cpu' and grad_output == 1:
            return gradient, None  # the usual end of a backward pass: nothing to scale
        if grad_output.numel() and not any(grad_output.stride()):  # one number, expanded: after a sum or mean
            grad_output = grad_output[(0,) * grad_output.dim()]
        return gradient * grad_output, None


def fused_loss(kernel: Kernel, logits: torch.Tensor, targets: torch.Tensor, total: float | None = None) -> torch.Tensor:
    """Loss of every image and class from a kernel; its gradient is the kernel's, and has no gradient itself.

    Args:
        kernel: Value and derivative, elementwise.
        logits: (N, C), float32 or float64.
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        total: Give this factor times the sum of the losses instead of each.

    Returns:
        (N, C), 0 where the label is unknown; or a scalar.
    """
    return _Fused.apply(logits, lambda: value_and_gradient(kernel, logits.detach(), targets, total))


class FusedLoss(PointwiseLoss):
    """A pointwise loss that is given by a kernel: value and derivative together.

    With ``compile=True`` the kernel becomes one loop over the elements.
    """

    @abstractmethod
    def kernel(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and derivative by the logit, elementwise, for labels in [0, 1]."""

    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of every image and class; see :func:`fused_loss`."""
        return fused_loss(self.kernel, logits, targets)

    def total(
        self, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor | None, factor: float
    ) -> torch.Tensor:
        """``factor`` times the sum of the losses, of which no tensor is made."""
        if self._compiled is not None or not isinstance(factor, (int, float)):
            return super().total(logits, targets, index, factor)
        return fused_loss(self.kernel, logits, targets, total=factor)

    def compile_steps(self) -> Callable[..., torch.Tensor]:
        """The compiled kernel over the whole batch at once."""
        run = compiled(masked, self.name)
        return lambda loss, logits, targets: _Fused.apply(logits, lambda: run(loss.kernel, logits.detach(), targets))
