"""Head, medium and tail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import frequency_groups, group_means


def test_limits_of_the_benchmarks() -> None:
    groups = frequency_groups([0, 19, 20, 99, 100, 5000])
    assert {name: members.nonzero().flatten().tolist() for name, members in groups.items()} == {
        'head': [4, 5],
        'medium': [2, 3],
        'tail': [0, 1],
    }


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20), st.lists(st.integers(0, 200), min_size=2, max_size=2))
def test_every_class_is_in_one_group_and_order_does_not_matter(counts: list[int], limits: list[int]) -> None:
    groups = frequency_groups(counts, sorted(limits))
    assert (sum(members.int() for members in groups.values()) == 1).all()
    backwards = frequency_groups(counts[::-1], sorted(limits))
    assert all(torch.equal(groups[name], backwards[name].flip(0)) for name in groups)


@pytest.mark.parametrize('make', [list, tuple, np.array, torch.tensor])
def test_counts_of_any_kind(make: object) -> None:
    assert callable(make)
    assert frequency_groups(make([5, 500]))['head'].tolist() == [False, True]


def test_means() -> None:
    groups = frequency_groups([500, 50, 5, 5, 5])
    values = torch.tensor([90.0, math.nan, 10.0, 40.0, math.nan])
    assert group_means(values, groups) == pytest.approx({'head': 90.0, 'medium': math.nan, 'tail': 25.0}, nan_ok=True)
    assert math.isnan(group_means(values, frequency_groups([1] * 5))['head']), 'an empty group'


@pytest.mark.parametrize(
    'limits', [(100, 20), (20,), (1, 2, 3), 20, None, '20', (-1, 5), ('a', 'b'), (20, math.inf), (True, 5)]
)
def test_wrong_limits(limits: object) -> None:
    with pytest.raises(ConfigError, match=r'limits must be two ascending numbers of training images, for example'):
        frequency_groups([1, 2], limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('counts', 'message'),
    [
        ([1, -2], r'counts\[1\] must be a number of training images, 0 or more, not -2'),
        ([1.5], r'counts\[0\] must be a number'),
        ([math.nan], r'counts\[0\] must be a number'),
        ([math.inf], r'counts\[0\] must be a number'),
        ([True], r'counts\[0\] must be a number'),
        (['7'], r"counts\[0\] must be a number of training images, 0 or more, not '7'"),
        ([], 'counts must be a list of numbers of training images, one a class'),
        (7, 'counts must be a list'),
        ('77', 'counts must be a list'),
    ],
)
def test_wrong_counts(counts: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        frequency_groups(counts)  # type: ignore[arg-type]


def test_values_of_other_classes() -> None:
    with pytest.raises(DataError, match="3 values of classes are given, but the group 'head' is of 2 classes"):
        group_means(torch.rand(3), frequency_groups([1, 2]))
