"""Query2Label against its formula, and what a head must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.heads.query2label import Query2LabelHead
from mlcls.registry import MODELS
from mlcls.structures import LabelMatrix, LabelStatistics
from tests.models.layers import attention_reference as reference


def make(num_classes: int = 5, **others: Any) -> Query2LabelHead:
    torch.manual_seed(0)
    sizes = dict(embed_dims=8, num_heads=2, feedforward_channels=12)
    return Query2LabelHead(num_classes, 6, **{**sizes, **others})


def maps(images: int = 2, height: int = 3, width: int = 2) -> tuple[torch.Tensor]:
    return (torch.randn((images, 6, height, width), generator=torch.Generator().manual_seed(1)),)


def formula(
    head: Query2LabelHead, image: torch.Tensor, encoders: int, decoders: int, self_attention: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (C,) and attention (heads, C, H * W) of one map (channels, H, W), float64."""
    weights = reference.weights_of(head)
    tokens = image.double().numpy().reshape(len(image), -1).T
    positions = reference.positions(*image.shape[1:], 8)
    memory = reference.linear(tokens, reference.part(weights, 'projection'))
    for number in range(encoders):
        memory = reference.encoder_layer(memory, positions, reference.part(weights, f'encoder.{number}'), 2)
    query = weights['queries']
    for number in range(decoders):
        layer = reference.part(weights, f'decoder.{number}')
        query, shares = reference.decoder_layer(query, memory + positions, memory, layer, 2, self_attention)
    return np.array([w @ q + b for w, q, b in zip(weights['weight'], query, weights['bias'])]), shares


@pytest.mark.parametrize('self_attention', [False, True])
@pytest.mark.parametrize(('encoders', 'decoders'), [(1, 2), (0, 1), (2, 1)])
def test_it_is_the_formula(encoders: int, decoders: int, self_attention: bool) -> None:
    head = make(num_encoder_layers=encoders, num_decoder_layers=decoders, label_self_attention=self_attention).eval()
    reference.randomise(head)
    features = maps()
    logits, seen = head(features), head.activation_maps(features)
    assert logits.shape == (2, 5)
    assert seen.shape == (2, 5, 3, 2)
    for n, image in enumerate(features[0]):
        expected, shares = formula(head, image, encoders, decoders, self_attention)
        np.testing.assert_allclose(logits[n].detach(), expected, atol=2e-5)
        np.testing.assert_allclose(seen[n].detach().reshape(5, 6), shares.mean(0), atol=1e-6)


def test_defaults_are_those_of_the_paper() -> None:
    with torch.device('meta'):
        head = Query2LabelHead(80, 2048)
    attention = 4 * 2048**2 + 3 * 2048  # no bias of the keys
    rest = 2 * 2048 * 8192 + 8192 + 2048 + 2 * 2 * 2048
    expected = 2048**2 + 2048 + 3 * (attention + rest) + 2 * 80 * 2048 + 80
    assert sum(p.numel() for p in head.parameters()) == expected
    assert (len(head.encoder), len(head.decoder), head.decoder[0].cross_attention.num_heads) == (1, 2, 4)
    assert all(layer.self_attention is None for layer in head.decoder)


@pytest.mark.parametrize('num_classes', [1, 2, 7])
@pytest.mark.parametrize(('images', 'height', 'width'), [(1, 1, 1), (2, 4, 3), (1, 5, 9)])
@pytest.mark.parametrize('train', [True, False])
def test_any_number_of_classes_and_any_map(num_classes: int, images: int, height: int, width: int, train: bool) -> None:
    head = make(num_classes).train(train)
    logits = head(maps(images, height, width))
    assert logits.shape == (images, num_classes)
    assert logits.isfinite().all()
    seen = head.activation_maps(maps(images, height, width))
    torch.testing.assert_close(seen.sum((2, 3)), torch.ones(images, num_classes))
    assert seen.min() >= 0


@pytest.mark.parametrize('self_attention', [False, True])
def test_gradient_reaches_every_parameter(self_attention: bool) -> None:
    head = make(label_self_attention=self_attention)
    features = (maps()[0].requires_grad_(),)
    head.loss(features, torch.tensor([[1, 0, 1, 0, 0], [0, 0, 1, 1, -1]]))['loss'].backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert isinstance(head.queries, nn.Parameter)
    assert features[0].grad is not None and features[0].grad.abs().max() > 0


def test_a_label_is_decoded_by_itself_unless_queries_see_each_other() -> None:
    features = maps()
    for self_attention in (False, True):
        head = make(label_self_attention=self_attention).eval()
        before = head(features)
        with torch.no_grad():
            head.queries[0] += 1
        changed = (head(features) != before).any(0)
        assert changed[0]
        assert changed[1:].all() if self_attention else not changed[1:].any()


