"""Schedules against the length of a run; what the real schedulers do is the reference where there is one."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, MultiStepLR, OneCycleLR, OptimWrapper

from mlcls.engine.schedule_check import RunLength, check_schedules
from mlcls.errors import ConfigError

RUN = RunLength(epochs=8, epoch_iters=10)
LINEAR = dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=2)
COSINE = dict(type='CosineAnnealingLR', T_max=6, by_epoch=True, begin=2, end=8)


def rates(scheduler: Any, steps: int, **arguments: Any) -> list[float]:
    wrapper = OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0))
    built, found = scheduler(wrapper, **arguments), [wrapper.param_groups[0]['lr']]
    for _ in range(steps):
        wrapper.step()
        built.step()
        found.append(wrapper.param_groups[0]['lr'])
    return found


@pytest.mark.parametrize(
    'schedulers',
    [
        None,
        [],
        [LINEAR, COSINE],
        [{**LINEAR, 'convert_to_iter_based': True}, {**COSINE, 'convert_to_iter_based': True}],
        COSINE,
        dict(type='CosineAnnealingLR', T_max=8),
        dict(type='CosineAnnealingLR', T_max=80, by_epoch=False),
        dict(type='CosineAnnealingLR', eta_min=1e-5),
        [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5), dict(type='MultiStepLR', milestones=[4, 6])],
        [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=8), dict(type='StepLR', step_size=3)],
        [COSINE, dict(type='CosineAnnealingMomentum', T_max=8)],
        dict(type='LinearLR', start_factor=0.1, end=3),
        dict(type='ConstantLR', factor=0.1, end=3),
        dict(type='OneCycleLR', eta_max=0.1, total_steps=8),
        dict(type='OneCycleLR', eta_max=0.1, total_steps=8, convert_to_iter_based=True),
        dict(type='OneCycleLR', eta_max=0.1, total_steps=80, by_epoch=False),
        dict(type='OneCycleLR', eta_max=[0.1, 0.2], by_epoch=False),
        dict(type='ReduceOnPlateauLR', monitor='loss'),
        dict(type='MultiStepLR', milestones=[3, 7]),
        dict(type='PolyLR', power=0.9),
        dict(type='ExponentialLR', gamma=0.9),
    ],
)
def test_what_is_usual_passes_in_silence(schedulers: Any) -> None:
    assert check_schedules(schedulers, RUN) == []


@pytest.mark.parametrize(
    'scheduler, words',
    [
        (dict(type='LinearLR', begin=4, end=4), 'end=4 is not after begin=4'),
        (dict(type='CosineAnnealingLR', T_max=4, begin=-1), 'begin=-1 is below 0'),
        (dict(type='CosineAnnealingLR', T_max=0), 'T_max=0 must be at least 1'),
        (dict(type='StepLR', step_size=0), 'step_size=0 must be at least 1'),
        (dict(type='CosineAnnealingLR', T_max=8, by_epoch=False), r'T_max=8 counts iterations .*or T_max=80$'),
        (dict(type='PolyLR', end=8, by_epoch=False), 'end=8 counts iterations'),
        (dict(type='OneCycleLR', eta_max=0.1, total_steps=7), '7 epochs, but training makes 8.*stop with an error'),
        (dict(type='OneCycleLR', eta_max=0.1, total_steps=99, by_epoch=False), 'makes 80 of them: its rate would not'),
        (dict(type='OneCycleLR', eta_max=0.1, end=60, total_steps=40, by_epoch=False), '40 iterations.*makes 60'),
        (dict(type='OneCycleLR', eta_max=0.1, end=100, by_epoch=False), '100 iterations.*makes 80'),
        (dict(type='OneCycleLR', total_steps=8), 'eta_max=0 must be above 0'),
        (dict(type='OneCycleLR', total_steps=8, eta_max=[0.1, 0]), r'eta_max=\[0.1, 0\] must be above 0'),
    ],
)
def test_what_cannot_be_meant_is_refused(scheduler: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_schedules([scheduler], RUN)


@pytest.mark.parametrize(
    'schedulers, words',
    [
        (
            dict(type='CosineAnnealingLR', T_max=4, begin=8),
            'begins at epoch 8, but training ends after epoch 8: it has no',
        ),
        (
            dict(type='CosineAnnealingLR', T_max=12),
            'goes on to epoch 12, but training ends after epoch 8: the learning',
        ),
        (dict(type='CosineAnnealingMomentum', T_max=12), 'the momentum stops on the way'),
        (dict(type='CosineAnnealingLR', T_max=90, by_epoch=False), 'goes on to iteration 90'),
        (dict(type='CosineAnnealingLR', T_max=4), 'its cosine rises again; set T_max=8'),
        (dict(type='CosineAnnealingLR', T_max=4, end=4), 'has ended at iteration 40 of 80: the rest is trained at its'),
        (dict(type='PolyLR', end=40, by_epoch=False), 'has ended at iteration 40 of 80'),
        (dict(type='MultiStepLR', milestones=[5, 8, 12]), 'milestones 8, 12 lie at or after the end of the training'),
        (dict(type='LinearLR', start_factor=0.1), 'the warm-up takes the whole training'),
        ([LINEAR, dict(type='CosineAnnealingLR', T_max=8)], r'\.0 .* and .*\.1 .* at the same time.*multiply'),
        ([dict(type='MultiStepLR', milestones=[1]), LINEAR], 'at the same time'),
        ([dict(type='StepLR', step_size=1), LINEAR], 'at the same time'),
        ([LINEAR, {**COSINE, 'begin': 3, 'T_max': 5}], 'stays as it is between .* ends at iteration 20.* iteration 30'),
    ],
)
def test_what_is_rarely_meant_is_said(schedulers: Any, words: str) -> None:
    import re

    notes = check_schedules(schedulers, RUN)
    assert len(notes) == 1 and re.search(words, notes[0]), notes


def test_the_schedulers_do_what_the_messages_say() -> None:
    with pytest.raises(ValueError, match='Tried to step'):  # in the middle of training
        rates(OneCycleLR, 8, eta_max=0.1, total_steps=6)
    uncut = rates(OneCycleLR, 6, eta_max=0.1, total_steps=20)
    assert uncut[-1] > uncut[0]
    rising = rates(CosineAnnealingLR, 8, T_max=4)
    assert rising[4] == pytest.approx(0, abs=1e-9) and rising[8] == pytest.approx(1.0)
    assert set(rates(MultiStepLR, 7, milestones=[8])) == {1.0}
    assert max(rates(OneCycleLR, 7, total_steps=8)) == 0


def test_several_parameters_are_apart() -> None:
    momentum = dict(type='CosineAnnealingMomentum', T_max=8)
    notes = check_schedules([LINEAR, COSINE, momentum, {**momentum, 'eta_min': 0.1}], RUN)
    assert len(notes) == 1 and 'param_scheduler.2' in notes[0] and 'change momentum' in notes[0]


@pytest.mark.parametrize(
    'scheduler, words',
    [
        (dict(type='LinearLR', end=9), r'\.0 \(LinearLR\): the warm-up takes until epoch 9, .* ends after epoch 8'),
        (dict(type='LinearLR', end=500, by_epoch=False), 'until iteration 500, but training ends after iteration 80'),
        (dict(type='ConstantLR', factor=0.1, end=20), 'until epoch 20.*full learning rate is never reached'),
        (dict(type='LinearMomentum', end=20), 'full momentum is never reached'),
    ],
)
def test_a_warm_up_longer_than_the_run_is_said_and_allowed(scheduler: Any, words: str) -> None:
    """As in a short trial of a config."""
    notes = check_schedules([scheduler], RUN)
    assert any(re.search(words, note) for note in notes)
