"""The graph of labels of graph networks: from the labels of the training images, or from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mlcls.errors import ConfigError
from mlcls.structures import PRESENT, LabelMatrix, LabelStatistics

#: Up to so many labels the graph is kept as a matrix, (C, C).
DENSE = 1024
#: Above, as a list of so many neighbours a label, itself included. A label whose images have m other labels on average
#: has at most m / threshold neighbours.
NEIGHBOURS = 64
#: Pairs of labels that are counted at a time.
_PAIRS = 1 << 20


class Edges(NamedTuple):
    """Edges of a graph of labels, each pair at most once, ordered by label.

    Args:
        labels: int64 (E,).
        others: int64 (E,).
        values: float64 (E,).
    """

    labels: np.ndarray
    others: np.ndarray
    values: np.ndarray

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> Edges:
        """The entries of a matrix (C, C) that are not 0."""
        labels, others = np.nonzero(matrix)
        return cls(labels, others, matrix[labels, others].astype(np.float64))

    def where(self, chosen: np.ndarray) -> Edges:
        """Those for which ``chosen`` (E,) is true."""
        return Edges(*(part[chosen] for part in self))


def co_occurrence(statistics: LabelStatistics) -> Edges:
    """How often each two labels are present together, on the diagonal how often each is present at all.

    Unknown labels count as absent. Memory is proportional to the labels of the images and the pairs that occur.

    Args:
        statistics: Of the training labels; images count as often as an epoch draws them.
    """
    size = statistics.num_classes
    if size <= DENSE:
        total = np.zeros(size * size)
        for pairs, weights in _pairs(statistics):
            total += np.bincount(pairs, weights, size * size)
        return Edges.of_matrix(total.reshape(size, size))
    parts = [(np.zeros(0, np.int64), np.zeros(0))]
    for pairs, weights in _pairs(statistics):
        parts.append(_summed([(pairs, weights)]))
        # Not at every block: each time sorts all pairs found so far.
        if sum(len(keys) for keys, _ in parts[1:]) > len(parts[0][0]):
            parts = [_summed(parts)]
    keys, counts = _summed(parts)
    return Edges(keys // size, keys % size, counts)


def _summed(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, ascending, with the sum of its weights."""
    keys, places = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    return keys, np.bincount(places, np.concatenate([weights for _, weights in parts]), len(keys))


