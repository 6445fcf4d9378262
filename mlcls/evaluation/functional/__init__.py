"""Measures as pure functions on tensors: scores (N, C), targets (N, C) of 1, 0 and -1; -1 counts nowhere."""

from .auroc import auroc, mean_auroc, micro_auroc
from .average_precision import average_precision, mean_average_precision
from .calibration import (
    ReliabilityBins,
    brier_score,
    equal_mass_bins,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)
from .classification import PrecisionRecallF1, averaged_scores, precision_recall_f1
from .decisions import ConfusionCounts, confusion_counts, decide
from .exact_match import (
    ExactMatch,
    ImageCounts,
    exact_match,
    exact_matches,
    image_counts,
    image_counts_from_scores,
    image_jaccard,
)
from .frequency import frequency_groups, group_means
from .ranking import ranked_images, ranking_measures
from .validate import check_scores, check_targets

__all__ = [
    'ConfusionCounts',
    'ExactMatch',
    'ImageCounts',
    'PrecisionRecallF1',
    'ReliabilityBins',
    'auroc',
    'average_precision',
    'averaged_scores',
    'brier_score',
    'check_scores',
    'check_targets',
    'confusion_counts',
    'decide',
    'equal_mass_bins',
    'exact_match',
    'exact_matches',
    'expected_calibration_error',
    'frequency_groups',
    'group_means',
    'image_counts',
    'image_counts_from_scores',
    'image_jaccard',
    'maximum_calibration_error',
    'mean_auroc',
    'mean_average_precision',
    'micro_auroc',
    'precision_recall_f1',
    'ranked_images',
    'ranking_measures',
    'reliability_bins',
]
