"""Head, medium and tail: classes grouped by how often training showed them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import torch

from mlcls.errors import ConfigError, DataError

GROUPS = ('head', 'medium', 'tail')
#: A class of fewer training images than the first is tail, of at least the second head.
LIMITS = (20, 100)


def frequency_groups(counts: Sequence[int] | torch.Tensor, limits: Sequence[float] = LIMITS) -> dict[str, torch.Tensor]:
    """Sort classes into groups by their number of training images.

    The limits are those of the long-tailed benchmarks COCO-MLT and VOC-MLT: Wu et al., "Distribution-Balanced Loss for
    Multi-Label Classification in Long-Tailed Datasets" (2020). A class of exactly 100 images is head there (the splits
    that are handed out with the benchmarks were made with ``>= 100``), one of exactly 20 medium.

    Args:
        counts: Images of the training set that show each class, (C,) of whole numbers.
        limits: Two ascending numbers: tail is below the first, head is from the second on, medium is between.

    Returns:
        ``'head'``, ``'medium'`` and ``'tail'`` -> bool (C,). Every class is in one of them.

    Raises:
        ConfigError: Limits that are not two ascending numbers, or counts that are no whole numbers of at least 0.
    """
    low, high = check_limits(limits, 'limits')
    numbers = torch.tensor(check_train_counts(counts, 'counts'), dtype=torch.int64)
    return {'head': numbers >= high, 'medium': (numbers >= low) & (numbers < high), 'tail': numbers < low}


def group_means(values: torch.Tensor, groups: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Mean of any values per class over each group; classes where they are NaN are left out of it.

    Args:
        values: (C,), for example AP in percent.
        groups: From ``frequency_groups``.

    Returns:
        Name of the group -> mean; NaN for a group without a class, or without one where the value is defined.

    Raises:
        DataError: Another number of classes in ``values`` than in ``groups``.
    """
    for name, members in groups.items():
        if values.shape != members.shape:
            raise DataError(
                f'{values.numel()} values of classes are given, but the group {name!r} is of {members.numel()} classes'
            )
    return {name: float(values.double()[members].nanmean()) for name, members in groups.items()}


def check_limits(limits: object, what: str) -> tuple[float, float]:
    """Return two ascending limits, else raise ConfigError; ``what`` names them in the message."""
    if (
        not isinstance(limits, (list, tuple))
        or len(limits) != 2
        or any(isinstance(limit, bool) or not isinstance(limit, Real) for limit in limits)
        or not 0 <= float(limits[0]) <= float(limits[1]) < math.inf
    ):
        raise ConfigError(
            f'{what} must be two ascending numbers of training images, for example (20, 100), not {limits!r}'
        )
    return limits[0], limits[1]


def check_train_counts(counts: object, what: str) -> list[int]:
    """Return counts as integers, else raise ConfigError; ``what`` names them in the message."""
    values = counts.tolist() if hasattr(counts, 'tolist') else counts
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ConfigError(f'{what} must be a list of numbers of training images, one a class, not {counts!r}')
    for position, value in enumerate(values):
        if (
            isinstance(value, bool)
            or not isinstance(value, Real)
            or not (float(value) >= 0 and float(value).is_integer())
        ):
            raise ConfigError(f'{what}[{position}] must be a number of training images, 0 or more, not {value!r}')
    return [int(value) for value in values]
