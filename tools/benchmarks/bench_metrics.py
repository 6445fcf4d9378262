"""Time of mAP and precision/recall/F1 beside scikit-learn and torchmetrics, on the same random scores.

    python tools/benchmarks/bench_metrics.py --images 40000 --classes 80 --threads 1

The methods run in turn (one run of each, then the next round), so that a busy moment hits all of them; the medians are
printed, and one JSON line at the end. scikit-learn and torchmetrics are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import torch

from mlcls.evaluation import Evaluator
from mlcls.evaluation.functional import (
    average_precision,
    confusion_counts,
    decide,
    mean_average_precision,
    precision_recall_f1,
)

#: What a method found: mAP and macro F1 in percent.
Found = tuple[float, float]
Method = Callable[[torch.Tensor, torch.Tensor], Found]


def make_data(images: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores float32 (N, C) and targets int8 (N, C) with 3.6 % positives, as COCO has."""
    made = torch.Generator().manual_seed(seed)
    targets = (torch.rand(images, classes, generator=made) < 0.036).to(torch.int8)
    return torch.sigmoid(torch.randn(images, classes, generator=made) + 2 * targets - 2), targets


def ours(scores: torch.Tensor, targets: torch.Tensor) -> Found:
    """The pure functions."""
    tp, fp, fn, _ = confusion_counts(decide(scores, 0.5), targets)
    ap = average_precision(scores, targets)
    return mean_average_precision(ap), precision_recall_f1(tp, fp, fn).macro_F1


def ours_streamed(scores: torch.Tensor, targets: torch.Tensor) -> Found:
    """The whole evaluator: 128 images a batch in, result with all columns per class out."""
    evaluator = Evaluator([{'type': 'AveragePrecision'}, {'type': 'ThresholdMetric'}])
    evaluator.prepare(len(scores))
    for part in torch.arange(len(scores)).split(128):
        evaluator.process(scores[part[0] : part[-1] + 1], targets[part[0] : part[-1] + 1], part)
    found = evaluator.evaluate(len(scores)).metrics
    return found['multi-label/mAP'], found['multi-label/macro_F1']


def with_sklearn(scores: torch.Tensor, targets: torch.Tensor) -> Found:
    """scikit-learn on numpy views."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    labels = targets.numpy()
    precision_recall_fscore_support(labels, scores.numpy() >= 0.5, average='micro', zero_division=0)
    f1 = precision_recall_fscore_support(labels, scores.numpy() >= 0.5, average='macro', zero_division=0)[2]
    return 100 * float(average_precision_score(labels, scores.numpy())), 100 * float(f1)


def with_torchmetrics(scores: torch.Tensor, targets: torch.Tensor) -> Found:
    """torchmetrics' functions (exact AP)."""
    from torchmetrics.functional import classification as tm

    labels, width = targets.int(), scores.shape[1]
    tm.multilabel_precision(scores, labels, width)
    tm.multilabel_recall(scores, labels, width)
    ap = tm.multilabel_average_precision(scores, labels, width)
    return 100 * float(ap), 100 * float(tm.multilabel_f1_score(scores, labels, width))


def installed(methods: dict[str, Method]) -> list[str]:
    """The methods that run here, tried on a little data (which also warms them up)."""
    names = []
    for name, method in methods.items():
        try:
            method(*make_data(200, 5, 0))
            names.append(name)
        except ImportError as error:
            print(f'{name}: left out ({error})')
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=40_000)
    parser.add_argument('--classes', type=int, default=80)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings('ignore')
    methods: dict[str, Method] = {
        'functions': ours,
        'evaluator': ours_streamed,
        'scikit-learn': with_sklearn,
        'torchmetrics': with_torchmetrics,
    }
    names = installed(methods)
    scores, targets = make_data(options.images, options.classes, options.seed)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, Found] = {}
    for _ in range(options.repeats):
        for name in names:
            started = time.perf_counter()
            found[name] = methods[name](scores, targets)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(f'{"method":14} {"median s":>9} {"min s":>9} {"times ours":>11} {"mAP":>12} {"macro F1":>12}')
    for name in names:
        print(
            f'{name:14} {medians[name]:9.3f} {min(seconds[name]):9.3f} {medians[name] / medians["functions"]:11.1f} '
            f'{found[name][0]:12.6f} {found[name][1]:12.6f}'
        )
    print(
        json.dumps(
            {
                'benchmark': 'metrics',
                'images': options.images,
                'classes': options.classes,
                'repeats': options.repeats,
                'threads': options.threads,
                'torch': torch.__version__,
                'median_seconds': {name: round(value, 4) for name, value in medians.items()},
                'mAP': {name: round(value[0], 6) for name, value in found.items()},
                'macro_F1': {name: round(value[1], 6) for name, value in found.items()},
            }
        )
    )


if __name__ == '__main__':
    main()
