"""Means of steps, their cost, and the log lines made of them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from time import sleep

import pytest
import torch

from mlcls.apis import train
from mlcls.engine.log_processor import LogProcessor
from mlcls.engine.meter import StepMeter
from mlcls.errors import ConfigError


def test_means_are_over_the_steps_since_the_last_entry() -> None:
    meter = StepMeter()
    values = [0.5, 1.25, -3.0, 8.0]
    for number, value in enumerate(values):
        meter.add(
            {'loss': torch.tensor(value, requires_grad=True), **({'grad_norm': 2.0 * number} if number % 2 else {})}, 4
        )
    found = meter.take()
    assert found['loss'] == pytest.approx(sum(values) / 4) and found['grad_norm'] == pytest.approx(4.0)
    meter.add({'loss': torch.tensor(7.0)}, 4)
    assert meter.take()['loss'] == 7.0 and 'grad_norm' not in meter.last


def test_what_is_kept_does_not_grow_with_the_steps() -> None:
    meter = StepMeter()
    for number in range(2000):
        meter.add({'loss': torch.tensor(1.0)}, 1)
        if number % 50 == 49:
            meter.take()
    assert sum(len(value) for value in vars(meter).values() if hasattr(value, '__len__')) < 20


def test_a_step_changes_no_tensor_that_it_was_given() -> None:
    meter, loss = StepMeter(), torch.tensor(1.0)
    for _ in range(3):
        meter.add({'loss': loss}, 1)
    assert loss.item() == 1.0 and meter.take()['loss'] == 1.0


def test_time_is_told_apart_into_waiting_and_working() -> None:
    meter = StepMeter(world_size=2)

    def slow() -> itertools.repeat:
        for _ in range(4):
            sleep(0.03)
            yield None

    assert meter.rates() == {}
    for _ in meter.timed(slow()):
        sleep(0.01)
        meter.add({}, 5)
    found = meter.take()
    assert found['data_time'] >= 0.029 and found['time'] >= 0.039 and 0.3 < found['data_share'] < 0.95
    assert found['images_per_second'] == pytest.approx(2 * 5 / found['time'], rel=1e-3)
    assert meter.rates()['seconds_per_step'] == found['time'] == meter.mean_seconds


def test_log_processors_of_other_kinds_are_refused(tiny_config: Path) -> None:
    with pytest.raises(ConfigError, match='log_processor.custom_cfg is not available'):
        LogProcessor(custom_cfg=[dict(data_src='loss')])
    with pytest.raises(ConfigError, match='log_processor.by_epoch=False is not available'):
        LogProcessor(by_epoch=False)


def test_logged_losses_are_the_means_of_the_steps(tiny_config: Path, tmp_path: Path) -> None:
    import json

    def entries(name: str, interval: int) -> list[dict[str, float]]:
        options = {
            'default_hooks.logger.interval': interval,
            'work_dir': str(tmp_path / name),
            'train_cfg.max_epochs': 2,
        }
        run = train(tiny_config, options=options)
        lines = next(run.glob('*/vis_data/scalars.json')).read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if 'loss' in entry]

    single, means = entries('a', 1), entries('b', 3)
    assert len(single) == 12 and [entry['iter'] for entry in means] == [3, 6, 9, 12]
    for number, entry in enumerate(means):
        for key in ('loss', 'grad_norm'):
            expected = math.fsum(step[key] for step in single[3 * number : 3 * number + 3]) / 3
            assert entry[key] == pytest.approx(expected, rel=1e-5)
    assert {'lr', 'time', 'data_time', 'epoch', 'images_per_second', 'data_share', 'step'} <= means[0].keys()
