"""Backbones: images in, feature maps of chosen stages out."""

from mlcls.models.backbones.resnet import ResNet, ResNetV1c, ResNetV1d
from mlcls.models.backbones.resnext import ResNeXt
from mlcls.models.backbones.se_resnet import SEResNet, SEResNeXt
from mlcls.models.backbones.timm import TimmBackbone, TimmWeights
from mlcls.models.backbones.torchvision import TorchvisionBackbone

__all__ = [
    'ResNeXt',
    'ResNet',
    'ResNetV1c',
    'ResNetV1d',
    'SEResNeXt',
    'SEResNet',
    'TimmBackbone',
    'TimmWeights',
    'TorchvisionBackbone',
]
