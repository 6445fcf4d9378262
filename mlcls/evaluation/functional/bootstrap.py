"""The bootstrap over images: measures of many resampled data sets at once, without building any of them.

Drawing N images of N with replacement is the same as giving each image a count, how often it was drawn. A measure of
the resampled data is then the measure of the data with these counts as weights (Efron, "Bootstrap Methods", 1979).
Counts are whole numbers, so all sums here are exact; what is left to float64 is a division and a mean. All tensors are
on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from mlcls.errors import ConfigError, DataError, did_you_mean

from .average_precision import VARIANTS
from .blocks import columns, real_scores, share_out, whole_numbers
from .decisions import decide
from .validate import check_pair, check_targets

#: Bytes of counts in one block of draws.
_BLOCK_BYTES = 2**26
#: Draws that are summed together; the images' weights of so many lie in the processor's cache (measured: best of 32
#: to 512 at 40,000 images).
_WIDTH = 64
#: Numbers of images whose positions are kept in score order at a time, over all classes.
_ORDERED = 2**24
#: Steps of a precision-recall curve that are computed together.
_STEPS = 1024
#: Classes put in order by one thread at a time.
_COLUMNS = 16
#: Numbers of (image, class) pairs whose marks are turned into floats at a time.
_MARKS = 2**23
#: Above this number of images float32 no longer holds every sum of counts.
_EXACT = 2**24


def resample_counts(num_images: int, draws: int, seed: int = 0) -> Iterator[torch.Tensor]:
    """How often each image is in each of ``draws`` resampled data sets of the same size.

    Draw d depends on ``num_images``, ``seed`` and d alone: not on the number of draws, the machine or the version of
    numpy. The random numbers are the raw output of PCG64, which numpy promises never to change, and are mapped to
    images by a multiplication (``x * num_images // 2**32``; the chance of an image is off by less than
    ``num_images / 2**32`` of itself) instead of by ``Generator.integers``, which may change.

    Args:
        num_images: N, 1 to 2**31.
        draws: How many data sets, at least 1.
        seed: Any integer of at least 0.

    Returns:
        An iterator of blocks of draws, uint8 (B, N), of about 64 MB; the B add up to ``draws`` and each row to N.

    Raises:
        ConfigError: ``num_images`` or ``draws`` below 1, or a negative seed.
    """
    for name, value, least in (('num_images', num_images, 1), ('draws', draws, 1), ('seed', seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f'{name} of a bootstrap must be an integer of at least {least}, not {value!r}')
    return _blocks(num_images, draws, seed)


def _blocks(num_images: int, draws: int, seed: int) -> Iterator[torch.Tensor]:
    random = np.random.PCG64(seed)
    size = max(1, _BLOCK_BYTES // num_images)
    size = max(_WIDTH, size // _WIDTH * _WIDTH)
    for start in range(0, draws, size):
        block = np.empty((min(size, draws - start), num_images), dtype=np.uint8)
        for row in block:
            # No overflow: counts follow a Poisson law of mean 1, and the chance of 256 is below 1e-500.
            row[:] = np.bincount(_drawn(random, num_images), minlength=num_images)
        yield torch.from_numpy(block)


def _drawn(random: np.random.PCG64, num_images: int) -> np.ndarray:
    """Numbers of N drawn images, from the low, then the high halves of N / 2 (rounded up) words of 64 bits."""
    words = random.random_raw((num_images + 1) // 2)
    halves = np.concatenate([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)])[:num_images]
    return ((halves * np.uint64(num_images)) >> np.uint64(32)).astype(np.int64)


class ResampledCounts(NamedTuple):
    """Counts of each draw and class over the known labels, int64 (B, C) each; ``known`` is their number."""

    tp: torch.Tensor
    fp: torch.Tensor
    fn: torch.Tensor
    known: torch.Tensor


def resampled_counts(decisions: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor) -> ResampledCounts:
    """Right and wrong decisions per class in each resampled data set.

    Args:
        decisions: bool (N, C).
        targets: (N, C) of 1, 0 and -1; -1 counts nowhere.
        counts: uint8 (B, N), see ``resample_counts``.

    Returns:
        Exact integers.

    Raises:
        DataError: Shapes differ, or a label is not 1, 0 or -1.
    """
    check_pair(decisions, targets)
    return _counted(targets, counts, lambda block: decisions[:, block])


def resampled_threshold_counts(
    scores: torch.Tensor, targets: torch.Tensor, thr: float | list[float], counts: torch.Tensor
) -> ResampledCounts:
    """``resampled_counts`` of ``decide(scores, thr)``, without a matrix of all decisions.

    Args:
        scores: (N, C), NaN-free.
        targets: (N, C) of 1, 0 and -1.
        thr: One threshold, or one per class.
        counts: uint8 (B, N).

    Raises:
        DataError: As ``resampled_counts``, or a score is NaN.
        ConfigError: Wrong number of thresholds.
    """
    check_pair(scores, targets)
    limits = torch.as_tensor(thr, dtype=torch.float64)
    if limits.ndim and len(limits) != scores.shape[1]:
        raise ConfigError(f'{len(limits)} thresholds are given for {scores.shape[1]} classes')
    return _counted(targets, counts, lambda block: decide(scores[:, block], limits[block] if limits.ndim else limits))


def resampled_known(targets: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Number of known labels of each class in each resampled data set.

    Args:
        targets: (N, C) of 1, 0 and -1.
        counts: uint8 (B, N).

    Returns:
        int64 (B, C).

    Raises:
        DataError: Shapes differ, or a label is not 1, 0 or -1.
    """
    _check_counts(counts, len(targets))
    found = torch.empty(len(counts), targets.shape[1], dtype=torch.int64)
    for block in _class_blocks(targets):
        found[:, block] = _known(check_targets(targets[:, block]), counts)
    return found


