"""Two evaluations side by side: are they of the same thing, how far apart are they, and could that be chance?

What is *measured* must be the same for two numbers to compare: the data, the classes, the definitions, and how
thresholds were chosen. What is *compared* may differ: weights, precision, test-time augmentation, number of
checkpoints, calibration, and the values of thresholds that each model chose for itself.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mlcls.errors import ConfigError, DataError

from .intervals import Resampler, centred_percentiles, resample, resampler
from .metrics import (
    AveragePrecision,
    Metric,
    MultiLabelMetric,
    ThresholdMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from .metrics.average_precision import VARIANTS
from .metrics.exact_match import ExactMatchMetric
from .metrics.multi_label import ITEMS
from .predictions import Predictions

#: Thresholds of these sources are numbers that somebody set, so that their values are part of what is measured; those
#: of the others were chosen for the model, by a procedure that is.
_SET = ('default', 'config', 'number', 'config or default')
#: Fields of a metric's protocol that tell where thresholds come from; the others are definitions.
_THRESHOLDS = ('thr', 'thr_kind', 'threshold source', 'objective', 'decision')
#: Fields of a protocol that may differ between two methods, with their names for people.
_METHOD = {
    'dtype': 'precision of the model',
    'test-time augmentation': 'test-time augmentation',
    'members': 'number of checkpoints',
    'calibration': 'calibration',
    'weights_hash': 'weights',
}
#: How far a number computed again may be from the one in the results file: rounding of sums, not of scores.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Difference:
    """Something that two results files say differently.

    Args:
        what: Name of the field.
        first: What the first file says.
        second: What the second says.
    """

    what: str
    first: str
    second: str

    def __str__(self) -> str:
        return f'{self.what}: {self.first} | {self.second}'


@dataclass(frozen=True)
class ComparedNumber:
    """A number of two evaluations.

    Args:
        name: ``'prefix/name'``.
        first: In the first results file.
        second: In the second.
        interval: Bounds of second minus first, resampling the images of both at once; None where there is none.
    """

    name: str
    first: float
    second: float
    interval: tuple[float, float] | None = None

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first


def protocol_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """What is measured differently, so that the numbers do not compare.

    Args:
        first: Content of a results file.
        second: Content of another.

    Returns:
        A list without an entry where the numbers compare.
    """
    found = list(_data_differences(first, second))
    protocols = first['protocol'], second['protocol']
    for key in ('unit', 'unknown labels (-1)'):
        found += _differ(key, *(protocol.get(key) for protocol in protocols))
    thresholds = list(_threshold_differences(first, second))
    entries = [_by_number(content) for content in (first, second)]
    metrics = [
        difference
        for name in entries[0]
        if name in entries[1]
        for difference in _metric_differences(name, entries[0][name], entries[1][name])
        if not any(difference.what.endswith(said.what) for said in thresholds)  # said once is enough
    ]
    return list(dict.fromkeys([*found, *thresholds, *metrics]))


def method_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """What differs between the two methods that are compared; no hindrance.

    Args:
        first: Content of a results file.
        second: Content of another.
    """
    protocols = first['protocol'], second['protocol']
    found = _differ('checkpoint', first.get('checkpoint'), second.get('checkpoint'))
    for key, words in _METHOD.items():
        found += _differ(words, *(protocol.get(key) for protocol in protocols))
    thresholds = [protocol['thresholds'] for protocol in protocols]
    found += _differ('thresholds', *(part.get('words') for part in thresholds))
    found += _differ('data that thresholds were chosen on', *(part.get('data_hash') for part in thresholds))
    return found


def _differ(what: str, first: object, second: object) -> list[Difference]:
    return [] if first == second else [Difference(what, _said(first), _said(second))]


def _said(value: object) -> str:
    """A value in a few words."""
    if value is None or value == '':
        return 'not said'
    if isinstance(value, (list, tuple)):
        text = ', '.join(str(part) for part in value[:4])
        return text + (f', ... ({len(value)} in all)' if len(value) > 4 else '')
    return f'{value:g}' if isinstance(value, float) else str(value)


def _data_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    classes = first['classes'], second['classes']
    if classes[0] != classes[1]:
        if sorted(classes[0]) == sorted(classes[1]):
            place = next(place for place, (one, two) in enumerate(zip(*classes)) if one != two)
            yield Difference(f'order of classes (class {place + 1})', classes[0][place], classes[1][place])
        else:
            missing = [[name for name in own if name not in set(other)] for own, other in (classes, classes[::-1])]
            yield Difference(
                'classes that the other has not', *(_said(names) if names else 'none' for names in missing)
            )
    yield from _differ('number of images', first['num_images'], second['num_images'])
    yield from _differ('images left out', first.get('num_images_left_out', 0), second.get('num_images_left_out', 0))
    hashes = first['protocol']['data_hash'], second['protocol']['data_hash']
    yield from _differ('data (hash of classes, image names and labels)', *hashes)


def _threshold_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """How thresholds were chosen; and whether on the very data that are tested."""
    parts = [content['protocol']['thresholds'] for content in (first, second)]
    if not all(part.get('source') in _SET for part in parts):  # else their values are compared, metric by metric
        yield from _differ('source of the thresholds', *(part.get('source') for part in parts))
        yield from _differ('objective of the thresholds', *(part.get('objective') for part in parts))
    flattered = [
        bool(part.get('data_hash')) and part['data_hash'] == content['protocol']['data_hash']
        for part, content in zip(parts, (first, second))
    ]
    yield from _differ('thresholds chosen on the tested data', *('yes' if flag else 'no' for flag in flattered))


def _by_number(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The protocol of the metric behind each number."""
    return {name: entry for entry in content['protocol']['metrics'] for name in _numbers_of(entry)}


