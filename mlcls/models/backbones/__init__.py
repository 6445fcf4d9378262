"""Backbones: images in, feature maps of chosen stages out."""

from mlcls.models.backbones.resnet import ResNet
from mlcls.models.backbones.torchvision import TorchvisionBackbone

__all__ = ['ResNet', 'TorchvisionBackbone']
