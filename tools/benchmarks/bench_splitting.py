"""Splits of multi-label data: drawn at random, by iterative stratification alone, and by `split_images`.

    python tools/benchmarks/bench_splitting.py coco14_train_labels.npz --out docs/results/data/splitting.json

Two data sets: the labels of COCO-14's training images (a file of packed bits, a row an image), and 200 images of 10
classes that 3 to 100 of them show, drawn at random. Three parts (80, 10, 10 %) and five folds of each. ``missing``
counts classes that a part lacks though each part could have an image of it; figures are means over the seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlcls.datasets.splitting import measure_split, part_sizes, split_images
from mlcls.fileio import write_json
from mlcls.structures import PRESENT, LabelMatrix

SPLITS = {'80/10/10': (0.8, 0.1, 0.1), '5 folds': (0.2,) * 5}


def small_skewed(seed: int) -> LabelMatrix:
    """200 images, 10 classes with 3 to 100 images each."""
    rng, labels = np.random.default_rng(seed), np.zeros((200, 10), np.int8)
    for number, count in enumerate(np.geomspace(3, 100, 10).round().astype(int)):
        labels[rng.choice(200, count, replace=False), number] = PRESENT
    return LabelMatrix.from_dense(labels)


def drawn(labels: LabelMatrix, shares: Sequence[float], seed: int) -> np.ndarray:
    """A random split with exact sizes."""
    sizes = part_sizes(len(labels), shares)
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def stratified(labels: LabelMatrix, shares: Sequence[float], seed: int) -> np.ndarray:
    """The package alone."""
    from iterstrat.ml_stratifiers import IterativeStratification

    return IterativeStratification(labels.dense() == PRESENT, np.array(shares), np.random.RandomState(seed))


def ours(labels: LabelMatrix, shares: Sequence[float], seed: int) -> np.ndarray:
    """`split_images`."""
    return split_images(labels, shares, seed=seed)


METHODS = {'random': drawn, 'iterative-stratification': stratified, 'split_images': ours}


def measured(data: Sequence[LabelMatrix], shares: Sequence[float], method: str) -> dict[str, float]:
    """Means of the measures over data sets (the number of each is its seed)."""
    found = []
    for seed, labels in enumerate(data):
        started = time.perf_counter()
        parts = METHODS[method](labels, shares, seed)
        seconds = time.perf_counter() - started
        quality = measure_split(labels, parts, shares)
        possible = quality.counts.sum(0) >= len(shares)
        found.append(
            (
                int((quality.counts[:, possible] == 0).sum()),
                int(np.abs(quality.sizes - quality.wanted).max()),
                quality.labels_distribution,
                quality.mean_deviation,
                float(np.nanmax(np.abs(quality.deviations))),
                seconds,
            )
        )
    names = ('missing', 'size_off_by', 'LD', 'mean_deviation', 'worst_deviation', 'seconds')
    return {name: round(float(value), 6) for name, value in zip(names, np.mean(found, axis=0))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path, help='archive (.npz) of labels, packed bits')
    parser.add_argument('--key', default='full', help='array in the archive')
    parser.add_argument('--classes', type=int, default=80)
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--out', type=Path, help='keep the result here, JSON')
    options = parser.parse_args()
    dense = np.unpackbits(np.load(options.data)[options.key], axis=1)[:, : options.classes].astype(np.int8)
    data = {
        options.data.name: [LabelMatrix.from_dense(dense)] * options.seeds,
        '200 images, 10 classes': [small_skewed(seed) for seed in range(options.seeds)],
    }
    rows = []
    print(f'{"":26} {"missing":>8} {"size":>6} {"LD":>10} {"mean off":>9} {"worst":>7} {"s":>7}')
    for name, sets in data.items():
        for split, shares in SPLITS.items():
            print(f'{name}, {split}')
            for method in METHODS:
                row = measured(sets, shares, method)
                print(
                    f'  {method:24} {row["missing"]:8.1f} {row["size_off_by"]:6.1f} {row["LD"]:10.2e} '
                    f'{row["mean_deviation"]:9.2%} {row["worst_deviation"]:7.1%} {row["seconds"]:7.2f}'
                )
                rows.append({'data': name, 'split': split, 'method': method, **row})
    result = {'benchmark': 'splitting', 'seeds': options.seeds, 'rows': rows}
    print(json.dumps(result))
    if options.out:
        write_json(options.out, result)


if __name__ == '__main__':
    main()
