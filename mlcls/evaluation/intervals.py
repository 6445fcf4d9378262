"""Intervals of the headline numbers: how far would they move on other images of the same kind.

A metric takes part through ``resampler``; one that does not has no interval. Register another with
``@resampler.register``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import NamedTuple

import numpy as np
import torch

from mlcls.errors import ConfigError

from .functional import bootstrap, decide
from .functional.blocks import image_blocks
from .functional.exact_match import ImageCounts, exact_matches, image_counts_from_scores, image_jaccard
from .metrics import AveragePrecision, Metric, MultiLabelMetric, ThresholdMetric
from .metrics.exact_match import ExactMatchMetric
from .metrics.shared import known_as, label_counts
from .result import EvaluationResult

#: Draws that ``'auto'`` makes where the size allows, and at least.
_DRAWS, _FEWEST = 1000, 200
#: Fewest draws that may be asked for: the ends of a 95 % interval then still lie within what was drawn.
FEWEST_DRAWS = 100
#: Seconds that all draws may take, and that the fewest may take.
_BUDGET, _PATIENCE = 30.0, 60.0
#: Seconds on one core for the counts of a draw, per (image, class) pair, and for its AP, per pair and per positive
#: (measured; see ``make bench-eval``).
_COUNT_COST, _SUM_COST, _STEP_COST = 0.15e-9, 0.4e-9, 10e-9
#: Below this number of images an interval says little.
FEW_IMAGES = 20
#: Below this number of positives AP is too high on average by several points.
_FEW_POSITIVES = 10
#: A number that is defined in less than this share of the draws has no interval.
_DEFINED = 0.5


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals of the numbers of an evaluation.

    Args:
        bounds: ``'prefix/name'`` -> lower and upper bound, in the unit of the number.
        draws: Resamplings that were made; 0 where there were none, and no interval.
        seed: They were made with.
        confidence: Share of the resamplings between the bounds, 0 to 1.
        words: How they were made, or why there are none.
    """

    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    draws: int = 0
    seed: int = 0
    confidence: float = 0.95
    words: str = 'no intervals were asked for'


class Resampler(NamedTuple):
    """How the numbers of one metric follow from how often each image was drawn.

    ``draw`` takes counts (B, N) and gives ``'prefix/name'`` -> float64 (B,); ``cost`` is its time for one draw, in
    seconds on one core.
    """

    draw: Callable[[torch.Tensor], dict[str, torch.Tensor]]
    cost: float


@singledispatch
def resampler(metric: Metric, scores: torch.Tensor, targets: torch.Tensor) -> Resampler | None:
    """The resampler of a metric for these data; None for a metric that has none.

    Args:
        metric: Chooses the function by its type.
        scores: float (N, C).
        targets: int8 (N, C) of 1, 0 and -1.
    """
    return None


@resampler.register
def _of_threshold_metric(metric: ThresholdMetric, scores: torch.Tensor, targets: torch.Tensor) -> Resampler | None:
    count = _counter(scores, targets, metric.thr, metric.topk)
    names = dict(zip(metric.measures, metric.names(scores.shape[1]), strict=True))

    def draw(counts: torch.Tensor) -> dict[str, torch.Tensor]:
        found = bootstrap.resampled_precision_recall_f1(count(counts))
        return {name: found[measure] for measure, name in names.items()}

    return Resampler(draw, _COUNT_COST * scores.numel())


@resampler.register
def _of_multi_label_metric(metric: MultiLabelMetric, scores: torch.Tensor, targets: torch.Tensor) -> Resampler | None:
    if metric.average is None:
        return None
    count = _counter(scores, known_as(targets, metric._unknown_as), metric.thr, metric.topk)
    fields = ('CP', 'CR', 'macro_F1') if metric.average == 'macro' else ('OP', 'OR', 'micro_F1')
    places = dict(zip(('precision', 'recall', 'f1-score'), fields, strict=True))
    names = dict(zip(metric.items, metric.names(scores.shape[1]), strict=True))

    def draw(counts: torch.Tensor) -> dict[str, torch.Tensor]:
        found = bootstrap.resampled_precision_recall_f1(count(counts))
        return {name: found[places[item]] for item, name in names.items() if item in places}

    return Resampler(draw, _COUNT_COST * scores.numel())


