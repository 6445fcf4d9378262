"""Calibration: a rising curve per class that turns scores into probabilities one can compare and add up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlcls.errors import ConfigError, DataError, UserError, did_you_mean

from .plain import Reader

#: Ways to calibrate.
KINDS = ('temperature', 'platt', 'isotonic')
#: Scores nearer than this to 0 or 1 are moved there before their log-odds are taken (at most 16.1 either way). Half the
#: distance from 1 to the float32 number below it is 3e-8, so nothing that a model tells apart at 1e-7 is lost.
EPS = 1e-7
#: Rows are calibrated in pieces of this many values, in float64.
_PIECE = 1 << 21


@dataclass(frozen=True, eq=False)
class Calibration:
    """``p -> (1 - weight) * sigmoid(slope * logit(p) + offset) + weight * curve(p)``, for each class on its own.

    ``curve`` is linear between its knots and flat outside them. All parts rise, so no two scores of a class change
    their order (they may become equal).

    Args:
        kind: ``'temperature'`` (one slope for all classes, no offset), ``'platt'`` or ``'isotonic'``.
        slopes: Per class, above 0.
        offsets: Per class.
        knots: For ``'isotonic'``: per class the scores at which its curve is given, rising; else empty.
        values: The curve there, in [0, 1], not falling; else empty.
        weights: For ``'isotonic'``: per class the share of the curve, in [0, 1]; else empty.

    Raises:
        ConfigError: The parts do not fit together or a number is outside its range.
    """

    kind: str
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    knots: tuple[tuple[float, ...], ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f'calibration: unknown kind {self.kind!r}' + did_you_mean(str(self.kind), KINDS))
        for name in ('slopes', 'offsets', 'weights'):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        for name in ('knots', 'values'):
            object.__setattr__(self, name, tuple(tuple(map(float, row)) for row in getattr(self, name)))
        number = len(self.slopes)
        parts = (self.knots, self.values, self.weights)
        sizes = {len(self.offsets), *(len(part) for part in parts if self.kind == 'isotonic')}
        if not number or sizes != {number} or (self.kind != 'isotonic' and any(parts)):
            raise ConfigError(f'calibration: the parts of a {self.kind} calibration must have one entry per class')
        if not all(math.isfinite(slope) and slope > 0 for slope in self.slopes):
            raise ConfigError('calibration: slopes must be above 0, else the order of the scores turns round')
        if not all(map(math.isfinite, self.offsets)):
            raise ConfigError('calibration: offsets must be finite')
        if not all(0 <= weight <= 1 for weight in self.weights):
            raise ConfigError('calibration: weights must be in [0, 1]')
        for knots, values in zip(self.knots, self.values):
            _check_curve(knots, values)

    def check_classes(self, num_classes: int) -> None:
        """Raise ConfigError unless this is for so many classes."""
        if len(self.slopes) != num_classes:
            raise ConfigError(f'the calibration is for {len(self.slopes)} classes, not {num_classes}')

    def apply(self, scores: torch.Tensor) -> torch.Tensor:
        """Calibrate.

        Args:
            scores: (N, C), any floating type and device. Outside [0, 1] counts as 0 or 1; NaN stays NaN.

        Returns:
            (N, C) float32 in [0, 1], on the device of ``scores``.

        Raises:
            ConfigError: Another number of classes, or another shape.
        """
        if scores.ndim != 2:
            raise ConfigError(f'calibration: scores must have the shape (images, classes), not {tuple(scores.shape)}')
        self.check_classes(scores.shape[1])
        found = torch.empty(scores.shape, dtype=torch.float32)
        step = max(1, _PIECE // scores.shape[1])
        for start in range(0, len(scores), step):
            piece = scores[start : start + step].detach().float().cpu().numpy()
            found[start : start + step] = torch.from_numpy(self.apply_columns(piece.T, 0).T)
        return found.to(scores.device)

    def apply_columns(self, scores: np.ndarray, first: int) -> np.ndarray:
        """Calibrate some classes, laid out class by class.

        Args:
            scores: float32 (c, N), classes ``first`` to ``first + c - 1``.
            first: Index of the first of them.

        Returns:
            float32 (c, N).
        """
        chosen = slice(first, first + len(scores))
        odds = logit(scores)
        odds *= np.asarray(self.slopes[chosen])[:, None]
        odds += np.asarray(self.offsets[chosen])[:, None]
        found = sigmoid(odds)
        for row, weight in enumerate(self.weights[chosen]):
            if weight > 0:
                curve = np.interp(scores[row], self.knots[first + row], self.values[first + row])
                found[row] += weight * (curve - found[row])
        return found.astype(np.float32)

    def select(self, places: Sequence[int]) -> Calibration:
        """The calibration of the classes at ``places``, in that order."""
        parts: dict[str, Any] = {}
        for name in ('slopes', 'offsets', 'knots', 'values', 'weights'):
            values = getattr(self, name)
            parts[name] = tuple(values[place] for place in places) if values else ()
        return dataclasses.replace(self, **parts)

    def describe(self) -> str:
        """In words, for a results file."""
        if self.kind == 'temperature':
            return f'temperature {1 / self.slopes[0]:.3f} for all classes'
        return {
            'platt': 'Platt scaling of each class',
            'isotonic': 'isotonic regression of each class, rare classes mixed with Platt scaling of all together',
        }[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and for checkpoints."""
        return {
            'kind': self.kind,
            'slopes': list(self.slopes),
            'offsets': list(self.offsets),
            'knots': [list(row) for row in self.knots],
            'values': [list(row) for row in self.values],
            'weights': list(self.weights),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> Calibration:
        """Read what ``to_dict`` wrote.

        Raises:
            DataError: Anything that does not fit; the message starts with ``where``.
        """
        reader = Reader(data, f'{where}: calibration', [item.name for item in dataclasses.fields(cls)])
        try:
            return cls(
                kind=reader.get('kind', str, ''),
                slopes=tuple(reader.numbers('slopes')),
                offsets=tuple(reader.numbers('offsets')),
                knots=tuple(map(tuple, reader.number_lists('knots'))),
                values=tuple(map(tuple, reader.number_lists('values'))),
                weights=tuple(reader.numbers('weights')),
            )
        except DataError:
            raise
        except UserError as error:
            raise DataError(f'{where}: {error}') from error


def _check_curve(knots: tuple[float, ...], values: tuple[float, ...]) -> None:
    rises = len(knots) == len(values) > 0
    rises = rises and bool((np.diff(knots) > 0).all() and (np.diff(values) >= 0).all())
    if not rises or min(knots[0], values[0]) < 0 or max(knots[-1], values[-1]) > 1:
        raise ConfigError('calibration: the knots of a curve must rise, and its values must not fall, within [0, 1]')


def logit(scores: np.ndarray | float) -> np.ndarray:
    """Log-odds in float64 of scores kept within [EPS, 1 - EPS]."""
    kept = np.clip(np.asarray(scores, dtype=np.float64), EPS, 1 - EPS)
    return np.log(kept) - np.log1p(-kept)


def sigmoid(odds: np.ndarray) -> np.ndarray:
    """The inverse of ``logit``, float64."""
    return 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
