"""Metrics that a config can name: thin classes with settings over ``mlcls.evaluation.functional``."""

from .average_precision import AveragePrecision
from .base import Metric
from .multi_label import MultiLabelMetric
from .threshold import ThresholdMetric
from .voc import VOCAveragePrecision, VOCMultiLabelMetric

__all__ = [
    'AveragePrecision',
    'Metric',
    'MultiLabelMetric',
    'ThresholdMetric',
    'VOCAveragePrecision',
    'VOCMultiLabelMetric',
]
