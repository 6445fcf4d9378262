"""What a metric is: settings, checked once, over pure functions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mlcls.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from ..operating_points import OperatingPoints

#: Where thresholds may come from. ``'number'``: one number given on the command line.
SOURCES = ('default', 'config', 'fitted', 'file', 'number')
#: What a metric says of itself in a results file.
Protocol = dict[str, str | float | list[float]]


class Measured(NamedTuple):
    """What a metric found in one pass.

    ``numbers``: ``'prefix/name'`` -> number, exactly the keys of ``Metric.names``. ``per_class``:
    ``'prefix/name_classwise'`` -> (C,), one value a class, NaN where it is not defined; may be empty.
    """

    numbers: dict[str, float]
    per_class: dict[str, torch.Tensor]


class Metric(ABC):
    """A measure of a whole evaluation. It holds settings and no rows; one object serves any number of runs.

    Args:
        prefix: First part of the names of its numbers, ``'prefix/name'``; None means ``default_prefix``. Give one where
            two metrics would otherwise use the same name.
        collect_device: ``'cpu'`` or ``'gpu'``. Read for configs written for mmpretrain, without effect: the evaluator
            gathers tensors over whatever device the process group uses.

    Raises:
        ConfigError: Another ``collect_device``, or a prefix that is not a string.
    """

    default_prefix = 'multi-label'

    def __init__(self, prefix: str | None = None, collect_device: str = 'cpu') -> None:
        if prefix is not None and not isinstance(prefix, str):
            raise ConfigError(f'{type(self).__name__}: prefix must be a string, not {prefix!r}')
        choose(collect_device, ('cpu', 'gpu'), f'{type(self).__name__}: collect_device')
        self.prefix = prefix or self.default_prefix

    @abstractmethod
    def compute(self, scores: torch.Tensor, targets: torch.Tensor) -> Measured:
        """Numbers and values per class, in one pass.

        What other metrics may need too (decisions counted, AP of each class) is asked of ``metrics.shared``, which
        computes it once an evaluation.

        Args:
            scores: float32 or float16 (N, C), finite; maybe a file mapped into memory, so that a metric works in
                blocks of rows or columns and never copies the whole.
            targets: int8 (N, C) of 1, 0 and -1.

        Raises:
            DataError: The numbers are not defined for these data.
        """

    @abstractmethod
    def names(self, num_classes: int) -> list[str]:
        """The keys that ``compute`` will give, so that a config's ``save_best`` can be checked before training.

        Raises:
            ConfigError: As ``check``.
        """

    @abstractmethod
    def protocol(self) -> Protocol:
        """The settings in words, for the results file."""

    def use_meta(self, meta: Mapping[str, Any]) -> None:
        """Take what is wanted of the facts about the data set.

        Args:
            meta: ``'classes'``: names in column order; ``'train_counts'`` where known: positive images of each class in
                training. A metric must get along without either.
        """
        return None

    def operating_points(
        self, scores: torch.Tensor, targets: torch.Tensor, classes: Sequence[str]
    ) -> OperatingPoints | None:
        """Thresholds fitted on these data, to be kept with the model; None from a metric that fits none."""
        return None

    def check(self, num_classes: int) -> None:
        """Raise ConfigError where the settings do not fit this number of classes."""
        if num_classes < 1:
            raise ConfigError(f'{type(self).__name__} needs at least one class, not {num_classes}')

    def key(self, name: str) -> str:
        """``name`` with the prefix."""
        return f'{self.prefix}/{name}'


def choose(value: object, choices: Iterable[str | None], what: str) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``; the message ends with the nearest of them."""
    choices = list(choices)
    if value not in choices:
        words = [choice for choice in choices if choice is not None]
        listed = ', '.join(repr(choice) for choice in choices)
        raise ConfigError(f'{what} must be one of {listed}, not {value!r}' + did_you_mean(str(value), words))


def check_thr(thr: object, what: str) -> float | list[float]:
    """Check a threshold, or one per class.

    Args:
        thr: A number in [0, 1], or a sequence of such numbers in class order.
        what: Name for the error message.

    Returns:
        A float or a list of floats.

    Raises:
        ConfigError: Not a number, or outside [0, 1].
    """
    if isinstance(thr, torch.Tensor) or hasattr(thr, 'tolist'):
        thr = thr.tolist()
    if isinstance(thr, (list, tuple)):
        if not thr:
            raise ConfigError(f'{what} is an empty list: give one number, or one per class in class order')
        return [_number(value, f'{what}[{position}]') for position, value in enumerate(thr)]
    return _number(thr, what)


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f'{what} must be a number in [0, 1], not {value!r}')
    number = float(value)
    if math.isnan(number) or not 0 <= number <= 1:
        raise ConfigError(f'{what} must be in [0, 1], not {number}')
    return number


def check_topk(topk: object, what: str) -> int:
    """Return ``topk`` where it is an integer of at least 1, else raise ConfigError."""
    if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
        raise ConfigError(f'{what} must be an integer of at least 1, not {topk!r}')
    return topk


def check_decision(thr: float | list[float] | None, topk: int | None, num_classes: int, what: str) -> None:
    """Raise ConfigError where thresholds or ``topk`` do not fit the number of classes."""
    if isinstance(thr, list) and len(thr) != num_classes:
        raise ConfigError(
            f'{what}: {len(thr)} thresholds are given for {num_classes} classes: '
            'give one number, or one per class in class order'
        )
    if thr is None and topk is not None and topk > num_classes:
        raise ConfigError(f'{what}: topk={topk}, but there are only {num_classes} classes')


def describe_decision(thr: float | list[float] | None, topk: int | None) -> str:
    """The decision rule in words."""
    if isinstance(thr, list):
        return 'score >= threshold of the class'
    if thr is not None:
        return f'score >= {thr:g}'
    return f'the {topk} highest scores of each image (ties: lower class index first)'
