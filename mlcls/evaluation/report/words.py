"""What a report says in words: the protocol, and what a reader should be careful with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlcls.evaluation.result import EvaluationResult

from .source import ReportSource

#: With fewer positives than this, the figures of a class move by many points from one sample to the next.
FEW_POSITIVES = 10
#: Fields of a metric's protocol that the page shows elsewhere, or that are for programs.
_NOT_SHOWN = frozenset({'metric', 'numbers', 'thr', 'thr_kind', 'objective', 'threshold source'})


def protocol_of(result: EvaluationResult, source: ReportSource, steps: int) -> list[list[str]]:
    """How the numbers were made, as pairs of a label and a text."""
    points = source.points
    chosen = 'given, one a class'
    if points is not None:
        chosen = f'objective {points.objective}' + (f'; {points.source}' if points.source else '')
    rows = [
        ['thresholds', chosen],
        ['decision', 'a label is given where score >= threshold, compared as float32'],
        ['thresholds in the page', f'k / {steps}, k = 0 to {steps}; counts at each of them are exact'],
        ['calibration', source.calibration or 'none'],
        ['F1', "CF1 and OF1 are harmonic means of precision and recall; macro F1 is the mean of the classes' F1"],
        ['average precision', 'exact, equal scores form one step; classes without a positive are left out of mAP'],
        ['calibration error', 'ECE of ten equal bins of the score; Brier score times 100'],
        ['unknown labels (-1)', f'{sum(result.unknown):,}, ignored everywhere'],
    ]
    for entry in result.protocol:
        said = {name: text for name, text in entry.items() if name not in _NOT_SHOWN}
        numbers = ', '.join(name.removeprefix('multi-label/') for name in str(entry.get('numbers', '')).split(', '))
        words = '; '.join(f'{name}: {text}' for name, text in said.items())
        rows.append([str(entry.get('metric', 'metric')), f'{numbers}. {words}' if numbers else words])
    return rows


def class_notes(positives: np.ndarray, negatives: np.ndarray) -> list[str | None]:
    """What is wrong with the labels of each class, if anything."""

    def note(number: int, others: int) -> str | None:
        if not number and not others:
            return 'no known label'
        if not number:
            return 'no positive label: recall and AP are not defined'
        if not others:
            return 'every known label is positive'
        if number < FEW_POSITIVES:
            return f'only {number} positive label{"" if number == 1 else "s"}: its figures are uncertain'
        return None

    return [note(*pair) for pair in zip(positives.tolist(), negatives.tolist())]


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:8]) + (', ...' if len(names) > 8 else '')


def notes_of(result: EvaluationResult, source: ReportSource, notes: Sequence[str]) -> list[str]:
    """All notes of a report, the gravest first.

    Args:
        result: The evaluation.
        source: The source of the report.
        notes: About what is left out of the page.
    """
    found = []
    points = source.points
    if points is not None and points.data_hash and points.data_hash == source.data_hash:
        found.append('The thresholds were chosen on these very images, so the figures at them are too good.')
    if result.left_out:
        found.append(f'{len(result.left_out):,} images could not be used and are in none of the figures.')
    if result.unlabelled:
        found.append(
            f'No known label in {len(result.unlabelled):,} classes ({_some(result.unlabelled)}): these are left out of '
            'every mean.'
        )
    absent = [name for name in result.absent if name not in set(result.unlabelled)]
    if absent:
        found.append(
            f'No positive label in {len(absent):,} of {len(result.classes):,} classes ({_some(absent)}): these are '
            'left out of mAP, and count as 0 in CP, CR and macro F1.'
        )
    return [*found, *(points.notes if points is not None else ()), *notes]
