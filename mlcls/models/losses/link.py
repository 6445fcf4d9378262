"""From a loss to what its logits mean: the posterior at which the gradients of positives and negatives cancel."""

from __future__ import annotations

from collections.abc import Callable

import torch

#: Logits of the table: from -RANGE to RANGE in steps of STEP. Beyond, log odds go on as at the end.
RANGE, STEP = 24.0, 1 / 256
#: Where a gradient vanishes (negatives below the margin of the asymmetric loss), log odds are the logit minus or plus
#: FAR; they rise by at least SLOPE everywhere, so that a link never ties what the sigmoid orders.
FAR, SLOPE = 12.0, 1e-3


def posterior_log_odds(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], logits: torch.Tensor, absent: float = 0.0
) -> torch.Tensor:
    """Log odds of the label at which a pointwise loss has its optimum at the given logits.

    With l1 and l0 the losses of a present and an absent label, the optimum x under posterior pi satisfies
    ``pi l1'(x) + (1 - pi) l0'(x) = 0``, that is ``pi / (1 - pi) = l0'(x) / -l1'(x)``.

    Args:
        loss: (n, 1) logits and targets to (n, 1) losses.
        logits: (n,) float64, rising.
        absent: Target of an absent label.

    Returns:
        (n,) float64, rising by at least ``SLOPE``; the logits -+ ``FAR`` where a gradient vanishes.
    """
    with torch.inference_mode(False), torch.enable_grad():
        points = logits.clone()[:, None].requires_grad_()
        present, away = (
            torch.autograd.grad(loss(points, torch.full_like(points, target)).sum(), points)[0][:, 0]
            for target in (1.0, absent)
        )
    odds = (away / -present).log()
    odds = torch.where(present < 0, odds, logits + FAR)
    odds = torch.where(away > 0, odds, logits - FAR)
    return (odds - SLOPE * logits).cummax(0).values + SLOPE * logits


class LinkCurve:
    """Log odds of the label as a function of the logit: a table, interpolated.

    Args:
        loss: See :func:`posterior_log_odds`.
        absent: Target of an absent label.
    """

    def __init__(self, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], absent: float = 0.0) -> None:
        grid = torch.arange(-RANGE, RANGE + STEP / 2, STEP, dtype=torch.float64)
        table = posterior_log_odds(loss, grid, absent)
        self._ends = (float(table[1] - table[0]) / STEP, float(table[-1] - table[-2]) / STEP)
        self.table = table.float()

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Log odds (any shape) of float32 logits; never falls as the logit rises."""
        self.table = self.table.to(logits.device)
        inside = logits.clamp(-RANGE, RANGE)
        position = (inside + RANGE) / STEP
        cell = position.floor().clamp(max=len(self.table) - 2).long()
        low, high = self.table[cell], self.table[cell + 1]
        odds = torch.minimum(low + (high - low) * (position - cell), high)  # rounding must not break the order
        below, above = self._ends
        return odds + (logits - inside).clamp(max=0) * below + (logits - inside).clamp(min=0) * above
