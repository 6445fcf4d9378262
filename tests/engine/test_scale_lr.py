"""Learning rates follow the number of images a step sees."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper

from mlcls.engine.scale_lr import real_batch_size, scale_lr, scale_schedules
from mlcls.errors import ConfigError


def make_wrapper(rates: tuple[Any, ...] = (0.1, 0.01, 0.002), **kwargs: Any) -> OptimWrapper:
    groups = [{'params': [torch.nn.Parameter(torch.ones(2))], 'lr': rate} for rate in rates]
    return OptimWrapper(torch.optim.SGD(groups, lr=0.1), **kwargs)


def rates_of(wrapper: OptimWrapper) -> list[float]:
    return [float(group['lr']) for group in wrapper.optimizer.param_groups]


@pytest.mark.parametrize('size, world, counts, images', [(8, 1, 1, 8), (8, 4, 1, 32), (8, 1, 4, 32), (3, 2, 5, 30)])
def test_images_of_a_step(size: int, world: int, counts: int, images: int) -> None:
    assert real_batch_size(size, world, counts) == images


def test_accumulated_batches_step_like_one_large_batch() -> None:
    """Two halves accumulated under the scaled rate move the weights as the whole batch does: so they count."""
    data, found = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), []
    for size, counts in ((8, 1), (4, 2)):
        weight = torch.nn.Parameter(torch.ones(2))
        wrapper = OptimWrapper(torch.optim.SGD([weight], lr=0.1), accumulative_counts=counts)
        scale_lr(wrapper, 4, real_batch_size(size, 1, counts))
        wrapper.initialize_count_status(torch.nn.Linear(1, 1), 0, counts)
        for part in data.split(size):
            wrapper.update_params((part @ weight).square().mean())
        found.append(weight.detach())
    torch.testing.assert_close(found[0], found[1])
    assert not torch.equal(found[0], torch.ones(2))


def test_groups_keep_their_ratios() -> None:
    wrapper = make_wrapper()
    assert scale_lr(wrapper, 32, 96) == 3.0
    assert rates_of(wrapper) == pytest.approx([0.3, 0.03, 0.006])
    assert scale_lr(make_wrapper(), 64, 16) == 0.25


def test_a_rate_in_a_tensor_that_groups_share() -> None:
    shared = torch.tensor(0.1)
    wrapper = make_wrapper((shared, shared))
    scale_lr(wrapper, 1, 2)
    assert rates_of(wrapper) == pytest.approx([0.2, 0.2])
    assert wrapper.optimizer.param_groups[0]['lr'] is shared


def test_not_twice() -> None:
    wrapper = make_wrapper()
    assert scale_lr(wrapper, 8, 16) == scale_lr(wrapper, 8, 16) == 2.0
    assert rates_of(wrapper) == pytest.approx([0.2, 0.02, 0.004])
    with pytest.raises(RuntimeError, match='were scaled by 2 already'):
        scale_lr(wrapper, 8, 32)


def test_not_twice_on_resume() -> None:
    def start() -> tuple[OptimWrapper, list[Any]]:
        wrapper = make_wrapper()
        scale_lr(wrapper, 8, 16)
        return wrapper, [
            LinearLR(wrapper, start_factor=0.5, begin=0, end=3),
            CosineAnnealingLR(wrapper, T_max=5, begin=3, end=8),
        ]

    def go_on(wrapper: OptimWrapper, schedulers: list[Any], steps: int) -> list[list[float]]:
        seen = []
        for _ in range(steps):
            wrapper.step()
            for scheduler in schedulers:
                scheduler.step()
            seen.append(rates_of(wrapper))
        return seen

    whole = go_on(*start(), 8)
    for stop in (1, 4, 6):
        wrapper, schedulers = start()
        assert go_on(wrapper, schedulers, stop) == whole[:stop]
        state = copy.deepcopy((wrapper.state_dict(), [scheduler.state_dict() for scheduler in schedulers]))
        wrapper, schedulers = start()  # the resumed run scales too, then loads
        wrapper.load_state_dict(state[0])
        for scheduler, stored in zip(schedulers, state[1]):
            scheduler.load_state_dict(stored)
        assert go_on(wrapper, schedulers, 8 - stop) == whole[stop:]


def test_after_schedulers_is_too_late() -> None:
    wrapper = make_wrapper()
    LinearLR(wrapper, start_factor=0.5, end=3)
    with pytest.raises(RuntimeError, match='before schedulers are built'):
        scale_lr(wrapper, 8, 16)


@pytest.mark.parametrize('base', [0, -8, 2.5, None, True])
def test_base_that_is_no_size(base: Any) -> None:
    with pytest.raises(ConfigError, match='base_batch_size must be a whole number above 0'):
        scale_lr(make_wrapper(), base, 8)


def test_batches_of_unknown_size() -> None:
    with pytest.raises(ConfigError, match='has a batch sampler.*set optim_wrapper.optimizer.lr'):
        real_batch_size(None)


def test_schedules_that_name_rates() -> None:
    given = [
        dict(type='OneCycleLR', eta_max=0.1, total_steps=9),
        dict(type='OneCycleLR', eta_max=[0.1, 0.2]),
        dict(type='CosineAnnealingLR', eta_min=1e-3, T_max=4),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.1, T_max=4),
        dict(type='CosineAnnealingMomentum', eta_min=0.5, T_max=4),
        dict(type='LinearLR', start_factor=0.1),
    ]
    kept = copy.deepcopy(given)
    found = scale_schedules(given, 2.0)
    assert given == kept
    assert found[0] == dict(type='OneCycleLR', eta_max=0.2, total_steps=9)
    assert found[1]['eta_max'] == [0.2, 0.4]
    assert found[2]['eta_min'] == 2e-3
    assert found[3:] == given[3:]
    assert scale_schedules(None, 2.0) is None and scale_schedules(given[0], 2.0)['eta_max'] == 0.2
