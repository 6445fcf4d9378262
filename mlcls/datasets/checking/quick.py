"""The cheap part of the check, in one line, for the start of a training run: no image is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..multi_label import innermost
from .copies import real_paths, shared_files, without_repeated_splits
from .labels import coverage, differing_classes, never_absent, shifted_ids
from .report import Finding, counted
from .splits import split_of

#: More files than these are not compared between splits: their names would take gigabytes, and a minute, at each start.
MOST_FILES = 1_000_000
_SHOWN = 3
_WORDS = {
    'class-absent': ('class without any image', 'classes without any image'),
    'class-not-in-train': ('class without an image in {}', 'classes without an image in {}'),
    'class-not-in-split': ('class that {} does not show', 'classes that {} does not show'),
    'class-rare-in-split': ('class too rare in {} to measure', 'classes too rare in {} to measure'),
    'class-always-present': ('class in every image of {}', 'classes in every image of {}'),
    'class-constant': ('class in every image', 'classes in every image'),
    'class-never-absent': ('class labelled absent nowhere in {}', 'classes labelled absent nowhere in {}'),
    'ids-off-by-one': ('class whose ids look off by one', 'classes whose ids look off by one'),
}


def quick_check(datasets: Mapping[str, Any]) -> str:
    """What is unusual about the data of a run, in one line.

    Args:
        datasets: Split name (``'train'``, ``'val'``) to a dataset: one with ``annotations`` and ``img_root``, such as
            ``MultiLabelDataset``, or what wraps one. Others are left out.

    Returns:
        ``'data check: nothing unusual'``, or ``'data check: 3 classes too rare in val to measure (puffin (3), ...); 12
        images listed in both train and val; run tools/check_data.py CONFIG for more'``.
    """
    known = {name: dataset for name, dataset in datasets.items() if hasattr(innermost(dataset), 'annotations')}
    splits = [split_of(name, dataset) for name, dataset in known.items()]
    places = real_paths(splits) if sum(map(len, splits)) <= MOST_FILES else {}
    if places:
        splits, _ = without_repeated_splits(splits, places)
    told = [f'{finding.split}: {finding.message}' for finding in differing_classes(splits)]
    if splits and not told:
        about = (*coverage(splits), *never_absent(splits), *shifted_ids(splits))
        told += [_classes(finding) for finding in about if finding.severity != 'note']
    for finding in shared_files(splits, places):
        eval_split, training = finding.split.split(', ')
        told.append(f'{counted(finding.count, "image")} listed in both {training} and {eval_split}')
    if not told:
        return 'data check: nothing unusual'
    return f'data check: {"; ".join(told)}; run tools/check_data.py CONFIG for more'


def _classes(finding: Finding) -> str:
    one, many = _WORDS[finding.code]
    what = counted(finding.count, one.format(finding.split), many.format(finding.split))
    shown = ', '.join(finding.items[:_SHOWN]) + (', ...' if finding.count > _SHOWN else '')
    return f'{what} ({shown})' if shown else what
