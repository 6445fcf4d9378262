"""Evaluation: pure measures (``functional``), metrics that a config names, and the evaluator that feeds them."""

from . import functional
from .evaluator import Evaluator, build_evaluator
from .metrics import (
    AveragePrecision,
    Metric,
    MultiLabelMetric,
    ThresholdMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from .result import EvaluationResult, to_json
from .table import format_table

__all__ = [
    'AveragePrecision',
    'EvaluationResult',
    'Evaluator',
    'Metric',
    'MultiLabelMetric',
    'ThresholdMetric',
    'VOCAveragePrecision',
    'VOCMultiLabelMetric',
    'build_evaluator',
    'format_table',
    'functional',
    'to_json',
]
