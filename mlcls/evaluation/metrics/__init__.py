"""Metrics that a config can name: thin classes with settings over ``mlcls.evaluation.functional``."""

from .auroc import AUROCMetric
from .average_precision import AveragePrecision
from .base import Measured, Metric
from .calibration import CalibrationMetric
from .exact_match import ExactMatchMetric
from .fitted import FittedThresholdMetric
from .frequency import FrequencyGroupMetric
from .multi_label import MultiLabelMetric
from .ranking import RankingMetric
from .threshold import ThresholdMetric
from .voc import VOCAveragePrecision, VOCMultiLabelMetric

__all__ = [
    'AUROCMetric',
    'AveragePrecision',
    'CalibrationMetric',
    'ExactMatchMetric',
    'FittedThresholdMetric',
    'FrequencyGroupMetric',
    'Measured',
    'Metric',
    'MultiLabelMetric',
    'RankingMetric',
    'ThresholdMetric',
    'VOCAveragePrecision',
    'VOCMultiLabelMetric',
]
