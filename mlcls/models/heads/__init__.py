"""Heads: features in, (N, C) logits, loss and scores out."""

from mlcls.models.heads.classifier_chain import ClassifierChainHead
from mlcls.models.heads.csra import CSRAClsHead
from mlcls.models.heads.exclusive_groups import ExclusiveGroupsHead
from mlcls.models.heads.gcn import GCNHead
from mlcls.models.heads.label_powerset import LabelPowersetHead
from mlcls.models.heads.label_sequence import LabelSequenceHead
from mlcls.models.heads.ml_decoder import MLDecoderHead
from mlcls.models.heads.multi_label import MultiLabelClsHead, MultiLabelLinearClsHead
from mlcls.models.heads.query2label import Query2LabelHead

__all__ = [
    'CSRAClsHead',
    'ClassifierChainHead',
    'ExclusiveGroupsHead',
    'GCNHead',
    'LabelPowersetHead',
    'LabelSequenceHead',
    'MLDecoderHead',
    'MultiLabelClsHead',
    'MultiLabelLinearClsHead',
    'Query2LabelHead',
]
