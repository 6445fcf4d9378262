"""Thresholds of a model, one per class, with everything a reader must know to trust them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mlcls.errors import ConfigError, DataError, UserError, did_you_mean

from ..functional.decisions import decide
from .calibration import Calibration
from .plain import Reader


@dataclass(frozen=True, eq=False)
class OperatingPoints:
    """One threshold per class: a label is given where the (calibrated) score >= the threshold of its class.

    Args:
        classes: Names, in class order; each once.
        thresholds: In class order, in [0, 1]; rounded to float32, the type in which scores are compared.
        objective: What they were chosen for, as ``parse_objective`` reads it, or ``'by hand'``.
        source: One sentence: how they were chosen, and on what.
        data_hash: Fingerprint of the data they were chosen on; empty if not known.
        num_images: How many images they were chosen on.
        positives: Known positives of each class in those images; empty if not known.
        intervals: 95 % bootstrap interval of each threshold (low, high); empty if not computed.
        notes: What to be careful with, one sentence each.
        figures: ``'at 0.5'``, ``'cross-fitted'`` (honest) and ``'same data'`` (optimistic), each with CP, CR, CF1, OP,
            OR, OF1 and macro_F1 in percent; those that are known.
        calibration: Applied to the scores before they are compared; None: nothing is.

    Raises:
        ConfigError: Another number of values than of classes, a class twice, a threshold that is no number in [0, 1].
    """

    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    objective: str = 'by hand'
    source: str = ''
    data_hash: str = ''
    num_images: int = 0
    positives: tuple[int, ...] = ()
    intervals: tuple[tuple[float, float], ...] = ()
    notes: tuple[str, ...] = ()
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        classes = tuple(self.classes)
        if not classes:
            raise ConfigError('thresholds need at least one class')
        twice = (
            sorted({name for name in classes if classes.count(name) > 1}) if len(set(classes)) < len(classes) else []
        )
        if twice:
            raise ConfigError(f"the class '{twice[0]}' has more than one threshold")
        for what, values in (('thresholds', self.thresholds), ('positives', self.positives)):
            self._count(what, values, optional=what != 'thresholds')
        self._count('intervals', self.intervals, optional=True)
        thresholds = tuple(_threshold(value, name) for value, name in zip(self.thresholds, classes))
        set_field = object.__setattr__  # the class is frozen for its users
        set_field(self, 'classes', classes)
        set_field(self, 'thresholds', thresholds)
        set_field(self, 'positives', tuple(int(value) for value in self.positives))
        set_field(self, 'intervals', tuple((float(low), float(high)) for low, high in self.intervals))
        set_field(self, 'notes', tuple(self.notes))
        if self.calibration is not None:
            self.calibration.check_classes(len(classes))

    def _count(self, what: str, values: Sequence[Any], optional: bool) -> None:
        if len(values) != len(self.classes) and not (optional and not values):
            raise ConfigError(f'{len(values)} {what} are given for {len(self.classes)} classes: give one per class')

    def calibrate(self, scores: torch.Tensor) -> torch.Tensor:
        """Apply the calibration.

        Args:
            scores: (N, C) in [0, 1], any floating type.

        Returns:
            (N, C) float32 in [0, 1]; the scores themselves, as they are, where there is no calibration.
        """
        return scores if self.calibration is None else self.calibration.apply(scores)

    def decide(self, scores: torch.Tensor) -> torch.Tensor:
        """Calibrate, then compare in float32.

        Args:
            scores: (N, C) in [0, 1], not calibrated yet.

        Returns:
            bool (N, C).

        Raises:
            ConfigError: Another number of classes.
            DataError: A score is NaN, or the shape is not (images, classes).
        """
        scores = self.calibrate(scores)
        # Thresholds lie between two float32 scores; finer scores are rounded as those were.
        return decide(scores.float() if scores.dtype == torch.float64 else scores, self.thresholds)

    def check_classes(self, classes: Sequence[str], where: str) -> None:
        """Check that the thresholds are for exactly these classes in this order.

        Args:
            classes: Of the model or the data.
            where: What the thresholds come from, for the message, for example a file name.

        Raises:
            ConfigError: Names the first difference.
        """
        classes = tuple(classes)
        if classes == self.classes:
            return
        self._check_names(classes, where)
        position = next(i for i, (mine, other) in enumerate(zip(self.classes, classes)) if mine != other)
        raise ConfigError(
            f"{where}: the thresholds are in another order of classes: class {position} is '{self.classes[position]}' "
            f"there and '{classes[position]}' here"
        )

    def _check_names(self, classes: Sequence[str], where: str) -> None:
        mine, others = set(self.classes), set(classes)
        missing = [name for name in classes if name not in mine]
        if missing:
            raise ConfigError(
                f"{where}: no threshold for the class '{missing[0]}'"
                + (f' and {len(missing) - 1} more' if len(missing) > 1 else '')
                + did_you_mean(missing[0], mine - others)
            )
        extra = [name for name in self.classes if name not in others]
        if extra:
            raise ConfigError(
                f"{where}: holds a threshold for '{extra[0]}'"
                + (f' and {len(extra) - 1} more classes' if len(extra) > 1 else '')
                + ', which is no class here'
                + did_you_mean(extra[0], others)
            )

    def in_order(self, classes: Sequence[str], where: str) -> OperatingPoints:
        """The same points in the given order of classes, for files that name the classes.

        Args:
            classes: The same names, in any order.
            where: As in ``check_classes``.

        Returns:
            Self where the order is the same already.

        Raises:
            ConfigError: A class is missing or not known.
        """
        classes = tuple(classes)
        if classes == self.classes:
            return self
        self._check_names(classes, where)
        places = [self.classes.index(name) for name in classes]
        return dataclasses.replace(
            self,
            classes=classes,
            thresholds=tuple(self.thresholds[place] for place in places),
            positives=tuple(self.positives[place] for place in places) if self.positives else (),
            intervals=tuple(self.intervals[place] for place in places) if self.intervals else (),
            calibration=None if self.calibration is None else self.calibration.select(places),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and for checkpoints; ``from_dict`` gives the same points back."""
        return {
            'objective': self.objective,
            'source': self.source,
            'data_hash': self.data_hash,
            'num_images': self.num_images,
            'classes': list(self.classes),
            'thresholds': {name: short(value) for name, value in zip(self.classes, self.thresholds)},
            'positives': list(self.positives),
            'intervals': [[short(low), short(high)] for low, high in self.intervals],
            'notes': list(self.notes),
            'figures': {name: dict(values) for name, values in self.figures.items()},
            'calibration': None if self.calibration is None else self.calibration.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Any, where: str) -> OperatingPoints:
        """Read what ``to_dict`` wrote, or ``{'thresholds': {'cat': 0.3, ...}}`` as the report copies it.

        Args:
            data: Plain data.
            where: Name of the file, for messages.

        Returns:
            The points, in the order of ``classes`` or, where that is not given, of ``thresholds``.

        Raises:
            DataError: Anything that does not fit: a wrong type, an unknown key, a threshold outside [0, 1], ...
        """
        reader = Reader(data, where, [item.name for item in dataclasses.fields(cls)])
        thresholds = reader.get('thresholds', Mapping, None)
        if thresholds is None:
            raise DataError(f"{where}: holds no 'thresholds': {{class name: number in [0, 1], ...}}")
        values = {str(name): _read_threshold(value, name, where) for name, value in thresholds.items()}
        classes = tuple(reader.texts('classes')) or tuple(values)
        if set(classes) != set(values):
            odd = sorted(set(classes) ^ set(values))[0]
            raise DataError(f"{where}: 'classes' and 'thresholds' name different classes, for example '{odd}'")
        calibration = reader.get('calibration', Mapping, None)
        fields: dict[str, Any] = {
            'classes': classes,
            'thresholds': tuple(values[name] for name in classes),
            'objective': reader.get('objective', str, 'by hand'),
            'source': reader.get('source', str, ''),
            'data_hash': reader.get('data_hash', str, ''),
            'num_images': reader.get('num_images', int, 0),
            'positives': tuple(reader.integers('positives')),
            'intervals': tuple(reader.pairs('intervals')),
            'notes': tuple(reader.texts('notes')),
            'figures': reader.figures('figures'),
            'calibration': None if calibration is None else Calibration.from_dict(calibration, where),
        }
        try:
            return cls(**fields)
        except UserError as error:
            raise DataError(f'{where}: {error}') from error


def short(value: float) -> float:
    """The shortest decimal that means the same float32, so that 0.3 is written as 0.3."""
    return float(str(np.float32(value)))


def _problem(value: object) -> str | None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return f'must be a number in [0, 1], not {value!r}'
    if math.isnan(value) or not 0 <= value <= 1:
        return f'must be in [0, 1], not {float(value)}'
    return None


def _threshold(value: object, name: str) -> float:
    problem = _problem(value)
    if problem:
        raise ConfigError(f"the threshold of '{name}' {problem}")
    return float(np.float32(value))  # type: ignore[arg-type]


def _read_threshold(value: object, name: object, where: str) -> float:
    problem = _problem(value)
    if problem:
        raise DataError(f"{where}: the threshold of '{name}' {problem}")
    return float(value)  # type: ignore[arg-type]