def _pairs(statistics: LabelStatistics) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of a block of images at a time: ``label * C + other`` of all pairs of labels present in an image, and draws."""
    labels, draws = statistics.labels, statistics.draws
    if labels.default == PRESENT:
        labels = LabelMatrix.from_dense(labels.dense())
    draws = np.ones(len(labels)) if draws is None else np.asarray(draws, np.float64)
    present = labels.values == PRESENT
    ids = labels.indices[present]
    kept = np.concatenate([[0], np.cumsum(present)])[labels.indptr]
    lengths = np.diff(kept)
    block = np.cumsum(lengths**2) // _PAIRS
    bounds = np.searchsorted(block, np.arange(block[-1] + 2)) if len(block) else np.zeros(1, np.int64)
    for first, last in pairwise(bounds):
        size = lengths[first:last]
        own = np.repeat(np.arange(kept[first], kept[last]), np.repeat(size, size))
        starts = np.repeat(kept[first:last], size**2)
        # The place of a pair among those of its label: 0, 1, ... size - 1.
        each = np.repeat(size, size)
        place = np.arange(len(own)) - np.repeat(np.cumsum(each) - each, each)
        pairs = ids[own].astype(np.int64) * statistics.num_classes + ids[starts + place]
        yield pairs, np.repeat(draws[first:last], size**2)


def paper_weights(counts: Edges, num_classes: int, threshold: float, reweight: float, most: int) -> Edges:
    """The graph of ML-GCN: equations 5 and 6 of arXiv 1904.03582.

    ``P_ij = counts_ij / counts_ii``, the share of the images with i that also have j, makes an edge where it is at
    least ``threshold``; the edges of a label share the weight ``reweight``, and it keeps ``1 - reweight`` itself.

    Args:
        counts: See :func:`co_occurrence`.
        num_classes: C.
        threshold: In (0, 1].
        reweight: In [0, 1).
        most: Edges of a label that are kept, the most probable ones, itself included.
    """
    diagonal = counts.labels == counts.others
    images = np.zeros(num_classes)
    images[counts.labels[diagonal]] = counts.values[diagonal]
    share = counts._replace(values=counts.values / np.maximum(images[counts.labels], np.finfo(float).tiny))
    share = share.where(~diagonal & (share.values >= threshold - 1e-12))
    order = np.lexsort((-share.values, share.labels))
    share = Edges(*(part[order] for part in share))
    degree = np.bincount(share.labels, minlength=num_classes)
    rank = np.arange(len(order)) - (np.cumsum(degree) - degree)[share.labels]
    share = share.where(rank < most - 1)
    degree = np.minimum(degree, most - 1)
    own = np.arange(num_classes)
    return Edges(
        np.concatenate([own, share.labels]),
        np.concatenate([own, share.others]),
        np.concatenate([np.full(num_classes, 1 - reweight), reweight / degree[share.labels]]),
    )


def normalised(edges: Edges, num_classes: int) -> Edges:
    """``D^-1/2 A D^-1/2`` with D the sums of the rows of A; a row of zeros counts as 1."""
    degree = np.bincount(edges.labels, edges.values, num_classes)
    root = np.sqrt(np.where(degree > 0, degree, 1))
    return edges._replace(values=edges.values / root[edges.labels] / root[edges.others])


class LabelGraph(nn.Module):
    """Takes to each label what its neighbours hold: ``A X``. A is the identity until :meth:`fill`.

    Buffers, of the same shape for all graphs of C labels: a matrix up to ``DENSE`` labels, else lists of neighbours.

    Args:
        num_classes: C.
    """

    adjacency: torch.Tensor
    neighbours: torch.Tensor
    weights: torch.Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dense = num_classes <= DENSE
        if self.dense:
            self.register_buffer('adjacency', torch.eye(num_classes))
        else:
            self.register_buffer('neighbours', torch.zeros(num_classes, NEIGHBOURS, dtype=torch.int64))
            self.register_buffer('weights', torch.zeros(num_classes, NEIGHBOURS))
            own = np.arange(num_classes)
            self.fill(Edges(own, own, np.ones(num_classes)))

    @property
    def most(self) -> int:
        """Edges of a label that there is room for, itself included."""
        return self.num_classes if self.dense else NEIGHBOURS

    def fill(self, edges: Edges) -> None:
        """Take the edges as A.

        Raises:
            ConfigError: A label has more of them than there is room for.
        """
        counts = np.bincount(edges.labels, minlength=self.num_classes)
        if counts.max() > self.most:
            raise ConfigError(
                f'label {counts.argmax()} has {counts.max()} edges; a graph of more than {DENSE} labels may have '
                f'{self.most} a label'
            )
        values = torch.from_numpy(edges.values).float()
        labels, others = (torch.from_numpy(part) for part in (edges.labels, edges.others))
        if self.dense:
            self.adjacency.copy_(torch.zeros(self.adjacency.shape).index_put((labels, others), values))
            return
        order = np.argsort(edges.labels, kind='stable')
        place = torch.from_numpy(np.arange(len(order)) - (np.cumsum(counts) - counts)[edges.labels[order]])
        cells = (labels[order], place)
        neighbours, weights = torch.zeros(self.neighbours.shape, dtype=torch.int64), torch.zeros(self.weights.shape)
        self.neighbours.copy_(neighbours.index_put(cells, others[order]))
        self.weights.copy_(weights.index_put(cells, values[order]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A X, (C, F), of X (C, F) float32."""
        if self.dense:
            return self.adjacency.to(x.dtype) @ x
        return F.embedding_bag(self.neighbours, x, mode='sum', per_sample_weights=self.weights.to(x.dtype))
