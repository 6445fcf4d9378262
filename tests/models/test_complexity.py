"""Counts against torchvision's published ones and sums by hand; most on the device meta, where nothing is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from mlcls.models import ImageClassifier
from mlcls.models.complexity import count, measure_speed
from mlcls.models.stages import MOST, find_stages


class Tupled(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.network(x),)


class Last(nn.Module):
    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return features[-1]


def around(network: nn.Module) -> Any:
    model: Any = nn.Module()
    model.backbone, model.neck, model.head = Tupled(network), None, Last()
    return model


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2', 'vit_b_16', 'convnext_tiny', 'vgg16'])
def test_torchvision_publishes_the_same_counts(name: str) -> None:
    with torch.device('meta'):
        model = around(torchvision.models.get_model(name, weights=None))
    figures = count(model, (224, 224))
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    assert sum(each.parameters for each in figures) == published['num_params']
    assert sum(each.multiply_adds for each in figures) / 1e9 == pytest.approx(published['_ops'], abs=6e-4)
    assert len(figures) <= MOST + 1 and all(each.multiply_adds > 0 for each in figures[:-1])


def test_resnet50_with_its_head() -> None:
    model = ImageClassifier(
        backbone=dict(type='ResNet', depth=50),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='MultiLabelLinearClsHead', num_classes=1000, in_channels=2048),
    )
    figures = {each.name: each for each in count(model, (224, 224))}
    names = ['backbone.conv1, bn1', *(f'backbone.layer{n}' for n in range(1, 5)), 'neck', 'head']
    assert list(figures) == names
    assert sum(each.parameters for each in figures.values()) == 25_557_032
    assert sum(each.multiply_adds for each in figures.values()) / 1e9 == pytest.approx(4.089, abs=1e-3)
    # By hand: 7 x 7 x 3 weights for each of 64 x 112 x 112 outputs; 2,048 for each class.
    assert figures[names[0]].multiply_adds == 7 * 7 * 3 * 64 * 112 * 112
    assert figures[names[0]].activations == 64 * 112 * 112
    assert figures['head'].multiply_adds == 2048 * 1000 and figures['head'].activations == 1000
    # fvcore's count of ResNet-50's activations is 11.1 M (Radosavovic et al., arXiv 2003.13678, table 2).
    assert sum(each.activations for each in figures.values()) / 1e6 == pytest.approx(11.1, abs=0.05)


def test_attention_counts_by_its_matrix_products() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Conv2d(3, 8, 4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.project(x).flatten(2).transpose(1, 2)[:, None]
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    figures = count(around(Attention()), (16, 16))
    tokens = 16
    assert figures[0].multiply_adds == 3 * 16 * 8 * tokens + 2 * tokens * tokens * 8
    assert figures[0].activations == 8 * tokens + tokens * tokens + tokens * 8


def test_weights_that_stages_share_count_once() -> None:
    first = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    second.weight = first.weight
    figures = count(around(nn.Sequential(first, nn.ReLU(), second)), (8, 8))
    assert sum(each.parameters for each in figures) == 81
    assert sum(each.multiply_adds for each in figures) == 2 * 81 * 64


def test_every_weight_is_in_one_stage() -> None:
    for name in ('vit_b_16', 'swin_t', 'googlenet', 'mnasnet1_0'):
        with torch.device('meta'):
            arguments = {'init_weights': False} if name == 'googlenet' else {}
            network = torchvision.models.get_model(name, weights=None, **arguments)
        stages = find_stages(network)
        held = [id(module) for stage in stages for module in stage.modules.values()]
        assert len(held) == len(set(held)) and len({stage.name for stage in stages}) == len(stages)
        own = {id(weight) for stage in stages for m in stage.modules.values() for weight in m.parameters(recurse=False)}
        assert own == {id(weight) for weight in network.parameters()}


def test_timing_leaves_the_network_as_it_was() -> None:
    model = ImageClassifier(
        backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=32),
    ).train()
    model.backbone.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    speed = measure_speed(model, (32, 32), batch_size=2, repeats=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and not model.backbone.layer1.training and model.backbone.layer2.training
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert speed.forward > 0 and speed.training > 0
    assert list(speed.stages) == [each.name for each in count(model, (32, 32))]
