"""Comparing two results files: what differs, by how much, and whether it could be chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.comparison import (
    ClassDifference,
    ComparedNumber,
    Difference,
    Side,
    check_predictions,
    class_differences,
    method_differences,
    pair_rows,
    paired_intervals,
    protocol_differences,
)
from mlcls.evaluation.intervals import FEW_IMAGES, FEWEST_DRAWS
from mlcls.evaluation.metrics import Metric
from mlcls.evaluation.predictions import Predictions, read_predictions
from mlcls.evaluation.table import fit, text_width
from mlcls.fileio import read_json, write_json

_WIDTH = 100
#: Classes shown.
_CLASSES = 10
#: Numbers that the closing sentence speaks of, by the end of their names.
_SPOKEN = ('mAP', 'CF1', 'OF1', 'macro_F1')
#: Numbers of which less is better.
_LOWER = ('hamming_loss', 'ranking_loss', 'coverage', 'one_error', 'ECE', 'Brier')
#: Fields that every results file has, and those that older versions did not write.
_ALWAYS = {
    'metrics': dict,
    'protocol': dict,
    'classes': list,
    'num_images': int,
    'per_class': dict,
}
_LATER = ('thresholds', 'data_hash', 'weights_hash', 'dtype')


@dataclass(frozen=True)
class CompareFlags:
    """What a comparison may be told.

    Args:
        any_protocol: Compare numbers although they were measured under different protocols.
        draws: Resamplings for the intervals; 0 for none.
        seed: Of the resampling.
        out: JSON file to write.
    """

    any_protocol: bool = False
    draws: int = 1000
    seed: int = 0
    out: str | Path | None = None


@dataclass(frozen=True)
class Comparison:
    """Two results files side by side; every difference is second minus first.

    Args:
        paths: Of the two files.
        numbers: That both have.
        only: Names of numbers that only the first, and that only the second has.
        protocol: What is measured differently.
        method: What else differs.
        classes: Those first that differ most; empty where the two have different classes.
        words: How the intervals were made, or why there are none.
        draws: Resamplings made.
        seed: Of the resampling.
        confidence: Of the intervals.
    """

    paths: tuple[str, str]
    numbers: list[ComparedNumber]
    only: tuple[list[str], list[str]] = ([], [])
    protocol: list[Difference] = field(default_factory=list)
    method: list[Difference] = field(default_factory=list)
    classes: list[ClassDifference] = field(default_factory=list)
    words: str = ''
    draws: int = 0
    seed: int = 0
    confidence: float = 0.95


def compare(first: str | Path, second: str | Path, flags: CompareFlags = CompareFlags()) -> Comparison:
    """Compare two results files of ``tools/test.py`` and, for intervals, the predictions that they name.

    Args:
        first: A results file, A.
        second: Another, B.
        flags: How.

    Returns:
        The comparison; `format_comparison` makes it readable.

    Raises:
        ConfigError: A number of resamplings or a seed that cannot be.
        DataError: A file cannot be used, the protocols differ, the two have no number in common, or predictions are
            not those that the results were computed from.
    """
    if flags.draws != 0 and flags.draws < FEWEST_DRAWS:
        raise ConfigError(f'--draws must be 0 or at least {FEWEST_DRAWS}, got {flags.draws}')
    if flags.seed < 0:
        raise ConfigError(f'--seed must be at least 0, got {flags.seed}')
    contents = read_results(first), read_results(second)
    protocol = protocol_differences(*contents)
    if protocol and not flags.any_protocol:
        listed = '\n'.join(f'  {difference}' for difference in protocol)
        raise DataError(
            f'these were measured under different protocols, so their numbers do not compare:\n  A: {first}\n'
            f'  B: {second}\nWhat differs (A | B):\n{listed}\n--any-protocol compares them nevertheless'
        )
    metrics = contents[0]['metrics'], contents[1]['metrics']
    shared = [name for name in metrics[0] if name in metrics[1]]
    if not shared:
        raise DataError(f'{first} and {second} have no number in common')
    numbers = [ComparedNumber(name, _value(metrics[0][name]), _value(metrics[1][name])) for name in shared]
    numbers, words = _with_intervals(numbers, contents, (Path(first), Path(second)), flags)
    found = Comparison(
        paths=(str(first), str(second)),
        numbers=numbers,
        only=([n for n in metrics[0] if n not in metrics[1]], [n for n in metrics[1] if n not in metrics[0]]),
        protocol=protocol,
        method=method_differences(*contents),
        classes=class_differences(*contents) if contents[0]['classes'] == contents[1]['classes'] else [],
        words=words,
        draws=flags.draws if any(number.interval for number in numbers) else 0,
        seed=flags.seed,
    )
    if flags.out is not None:
        _write(flags.out, found)
    return found


def _with_intervals(
    numbers: list[ComparedNumber], contents: Sequence[Mapping[str, Any]], paths: Sequence[Path], flags: CompareFlags
) -> tuple[list[ComparedNumber], str]:
    """The numbers, with intervals where there can be any, and words about them."""
    if not flags.draws:
        return numbers, 'no intervals: no resamplings were asked for'
    sides, why = _pair(contents, paths)
    if sides is None:
        return numbers, why
    differences = {number.name: number.difference for number in numbers}
    bounds = paired_intervals(*sides, differences, flags.draws, flags.seed)
    if not bounds:
        return numbers, 'no intervals: none of these numbers can be resampled'
    words = (
        f'95 % intervals of the difference for other test sets of this size: {flags.draws:,} resamplings of the '
        f'{contents[0]["num_images"]:,} images (seed {flags.seed}), the same for both, thresholds held fixed'
    )
    few = contents[0]['num_images'] < FEW_IMAGES
    words += f'; only {contents[0]["num_images"]} images: the intervals are unreliable' if few else ''
    return [ComparedNumber(each.name, each.first, each.second, bounds.get(each.name)) for each in numbers], words


def read_results(path: str | Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        DataError: It cannot be read, is no results file, or was written by a version that did not say enough.
    """
    content = read_json(path)
    for key, kind in _ALWAYS.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise DataError(f"{path}: is no results file of tools/test.py (no '{key}')")
    protocol = content['protocol']
    missing = [key for key in _LATER if key not in protocol]
    if missing:
        raise DataError(
            f'{path}: was written by an older version, which did not say what is needed for a comparison '
            f'({", ".join(missing)}); test the checkpoint again with tools/test.py'
        )
    if not isinstance(protocol['thresholds'], dict) or not isinstance(protocol.get('metrics'), list):
        raise DataError(f'{path}: the protocol is damaged')
    _check_shapes(content, path)
    return content


