"""What the evaluation is measured against: scikit-learn, torchmetrics and mmpretrain, each as people use it.

Importing this file imports none of them; a method raises ImportError where its package is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from typing import Any

import torch

#: Images that a model scores at a time.
BATCH = 64


def sklearn_map(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """scikit-learn's mAP and nothing else; classes without a positive count as 0. In percent, as all here."""
    from sklearn.metrics import average_precision_score

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return 100 * float(average_precision_score(targets.numpy(), scores.numpy()))


def torchmetrics_ap(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """torchmetrics' exact mAP and nothing else."""
    from torchmetrics.functional.classification import multilabel_average_precision

    return 100 * float(multilabel_average_precision(scores, targets.int(), scores.shape[1]))


def mmpretrain_both(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """mmpretrain's two metrics for several labels, through mmengine's evaluator: a data sample an image, in batches.

    The samples are made here from the scores of the model, as its heads do, because its metrics take nothing else.
    """
    metrics, sample_type = _mmpretrain()
    evaluator = importlib.import_module('mmengine.evaluator').Evaluator(
        [metrics.MultiLabelMetric(), metrics.AveragePrecision()]
    )
    for start in range(0, len(scores), BATCH):
        rows = slice(start, start + BATCH)
        samples = [
            sample_type().set_pred_score(score).set_gt_score(target)
            for score, target in zip(scores[rows], targets[rows].float(), strict=True)
        ]
        evaluator.process(data_samples=samples, data_batch=None)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return float(evaluator.evaluate(len(scores))['multi-label/mAP'])


def _mmpretrain() -> tuple[Any, type]:
    """The module of its metrics and its data sample.

    ``import mmpretrain`` imports all of its models and asks for a certain mmcv. The metrics need mmengine alone, so
    the packages on the way to them are entered without running their ``__init__``; every line that is measured is
    mmpretrain's.
    """
    if 'mmpretrain' not in sys.modules:
        found = importlib.util.find_spec('mmpretrain')
        if found is None or not found.submodule_search_locations:
            raise ImportError('mmpretrain is not installed')
        root = next(iter(found.submodule_search_locations))
        for name in ('mmpretrain', 'mmpretrain.evaluation', 'mmpretrain.evaluation.metrics'):
            package = types.ModuleType(name)
            package.__path__ = ['/'.join([root, *name.split('.')[1:]])]
            sys.modules[name] = package
    metrics = importlib.import_module('mmpretrain.evaluation.metrics.multi_label')
    return metrics, importlib.import_module('mmpretrain.structures').DataSample