def _known(labels: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Each draw holds N images; only classes with unknown labels need to be counted."""
    found = torch.full((len(counts), labels.shape[1]), len(labels), dtype=torch.int64)
    partly = (labels < 0).any(dim=0)
    if bool(partly.any()):
        found[:, partly] = _products(counts, labels[:, partly] >= 0)
    return found


def _counted(targets: torch.Tensor, counts: torch.Tensor, decided: Callable[[slice], torch.Tensor]) -> ResampledCounts:
    """Matrix products of counts and marks, for a few classes at a time so that few marks are floats at once."""
    _check_counts(counts, len(targets))
    found = ResampledCounts(*(torch.empty(len(counts), targets.shape[1], dtype=torch.int64) for _ in range(4)))
    for block in _class_blocks(targets):
        labels, marked = check_targets(targets[:, block]), decided(block).to(torch.bool)
        positive = labels == 1
        marks = torch.cat([marked & positive, marked & (labels == 0), ~marked & positive], dim=1)
        sums = _products(counts, marks).chunk(3, dim=1)
        for target, part in zip(found, [*sums, _known(labels, counts)], strict=True):
            target[:, block] = part
    return found


def _class_blocks(targets: torch.Tensor) -> list[slice]:
    num_images, num_classes = targets.shape
    step = max(1, _MARKS // max(1, num_images))
    return [slice(start, min(start + step, num_classes)) for start in range(0, num_classes, step)]


def _products(counts: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """``counts @ marks``, exact: sums of counts are at most N, which the float type holds.

    numpy multiplies, because torch may be told to round float32 products (``set_float32_matmul_precision``).
    """
    kind = _kind(len(marks))
    floats = marks.numpy().astype(kind)
    sums = np.empty((len(counts), marks.shape[1]), dtype=np.int64)
    for start in range(0, len(counts), 4 * _WIDTH):
        rows = slice(start, start + 4 * _WIDTH)
        sums[rows] = counts[rows].numpy().astype(kind) @ floats
    return torch.from_numpy(sums)


def _kind(num_images: int) -> type[np.floating]:
    return np.float32 if num_images < _EXACT else np.float64


def _check_counts(counts: torch.Tensor, num_images: int) -> None:
    if counts.ndim != 2 or counts.shape[1] != num_images:
        raise DataError(f'counts must have the shape (draws, {num_images}), not {tuple(counts.shape)}')


def resampled_precision_recall_f1(counts: ResampledCounts) -> dict[str, torch.Tensor]:
    """``precision_recall_f1`` of each draw, over the classes with a known label in it.

    Args:
        counts: Of B draws and C classes.

    Returns:
        In percent, float64; empty denominators count as 0. Means (B,): ``'CP', 'CR', 'CF1', 'OP', 'OR', 'OF1',
        'macro_F1'`` and, from the counts of all classes, ``'micro_F1'`` (OF1 without rounding). NaN in a draw without
        a known label.
    """
    tp, fp, fn, known = counts
    labelled = known > 0
    class_wise = _mean(_share(tp, tp + fp), labelled), _mean(_share(tp, tp + fn), labelled)
    all_tp, all_fp, all_fn = (part.sum(dim=1) for part in (tp, fp, fn))
    overall = _share(all_tp, all_tp + all_fp), _share(all_tp, all_tp + all_fn)
    found = {
        'CP': class_wise[0],
        'CR': class_wise[1],
        'CF1': _harmonic(*class_wise),
        'OP': overall[0],
        'OR': overall[1],
        'OF1': _harmonic(*overall),
        'macro_F1': _mean(_share(2 * tp, 2 * tp + fp + fn), labelled),
        'micro_F1': _share(2 * all_tp, 2 * all_tp + all_fp + all_fn),
    }
    nothing = ~labelled.any(dim=1)
    return {name: values.masked_fill(nothing, torch.nan) for name, values in found.items()}


def _mean(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean over the classes that are counted, (B,)."""
    return values.masked_fill(~counted, 0).sum(dim=1) / counted.sum(dim=1)


def _share(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return 100.0 * part.double() / whole.double().clamp_(min=1)


def _harmonic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    total = first + second
    return torch.where(total > 0, 2 * first * second / total, torch.zeros_like(total))


def resampled_average_precision(
    scores: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor, variant: str = 'exact'
) -> torch.Tensor:
    """``average_precision`` of each class in each resampled data set, ties in one step.

    A class is sorted once. Between two steps of its curve (its positives, from high scores to low) only the sum of
    the counts matters, so that a draw costs one addition an image; torch's ``embedding_bag`` makes them for 64 draws
    side by side. Classes are shared among as many threads as torch is set to use.

    Args:
        scores: (N, C), NaN-free.
        targets: (N, C) of 1, 0 and -1.
        counts: uint8 (B, N), see ``resample_counts``.
        variant: ``'exact'``, ``'voc07'`` or ``'voc10'``.

    Returns:
        float64 (B, C) in percent; NaN where no known positive of a class was drawn.

    Raises:
        ConfigError: Unknown variant.
        DataError: Shapes differ, a score is NaN, or a label is not 1, 0 or -1.
    """
    if variant not in VARIANTS:
        raise ConfigError(f'no variant of AP is called {variant!r}' + did_you_mean(str(variant), VARIANTS))
    check_pair(scores, targets)
    num_images, num_classes = scores.shape
    _check_counts(counts, num_images)
    found = torch.full((len(counts), num_classes), torch.nan, dtype=torch.float64)
    group = max(1, _ORDERED // max(1, num_images))
    for start in range(0, num_classes, group):
        classes = slice(start, min(start + group, num_classes))
        orders = _orders(scores, targets, classes)
        for first in range(0, len(counts), _WIDTH):
            rows = slice(first, first + _WIDTH)
            weights = torch.from_numpy(counts[rows].numpy().T.astype(_kind(num_images), order='C'))
            work = partial(_weighted_ap, weights=weights, variant=variant)
            found[rows, classes] = torch.stack(share_out(work, orders), dim=1)
    return found


def resampled_mean_average_precision(
    ap: torch.Tensor, absent: str = 'exclude', labelled: torch.Tensor | None = None
) -> torch.Tensor:
    """``mean_average_precision`` of each draw.

    Args:
        ap: (B, C), NaN where a class has no positive in the draw.
        absent: ``'exclude'`` leaves such classes out of that draw's mean, ``'zero'`` counts them as 0.
        labelled: bool (B, C): with ``'zero'``, the classes that count at all; None: all.

    Returns:
        float64 (B,) in percent; NaN where every class is left out.
    """
    counted = ~ap.isnan() if absent == 'exclude' else torch.ones_like(ap, dtype=torch.bool)
    if absent == 'zero' and labelled is not None:
        counted = labelled
    return _mean(ap.nan_to_num(nan=0.0), counted)


def resampled_sums(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sums over the images of each resampled data set.

    Args:
        values: (N, K), K numbers of each image.
        counts: uint8 (B, N).

    Returns:
        float64 (B, K).

    Raises:
        DataError: Shapes differ.
    """
    _check_counts(counts, len(values))
    numbers = values.double().numpy()
    parts = [part.numpy().astype(np.float64) @ numbers for part in counts.split(_WIDTH)]
    return torch.from_numpy(np.concatenate(parts))


class _Order(NamedTuple):
    """A class in score order, G steps: one for each distinct score of a positive, from high to low.

    ``images[starts[g]:starts[g + 1]]`` are the images that enter with step g, positives and negatives;
    ``positives[hits[g]:hits[g + 1]]`` its positives. Images below the last positive are left out.
    """

    images: torch.Tensor
    starts: torch.Tensor
    positives: torch.Tensor
    hits: torch.Tensor


def _orders(scores: torch.Tensor, targets: torch.Tensor, classes: slice) -> list[_Order | None]:
    """The order of each of ``classes``."""

    def work(block: slice) -> list[_Order | None]:
        labels = whole_numbers(columns(targets, block), targets)
        return [_order(real_scores(value, scores), label) for value, label in zip(columns(scores, block), labels)]

    starts = range(classes.start, classes.stop, _COLUMNS)
    parts = share_out(work, [slice(start, min(start + _COLUMNS, classes.stop)) for start in starts])
    return [order for part in parts for order in part]


def _order(values: np.ndarray, labels: np.ndarray) -> _Order | None:
    """Put a class in order; None without a known positive."""
    positive = np.flatnonzero(labels == 1)
    if not positive.size:
        return None
    lowest = values[positive].min()
    chosen = np.flatnonzero((labels >= 0) & (values >= lowest))
    chosen = chosen[np.argsort(-values[chosen], kind='stable')]
    positive = positive[np.argsort(-values[positive], kind='stable')]
    steps = np.unique(values[positive])[::-1]
    return _Order(*_bags(chosen, values, steps), *_bags(positive, values, steps))


def _bags(images: np.ndarray, values: np.ndarray, steps: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of images from high scores to low, and where each step begins and the last one ends."""
    ends = np.searchsorted(-values[images], -steps, side='right')
    small = np.int32 if len(values) < 2**31 else np.int64
    return torch.from_numpy(images.astype(small)), torch.from_numpy(np.concatenate([[0], ends]).astype(small))


def _weighted_ap(order: _Order | None, weights: torch.Tensor, variant: str) -> torch.Tensor:
    """AP of one class for the draws of ``weights`` (N, b): float64 (b,)."""
    if order is None:
        return torch.full((weights.shape[1],), torch.nan, dtype=torch.float64)
    if variant == 'exact':
        area = torch.zeros(weights.shape[1], dtype=torch.float64)
        for hits, found, precision in _curve(order, weights):  # noqa: B007
            area += precision.mul_(hits).sum(dim=0)
        total = found[-1].double()
        area /= total
    else:
        hits, found, precision = (torch.cat(parts) for parts in zip(*_curve(order, weights), strict=True))
        total = found[-1].double()
        # The best precision at this recall or a higher one. A step whose positives were not drawn has the recall of
        # the step before and no higher precision, so that it changes nothing.
        envelope = precision.flip(0).cummax(dim=0).values.flip(0)
        area = envelope.mul_(hits).sum(dim=0) / total if variant == 'voc10' else _eleven_points(envelope, found)
    return area.mul_(100.0).masked_fill_(total == 0, torch.nan)


def _curve(order: _Order, weights: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The curve of each draw, piece by piece so that a piece stays in the cache: for each step and draw the positives
    that enter, those found so far, and the precision (float64; 0 where nothing was drawn yet)."""
    retrieved = found = weights.new_zeros(1, weights.shape[1])
    for first in range(0, len(order.starts) - 1, _STEPS):
        entered = _sums(order.images, order.starts[first : first + _STEPS + 1], weights)
        hits = _sums(order.positives, order.hits[first : first + _STEPS + 1], weights)
        retrieved = entered.cumsum_(dim=0).add_(retrieved[-1])
        found = hits.cumsum(dim=0).add_(found[-1])
        yield hits, found, found.double().div_(retrieved.clamp(min=1))


def _sums(images: torch.Tensor, ends: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sums of the weights of ``images[ends[g]:ends[g + 1]]`` for each g: (G, b)."""
    bags = ends - ends[0]
    return embedding_bag(images[int(ends[0]) : int(ends[-1])], weights, bags, mode='sum', include_last_offset=True)


def _eleven_points(envelope: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Mean of the best precision at recall >= 0, 0.1, ..., 1, compared in whole numbers: 10 hits >= t positives."""
    hits = found.to(torch.int64).mul_(10)
    points = torch.arange(11).unsqueeze(1) * found[-1].to(torch.int64)
    first = torch.searchsorted(hits.t().contiguous(), points.t().contiguous()).t()
    return envelope.gather(0, first).mean(dim=0)
