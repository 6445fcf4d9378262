"""Ways to draw images of a skewed data set: how even classes become, and how long an epoch.

    python tools/benchmarks/bench_balance.py coco14_train_labels.npz --out docs/results/data/balance.json

The file holds the labels of COCO-14's training images, a row of bits an image. All figures are exact expectations, so
they do not depend on a seed; seconds are those of finding factors or weights on this machine, and are not kept.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlcls.datasets.balance import BalanceRow, auto_threshold, balance_row, repeat_factors
from mlcls.datasets.balance_weights import balanced_weights
from mlcls.fileio import write_json
from mlcls.structures import LabelMatrix

THRESHOLDS = (0.001, 0.02, 0.05)
#: (max_repeat, min_share) of the sampler.
LIMITS = ((2.0, 0.5), (5.0, 0.2), (10.0, 0.1))


def read_labels(path: Path, key: str, num_classes: int) -> LabelMatrix:
    """Labels (N, C) from an archive of packed bits."""
    return LabelMatrix.from_dense(np.unpackbits(np.load(path)[key], axis=1)[:, :num_classes].astype(np.int8))


def ways(labels: LabelMatrix) -> Iterator[tuple[BalanceRow, float | None, float]]:
    """Each way to draw, with the least imbalance that its limits allow (of weights), and the seconds it took."""
    yield balance_row(labels, 'each image once', np.ones(len(labels))), None, 0.0
    for threshold in (*THRESHOLDS, None):
        started = time.perf_counter()
        name = 'auto ' if threshold is None else ''
        threshold = threshold or auto_threshold(labels)
        factors = repeat_factors(labels, threshold)
        seconds = time.perf_counter() - started
        if not name:
            yield balance_row(labels, f'mmengine {threshold:g}', np.ceil(factors), threshold), None, seconds
        name = f'ClassBalancedDataset {name}{threshold:.3g}'
        yield balance_row(labels, name, factors, threshold), None, seconds
    for most, least in LIMITS:
        started = time.perf_counter()
        weights = balanced_weights(labels, most, least)
        seconds = time.perf_counter() - started
        yield balance_row(labels, f'sampler {least:g} to {most:g}', weights.multipliers), weights.bound, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path, help='archive (.npz) of labels, packed bits')
    parser.add_argument('--key', default='full', help='array in the archive')
    parser.add_argument('--classes', type=int, default=80)
    parser.add_argument('--out', type=Path, help='keep the result here, JSON')
    options = parser.parse_args()
    labels = read_labels(options.data, options.key, options.classes)
    head = f'{"":32} {"epoch":>7} {"max/min":>8} {"imbalance":>10} {"least":>7} {"entropy":>8} {"rarest":>8} '
    print(head + f'{"head":>7} {"dragged":>8} {"s":>6}')
    rows = []
    for row, bound, seconds in ways(labels):
        least = '-' if bound is None else f'{bound:.4f}'
        dragged = '-' if np.isnan(row.dragged) else f'{row.dragged:.1%}'
        print(
            f'{row.name:32} {row.length:7.3f} {row.ratio:8.1f} {row.imbalance:10.4f} {least:>7} {row.entropy:8.2%} '
            f'{row.shares.min():8.2%} {row.shares.max():7.2%} {dragged:>8} {seconds:6.2f}'
        )
        rows.append(
            {
                'name': row.name,
                'epoch_length': round(row.length, 4),
                'max_over_min': round(row.ratio, 2),
                'imbalance': round(row.imbalance, 4),
                'least_imbalance': None if bound is None else round(bound, 4),
                'entropy': round(row.entropy, 4),
                'share_of_rarest': round(float(row.shares.min()), 5),
                'share_of_head': round(float(row.shares.max()), 4),
                'extra_draws_with_head': None if np.isnan(row.dragged) else round(row.dragged, 4),
            }
        )
    counts = labels.counts()
    result = {
        'benchmark': 'balance',
        'data': options.data.name,
        'images': len(labels),
        'classes': labels.num_classes,
        'images_of_rarest': int(counts.min()),
        'images_of_head': int(counts.max()),
        'rows': rows,
    }
    print(json.dumps(result))
    if options.out:
        write_json(options.out, result)


if __name__ == '__main__':
    main()
