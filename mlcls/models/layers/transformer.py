"""Small transformer layers over feature maps: attention, encoder and decoder layer, sine positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from mlcls.errors import ConfigError


def sine_positions(
    height: int, width: int, embed_dims: int, temperature: float = 10000.0, device: torch.device | None = None
) -> torch.Tensor:
    """Sine encodings of the positions of a map (DETR, arXiv 2005.12872, appendix).

    The first half of the channels encodes the row, the second the column. Rows and columns count from 1 and are divided
    by their number and multiplied by 2 pi, so that maps of any size fill the same range. Of each half, channels 2i and
    2i + 1 are sine and cosine of the position divided by ``temperature ** (2i / (embed_dims / 2))``.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        embed_dims: Channels, a multiple of 4.
        temperature: Ratio of the longest to the shortest wave.
        device: Where to make it.

    Returns:
        (height * width, embed_dims) float32, row after row.

    Raises:
        ConfigError: ``embed_dims`` is no multiple of 4.
    """
    if embed_dims < 4 or embed_dims % 4:
        near = max(4, round(embed_dims / 4) * 4)
        raise ConfigError(f'sine positions need embed_dims that are a multiple of 4, got {embed_dims}; {near} is near')
    channels = torch.arange(0, embed_dims // 2, 2, device=device, dtype=torch.float32)
    scales = torch.exp(channels * (-math.log(temperature) / (embed_dims // 2)))
    axes = []
    for size in (height, width):
        places = torch.arange(1, size + 1, device=device, dtype=torch.float32)
        # Divided by a tensor: exported with maps of any size, `size` is no number.
        angles = (places / places[-1] * (2 * math.pi))[:, None] * scales
        axes.append(torch.stack([angles.sin(), angles.cos()], 2).flatten(1))
    rows = axes[0][:, None].expand(-1, width, -1)
    columns = axes[1][None].expand(height, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention with several heads (arXiv 1706.03762, section 3.2).

    The projection of the keys has no bias: it would add the same number to all scores of a query, which the softmax
    takes out again.

    Args:
        embed_dims: Channels D of queries, keys, values and output.
        num_heads: Heads; D is a multiple of it.
        dropout: Share of the attention weights that each training step leaves out, in [0, 1).

    Raises:
        ConfigError: ``embed_dims`` is no multiple of ``num_heads``.
    """

    def __init__(self, embed_dims: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or embed_dims < 1 or embed_dims % num_heads:
            near = max(1, round(embed_dims / max(num_heads, 1))) * max(num_heads, 1)
            raise ConfigError(
                f'embed_dims={embed_dims} is not divisible by num_heads={num_heads}; embed_dims={near} would be'
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key = nn.Linear(embed_dims, embed_dims, bias=False)
        self.value = nn.Linear(embed_dims, embed_dims)
        self.out = nn.Linear(embed_dims, embed_dims)
        _xavier(self)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, return_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Let queries look at keys and fetch values.

        Args:
            query: (N, Q, D), or (1, Q, D) for queries that all images share; they are projected once.
            key: (N, L, D).
            value: (N, L, D).
            return_weights: Compute the weights too.

        Returns:
            (N, Q, D), and the weights (N, heads, Q, L) in float32 without dropout, or None.
        """
        k, v = self._heads(self.key(key)), self._heads(self.value(value))
        q = self._heads(self.query(query)).expand(key.shape[0], -1, -1, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        weights = None
        if return_weights:
            weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).float().softmax(3)
        return self.out(mixed.transpose(1, 2).flatten(2)), weights


class _FeedForward(nn.Sequential):
    """Two linear layers with ReLU and dropout in between."""

    def __init__(self, embed_dims: int, channels: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(embed_dims, channels), nn.ReLU(), nn.Dropout(dropout), nn.Linear(channels, embed_dims)
        )
        _xavier(self)


class TransformerEncoderLayer(nn.Module):
    """Self-attention and feed-forward network, each with residual, then layer norm.

    Args:
        embed_dims: Channels D.
        num_heads: Heads; D is a multiple of it.
        feedforward_channels: Hidden channels of the feed-forward network.
        dropout: Of attention weights, hidden channels and both residual branches, in [0, 1).
    """

    def __init__(self, embed_dims: int, num_heads: int, feedforward_channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attention = MultiheadAttention(embed_dims, num_heads, dropout)
        self.self_norm = nn.LayerNorm(embed_dims)
        self.feedforward = _FeedForward(embed_dims, feedforward_channels, dropout)
        self.feedforward_norm = nn.LayerNorm(embed_dims)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Tokens (N, L, D) to tokens (N, L, D); ``positions`` (L, D) are added to queries and keys, not to values."""
        placed = x + positions
        x = self.self_norm(x + self.dropout(self.self_attention(placed, placed, x)[0]))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class TransformerDecoderLayer(nn.Module):
    """Cross attention and feed-forward network, each with residual, then layer norm; self-attention on request.

    Args:
        embed_dims: Channels D.
        num_heads: Heads; D is a multiple of it.
        feedforward_channels: Hidden channels of the feed-forward network.
        dropout: Of attention weights, hidden channels and the residual branches, in [0, 1).
        self_attention: Let the queries look at each other first. Its weights, and what dropout takes from them, are
            the same for all images while the queries are.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float = 0.1,
        self_attention: bool = True,
    ) -> None:
        super().__init__()
        self.self_attention = MultiheadAttention(embed_dims, num_heads, dropout) if self_attention else None
        self.self_norm = nn.LayerNorm(embed_dims) if self_attention else None
        self.cross_attention = MultiheadAttention(embed_dims, num_heads, dropout)
        self.cross_norm = nn.LayerNorm(embed_dims)
        self.feedforward = _FeedForward(embed_dims, feedforward_channels, dropout)
        self.feedforward_norm = nn.LayerNorm(embed_dims)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, return_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Queries take from the tokens of the image.

        Args:
            query: (N, Q, D), or (1, Q, D) for queries that all images share.
            key: (N, L, D), positions added if there are any.
            value: (N, L, D).
            return_weights: Compute the weights of the cross attention too.

        Returns:
            (N, Q, D), and the weights (N, heads, Q, L) in float32, or None.
        """
        if self.self_attention is not None and self.self_norm is not None:
            query = self.self_norm(query + self.dropout(self.self_attention(query, query, query)[0]))
        taken, weights = self.cross_attention(query, key, value, return_weights)
        x = self.cross_norm(query + self.dropout(taken))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x))), weights


def _xavier(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
