#!/usr/bin/env python
"""Heads and backbones side by side, with several seeds; writes the tables of docs/heads.md.

python tools/benchmarks/compare_heads.py --study dependence
python tools/benchmarks/compare_heads.py --study transfer --aquarium DIR --weights mobilenet_v2.pth
python tools/benchmarks/compare_heads.py --study sizes --aquarium DIR --weights mobilenet_v2.pth
python tools/benchmarks/compare_heads.py --tables-only

dependence: heads on Panels, whose labels depend on each other in a known way. transfer: MobileNetV2 with ImageNet
weights on photographs of an aquarium, frozen, fine-tuned and from random weights, under four heads. sizes: ResNet-18,
ResNet-50 and the frozen MobileNetV2 with 100, 300 and all training photographs. DIR has labels.csv with its own split
column.

Runs that are done are kept in work_dirs/compare_heads and not repeated; delete the folder to start afresh.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from runs import ROOT, Experiment, Record, run_all
from seeds import hardware

WORK = ROOT / 'work_dirs/compare_heads'
RESULTS = ROOT / 'docs/results/heads'
STUDIES = ('dependence', 'transfer', 'sizes')
METRICS = ('mAP', 'CF1', 'OF1', 'subset_accuracy')
#: Data and weights of the studies on photographs, handed to the processes of the runs.
AQUARIUM, WEIGHTS = 'MLCLS_AQUARIUM', 'MLCLS_MOBILENET'

PANELS = 'configs/resnet18w16_panels.py'
PHOTOGRAPHS = 'configs/mobilenetv2_aquarium.py'
#: Epochs on Panels; side of the photographs and epochs of the study of transfer; side and steps of that of sizes.
PANEL_EPOCHS = 5
SIDE, EPOCHS = 96, 8
FEW_SIDE, STEPS = 64, 100


def pooled(kind: str, **settings: Any) -> dict[str, Any]:
    """Options for a head on pooled features."""
    return {'model.head': {'_delete_': True, 'type': kind, **settings}}


def on_maps(kind: str, **settings: Any) -> dict[str, Any]:
    """Options for a head on feature maps."""
    return {**pooled(kind, **settings), 'model.neck': None}


def attention_sizes() -> dict[str, Any]:
    """Of the two heads with attention: the papers' widths are for far more images."""
    return dict(embed_dims=256, num_heads=4, feedforward_channels=512)


def dependence() -> list[Experiment]:
    """Every head that models labels together, and two that do not."""
    size = dict(num_classes=12, in_channels=128)
    heads = {
        'chain_greedy': pooled('ClassifierChainHead', **size),
        'chain_ensemble': pooled('ClassifierChainHead', num_chains=5, inference='probabilistic', **size),
        'sequence': pooled('LabelSequenceHead', inference='sequence', **size),
        'powerset_joint': pooled('LabelPowersetHead', inference='joint', **size),
        'powerset_marginals': pooled('LabelPowersetHead', **size),
        'exclusive_groups': pooled(
            'ExclusiveGroupsHead', groups=[dict(labels=[3 * g, 3 * g + 1, 3 * g + 2]) for g in range(4)], **size
        ),
        'query2label': on_maps('Query2LabelHead', **size, **attention_sizes()),
        'ml_decoder': on_maps('MLDecoderHead', **size, **attention_sizes()),
        'gcn': pooled('GCNHead', **size),
        'linear': {},
    }
    # The last epoch is tested, so validation is only made there.
    last = {'train_cfg.val_interval': PANEL_EPOCHS, 'default_hooks.checkpoint.interval': -1}
    # Attention wants a gentler rate than one layer.
    slow = {'optim_wrapper.optimizer.lr': 1e-3}
    return [
        Experiment(
            f'dependence_{name}',
            PANELS,
            {**schedule(PANEL_EPOCHS), **last, **options, **(slow if name in ('query2label', 'ml_decoder') else {})},
        )
        for name, options in heads.items()
    ]


def photographs(side: int) -> dict[str, Any]:
    """Where the photographs are, and their size in pixels."""
    loaders = {name: f'{name}_dataloader' for name in ('train', 'val', 'test')}
    found: dict[str, Any] = {}
    for name, loader in loaders.items():
        dataset = f'{loader}.dataset.dataset' if name == 'train' else f'{loader}.dataset'
        found[f'{dataset}.data_root'] = os.environ.get(AQUARIUM, 'data/aquarium')
        found[f'{dataset}.pipeline.1.scale'] = side if name == 'train' else (side, side)
        found[f'{loader}.num_workers'] = 1
    return found


