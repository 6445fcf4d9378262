"""The range test: rates of problems whose limit is known, and curves that say nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mlcls.apis.finding_lr import FindLrFlags, analyse, describe, find_lr, range_test, settings, smoothed
from mlcls.errors import ConfigError, TrainingError


def quadratic(curvature: float, noise: float = 0.0) -> Callable[[float], float]:
    """Gradient descent on ``curvature / 2 * w ** 2`` from w = 1: it diverges exactly above a rate of 2 / curvature."""
    state, rng = {'w': 1.0}, np.random.default_rng(0)

    def step(rate: float) -> float:
        loss = 0.5 * curvature * state['w'] ** 2
        state['w'] -= rate * curvature * state['w']
        return loss + noise * curvature * float(rng.standard_normal())

    return step


@pytest.mark.parametrize('curvature', [0.5, 20.0, 1e4])
@pytest.mark.parametrize('noise', [0.0, 0.01])
def test_a_rate_below_that_at_which_descent_diverges(curvature: float, noise: float) -> None:
    rates = FindLrFlags(start=1e-8, end=100, steps=200).rates()
    made, losses = range_test(quadratic(curvature, noise), rates)
    found = analyse(made, losses, len(rates))
    assert found.recommended is not None
    assert 1e-3 / curvature < found.recommended < 2 / curvature
    assert found.tenth < 2 / curvature and found.steepest < 4 / curvature


def test_rates_rise_by_one_factor() -> None:
    rates = FindLrFlags().rates()
    assert len(rates) == 100 and rates[0] == pytest.approx(1e-6) and rates[-1] == pytest.approx(1)
    factors = [second / first for first, second in pairwise(rates)]
    assert max(factors) == pytest.approx(min(factors))


def test_the_average_is_corrected_for_its_start() -> None:
    assert smoothed([3.0] * 7, 100) == pytest.approx([3.0] * 7)
    rng = np.random.default_rng(0)
    losses, keep = rng.random(30), 0.9
    for last in (0, 4, 29):
        weights = [keep ** (last - number) for number in range(last + 1)]
        assert smoothed(list(losses), 100)[last] == pytest.approx(np.average(losses[: last + 1], weights=weights))


def test_it_stops_where_the_loss_explodes() -> None:
    seen: list[float] = []

    def step(rate: float) -> float:
        seen.append(rate)
        return 1.0 if len(seen) <= 30 else 1e6

    made, losses = range_test(step, FindLrFlags(steps=100).rates())
    assert len(seen) == len(made) == len(losses) == 31


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_it_stops_where_the_loss_is_not_finite(bad: float) -> None:
    losses = iter([1.0, 0.9, 0.8, bad, 0.7])
    assert range_test(lambda rate: next(losses), [1, 2, 3, 4, 5]) == ([1, 2, 3], [1.0, 0.9, 0.8])
    with pytest.raises(TrainingError, match='the loss is (nan|inf) at the first step, before any weight has changed'):
        range_test(lambda rate: bad, [1, 2])


def test_a_loss_near_zero_may_wobble() -> None:
    losses = [1.0, 0.5, 1e-4, 1e-6, 1e-3, 1e-5, 1e-2, 1e-6]
    waiting = iter(losses)
    assert len(range_test(lambda rate: next(waiting), range(1, 9))[1]) == len(losses)


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda number, rng: 0.7, 'never fell between'),
        (lambda number, rng: 0.7 + 0.1 * rng.standard_normal(), 'never fell between'),
        (lambda number, rng: 0.7 + 0.01 * number, 'never fell between'),
    ],
)
def test_no_number_is_invented(make: Any, words: str) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rates = FindLrFlags().rates()
        found = analyse(rates, [make(number, rng) for number in range(100)], 100)
        assert found.recommended is found.steepest is found.tenth is None
        assert words in found.reason and 'no suggestion' in describe(found)
        assert 'optim_wrapper' not in describe(found)


def test_a_loss_that_only_rises() -> None:
    rates = FindLrFlags().rates()[:12]
    found = analyse(rates, [1.0 * 1.3**number for number in range(12)], 100)
    assert found.recommended is None and 'rose from 1e-06 on' in found.reason and 'lower --start' in found.reason


def test_a_loss_that_still_falls_at_the_end() -> None:
    found = analyse(FindLrFlags().rates(), list(np.linspace(2, 1, 100)), 100)
    assert found.recommended is not None and 'a higher --end may give a higher rate' in found.reason


def test_which_of_the_two_is_taken() -> None:
    rates = FindLrFlags(start=1e-6, end=1.0).rates()
    x = np.linspace(-6, 0, 100)

    def curve(middle: float, lowest: float) -> list[float]:
        fall = -1 / (1 + np.exp(-8 * (x - middle)))
        return list(2 + fall - 0.02 * (x + 6) + np.where(x > lowest, 3 * (x - lowest), 0))

    agreeing = analyse(rates, curve(-2.0, -1.0), 100)
    assert agreeing.recommended == pytest.approx(agreeing.steepest, rel=0.06) and 'agrees' in agreeing.reason
    early = analyse(rates, curve(-4.5, -1.0), 100)
    assert early.recommended == pytest.approx(early.tenth, rel=0.06) and 'far below' in early.reason
    late = analyse(rates, curve(-1.1, -1.0), 100)
    assert late.recommended == pytest.approx(late.tenth, rel=0.06) and 'training breaks' in late.reason


def test_settings_that_hold_the_rate() -> None:
    assert settings(0.003) == ['optim_wrapper.optimizer.lr=0.003']
    schedulers = [dict(type='LinearLR'), dict(type='OneCycleLR', eta_max=1)]
    assert settings(0.003, schedulers)[1:] == ['param_scheduler.1.eta_max=0.003']


@pytest.mark.parametrize(
    'arguments, words',
    [
        (dict(start=0.0), '--start must be above 0 and below --end, got 0 and 1'),
        (dict(start=1.0, end=0.1), '--start must be above 0 and below'),
        (dict(end=math.inf), 'below --end'),
        (dict(steps=19), '--steps must be at least 20, got 19'),
        (dict(out='lr.txt'), r'--out must end in \.png, \.svg or \.pdf'),
    ],
)
def test_flags(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FindLrFlags(**arguments)


def test_a_real_run(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """24 steps of accumulated batches are eight epochs of it; schedules are off, and groups keep their ratios."""
    out, seen = tmp_path / 'curve.png', []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append([group['lr'] for group in self.param_groups])
            return super().step(closure)

    from mlcls.registry import OPTIMIZERS

    OPTIMIZERS.register_module(name='SpySGD', module=Spy)
    try:
        options = {
            'optim_wrapper.optimizer.type': 'SpySGD',
            'optim_wrapper.accumulative_counts': 2,
            'optim_wrapper.paramwise_cfg': dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
        }
        found = find_lr(tiny_config, FindLrFlags(start=1e-4, end=10, steps=24, out=out), options)
    finally:
        OPTIMIZERS._module_dict.pop('SpySGD')
    assert len(seen) == len(found.rates) or len(seen) == len(found.rates) + 1  # a last one whose loss was not finite
    for rate, lrs in zip(found.rates, seen):
        assert set(np.round(np.asarray(lrs) / rate, 6)) == {1.0, 0.1}
    said = capsys.readouterr().out
    assert f'curve: {out}' in said and Image.open(out).size[0] > 500
    assert not (tmp_path / 'run').exists()
    assert ('recommended' in said) == (found.recommended is not None)


def test_in_mixed_precision(tiny_config: Path, tmp_path: Path) -> None:
    flags = FindLrFlags(steps=20, out=tmp_path / 'lr.png')
    found = find_lr(tiny_config, flags, {'optim_wrapper.type': 'AmpOptimWrapper'})
    assert all(math.isfinite(loss) for loss in found.losses) and (tmp_path / 'lr.png').is_file()


def test_configs_that_train_nothing(tiny_config: Path, tmp_path: Path) -> None:
    flags = FindLrFlags(steps=20, out=tmp_path / 'lr.png')
    none = {'train_dataloader': None, 'optim_wrapper': None, 'train_cfg': None, 'param_scheduler': None}
    with pytest.raises(ConfigError, match='nothing to train'):
        find_lr(tiny_config, flags, {**none, 'auto_scale_lr': None})
