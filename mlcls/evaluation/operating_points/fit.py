"""Choosing thresholds for a model, and saying how good they are and how sure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlcls.errors import ConfigError, did_you_mean

from .calibration import KINDS
from .calibration_fit import fit_calibration
from .choosing import Choice, choose, count_decisions, figures
from .crossfit import cross_fit
from .intervals import threshold_intervals
from .objectives import CurveObjective, Objective, parse_objective
from .points import OperatingPoints
from .rates import Alarms
from .shrinkage import STRENGTH
from .view import View, checked_view

#: With fewer known positives (or negatives) than this a class is named in a note.
FEW = 10
#: An interval wider than this, in score, is named in a note.
WIDE = 0.5
#: Classes named in one note.
_NAMED = 8


@dataclass(frozen=True)
class FitSettings:
    """How thresholds are chosen.

    Args:
        objective: See ``parse_objective``.
        calibration: ``'temperature'``, ``'platt'`` or ``'isotonic'``: fit this first; None: use scores as they are.
        shrink: Whether thresholds (and calibration curves) of rare classes lean on all classes together; a number
            says with how many positives both count the same (True: 5).
        folds: Folds of the cross-fit, at least 2; 0: none.
        bootstrap: Draws for the interval of each threshold; 0: no intervals.
        seed: Of folds and draws.
        costs: For ``'cost=...'``: (cost of a miss, cost of a false alarm) of classes that differ from the objective.

    Raises:
        ConfigError: A setting that is none; the message names the nearest.
    """

    objective: str = 'f1'
    calibration: str | None = None
    shrink: bool | float = True
    folds: int = 5
    bootstrap: int = 200
    seed: int = 0
    costs: Mapping[str, tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        parse_objective(self.objective, tuple(self.costs or ()), self.costs)
        if self.calibration is not None and self.calibration not in KINDS:
            raise ConfigError(
                f'calibration must be None or one of {", ".join(KINDS)}, not {self.calibration!r}'
                + did_you_mean(str(self.calibration), KINDS)
            )
        good = isinstance(self.shrink, (bool, int, float)) and math.isfinite(self.shrink) and self.shrink >= 0
        if not good:
            raise ConfigError(f'shrink must be True, False or a number of positives, not {self.shrink!r}')
        for name, least in (('folds', 0), ('bootstrap', 0), ('seed', 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f'{name} must be a whole number of at least {least}, not {value!r}')
        if self.folds == 1:
            raise ConfigError('folds must be 0 (no cross-fit) or at least 2, not 1')

    @property
    def strength(self) -> float:
        """Positives with which a class and the group count the same."""
        return STRENGTH * self.shrink if isinstance(self.shrink, bool) else float(self.shrink)


def fit_operating_points(
    scores: torch.Tensor,
    targets: torch.Tensor,
    classes: Sequence[str],
    settings: FitSettings = FitSettings(),
    data_hash: str = '',
) -> OperatingPoints:
    """Choose a threshold for each class.

    Candidates are all thresholds that the scores can tell apart; the one chosen lies midway between two neighbouring
    scores. Thresholds of rare classes lean on the group's (see ``shrinkage.shrink``). Everything is repeated on folds
    of the images, so that ``figures['cross-fitted']`` comes from decisions on images that neither thresholds nor
    calibration had seen; ``figures['same data']`` flatters. Unknown labels (-1) count nowhere.

    Args:
        scores: (N, C) in [0, 1], floating, not calibrated; finer types than float32 are rounded to it.
        targets: (N, C) of 1, 0 and -1.
        classes: Names, in class order.
        settings: See ``FitSettings``.
        data_hash: Fingerprint of the data, to be stored with the points.

    Returns:
        The points. ``notes`` says what to be careful with.

    Raises:
        ConfigError: Settings that do not fit, or another number of names than of classes.
        DataError: No images, shapes that differ, NaN, scores outside [0, 1], labels that are none, no known positive.
    """
    classes = tuple(classes)
    objective = parse_objective(settings.objective, classes, settings.costs)
    raw = checked_view(scores, targets, len(classes))
    calibration = None
    notes: list[str] = []
    view = raw
    if settings.calibration is not None:
        calibration, notes = fit_calibration(settings.calibration, raw, settings.strength)
        view = raw.calibrated(calibration)
    choice = choose(view, objective, settings.strength)
    labelled = raw.label_counts[0] + raw.label_counts[1] > 0  # as in ThresholdMetric: the others have no measure
    found = {'at 0.5': figures(count_decisions(raw, np.full(len(classes), 0.5))[:, labelled])}
    crossed = _cross_fitted(raw, objective, settings)
    if crossed is not None:
        found['cross-fitted'] = figures(crossed[:, labelled])
    found['same data'] = figures(count_decisions(view, choice.thresholds)[:, labelled])
    intervals: tuple[tuple[float, float], ...] = ()
    if settings.bootstrap:
        arguments = (settings.strength, settings.bootstrap, settings.seed)
        intervals = threshold_intervals(view, objective, choice, *arguments)
    notes += _notes(view, choice, objective, classes, settings)
    notes += _width_note(intervals, view, classes) + _crossed_notes(crossed, objective, raw, settings)
    return OperatingPoints(
        classes=classes,
        thresholds=tuple(choice.thresholds.tolist()),
        objective=objective.name,
        source=_source(raw, objective, settings),
        data_hash=data_hash,
        num_images=raw.num_images,
        positives=tuple(raw.label_counts[0].tolist()),
        intervals=intervals,
        notes=tuple(notes),
        figures=found,
        calibration=calibration,
    )


def _cross_fitted(view: View, objective: Objective, settings: FitSettings) -> np.ndarray | None:
    """Counts of the cross-fit; None where there is none."""
    folds = min(settings.folds, view.num_images)
    if folds < 2:
        return None
    return cross_fit(view, objective, settings.calibration, settings.strength, folds, settings.seed)


def _source(view: View, objective: Objective, settings: FitSettings) -> str:
    curves = isinstance(objective, CurveObjective)
    shrunk = f', rare classes shrunk towards the group (strength {settings.strength:g})'
    calibrated = f', after {settings.calibration} calibration' if settings.calibration else ''
    return f'chosen for {objective.words} on {view.num_images} images{calibrated}' + (
        shrunk if curves and settings.strength else ''
    )


def _notes(
    view: View, choice: Choice, objective: Objective, classes: Sequence[str], settings: FitSettings
) -> list[str]:
    """Classes that the data say little or nothing about, and what the objective could not reach."""
    notes = list(choice.notes)
    if isinstance(objective, Alarms):  # reads no labels
        if settings.calibration is None:
            notes.append('one threshold for all classes compares their scores: fit a calibration with it')
        return notes
    positives, negatives = view.label_counts
    by_group = "the group's threshold" if choice.group is not None else 'no choice of their own'
    for what, counts in (('positive', positives), ('negative', negatives)):
        named = _named(np.flatnonzero(counts == 0), classes)
        if named:
            notes.append(f'no known {what} label, so {by_group}: {named}')
        few = np.flatnonzero((counts > 0) & (counts < FEW))
        if len(few):
            notes.append(
                f'fewer than {FEW} known {what}s, too few to choose a threshold by: {_named(few, classes, counts)}'
            )
    missed = _named(np.flatnonzero(choice.missed), classes)
    if missed:
        notes.append(f'{objective.name} is out of reach on these data, the nearest threshold is used: {missed}')
    return notes


def _width_note(intervals: Sequence[tuple[float, float]], view: View, classes: Sequence[str]) -> list[str]:
    positives, negatives = view.label_counts
    if not intervals:
        return []
    wide = [high - low > WIDE for low, high in intervals] & (positives > 0) & (negatives > 0)
    named = _named(np.flatnonzero(wide), classes)
    return [f'the 95 % interval of the threshold is wider than {WIDE:g}: {named}'] if named else []


def _crossed_notes(crossed: np.ndarray | None, objective: Objective, view: View, settings: FitSettings) -> list[str]:
    """Whether constraints hold on images that were not seen, or why that is not known."""
    if crossed is None:
        if settings.folds == 0:
            return []
        return ['there is one image only, so nothing to cross-fit on: the figures are of the same data']
    if not isinstance(objective, CurveObjective) or objective.constraint is None:
        return []
    tp, fp, fn = crossed
    whole = tp + fp if objective.constraint == 'precision' else tp + fn
    asked = float(objective.name.split('>=')[1])
    present = view.label_counts[0] > 0
    short = present & (tp < (asked - 1e-12) * whole)
    if not short.any():
        return []
    return [
        f'on images that the thresholds were not chosen on, the {objective.constraint} is below {asked:g} '
        f'in {short.sum()} of {present.sum()} classes'
    ]


def _named(places: Iterable[int], classes: Sequence[str], counts: np.ndarray | None = None) -> str:
    """Names of some classes, with their counts where given."""
    places = list(places)
    words = [classes[place] + ('' if counts is None else f' ({counts[place]})') for place in places[:_NAMED]]
    more = f' and {len(places) - _NAMED} more' if len(places) > _NAMED else ''
    return ', '.join(words) + more
