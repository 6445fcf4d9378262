"""Keeping a step whose loss or gradient is not finite from the weights."""

from __future__ import annotations

import math
from typing import Any

import torch


class StepGuard:
    """Leaves out optimiser steps with a NaN or infinite loss or gradient, and remembers that there was one.

    On a CPU the host looks at each step. On a GPU that would make it wait: there the flag stays on the device, and a
    fused optimiser reads it itself (``found_inf``, made for loss scaling). Once a step was bad, further ones are left
    out, too, until the host looks: the weights are still those before the bad step then. Optimisers that are not fused
    cannot read a flag on the device; for them the host waits in each step.

    Args:
        allowed: How many steps of the run may be left out before it ends, at least 0.
        several: There are other ranks, which have to come to the same decision.
    """

    def __init__(self, allowed: int = 0, several: bool = False) -> None:
        self.allowed, self.several = allowed, several
        #: Number of the step under way, set by who owns the guard.
        self.iteration = 0
        #: Steps left out, and the first of them since the last look, as far as the host knows.
        self.skipped, self.first_bad = 0, -1
        #: Of these, how many the host was told of.
        self.told = 0
        #: Whether the last step was left out, where only the device knows: bool, 0-d; None where the host knows.
        self.flag: torch.Tensor | None = None
        self._bad_loss = False
        self._count: torch.Tensor | None = None
        self._first: torch.Tensor | None = None

    def mark(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss, in such a form that a loss that is not finite leads to gradients that are not, on all ranks."""
        if loss.is_cpu:
            if not math.isfinite(loss.item()):
                self._bad_loss = True
                self.first_bad = self.iteration if self.first_bad < 0 else self.first_bad
            if not self.several:
                return loss
        return loss * (loss.detach() * 0 + 1)

    def admits(self, norm: torch.Tensor | float | None, optimizer: Any) -> bool:
        """Whether the optimiser may step, as far as the host decides that; a fused one on a GPU decides itself.

        Args:
            norm: Norm of all gradients, 0-d or a number; None if there are none.
            optimizer: The optimiser that is about to step.
        """
        if isinstance(norm, torch.Tensor) and norm.is_cuda and _reads_flags(optimizer):
            self._leave_to_device(norm, optimizer)
            return True
        bad = norm is not None and not math.isfinite(norm)
        if not self.several:  # where there are others, the gradient says it to all of them
            bad = bad or self._bad_loss
        self._bad_loss = False
        if bad:
            self._note_on_host()
        return not bad

    def note(self, loss: torch.Tensor) -> None:
        """Only remember whether a loss is finite: where loss scaling leaves out steps by itself."""
        if loss.is_cuda:
            self._count_on_device(~torch.isfinite(loss.detach()).reshape(()))
        elif not math.isfinite(loss.item()):
            self._note_on_host()

    def _note_on_host(self) -> None:
        self.skipped += 1
        if self.first_bad < 0:
            self.first_bad = self.iteration

    def _leave_to_device(self, norm: torch.Tensor, optimizer: Any) -> None:
        bad = ~torch.isfinite(norm)
        self.flag = bad
        self._count_on_device(bad)
        optimizer.grad_scale = None
        optimizer.found_inf = bad.to(torch.float32)
        if self.allowed == 0 and self._count is not None:
            optimizer.found_inf = torch.maximum(optimizer.found_inf, (self._count > 0).to(torch.float32))

    def _count_on_device(self, bad: torch.Tensor) -> None:
        if self._count is None:
            self._count = torch.zeros((), device=bad.device)
            self._first = torch.full((), -1, dtype=torch.int64, device=bad.device)
        assert self._first is not None
        self._count += bad
        self._first = torch.where((self._first < 0) & bad, self.iteration, self._first)

    def look(self) -> int:
        """Steps left out since the last look; the host waits for the device. `first_bad` is then the first of them."""
        if self._count is not None and self._first is not None:
            count = int(self._count.item())
            if count:
                self.skipped += count
                self.first_bad = int(self._first.item()) if self.first_bad < 0 else self.first_bad
                self._count.zero_()
                self._first.fill_(-1)
        found, self.told = self.skipped - self.told, self.skipped
        return found

    def clear(self) -> None:
        """Forget which step was the first bad one, after it was reported."""
        self.first_bad = -1


def _reads_flags(optimizer: Any) -> bool:
    return all(group.get('fused') for group in optimizer.param_groups)
