"""Necks: feature maps in, feature vectors out."""

from mlcls.models.necks.gap import GlobalAveragePooling
from mlcls.models.necks.gem import GeneralizedMeanPooling, GlobalMaxPooling

__all__ = [
    'GeneralizedMeanPooling',
    'GlobalAveragePooling',
    'GlobalMaxPooling',
]
