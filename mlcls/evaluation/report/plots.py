"""The figures of a report as PNG files, for papers and slides; drawn by matplotlib, which is imported when needed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcls.errors import DataError
from mlcls.evaluation.functional import average_precision, precision_recall_f1
from mlcls.evaluation.functional.decisions import ConfusionCounts
from mlcls.evaluation.result import EvaluationResult

from .histograms import ScoreHistograms, column_blocks, counts_at, limits_of, measures_of, score_histograms
from .source import ReportSource

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels of the figures that have one a class, and bars of the chart of F1: the classes with the most positives.
MAX_PANELS, MAX_BARS = 20, 80
_STEPS = 400
#: Points of a precision-recall curve that are drawn, at equal steps of recall.
_POINTS = 400
# Okabe and Ito's colours, told apart with any colour vision; shapes and line styles differ as well.
_BLUE, _ORANGE, _GREEN, _GREY = '#0072B2', '#D55E00', '#009E73', '#8a8a8a'
_MAX_NAME = 24
_OTHER_FONTS = ('Noto Sans CJK SC', 'Noto Sans CJK JP', 'WenQuanYi Zen Hei', 'Noto Sans Arabic', 'Noto Sans Devanagari')


def write_plots(folder: str | os.PathLike[str], result: EvaluationResult, source: ReportSource) -> list[Path]:
    """Draw the figures of a report.

    ``precision_recall.png``, ``reliability.png``, ``scores.png`` (small multiples of the classes with the most
    positives), ``f1.png`` (bars), ``thresholds.png`` (what one threshold for all classes would give).

    Args:
        folder: Where to write; made if missing.
        result: The evaluation.
        source: Thresholds in use and title.

    Returns:
        The files.

    Raises:
        DataError: See `ReportSource.check`; or a file cannot be written.
        ConfigError: See `ReportSource.check`.
    """
    source.check(result)
    histograms = score_histograms(result.scores, result.targets, _STEPS)
    home = counts_at(result.scores, result.targets, source.thresholds)
    panels = _most_frequent(histograms, MAX_PANELS)
    drawers: dict[str, Callable[[], Figure]] = {
        'precision_recall': lambda: _precision_recall(result, panels, home),
        'reliability': lambda: _reliability(result, histograms, panels),
        'scores': lambda: _scores(result, source, histograms, panels),
        'f1': lambda: _f1_bars(result, histograms, home),
        'thresholds': lambda: _thresholds(histograms, home),
    }
    folder = Path(folder)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _fonts():
            for name, draw in drawers.items():
                draw().savefig(folder / f'{name}.png', dpi=110)
                written.append(folder / f'{name}.png')
    except OSError as error:
        raise DataError(f'{folder}: the plots cannot be written ({error.strerror})') from error
    return written


@contextmanager
def _fonts() -> Iterator[None]:
    """Fonts for names in other scripts, where such are installed; a letter that none of them has is drawn as a box."""
    import matplotlib
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    family = ['DejaVu Sans', *(name for name in _OTHER_FONTS if name in there)]
    with matplotlib.rc_context({'font.family': family}), warnings.catch_warnings():
        warnings.filterwarnings('ignore', r'Glyph .* missing from')
        yield


def _most_frequent(histograms: ScoreHistograms, count: int) -> list[int]:
    """Numbers of the classes with the most positives, at most ``count``; none without a positive."""
    positives = histograms.hits.sum(axis=1)
    order = np.argsort(-positives, kind='stable')[:count]
    return [int(c) for c in order if positives[c]]


def _grid(panels: int, title: str, x_label: str, y_label: str) -> tuple[Figure, list[Axes]]:
    """A figure of square panels in rows of at most five."""
    columns = min(max(panels, 1), 5 if panels > 4 else 4)
    rows = max(1, -(-panels // columns))
    figure = _figure(max(2.5 * columns, 5.2) + 0.6, 2.45 * rows + 1.3)
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1).tolist()
    for unused in axes[panels:]:
        unused.remove()
    figure.suptitle(title, fontsize=12)
    axes = axes[:panels]
    for number, panel in enumerate(axes):
        left, lowest = number % columns == 0, number >= panels - columns
        panel.tick_params(labelleft=left, labelbottom=lowest)
        panel.set_ylabel(y_label if left else '', fontsize=8)
        panel.set_xlabel(x_label if lowest else '', fontsize=8)
    return figure, axes


def _figure(width: float, height: float) -> Figure:
    """A figure that no global state of matplotlib knows, drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _style(axes: Axes, title: str = '') -> None:
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(True, color='#e4e4e4', linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _name(text: str) -> str:
    """A class name that fits over a panel; a dollar sign would begin mathematics."""
    text = ' '.join(text.split()).replace('$', r'\$')
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + '…'


def _heading(result: EvaluationResult, what: str, shown: int) -> str:
    every = len(result.classes)
    return what if shown == every else f'{what} of the {shown} classes with the most positives (of {every})'


def pr_curve(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at each distinct score of the known labels, highest score first, in [0, 1]; exact.

    Args:
        scores: (N,).
        labels: (N,) of 1, 0 and -1, with at least one 1.
    """
    known = labels >= 0
    values, present = scores[known], labels[known] == 1
    order = np.argsort(-values, kind='stable')
    hits = np.cumsum(present[order])
    last = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)  # of each run of equal scores
    return hits[last] / hits[-1], hits[last] / (last + 1)


def _precision_recall(result: EvaluationResult, panels: list[int], home: ConfusionCounts) -> Figure:
    """Curves of single classes and, first, the macro curve: mean precision of all classes with positives."""
    panels = panels[: MAX_PANELS - 1]
    figure, axes = _grid(
        len(panels) + 1, _heading(result, 'Precision and recall', len(panels)), 'recall (%)', 'precision (%)'
    )
    ap = average_precision(result.scores, result.targets)
    recalls = np.linspace(0, 1, _POINTS + 1)
    mean, classes = np.zeros(len(recalls)), 0
    shown = dict(zip(panels, axes[1:]))
    with_positives = [c for c, value in enumerate(ap.tolist()) if value == value]
    for numbers, block, labels in column_blocks(result.scores, result.targets, with_positives):
        for place, c in enumerate(numbers.tolist()):
            recall, precision = pr_curve(block[place].numpy(), labels[place].numpy())
            recall, precision = recall[recall > 0], precision[recall > 0]
            # The precision at the first score that reaches a recall: the step function of exact AP.
            mean += precision[np.minimum(np.searchsorted(recall, recalls - 1e-9), len(recall) - 1)]
            classes += 1
            if c in shown:
                panel = shown[c]
                panel.step(100 * np.append(0, recall), 100 * np.append(precision[0], precision), color=_BLUE, lw=1.4)
                tp, fp, fn = (int(value[c]) for value in home[:3])
                if tp + fp:
                    panel.plot(100 * tp / (tp + fn), 100 * tp / (tp + fp), 'o', color=_ORANGE, ms=5, zorder=3)
                _style(panel, f'{_name(result.classes[c])}\nAP {float(ap[c]):.1f}, {tp + fn:,} positives')
    axes[0].plot(100 * recalls, 100 * mean / max(classes, 1), color=_GREEN, lw=1.8)
    _style(
        axes[0], f'mean of {classes} classes\nmAP {float(ap.nanmean()):.1f}' if classes else 'no class has positives'
    )
    for panel in axes:
        panel.set(xlim=(-2, 102), ylim=(-2, 103), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
    axes[0].plot([], [], 'o', color=_ORANGE, ms=5, label='threshold in use')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', fontsize=8, frameon=False)
    return figure


def _reliability(result: EvaluationResult, histograms: ScoreHistograms, panels: list[int]) -> Figure:
    """Share of positives against mean score in ten bins; all classes first."""
    panels = panels[: MAX_PANELS - 1]
    figure, axes = _grid(
        len(panels) + 1,
        _heading(result, 'Reliability', len(panels)),
        'mean score of the bin (%)',
        'labels present (%)',
    )
    every = ('all classes', histograms.counts.sum(axis=0), histograms.hits.sum(axis=0), histograms.sums.sum(axis=0))
    rows = [every] + [
        (_name(result.classes[c]), histograms.counts[c], histograms.hits[c], histograms.sums[c]) for c in panels
    ]
    for panel, (name, counts, hits, sums) in zip(axes, rows):
        filled = counts > 0
        total = max(int(counts.sum()), 1)
        mean, share = 100 * sums[filled] / counts[filled], 100 * hits[filled] / counts[filled]
        panel.plot([0, 100], [0, 100], color=_GREY, lw=1, ls='--')
        panel.vlines(mean, mean, share, color=_ORANGE, lw=1.2)
        # Areas as the number of labels, so that a point of three labels does not weigh as one of three thousand.
        panel.scatter(mean, share, s=12 + 90 * counts[filled] / total, color=_BLUE, zorder=3, linewidths=0, alpha=0.85)
        panel.plot(mean, share, color=_BLUE, lw=1)
        error = 100 * np.abs(sums - hits).sum() / total
        _style(panel, f'{name}\nECE {error:.1f}, {total:,} labels')
        panel.set(xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
    axes[0].plot([], [], color=_GREY, lw=1, ls='--', label='perfect')
    axes[0].plot([], [], color=_ORANGE, lw=1.2, label='too high or low by')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=2, fontsize=8, frameon=False)
    return figure


def _scores(result: EvaluationResult, source: ReportSource, histograms: ScoreHistograms, panels: list[int]) -> Figure:
    """Histograms of the scores of positives (up) and negatives (down), each as share of its kind, on a root scale."""
    figure, axes = _grid(
        len(panels), _heading(result, 'Scores', len(panels)), 'score', 'negatives (down), positives (up)'
    )
    width = _STEPS // 20
    edges = np.arange(21) / 20
    for c, panel in zip(panels, axes):
        for counts, sign, colour in ((histograms.positives[c], 1, _BLUE), (histograms.negatives[c], -1, _ORANGE)):
            bars = counts[:-1].reshape(20, width).sum(axis=1)
            bars[-1] += counts[-1]
            heights = np.sqrt(bars / max(int(bars.sum()), 1))
            hatch = None if sign > 0 else '////'
            panel.stairs(sign * heights, edges, fill=True, fc=colour, hatch=hatch, ec='white', lw=0)
        panel.axvline(source.thresholds[c], color='#222222', lw=1.2, ls='--')
        panel.axhline(0, color='#222222', lw=0.6)
        ticks = np.array([-1, -0.25, -0.04, 0, 0.04, 0.25, 1])
        panel.set(xlim=(0, 1), ylim=(-1.03, 1.03), xticks=(0, 0.25, 0.5, 0.75, 1))
        panel.set_xticklabels(['0', '.25', '.5', '.75', '1'])
        panel.set_yticks(np.sign(ticks) * np.sqrt(np.abs(ticks)), [f'{abs(100 * tick):g} %' for tick in ticks])
        _style(panel, f'{_name(result.classes[c])}\nthreshold {source.thresholds[c]:.3g}')
    if panels:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        handles: list[Any] = [
            Patch(color=_BLUE, label='positives'),
            Patch(facecolor=_ORANGE, edgecolor='white', hatch='////', label='negatives'),
            Line2D([], [], color='#222222', lw=1.2, ls='--', label='threshold in use'),
        ]
        figure.legend(handles=handles, loc='outside lower center', ncols=3, fontsize=8, frameon=False)
    return figure


def _f1_bars(result: EvaluationResult, histograms: ScoreHistograms, home: ConfusionCounts) -> Figure:
    """F1 of each class at the thresholds in use, best first, with precision and recall as marks."""
    measures = precision_recall_f1(home.tp, home.fp, home.fn)
    chosen = _most_frequent(histograms, MAX_BARS)
    chosen.sort(key=lambda c: (-float(measures.f1[c]), c))
    figure = _figure(7.2, 0.22 * max(len(chosen), 3) + 1.5)
    axes = figure.subplots()
    places = np.arange(len(chosen))
    f1, precision, recall = (values[chosen].numpy() for values in (measures.f1, measures.precision, measures.recall))
    axes.barh(places, f1, 0.72, color='#9ecae1', label='F1')
    axes.plot(precision, places, '>', color=_BLUE, ms=4.5, ls='', label='precision')
    axes.plot(recall, places, 'o', mfc='white', mec=_ORANGE, mew=1.3, ms=4.5, ls='', label='recall')
    _style(axes)
    every = f'macro F1 of all {len(result.classes)} classes: {measures_of(home).macro_F1:.1f}'
    axes.set_title(f'{_heading(result, "F1", len(chosen))}\n{every}', fontsize=10)
    positives = histograms.hits.sum(axis=1)
    axes.set_yticks(places, [f'{_name(result.classes[c])} ({positives[c]:,})' for c in chosen], fontsize=8)
    axes.set(xlim=(-1, 101), ylim=(max(len(chosen), 1) - 0.4, -0.6), xlabel='percent, at the thresholds in use')
    axes.grid(False, axis='y')
    figure.legend(loc='outside lower center', ncols=3, fontsize=8, frameon=False)
    return figure


def _thresholds(histograms: ScoreHistograms, home: ConfusionCounts) -> Figure:
    """CF1, OF1, macro F1 and the precision and recall of all labels, if one threshold were used for every class."""
    import torch

    above = [np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] for counts in (histograms.positives, histograms.negatives)]
    tp, fp = (torch.from_numpy(counts.copy()) for counts in above)
    known = (tp[:, 0] + fp[:, 0]) > 0
    tp, fp = tp[known], fp[known]
    fn = tp[:, :1] - tp
    curves = [precision_recall_f1(tp[:, k], fp[:, k], fn[:, k]) for k in range(histograms.steps + 1)]
    own = measures_of(home)
    limits = limits_of(histograms.steps)
    figure = _figure(7.2, 5.2)
    axes = figure.subplots()
    lines = (
        ('CF1', _BLUE, '-'),
        ('OF1', _ORANGE, '-'),
        ('macro_F1', _GREEN, '-'),
        ('OP', _GREY, '--'),
        ('OR', _GREY, ':'),
    )
    for name, colour, style in lines:
        values = [getattr(measures, name) for measures in curves]
        label = name.replace('_', ' ')
        if style == '-':
            best = int(np.argmax(values))
            label = f'{label}: best {values[best]:.1f} at {limits[best]:.3g}, in use {getattr(own, name):.1f}'
            axes.plot(limits[best], values[best], 'o', color=colour, ms=5)
            axes.axhline(getattr(own, name), color=colour, lw=0.8, ls=(0, (1, 3)))
        axes.plot(limits, values, color=colour, ls=style, lw=1.5, label=label)
    _style(axes)
    axes.set_title('One threshold for all classes (dotted lines: the thresholds in use)', fontsize=11)
    axes.set(xlim=(0, 1), ylim=(0, 102), xlabel='threshold', ylabel='percent')
    figure.legend(loc='outside lower center', ncols=2, fontsize=8, frameon=False)
    return figure
