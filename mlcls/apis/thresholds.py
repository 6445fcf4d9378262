"""Thresholds: chosen on validation data, kept with the checkpoint, and used from then on."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from mlcls.apis.scoring import Member, Part, Request, opened, score
from mlcls.apis.settings import check_writable
from mlcls.engine.checkpoint import points_path, store_points
from mlcls.errors import CheckpointError, ConfigError, DataError
from mlcls.evaluation import FitSettings, OperatingPoints, fit_operating_points
from mlcls.evaluation.table import fit, text_width
from mlcls.fileio import read_json, write_json

Kind = Literal['fitted', 'file', 'number', 'config', 'default']


class Choice(NamedTuple):
    """By which thresholds labels are given.

    Args:
        kind: Where they come from; ``'config'`` and ``'default'`` leave the metrics' own.
        points: The thresholds, or None where the metrics have their own.
        members: For each checkpoint the points whose calibration is applied to its scores, or None.
    """

    kind: Kind
    points: OperatingPoints | None
    members: tuple[OperatingPoints | None, ...]


def choose(wanted: str | None, members: Sequence[Member]) -> Choice:
    """Find the thresholds that a command asks for.

    Args:
        wanted: ``'fitted'``: those kept with the checkpoints (of several, the mean); ``'config'``: those of the
            config's metrics; a number; a JSON file. None: those kept with the checkpoints, if there are any, for
            metrics that name none.
        members: The checkpoints.

    Raises:
        UserError: There are none, the file cannot be used, or they are for other classes.
    """
    none: tuple[None, ...] = (None,) * len(members)
    classes = members[0].classes
    kept = [member.points for member in members]
    if wanted == 'config':
        return Choice('config', None, none)
    if wanted in (None, 'fitted'):
        found = [points for points in kept if points is not None]
        if len(found) == len(kept):
            for member, points in zip(members, found):
                points.check_classes(classes, str(member.path))
            return Choice('fitted', _joined(found), tuple(found))
        if wanted is None:
            return Choice('default', None, none)
        without = next(member.path for member in members if member.points is None)
        raise CheckpointError(
            f'{without}: no thresholds are kept with this checkpoint; tools/fit_thresholds.py chooses them on '
            'validation data'
        )
    number = _as_number(wanted)
    if number is not None:
        return Choice('number', OperatingPoints(classes, (number,) * len(classes), 'by hand', f'{number:g}'), none)
    points = OperatingPoints.from_dict(_read(wanted), str(wanted)).in_order(classes, str(wanted))
    if not points.source:
        points = replace(points, source=f'those in {wanted}')
    # What was fitted stays so, wherever it is kept.
    kind: Kind = 'file' if points.objective == 'by hand' else 'fitted'
    return Choice(kind, points, _own_calibrations(members))


def _own_calibrations(members: Sequence[Member]) -> tuple[OperatingPoints | None, ...]:
    """Of several checkpoints, each one's scores are calibrated before they are averaged; one alone is by the file."""
    if len(members) == 1:
        return (None,)
    for member in members:
        if member.points is not None:
            member.points.check_classes(member.classes, str(member.path))
    return tuple(member.points for member in members)


def _read(path: str) -> Any:
    if not Path(path).is_file():
        raise ConfigError(
            f"--thresholds: '{path}' is no file, no number and neither 'fitted' nor 'config'; tools/fit_thresholds.py "
            'writes such files'
        )
    return read_json(path)


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not 0 <= number <= 1:
        raise ConfigError(f'--thresholds must be in [0, 1], got {text}')
    return float(torch.tensor(number, dtype=torch.float32))


def _joined(points: Sequence[OperatingPoints]) -> OperatingPoints:
    """Thresholds for the mean score of several checkpoints: the mean of theirs."""
    if len(points) == 1:
        return points[0]
    mean = torch.tensor([each.thresholds for each in points], dtype=torch.float64).mean(dim=0).float()
    hashes = {each.data_hash for each in points}
    return OperatingPoints(
        points[0].classes,
        tuple(mean.tolist()),
        ' / '.join(dict.fromkeys(each.objective for each in points)),
        f'the mean of the thresholds of {len(points)} checkpoints (tools/fit_thresholds.py fits them together)',
        hashes.pop() if len(hashes) == 1 else '',
    )


def refuse_test_data(choice: Choice, data_hash: str, allowed: bool) -> None:
    """Refuse thresholds that were chosen on the very data they are to be measured on.

    Raises:
        DataError: They were, and it is not allowed.
    """
    used = [choice.points, *choice.members]
    if not allowed and data_hash and any(points is not None and points.data_hash == data_hash for points in used):
        raise DataError(
            'these thresholds were chosen on the data that are to be tested, which flatters every number; choose '
            'them on validation data with tools/fit_thresholds.py, or say --allow-fit-on-test'
        )


@dataclass(frozen=True)
class FitFlags:
    """What `fit_thresholds` may be told.

    Args:
        settings: Objective, calibration, shrinkage, folds, resamplings.
        part: ``'val'`` or ``'test'``: the data to choose on.
        allow_fit_on_test: Needed for ``part='test'``.
        tta: See `Request`.
        out: JSON file; beside the checkpoint if None. Only here for several checkpoints.
        launcher: See `Request`.
    """

    settings: FitSettings = field(default_factory=FitSettings)
    part: Part = 'val'
    allow_fit_on_test: bool = False
    tta: bool = False
    out: str | Path | None = None
    launcher: str = 'none'


