"""Losses: each a pure function on tensors and a small registered class that holds its settings."""

from mlcls.models.losses.asymmetric import AsymmetricLoss, asymmetric_loss
from mlcls.models.losses.base import MultiLabelLoss, reduce_loss
from mlcls.models.losses.cross_entropy import CrossEntropyLoss, binary_cross_entropy, soft_cross_entropy
from mlcls.models.losses.focal import FocalLoss, focal_loss

__all__ = [
    'AsymmetricLoss',
    'CrossEntropyLoss',
    'FocalLoss',
    'MultiLabelLoss',
    'asymmetric_loss',
    'binary_cross_entropy',
    'focal_loss',
    'reduce_loss',
    'soft_cross_entropy',
]
