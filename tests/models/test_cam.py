"""Class activation maps against their formulas, and on pictures where the right place is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models import ImageClassifier
from mlcls.models.cam import CHUNK, Seen, activation_maps, look, method_for, to_unit
from mlcls.registry import MODELS

MODEL = dict(
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=32),
)


@pytest.fixture
def model() -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(**MODEL).eval()


def by_hooks(model: Any, image: torch.Tensor, label: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature map and its gradient by a backward pass through the whole network, (K, h, w) each."""
    kept = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = model.backbone.layer4[-1].register_forward_hook(keep)
    model(image[None])[0, label].backward()
    handle.remove()
    model.zero_grad()
    return kept[0][0].detach(), kept[0].grad[0]


def naive(values: torch.Tensor, gradient: torch.Tensor, method: str) -> list[list[float]]:
    """The formulas of the papers, in plain loops."""
    channels, height, width = values.shape
    a, g = values.tolist(), gradient.tolist()
    places = [(i, j) for i in range(height) for j in range(width)]
    result = [[0.0] * width for _ in range(height)]
    for k in range(channels):
        total = sum(a[k][i][j] for i, j in places)
        weight = sum(g[k][i][j] for i, j in places) / len(places)
        if method == 'gradcam++':
            weight = 0.0
            for i, j in places:
                below = 2 * g[k][i][j] ** 2 + total * g[k][i][j] ** 3
                weight += (g[k][i][j] ** 2 / below if below else 0.0) * max(g[k][i][j], 0.0)
        for i, j in places:
            own = max(g[k][i][j], 0.0) if method == 'layercam' else weight
            result[i][j] += own * a[k][i][j]
    return [[max(value, 0.0) for value in row] for row in result]


@pytest.mark.parametrize('method', ['gradcam', 'gradcam++', 'layercam'])
def test_maps_are_those_of_the_papers_and_of_a_backward_pass_through_everything(
    model: ImageClassifier, method: str
) -> None:
    images = torch.randn(2, 3, 96, 96)
    # A head whose gradient differs from place to place: the squares of the map are pooled.
    model.neck = Squares()
    pairs = [(1, 2), (0, 0), (1, 1)]
    found = activation_maps(model, look(model, images), *zip(*pairs), method=method)
    for own, (image, label) in zip(found, pairs):
        expected = torch.tensor(naive(*by_hooks(model, images[image], label), method))
        torch.testing.assert_close(own, expected.float(), rtol=1e-3, atol=1e-4 * float(expected.max()) + 1e-12)
    assert found.shape == (3, 3, 3) and all(each.grad is None for each in model.parameters())


class Squares(nn.Module):
    def forward(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (features[-1].square().mean(dim=(2, 3)),)


def test_with_average_pooling_and_a_linear_head_grad_cam_is_cam(model: ImageClassifier) -> None:
    # Zhou et al., arXiv 1512.04150: the map of class c is sum_k w_ck A_k.
    seen = look(model, torch.randn(1, 3, 128, 128))
    cam = torch.einsum('ck,khw->chw', model.head.fc.weight.detach(), seen.features[-1][0]).relu()
    found = activation_maps(model, seen, [0, 0, 0], [0, 1, 2], 'gradcam')
    torch.testing.assert_close(found, (cam / 16).float(), rtol=1e-4, atol=1e-6)


def test_many_pairs_are_as_each_alone_and_the_backbone_runs_once(model: ImageClassifier) -> None:
    calls = []
    model.backbone.register_forward_pre_hook(lambda *_: calls.append(1))
    seen = look(model, torch.randn(3, 3, 64, 64))
    pairs = [(n % 3, n % 2) for n in range(CHUNK + 3)]
    together = activation_maps(model, seen, *zip(*pairs))
    for n in (0, 1, CHUNK - 1, CHUNK, CHUNK + 2):
        alone = activation_maps(model, seen, [pairs[n][0]], [pairs[n][1]])
        torch.testing.assert_close(together[n], alone[0], rtol=1e-4, atol=1e-6)
    assert len(calls) == 1 and len(together) == CHUNK + 3
    assert len(activation_maps(model, seen, [], [])) == 0


class AttentionHead(nn.Module):
    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return features[-1].amax(dim=(2, 3)).detach()

    def activation_maps(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return features[-1] * 2


def test_a_head_with_maps_of_its_own_is_asked_for_them() -> None:
    model: Any = SimpleNamespace(backbone=nn.Identity(), neck=None, head=AttentionHead())
    features = torch.arange(2 * 3 * 4.0).view(2, 3, 2, 2)
    seen = Seen(torch.zeros(2, 3), (features,))
    assert method_for(model) == 'attention'
    found = activation_maps(model, seen, [1, 0, 1], [2, 0, 0])
    assert torch.equal(found, 2 * torch.stack([features[1, 2], features[0, 0], features[1, 0]]))
    with pytest.raises(ConfigError, match='logits of AttentionHead have no gradient.*choose method attention'):
        activation_maps(model, seen, [0], [0], 'gradcam')


@pytest.mark.parametrize('head', ['CSRAClsHead', 'GCNHead', 'ClassifierChainHead', 'MultiLabelLinearClsHead'])
def test_heads_of_the_library_give_maps(head: str) -> None:
    import numpy as np

    from mlcls.models.fitting import fit_heads
    from mlcls.registry import MODELS
    from mlcls.structures import LabelMatrix, LabelStatistics

    if head not in MODELS:
        pytest.skip(f'no {head}')
    arguments = dict(num_heads=2, lam=0.1) if head == 'CSRAClsHead' else {}
    neck = None if head in ('CSRAClsHead', 'GCNHead') else MODEL['neck']
    model = ImageClassifier(MODEL['backbone'], neck, dict(type=head, num_classes=3, in_channels=32, **arguments)).eval()
    fit_heads(model, LabelStatistics(LabelMatrix.from_dense(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]], np.int8))))
    seen = look(model, torch.randn(2, 3, 64, 64))
    methods = ['gradcam', 'layercam'] + (['attention'] if hasattr(model.head, 'activation_maps') else [])
    for method in methods:
        maps = activation_maps(model, seen, [0, 1], [2, 1], method)
        assert maps.shape == (2, 2, 2) and maps.isfinite().all()


