"""ML-Decoder against its formula, its form with label embeddings, and what a head must do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models.heads.ml_decoder import MLDecoderHead
from mlcls.registry import MODELS
from mlcls.structures import LabelMatrix, LabelStatistics
from tests.models.layers import attention_reference as reference

#: (classes, groups): fewer classes than groups, as many, a multiple, a remainder, a remainder that leaves groups empty.
SIZES = [(1, 100), (3, 4), (4, 4), (8, 4), (7, 4), (5, 4), (9, 7)]


def make(num_classes: int = 7, **others: Any) -> MLDecoderHead:
    torch.manual_seed(0)
    sizes = dict(num_groups=4, embed_dims=8, num_heads=2, feedforward_channels=12)
    return MLDecoderHead(num_classes, 6, **{**sizes, **others})


def maps(images: int = 2, height: int = 3, width: int = 2) -> tuple[torch.Tensor]:
    return (torch.randn((images, 6, height, width), generator=torch.Generator().manual_seed(1)),)


def vectors_of(num_classes: int, width: int = 5) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((num_classes, width)).astype(np.float32)


def write(path: Path, vectors: np.ndarray, names: list[str] | None = None) -> str:
    content = {'vectors': vectors.tolist(), **({'names': names} if names else {})}
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def seven(tmp_path: Path) -> str:
    """File of seven classes."""
    return write(tmp_path / 'seven.json', vectors_of(7), list('abcdefg'))


def formula(head: MLDecoderHead, image: torch.Tensor, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decoded queries (K, D) and attention (heads, K, H * W) of one map (channels, H, W), float64."""
    weights = reference.weights_of(head)
    tokens = image.double().numpy().reshape(len(image), -1).T
    memory = np.maximum(reference.linear(tokens, reference.part(weights, 'embed')), 0)
    queries = reference.layer_norm(queries + queries, reference.part(weights, 'query_norm'))
    return reference.decoder_layer(queries, memory, memory, reference.part(weights, 'layer'), 2, False)


@pytest.mark.parametrize(('num_classes', 'num_groups'), SIZES)
def test_it_is_the_formula(num_classes: int, num_groups: int) -> None:
    head = make(num_classes, num_groups=num_groups).eval()
    reference.randomise(head)
    features = maps()
    logits, seen = head(features), head.activation_maps(features)
    weights = reference.weights_of(head)
    num_queries = min(num_groups, num_classes)
    size = int(np.ceil(num_classes / num_queries))
    assert weights['queries'].shape == (num_queries, 8)
    assert weights['group_weight'].shape == (num_queries, 8, size)
    for n, image in enumerate(features[0]):
        decoded, shares = formula(head, image, weights['queries'])
        for c in range(num_classes):
            group, place = divmod(c, size)
            expected = decoded[group] @ weights['group_weight'][group, :, place] + weights['bias'][c]
            np.testing.assert_allclose(logits[n, c].detach(), expected, atol=2e-5)
            np.testing.assert_allclose(seen[n, c].detach().flatten(), shares[:, group].mean(0), atol=1e-6)
    assert logits.shape == (2, num_classes)
    assert seen.shape == (2, num_classes, 3, 2)


def test_with_embeddings_it_is_the_formula(seven: str) -> None:
    head = make(label_embeddings=seven).eval()
    reference.randomise(head)
    features = maps()
    logits, seen = head(features), head.activation_maps(features)
    weights = reference.weights_of(head)
    queries = reference.linear(vectors_of(7).astype(np.float64), reference.part(weights, 'label_projection'))
    for n, image in enumerate(features[0]):
        decoded, shares = formula(head, image, queries)
        expected = [row @ weights['fc.weight'][0] + weights['fc.bias'][0] for row in decoded]
        np.testing.assert_allclose(logits[n].detach(), expected, atol=2e-5)
        np.testing.assert_allclose(seen[n].detach().flatten(1), shares.mean(0), atol=1e-6)


def test_defaults_are_those_of_the_paper() -> None:
    with torch.device('meta'):
        head = MLDecoderHead(9600, 2048)
    assert head.queries.shape == (100, 768)
    assert head.group_weight.shape == (100, 768, 96)
    attention = 4 * 768**2 + 3 * 768  # no bias of the keys
    feedforward = 2 * 768 * 2048 + 2048 + 768
    expected = 2049 * 768 + attention + feedforward + 3 * 2 * 768 + 9600 * 769
    assert sum(p.numel() for p in head.parameters()) == expected
    assert head.layer.self_attention is None
    assert head.layer.cross_attention.num_heads == 8
    assert MLDecoderHead(101, 4, embed_dims=8).group_weight.shape == (100, 8, 2)
    assert MLDecoderHead(20, 4, embed_dims=8).group_weight.shape == (20, 8, 1)


