"""The bar on a terminal, and what stands in for it elsewhere."""

from __future__ import annotations

import io
import logging
import math
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mlcls.engine.hooks import ProgressHook
from mlcls.engine.hooks import progress as module
from mlcls.engine.hooks.progress import gpu_note, training_note
from mlcls.engine.logs import ConsoleHandler
from mlcls.errors import ConfigError


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, 'monotonic', lambda: self.now)


class Meter:
    """What a training loop measures."""

    def __init__(self, last: Any = None, **rates: Any) -> None:
        self.last = last
        self._rates = rates
        self.asked = 0

    def rates(self) -> dict[str, Any]:
        self.asked += 1
        return self._rates


class OnDevice:
    """A loss that must not be waited for."""

    def item(self) -> float:
        raise AssertionError('the loss was read from the device')

    __float__ = item
    __format__ = item  # type: ignore[assignment]


def make_runner(**others: Any) -> SimpleNamespace:
    logger = logging.Logger('progress')
    logger.addHandler(ConsoleHandler(logging.INFO))
    fields = dict(epoch=0, iter=0, max_epochs=4, max_iters=1000, val_dataloader=range(50), test_dataloader=range(50))
    return SimpleNamespace(**{**fields, 'logger': logger, **others})


class Terminal(io.StringIO):
    """Output that the hook takes for a terminal."""

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 120) -> Terminal:
    """Called in tests, not a fixture: pytest puts its own stdout in place after fixtures."""
    screen = Terminal()
    monkeypatch.setattr(sys, 'stdout', screen)
    for name, value in (('TERM', 'xterm'), ('COLUMNS', str(columns))):
        monkeypatch.setenv(name, value)
    for name in ('NO_COLOR', 'FORCE_COLOR', 'TTY_COMPATIBLE', 'TTY_INTERACTIVE'):
        monkeypatch.delenv(name, raising=False)
    return screen


def test_the_note_says_what_matters_first() -> None:
    meter = Meter({'loss': 0.12345}, images_per_second=812.4, data_share=0.034, seconds_per_step=0.1)
    assert training_note(make_runner(meter=meter, epoch=2)) == 'epoch 3/4 loss 0.1235  812 images/s  waits for data 3%'


@pytest.mark.parametrize(
    'meter', [None, Meter(), Meter({}), Meter({'loss': None}, images_per_second=math.nan, data_share=math.nan)]
)
def test_what_is_not_known_yet_is_left_out(meter: Meter | None) -> None:
    assert training_note(make_runner(meter=meter)) == 'epoch 1/4'
    bare = make_runner(max_epochs=None)
    assert training_note(bare) == '' and not hasattr(bare, 'meter')


def test_a_loss_that_is_not_finite_is_shown() -> None:
    assert 'loss nan' in training_note(make_runner(meter=Meter({'loss': math.nan})))


def test_memory_is_read_from_the_books_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.cuda.is_initialized() or gpu_note() == ''
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda: 12 * 1024**3 + 400 * 1024**2)
    monkeypatch.setattr(
        torch.cuda, 'get_device_properties', lambda device: SimpleNamespace(total_memory=80 * 1024**3 * (device == 1))
    )
    assert gpu_note() == 'GPU 12.4/80 GiB'


