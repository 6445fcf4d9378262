"""Networks of torchvision as backbones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from mlcls.errors import ConfigError
from mlcls.models import TorchvisionBackbone
from mlcls.models.initialize import initialize


@pytest.mark.parametrize(
    'name, channels',
    [
        ('mobilenet_v2', 1280),
        ('squeezenet1_1', 512),
        ('efficientnet_b0', 1280),
        ('densenet121', 1024),
        ('convnext_tiny', 768),
    ],
)
def test_features(name: str, channels: int) -> None:
    model = TorchvisionBackbone(name)
    (feature,) = model(torch.randn(2, 3, 64, 64))
    assert feature.shape[:2] == (2, channels)
    feature.mean().backward()


def test_imagenet_weights_fill_it(test_data: Path) -> None:
    path = test_data / 'weights/mobilenet_v2_features_torchvision.pth'
    model = TorchvisionBackbone('mobilenet_v2', weights=str(path))
    initialize(model, model.init_cfg)
    reference = torchvision.models.mobilenet_v2(weights=None)
    reference.load_state_dict(torch.load(path, weights_only=True), strict=False)
    x = torch.randn(1, 3, 96, 96)
    assert torch.equal(model.eval()(x)[0], reference.eval().features(x))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="no network 'mobilenetv2'; did you mean 'mobilenet_v2'"):
        TorchvisionBackbone('mobilenetv2')
    with pytest.raises(ConfigError, match="'resnet18' keeps no convolutional part"):
        TorchvisionBackbone('resnet18')
