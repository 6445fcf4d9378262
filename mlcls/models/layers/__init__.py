"""Layers that several parts of models use."""

from mlcls.models.layers.attention import CBAM, ECA, SE, Attention, NonLocal
from mlcls.models.layers.drop_path import DropPath

__all__ = ['CBAM', 'ECA', 'SE', 'Attention', 'DropPath', 'NonLocal']
