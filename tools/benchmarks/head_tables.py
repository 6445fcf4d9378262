"""The generated part of docs/heads.md, from the artifacts in docs/results/heads; used by compare_heads.py."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

from loss_tables import compare

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/heads.md'
RESULTS = ROOT / 'docs/results/heads'
SPEED = RESULTS / 'bench_models.json'
#: The part of the page between these lines belongs to this file.
BEGIN, END = '<!-- generated: python tools/benchmarks/compare_heads.py --tables-only -->', '<!-- end of generated -->'
Runs = list[dict[str, Any]]
Study = dict[str, Any]


def values(runs: Runs, name: str) -> list[float]:
    """One number of every run."""
    return [run[name] for run in runs]


def cell(runs: Runs, name: str) -> str:
    """Mean and sample standard deviation."""
    found = values(runs, name)
    return f'{statistics.mean(found):.1f} ± {statistics.stdev(found) if len(found) > 1 else 0:.1f}'


def minutes(runs: Runs) -> str:
    """Mean minutes of a training."""
    return f'{statistics.mean(values(runs, "train_seconds")) / 60:.1f}'


def about(study: Study) -> str:
    """Seeds and hardware in a sentence."""
    runs: Runs = next(iter(study['experiments'].values()))['runs']
    seeds = ', '.join(str(run['seed']) for run in runs)
    return f'Test set, mean ± standard deviation over seeds {seeds}; {study["hardware"]}, one thread a training.'


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    return [
        '| ' + ' | '.join(heads) + ' |',
        '|' + '---|' * len(heads),
        *('| ' + ' | '.join(row) + ' |' for row in rows),
    ]


def runs_of(study: Study) -> dict[str, Runs]:
    """The runs by experiment."""
    return {name: experiment['runs'] for name, experiment in study['experiments'].items()}


def dependence(study: Study) -> list[str]:
    """Subset accuracy on Panels, beside what is possible."""
    runs = runs_of(study)
    ranked = sorted(runs, key=lambda name: -statistics.mean(values(runs[name], 'subset_accuracy')))
    linear = values(runs['linear'], 'subset_accuracy')
    rows = []
    for name in ranked:
        gain = statistics.mean(values(runs[name], 'subset_accuracy')) - statistics.mean(linear)
        verdict = '' if name == 'linear' else f'{gain:+.1f}, {compare(values(runs[name], "subset_accuracy"), linear)}'
        rows.append(
            [f'`{name}`', cell(runs[name], 'subset_accuracy'), verdict, cell(runs[name], 'mAP'), minutes(runs[name])]
        )
    limit = study['limits']
    return [
        '## Labels that depend on each other',
        '',
        'Panels (`mlcls.datasets.panels`): the joint distribution of labels and pictures is known, and with it the '
        f'best subset accuracy: {limit["single_labels"]:.1f} of a classifier that decides each label by its own '
        f'probability at .5, {limit["label_sets"]:.1f} of one that takes the most probable label set. {about(study)}',
        '',
        *table(['head', 'subset accuracy', 'against `linear`', 'mAP', 'minutes'], rows),
    ]


def transfer(study: Study) -> list[str]:
    """MobileNetV2 on photographs: mAP by start and head."""
    runs = runs_of(study)
    ways = {'frozen': 'frozen ImageNet features', 'full': 'ImageNet weights, all trained', 'scratch': 'random weights'}
    heads = ('linear', 'csra', 'ml_decoder', 'query2label')
    rows = [
        [
            f'`{head}`',
            words,
            *(cell(runs[f'{way}_{head}'], n) for n in ('mAP', 'CF1', 'OF1')),
            minutes(runs[f'{way}_{head}']),
        ]
        for way, words in ways.items()
        for head in heads
    ]
    lines = []
    for way, words in ways.items():
        own = [
            f'`{h}` {compare(values(runs[f"{way}_{h}"], "mAP"), values(runs[f"{way}_linear"], "mAP"))} `linear`'
            for h in heads[1:]
        ]
        lines.append(f'- {words}: mAP of ' + ', '.join(own) + '.')
    for way in ('frozen', 'scratch'):
        verdict = compare(values(runs['full_linear'], 'mAP'), values(runs[f'{way}_linear'], 'mAP'))
        lines.append(f'- `linear`, all trained from ImageNet weights, is {verdict} {ways[way]}.')
    return [
        '## Transfer to photographs',
        '',
        'MobileNetV2 on Aquarium (448 training photographs at 96 pixels, 7 classes, the official split), 8 epochs, '
        f'the epoch and thresholds chosen on the validation part. {about(study)}',
        '',
        *table(['head', 'start', 'mAP', 'CF1', 'OF1', 'minutes'], rows),
        '',
        *lines,
        '',
        *neighbours(study['neighbours']),
    ]


def neighbours(found: dict[str, int]) -> list[str]:
    """What it means that the same scenes are in training and test part."""
    return [
        '**What these numbers are worth.** The photographs were taken in series: '
        f'{found["close"]} of the {found["test"]} in the test part have one in the training part whose number in the '
        f'camera is at most {found["distance"]} away, {found["next"]} a direct neighbour. '
        'The official split mixed them, so the numbers say how well a network '
        'recognises scenes of which it has seen another moment; they rank heads under one condition and are no '
        'estimate for another aquarium. For that, keep series together: `tools/split_data.py --group-regex` or '
        '`--keep-duplicates-together`.',
    ]


def sizes(study: Study) -> list[str]:
    """Small and big networks on few and more images."""
    runs = runs_of(study)
    networks = {
        'resnet18': 'ResNet-18, random weights',
        'resnet50': 'ResNet-50, random weights',
        'frozen_mobilenetv2': 'MobileNetV2, frozen ImageNet features',
    }
    amounts = ('100', '300', 'all')
    rows = [
        [words, *(cell(runs[f'{network}_{amount}'], 'mAP') for amount in amounts), minutes(runs[f'{network}_all'])]
        for network, words in networks.items()
    ]
    lines = []
    for amount in amounts:
        own = {name: values(runs[f'{name}_{amount}'], 'mAP') for name in networks}
        lines.append(
            f'- {amount} photographs: ResNet-18 {compare(own["resnet18"], own["resnet50"])} ResNet-50; the frozen '
            f'pretrained network {compare(own["frozen_mobilenetv2"], own["resnet18"])} ResNet-18.'
        )
    return [
        '## Small and big networks on little data',
        '',
        'Aquarium at 64 pixels, linear head, about 100 steps of 16 photographs for all, one learning rate. mAP; '
        f'minutes with all photographs. {about(study)}',
        '',
        *table(['network', *(f'{a} photographs' if a != 'all' else 'all 448' for a in amounts), 'minutes'], rows),
        '',
        *lines,
    ]


def speed() -> list[str]:
    """The committed run of bench_models.py."""
    if not SPEED.is_file():
        return []
    found = json.loads(SPEED.read_text())
    targets = {
        'resnet50_fp32_vs_bare': 1.03,
        'resnet50_bf16_vs_bare': 1.03,
        'ml_decoder_9600_overhead': 0.15,
        'csra_overhead': 0.03,
        'gcn_overhead': 0.03,
    }
    rows = [[f'`{key}`', str(found[key]), str(target)] for key, target in targets.items()]
    emulated = ', which this processor emulates' if found['bf16_is_emulated'] else ''
    return [
        '## Speed',
        '',
        f'`make bench-models`: a training step of ResNet-50 at {found["side"]} pixels, {found["batch"]} images in '
        f'float32, {found["bf16_batch"]} in bfloat16{emulated}; {found["hardware"]}, medians of {found["rounds"]} '
        'rounds. `vs_bare`: against a '
        "hand-written loop over torchvision's ResNet-50; `overhead`: what a head adds to the step with a linear one.",
        '',
        *table(['', 'measured', 'wanted, at most'], rows),
    ]


PARTS = {'dependence': dependence, 'transfer': transfer, 'sizes': sizes}


def page_part(results: Path = RESULTS) -> str:
    """Everything between the marks; a study without an artifact is left out."""
    lines = ['"Above" and "below": the means differ by more than both standard deviations together.', '']
    for name, part in PARTS.items():
        path = results / f'{name}.json'
        if path.is_file():
            lines += [*part(json.loads(path.read_text())), '']
    lines += speed()
    return '\n'.join(lines).rstrip()


def write_page(page: Path = PAGE, results: Path = RESULTS) -> None:
    """Put the tables into the page, in place of older ones."""
    pattern = re.compile(re.escape(BEGIN) + '.*' + re.escape(END), re.DOTALL)
    part = f'{BEGIN}\n\n{page_part(results)}\n\n{END}'
    page.write_text(pattern.sub(lambda _: part, page.read_text()))
