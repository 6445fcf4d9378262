"""Attention, layer norm and transformer layers from their formulas, in float64 and with loops."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

Weights = Mapping[str, np.ndarray]


def part(weights: Weights, prefix: str) -> dict[str, np.ndarray]:
    """The weights below a name."""
    return {name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(prefix + '.')}


def weights_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """All weights of a module, float64."""
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def linear(x: np.ndarray, weights: Weights) -> np.ndarray:
    """A linear layer on the last axis."""
    y = np.einsum('...i,oi->...o', x, weights['weight'])
    return y + weights['bias'] if 'bias' in weights else y


def layer_norm(x: np.ndarray, weights: Weights) -> np.ndarray:
    """Layer norm of rows (L, D)."""
    out = np.empty_like(x)
    for i, row in enumerate(x):
        mean = sum(row) / len(row)
        variance = sum((v - mean) ** 2 for v in row) / len(row)
        out[i] = [(v - mean) / math.sqrt(variance + 1e-5) for v in row]
    return out * weights['weight'] + weights['bias']


def attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, weights: Weights, heads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Attention of one image: (Q, D), (L, D), (L, D) to (Q, D) and the weights (heads, Q, L)."""
    q, k, v = (linear(x, part(weights, name)) for x, name in ((query, 'query'), (key, 'key'), (value, 'value')))
    size = q.shape[1] // heads
    mixed, shares = np.zeros_like(q), np.zeros((heads, len(q), len(k)))
    for head in range(heads):
        columns = range(head * size, (head + 1) * size)
        for i in range(len(q)):
            scores = [sum(q[i, c] * k[j, c] for c in columns) / math.sqrt(size) for j in range(len(k))]
            total = sum(math.exp(score) for score in scores)
            for j, score in enumerate(scores):
                shares[head, i, j] = math.exp(score) / total
                for c in columns:
                    mixed[i, c] += shares[head, i, j] * v[j, c]
    return linear(mixed, part(weights, 'out')), shares


def feedforward(x: np.ndarray, weights: Weights) -> np.ndarray:
    """Linear, ReLU, linear."""
    return linear(np.maximum(linear(x, part(weights, '0')), 0), part(weights, '3'))


def encoder_layer(x: np.ndarray, positions: np.ndarray, weights: Weights, heads: int) -> np.ndarray:
    """Encoder layer on the tokens (L, D) of one image."""
    placed = x + positions
    x = x + attention(placed, placed, x, part(weights, 'self_attention'), heads)[0]
    x = layer_norm(x, part(weights, 'self_norm'))
    return layer_norm(x + feedforward(x, part(weights, 'feedforward')), part(weights, 'feedforward_norm'))


def decoder_layer(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, weights: Weights, heads: int, self_attention: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Decoder layer on one image: queries (Q, D) out, and the weights (heads, Q, L) of the cross attention."""
    if self_attention:
        seen = attention(query, query, query, part(weights, 'self_attention'), heads)[0]
        query = layer_norm(query + seen, part(weights, 'self_norm'))
    taken, shares = attention(query, key, value, part(weights, 'cross_attention'), heads)
    x = layer_norm(query + taken, part(weights, 'cross_norm'))
    return layer_norm(x + feedforward(x, part(weights, 'feedforward')), part(weights, 'feedforward_norm')), shares


def positions(height: int, width: int, dims: int) -> np.ndarray:
    """Sine positions (height * width, dims), channel by channel."""
    out = np.zeros((height * width, dims))
    half = dims // 2
    for y in range(height):
        for x in range(width):
            for channel in range(dims):
                place = (y + 1) / height if channel < half else (x + 1) / width
                i = channel % half
                angle = 2 * math.pi * place / 10000 ** ((i // 2 * 2) / half)
                out[y * width + x, channel] = math.cos(angle) if i % 2 else math.sin(angle)
    return out


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Fill every parameter with numbers that leave none of them without effect: biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
