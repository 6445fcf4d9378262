"""ML-Decoder: a few fixed queries for groups of labels, or a query for each label made from its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import feature_map
from mlcls.models.heads.label_files import read_label_vectors
from mlcls.models.heads.label_queries import LabelQueryHead
from mlcls.models.layers.transformer import TransformerDecoderLayer
from mlcls.registry import MODELS


@MODELS.register_module()
class MLDecoderHead(LabelQueryHead):
    """Cross attention of fixed queries, each of which answers for a group of classes (ML-Decoder, arXiv 2111.12933).

    The map goes through a linear layer and ReLU. K = min(num_groups, C) random queries, which are not trained, look at
    it in one decoder layer without self-attention; before that they pass the residual and norm that self-attention
    would have had. A linear layer a group makes of each decoded query the logits of ceil(C / K) neighbouring classes,
    in float32 also under autocast. Since all images share the queries, their side is computed once a batch, and the
    cost hardly grows with C.

    With ``label_embeddings`` there is one query a class instead, projected from its embedding, and one last layer for
    all classes (the paper's form for zero-shot learning). No weight then belongs to a class: a model that was built
    with the file of other classes takes the same weights, and :meth:`set_labels` exchanges the classes of a built one.
    The embeddings are not among the weights; the file is needed wherever the model is built. The cost grows with C.

    Args:
        num_classes: C, at least 1.
        in_channels: Channels of the map.
        num_groups: Most queries; without effect with ``label_embeddings``.
        embed_dims: Channels D of the layers, a multiple of ``num_heads``.
        num_heads: Attention heads.
        feedforward_channels: Hidden channels of the feed-forward network.
        dropout: In the decoder layer, in [0, 1).
        label_embeddings: File of a vector of any length for each class, see :func:`read_label_vectors`.
        loss: Config of the loss.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.
        prior_bias: See :class:`MultiLabelLinearClsHead`; with ``label_embeddings``, whose classes share one bias, the
            mean over the classes.
        classes: Class names in the order of the data, by which to find the embeddings in a file that has others too,
            such as word vectors; a file of exactly these classes in this order does without.

    Attributes:
        label_names: ``classes``, or the names in the file of embeddings; None if neither is there.

    Raises:
        ConfigError: A size outside its range, a file of another number of classes; features that are pooled or of other
            channels.
    """

    @property
    def serves_other_classes(self) -> bool:
        """Whether no weight belongs to a class, so that a checkpoint serves the classes of another file."""
        return self.by_embeddings

    queries: torch.Tensor
    label_vectors: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_groups: int = 100,
        embed_dims: int = 768,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        dropout: float = 0.1,
        label_embeddings: str | None = None,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = None,
        score: str = 'calibrated',
        prior_bias: bool = False,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        self.set_size(num_classes, in_channels)
        self.check_sizes(feedforward_channels, dropout, num_groups=num_groups)
        self.prior_bias = prior_bias
        if classes is not None and len(classes) != num_classes:
            raise ConfigError(f'{type(self).__name__}: classes has {len(classes)} names, num_classes is {num_classes}')
        self.label_names: tuple[str, ...] | None = None if classes is None else tuple(classes)
        self.embed = nn.Linear(in_channels, embed_dims)
        self.query_norm = nn.LayerNorm(embed_dims)
        self.query_dropout = nn.Dropout(dropout)
        self.layer = TransformerDecoderLayer(embed_dims, num_heads, feedforward_channels, dropout, self_attention=False)
        self.by_embeddings = label_embeddings is not None
        if label_embeddings is not None:
            names, vectors = read_label_vectors(label_embeddings, classes)
            self._make_shared(vectors, embed_dims, label_embeddings)
            self.set_labels(vectors, names)
        else:
            self._make_groups(min(num_groups, num_classes), embed_dims)

    def _make_groups(self, num_queries: int, embed_dims: int) -> None:
        self.group_size = -(-self.num_classes // num_queries)
        self.register_buffer('queries', torch.randn(num_queries, embed_dims))
        std = (2 / (embed_dims + self.group_size)) ** 0.5  # of Xavier, for each group's layer
        self.group_weight = nn.Parameter(torch.randn(num_queries, embed_dims, self.group_size) * std)
        self.bias = nn.Parameter(torch.zeros(self.num_classes))

    def _make_shared(self, vectors: torch.Tensor, embed_dims: int, source: str) -> None:
        if len(vectors) != self.num_classes:
            raise ConfigError(
                f'{type(self).__name__}: {source} has vectors of {len(vectors)} classes, num_classes is '
                f'{self.num_classes}; set model.head.num_classes={len(vectors)}, or label_embeddings to the file of '
                'these classes'
            )
        self.group_size = 1
        # Not saved: the same weights serve other classes, whose vectors a checkpoint must not overwrite.
        self.register_buffer('label_vectors', vectors.float(), persistent=False)
        self.label_projection = nn.Linear(vectors.shape[1], embed_dims)
        self.fc = nn.Linear(embed_dims, 1)

    def set_labels(self, vectors: torch.Tensor, names: Sequence[str] | None = None) -> None:
        """Exchange the classes of a head with ``label_embeddings``; logits come in the order of the vectors.

        Args:
            vectors: (C', V), of the length V that the head was built with; C' need not be C.
            names: C' names of the classes.

        Raises:
            ConfigError: The head has no ``label_embeddings``, or the shapes do not fit.
        """
        name = type(self).__name__
        if not self.by_embeddings:
            raise ConfigError(f"{name}: set_labels needs a head with label embeddings; set label_embeddings='FILE'")
        width = self.label_projection.in_features
        if vectors.dim() != 2 or vectors.shape[1] != width:
            raise ConfigError(f'{name}: label vectors must be of shape (classes, {width}), got {tuple(vectors.shape)}')
        if names is not None and len(names) != len(vectors):
            raise ConfigError(f'{name}: {len(names)} names for {len(vectors)} label vectors')
        self.set_size(len(vectors), self.in_channels)
        self.label_vectors = vectors.detach().to(self.label_projection.weight)
        self.label_names = None if names is None else tuple(names)

    def last_bias(self) -> torch.Tensor:
        """(C,), or (1,) with label embeddings."""
        return self.fc.bias if self.by_embeddings else self.bias

    def to_classes(self, maps: torch.Tensor) -> torch.Tensor:
        """Something of every group (N, K, ...) to something of every class (N, C, ...)."""
        return maps.repeat_interleave(self.group_size, 1)[:, : self.num_classes]

    @property
    def _used(self) -> int:
        """Groups that have a class: fewer than K where the last ones are cut off, as of 100 queries for 101 classes."""
        return -(-self.num_classes // self.group_size)

    def decode(
        self, features: Sequence[torch.Tensor], return_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Decoded queries (N, groups with a class, D), and their attention (N, heads, groups, H * W) or None."""
        feature = feature_map(features, self.in_channels, type(self).__name__)
        memory = self.embed(feature.flatten(2).transpose(1, 2)).relu()
        queries = self.label_projection(self.label_vectors) if self.by_embeddings else self.queries[: self._used]
        # One batch of queries for all images, also in its dropout: projecting them costs nearly nothing.
        queries = self.query_norm(queries + self.query_dropout(queries))
        return self.layer(queries[None], memory, memory, return_weights)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps (N, in_channels, H, W) of the last stage, of any size, to logits (N, C) float32."""
        decoded, _ = self.decode(features)
        with torch.autocast(decoded.device.type, enabled=False):
            if self.by_embeddings:
                return self.fc(decoded.float()).squeeze(2)
            weight = self.group_weight[: self._used]
            logits = torch.bmm(decoded.float().transpose(0, 1), weight).transpose(0, 1).flatten(1)
            return logits[:, : self.num_classes] + self.bias