class Fitted(NamedTuple):
    """What `fit_thresholds` did: the points, and the files that hold them."""

    points: OperatingPoints
    files: tuple[Path, ...]


def fit_thresholds(
    checkpoints: str | Path | Sequence[str | Path],
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    flags: FitFlags = FitFlags(),
) -> Fitted:
    """Choose a threshold for each class on validation data, and keep them in the checkpoint and a JSON file beside it.

    Args:
        checkpoints: One or several checkpoint files or work folders; of several, their mean score is taken and the
            thresholds are kept in the file ``flags.out`` alone.
        config: Config file; None takes the resolved config in the checkpoint.
        options: Overrides of single settings, dotted keys to values.
        flags: How.

    Raises:
        UserError: A checkpoint, the config, the data or an objective cannot be used.
    """
    paths = [checkpoints] if isinstance(checkpoints, (str, Path)) else list(checkpoints)
    if flags.out is not None:
        check_writable(Path(flags.out))
    if len(paths) > 1 and flags.out is None:
        raise ConfigError('thresholds of several checkpoints together are kept in a file of their own: name it, --out')
    if flags.part == 'test' and not flags.allow_fit_on_test:
        raise ConfigError(
            'thresholds chosen on the test data flatter every test; if they must, say --allow-fit-on-test'
        )
    with opened(Request(paths, config, options, flags.part, flags.tta, flags.launcher)) as members:
        return _fit(members, flags)


def _fit(members: Sequence[Member], flags: FitFlags) -> Fitted:
    own = _own_calibrations(members)
    rows = score(members, own)
    data_hash = members[0].loop.data_hash
    points = fit_operating_points(rows.scores, rows.targets, members[0].classes, flags.settings, data_hash)
    source = f'{points.source}, {"validation" if flags.part == "val" else "test"} data'
    if members[0].loop.tta is not None:
        source += f', with test-time augmentation ({members[0].loop.tta_words})'
    points = replace(points, source=source)
    if any(each is not None and each.calibration is not None and each.data_hash == data_hash for each in own):
        flattered = 'the checkpoints were calibrated on these very images, so the figures on folds left out flatter'
        points = replace(points, notes=(*points.notes, flattered))
    return _keep(points, members, flags.out) if members[0].runner.rank == 0 else Fitted(points, ())


def _keep(points: OperatingPoints, members: Sequence[Member], out: str | Path | None) -> Fitted:
    file = Path(out) if out is not None else points_path(members[0].path)
    try:
        write_json(file, points.to_dict())
    except OSError as error:
        raise ConfigError(f'{file}: cannot be written ({error.strerror})') from error
    if len(members) > 1 or out is not None:
        return Fitted(points, (file,))
    try:
        store_points(members[0].path, points)
    except CheckpointError as error:  # not one of ours, or it cannot be written: the file has them
        return Fitted(replace(points, notes=(*points.notes, str(error))), (file,))
    return Fitted(points, (file, members[0].path))


#: Classes that `describe` shows.
_SHOWN = 60


def describe(fitted: Fitted) -> str:
    """The thresholds and what they gain, as plain text of at most 100 columns."""
    points = fitted.points
    lines = [*_wrapped(points.source), '', *_figures(points), '', *_classes(points)]
    lines += [line for note in points.notes for line in _wrapped(f'note: {note}')]
    kept = ' and in '.join(str(path) for path in fitted.files)
    return '\n'.join(
        [
            *lines,
            '',
            f'kept in {kept}; tools/test.py uses them'
            if len(fitted.files) > 1
            else f'kept in {kept}; use them by --thresholds {kept}',
        ]
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _figures(points: OperatingPoints) -> list[str]:
    """One row for each way of measuring, a column for each measure."""
    words = {'cross-fitted': 'fitted, on folds left out', 'same data': 'fitted, same images (flatters)'}
    names = list(dict.fromkeys(name for figures in points.figures.values() for name in figures))
    rows = [' ' * 34 + ''.join(name.rjust(9) for name in names)]
    for kind, figures in points.figures.items():
        cells = ''.join((f'{figures[name]:.2f}' if name in figures else '-').rjust(9) for name in names)
        rows.append(words.get(kind, kind).ljust(34) + cells)
    return rows


def _classes(points: OperatingPoints) -> list[str]:
    """A line a class: name, positives, threshold and its interval; those with most positives first."""
    order = sorted(range(len(points.classes)), key=lambda c: -(points.positives[c] if points.positives else 0))
    names = [fit(name, 50) for name in points.classes]
    width = max(5, *(text_width(names[c]) for c in order[:_SHOWN]))
    lines = ['class' + ' ' * (width - 5) + 'positives'.rjust(10) + 'threshold'.rjust(12) + '95 % interval'.rjust(20)]
    for c in order[:_SHOWN]:
        images = str(points.positives[c]) if points.positives else '-'
        interval = '{:.4f} to {:.4f}'.format(*points.intervals[c]) if points.intervals else '-'
        name = names[c] + ' ' * (width - text_width(names[c]))
        lines.append(f'{name}{images:>10}{points.thresholds[c]:>12.4f}{interval:>20}')
    if len(order) > _SHOWN:
        lines.append(f'and {len(order) - _SHOWN} more classes, in the file')
    return lines
