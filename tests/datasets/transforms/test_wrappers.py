"""Transforms made of transforms."""

from __future__ import annotations

import numpy as np
import pytest

from mlcls.datasets.transforms import RandomApply, RandomChoice, build_transform
from mlcls.errors import ConfigError


def mark(name: str):
    def _mark(results: dict) -> dict:
        results['marks'] = [*results.get('marks', []), name]
        return results

    return _mark


def draws(transform, count: int = 3000) -> list[str]:
    rng = np.random.default_rng(0)
    return [''.join(transform({}, rng).get('marks', [])) for _ in range(count)]


def test_apply_all_or_none():
    drawn = draws(RandomApply([mark('a'), mark('b')], prob=0.3))
    assert set(drawn) == {'', 'ab'} and drawn.count('ab') / 3000 == pytest.approx(0.3, abs=0.03)
    assert set(draws(RandomApply(mark('a'), prob=1), 5)) == {'a'}
    assert set(draws(RandomApply(mark('a'), prob=0.0), 5)) == {''}


@pytest.mark.parametrize('prob, expected', [(None, 0.5), ([0.2, 0.8], 0.2)])
def test_choice(prob, expected):
    drawn = draws(RandomChoice([mark('a'), [mark('b'), mark('c')]], prob))
    assert set(drawn) == {'a', 'bc'} and drawn.count('a') / 3000 == pytest.approx(expected, abs=0.03)


def test_from_a_config(picture):
    config = dict(
        type='RandomApply',
        prob=1.0,
        transforms=[
            dict(type='RandomChoice', transforms=[[dict(type='Resize', scale=8)], dict(type='mmcv.Resize', scale=8)])
        ],
    )
    assert build_transform(config)({'img': picture}, np.random.default_rng(0))['img'].shape == (8, 8, 3)


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: RandomApply([], 1.5), r'RandomApply: prob must lie in \[0, 1\]'),
        (lambda: RandomApply([dict(type='Nope')]), r"pipeline\[0\]: no transform is called 'Nope'"),
        (lambda: RandomChoice([]), 'RandomChoice: transforms is empty'),
        (lambda: RandomChoice([mark('a')], [0.5]), 'RandomChoice: prob must give each of the 1 pipelines a share'),
        (lambda: RandomChoice([mark('a')], [0.5, 0.5]), 'RandomChoice: prob must give each'),
    ],
)
def test_arguments_that_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