def test_the_bar_is_updated_seldom_and_never_reads_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1000 steps in ten seconds: at most ten updates a second, and the last step is there."""
    terminal = open_terminal(monkeypatch)
    clock, meter = Clock(monkeypatch), Meter({'loss': 0.5}, images_per_second=100.0, data_share=0.5)
    runner, hook = make_runner(meter=meter), ProgressHook()
    hook.before_run(runner)
    try:
        hook.before_train(runner)
        for runner.iter in range(1000):
            hook.after_train_iter(runner, runner.iter, outputs={'loss': OnDevice()})
            clock.now += 0.01
        assert 20 <= meter.asked <= 101
        hook._progress.refresh()
    finally:
        hook.close()
    shown = terminal.getvalue()
    assert '1000/1000' in shown and 'epoch 1/4 loss 0.5000  100 images/s  waits for data 50%' in shown


def test_a_narrow_terminal_cuts_the_note_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch, 80)
    meter = Meter({'loss': 0.5}, images_per_second=2950.0, data_share=0.5)
    runner, hook = make_runner(meter=meter, max_iters=450_000, iter=449_999, epoch=89, max_epochs=90), ProgressHook()
    hook.before_run(runner)
    try:
        hook.before_train(runner)
        hook.after_train_iter(runner, 0)
        hook._progress.refresh()
    finally:
        hook.close()
    line = next(
        line for line in re.split(r'[\r\n]+', re.sub(r'\x1b\[[\d;?]*\w', '', terminal.getvalue())) if 'epoch' in line
    )
    assert (
        re.match(r'train \S{8} 450000/450000 \d:\d\d:\d\d epoch 90/90 loss 0.5000  2950.*…', line) and len(line) <= 80
    )


def test_step_lines_stay_off_the_console_while_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    runner, hook = make_runner(), ProgressHook()
    (console,) = runner.logger.handlers
    hook.before_run(runner)
    try:
        runner.logger.info('a step', extra={'is_step': True})
        runner.logger.info('something else')
    finally:
        hook.close()
    assert console.stream is terminal and not [each for each in console.filters if each is module._is_no_step]
    runner.logger.info('a later step', extra={'is_step': True})
    shown = terminal.getvalue()
    assert 'something else' in shown and 'a later step' in shown and 'a step' not in shown


def test_each_validation_has_a_bar_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    runner, hook = make_runner(), ProgressHook()
    hook.before_run(runner)
    try:
        hook.before_train(runner)
        for _ in range(2):
            hook.before_val(runner)
            assert [task.description for task in hook._progress.tasks] == ['train', 'val']
            for number in range(50):
                hook.after_val_iter(runner, number)
            assert hook._progress.tasks[-1].completed == 50
            hook.after_val(runner)
            assert [task.description for task in hook._progress.tasks] == ['train']
    finally:
        hook.close()
        hook.close()  # twice is no error


@pytest.mark.parametrize('stage', ['val', 'test'])
def test_a_long_evaluation_says_how_far_it_is_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    """50 batches of 10 seconds, a line a minute, none at the end, which has its own."""
    clock, runner, hook = Clock(monkeypatch), make_runner(), ProgressHook()
    lines: list[str] = []
    runner.logger = SimpleNamespace(handlers=[], info=lines.append)
    monkeypatch.setattr(module, 'on_terminal', lambda: False)
    hook.before_run(runner)
    getattr(hook, f'before_{stage}')(runner)
    for number in range(50):
        clock.now += 10
        getattr(hook, f'after_{stage}_iter')(runner, number)
    assert lines[:2] == [f'{stage}: 6 of 50 batches (12%)', f'{stage}: 12 of 50 batches (24%)'] and len(lines) == 8
    assert capsys.readouterr().out == ''


def test_a_short_evaluation_says_nothing_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, hook = Clock(monkeypatch), ProgressHook()
    runner = make_runner(logger=None)
    for _ in range(3):  # an hour between validations
        hook.before_val(runner)
        for number in range(50):
            clock.now += 1
            hook.after_val_iter(runner, number)
        clock.now += 3600


def test_other_ranks_have_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setattr(module, 'is_main_process', lambda: False)
    hook = ProgressHook()
    hook.before_run(make_runner())
    assert hook._progress is None and terminal.getvalue() == ''


@pytest.mark.parametrize('interval', [0, -1.0, math.nan])
def test_interval(interval: float) -> None:
    with pytest.raises(ConfigError, match='ProgressHook: interval must be a number of seconds above 0'):
        ProgressHook(interval=interval)
