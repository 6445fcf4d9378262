"""Generators from keys."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from mlcls.datasets.randomness import keyed_generator

KEYS = st.lists(st.one_of(st.integers(0, 10), st.integers(0, 2**32), st.integers(-(2**80), 2**80)), max_size=6)


@given(KEYS, KEYS)
def test_a_key_names_its_numbers(key, other):
    numbers = keyed_generator(tuple(key)).random(3).tolist()
    assert numbers == keyed_generator(key).random(3).tolist()
    assert (numbers == keyed_generator(other).random(3).tolist()) == (key == other)


@pytest.mark.parametrize('one, other', [((1, 23), (12, 3)), ((0,), (0, 0)), ((), (0,)), ((1, 2), (2, 1))])
def test_keys_that_look_alike(one, other):
    assert keyed_generator(one).random() != keyed_generator(other).random()


def test_numbers_of_numpy_in_the_key():
    assert keyed_generator((np.int64(3), np.uint8(4))).random() == keyed_generator((3, 4)).random()


def test_the_same_in_another_process():
    code = (
        'from mlcls.datasets.randomness import keyed_generator as make\n'
        'print(make((5, 1, 9)).random(), make((5, 1, 9)).integers(99))'
    )
    environment = {**os.environ, 'PYTHONHASHSEED': '7'}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        str(keyed_generator((5, 1, 9)).random()),
        str(keyed_generator((5, 1, 9)).integers(99)),
    ]


@pytest.mark.parametrize('place', [0, 1, 2])
def test_neighbouring_keys_are_independent(place):
    """First and second numbers over the epochs, or positions, of a run are uniform and do not depend on each other."""
    keys = [[3, 4, 5] for _ in range(4000)]
    for number, key in enumerate(keys):
        key[place] = number
    drawn = np.array([keyed_generator(key).random(2) for key in keys])
    assert kstest(drawn[:, 0], 'uniform').pvalue > 1e-4 and kstest(drawn[:, 1], 'uniform').pvalue > 1e-4
    pairs = [(drawn[:-1, 0], drawn[1:, 0]), (drawn[:, 0], drawn[:, 1]), (drawn[:-1, 1], drawn[1:, 0])]
    for first, second in pairs:
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(4000)


def test_generators_can_be_pickled():
    generator = keyed_generator((1, 2))
    generator.random()
    assert pickle.loads(pickle.dumps(generator)).random() == generator.random()
