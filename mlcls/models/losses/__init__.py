"""Losses: each a pure function on tensors and a small registered class that holds its settings."""

from mlcls.models.losses.asymmetric import AsymmetricLoss, asymmetric_loss
from mlcls.models.losses.base import MultiLabelLoss, PointwiseLoss, known_labels, reduce_loss
from mlcls.models.losses.class_balanced import ClassBalancedLoss
from mlcls.models.losses.cross_entropy import CrossEntropyLoss, binary_cross_entropy, soft_cross_entropy
from mlcls.models.losses.distribution_balanced import (
    DistributionBalancedLoss,
    negative_tolerant_focal,
    rebalancing_weights,
)
from mlcls.models.losses.entropy import EntropyMaximizationLoss, WeakAssumeNegativeLoss, binary_entropy
from mlcls.models.losses.focal import FocalLoss, focal_loss
from mlcls.models.losses.hill import HillLoss, hill_loss
from mlcls.models.losses.label_smooth import LabelSmoothLoss, smooth_labels
from mlcls.models.losses.large_loss import LargeLoss
from mlcls.models.losses.partial_asymmetric import PartialAsymmetricLoss
from mlcls.models.losses.role import RoleLoss, expected_positives_penalty
from mlcls.models.losses.splc import FocalMarginLoss, SPLCLoss
from mlcls.models.losses.two_way import TwoWayLoss, two_way_loss
from mlcls.models.losses.weighted_bce import (
    MultiLabelSoftMarginLoss,
    WeightedBCELoss,
    weighted_binary_cross_entropy,
)
from mlcls.models.losses.weighted_sum import WeightedSum
from mlcls.models.losses.zlpr import ZLPRLoss, zlpr_loss

__all__ = [
    'AsymmetricLoss',
    'ClassBalancedLoss',
    'CrossEntropyLoss',
    'DistributionBalancedLoss',
    'EntropyMaximizationLoss',
    'FocalLoss',
    'FocalMarginLoss',
    'HillLoss',
    'LabelSmoothLoss',
    'LargeLoss',
    'MultiLabelLoss',
    'MultiLabelSoftMarginLoss',
    'PartialAsymmetricLoss',
    'PointwiseLoss',
    'RoleLoss',
    'SPLCLoss',
    'TwoWayLoss',
    'WeakAssumeNegativeLoss',
    'WeightedBCELoss',
    'WeightedSum',
    'ZLPRLoss',
    'asymmetric_loss',
    'binary_cross_entropy',
    'binary_entropy',
    'expected_positives_penalty',
    'focal_loss',
    'hill_loss',
    'known_labels',
    'negative_tolerant_focal',
    'rebalancing_weights',
    'reduce_loss',
    'smooth_labels',
    'soft_cross_entropy',
    'two_way_loss',
    'weighted_binary_cross_entropy',
    'zlpr_loss',
]
