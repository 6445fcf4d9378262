"""Curves of one or more runs, as a picture and as a table."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mlcls.apis.run_logs import Curve, RunLog, read_run
from mlcls.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = ('iter', 'epoch', 'time')
SUFFIXES = ('.png', '.pdf', '.svg')
#: Okabe and Ito's colours, told apart with any colour vision, then the same with other lines.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
_LINES = ('-', '--', ':', '-.')
#: Numbers that are set, not measured: nothing to smooth.
_SETTINGS = ('lr', 'base_lr', 'momentum')


@dataclass(frozen=True)
class CurveFlags:
    """What is drawn of runs, and where to.

    Args:
        keys: What to draw, a panel each: names as logged, or their last part (``mAP``). None: loss, learning rate and
            the main metric of the validations.
        out: Picture (PNG, PDF or SVG). None: ``curves.png``, or no picture where ``csv`` is given.
        csv: File for the numbers, a row each: run, key, iter, epoch, seconds, value.
        smooth: Draw the mean of this many log lines of training; the lines themselves stay visible, pale.
        axis: ``'iter'``, ``'epoch'`` or ``'time'``.
    """

    keys: Sequence[str] | None = None
    out: str | None = None
    csv: str | None = None
    smooth: int = 1
    axis: str = 'iter'


def draw_runs(paths: Sequence[str | Path], flags: CurveFlags = CurveFlags()) -> list[str]:
    """Draw the curves of runs into one picture, a panel a key.

    Args:
        paths: Work folders, folders of single logs, or files of JSON lines.
        flags: What is drawn, and where to.

    Returns:
        Lines for the user: what was written, and what some runs do not have.

    Raises:
        ConfigError: A flag cannot be followed; the message of an unknown key has the nearest name.
        DataError: There is no log, it cannot be read, or a file cannot be written.
    """
    out = flags.out if flags.out or flags.csv else 'curves.png'
    _check_flags(flags, out)
    runs = [read_run(path) for path in paths]
    runs = [RunLog(name, run.curves, run.main, run.torn) for name, run in zip(_short_names(paths), runs)]
    keys = choose_keys(runs, flags.keys)
    lines = [f'{run.name}: {run.torn} unfinished line(s) of its log left out' for run in runs if run.torn]
    lines += [f'{run.name}: has no {key}' for run in runs for key in keys if key not in run.curves]
    if flags.axis == 'time':
        _check_times(runs, keys)
    if flags.csv:
        _write(flags.csv, lambda file: file.write(to_csv(runs, keys).encode()))
        lines.append(f'wrote {flags.csv}')
    if out:
        _write(out, lambda file: file.write(_rendered(runs, keys, flags, Path(out).suffix[1:])))
        lines.append(f'wrote {out}')
    return lines


def _check_flags(flags: CurveFlags, out: str | None) -> None:
    if flags.axis not in AXES:
        raise ConfigError(f'--x: there is no axis {flags.axis!r}{did_you_mean(flags.axis, AXES)}')
    if flags.smooth < 1:
        raise ConfigError(f'--smooth must be at least 1, a number of log lines; got {flags.smooth}')
    if out and Path(out).suffix.lower() not in SUFFIXES:
        raise ConfigError(f'--out {out}: a picture ends in {", ".join(SUFFIXES[:-1])} or {SUFFIXES[-1]}')


def choose_keys(runs: Sequence[RunLog], asked: Sequence[str] | None) -> list[str]:
    """The keys to draw, as they are logged.

    Args:
        runs: At least one.
        asked: What the user named; None for the usual ones.

    Raises:
        ConfigError: No run has a key, or its last part alone means several.
    """
    known = list(dict.fromkeys(key for run in runs for key in run.curves))
    if asked is None:
        usual = ['loss', 'lr', *(run.main for run in runs if run.main)]
        return [key for key in dict.fromkeys(usual) if key in known] or known[:3]
    chosen = []
    for key in asked:
        ends = [key] if key in known else [name for name in known if name.rpartition('/')[2] == key]
        if len(ends) > 1:
            raise ConfigError(f'--keys {key}: could be any of {", ".join(ends)}; give the whole name')
        if not ends:
            hint = did_you_mean(key, [*known, *(name.rpartition('/')[2] for name in known)])
            raise ConfigError(f'--keys {key}: nothing of that name was logged{hint}')
        chosen += ends
    return list(dict.fromkeys(chosen))


def _check_times(runs: Sequence[RunLog], keys: Sequence[str]) -> None:
    for run in runs:
        for key in keys:
            if key in run.curves and not np.isfinite(run.curves[key].seconds).any():
                raise ConfigError(f"--x time: the log of {run.name} has no 'time'; draw it by iter or epoch")


def _short_names(paths: Sequence[str | Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart; the same path twice keeps its name."""
    parts = [Path(path).resolve().parts for path in paths]
    names = []
    for own in parts:
        others = {other for other in parts if other != own}
        count = 1
        while count < len(own) and any(other[-count:] == own[-count:] for other in others):
            count += 1
        names.append('/'.join(own[-count:]))
    return names


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of each value and the ``width - 1`` before it, NaN left out of it; NaN stays where it was."""
    if width <= 1:
        return values
    known = np.isfinite(values)
    sums, counts = (np.cumsum(np.concatenate([np.zeros(width), part])) for part in (np.where(known, values, 0), known))
    with np.errstate(invalid='ignore', divide='ignore'):
        means = (sums[width:] - sums[:-width]) / (counts[width:] - counts[:-width])
    return np.where(known, means, np.nan)


def to_csv(runs: Sequence[RunLog], keys: Sequence[str]) -> str:
    """The numbers as they were logged, a row each; an empty field where a number is not known."""
    import csv

    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['run', 'key', 'iter', 'epoch', 'seconds', 'value'])
    for run in runs:
        for key in keys:
            curve = run.curves.get(key)
            if curve is None:
                continue
            columns = (curve.iterations, curve.epochs, curve.seconds, curve.values)
            for row in zip(*(column.tolist() for column in columns)):
                iteration, *others = ('' if math.isnan(value) else value for value in row)
                writer.writerow([run.name, key, int(iteration), *others])
    return text.getvalue()


def _rendered(runs: Sequence[RunLog], keys: Sequence[str], flags: CurveFlags, kind: str) -> bytes:
    picture = io.BytesIO()
    draw_figure(runs, keys, flags).savefig(picture, format=kind.lower(), dpi=130)
    return picture.getvalue()


def draw_figure(runs: Sequence[RunLog], keys: Sequence[str], flags: CurveFlags) -> Figure:
    """A panel a key, in rows of at most three, and one legend for all of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(keys), 3 if len(keys) != 4 else 2)
    rows = -(-len(keys) // columns)
    legend = 0.3 + 0.22 * -(-len(runs) // 4)
    figure = Figure(figsize=(max(4.4 * columns, 6.0), 3.3 * rows + legend), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1).tolist()
    for unused in panels[len(keys) :]:
        unused.remove()
    unit = _time_unit(runs, keys) if flags.axis == 'time' else (1.0, '')
    label = {'iter': 'iteration', 'epoch': 'epoch', 'time': f'training time ({unit[1]})'}[flags.axis]
    handles: dict[int, Any] = {}
    for panel, key in zip(panels, keys):
        _style(panel, key, label)
        for number, run in enumerate(runs):
            if key in run.curves:
                smooth = 1 if key.partition('/')[0] in _SETTINGS else flags.smooth
                handles[number] = _draw(panel, run.curves[key], number, replace(flags, smooth=smooth), unit[0])
    _align(panels[: len(keys)])
    figure.legend(
        [handles[number] for number in sorted(handles)],
        [_plain_text(runs[number].name) for number in sorted(handles)],
        loc='outside lower center',
        ncols=min(len(handles), 4),
        fontsize=8,
        frameon=False,
    )
    return figure


def _draw(panel: Axes, curve: Curve, number: int, flags: CurveFlags, unit: float) -> Any:
    """One run in one panel; the line for the legend."""
    style: dict[str, Any] = {
        'color': _COLORS[number % len(_COLORS)],
        'linestyle': _LINES[number // len(_COLORS) % len(_LINES)],
        'linewidth': 1.4,
    }
    x, values = curve.along(flags.axis) / unit, curve.values
    if curve.in_training and flags.smooth > 1:
        panel.plot(x, values, **{**style, 'alpha': 0.25, 'linewidth': 0.8})
        values = running_mean(values, flags.smooth)
    sparse = not curve.in_training or len(x) < 3  # a single point has no line
    (line,) = panel.plot(x, values, marker='o' if sparse else None, markersize=3.5, **style)
    return line


def _align(panels: Sequence[Axes]) -> None:
    """One stretch of the run in all panels."""
    limits = np.array([panel.get_xlim() for panel in panels])
    for panel in panels:
        panel.set_xlim(limits[:, 0].min(), limits[:, 1].max())


def _style(panel: Axes, key: str, label: str) -> None:
    panel.set_title(_plain_text(key), fontsize=10)
    panel.set_xlabel(label, fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(True, color='#e4e4e4', linewidth=0.6)
    panel.set_axisbelow(True)
    panel.margins(x=0.02)
    for side in ('top', 'right'):
        panel.spines[side].set_visible(False)


def _plain_text(text: str) -> str:
    """Text as it is: a dollar sign would begin mathematics, an underscore in front would hide a legend's entry."""
    text = text.replace('$', r'\$')
    return f' {text}' if text.startswith('_') else text


def _time_unit(runs: Sequence[RunLog], keys: Sequence[str]) -> tuple[float, str]:
    longest = max(np.nanmax(run.curves[key].seconds) for run in runs for key in keys if key in run.curves)
    return next(((size, name) for size, name in ((3600.0, 'h'), (60.0, 'min')) if longest > 2 * size), (1.0, 's'))


def _write(path: str, write: Callable[[IO[bytes]], object]) -> None:
    from mlcls.fileio import write_atomic

    try:
        write_atomic(path, write)
    except OSError as error:
        raise DataError(f'{path}: cannot be written ({error.strerror})') from error
