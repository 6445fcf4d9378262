"""The whole check of a data set: from splits to a report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .advice import advice
from .copies import copy_findings, real_paths, shared_files, without_repeated_splits
from .images import ImageTable, inspect_images
from .labels import differing_classes, label_findings
from .pictures import missing_files, picture_findings
from .report import CheckReport, Finding, sort_findings
from .splits import Split, SplitSet
from .statistics import MAX_MATRIX, cooccurrence, split_statistics


def check_splits(
    found: SplitSet,
    source: str,
    images: bool = True,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> CheckReport:
    """Check splits: files, copies, labels.

    Args:
        found: The splits and what was found on reading them.
        source: Name of the config or the annotations, for the report.
        images: Open every image; otherwise only whether files exist and are listed twice is looked at.
        workers: Processes that open images; 0 works in this one, None takes as many as there are processors.
        progress: Called with the number of images done since the last call.
    """
    places = real_paths(found.splits)
    splits, findings = without_repeated_splits(found.splits, places)
    findings = [*found.findings, *findings, *differing_classes(splits)]
    # Labels can be compared only by one list of classes.
    alike = [split for split in splits if split.annotations.classes == splits[0].annotations.classes]
    if images:
        findings += _look_into(splits, alike, workers, progress)
    else:
        for split in splits:
            findings += missing_files(split)
        findings += shared_files(splits, places)
    findings += label_findings(alike)
    findings = _once(findings)
    return CheckReport(
        source, sort_findings(findings), _statistics(splits, alike), tuple(advice(findings, alike)), _common(splits)
    )


def _look_into(
    splits: Sequence[Split], alike: Sequence[Split], workers: int | None, progress: Callable[[int], object] | None
) -> list[Finding]:
    findings: list[Finding] = []
    tables: dict[str, ImageTable] = {}
    files = [split for split in splits if not split.packed]
    every = inspect_images([path for split in files for path in split.paths], workers, progress)
    start = 0
    for split in files:
        end = start + len(split)
        reasons = {number - start: why for number, why in every.reasons.items() if start <= number < end}
        tables[split.name] = ImageTable(every.records[start:end], reasons)
        start = end
        findings += picture_findings(split, tables[split.name])
    for split in splits:
        if split.packed:
            message = 'its images are packed into one file; they are not looked into'
            findings.append(Finding('note', 'split-packed', message, split.name, count=len(split)))
    compared = [split for split in alike if split.name in tables]
    return findings + copy_findings(compared, [tables[split.name] for split in compared]) if compared else findings


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """What a reader says about a file of several splits, once."""
    kept: list[Finding] = []
    said: dict[str, int] = {}
    for finding in findings:
        place = said.get(finding.message)
        if place is None or finding.code not in ('reader-remark', 'split-unreadable'):
            said[finding.message] = len(kept)
            kept.append(finding)
        elif finding.split != kept[place].split:
            kept[place] = replace(kept[place], split=f'{kept[place].split}, {finding.split}')
    return kept


def _statistics(splits: Sequence[Split], alike: Sequence[Split]) -> dict[str, Any]:
    statistics: dict[str, Any] = {
        'classes': list(splits[0].annotations.classes) if splits else [],
        'splits': {split.name: split_statistics(split.annotations.labels) for split in splits},
    }
    if alike:
        ids, counts = cooccurrence([split.annotations.labels for split in alike], MAX_MATRIX)
        statistics['cooccurrence'] = {'classes': ids.tolist(), 'counts': counts.tolist()}
    return statistics


def _common(splits: Sequence[Split]) -> str:
    """The folder that all images have in common."""
    folders = {os.path.dirname(path) for split in splits for path in split.paths if '://' not in path}
    try:
        return os.path.commonpath(folders) if folders else ''
    except ValueError:  # relative and absolute ones
        return ''
