#!/usr/bin/env python
"""Train and test a config with several seeds, and write what came out into docs/results and the config's docstring.

python tools/benchmarks/seeds.py configs/resnet50_ml.py --seeds 0 1 2
python tools/benchmarks/seeds.py --tables-only
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / 'docs/results'
METRICS = ('mAP', 'CF1', 'OF1', 'CP', 'CR', 'OP', 'OR', 'macro_F1')
#: The part of a docstring that this command owns.
BLOCK = re.compile(r'\n\nResult .*?(?=\n\n|\Z)', re.DOTALL)


def hardware() -> str:
    """What the numbers were made on, in a few words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        found = re.search(r'model name\s*:\s*(.+)', cpuinfo.read_text())
        name = found.group(1).strip() if found else name
    return f'{len(os.sched_getaffinity(0))} cores of {name}, no GPU'


def run_seed(config: Path, seed: int, extra: list[str]) -> dict:
    """Train and test once; returns the metrics and the seconds both took."""
    work_dir = ROOT / 'work_dirs/seeds' / f'{config.stem}_{seed}'
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', config, '--seed', str(seed), '--work-dir', work_dir, *extra],
        check=True,
    )
    trained = time.perf_counter()
    out = work_dir / 'results.json'
    # The tables are of thresholds of 0.5, whatever was fitted.
    command = [
        sys.executable,
        ROOT / 'tools/test.py',
        work_dir,
        '--thresholds',
        '0.5',
        '--bootstrap',
        '0',
        '--out',
        out,
    ]
    subprocess.run(command, check=True)
    tested = time.perf_counter()
    metrics = {
        name.removeprefix('multi-label/'): value for name, value in json.loads(out.read_text())['metrics'].items()
    }
    return {
        'seed': seed,
        'train_seconds': round(trained - started, 1),
        'test_seconds': round(tested - trained, 1),
        'metrics': {name: round(metrics[name], 2) for name in METRICS},
    }


def spread(runs: list[dict], name: str) -> str:
    """Mean and sample standard deviation over the seeds."""
    values = [run['metrics'][name] for run in runs]
    return f'{statistics.mean(values):.1f} +- {statistics.stdev(values) if len(values) > 1 else 0:.1f}'


def block(result: dict) -> str:
    """The lines about the result in a config's docstring."""
    runs = result['runs']
    minutes = statistics.mean(run['train_seconds'] + run['test_seconds'] for run in runs) / 60
    seeds = ', '.join(str(run['seed']) for run in runs)
    return (
        f'\n\nResult (test set, mean and deviation over seeds {seeds}): mAP {spread(runs, "mAP")},\n'
        f'CF1 {spread(runs, "CF1")}, '
        f'OF1 {spread(runs, "OF1")} at threshold 0.5; {minutes:.1f} minutes for training and test on '
        f'{result["hardware"]}.'
    )


def write_docstring(config: Path, result: dict) -> None:
    """Put the result into the config's docstring, in place of an older one."""
    text = config.read_text()
    head, docstring, rest = re.split(r'(""".*?""")', text, maxsplit=1, flags=re.DOTALL)
    body = BLOCK.sub('', docstring[3:-3]).rstrip()
    config.write_text(f'{head}"""{body}{block(result)}\n"""{rest}')


def write_table(target: Path = RESULTS / 'README.md') -> None:
    """One table over all result files."""
    lines = [
        '# Results',
        '',
        'Written by `python tools/benchmarks/seeds.py` from the JSON files in this folder. Test set, mean +-',
        'standard deviation over seeds; threshold 0.5 for all but mAP.',
        '',
        '| config | seeds | ' + ' | '.join(METRICS) + ' | minutes | hardware |',
        '|' + '---|' * (len(METRICS) + 4),
    ]
    for path in sorted(RESULTS.glob('*.json')):
        result = json.loads(path.read_text())
        runs = result['runs']
        minutes = statistics.mean(run['train_seconds'] + run['test_seconds'] for run in runs) / 60
        cells = [
            f'`{result["config"]}`',
            str(len(runs)),
            *(spread(runs, name) for name in METRICS),
            f'{minutes:.1f}',
            result['hardware'],
        ]
        lines.append('| ' + ' | '.join(cells) + ' |')
    target.write_text('\n'.join(lines) + '\n')


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--tables-only', action='store_true', help='write docstrings and tables from the files there are'
    )
    args, extra = parser.parse_known_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not args.tables_only:
        if args.config is None:
            parser.error('name a config')
        config = args.config.resolve().relative_to(ROOT)
        result = {
            'config': str(config),
            'hardware': hardware(),
            'torch': torch.__version__,
            'arguments': extra,
            'runs': [run_seed(ROOT / config, seed, extra) for seed in args.seeds],
        }
        (RESULTS / f'{config.stem}.json').write_text(json.dumps(result, indent=1) + '\n')
        print(json.dumps({'config': result['config'], **{name: spread(result['runs'], name) for name in METRICS}}))
    for path in RESULTS.glob('*.json'):
        result = json.loads(path.read_text())
        write_docstring(ROOT / result['config'], result)
    write_table()


if __name__ == '__main__':
    main()
