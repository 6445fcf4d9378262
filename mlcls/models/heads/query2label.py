"""Query2Label: a learned query for each label, decoded against the encoded map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import feature_map
from mlcls.models.heads.label_queries import LabelQueryHead
from mlcls.models.layers.transformer import TransformerDecoderLayer, TransformerEncoderLayer, sine_positions
from mlcls.registry import MODELS


@MODELS.register_module()
class Query2LabelHead(LabelQueryHead):
    """Transformer decoder with one learned query a class (Query2Label, arXiv 2107.10834, section 3).

    The map is projected to ``embed_dims`` channels and encoded with sine positions. In each decoder layer the queries
    of the labels look at the encoded map, positions added to its keys. The logit of class c is the dot product of its
    decoded query with weights of its own, plus a bias, in float32 also under autocast.

    The sizes are those of the paper, about 156 million parameters with 80 classes on 2,048 channels; on small data
    choose smaller ones, for example ``embed_dims=256, feedforward_channels=1024``.

    Args:
        num_classes: C, at least 1.
        in_channels: Channels of the map.
        embed_dims: Channels of the layers, a multiple of 4 and of ``num_heads``.
        num_heads: Attention heads.
        feedforward_channels: Hidden channels of the feed-forward networks.
        num_encoder_layers: Encoder layers, 0 or more.
        num_decoder_layers: Decoder layers, at least 1.
        dropout: In all layers, in [0, 1).
        label_self_attention: Let the queries look at each other in each decoder layer before they look at the map.
        loss: Config of the loss.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.
        prior_bias: See :class:`MultiLabelLinearClsHead`.

    Raises:
        ConfigError: A size outside its range; features that are pooled or of other channels.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        embed_dims: int = 2048,
        num_heads: int = 4,
        feedforward_channels: int = 8192,
        num_encoder_layers: int = 1,
        num_decoder_layers: int = 2,
        dropout: float = 0.1,
        label_self_attention: bool = False,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = None,
        score: str = 'calibrated',
        prior_bias: bool = False,
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        self.set_size(num_classes, in_channels)
        self.check_sizes(feedforward_channels, dropout, num_decoder_layers=num_decoder_layers)
        if num_encoder_layers < 0:
            raise ConfigError(f'{type(self).__name__}: num_encoder_layers must be at least 0, got {num_encoder_layers}')
        sine_positions(1, 1, embed_dims)  # complains about embed_dims now, not at the first image
        self.embed_dims = embed_dims
        self.prior_bias = prior_bias
        sizes = (embed_dims, num_heads, feedforward_channels, dropout)
        self.projection = nn.Linear(in_channels, embed_dims)
        self.encoder = nn.ModuleList(TransformerEncoderLayer(*sizes) for _ in range(num_encoder_layers))
        self.decoder = nn.ModuleList(
            TransformerDecoderLayer(*sizes, self_attention=label_self_attention) for _ in range(num_decoder_layers)
        )
        self.queries = nn.Parameter(torch.randn(num_classes, embed_dims))
        self.weight = nn.Parameter(torch.empty(num_classes, embed_dims).uniform_(-1, 1) / embed_dims**0.5)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def last_bias(self) -> torch.Tensor:
        """(C,)."""
        return self.bias

    def decode(
        self, features: Sequence[torch.Tensor], return_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Decoded queries (N, C, D), and the last cross attention (N, heads, C, H * W) or None."""
        feature = feature_map(features, self.in_channels, type(self).__name__)
        height, width = feature.shape[2:]
        positions = sine_positions(height, width, self.embed_dims, device=feature.device)
        memory = self.projection(feature.flatten(2).transpose(1, 2))
        for layer in self.encoder:
            memory = layer(memory, positions)
        key, query, weights = memory + positions, self.queries[None], None
        for number, layer in enumerate(self.decoder, 1):
            query, weights = layer(query, key, memory, return_weights and number == len(self.decoder))
        return query, weights

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps (N, in_channels, H, W) of the last stage, of any size, to logits (N, C) float32."""
        decoded, _ = self.decode(features)
        with torch.autocast(decoded.device.type, enabled=False):
            return (decoded.float() * self.weight).sum(2) + self.bias
