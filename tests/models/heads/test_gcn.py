"""GCNHead and its label graph against the formulas of ML-GCN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models.fitting import fit_heads
from mlcls.models.heads import label_graph
from mlcls.models.heads.gcn import GCNHead
from mlcls.models.heads.label_graph import LabelGraph, co_occurrence
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, LabelMatrix, LabelStatistics
from tests.models.conftest import warnings_in

LABELS = np.random.default_rng(0).choice([1, 0, -1], (40, 6), p=[0.4, 0.5, 0.1]).astype(np.int8)
LABELS[:, 1] |= LABELS[:, 0] == 1  # 0 comes with 1
LABELS[:, 5] = 0  # and 5 never
STATISTICS = LabelStatistics(LabelMatrix.from_dense(LABELS))


def make(num_classes: int = 6, channels: int = 5, **others: Any) -> GCNHead:
    torch.manual_seed(0)
    return GCNHead(num_classes, channels, **{**dict(embedding_dims=3, hidden_dims=4), **others})


def vectors(images: int = 2, channels: int = 5) -> tuple[torch.Tensor]:
    return (torch.randn(images, channels, generator=torch.Generator().manual_seed(1)),)


def maps(images: int = 2, channels: int = 5) -> tuple[torch.Tensor]:
    return (torch.randn(images, channels, 3, 2, generator=torch.Generator().manual_seed(1)),)


def counted(labels: np.ndarray, draws: np.ndarray | None = None) -> np.ndarray:
    """Co-occurrence (C, C), one image and one pair at a time."""
    counts = np.zeros((labels.shape[1],) * 2)
    for number, row in enumerate(labels):
        for i in np.flatnonzero(row == 1):
            for j in np.flatnonzero(row == 1):
                counts[i, j] += 1 if draws is None else draws[number]
    return counts


def paper_graph(counts: np.ndarray, threshold: float, p: float) -> np.ndarray:
    """Equations 5 and 6, and the normalisation of section 3.1, one entry at a time."""
    size = len(counts)
    edges = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if i != j and counts[i, i] and counts[i, j] / counts[i, i] >= threshold:
                edges[i, j] = 1
    weights = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            weights[i, j] = 1 - p if i == j else edges[i, j] * p / max(edges[i].sum(), 1)
    return normal(weights)


def normal(weights: np.ndarray) -> np.ndarray:
    degree = weights.sum(1)
    return np.array([[w / (degree[i] * degree[j]) ** 0.5 for j, w in enumerate(row)] for i, row in enumerate(weights)])


def dense(graph: LabelGraph) -> np.ndarray:
    return graph(torch.eye(graph.num_classes)).numpy()


def formula(head: GCNHead, feature: np.ndarray) -> np.ndarray:
    """Logits (C,) of one feature vector, float64."""
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    hidden = state['graph.adjacency'] @ state['embeddings'] @ state['hidden.weight'].T
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    weights = state['graph.adjacency'] @ hidden @ state['out.weight'].T
    return np.array([sum(w * x for w, x in zip(row, feature)) for row in weights])


@pytest.mark.parametrize('draws', [None, np.arange(40) % 3 + 0.5])
@pytest.mark.parametrize('pairs', [1 << 20, 7])
@pytest.mark.parametrize('dense', [6, 5])
def test_pairs_are_counted(draws: np.ndarray | None, pairs: int, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_graph, '_PAIRS', pairs)
    monkeypatch.setattr(label_graph, 'DENSE', dense)
    labels, values, counts = co_occurrence(LabelStatistics(STATISTICS.labels, draws))
    found = np.zeros((6, 6))
    found[labels, values] = counts
    np.testing.assert_allclose(found, counted(LABELS, draws))
    assert (np.diff(labels * 6 + values) > 0).all()


@pytest.mark.parametrize('default', [ABSENT, PRESENT, UNKNOWN])
def test_pairs_of_labels_with_any_default(default: int) -> None:
    chosen = [np.flatnonzero(row != default) for row in LABELS]
    indptr = np.cumsum([0, *map(len, chosen)])
    values = np.concatenate([row[row != default] for row in LABELS])
    matrix = LabelMatrix(indptr, np.concatenate(chosen).astype(np.int32), values, 6, default)
    np.testing.assert_array_equal(matrix.dense(), LABELS)
    edges = co_occurrence(LabelStatistics(matrix))
    np.testing.assert_allclose(edges.values, counted(LABELS)[edges.labels, edges.others])


def test_no_images_and_no_labels() -> None:
    for labels in (np.zeros((0, 6), np.int8), np.zeros((3, 6), np.int8)):
        head = make()
        head.fit(LabelStatistics(LabelMatrix.from_dense(labels)))
        np.testing.assert_allclose(dense(head.graph), np.eye(6), rtol=1e-6)


@pytest.mark.parametrize('threshold, reweight', [(0.4, 0.2), (0.3, 0.5), (1.0, 0.2), (0.01, 0.0)])
def test_the_graph_is_that_of_the_paper(threshold: float, reweight: float) -> None:
    head = make(threshold=threshold, reweight=reweight)
    told = fit_heads(head, STATISTICS)
    expected = paper_graph(counted(LABELS), threshold, reweight)
    np.testing.assert_allclose(dense(head.graph), expected, rtol=1e-5, atol=1e-7)
    assert told[0].startswith('GCNHead: neighbours in the label graph from the training labels: ')
    neighbours = [float(n) for n in told[0].split(': ')[-1].split(', ')]
    if reweight:
        assert neighbours == [((row > 0).sum() - 1) for row in expected]


def test_a_share_of_just_the_threshold_makes_an_edge() -> None:
    labels = np.array([[1, 1], [1, 1], [1, 0], [1, 0], [1, 0]], np.int8)  # 2 of 5 images with 0 have 1
    head = make(2)
    head.fit(LabelStatistics(LabelMatrix.from_dense(labels)))
    assert dense(head.graph)[0, 1] > 0


def test_many_labels_have_lists_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_graph, 'DENSE', 5)
    head = make(threshold=0.3)
    assert 'graph.adjacency' not in head.state_dict() and head.graph.neighbours.shape == (6, 64)
    np.testing.assert_array_equal(dense(head.graph), np.eye(6))
    head.fit(STATISTICS)
    np.testing.assert_allclose(dense(head.graph), paper_graph(counted(LABELS), 0.3, 0.2), rtol=1e-5, atol=1e-7)
    head.loss(vectors(), torch.ones(2, 6))['loss'].backward()
    listed = {name: parameter.grad for name, parameter in head.named_parameters()}
    monkeypatch.undo()
    matrix = make(threshold=0.3)
    matrix.fit(STATISTICS)
    matrix.loss(vectors(), torch.ones(2, 6))['loss'].backward()
    for name, parameter in matrix.named_parameters():
        torch.testing.assert_close(listed[name], parameter.grad)


def test_the_most_probable_neighbours_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_graph, 'DENSE', 2)
    monkeypatch.setattr(label_graph, 'NEIGHBOURS', 3)
    labels = np.array([[1, 1, 1, 1]] * 5 + [[1, 0, 1, 1]] * 2 + [[1, 0, 1, 0]], np.int8)  # 0: with 2, 3, 1
    head = make(4)
    head.fit(LabelStatistics(LabelMatrix.from_dense(labels)))
    np.testing.assert_allclose(dense(head.graph)[0], [0.8, 0, 0.1, 0.1], rtol=1e-6)


def test_thousands_of_classes() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.choice(9600, 6, replace=False) for _ in range(300)]
    statistics = LabelStatistics(LabelMatrix.from_lists(rows, 9600))
    head = GCNHead(9600, 4, embedding_dims=2, hidden_dims=3)
    told = head.fit(statistics)
    assert 0 < told['neighbours in the label graph'].max() < 64
    assert sum(buffer.numel() for buffer in head.buffers()) < 2e6
    logits = head((torch.randn(2, 4),))
    assert logits.shape == (2, 9600) and logits.isfinite().all()


@pytest.mark.parametrize('features', [vectors(), maps()])
def test_logits_are_those_of_the_formula(features: tuple[torch.Tensor]) -> None:
    head = make()
    head.fit(STATISTICS)
    logits = head(features)
    assert logits.dtype == torch.float32 and logits.shape == (2, 6)
    for feature, found in zip(features[0].double().numpy(), logits.detach()):
        if feature.ndim == 3:
            feature = feature.max((1, 2))
        np.testing.assert_allclose(found, formula(head, feature), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.eval()(features), logits)


def test_without_a_graph_each_label_has_itself_alone() -> None:
    head = make()
    np.testing.assert_array_equal(dense(head.graph), np.eye(6))
    before = head(vectors())
    with torch.no_grad():
        head.embeddings[2] += 1
    changed = (head(vectors()) != before).any(0)
    assert changed.tolist() == [False, False, True, False, False, False]


def test_a_label_learns_from_its_neighbours() -> None:
    head = make()
    head.fit(STATISTICS)
    before = head(vectors())
    with torch.no_grad():
        head.embeddings[1] += 1
    assert (head(vectors()) != before)[:, 0].all()  # 1 is a neighbour of 0
    assert (head(vectors()) == before)[:, 5].all()


def test_classes_are_alike() -> None:
    order = np.array([3, 0, 5, 1, 2, 4])
    one, other = make(), make()
    one.fit(STATISTICS)
    other.fit(LabelStatistics(LabelMatrix.from_dense(LABELS[:, order])))
    with torch.no_grad():
        other.embeddings[:] = one.embeddings[torch.from_numpy(order)]
    torch.testing.assert_close(other(vectors()), one(vectors())[:, torch.from_numpy(order)])


@pytest.mark.parametrize('features', [vectors(), maps()])
def test_gradient_reaches_every_weight(features: tuple[torch.Tensor]) -> None:
    head = make()
    head.fit(STATISTICS)
    targets = torch.tensor([[1, 0, -1, 0.3, 1, 0], [0, 1, 0.5, -1, 0, 1]])
    head.loss(features, targets)['loss'].backward()
    names = [name for name, parameter in head.named_parameters() if (parameter.grad != 0).any()]
    assert sorted(names) == ['embeddings', 'hidden.weight', 'out.weight']
    assert (head.embeddings.grad != 0).any(1).all()


def test_state_goes_round_with_the_graph() -> None:
    source, target = make(), make()
    source.fit(STATISTICS)
    assert sorted(source.state_dict()) == ['embeddings', 'graph.adjacency', 'hidden.weight', 'out.weight']
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(vectors()), target(vectors()))


def test_autocast_computes_in_float32() -> None:
    head = make()
    head.fit(STATISTICS)
    with torch.autocast('cpu', torch.bfloat16):
        logits = head((maps()[0].bfloat16(),))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head((maps()[0].bfloat16().float(),)))


def test_maps_show_where() -> None:
    head = make()
    found = head.activation_maps(maps())
    assert found.shape == (2, 6, 3, 2)
    for y, x in np.ndindex(3, 2):
        torch.testing.assert_close(found[:, :, y, x], head((maps()[0][:, :, y, x],)))


def test_the_first_logits_are_small() -> None:
    torch.manual_seed(0)
    head = GCNHead(20, 512)
    assert head((torch.rand(8, 512) * 2,)).std() < 1


def test_graph_of_counts_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / 'graph.npz', counts=counted(LABELS), names=np.array(list('abcdef')))
    head = make(graph=tmp_path / 'graph.npz')
    expected = paper_graph(counted(LABELS), 0.4, 0.2)
    np.testing.assert_allclose(dense(head.graph), expected, rtol=1e-5, atol=1e-7)
    assert head.label_names == tuple('abcdef')
    other = LabelStatistics(LabelMatrix.from_dense(LABELS[:, ::-1]))
    assert head.fit(other) == {}
    np.testing.assert_allclose(dense(head.graph), expected, rtol=1e-5, atol=1e-7)


def test_graph_of_weights_from_a_file(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).random((6, 6))
    np.savez(tmp_path / 'graph.npz', matrix=weights, names=np.array(list('abcdef')))
    np.testing.assert_allclose(dense(make(graph=tmp_path / 'graph.npz').graph), normal(weights), rtol=1e-5)
    chosen = make(3, graph=tmp_path / 'graph.npz', classes=['e', 'a', 'c'])
    part = weights[[4, 0, 2]][:, [4, 0, 2]]
    np.testing.assert_allclose(dense(chosen.graph), normal(part), rtol=1e-5)
    assert chosen.label_names == ('e', 'a', 'c')
    np.savez(tmp_path / 'none.npz', matrix=np.zeros((6, 6)))
    assert not dense(make(graph=tmp_path / 'none.npz').graph).any()
    assert make(graph=tmp_path / 'none.npz').label_names is None


def test_embeddings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / 'words.txt'
    path.write_text(''.join(f'{name} {i} 1 0 {i * i}\n' for i, name in enumerate('abcdef')))
    head = make(embeddings=path, embedding_dims=300)
    assert head.embeddings.tolist() == [[i, 1, 0, i * i] for i in range(6)] and head.label_names == tuple('abcdef')
    assert 'embeddings' in head.state_dict() and 'embeddings' not in dict(head.named_parameters())
    assert make(2, embeddings=path, classes=['d', 'b']).embeddings[:, 0].tolist() == [3, 1]


def test_bad_files(tmp_path: Path) -> None:
    np.savez(tmp_path / 'graph.npz', matrix=np.eye(6), names=np.array(list('abcdef')))
    np.savez(tmp_path / 'words.npz', vectors=np.eye(6), names=np.array(list('abdcef')))
    with pytest.raises(ConfigError, match=r"label 2 is 'c' in .*graph\.npz but 'd' in .*words\.npz"):
        make(graph=tmp_path / 'graph.npz', embeddings=tmp_path / 'words.npz')
    with pytest.raises(ConfigError, match=r'graph\.npz has 6 labels, num_classes is 5; with classes='):
        make(5, graph=tmp_path / 'graph.npz')
    with pytest.raises(ConfigError, match=r'words\.npz has 6 labels, num_classes is 5'):
        make(5, embeddings=tmp_path / 'words.npz')


def test_a_graph_with_too_many_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_graph, 'DENSE', 2)
    monkeypatch.setattr(label_graph, 'NEIGHBOURS', 3)
    np.savez(tmp_path / 'graph.npz', matrix=np.tri(4))
    with pytest.raises(ConfigError, match='label 3 has 4 edges; a graph of more than 2 labels may have 3 a label'):
        make(4, graph=tmp_path / 'graph.npz')


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(threshold=0), r'GCNHead: threshold must be in \(0, 1\], got 0'),
        (dict(reweight=1), r'GCNHead: reweight must be in \[0, 1\), got 1'),
        (dict(embedding_dims=0), 'embedding_dims and hidden_dims must be at least 1, got 0 and 4'),
        (dict(num_classes=2, channels=0), 'num_classes and in_channels must be at least 1'),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_names_features_and_labels_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match='GCNHead: classes has 2 names, num_classes is 6'):
        GCNHead(6, 5, classes=['a', 'b'])
    with pytest.raises(ConfigError, match=r'set model\.head\.in_channels=7'):
        make()(vectors(channels=7))
    with pytest.raises(ConfigError, match=r'set model\.head\.in_channels=7'):
        make()(maps(channels=7))
    with pytest.raises(ConfigError, match='GCNHead takes feature maps, got vectors'):
        make().activation_maps(vectors())
    with pytest.raises(ConfigError, match='num_classes is 3, the training labels have 6 classes'):
        make(3).fit(STATISTICS)


@pytest.mark.parametrize('kind', ['graph', 'embeddings'])
def test_a_file_counts_more_than_a_checkpoint(tmp_path: Path, kind: str, records: pytest.LogCaptureFixture) -> None:
    names = np.array(['a', 'b', 'c'])
    for number in (1, 2):
        rng = np.random.default_rng(number)
        content = dict(matrix=rng.random((3, 3))) if kind == 'graph' else dict(vectors=rng.random((3, 5)))
        np.savez(tmp_path / f'{number}.npz', names=names, **content)
    heads = [GCNHead(3, 4, 5, 6, **{kind: str(tmp_path / f'{number}.npz')}) for number in (1, 2)]
    own = {name: value.clone() for name, value in heads[1].state_dict().items()}
    heads[1].load_state_dict(heads[0].state_dict())
    name = 'graph.adjacency' if kind == 'graph' else 'embeddings'
    assert f'GCNHead: {name} of the checkpoint differs from the file in the config' in warnings_in(records)[0]
    assert torch.equal(heads[1].state_dict()[name], own[name])
    assert torch.equal(heads[1].hidden.weight, heads[0].hidden.weight)
    heads[1].load_state_dict(own)
    assert len(warnings_in(records)) == 1
