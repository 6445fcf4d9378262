"""Decoders that say labels one after another: a GRU and a small transformer.

Both have the same use. ``state = start(feature)``, then for each step ``vector, state = step(token, state)``: the token
said last (int64 (M,); C is the start) to a vector (M, D) from which the next one is told. A state is a tuple of
tensors whose first dimension is that of the M sequences, so that beams can be chosen by ``index_select``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

State = tuple[torch.Tensor, ...]


class GRULabelDecoder(nn.Module):
    """A GRU over label embeddings, whose output is joined with the image's projection as in CNN-RNN.

    Wang et al., "CNN-RNN: A Unified Framework for Multi-label Image Classification", CVPR 2016, arXiv 1604.04573,
    section 3.1: ``relu(U_o o(t) + U_I I)``. The state starts from the image too.

    Args:
        num_classes: C.
        in_channels: F, length of the feature vectors.
        embed_dims: D.
    """

    def __init__(self, num_classes: int, in_channels: int, embed_dims: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes + 1, embed_dims)
        self.first = nn.Linear(in_channels, embed_dims)
        self.image = nn.Linear(in_channels, embed_dims)
        self.cell = nn.GRUCell(embed_dims, embed_dims)
        self.output = nn.Linear(embed_dims, embed_dims, bias=False)

    def start(self, feature: torch.Tensor) -> State:
        """Feature vectors (M, F) to the state."""
        return self.first(feature).tanh(), self.image(feature)

    def step(self, token: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """See the module."""
        hidden, image = state
        hidden = self.cell(self.embedding(token), hidden)
        return (self.output(hidden) + image).relu(), (hidden, image)


class _Block(nn.Module):
    """A pre-norm transformer block, of whose tokens only the newest is computed."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(embed_dims)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.ffn = nn.Sequential(
            nn.LayerNorm(embed_dims),
            nn.Linear(embed_dims, 2 * embed_dims),
            nn.GELU(),
            nn.Linear(2 * embed_dims, embed_dims),
        )

    def forward(self, x: torch.Tensor, past: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The newest token (M, D), keys and values of those before (M, t, 2D) to its output and all keys and values."""
        query, newest = self.qkv(self.norm(x)).split([x.shape[1], 2 * x.shape[1]], 1)
        newest = newest[:, None]
        past = newest if past is None else torch.cat([past, newest], 1)
        key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in past.chunk(2, 2)
        )  # (M, heads, t, D / heads)
        query = query.unflatten(1, (self.num_heads, 1, -1))
        attended = F.scaled_dot_product_attention(query, key, value).flatten(1)
        x = x + self.proj(attended)
        return x + self.ffn(x), past


class TransformerLabelDecoder(nn.Module):
    """Causal self-attention over the image's projection and the labels said so far, with learned positions.

    Args:
        num_classes: C.
        in_channels: F, length of the feature vectors.
        embed_dims: D, a multiple of ``num_heads``.
        num_heads: Heads of the attention.
        num_layers: Blocks.
    """

    def __init__(
        self, num_classes: int, in_channels: int, embed_dims: int, num_heads: int = 4, num_layers: int = 2
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes + 1, embed_dims)
        # A sequence is never longer than all labels and the start, whatever the training labels are.
        self.position = nn.Parameter(torch.randn(num_classes + 1, embed_dims) * 0.02)
        self.image = nn.Linear(in_channels, embed_dims)
        self.blocks = nn.ModuleList(_Block(embed_dims, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dims)

    def start(self, feature: torch.Tensor) -> State:
        """Feature vectors (M, F) to the state: the image is the token before all labels."""
        x, state = self.image(feature), []
        for block in self.blocks:
            x, past = block(x, None)
            state.append(past)
        return tuple(state)

    def step(self, token: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """See the module."""
        x = self.embedding(token) + self.position[state[0].shape[1] - 1]
        after = []
        for block, past in zip(self.blocks, state):
            x, past = block(x, past)
            after.append(past)
        return self.norm(x), tuple(after)
