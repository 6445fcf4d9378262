"""Necks: feature maps in, feature vectors out."""

from mlcls.models.necks.gap import GlobalAveragePooling

__all__ = ['GlobalAveragePooling']
