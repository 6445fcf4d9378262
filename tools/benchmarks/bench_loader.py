"""Images a second of the loader, beside mmcv's and torchvision's and beside a loop with nothing in it but the work.

    python tools/benchmarks/bench_loader.py

Makes its own JPEGs in a temporary folder. Per core: one process and one thread, in the time that it has the core. The
methods run in turn, and a ratio is the median over the rounds of the ratios in a round, so that a busy moment hits both
sides. The allocator is set in the same way for all. Ends in one line of JSON:

- ``vs_torchvision``, ``vs_mmcv``, ``vs_limit``: 500 x 375, crops from 8 % of the area on
- ``large_vs_mmcv``: 1024 x 768, the same; ``large_zoom_vs_mmcv``: 2048 x 1536, crops from 40 % on
- ``jpeg_pack_vs_mmcv``, ``raw_pack_vs_mmcv``: from a pack of the first (short side 256), mmcv from its files
- ``dataloader_vs_mmcv``, ``dataloader_vs_torchvision``, ``dataloader_raw_vs_mmcv``: the first and its raw pack through
  a DataLoader with 2 workers and batches of 32
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from loader_pictures import write_pictures
from loader_rivals import SIDE, Limit, MMDataset, TorchvisionDataset
from mmengine.dataset import default_collate
from seeds import hardware
from torch.utils.data import DataLoader

from mlcls.datasets import EpochSampler, MultiLabelDataset, collate_batch, init_worker
from mlcls.datasets.packs import PackJob, PackSettings, write_pack
from mlcls.fileio import write_json
from mlcls.structures import SampleIndex

#: Sizes of the pictures by the name of their folder: width, height, number.
PICTURES = {'small': (500, 375, 64), 'large': (1024, 768, 32), 'zoom': (2048, 1536, 12)}
ALL, CENTRE = (0.08, 1.0), (0.4, 1.0)
BATCH, WORKERS = 32, 2
#: A run of a number of images; gives their number and the seconds they took.
Run = Callable[[], tuple[int, float]]
#: By the key of the result: (group of runs, faster, slower).
RATIOS = {
    'vs_torchvision': ('small', 'ours', 'torchvision'),
    'vs_mmcv': ('small', 'ours', 'mmcv'),
    'vs_limit': ('small', 'ours', 'limit'),
    'large_vs_mmcv': ('large', 'ours', 'mmcv'),
    'large_zoom_vs_mmcv': ('zoom', 'ours', 'mmcv'),
    'jpeg_pack_vs_mmcv': ('small', 'jpeg pack', 'mmcv'),
    'raw_pack_vs_mmcv': ('small', 'raw pack', 'mmcv'),
    'dataloader_vs_mmcv': ('loader', 'ours', 'mmcv'),
    'dataloader_vs_torchvision': ('loader', 'ours', 'torchvision'),
    'dataloader_raw_vs_mmcv': ('loader', 'raw pack', 'mmcv'),
}


def our_dataset(ann_file: Path, scale: tuple[float, float]) -> MultiLabelDataset:
    """The dataset with the pipeline of the configs."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=SIDE, crop_ratio_range=scale),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='PackInputs'),
    ]
    return MultiLabelDataset(str(ann_file), pipeline=pipeline)


def rivals(ann_file: Path, scale: tuple[float, float]) -> dict[str, Any]:
    """Datasets of the others about the same files."""
    listed = json.loads(ann_file.read_text())['data_list']
    paths = [str(ann_file.parent / each['img_path']) for each in listed]
    labels = [each['gt_label'] for each in listed]
    return {
        'mmcv': MMDataset(paths, labels, scale),
        'torchvision': TorchvisionDataset(paths, labels, scale),
        'limit': Limit(paths, scale),
    }


def make_pack(dataset: MultiLabelDataset, path: Path, raw: bool) -> MultiLabelDataset:
    """A dataset of the same images from a pack."""
    paths = [str(Path(dataset.img_root) / each) for each in dataset.annotations.img_paths]
    write_pack(path, PackJob(dataset.annotations, paths, PackSettings(short_side=256, raw=raw)))
    return our_dataset(path, ALL)


class OneCore:
    """A run in this process, in the time that it has the core for, so that other processes disturb it less.

    Args:
        load: Loads an image, given its number and the number of the draw.
        count: How many images there are.
    """

    def __init__(self, load: Callable[[int, int], Any], count: int) -> None:
        self.load, self.count, self.draw = load, count, 0

    def __call__(self) -> tuple[int, float]:
        started = time.process_time()
        for number in range(self.count):
            self.load(number, self.draw + number)
        self.draw += self.count
        return self.count, time.process_time() - started