def test_messages(model: ImageClassifier) -> None:
    with pytest.raises(ConfigError, match=r"no method 'gradcan' of activation maps; did you mean 'gradcam'\?"):
        method_for(model, 'gradcan')
    with pytest.raises(ConfigError, match="method 'attention': MultiLabelLinearClsHead has no maps of its own; choose"):
        method_for(model, 'attention')
    with pytest.raises(ConfigError, match=r'ResNet gives no feature map but \(1, 32\); there is nothing to show'):
        activation_maps(model, Seen(torch.zeros(1, 3), (torch.zeros(1, 32),)), [0], [0])


def test_scaling() -> None:
    maps = torch.tensor([[[0.0, 2.0], [1.0, 4.0]], [[-3.0, -1.0], [-2.0, -3.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert to_unit(maps[[0, 2]], own_zero=True).tolist() == [[[0, 0.5], [0.25, 1]], [[0, 0], [0, 0]]]
    assert to_unit(maps[1:], own_zero=False).tolist() == [[[0, 1], [0.5, 0]], [[0, 0], [0, 0]]]
    tiny = to_unit(torch.full((1, 1, 1), 1e-30), own_zero=True)
    assert math.isclose(float(tiny), 1)


@pytest.mark.parametrize('method', ['gradcam', 'gradcam++', 'layercam'])
def test_maps_point_at_what_was_learned(method: str, squares: tuple[Any, torch.Tensor, list[Any]]) -> None:
    model, images, places = squares
    hits = total = 0
    seen = look(model, images)
    pairs = [(n, c) for n, own in enumerate(places) for c in own]
    maps = activation_maps(model, seen, *zip(*pairs), method=method)
    for own, (n, c) in zip(maps, pairs):
        y, x = divmod(int(own.argmax()), own.shape[1])
        hits += places[n][c] == (y, x)
        total += 1
    # Chance is 1 in 16. Grad-CAM++ leaves out what speaks against a label, and is the least sharp.
    assert hits / total > (0.7 if method == 'gradcam++' else 0.9)


@pytest.fixture(scope='module')
def squares() -> tuple[Any, torch.Tensor, list[dict[int, tuple[int, int]]]]:
    """A network trained on pictures of 4 x 4 fields of 8 pixels, some of which are red, green or blue."""
    torch.manual_seed(0)
    images, places = torch.rand(128, 3, 32, 32) * 0.2, []
    for image in images:
        fields = torch.randperm(16)[:3].tolist()
        own = {c: divmod(fields[c], 4) for c in range(3) if torch.rand(()) < 0.6}
        for c, (y, x) in own.items():
            image[c, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = 1
        places.append(own)
    targets = torch.tensor([[float(c in own) for c in range(3)] for own in places])
    backbone = nn.Sequential(nn.Conv2d(3, 12, 8, 8), nn.ReLU(), nn.Conv2d(12, 12, 1), nn.ReLU())
    model: Any = nn.Module()
    model.backbone, model.neck, model.head = Tupled(backbone), None, PooledLinear()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        logits = model.head(model.backbone(images))
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logits, targets).backward()
        optimizer.step()
    assert float(((logits > 0) == (targets > 0)).float().mean()) > 0.95
    return model, images, places


class Tupled(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.inner(x),)


class PooledLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 3)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.fc(features[-1].mean(dim=(2, 3)))


def test_own_maps_are_not_looked_for_behind_a_neck() -> None:
    head = dict(type='GCNHead', num_classes=3, in_channels=32, embedding_dims=4, hidden_dims=4)
    for neck, method in ((MODEL['neck'], 'gradcam'), (dict(type='GlobalMaxPooling'), 'gradcam'), (None, 'attention')):
        model = ImageClassifier(MODEL['backbone'], neck, head).eval()
        assert method_for(model) == method
        seen = look(model, torch.randn(1, 3, 64, 64))
        assert activation_maps(model, seen, [0], [1]).shape == (1, 2, 2)


def test_maps_of_its_own_behind_a_pooling_neck_are_refused() -> None:
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
            neck=dict(type='GlobalMaxPooling'),
            head=dict(type='GCNHead', num_classes=3, in_channels=64),
        )
    )
    with pytest.raises(ConfigError, match='GCNHead stands behind a neck that pools.*choose gradcam'):
        method_for(model, 'attention')
    assert method_for(model, 'auto') == 'gradcam'
