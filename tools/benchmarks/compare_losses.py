#!/usr/bin/env python
"""Train every config in configs/losses under one recipe with several seeds, and write the tables of docs/losses.md.

python tools/benchmarks/compare_losses.py --jobs 2
python tools/benchmarks/compare_losses.py --tables-only

Runs that are done are kept in work_dirs/compare_losses and not repeated; delete the folder to start afresh. Each run
is a process of one thread, so that several share a machine without waiting for each other.
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

WORK = ROOT / 'work_dirs/compare_losses'
ARTIFACT = ROOT / 'docs/results/comparison/losses.json'
METRICS = ('mAP', 'CP', 'CR', 'CF1', 'OP', 'OR', 'OF1')
#: Validation only after the last epoch, which is the one that is tested; everything else is the config's.
COMMON = {'train_dataloader.num_workers': 1, 'default_hooks.checkpoint.interval': -1}
#: Classes whose recall is called that of the rare ones.
RARE = 3
#: Images and epochs of the comparison of networks on little data.
FEW, FEW_EPOCHS = 600, 20


def experiments() -> list[Experiment]:
    """Everything that is compared."""
    losses = [
        Experiment(path.stem, str(path.relative_to(ROOT))) for path in sorted((ROOT / 'configs/losses').glob('*.py'))
    ]
    # A threshold that no class is below repeats nothing: the same wrapper without its effect.
    plain = Experiment(
        'bce_without_balancing', 'configs/losses/bce.py', {'train_dataloader.dataset.oversample_thr': 1e-6}
    )
    few = {
        'train_dataloader.dataset.dataset.indices': FEW,
        'train_cfg.max_epochs': FEW_EPOCHS,
        'param_scheduler.1.T_max': FEW_EPOCHS - 2,
        'param_scheduler.1.end': FEW_EPOCHS,
        'optim_wrapper.optimizer': dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    }
    sizes = [
        Experiment(f'few_images_{name}', f'configs/{name}_ml.py', few)
        for name in ('resnet18w16', 'resnet18', 'resnet50')
    ]
    return [*losses, plain, *sizes]


def run_one(experiment: Experiment, seed: int) -> dict[str, Any]:
    """Train and test in this process; the test twice, with the link of the loss and with the sigmoid."""
    import torch

    from mlcls.apis import TestFlags, TrainFlags, test, train

    torch.set_num_threads(1)
    options = {**experiment.options, **COMMON}
    options.setdefault('train_cfg.max_epochs', 8)
    options['train_cfg.val_interval'] = options['train_cfg.max_epochs']
    folder = WORK / f'{experiment.name}_{seed}'
    started = time.perf_counter()
    work_dir = train(ROOT / experiment.config, TrainFlags(work_dir=str(folder), seed=seed), options)
    record: dict[str, Any] = {'seed': seed, 'train_seconds': round(time.perf_counter() - started, 1)}
    for score in ('calibrated', 'sigmoid'):
        flags = TestFlags(thresholds='0.5', bootstrap=0, out=folder / f'{score}.json')
        result = test(work_dir, options={'model.head.score': score}, flags=flags)
        found = {name: round(result.metrics[f'multi-label/{name}'], 2) for name in METRICS}
        record[score] = {**found, 'recall_of_rare': round(recall_of_rare(result), 2)}
    return record


def shown(record: Record) -> str:
    """What the console says of a run."""
    return f'mAP {record["calibrated"]["mAP"]}, {record["train_seconds"]} s'


def recall_of_rare(result: Any) -> float:
    """Mean recall, in percent, of the classes with fewest positives in the test set."""
    rarest = sorted(range(len(result.classes)), key=lambda c: result.positives[c])[:RARE]
    recalls = result.per_class['multi-label/R_classwise']
    return sum(recalls[c] for c in rarest) / len(rarest)


def compare_all(seeds: list[int], jobs: int, only: list[str] | None) -> dict[str, Any]:
    """Run every experiment with every seed."""
    import torch

    chosen = [experiment for experiment in experiments() if only is None or experiment.name in only]
    order = sorted(chosen, key=lambda experiment: 'resnet50' not in experiment.config)
    records = run_all(__file__, order, seeds, jobs, WORK, shown)
    return {
        'hardware': hardware(),
        'torch': torch.__version__,
        'jobs': jobs,
        'experiments': {
            experiment.name: {
                'config': experiment.config,
                'loss': loss_of(experiment),
                'runs': records[experiment.name],
            }
            for experiment in chosen
        },
    }


def loss_of(experiment: Experiment) -> str:
    """The loss of a config as one would write it."""
    from mlcls.config import load_config

    cfg = load_config(ROOT / experiment.config).model.head.loss.to_dict()
    return described(cfg)


def described(cfg: dict[str, Any]) -> str:
    """``Type(argument=value)``."""
    if cfg['type'] == 'WeightedSum':
        parts = zip(cfg['weights'], cfg['losses'])
        return ' + '.join(f'{weight:g} {described(dict(part))}' for weight, part in parts)
    arguments = ', '.join(f'{key}={value!r}' for key, value in cfg.items() if key != 'type')
    return f'{cfg["type"]}({arguments})'


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=max(len(os.sched_getaffinity(0)), 1), help='runs at a time')
    parser.add_argument('--only', nargs='+', help='names of experiments, to try things; no tables are written')
    parser.add_argument('--tables-only', action='store_true', help='write the tables from the artifact there is')
    parser.add_argument('--run', help=argparse.SUPPRESS)
    parser.add_argument('--to', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        chosen = next(experiment for experiment in experiments() if experiment.name == args.run)
        record = run_one(chosen, args.seeds[0])
        args.to.write_text(json.dumps(record) + '\n')
        return
    if not args.tables_only:
        result = compare_all(args.seeds, args.jobs, args.only)
        if args.only:
            return
        ARTIFACT.parent.mkdir(parents=True, exist_ok=True)
        ARTIFACT.write_text(json.dumps(result, indent=1) + '\n')
    from loss_tables import write_page

    write_page(json.loads(ARTIFACT.read_text()))


if __name__ == '__main__':
    main()