@pytest.mark.parametrize(('num_classes', 'num_groups'), SIZES)
@pytest.mark.parametrize(('images', 'height', 'width'), [(1, 1, 1), (2, 4, 3)])
@pytest.mark.parametrize('train', [True, False])
def test_any_number_of_classes_and_any_map(
    num_classes: int, num_groups: int, images: int, height: int, width: int, train: bool
) -> None:
    head = make(num_classes, num_groups=num_groups).train(train)
    logits = head(maps(images, height, width))
    assert logits.shape == (images, num_classes)
    assert logits.isfinite().all()
    seen = head.activation_maps(maps(images, height, width))
    torch.testing.assert_close(seen.sum((2, 3)), torch.ones(images, num_classes))
    assert seen.min() >= 0


@pytest.mark.parametrize('num_classes', [7, 5, 1])
def test_gradient_reaches_every_parameter_but_not_the_queries(num_classes: int) -> None:
    head = make(num_classes, dropout=0.0)
    features = (maps()[0].requires_grad_(),)
    targets = torch.randint(0, 2, (2, num_classes), generator=torch.Generator().manual_seed(2))
    head.loss(features, targets)['loss'].backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert 'queries' in dict(head.named_buffers()) and 'queries' in head.state_dict()
    assert not head.queries.requires_grad and head.queries.grad is None
    assert features[0].grad is not None and features[0].grad.abs().max() > 0


def test_gradient_reaches_every_parameter_with_embeddings(seven: str) -> None:
    head = make(label_embeddings=seven)
    head.loss(maps(), torch.ones(2, 7))['loss'].backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_classes_of_another_group_do_not_share_weights() -> None:
    head, features = make().eval(), maps()
    before = head(features)
    with torch.no_grad():
        head.group_weight[1] += torch.randn(8, 2, generator=torch.Generator().manual_seed(4))
    assert (head(features) != before).any(0).tolist() == [False, False, True, True, False, False, False]


def test_places_do_not_matter() -> None:
    head = make().eval()
    (feature,) = maps()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    moved = feature.flatten(2)[:, :, order].unflatten(2, (3, 2))
    torch.testing.assert_close(head((moved,)), head((feature,)))
    seen = head.activation_maps((feature,)).flatten(2)[:, :, order]
    torch.testing.assert_close(head.activation_maps((moved,)).flatten(2), seen)


def test_an_image_does_not_depend_on_its_batch() -> None:
    head = make().eval()
    (feature,) = maps(3)
    torch.testing.assert_close(head((feature[1:2],)), head((feature,))[1:2])


def test_state_dict_round_trip_and_modes() -> None:
    head, features = make().eval(), maps()
    reference.randomise(head)
    torch.manual_seed(5)
    other = MLDecoderHead(7, 6, 4, 8, 2, 12)
    assert not torch.equal(other.queries, head.queries)  # they are random, so a checkpoint must have them
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.eval()(features), head(features))
    assert not torch.equal(other.train()(features), other(features))  # dropout


def test_autocast_keeps_logits_in_float32(seven: str) -> None:
    for head in (make(), make(label_embeddings=seven)):
        with torch.autocast('cpu', torch.bfloat16):
            logits = head((maps()[0].bfloat16(),))
            loss = head.loss(maps(), torch.ones(2, 7))['loss']
            seen = head.activation_maps(maps())
        assert logits.dtype == seen.dtype == torch.float32
        assert (logits != logits.bfloat16()).any()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
        torch.testing.assert_close(seen.sum((2, 3)), torch.ones(2, 7))


def test_memory_format_does_not_matter() -> None:
    head = make().eval()
    (feature,) = maps()
    torch.testing.assert_close(head((feature.contiguous(memory_format=torch.channels_last),)), head((feature,)))


def test_permuted_labels_permute_the_logits(seven: str, tmp_path: Path) -> None:
    order = [3, 0, 6, 2, 5, 1, 4]
    head, features = make(label_embeddings=seven).eval(), maps()
    logits = head(features)
    other = write(tmp_path / 'permuted.json', vectors_of(7)[order], [list('abcdefg')[i] for i in order])
    torch.manual_seed(3)
    permuted = make(label_embeddings=other).eval()
    permuted.load_state_dict(head.state_dict())
    assert permuted.label_names == ('d', 'a', 'g', 'c', 'f', 'b', 'e')
    torch.testing.assert_close(permuted(features), logits[:, order])
    head.set_labels(torch.from_numpy(vectors_of(7)[order]))
    torch.testing.assert_close(head(features), logits[:, order])
    assert head.label_names is None


