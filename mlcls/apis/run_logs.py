"""Reading what runs logged: the JSON lines in their work folders."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlcls.errors import DataError

#: Where a record is, not what was measured.
_POSITIONS = frozenset({'iter', 'epoch', 'step'})

Record = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """One number over a run; all arrays are float64 (n,).

    Args:
        iterations: Training steps done, from 1.
        epochs: The same in epochs, with fractions.
        seconds: The same in seconds of training, validations left out; NaN where the log has no ``time``.
        values: What was logged.
        in_training: Logged every few training steps; else at validations.
    """

    iterations: np.ndarray
    epochs: np.ndarray
    seconds: np.ndarray
    values: np.ndarray
    in_training: bool

    def along(self, axis: str) -> np.ndarray:
        """The positions by ``'iter'``, ``'epoch'`` or ``'time'``."""
        return {'iter': self.iterations, 'epoch': self.epochs, 'time': self.seconds}[axis]


@dataclass(frozen=True)
class RunLog:
    """The curves of one run.

    Args:
        name: For legends.
        curves: By key, those of training first, in the order in which the log has them.
        main: Key of the metric that says how good the run is; None if nothing was validated.
        torn: Lines that could not be read: what a process that was killed had begun to write.
    """

    name: str
    curves: dict[str, Curve]
    main: str | None = None
    torn: int = 0


@dataclass
class _Rows:
    """What several logs of a run come to."""

    training: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)
    torn: int = 0

    def add(self, records: Sequence[Record]) -> None:
        """Take in a later log: where it starts, what earlier ones say of that time and after is no longer true."""
        training = [record for record in records if _is_place(record, 'iter')]
        validation = [record for record in records if 'iter' not in record and _is_place(record, 'step')]
        if training:
            first = training[0]['iter']
            self.training = [record for record in self.training if record['iter'] < first]
        epochs = [record['epoch'] for record in training[:1] if _is_place(record, 'epoch')]
        epochs += [record['step'] for record in validation[:1]]
        if epochs:
            self.validation = [record for record in self.validation if record['step'] < min(epochs)]
        # Within a log too: the last word on a step counts.
        self.training += {record['iter']: record for record in training}.values()
        self.validation += {record['step']: record for record in validation}.values()


def read_run(path: str | Path) -> RunLog:
    """Read the log of a run.

    Of a work folder all logs are joined: a resumed run has one for each start, and where a later one begins, it takes
    the place of what earlier ones say from there on.

    Args:
        path: Work folder, folder of one log, or file of JSON lines.

    Raises:
        DataError: There is no log, or it cannot be read.
    """
    path = Path(path)
    files = [path] if path.is_file() else _find_logs(path)
    rows = _Rows()
    for file in files:
        records, torn = _read_lines(file)
        rows.add(records)
        rows.torn += torn
    if not rows.training and not rows.validation:
        raise DataError(f'{path}: nothing was logged yet')
    curves = _curves(rows)
    saved = {file.stem for file in path.glob('best_*.pth')} if path.is_dir() else set()
    return RunLog(path.resolve().name, curves, _main_metric(curves, saved), rows.torn)


def _find_logs(folder: Path) -> list[Path]:
    """One JSON file of each start of a run, oldest first."""
    if not folder.is_dir():
        raise DataError(f'{folder}: there is no such file or folder')
    found = []
    for place in (folder, *folder.glob('vis_data'), *folder.glob('*/vis_data')):
        # mmengine writes the same lines twice, as scalars.json and under the time of the start.
        named = sorted(file for file in place.glob('*.json') if re.fullmatch(r'\d{8}_\d{6}(_\d+)?', file.stem))
        everything = [place / 'scalars.json'] if (place / 'scalars.json').is_file() else named[-1:]
        found += [(_start(place, named), file) for file in everything]
    if not found:
        raise DataError(f'{folder}: has no log (<time>/vis_data/scalars.json); is it the work folder of a run?')
    return [file for _, file in sorted(found, key=lambda pair: pair[0])]


def _start(place: Path, named: Sequence[Path]) -> tuple[int, ...]:
    """When a log was begun: from its name, such as 20300131_235959_2."""
    name = named[-1].stem if named else place.parent.name
    return tuple(int(part) for part in name.split('_') if part.isdigit())


def _read_lines(file: Path) -> tuple[list[Record], int]:
    try:
        lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError as error:
        raise DataError(f'{file}: cannot be read ({error.strerror})') from error
    records, torn = [], 0
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            torn += 1
    if torn and not records:
        raise DataError(f'{file}: is not a log: it should hold a JSON object in each line')
    return records, torn


def _is_place(record: Record, key: str) -> bool:
    value = _number(record.get(key, ''))
    return value is not None and math.isfinite(value)


def _number(value: Any) -> float | None:
    """A number, None of anything else; a null of the log is NaN."""
    if value is None:
        return math.nan
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _curves(rows: _Rows) -> dict[str, Curve]:
    iterations = np.array([record['iter'] for record in rows.training], np.float64)
    epochs = np.array([_or_nan(record.get('epoch')) for record in rows.training], np.float64)
    times = np.array([_or_nan(record.get('time')) for record in rows.training], np.float64)
    seconds = np.cumsum(times * np.diff(iterations, prepend=0.0))
    with np.errstate(invalid='ignore', divide='ignore'):
        # The log does not say how long an epoch is: at least so long that no step is past the end of its own.
        length = np.ceil(np.nanmax(iterations / epochs)) if np.isfinite(epochs).any() else math.nan
        passed = np.clip(iterations / length, epochs - 1, epochs)
    curves = _pick(rows.training, (iterations, passed, seconds), in_training=True)

    steps = np.array([record['step'] for record in rows.validation], np.float64)
    ends = np.array([_end_of(epoch, iterations, epochs, length) for epoch in steps])
    # Time stands still in a validation.
    known = np.isfinite(seconds)
    clock = np.interp(ends, iterations[known], seconds[known]) if known.any() else np.full(len(ends), math.nan)
    validated = _pick(rows.validation, (ends, steps, clock), in_training=False)
    return {**curves, **{key: curve for key, curve in validated.items() if key not in curves}}


def _or_nan(value: Any) -> float:
    number = _number(value)
    return math.nan if number is None else number


def _end_of(epoch: float, iterations: np.ndarray, epochs: np.ndarray, length: float) -> float:
    """The step after which an epoch was validated: that of its last line or, without one, by the length of epochs."""
    own = iterations[epochs == epoch]
    return float(own[-1]) if len(own) else epoch * (length if math.isfinite(length) else 1.0)


def _pick(
    records: Sequence[Record], places: tuple[np.ndarray, np.ndarray, np.ndarray], in_training: bool
) -> dict[str, Curve]:
    keys = dict.fromkeys(key for record in records for key in record if key not in _POSITIONS)
    curves = {}
    for key in keys:
        pairs = [(row, _number(record[key])) for row, record in enumerate(records) if key in record]
        rows = [row for row, value in pairs if value is not None]
        if rows:
            values = np.array([value for _, value in pairs if value is not None], np.float64)
            iterations, epochs, seconds = (place[rows] for place in places)
            curves[key] = Curve(iterations, epochs, seconds, values, in_training)
    return curves


def _main_metric(curves: dict[str, Curve], saved: Iterable[str]) -> str | None:
    """The metric by which the run keeps its best checkpoint, else mAP, else the first."""
    validated = [key for key, curve in curves.items() if not curve.in_training and key not in ('time', 'data_time')]
    saved = set(saved)
    for key in validated:
        if f'best_{key.replace("/", "_")}' in saved:
            return key
    maps = [key for key in validated if key.rpartition('/')[2] == 'mAP']
    return next(iter(maps + validated), None)
