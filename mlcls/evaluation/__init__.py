"""Evaluation: pure measures (``functional``), metrics that a config names, and the evaluator that feeds them."""

from . import functional
from .evaluator import Evaluator, build_evaluator
from .gather import Rows
from .intervals import Intervals, headline_intervals
from .metrics import (
    AUROCMetric,
    AveragePrecision,
    CalibrationMetric,
    ExactMatchMetric,
    FrequencyGroupMetric,
    Metric,
    MultiLabelMetric,
    RankingMetric,
    ThresholdMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from .metrics.base import Measured
from .metrics.fitted import FittedThresholdMetric
from .operating_points import FitSettings, OperatingPoints, fit_operating_points
from .per_class import write_per_class
from .predictions import Predictions, read_predictions, write_predictions
from .result import EvaluationResult, RunFacts, to_json
from .table import format_table

__all__ = [
    'AUROCMetric',
    'AveragePrecision',
    'CalibrationMetric',
    'EvaluationResult',
    'Evaluator',
    'ExactMatchMetric',
    'FitSettings',
    'FittedThresholdMetric',
    'FrequencyGroupMetric',
    'Intervals',
    'Measured',
    'Metric',
    'MultiLabelMetric',
    'OperatingPoints',
    'Predictions',
    'RankingMetric',
    'Rows',
    'RunFacts',
    'ThresholdMetric',
    'VOCAveragePrecision',
    'VOCMultiLabelMetric',
    'build_evaluator',
    'fit_operating_points',
    'format_table',
    'functional',
    'headline_intervals',
    'read_predictions',
    'to_json',
    'write_per_class',
    'write_predictions',
]
