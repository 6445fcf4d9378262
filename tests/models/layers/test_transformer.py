"""Transformer layers against their formulas and against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.layers.transformer import (
    MultiheadAttention,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    sine_positions,
)
from tests.models.layers import attention_reference as reference


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(module: nn.Module) -> nn.Module:
    reference.randomise(module)
    return module.eval()


@pytest.mark.parametrize('heads', [1, 2, 4])
def test_attention_is_the_formula(heads: int) -> None:
    layer = filled(MultiheadAttention(8, heads))
    query, key, value = drawn(2, 3, 8), drawn(2, 5, 8, seed=1), drawn(2, 5, 8, seed=2)
    got, weights = layer(query, key, value, return_weights=True)
    for n in range(2):
        expected, shares = reference.attention(
            *(x[n].double().numpy() for x in (query, key, value)), reference.weights_of(layer), heads
        )
        np.testing.assert_allclose(got[n].detach(), expected, atol=1e-5)
        np.testing.assert_allclose(weights[n].detach(), shares, atol=1e-6)


def test_attention_is_that_of_torch() -> None:
    layer, other = filled(MultiheadAttention(8, 2)), nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]))
        # Any bias of the keys gives the same: that is why there is none.
        other.in_proj_bias.copy_(torch.cat([layer.query.bias, drawn(8, seed=9), layer.value.bias]))
        other.out_proj.load_state_dict(layer.out.state_dict())
    query, key, value = drawn(2, 3, 8), drawn(2, 5, 8, seed=1), drawn(2, 5, 8, seed=2)
    expected, shares = other(query, key, value, average_attn_weights=False)
    got, weights = layer(query, key, value, return_weights=True)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(weights, shares)


def test_weights_only_on_request_and_without_dropout() -> None:
    layer = MultiheadAttention(8, 2, dropout=0.9)
    x = drawn(2, 5, 8)
    assert layer(x, x, x)[1] is None
    weights = layer.train()(x, x, x, return_weights=True)[1]
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 2, 5))
    torch.testing.assert_close(weights, layer.eval()(x, x, x, return_weights=True)[1])


def test_shared_queries_are_the_same_as_repeated_ones() -> None:
    layer = filled(TransformerDecoderLayer(8, 2, 16))
    query, memory = drawn(1, 3, 8), drawn(4, 5, 8, seed=1)
    torch.testing.assert_close(layer(query, memory, memory)[0], layer(query.repeat(4, 1, 1), memory, memory)[0])


def test_encoder_layer_is_the_formula() -> None:
    layer = filled(TransformerEncoderLayer(8, 2, 12))
    x, positions = drawn(2, 6, 8), drawn(6, 8, seed=1)
    got = layer(x, positions)
    for n in range(2):
        expected = reference.encoder_layer(
            x[n].double().numpy(), positions.double().numpy(), reference.weights_of(layer), 2
        )
        np.testing.assert_allclose(got[n].detach(), expected, atol=1e-5)


@pytest.mark.parametrize('self_attention', [True, False])
def test_decoder_layer_is_the_formula(self_attention: bool) -> None:
    layer = filled(TransformerDecoderLayer(8, 2, 12, self_attention=self_attention))
    query, key, value = drawn(2, 3, 8), drawn(2, 6, 8, seed=1), drawn(2, 6, 8, seed=2)
    got, weights = layer(query, key, value, return_weights=True)
    for n in range(2):
        expected, shares = reference.decoder_layer(
            *(x[n].double().numpy() for x in (query, key, value)), reference.weights_of(layer), 2, self_attention
        )
        np.testing.assert_allclose(got[n].detach(), expected, atol=1e-5)
        np.testing.assert_allclose(weights[n].detach(), shares, atol=1e-6)
    names = [name for name, _ in layer.named_parameters()]
    assert any('self' in name for name in names) == self_attention


def test_layers_are_those_of_torch() -> None:
    """torch's layers with the same weights, where they do the same: no positions, self-attention."""
    layer = filled(TransformerEncoderLayer(8, 2, 12))
    other = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval()
    state = layer.state_dict()
    attention = {name: state[f'self_attention.{name}.weight'] for name in ('query', 'key', 'value')}
    other.load_state_dict(
        {
            'self_attn.in_proj_weight': torch.cat(list(attention.values())),
            'self_attn.in_proj_bias': torch.cat(
                [state['self_attention.query.bias'], torch.zeros(8), state['self_attention.value.bias']]
            ),
            'self_attn.out_proj.weight': state['self_attention.out.weight'],
            'self_attn.out_proj.bias': state['self_attention.out.bias'],
            **{f'linear1.{kind}': state[f'feedforward.0.{kind}'] for kind in ('weight', 'bias')},
            **{f'linear2.{kind}': state[f'feedforward.3.{kind}'] for kind in ('weight', 'bias')},
            **{f'norm1.{kind}': state[f'self_norm.{kind}'] for kind in ('weight', 'bias')},
            **{f'norm2.{kind}': state[f'feedforward_norm.{kind}'] for kind in ('weight', 'bias')},
        }
    )
    x = drawn(2, 5, 8)
    torch.testing.assert_close(layer(x, torch.zeros(5, 8)), other(x))


def test_dropout_acts_in_training_alone() -> None:
    layer = TransformerDecoderLayer(8, 2, 12, dropout=0.5, self_attention=False)
    query, memory = drawn(1, 3, 8), drawn(2, 5, 8, seed=1)
    first, second = (layer.train()(query, memory, memory)[0] for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (layer.eval()(query, memory, memory)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize('size', [(1, 1), (3, 2), (7, 7), (1, 9)])
def test_positions_are_the_formula(size: tuple[int, int]) -> None:
    got = sine_positions(*size, 12)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, reference.positions(*size, 12), atol=1e-5)


def test_positions_tell_all_places_apart_and_are_bounded() -> None:
    got = sine_positions(14, 20, 64)
    assert got.shape == (280, 64)
    assert got.abs().max() <= 1
    distances = torch.cdist(got, got) + 10 * torch.eye(280)
    assert distances.min() > 1e-2


@pytest.mark.parametrize(('dims', 'near'), [(10, 8), (7, 8), (2, 4), (0, 4)])
def test_positions_need_a_multiple_of_four(dims: int, near: int) -> None:
    with pytest.raises(ConfigError, match=f'multiple of 4, got {dims}; {near} is near'):
        sine_positions(2, 2, dims)


@pytest.mark.parametrize(('dims', 'heads', 'near'), [(70, 8, 72), (3, 8, 8), (8, 0, 8)])
def test_heads_must_divide_the_channels(dims: int, heads: int, near: int) -> None:
    message = f'embed_dims={dims} is not divisible by num_heads={heads}; embed_dims={near} would be'
    with pytest.raises(ConfigError, match=message):
        MultiheadAttention(dims, heads)
