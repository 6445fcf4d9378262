"""Classifiers and their parts: preprocessor, backbones, necks, heads, losses."""

from mlcls.models.backbones import ResNet, TorchvisionBackbone
from mlcls.models.base import BaseModule
from mlcls.models.classifier import ImageClassifier
from mlcls.models.heads import MultiLabelClsHead, MultiLabelLinearClsHead
from mlcls.models.initialize import Pretrained
from mlcls.models.losses import AsymmetricLoss, CrossEntropyLoss, FocalLoss
from mlcls.models.necks import GlobalAveragePooling
from mlcls.models.preprocessor import ClsDataPreprocessor

__all__ = [
    'AsymmetricLoss',
    'BaseModule',
    'ClsDataPreprocessor',
    'CrossEntropyLoss',
    'FocalLoss',
    'GlobalAveragePooling',
    'ImageClassifier',
    'MultiLabelClsHead',
    'MultiLabelLinearClsHead',
    'Pretrained',
    'ResNet',
    'TorchvisionBackbone',
]
