"""Write docs/results/data/README.md from the JSON files beside it, which the data benchmarks leave.

python tools/benchmarks/data_tables.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / 'docs/results/data'
#: What `make bench-loader` is to reach: what users of the other pipelines would notice.
TARGETS = {
    'vs_torchvision': 2.4,
    'vs_mmcv': 1.3,
    'vs_limit': 0.93,
    'large_vs_mmcv': 1.4,
    'large_zoom_vs_mmcv': 2.3,
    'jpeg_pack_vs_mmcv': 2.2,
    'raw_pack_vs_mmcv': 6.0,
    'dataloader_vs_mmcv': 1.5,
    'dataloader_raw_vs_mmcv': 2.8,
}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield '| ' + ' | '.join(heads) + ' |'
    yield '|' + '---|' * len(heads)
    yield from ('| ' + ' | '.join(row) + ' |' for row in rows)


def loader(found: dict[str, Any]) -> Iterator[str]:
    """Ratios of images a second."""
    yield f'## Loading (`make bench-loader`; {found["hardware"]}, torch {found["torch"]})'
    yield ''
    yield 'Images a second over those of the other pipeline, medians of paired runs.'
    yield ''
    rows = [(f'`{key}`', f'{found[key]:.2f}', f'{target:g}') for key, target in TARGETS.items()]
    yield from table(('ratio', 'measured', 'wanted at least'), rows)


def annotations(found: dict[str, Any]) -> Iterator[str]:
    """Seconds and memory of many images."""
    first, cached = found['first'], found['cached']
    yield f'## Annotations at size (`make bench-annotations`; {found["hardware"]})'
    yield ''
    yield (
        f'{found["images"]:,} images, {found["classes"]:,} classes, {first["labels"]:,} labels in a '
        f'{found["format"]} file of {found["file_mib"]:.0f} MiB.'
    )
    yield ''
    rows = [
        (name, f'{each["seconds"]:.1f}', f'{each["peak_mib"]:.0f}', f'{each["anonymous_mib"]:.0f}')
        for name, each in (('first reading', first), ('from the cache', cached))
    ]
    yield from table(('', 'seconds', 'peak memory, MiB', 'of it private afterwards, MiB'), rows)
    yield ''
    yield (
        f'A label takes {first["label_bytes"]:.1f} bytes, a path {first["path_bytes_an_image"]:.0f}. MiB in RAM of the '
        f'main process and {found["num_workers"]} workers together (PSS: shared pages counted once), and what a worker '
        'has to itself (USS), before and after an epoch:'
    )
    yield ''
    rows = [
        (
            name,
            *(f'{each[when]["pss_of_all"]:.0f}' for when in ('before', 'after')),
            *(f'{each[when]["worker"]["uss"]:.0f}' for when in ('before', 'after')),
        )
        for name, each in found['workers'].items()
    ]
    yield from table(('arrays, workers', 'all, before', 'all, after', 'a worker, before', 'a worker, after'), rows)


def balance(found: dict[str, Any]) -> Iterator[str]:
    """Exposure of classes."""
    yield f'## Balance (`make bench-balance`; {found["images"]:,} images of COCO-14, {found["classes"]} classes)'
    yield ''
    rows = []
    for each in found['rows']:
        least, extra = each['least_imbalance'], each['extra_draws_with_head']
        rows.append(
            (
                each['name'],
                f'{each["epoch_length"]:.2f}',
                f'{each["max_over_min"]:.0f}',
                f'{each["imbalance"]:.3f}' + ('' if least is None else f' (least possible {least:.3f})'),
                f'{100 * each["share_of_head"]:.1f} %',
                '-' if extra is None else f'{100 * extra:.0f} %',
            )
        )
    heads = (
        'draws',
        'epoch',
        'most over least frequent class',
        'imbalance',
        'images with the head class',
        'extra draws with it',
    )
    yield from table(heads, rows)
    yield ''
    yield 'Imbalance: log of the arithmetic over the geometric mean of the exposure of classes; 0 is even.'


def splitting(found: dict[str, Any]) -> Iterator[str]:
    """Evenness of splits."""
    yield f'## Splits (`make bench-balance`; means over {found["seeds"]} seeds)'
    yield ''
    rows = [
        (
            f'`{each["data"]}`' if '.' in each['data'] else each['data'],
            each['split'],
            each['method'],
            f'{each["missing"]:.1f}',
            f'{each["size_off_by"]:.0f}',
            f'{each["LD"]:.1e}',
            f'{100 * each["mean_deviation"]:.2f} %',
            f'{each["seconds"]:.1f}',
        )
        for each in found['rows']
    ]
    heads = (
        'data',
        'split',
        'method',
        'classes missing in a part',
        'size off by',
        'LD',
        'mean deviation of shares',
        'seconds',
    )
    yield from table(heads, rows)
    yield ''
    yield 'Missing: classes that a part lacks although every part could have one.'
    yield 'LD: labels distribution (Sechidis et al., 2011); 0 is best.'


SECTIONS = {'loader': loader, 'annotations': annotations, 'balance': balance, 'splitting': splitting}


def page(folder: Path = FOLDER) -> str:
    """The whole page."""
    lines = [
        '# Data: measurements',
        '',
        'Written by `python tools/benchmarks/data_tables.py` from the JSON files here.',
    ]
    for name, section in SECTIONS.items():
        path = folder / f'{name}.json'
        if path.exists():
            lines += ['', *section(json.loads(path.read_text()))]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    (FOLDER / 'README.md').write_text(page())