@resampler.register
def _of_average_precision(metric: AveragePrecision, scores: torch.Tensor, targets: torch.Tensor) -> Resampler | None:
    names = metric.names(scores.shape[1])
    if not names:
        return None
    labels = known_as(targets, metric._unknown_as)

    def draw(counts: torch.Tensor) -> dict[str, torch.Tensor]:
        ap = bootstrap.resampled_average_precision(scores, labels, counts, metric.variant)
        labelled = bootstrap.resampled_known(labels, counts) > 0 if metric.absent == 'zero' else None
        return {names[0]: bootstrap.resampled_mean_average_precision(ap, metric.absent, labelled)}

    positives = int(label_counts(labels).positives.sum())
    return Resampler(draw, _SUM_COST * scores.numel() + _STEP_COST * positives)


@resampler.register
def _of_exact_match_metric(metric: ExactMatchMetric, scores: torch.Tensor, targets: torch.Tensor) -> Resampler | None:
    values = _image_values(image_counts_from_scores(scores, targets, metric.thr, metric.topk))
    names = metric.names(scores.shape[1])[:3]

    def draw(counts: torch.Tensor) -> dict[str, torch.Tensor]:
        right, overlap, usable, wrong, known = bootstrap.resampled_sums(values, counts).unbind(dim=1)
        numbers = right / usable, 100 * wrong / known, overlap / usable
        return dict(zip(names, numbers, strict=True))

    return Resampler(draw, 1e-9 * len(scores))


def _image_values(counts: ImageCounts) -> torch.Tensor:
    """Of each image: all right (100 or 0), Jaccard index, whether both count, wrong and known labels: (N, 5)."""
    right, overlap = exact_matches(counts).nan_to_num(nan=0.0), image_jaccard(counts).nan_to_num(nan=0.0)
    return torch.stack([right, overlap, (counts.known > 0).double(), counts.wrong.double(), counts.known.double()], 1)


def _counter(
    scores: torch.Tensor, targets: torch.Tensor, thr: float | list[float] | None, topk: int | None
) -> Callable[[torch.Tensor], bootstrap.ResampledCounts]:
    """Counts of decisions; those of the ``topk`` rule are made once, since each needs all scores of an image."""
    if thr is not None or topk is None:
        limits = 0.5 if thr is None else thr
        return lambda counts: bootstrap.resampled_threshold_counts(scores, targets, limits, counts)
    decisions = torch.cat([decide(scores[rows], None, topk) for rows in image_blocks(scores)])
    return lambda counts: bootstrap.resampled_counts(decisions, targets, counts)


def headline_intervals(
    result: EvaluationResult,
    metrics: Sequence[Metric],
    draws: int | str = 'auto',
    seed: int = 0,
    confidence: float = 0.95,
) -> Intervals:
    """Intervals of the numbers of an evaluation, resampling its images; see ``centred_percentiles``.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3. They say how far a number would move
    with another test set of the same size. They say nothing of other training seeds, and hold the thresholds fixed.

    Args:
        result: Its scores, targets and numbers.
        metrics: Those that gave it.
        draws: Number of resamplings, 0 for none. ``'auto'``: 1,000, or as many as 30 seconds allow, but at least 200;
            none where those would take minutes.
        seed: Of the resampling; the same seed and number of images give the same draws on every machine.
        confidence: Between 0 and 1.

    Returns:
        Intervals by the names of ``result.metrics``; of metrics without a ``resampler`` there are none.

    Raises:
        ConfigError: ``draws``, ``seed`` or ``confidence`` is no such number.
    """
    _check(draws, confidence)
    if draws == 0:
        return Intervals(seed=seed, confidence=confidence)
    found = [resampler(metric, result.scores, result.targets) for metric in metrics]
    takers = [each for each in found if each is not None]
    if not takers:
        return Intervals(seed=seed, confidence=confidence, words='no intervals: no metric here can be resampled')
    number = affordable_draws(sum(taker.cost for taker in takers)) if isinstance(draws, str) else draws
    size = f'{result.num_images:,} images of {len(result.classes):,} classes'
    if not number:
        words = f'no intervals: {_FEWEST} resamplings of {size} would take minutes; ask for a number to have them'
        return Intervals(seed=seed, confidence=confidence, words=words)
    values = resample(takers, result.num_images, number, seed)
    bounds = {
        name: _bounds(value, result.metrics[name], confidence)
        for name, value in values.items()
        if name in result.metrics
    }
    kept = {name: bound for name, bound in bounds.items() if bound is not None}
    words = _words(result, number, seed, confidence, fewer=isinstance(draws, str) and number < _DRAWS)
    return Intervals(kept, number, seed, confidence, words)


