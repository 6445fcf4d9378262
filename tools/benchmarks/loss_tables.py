"""The generated part of docs/losses.md, from the artifacts in docs/results; used by compare_losses.py."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/losses.md'
SPEED = ROOT / 'docs/results/comparison/bench_losses.json'
#: The part of the page between these lines belongs to this file.
BEGIN, END = '<!-- generated: python tools/benchmarks/compare_losses.py --tables-only -->', '<!-- end of generated -->'
#: What one run found under one kind of score, and all runs of an experiment.
Run = dict[str, Any]
Experiments = dict[str, dict[str, Any]]
SCORES = ('calibrated', 'sigmoid')


def values(runs: list[Run], score: str, name: str) -> list[float]:
    """One number of every run."""
    return [run[score][name] for run in runs]


def cell(runs: list[Run], score: str, name: str) -> str:
    """Mean and sample standard deviation."""
    found = values(runs, score, name)
    return f'{statistics.mean(found):.1f} ± {statistics.stdev(found) if len(found) > 1 else 0:.1f}'


def compare(a: list[float], b: list[float]) -> str:
    """Whether a is above, below or not to be told from b: their means differ by more than both deviations together."""
    gap = statistics.mean(a) - statistics.mean(b)
    noise = statistics.stdev(a) + statistics.stdev(b)
    return 'not to be told from' if abs(gap) <= noise else ('above' if gap > 0 else 'below')


def difference(runs: Experiments, a: str, b: str, name: str, score: str = 'sigmoid') -> str:
    """``mAP 80.1, above the 70.2 of ...`` in words."""
    first, second = (values(runs[key]['runs'], score, name) for key in (a, b))
    return f'{statistics.mean(first):.1f}, {compare(first, second)} {statistics.mean(second):.1f}'


def main_table(runs: Experiments) -> list[str]:
    """Every config of configs/losses: mAP, and the numbers at .5 with the link and with the sigmoid."""
    heads = [
        'config',
        'mAP',
        *(f'{name}, link' for name in ('CP', 'CR', 'CF1')),
        *(f'{n}, sigmoid' for n in ('CP', 'CR', 'CF1')),
    ]
    lines = ['| ' + ' | '.join(heads) + ' |', '|' + '---|' * len(heads)]
    losses = {
        name: e for name, e in runs.items() if e['config'].startswith('configs/losses/') and 'without' not in name
    }
    ranked = sorted(losses.items(), key=lambda item: -statistics.mean(values(item[1]['runs'], 'calibrated', 'CF1')))
    for name, experiment in ranked:
        cells = [cell(experiment['runs'], score, metric) for score in SCORES for metric in ('CP', 'CR', 'CF1')]
        lines.append(f'| `{name}` | {cell(experiment["runs"], "calibrated", "mAP")} | ' + ' | '.join(cells) + ' |')
    return lines


def claims(runs: Experiments) -> list[str]:
    """What people read in tutorials, and what came out here."""
    bce = 'bce'
    lines = ['**"Focal and asymmetric loss raise recall and ruin precision at .5."**', '']
    for name in ('focal', 'asymmetric', 'asymmetric_detached'):
        for score in SCORES:
            parts = [f'{metric} {difference(runs, name, bce, metric, score)}' for metric in ('CP', 'CR', 'CF1')]
            lines.append(f'- `{name}`, {score}, against `bce`: ' + '; '.join(parts) + '.')
    lines += ['', '**"ClassBalancedDataset raises recall on rare classes."** The three rarest classes:', '']
    for metric, words in (
        ('recall_of_rare', 'recall of the rare classes'),
        ('CP', 'CP'),
        ('CF1', 'CF1'),
        ('mAP', 'mAP'),
    ):
        lines.append(f'- {words} with it {difference(runs, bce, "bce_without_balancing", metric)} without.')
    lines += ['', '**"Small networks beat big ones on little data."** 600 pictures, from random weights:', '']
    lines += ['| network | mAP | CF1 at .5 | minutes of training |', '|---|---|---|---|']
    for name in ('resnet18w16', 'resnet18', 'resnet50'):
        of_size = runs[f'few_images_{name}']['runs']
        minutes = statistics.mean(run['train_seconds'] for run in of_size) / 60
        cells = [cell(of_size, 'calibrated', 'mAP'), cell(of_size, 'calibrated', 'CF1'), f'{minutes:.1f}']
        lines.append(f'| `{name}` | ' + ' | '.join(cells) + ' |')
    small, big = (values(runs[f'few_images_{n}']['runs'], 'calibrated', 'mAP') for n in ('resnet18', 'resnet50'))
    lines += ['', f'mAP of ResNet-18 is {compare(small, big)} that of ResNet-50 here.']
    return lines


def link_table() -> list[str]:
    """What the sigmoid means after each loss, computed from the links."""
    import torch

    from mlcls.config import load_config
    from mlcls.models.losses import MultiLabelLoss
    from mlcls.registry import MODELS

    half, rare, at_half = torch.zeros(1, 10), torch.tensor([0.01, 0.05]), torch.tensor([0.5])
    lines = [
        '| config | posterior at a sigmoid of .5 | sigmoid where the posterior is .5 | sigmoid of a featureless model, '
        'prevalence 1 % / 5 % |',
        '|---|---|---|---|',
    ]
    for path in sorted((ROOT / 'configs/losses').glob('*.py')):
        loss: MultiLabelLoss = MODELS.build(load_config(path).model.head.loss)
        if not loss.calibrated or any(getattr(loss, name) is not None for name in loss.class_settings):
            continue  # no link, or one that depends on the training labels
        one, two = loss.prior_logits(rare.repeat(5))[:2].sigmoid().tolist()
        middle = loss.prior_logits(at_half.repeat(10))[0].sigmoid().item()
        posterior = loss.link(half)[0, 0].item()
        lines.append(f'| `{path.stem}` | {posterior:.3f} | {middle:.3f} | {one:.3f} / {two:.3f} |')
    return lines


def speed_table() -> list[str]:
    """The committed run of bench_losses.py."""
    if not SPEED.is_file():
        return ['No run of `make bench-losses` is committed.']
    found = json.loads(SPEED.read_text())
    targets = {
        'asymmetric_vs_bce': 3.5,
        'asymmetric_compiled_vs_bce': 2.0,
        'focal_vs_bce': 2.0,
        'asymmetric_memory_vs_eager': 0.5,
    }
    devices = ', '.join(found['devices'].values())
    lines = [f'{devices}, {found["threads"]} thread, torch {found["torch"]}; the worse of both sizes:', '']
    lines += ['| ratio | measured | wanted, at most |', '|---|---|---|']
    return lines + [f'| `{key}` | {found[key]} | {target} |' for key, target in targets.items()]


def page_part(result: dict[str, Any]) -> str:
    """Everything between the marks."""
    runs: Experiments = result['experiments']
    seeds = ', '.join(str(run['seed']) for run in next(iter(runs.values()))['runs'])
    minutes = sum(run['train_seconds'] for e in runs.values() for run in e['runs']) / 60 / result['jobs']
    lines = [
        '## What a sigmoid means',
        '',
        *link_table(),
        '',
        '## Measured side by side',
        '',
        'MultiDigits, ResNet-18 of a quarter of the width, one recipe for all (`configs/resnet18w16_ml.py`); test set, '
        f'mean ± standard deviation over seeds {seeds}; threshold .5. {minutes:.0f} minutes of training on '
        f'{result["hardware"]}. Sorted by CF1 with the link.',
        '',
        *main_table(runs),
        '',
        'Labels of MultiDigits are complete, so losses made for missing labels have nothing to gain here; the learning '
        'rate was chosen on `bce`.',
        '',
        '## Three things people read in tutorials',
        '',
        '"Above" and "below": the means differ by more than both standard deviations together.',
        '',
        *claims(runs),
        '',
        '## Speed and memory',
        '',
        *speed_table(),
    ]
    return '\n'.join(lines)


def write_page(result: dict[str, Any], page: Path = PAGE) -> None:
    """Put the tables into the page, in place of older ones."""
    text = page.read_text()
    pattern = re.compile(re.escape(BEGIN) + '.*' + re.escape(END), re.DOTALL)
    part = f'{BEGIN}\n\n{page_part(result)}\n\n{END}'
    page.write_text(pattern.sub(lambda _: part, text))