def _check_shapes(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse what somebody changed by hand so that it no longer fits together."""
    if not all(isinstance(entry, dict) for entry in content['protocol']['metrics']):
        raise DataError(f'{path}: the protocol is damaged')
    for name, value in content['metrics'].items():
        if isinstance(value, bool) or not (value is None or isinstance(value, (int, float))):
            raise DataError(f"{path}: '{name}' is no number: {value!r}")
    for name, values in content['per_class'].items():
        if not isinstance(values, list) or len(values) != len(content['classes']):
            raise DataError(f"{path}: '{name}' has not one value for each of the {len(content['classes'])} classes")


def _pair(contents: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> tuple[tuple[Side, Side] | None, str]:
    """Both sides with their images in one order, or None and why there are no intervals."""
    found: list[tuple[Predictions, list[Metric]]] = []
    missing = []
    for content, path in zip(contents, paths):
        name = content.get('predictions')
        file = None if not name else path.parent / name
        if file is None:
            missing.append(f'{path} names no file of predictions')
        elif not file.is_file():
            missing.append(f'the predictions of {path} are missing ({file})')
        else:
            predictions = read_predictions(file)
            found.append((predictions, check_predictions(content, predictions, str(file))))
    if missing:
        return None, f'no intervals: {"; ".join(missing)}'
    (first, metrics), (second, others) = found
    rows, why = pair_rows(first, second)
    if rows is None:
        return None, f'no intervals: images cannot be paired, since {why}'
    same = bool((rows == rows.sort().values).all())
    scores = second.scores if same else second.scores[rows]
    return (Side(metrics, first.scores, first.targets), Side(others, scores, first.targets)), ''


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _write(path: str | Path, found: Comparison) -> None:
    try:
        write_json(path, to_json(found))
    except OSError as error:
        raise ConfigError(f'{path}: cannot be written ({error.strerror})') from None


def to_json(found: Comparison) -> dict[str, Any]:
    """A comparison as plain data."""
    return {
        'first': found.paths[0],
        'second': found.paths[1],
        'numbers': {
            number.name: {
                'first': _plain(number.first),
                'second': _plain(number.second),
                'difference': _plain(number.difference),
                'interval': None if number.interval is None else list(number.interval),
            }
            for number in found.numbers
        },
        'only_in_first': found.only[0],
        'only_in_second': found.only[1],
        'protocol_differences': [[each.what, each.first, each.second] for each in found.protocol],
        'method_differences': [[each.what, each.first, each.second] for each in found.method],
        'bootstrap': {
            'draws': found.draws,
            'seed': found.seed,
            'confidence': found.confidence,
            'words': found.words,
        },
        'classes': [
            {
                'name': each.name,
                'positives': each.positives,
                'AP': [_plain(value) for value in each.ap],
                'F1': [_plain(value) for value in each.f1],
            }
            for each in found.classes
        ],
        'sentence': sentence(found),
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def format_comparison(found: Comparison) -> str:
    """A comparison as plain text of at most 100 columns: what differs, the numbers, the classes, one sentence."""
    lines = [*_files(found), '', *_numbers(found), '', *_classes(found), *_wrapped(sentence(found))]
    return '\n'.join(line.rstrip() for line in lines)


def _files(found: Comparison) -> Iterator[str]:
    for letter, path in zip('AB', found.paths):
        yield f'{letter}: {fit(path, _WIDTH - 3)}'
    for title, differences in (('Measured differently', found.protocol), ('Different', found.method)):
        if differences:
            yield f'{title} (A | B):'
            yield from (fit(f'  {difference}', _WIDTH) for difference in differences)


def _numbers(found: Comparison) -> Iterator[str]:
    names = [fit(number.name, 40) for number in found.numbers]
    width = max(map(text_width, names))
    intervals = [_bounds(number.interval) for number in found.numbers]
    last = '  ' + '95 % interval'.rjust(18) if any(intervals) else ''
    yield ' ' * width + ''.join(title.rjust(10) for title in ('A', 'B', 'B - A')) + last
    for name, number, interval in zip(names, found.numbers, intervals):
        cells = _shown(number.first), _shown(number.second), _signed(number.difference)
        yield name + ' ' * (width - text_width(name)) + ''.join(map(_cell, cells)) + '  ' + interval.rjust(18)
    yield from _wrapped(found.words)
    for letter, names in zip('AB', found.only):
        if names:
            yield from _wrapped(f'only in {letter}: {", ".join(names)}')


def _classes(found: Comparison) -> Iterator[str]:
    chosen = [each for each in found.classes[:_CLASSES] if each.largest > 0]
    if not chosen:
        return
    names = [fit(each.name, _WIDTH - 7 * 9) for each in chosen]
    width = max(5, *map(text_width, names))
    shown = f'{len(chosen)} of {len(found.classes)}'
    yield f'Classes that differ most ({shown}; those with few images differ by chance most):'
    titles = ('images', 'AP A', 'AP B', 'B - A', 'F1 A', 'F1 B', 'B - A')
    yield 'class' + ' ' * (width - 5) + ''.join(title.rjust(9) for title in titles)
    for name, each in zip(names, chosen):
        cells = [str(each.positives)]
        for first, second in (each.ap, each.f1):
            cells += [_shown(first), _shown(second), _signed(second - first)]
        yield name + ' ' * (width - text_width(name)) + ''.join(cell.rjust(9) for cell in cells)
    yield ''


def sentence(found: Comparison) -> str:
    """What the comparison says of the headline numbers, for example ``'B is better in CF1 by 1.20 [0.40, 2.00]; the
    difference in mAP could be chance.'``"""
    spoken = [number for number in found.numbers if _leaf(number).split('_top')[0] in _SPOKEN]
    spoken = [number for number in spoken or found.numbers if math.isfinite(number.difference)]
    sides: dict[str, list[str]] = {'A': [], 'B': []}
    chance, same, unknown = [], [], []
    for number in spoken:
        name = _title(number, found.numbers)
        if number.difference == 0 and number.interval in (None, (0.0, 0.0)):
            same.append(name)
        elif number.interval is None:
            unknown.append(f'{name} ({_signed(number.difference)})')
        elif number.interval[0] <= 0 <= number.interval[1]:
            chance.append(name)
        else:
            sides[_better(number)].append(
                f'{name} by {abs(number.difference):.2f} {_bounds(_positive(number.interval))}'
            )
    parts = [f'{side} is better in {_joined(names)}' for side, names in sides.items() if names]
    parts += [f'the difference in {_joined(chance)} could be chance'] if chance else []
    parts += [f'{_joined(same)} {"are" if len(same) > 1 else "is"} the same'] if same else []
    parts += [f'whether the difference in {_joined(unknown)} could be chance is not known'] if unknown else []
    text = '; '.join(parts) or 'no number is defined in both'
    if text.split()[0] in ('the', 'whether', 'no'):  # a name, as mAP, keeps its spelling
        text = text[0].upper() + text[1:]
    warning = ' The protocols differ: this may be no difference between the models.' if found.protocol else ''
    return f'{text}.{warning}'


def _leaf(number: ComparedNumber) -> str:
    return number.name.rpartition('/')[2]


def _title(number: ComparedNumber, numbers: Sequence[ComparedNumber]) -> str:
    """The end of a name where only one number has it, else the whole."""
    leaf = _leaf(number)
    return leaf if sum(_leaf(other) == leaf for other in numbers) == 1 else number.name


def _better(number: ComparedNumber) -> str:
    lower = any(_leaf(number).startswith(name) for name in _LOWER)
    return 'B' if (number.difference > 0) != lower else 'A'


def _positive(bounds: tuple[float, float]) -> tuple[float, float]:
    """An interval that lies on one side of 0, as distances."""
    low, high = sorted(map(abs, bounds))
    return low, high


def _joined(names: Sequence[str]) -> str:
    return ' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))


def _bounds(bounds: tuple[float, float] | None) -> str:
    return '' if bounds is None else f'[{bounds[0]:.2f}, {bounds[1]:.2f}]'


def _shown(value: float) -> str:
    return f'{value:.2f}' if math.isfinite(value) else '-'


def _signed(value: float) -> str:
    return f'{value:+.2f}' if math.isfinite(value) else '-'


def _cell(text: str) -> str:
    return text.rjust(10)


def _wrapped(text: str) -> Iterator[str]:
    """Words in lines of at most 100 columns."""
    line = ''
    for word in text.split():
        word = fit(word, _WIDTH)
        if line and text_width(line) + 1 + text_width(word) > _WIDTH:
            yield line
            line = ''
        line = f'{line} {word}' if line else word
    if line:
        yield line