def test_places_matter() -> None:
    head = make().eval()
    (feature,) = maps()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    moved = feature.flatten(2)[:, :, order].unflatten(2, (3, 2))
    assert (head((feature,)) - head((moved,))).abs().max() > 1e-4


def test_an_image_does_not_depend_on_its_batch() -> None:
    head = make().eval()
    (feature,) = maps(3)
    torch.testing.assert_close(head((feature[1:2],)), head((feature,))[1:2])


def test_state_dict_round_trip_and_modes() -> None:
    head, other = make().eval(), make()
    reference.randomise(head)
    other.load_state_dict(head.state_dict())
    features = maps()
    assert torch.equal(other.eval()(features), head(features))
    assert not torch.equal(other.train()(features), other(features))  # dropout


def test_memory_format_does_not_matter() -> None:
    head = make().eval()
    (feature,) = maps()
    other = feature.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(head((other,)), head((feature,)))


def test_autocast_keeps_logits_in_float32() -> None:
    head = make()
    with torch.autocast('cpu', torch.bfloat16):
        logits = head((maps()[0].bfloat16(),))
        loss = head.loss(maps(), torch.ones(2, 5))['loss']
        seen = head.activation_maps(maps())
    assert logits.dtype == seen.dtype == torch.float32
    assert (logits != logits.bfloat16()).any()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    torch.testing.assert_close(seen.sum((2, 3)), torch.ones(2, 5))


def test_prior_bias() -> None:
    labels = LabelMatrix.from_dense(np.array([[1, 0], [1, 0], [1, 1], [0, -1]], np.int8))
    head = make(2, prior_bias=True)
    bias = head.start_bias(LabelStatistics(labels))['bias']
    np.testing.assert_allclose(bias.sigmoid(), [4 / 6, 2 / 5], atol=1e-4)
    torch.testing.assert_close(head.bias.detach(), bias)
    assert make(2).start_bias(LabelStatistics(labels)) == {}


def test_predictions_are_probabilities() -> None:
    head = make().eval()
    torch.testing.assert_close(head.predict(maps()), head(maps()).sigmoid(), atol=1e-4, rtol=0)


def test_a_config_builds_it() -> None:
    cfg = dict(type='Query2LabelHead', num_classes=3, in_channels=6, embed_dims=8, feedforward_channels=8)
    assert MODELS.build(cfg)(maps()).shape == (2, 3)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num_heads=3), 'embed_dims=8 is not divisible by num_heads=3; embed_dims=9 would be'),
        (dict(embed_dims=6), 'sine positions need embed_dims that are a multiple of 4, got 6; 8 is near'),
        (dict(num_encoder_layers=-1), 'Query2LabelHead: num_encoder_layers must be at least 0, got -1'),
        (dict(num_decoder_layers=0), 'Query2LabelHead: num_decoder_layers must be at least 1, got 0'),
        (dict(feedforward_channels=0), 'Query2LabelHead: feedforward_channels must be at least 1, got 0'),
        (dict(dropout=1.0), 'Query2LabelHead: dropout must be in \\[0, 1\\), got 1.0'),
        (dict(num_classes=0), 'Query2LabelHead: num_classes and in_channels must be at least 1, got 0 and 6'),
    ],
)
def test_settings_it_cannot_have(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_features_it_cannot_take() -> None:
    with pytest.raises(ConfigError, match='Query2LabelHead takes feature maps, got vectors .* remove the neck'):
        make()((torch.zeros(2, 6),))
    with pytest.raises(ConfigError, match='set model.head.in_channels=7'):
        make()((torch.zeros(2, 7, 2, 2),))


@pytest.mark.slow
def test_exported_it_takes_any_map(tmp_path: Path) -> None:
    """The positions must not be frozen at the size of the example."""
    onnxruntime = pytest.importorskip('onnxruntime')
    head = make(num_decoder_layers=1).eval()
    file = str(tmp_path / 'head.onnx')
    n, h, w = (torch.export.Dim(name) for name in 'nhw')
    torch.onnx.export(
        _Alone(head).eval(), maps(), file, dynamo=True, verbose=False, dynamic_shapes=({0: n, 2: h, 3: w},)
    )
    session = onnxruntime.InferenceSession(file)
    for size in ((2, 3, 2), (1, 5, 4), (3, 1, 1)):
        features = maps(*size)
        (got,) = session.run(None, {session.get_inputs()[0].name: features[0].numpy()})
        np.testing.assert_allclose(got, head(features).detach(), atol=1e-5)


class _Alone(nn.Module):
    """A head that takes one map."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return self.head((feature,))
