"""Networks of torchvision as backbones."""

from __future__ import annotations

import torch
from torch import nn

from mlcls.errors import ConfigError, did_you_mean
from mlcls.models.base import BaseModule
from mlcls.registry import MODELS


@MODELS.register_module()
class TorchvisionBackbone(BaseModule):
    """The convolutional part (``features``) of a torchvision network, under torchvision's parameter names.

    Args:
        name: Name in torchvision, for example ``'mobilenet_v2'``, ``'efficientnet_b0'``, ``'convnext_tiny'``.
        weights: None (random), a local file, or ``torchvision://NAME``.

    Raises:
        ConfigError: torchvision has no such network, or it keeps no ``features``.
    """

    def __init__(self, name: str, weights: str | None = None) -> None:
        from torchvision import models

        super().__init__(None if weights is None else dict(type='Pretrained', checkpoint=weights))
        names = models.list_models(module=models)
        if name not in names:
            raise ConfigError(f"TorchvisionBackbone: torchvision has no network '{name}'{did_you_mean(name, names)}")
        network = models.get_model(name, weights=None)
        if not hasattr(network, 'features') or name.startswith('swin'):  # swin's maps are channels-last
            raise ConfigError(
                f"TorchvisionBackbone: '{name}' keeps no convolutional part named 'features'; use one "
                'that does (mobilenet, efficientnet, densenet, convnext, vgg, squeezenet), or ResNet'
            )
        self.features = network.features
        # torchvision's DenseNet applies its last ReLU outside of features.
        self.activation = nn.ReLU(inplace=True) if name.startswith('densenet') else nn.Identity()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images (N, 3, H, W) to one feature map (N, channels, H', W')."""
        return (self.activation(self.features(x)),)
