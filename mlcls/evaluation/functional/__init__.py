"""Measures as pure functions on tensors: scores (N, C), targets (N, C) of 1, 0 and -1; -1 counts nowhere."""

from .classification import PrecisionRecallF1, averaged_scores, precision_recall_f1
from .decisions import ConfusionCounts, confusion_counts, decide
from .ranking import average_precision, mean_average_precision
from .validate import check_scores, check_targets

__all__ = [
    'ConfusionCounts',
    'PrecisionRecallF1',
    'average_precision',
    'averaged_scores',
    'check_scores',
    'check_targets',
    'confusion_counts',
    'decide',
    'mean_average_precision',
    'precision_recall_f1',
]