def test_an_unseen_class_leaves_the_others_as_they_are(seven: str, tmp_path: Path) -> None:
    head, features = make(label_embeddings=seven).eval(), maps()
    reference.randomise(head)
    logits = head(features)
    more = np.concatenate([vectors_of(7), np.ones((1, 5), np.float32)])
    other = write(tmp_path / 'eight.json', more, list('abcdefgh'))
    built = make(8, label_embeddings=other).eval()
    built.load_state_dict(head.state_dict())  # strict: no weight belongs to a class
    head.set_labels(torch.from_numpy(more), list('abcdefgh'))
    for wider in (built, head):
        assert wider.num_classes == 8
        assert wider.label_names == tuple('abcdefgh')
        torch.testing.assert_close(wider(features)[:, :7], logits)
        assert wider.activation_maps(features).shape == (2, 8, 3, 2)
        assert wider.loss(features, torch.ones(2, 8))['loss'].isfinite()


def test_names_of_the_file(seven: str, tmp_path: Path) -> None:
    assert make(label_embeddings=seven).label_names == tuple('abcdefg')
    assert make(label_embeddings=write(tmp_path / 'bare.json', vectors_of(7))).label_names is None
    assert make().label_names is None
    chosen = make(2, label_embeddings=seven, classes=['e', 'b'])
    assert chosen.label_names == ('e', 'b')
    np.testing.assert_array_equal(chosen.label_vectors, vectors_of(7)[[4, 1]])


def test_prior_bias(tmp_path: Path) -> None:
    labels = LabelMatrix.from_dense(np.array([[1, 0], [1, 0], [1, 1], [0, -1]], np.int8))
    bias = make(2, prior_bias=True).start_bias(LabelStatistics(labels))['bias']
    np.testing.assert_allclose(bias.sigmoid(), [4 / 6, 2 / 5], atol=1e-4)
    assert make(2).start_bias(LabelStatistics(labels)) == {}
    head = make(2, prior_bias=True, label_embeddings=write(tmp_path / 'two.json', vectors_of(2)))
    bias = head.start_bias(LabelStatistics(labels))['bias']
    np.testing.assert_allclose(bias, [(np.log(4 / 2) + np.log(2 / 3)) / 2], atol=1e-4)
    torch.testing.assert_close(head.fc.bias.detach(), bias)


def test_a_config_builds_it() -> None:
    assert MODELS.build(dict(type='MLDecoderHead', num_classes=3, in_channels=6, embed_dims=8))(maps()).shape == (2, 3)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num_heads=3), 'embed_dims=8 is not divisible by num_heads=3; embed_dims=9 would be'),
        (dict(num_groups=0), 'MLDecoderHead: num_groups must be at least 1, got 0'),
        (dict(feedforward_channels=0), 'MLDecoderHead: feedforward_channels must be at least 1, got 0'),
        (dict(dropout=-0.1), 'MLDecoderHead: dropout must be in \\[0, 1\\), got -0.1'),
        (dict(num_classes=0), 'MLDecoderHead: num_classes and in_channels must be at least 1, got 0 and 6'),
        (dict(classes=['a']), 'MLDecoderHead: classes has 1 names, num_classes is 7'),
    ],
)
def test_settings_it_cannot_have(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_files_it_cannot_take(seven: str, tmp_path: Path) -> None:
    message = 'seven.json has vectors of 7 classes, num_classes is 5; set model.head.num_classes=7, or label_embeddings'
    with pytest.raises(ConfigError, match=message):
        make(5, label_embeddings=seven)
    with pytest.raises(ConfigError, match='no such file of labels'):
        make(label_embeddings=str(tmp_path / 'none.json'))


def test_labels_it_cannot_take(seven: str) -> None:
    with pytest.raises(ConfigError, match="set_labels needs a head with label embeddings; set label_embeddings='FILE'"):
        make().set_labels(torch.zeros(7, 5))
    head = make(label_embeddings=seven)
    for wrong in (torch.zeros(7, 4), torch.zeros(5)):
        with pytest.raises(ConfigError, match='label vectors must be of shape \\(classes, 5\\), got'):
            head.set_labels(wrong)
    with pytest.raises(ConfigError, match='2 names for 7 label vectors'):
        head.set_labels(torch.zeros(7, 5), ['a', 'b'])
    assert head.label_names == tuple('abcdefg')


def test_features_it_cannot_take() -> None:
    with pytest.raises(ConfigError, match='MLDecoderHead takes feature maps, got vectors .* remove the neck'):
        make()((torch.zeros(2, 6),))
    with pytest.raises(ConfigError, match='set model.head.in_channels=7'):
        make()((torch.zeros(2, 7, 2, 2),))
