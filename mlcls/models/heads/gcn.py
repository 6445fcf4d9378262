"""Classifiers of labels made by a graph network over the labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn
from torch.nn import functional as F

from mlcls.errors import ConfigError
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import feature_map, feature_vector
from mlcls.models.heads.label_files import Names, read_label_graph, read_label_vectors
from mlcls.models.heads.label_graph import Edges, LabelGraph, co_occurrence, normalised, paper_weights
from mlcls.models.heads.multi_label import MultiLabelClsHead
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics

File = str | os.PathLike[str]


@MODELS.register_module()
class GCNHead(MultiLabelClsHead):
    """ML-GCN: the classifier of each label is made from its embedding and those of its neighbours in a label graph.

    Source: Chen et al., "Multi-Label Image Recognition with Graph Convolutional Networks", CVPR 2019, arXiv 1904.03582,
    sections 3.2 to 3.4. ``W = A LeakyReLU(A E W1) W2`` with slope 0.2, E the embeddings (C, embedding_dims), A the
    normalised graph; the logits are ``W x`` with x the feature, by maximum over the map if it is one (the paper's way)
    or from any neck. No biases, as in the paper. W depends on no image; its cost is that of C more "images" in two
    linear layers.

    The graph comes from the training labels (equations 5 and 6): label j is a neighbour of i if at least
    ``threshold`` of the images with i have j; unknown labels count as absent. It is kept with the weights. **Without
    training data, checkpoint or file the graph is the identity**: each label has itself alone. Of more than 1024
    labels each keeps its 63 most probable neighbours.

    Args:
        num_classes: C, at least 1.
        in_channels: Channels of the map, or length of the vectors.
        embedding_dims: Length of learned embeddings; those of a file have their own.
        hidden_dims: Width between the two graph convolutions.
        graph: File of a graph that is used instead of one from the training labels, see :func:`read_label_graph`. Its
            ``counts`` go through equations 5 and 6; its ``matrix`` is A before normalisation, and its diagonal says
            what of itself a label keeps.
        embeddings: File of embeddings, which are then not trained, see :func:`read_label_vectors`; learned if None.
        classes: Class names in the order of the data, by which to find the labels in the files; files for exactly
            these classes in this order do without.
        threshold: In (0, 1].
        reweight: Weight p of the neighbours together, in [0, 1).
        loss: Config of the loss.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.

    Attributes:
        label_names: Class names of the files; None if there is no file that names them.

    Raises:
        ConfigError: A size below 1; ``threshold`` or ``reweight`` out of range; a file that cannot be used, or is for
            other or for another number of classes; features of another length.
    """

    embeddings: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        embedding_dims: int = 300,
        hidden_dims: int = 1024,
        graph: File | None = None,
        embeddings: File | None = None,
        classes: Sequence[str] | None = None,
        threshold: float = 0.4,
        reweight: float = 0.2,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = None,
        score: str = 'calibrated',
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        self.set_size(num_classes, in_channels)
        if embedding_dims < 1 or hidden_dims < 1:
            raise ConfigError(
                f'GCNHead: embedding_dims and hidden_dims must be at least 1, got {embedding_dims} and {hidden_dims}'
            )
        if not 0 < threshold <= 1:
            raise ConfigError(f'GCNHead: threshold must be in (0, 1], got {threshold}')
        if not 0 <= reweight < 1:
            raise ConfigError(f'GCNHead: reweight must be in [0, 1), got {reweight}')
        if classes is not None and len(classes) != num_classes:
            raise ConfigError(f'GCNHead: classes has {len(classes)} names, num_classes is {num_classes}')
        self.threshold = threshold
        self.reweight = reweight
        self.graph_file = graph
        self.label_names: Names | None = None if classes is None else tuple(classes)
        self._named_in: File = 'classes'
        self.graph = LabelGraph(num_classes)
        if graph is not None:
            self._read_graph(graph, classes)
        self._set_embeddings(embeddings, embedding_dims, classes)
        self.hidden = nn.Linear(self.embeddings.shape[1], hidden_dims, bias=False)
        self.out = nn.Linear(hidden_dims, in_channels, bias=False)
        # W then starts at about the size of a linear head's weights, .01: the first scores are undecided.
        nn.init.normal_(self.out.weight, std=0.02 / hidden_dims**0.5)

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Take the graph from the training labels, unless it came from a file.

        Args:
            statistics: Of the training labels.

        Returns:
            Neighbours of each label, float (C,), for the log; empty with a file.

        Raises:
            ConfigError: The labels are of another number of classes.
        """
        if self.graph_file is not None:
            return {}
        if statistics.num_classes != self.num_classes:
            raise ConfigError(
                f'GCNHead: num_classes is {self.num_classes}, the training labels have {statistics.num_classes} classes'
            )
        edges = self._fill_from_counts(co_occurrence(statistics))
        neighbours = torch.bincount(torch.from_numpy(edges.labels), minlength=self.num_classes) - 1
        return {'neighbours in the label graph': neighbours.float()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """As in torch, but what came from a file stays: a file that was given counts more than a checkpoint's."""
        given = [] if self.graph_file is None else [f'graph.{name}' for name in self.graph.state_dict()]
        if not isinstance(self.embeddings, nn.Parameter):
            given.append('embeddings')
        own = self.state_dict()
        for name in given:
            stored = state_dict.get(prefix + name)
            if stored is not None and not torch.equal(stored.to(own[name]), own[name]):
                MMLogger.get_current_instance().warning(
                    f'GCNHead: {name} of the checkpoint differs from the file in the config, which is used'
                )
            if stored is not None:
                state_dict[prefix + name] = own[name]
        super()._load_from_state_dict(state_dict, prefix, *others)

    def classifiers(self) -> torch.Tensor:
        """W: weights of each label for the feature, (C, in_channels) float32."""
        with torch.autocast(self.embeddings.device.type, enabled=False):
            hidden = F.leaky_relu(self.hidden(self.graph(self.embeddings)), 0.2)
            return self.out(self.graph(hidden))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps (N, in_channels, h, w) or vectors (N, in_channels) of the last stage to logits (N, C) float32."""
        name = type(self).__name__
        if features[-1].dim() == 4:
            feature = feature_map(features, self.in_channels, name).amax((2, 3))
        else:
            feature = feature_vector(features, self.in_channels, name)
        with torch.autocast(feature.device.type, enabled=False):
            return F.linear(feature.float(), self.classifiers())

    def activation_maps(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """What each place of the maps says for each class, W x: (N, C, h, w) float32.

        Raises:
            ConfigError: The features are vectors.
        """
        feature = feature_map(features, self.in_channels, type(self).__name__)
        with torch.autocast(feature.device.type, enabled=False):
            return F.conv2d(feature.float(), self.classifiers()[:, :, None, None])

    def _fill_from_counts(self, counts: Edges) -> Edges:
        edges = paper_weights(counts, self.num_classes, self.threshold, self.reweight, self.graph.most)
        self.graph.fill(normalised(edges, self.num_classes))
        return edges

    def _read_graph(self, file: File, classes: Sequence[str] | None) -> None:
        found = read_label_graph(file, classes)
        self._check_labels(file, found.names, len(found.matrix))
        edges = Edges.of_matrix(found.matrix.double().numpy())
        if found.counts:
            self._fill_from_counts(edges)
        else:
            self.graph.fill(normalised(edges, self.num_classes))

    def _set_embeddings(self, file: File | None, dims: int, classes: Sequence[str] | None) -> None:
        if file is None:
            self.embeddings = nn.Parameter(torch.randn(self.num_classes, dims))
            return
        names, vectors = read_label_vectors(file, classes)
        self._check_labels(file, names, len(vectors))
        self.register_buffer('embeddings', vectors)

    def _check_labels(self, file: File, names: Names | None, count: int) -> None:
        if count != self.num_classes:
            raise ConfigError(
                f'GCNHead: {file} has {count} labels, num_classes is {self.num_classes}; with classes=[...] the head '
                'takes those it needs'
            )
        if names is None:
            return
        if self.label_names is None:
            self.label_names, self._named_in = names, file
        for position, (own, other) in enumerate(zip(self.label_names, names)):
            if own != other:
                raise ConfigError(f"GCNHead: label {position} is '{own}' in {self._named_in} but '{other}' in {file}")