def ours_on_one_core(dataset: MultiLabelDataset) -> OneCore:
    """Ours, into a batch that is there already."""
    places = np.empty((BATCH, SIDE, SIDE, 3), np.uint8)
    return OneCore(
        lambda number, draw: dataset.load(SampleIndex(number, (0, 0, draw)), places[draw % BATCH]), len(dataset)
    )


def theirs_on_one_core(rival: Any) -> OneCore:
    """Theirs, image for image."""
    load = rival if isinstance(rival, Limit) else rival.__getitem__
    return OneCore(lambda number, draw: load(number), len(rival.paths))


def through_loader(dataset: Any, collate: Callable[..., Any] | None, epochs: int) -> Run:
    """A run through a DataLoader, from its first batch on, without the start of its workers."""

    def indices() -> Iterator[int]:
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            yield from sampler

    def run() -> tuple[int, float]:
        loader = DataLoader(
            dataset,
            BATCH,
            sampler=list(indices()),
            num_workers=WORKERS,
            collate_fn=collate,
            worker_init_fn=init_worker,
            multiprocessing_context='fork',
        )
        batches = iter(loader)
        for _ in range(2 * WORKERS):  # those that were made while the workers started
            next(batches)
        started, count = time.perf_counter(), 0
        for _ in batches:
            count += BATCH
        return count, time.perf_counter() - started

    sampler = EpochSampler(dataset, seed=0)
    return run


def measure(runs: dict[str, Run], rounds: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """Images a second of each run in each round, after rounds that do not count."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-warm_ups, rounds):
        for name, run in runs.items():
            count, seconds = run()
            if number >= 0:
                found[name].append(count / seconds)
    return found


def prepare(folder: Path, quick: bool) -> Iterator[tuple[str, dict[str, Run]]]:
    """The groups of runs, each when its files are there."""
    files = {}
    for name, (width, height, count) in PICTURES.items():
        count = count if not quick else 8 if name == 'small' else 1
        files[name] = write_pictures(folder / name, width, height, count)
    small, others = our_dataset(files['small'], ALL), rivals(files['small'], ALL)
    jpeg = make_pack(small, folder / 'jpeg.pack', raw=False)
    raw = make_pack(small, folder / 'raw.pack', raw=True)
    ours = {'ours': small, 'jpeg pack': jpeg, 'raw pack': raw}
    per_core = {name: ours_on_one_core(dataset) for name, dataset in ours.items()}
    yield 'small', {**per_core, **{name: theirs_on_one_core(rival) for name, rival in others.items()}}
    for name, scale in (('large', ALL), ('zoom', CENTRE)):
        rival = theirs_on_one_core(rivals(files[name], scale)['mmcv'])
        yield name, {'ours': ours_on_one_core(our_dataset(files[name], scale)), 'mmcv': rival}
    loader = partial(through_loader, epochs=24)
    yield (
        'loader',
        {
            'ours': loader(small, collate_batch),
            'jpeg pack': loader(jpeg, collate_batch),
            'raw pack': loader(raw, collate_batch),
            'mmcv': loader(others['mmcv'], default_collate),
            'torchvision': loader(others['torchvision'], None),
        },
    )


def summary(found: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """The ratios, and the median speeds, from the speeds of each run in each round, by group."""
    ratios = {
        key: round(statistics.median(a / b for a, b in zip(found[group][fast], found[group][slow])), 3)
        for key, (group, fast, slow) in RATIOS.items()
        if group in found
    }
    speeds = {
        group: {name: round(statistics.median(values), 1) for name, values in runs.items()}
        for group, runs in found.items()
    }
    return {**ratios, 'images_per_second': speeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15, help='rounds per core; a third as many through the loader')
    parser.add_argument('--quick', action='store_true', help='one round of few images, to see that it runs')
    parser.add_argument('--only', nargs='+', help='groups to run: small, large, zoom, loader')
    parser.add_argument('--out', metavar='FILE', help='write the line to a file, too')
    options = parser.parse_args()
    init_worker()
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for group, runs in prepare(Path(folder), options.quick):
            if options.only and group not in options.only:
                continue
            rounds = 1 if options.quick else max(options.rounds // 3, 1) if group == 'loader' else options.rounds
            found[group] = measure(runs, rounds, warm_ups=0 if options.quick else 1)
            for name, speeds in found[group].items():
                print(f'{group:8} {name:12} {statistics.median(speeds):9.0f} images/s')
    versions = {'torch': torch.__version__, 'cv2': cv2.__version__}
    line = {'benchmark': 'loader', **summary(found), 'hardware': hardware(), **versions}
    if options.out:
        write_json(options.out, line)
    print(json.dumps(line))


if __name__ == '__main__':
    main()
