"""Stochastic depth (Huang et al., "Deep Networks with Stochastic Depth", arXiv 1603.09382)."""

from __future__ import annotations

import torch
from torch import nn

from mlcls.errors import ConfigError


class DropPath(nn.Module):
    """Leave a residual branch out, drawn anew for each image; kept ones are scaled up, so that the mean stays.

    Args:
        rate: Probability of leaving it out, in [0, 1). Nothing is dropped in evaluation mode.

    Raises:
        ConfigError: ``rate`` outside [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        check_rate(rate, 'DropPath: rate')
        self.rate = float(rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, ...) to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x / keep * kept  # 1 / keep would be rounded in bfloat16 if it were multiplied into the mask

    def extra_repr(self) -> str:
        """The rate, in the printed network."""
        return f'rate={self.rate:g}'


def check_rate(rate: float, what: str) -> None:
    """Refuse a probability of dropping outside [0, 1).

    Args:
        rate: The probability.
        what: Its name in the message.

    Raises:
        ConfigError: It is outside.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f'{what} must be in [0, 1), got {rate:g}')


def linear_rates(rate: float, count: int) -> list[float]:
    """Rates that grow in a line with depth: block l of L has ``rate * l / L`` (section 3 of the paper).

    Args:
        rate: Rate of the last block.
        count: Number of blocks.
    """
    return [rate * (number + 1) / count for number in range(count)]