def _check(draws: int | str, confidence: float) -> None:
    number = isinstance(draws, int) and not isinstance(draws, bool)
    if draws != 'auto' and not (number and (draws == 0 or int(draws) >= FEWEST_DRAWS)):
        raise ConfigError(f"resamplings must be 'auto', 0 or at least {FEWEST_DRAWS}, not {draws!r}")
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise ConfigError(f'confidence must be a number between 0 and 1, not {confidence!r}')


def affordable_draws(cost: float) -> int:
    """How many draws ``'auto'`` makes.

    Args:
        cost: Of one draw, in seconds on one core.
    """
    within = int(_BUDGET / max(cost, 1e-12))
    if within >= _FEWEST:
        return min(_DRAWS, within)
    return _FEWEST if _FEWEST * cost <= _PATIENCE else 0


def resample(takers: Sequence[Resampler], num_images: int, draws: int, seed: int) -> dict[str, torch.Tensor]:
    """The numbers of all draws: ``'prefix/name'`` -> float64 (draws,). All take the same draws.

    Args:
        takers: Of data with ``num_images`` images.
        num_images: N.
        draws: At least 1.
        seed: See ``resample_counts``.

    Raises:
        ConfigError: See ``resample_counts``.
    """
    parts: dict[str, list[torch.Tensor]] = {}
    for counts in bootstrap.resample_counts(num_images, draws, seed):
        for taker in takers:
            for name, values in taker.draw(counts).items():
                parts.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in parts.items()}


def centred_percentiles(values: torch.Tensor, measured: float, confidence: float = 0.95) -> tuple[float, float] | None:
    """The bounds between which the middle of the draws lies, moved by what the draws are off on average.

    A resampled data set holds some images several times. A positive drawn twice is retrieved twice at once, so that AP
    of resampled data is too high on average, the more so the fewer positives a class has. Intervals of mAP that should
    hold in 95 % of cases held in 90 to 92 % without the shift and in 94 to 95 % with it (measured: synthetic data sets
    of 400 and 1,000 images with classes of 3 to 160 positives, 200 of each kind). Other numbers hardly move.

    Args:
        values: float64 (draws,); NaN where the number is not defined.
        measured: The number itself.
        confidence: Share of the draws between the bounds.

    Returns:
        Lower and upper bound; None where the number is not defined in half of the draws.
    """
    defined = values[~values.isnan()].numpy()
    if len(defined) < max(1, _DEFINED * len(values)) or not math.isfinite(measured):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    shift = measured - float(defined.mean())
    return float(low) + shift, float(high) + shift


def _bounds(values: torch.Tensor, measured: float, confidence: float) -> tuple[float, float] | None:
    """Bounds that the shift does not move out of 0 to 100, where no draw is outside."""
    bounds = centred_percentiles(values, measured, confidence)
    if bounds is None or bool(((values < 0) | (values > 100)).any()):
        return bounds
    return max(0.0, bounds[0]), min(100.0, bounds[1])


def _words(result: EvaluationResult, draws: int, seed: int, confidence: float, fewer: bool) -> str:
    parts = [
        f'{100 * confidence:g} % intervals for other test sets of this size: percentiles of {draws:,} resamplings of '
        f'the images with replacement (seed {seed}), centred on the number, thresholds held fixed'
    ]
    if fewer:
        parts.append(f'{draws:,} instead of {_DRAWS:,} resamplings because of the size of the data')
    rare = sum(0 < count < _FEW_POSITIVES for count in result.positives)
    if rare:
        parts.append(
            f'{rare} of {len(result.classes)} classes have fewer than {_FEW_POSITIVES} positive images: AP of so few '
            'leans upwards, the number and its interval alike'
        )
    if result.num_images < FEW_IMAGES:
        parts.append(f'only {result.num_images} images: the intervals are unreliable')
    return '; '.join(parts)