def schedule(epochs: int) -> dict[str, Any]:
    """Warm-up of one epoch in ten, cosine afterwards."""
    warm = max(epochs // 10, 1)
    return {
        'train_cfg.max_epochs': epochs,
        'param_scheduler.0.end': warm,
        'param_scheduler.1.begin': warm,
        'param_scheduler.1.T_max': epochs - warm,
        'param_scheduler.1.end': epochs,
    }


def transfer() -> list[Experiment]:
    """Three ways to start, four heads."""
    weights = os.environ.get(WEIGHTS, 'torchvision://mobilenet_v2')
    ways = {
        'full': {'model.backbone.weights': weights},
        'scratch': {'model.backbone.weights': None},
        'frozen': {'model.backbone.weights': weights, 'model.backbone.frozen': True},
    }
    size = dict(num_classes=7, in_channels=1280)
    heads = {
        'query2label': (on_maps('Query2LabelHead', **size, **attention_sizes()), 3e-4),
        'ml_decoder': (on_maps('MLDecoderHead', **size, **attention_sizes()), 3e-4),
        'csra': (on_maps('CSRAClsHead', num_heads=1, lam=0.1, **size), 1e-3),
        'linear': ({}, 1e-3),
    }
    return [
        Experiment(
            f'transfer_{way}_{name}',
            PHOTOGRAPHS,
            {**photographs(SIDE), **schedule(EPOCHS), **options, **start, 'optim_wrapper.optimizer.lr': rate},
        )
        for way, start in ways.items()
        for name, (options, rate) in heads.items()
    ]


def sizes() -> list[Experiment]:
    """Three networks, three amounts of data, the same number of steps."""
    weights = os.environ.get(WEIGHTS, 'torchvision://mobilenet_v2')
    networks: dict[str, dict[str, Any]] = {
        'resnet50': {'model.backbone': dict(_delete_=True, type='ResNet', depth=50), 'model.head.in_channels': 2048},
        'resnet18': {'model.backbone': dict(_delete_=True, type='ResNet', depth=18), 'model.head.in_channels': 512},
        'frozen_mobilenetv2': {'model.backbone.weights': weights, 'model.backbone.frozen': True},
    }
    amounts = {'all': (None, 448), '300': (300, 300), '100': (100, 100)}
    found = []
    for network, options in networks.items():
        for amount, (indices, count) in amounts.items():
            few = {} if indices is None else {'train_dataloader.dataset.dataset.indices': indices}
            epochs = max(round(STEPS / (count // 16)), 2)
            interval = {'train_cfg.val_interval': max(epochs // 5, 1)}
            settings = {**photographs(FEW_SIDE), **schedule(epochs), **interval, **few, **options}
            found.append(
                Experiment(f'sizes_{network}_{amount}', PHOTOGRAPHS, {**settings, 'optim_wrapper.optimizer.lr': 1e-3})
            )
    return found


def experiments(study: str | None = None) -> list[Experiment]:
    """Those of one study, or of all."""
    made = {'dependence': dependence, 'transfer': transfer, 'sizes': sizes}
    return [experiment for name in ([study] if study else STUDIES) for experiment in made[name]()]


def run_one(experiment: Experiment, seed: int) -> Record:
    """Train and test in this process.

    Panels are decided at a score of .5; photographs at the thresholds chosen on their validation part.
    """
    import torch

    from mlcls.apis import TestFlags, TrainFlags, test, train

    torch.set_num_threads(1)
    panels = experiment.config == PANELS
    folder = WORK / f'{experiment.name}_{seed}'
    started = time.perf_counter()
    work_dir = train(ROOT / experiment.config, TrainFlags(work_dir=str(folder), seed=seed), experiment.options)
    seconds = round(time.perf_counter() - started, 1)
    evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='ExactMatchMetric')]
    flags = TestFlags(thresholds='0.5' if panels else 'fitted', bootstrap=0, out=folder / 'results.json')
    metrics = test(work_dir, options={'test_evaluator': evaluator}, flags=flags).metrics
    found = {name: round(metrics[f'multi-label/{name}'], 2) for name in METRICS}
    return {'seed': seed, 'train_seconds': seconds, **found}


def limits() -> dict[str, float]:
    """The best subset accuracy on the test part of Panels: of single labels at .5, and of whole label sets."""
    import numpy as np

    from mlcls.datasets.panels import LABEL_SETS, PanelsSpec, draw_colours, draw_shades, posterior

    spec = PanelsSpec()
    rng = np.random.default_rng([spec.seed, 3])
    colours = draw_colours(rng, spec.num_test)
    truth = np.eye(3, dtype=np.int8)[colours].reshape(-1, 12)
    found = posterior(draw_shades(rng, colours))
    single = ((found @ LABEL_SETS >= 0.5) == truth).all(1).mean()
    joint = (LABEL_SETS[found.argmax(1)] == truth).all(1).mean()
    return {'single_labels': round(100 * float(single), 2), 'label_sets': round(100 * float(joint), 2)}


def neighbours(sheet: Path, distance: int = 3) -> dict[str, int]:
    """How many test photographs have a training photograph of nearly the same number (``IMG_2274``) in the camera.

    Args:
        sheet: labels.csv of the photographs, with the columns filename and split.
        distance: Largest difference of numbers that counts as near.
    """
    import csv
    import re

    numbers: dict[str, list[int]] = {'train': [], 'test': []}
    with sheet.open(newline='') as file:
        for row in csv.DictReader(file):
            match = re.search(r'IMG_(\d+)', row['filename'])
            if match and row['split'] in numbers:
                numbers[row['split']].append(int(match.group(1)))
    gaps = [min(abs(number - other) for other in numbers['train']) for number in numbers['test']]
    return {
        'test': len(gaps),
        'distance': distance,
        'close': sum(gap <= distance for gap in gaps),
        'next': sum(gap <= 1 for gap in gaps),
    }


def compare(study: str, seeds: list[int], jobs: int, only: list[str] | None) -> dict[str, Any]:
    """Run a study; returns its artifact."""
    import torch

    chosen = [experiment for experiment in experiments(study) if only is None or experiment.name in only]
    records = run_all(
        __file__, chosen, seeds, jobs, WORK, lambda record: f'mAP {record["mAP"]}, {record["train_seconds"]} s'
    )
    return {
        'study': study,
        'hardware': hardware(),
        'torch': torch.__version__,
        'jobs': jobs,
        **({'limits': limits()} if study == 'dependence' else {}),
        **({'neighbours': neighbours(Path(os.environ[AQUARIUM]) / 'labels.csv')} if study == 'transfer' else {}),
        'experiments': {e.name.removeprefix(f'{study}_'): {'runs': records[e.name]} for e in chosen},
    }


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--study', choices=STUDIES, help='one of them; all if left out')
    parser.add_argument('--aquarium', type=Path, help='folder of the photographs')
    parser.add_argument('--weights', type=Path, help='ImageNet weights of MobileNetV2 in the names of torchvision')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=max(len(os.sched_getaffinity(0)), 1), help='runs at a time')
    parser.add_argument('--only', nargs='+', help='names of experiments, to try things; no tables are written')
    parser.add_argument('--tables-only', action='store_true', help='write the tables from the artifacts there are')
    parser.add_argument('--run', help=argparse.SUPPRESS)
    parser.add_argument('--to', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name, value in ((AQUARIUM, args.aquarium), (WEIGHTS, args.weights)):
        if value is not None:
            os.environ[name] = str(value.resolve())
    if args.run:
        chosen = next(experiment for experiment in experiments() if experiment.name == args.run)
        args.to.write_text(json.dumps(run_one(chosen, args.seeds[0])) + '\n')
        return
    if not args.tables_only and args.study != 'dependence' and not (args.aquarium and args.weights):
        parser.error('--aquarium and --weights are needed: where the photographs and the ImageNet weights are')
    for study in [] if args.tables_only else [args.study] if args.study else STUDIES:
        result = compare(study, args.seeds, args.jobs, args.only)
        if args.only:
            return
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f'{study}.json').write_text(json.dumps(result, indent=1) + '\n')
    from head_tables import write_page

    write_page()


if __name__ == '__main__':
    main()
