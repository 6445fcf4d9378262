"""Classifiers and their parts: preprocessor, backbones, necks, heads, losses."""

from mlcls.models.backbones import (
    ResNet,
    ResNetV1c,
    ResNetV1d,
    ResNeXt,
    SEResNet,
    SEResNeXt,
    TimmBackbone,
    TimmWeights,
    TorchvisionBackbone,
)
from mlcls.models.base import BaseModule
from mlcls.models.classifier import ImageClassifier
from mlcls.models.heads import (
    ClassifierChainHead,
    CSRAClsHead,
    ExclusiveGroupsHead,
    GCNHead,
    LabelPowersetHead,
    LabelSequenceHead,
    MLDecoderHead,
    MultiLabelClsHead,
    MultiLabelLinearClsHead,
    Query2LabelHead,
)
from mlcls.models.initialize import Pretrained
from mlcls.models.layers import CBAM, ECA, SE, NonLocal
from mlcls.models.losses import AsymmetricLoss, CrossEntropyLoss, FocalLoss
from mlcls.models.necks import GeneralizedMeanPooling, GlobalAveragePooling, GlobalMaxPooling
from mlcls.models.preprocessor import ClsDataPreprocessor

__all__ = [
    'CBAM',
    'ECA',
    'SE',
    'AsymmetricLoss',
    'BaseModule',
    'CSRAClsHead',
    'ClassifierChainHead',
    'ClsDataPreprocessor',
    'CrossEntropyLoss',
    'ExclusiveGroupsHead',
    'FocalLoss',
    'GCNHead',
    'GeneralizedMeanPooling',
    'GlobalAveragePooling',
    'GlobalMaxPooling',
    'ImageClassifier',
    'LabelPowersetHead',
    'LabelSequenceHead',
    'MLDecoderHead',
    'MultiLabelClsHead',
    'MultiLabelLinearClsHead',
    'NonLocal',
    'Pretrained',
    'Query2LabelHead',
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
