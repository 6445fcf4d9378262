"""Heads: features in, (N, C) logits, loss and scores out."""

from mlcls.models.heads.multi_label import MultiLabelClsHead, MultiLabelLinearClsHead

__all__ = ['MultiLabelClsHead', 'MultiLabelLinearClsHead']