def _numbers_of(entry: Mapping[str, Any]) -> list[str]:
    return [name for name in str(entry.get('numbers', '')).split(', ') if name]


def _metric_differences(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Definitions of one number that differ."""
    title = str(first.get('metric', name))
    if first.get('metric') != second.get('metric'):
        yield Difference(f"metric behind '{name}'", _said(first.get('metric')), _said(second.get('metric')))
    for key in dict.fromkeys([*first, *second]):
        twice = key == 'AP' and 'variant' in first and 'variant' in second  # the variant, in more words
        if key not in ('metric', 'numbers', *_THRESHOLDS) and not twice:
            yield from _differ(f'{title}: {key}', first.get(key), second.get(key))
    kinds = [entry.get('thr_kind', 'config or default') for entry in (first, second)]
    if 'thr' not in first or 'thr' not in second:
        for key in ('decision', 'threshold source'):
            yield from _differ(f'{title}: {key}', first.get(key), second.get(key))
    elif all(kind in _SET for kind in kinds):
        yield from _differ(f'{title}: thresholds', *(_one_if_equal(entry['thr']) for entry in (first, second)))
    elif kinds[0] != kinds[1]:
        yield from _differ(f'{title}: source of the thresholds', *kinds)
    else:
        yield from _differ(f'{title}: objective of the thresholds', first.get('objective'), second.get('objective'))


def _one_if_equal(thr: object) -> object:
    """One threshold, where all classes have the same."""
    return thr[0] if isinstance(thr, list) and thr and len(set(map(str, thr))) == 1 else thr


def rebuild_metric(entry: Mapping[str, Any], num_classes: int) -> Metric | None:
    """The metric that a protocol describes: the one whose own protocol and names are those of the entry.

    Args:
        entry: Of ``protocol.metrics`` in a results file.
        num_classes: C.

    Returns:
        The metric; None for one of a type that cannot be found again from its protocol, or that has no number.
    """
    names = _numbers_of(entry)
    if not names:
        return None
    for make in _candidates(entry, names):
        try:
            metric = make()
            fits = metric.names(num_classes) == names
        except ConfigError:  # a candidate that does not fit these classes is none
            continue
        said = {key: value for key, value in metric.protocol().items() if key not in _THRESHOLDS}
        if fits and all(entry.get(key) == value for key, value in said.items()):
            return metric
    return None


def _candidates(entry: Mapping[str, Any], names: Sequence[str]) -> Iterator[Any]:
    """Makers of the metrics that an entry may describe."""
    kind, (prefix, _, leaf) = entry.get('metric'), names[0].rpartition('/')
    found = re.search(r'_top(\d+)(?:_micro)?$', leaf)
    topk = int(found[1]) if found and 'thr' not in entry else None
    rule: dict[str, Any] = {'thr': entry.get('thr'), 'topk': topk, 'prefix': prefix}
    meanings = (None, True, False)
    if kind in ('ThresholdMetric', 'ExactMatchMetric'):
        made = {'ThresholdMetric': ThresholdMetric, 'ExactMatchMetric': ExactMatchMetric}[kind]
        yield lambda: made(**rule)
    elif kind == 'AveragePrecision':
        for variant, absent in itertools.product(VARIANTS, ('exclude', 'zero')):
            yield lambda v=variant, a=absent: AveragePrecision(variant=v, absent=a, prefix=prefix)
    elif kind == 'VOCAveragePrecision':
        for variant, absent, difficult in itertools.product(VARIANTS, ('exclude', 'zero'), meanings):
            yield lambda v=variant, a=absent, d=difficult: VOCAveragePrecision(
                variant=v, absent=a, difficult_as_positive=d, prefix=prefix
            )
    elif kind in ('MultiLabelMetric', 'VOCMultiLabelMetric'):
        stems = [name.rpartition('/')[2] for name in names]
        rule['items'] = [item for stem in stems for item in ITEMS if re.fullmatch(rf'{item}(_.*)?', stem)]
        for average, difficult in itertools.product(('macro', 'micro'), meanings):
            settings = {**rule, 'average': average}
            if kind == 'MultiLabelMetric':
                yield lambda s=settings: MultiLabelMetric(**s)
            else:
                yield lambda s=settings, d=difficult: VOCMultiLabelMetric(**s, difficult_as_positive=d)


def check_predictions(content: Mapping[str, Any], predictions: Predictions, where: str) -> list[Metric]:
    """Compute the numbers of a results file again from its predictions, and compare.

    Args:
        content: Of the results file.
        predictions: That it names.
        where: Name of the predictions file, for messages.

    Returns:
        The metrics that could be computed again.

    Raises:
        DataError: The predictions are of other classes, images or data, or give other numbers: of another run.
    """
    if list(predictions.classes) != content['classes']:
        raise DataError(f'{where}: the predictions are of other classes than the results')
    if len(predictions) != content['num_images']:
        raise DataError(
            f'{where}: predictions of {len(predictions)} images, but the results are of {content["num_images"]}'
        )
    known = content['protocol']['data_hash']
    if known and predictions.data_hash and known != predictions.data_hash:
        raise DataError(
            f'{where}: the predictions are of other data ({predictions.data_hash}) than the results ({known})'
        )
    metrics = []
    for entry in content['protocol']['metrics']:
        metric = rebuild_metric(entry, len(predictions.classes))
        if metric is not None:
            _check_numbers(metric, content, predictions, where)
            metrics.append(metric)
    return metrics


def _check_numbers(metric: Metric, content: Mapping[str, Any], predictions: Predictions, where: str) -> None:
    for name, value in metric.compute(predictions.scores, predictions.targets).numbers.items():
        stored = content['metrics'].get(name)
        if stored is None and not math.isfinite(value):
            continue
        if stored is None or not math.isclose(stored, value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            said = 'no number' if stored is None else f'{stored:.6g}'
            raise DataError(
                f'{where}: these predictions give {name} {value:.6g}, but the results file says {said}; they are of '
                'another run'
            )


def pair_rows(first: Predictions, second: Predictions) -> tuple[torch.Tensor | None, str]:
    """Which row of the second is the same image as each row of the first.

    Args:
        first: Predictions.
        second: Others.

    Returns:
        int64 (N,) and an empty text; or None and why images cannot be paired: other classes, other data, other images,
        names that are not unique in another order, or other labels.
    """
    if first.classes != second.classes:
        return None, 'the classes or their order differ'
    if first.data_hash != second.data_hash:
        return None, 'they are of other data'
    names, others = list(first.names), list(second.names)
    if names == others:
        rows = torch.arange(len(names))
    elif len(set(names)) < len(names) or len(set(others)) < len(others):
        return None, 'image names occur more than once'
    elif set(names) != set(others):
        return None, 'they are of other images'
    else:
        places = {name: row for row, name in enumerate(others)}
        rows = torch.tensor([places[name] for name in names])
    if not torch.equal(first.targets, second.targets[rows]):
        return None, 'the labels of the same images differ'
    return rows, ''


@dataclass(frozen=True, eq=False)
class Side:
    """One of two evaluations, its images in the order of the pairs.

    Args:
        metrics: Its metrics that can be resampled.
        scores: float (N, C).
        targets: int8 (N, C).
    """

    metrics: Sequence[Metric]
    scores: torch.Tensor
    targets: torch.Tensor

    def resamplers(self) -> list[Resampler]:
        """Of its metrics, those that have one."""
        found = (resampler(metric, self.scores, self.targets) for metric in self.metrics)
        return [each for each in found if each is not None]


def paired_intervals(
    first: Side, second: Side, differences: Mapping[str, float], draws: int, seed: int, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Intervals of the differences, both sides measured on the same resampled images.

    What makes images easy or hard moves both numbers alike and cancels, so that differences far smaller than the
    intervals of either number can be told from chance. Efron and Tibshirani (1993), chapter 8.

    Args:
        first: With N images.
        second: With the same images in the same order.
        differences: Name of a number -> second minus first.
        draws: Resamplings.
        seed: Of the resampling.
        confidence: Share of the draws within the bounds.

    Returns:
        Bounds of the differences that both sides can resample.
    """
    found = [resample(side.resamplers(), len(side.scores), draws, seed) for side in (first, second)]
    bounds = {
        name: centred_percentiles(found[1][name] - found[0][name], difference, confidence)
        for name, difference in differences.items()
        if name in found[0] and name in found[1]
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


@dataclass(frozen=True)
class ClassDifference:
    """AP and F1 of one class in two evaluations, in percent; NaN where not defined or not computed.

    Args:
        name: Of the class.
        positives: Images known to show it.
        ap: First and second.
        f1: First and second.
    """

    name: str
    positives: int
    ap: tuple[float, float]
    f1: tuple[float, float]

    @property
    def largest(self) -> float:
        """The larger of the two differences, without sign; 0 where neither is defined."""
        steps = [abs(second - first) for first, second in (self.ap, self.f1)]
        return max((step for step in steps if not math.isnan(step)), default=0.0)


def class_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[ClassDifference]:
    """The classes, those first that differ most.

    Args:
        first: Content of a results file.
        second: Content of another, of the same classes.
    """
    columns = {}
    for measure in ('AP', 'F1'):
        name = next(
            (
                key
                for key in first['per_class']
                if key.rpartition('/')[2] in (f'{measure}_classwise', *(('f1-score_classwise',) * (measure == 'F1')))
                and key in second['per_class']
            ),
            None,
        )
        empty = [None] * len(first['classes'])
        columns[measure] = [content['per_class'][name] if name else empty for content in (first, second)]
    positives = first['per_class'].get('positives', [0] * len(first['classes']))
    found = [
        ClassDifference(
            name,
            int(positives[place]),
            *((_number(columns[measure][0][place]), _number(columns[measure][1][place])) for measure in columns),
        )
        for place, name in enumerate(first['classes'])
    ]
    return sorted(found, key=lambda each: -each.largest)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
