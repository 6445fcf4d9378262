"""What a run waits for: arithmetic of spans against brute force, traces made by hand, and a run that stays the same."""

from __future__ import annotations

import gzip
import json
import logging
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlcls.apis import TrainFlags, train
from mlcls.engine.hooks.profile import ProfileHook, plan
from mlcls.engine.trace import (
    STEP,
    WAIT,
    Operation,
    Shares,
    clip,
    judge,
    length,
    own_times,
    read_trace,
    subtract,
    summary,
    union,
    with_waiting,
)
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(tuple), max_size=8)


def cells(spans: Any) -> set[int]:
    return {cell for start, end in spans for cell in range(int(start), int(end))}


@given(SPANS, SPANS, st.tuples(st.integers(0, 15), st.integers(16, 30)))
def test_spans_are_sets_of_instants(first: Any, second: Any, window: tuple[int, int]) -> None:
    one, other = union(first), union(second)
    assert cells(one) == cells(first) and length(one) == len(cells(first))
    assert all(a[1] < b[0] for a, b in pairwise(one))
    assert cells(subtract(one, other)) == cells(first) - cells(second)
    assert length(subtract(one, other)) == len(cells(first) - cells(second))
    assert cells(clip(one, window)) == cells(first) & set(range(*window))


def event(name: str, cat: str, start: float, end: float, tid: int = 1) -> dict[str, Any]:
    return {'ph': 'X', 'name': name, 'cat': cat, 'ts': 1e6 + start, 'dur': end - start, 'pid': 7, 'tid': tid}


def marks(*times: tuple[float, float, float]) -> list[dict[str, Any]]:
    """Steps: (waiting begins, data are there, step ends)."""
    return [
        mark
        for wait, got, end in times
        for mark in (event(WAIT, 'user_annotation', wait, got), event(STEP, 'user_annotation', got, end))
    ]


def test_a_trace_of_a_cpu() -> None:
    """100 us: 30 waited, 45 in operations (nested ones once, the loader's own not), the rest is the host's."""
    events = [
        *marks((0, 20, 50), (50, 60, 100)),
        event('aten::stack', 'cpu_op', 5, 15),  # the loader of a process without workers
        event('aten::conv2d', 'cpu_op', 20, 40),
        event('aten::mkldnn_convolution', 'cpu_op', 22, 38),
        event('aten::add', 'cpu_op', 65, 85),
        event('aten::mul', 'cpu_op', 80, 90, tid=2),  # another thread, overlapping
        event('Optimizer.step#SGD.step', 'user_annotation', 85, 100),
        event('aten::before', 'cpu_op', -30, -10),
        event('aten::after', 'cpu_op', 100, 140),
        {'ph': 'M', 'name': 'process_name'},
    ]
    shares, operations, steps = read_trace(events)
    assert steps == 2 and shares.device == 'cpu'
    assert shares.seconds == pytest.approx(50e-6)
    assert (shares.data, shares.copies, shares.compute, shares.host) == pytest.approx((0.3, 0.0, 0.45, 0.25))
    assert [each.name for each in operations] == [
        'aten::add', 'aten::mkldnn_convolution', 'aten::mul', 'aten::stack', 'aten::conv2d'
    ]  # fmt: skip
    assert [each.seconds for each in operations] == pytest.approx([20e-6, 16e-6, 10e-6, 10e-6, 4e-6])


def test_a_trace_of_a_gpu() -> None:
    """What the device does counts: waiting while it computes, and copying beside it, cost nothing."""
    events = [
        *marks((0, 40, 60), (60, 70, 100)),
        event('aten::conv2d', 'cpu_op', 40, 60),  # launching
        event('sgemm', 'kernel', 10, 30, tid=20),
        event('relu', 'kernel', 25, 35, tid=21),
        event('Memset', 'gpu_memset', 72, 74, tid=20),
        event('sgemm', 'kernel', 80, 90, tid=20),
        event('Memcpy HtoD', 'gpu_memcpy', 30, 38, tid=22),  # 3 of them with nothing beside
        event('Memcpy HtoD', 'gpu_memcpy', 62, 64, tid=22),
        event('sgemm', 'kernel', 98, 120, tid=20),  # 2 of them inside
    ]
    shares, operations, steps = read_trace(events)
    assert steps == 2 and shares.device == 'cuda'
    assert shares.compute == pytest.approx(0.25 + 0.02 + 0.10 + 0.02)
    assert shares.copies == pytest.approx(0.03 + 0.02)
    # waiting with an idle device: 0-10, 38-40, 60-62, 64-70
    assert shares.data == pytest.approx(0.20)
    assert shares.host == pytest.approx(1 - 0.39 - 0.05 - 0.20)
    assert operations[0].name == 'sgemm' and operations[0].calls == 3
    assert 'aten::conv2d' not in {each.name for each in operations}


def test_a_trace_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match='the trace has no training step'):
        read_trace([event('aten::add', 'cpu_op', 0, 1)])


def test_own_times_of_three_levels_and_two_threads() -> None:
    events = [event(name, 'cpu_op', *when) for name, *when in (('a', 0, 10), ('b', 2, 8), ('c', 3, 5), ('b', 10, 11))]
    events.append(event('a', 'cpu_op', 0, 4, tid=2))
    found = {each.name: (each.seconds * 1e6, each.calls) for each in own_times(events)}
    assert found == {'a': pytest.approx((8, 2)), 'b': pytest.approx((5, 2)), 'c': pytest.approx((2, 1))}


def test_verdict() -> None:
    line = judge(Shares(0.0312, 0.62, 0.03, 0.30, 0.05, 'cuda', workers=2, cores=8))
    assert line.startswith(
        'profile: of 31.2 ms a step the loop waits 62 % for data, 3 % for copies, computes 30 %, host 5 %: the data '
        'loader is the limit; raise train_dataloader.num_workers from 2 up to 8, or store the images small '
        '(tools/pack_data.py)'
    )
    assert 'then computing: which is as it should be' in line


@pytest.mark.parametrize(
    'parts, more, words',
    [
        (
            (0.9, 0, 0.1, 0),
            dict(workers=0, cores=4),
            'the data loader is the limit; set train_dataloader.num_workers, now 0',
        ),
        ((0.9, 0, 0.1, 0), dict(workers=4, cores=4), 'all of the 4 core'),
        ((0.9, 0, 0.1, 0), dict(workers=0, cores=1), 'take cheaper transforms'),
        ((0.1, 0.8, 0.1, 0), dict(device='cuda'), 'copying is the limit; set train_dataloader.pin_memory=True'),
        ((0.1, 0, 0.8, 0.1), dict(device='cuda'), r'computing is the limit; .*--amp.*channels_last=True'),
        ((0.1, 0, 0.8, 0.1), dict(device='cpu'), 'computing is the limit; a GPU, smaller images'),
        ((0.1, 0, 0.1, 0.8), dict(device='cuda'), 'the host is the limit; raise train_dataloader.batch_size'),
    ],
)
def test_advice(parts: tuple[float, ...], more: dict[str, Any], words: str) -> None:
    line = judge(Shares(0.1, *parts, **more))
    assert re.search(words, line), line
    assert '; then ' not in line  # nothing else is worth mentioning


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda parts: sum(parts) > 1e-3))
def test_percents_add_up(parts: list[float]) -> None:
    total = sum(parts)
    line = judge(Shares(0.1, *(part / total for part in parts)))
    found = [int(number) for number in re.findall(r'(\d+) %', line.split(' is the limit')[0])]
    assert sum(found) == 100
    assert all(abs(number - 100 * part / total) <= 1 for number, part in zip(found, parts))


def test_waiting_from_elsewhere_leaves_ratios() -> None:
    found = with_waiting(Shares(0.2, 0.1, 0.0, 0.6, 0.3), 0.4, 0.1)
    assert (found.data, found.copies, found.compute, found.host) == pytest.approx((0.4, 0, 0.4, 0.2))
    assert found.seconds == 0.1
    assert with_waiting(Shares(0.2, 1.0, 0, 0, 0), 0.7, 0.1).data == 1.0


def test_summary_lists_ten_operations() -> None:
    operations = [Operation(f'op{number}' + 'x' * 200 * (number == 0), 1 / (number + 1), 40) for number in range(14)]
    text = summary(Shares(0.1, 0.5, 0, 0.4, 0.1), operations, 20, [(0.01, 0.05)])
    listed = [
        line for line in text.splitlines() if line.split()[-1:] and line.split()[-1].startswith('op') and '%' in line
    ]
    assert len(listed) == 10 and all(len(line) < 130 for line in listed)
    assert '1 steps before them, without the profiler: 50.00 ms a step' in text
    assert listed[0].split()[0] == '50.000' and listed[0].split()[3] == '2.0'


@given(st.integers(1, 100), st.integers(0, 40), st.integers(1, 40))
def test_plan_stays_inside(left: int, warm_up: int, steps: int) -> None:
    begin, count = plan(left, warm_up, steps)
    assert 0 <= begin <= warm_up and 1 <= count <= steps and begin + count <= left
    if left >= warm_up + steps:
        assert (begin, count) == (warm_up, steps)


@pytest.mark.parametrize(
    'arguments, words',
    [
        (dict(warm_up=-1), 'warm_up must be a whole number of at least 0, got -1'),
        (dict(steps=0), 'steps must be a whole number of at least 1, got 0'),
        (dict(steps=2.5), 'steps must be a whole number of at least 1, got 2.5'),
    ],
)
def test_refusals(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f'ProfileHook: {words}'):
        ProfileHook(**arguments)


class FakeRun:
    """Calls the hook as a training loop does; a step multiplies two matrices."""

    def __init__(self, folder: Path, batches: int, epochs: int = 1, done: int = 0) -> None:
        self.work_dir, self.max_epochs, self.epoch = str(folder), epochs, 0
        self.train_dataloader = [None] * batches
        self.train_loop = SimpleNamespace(batches_done=done)
        self.messages: list[str] = []
        self.logger = logging.Logger('fake')
        self.logger.addHandler(self._handler())

    def _handler(self) -> logging.Handler:
        handler = logging.Handler()
        handler.emit = lambda record: self.messages.append(record.getMessage())  # type: ignore[method-assign]
        return handler

    def go(self, hook: ProfileHook, gives: int | None = None) -> None:
        for epoch in range(self.max_epochs):
            self.epoch = epoch
            hook.before_train_epoch(self)
            for number in range(self.train_loop.batches_done, gives or len(self.train_dataloader)):
                hook.before_train_iter(self, number)
                torch.ones(4, 4) @ torch.full((4, 4), float(number))
                hook.after_train_iter(self, number)
            self.train_loop.batches_done = 0
            hook.after_train_epoch(self)
        hook.close()

    @property
    def recorded(self) -> int | None:
        path = Path(self.work_dir, 'profile/trace.json.gz')
        if not path.is_file():
            return None
        trace = json.loads(gzip.decompress(path.read_bytes()))
        assert 'host_name' not in trace
        names = [each['name'] for each in trace['traceEvents'] if each.get('cat') == 'user_annotation']
        assert names.count(WAIT) - names.count(STEP) in (0, 1)  # an epoch may end while waiting
        return names.count(STEP)


@pytest.mark.parametrize(
    'batches, epochs, done, steps',
    [
        (40, 1, 0, 20),  # as asked for
        (30, 2, 0, 20),
        (12, 3, 0, 8),  # an epoch shorter than the window
        (2, 2, 0, 2),
        (1, 2, 0, 1),
        (40, 2, 35, 20),  # resumed near the end of an epoch: the next one
        (40, 1, 35, 4),  # there is none
    ],
)
def test_which_steps_are_recorded(tmp_path: Path, batches: int, epochs: int, done: int, steps: int) -> None:
    run = FakeRun(tmp_path, batches, epochs, done)
    run.go(ProfileHook())
    assert run.recorded == steps
    assert len([message for message in run.messages if message.startswith('profile: of ')]) == 1
    assert f'{steps} training steps recorded' in (tmp_path / 'profile/summary.txt').read_text()
    assert 'aten::mm' in (tmp_path / 'profile/summary.txt').read_text()


def test_a_loader_that_gives_less_than_it_said(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, 40)
    run.go(ProfileHook(), gives=15)
    assert run.recorded is not None and len(run.messages) == 1
    assert '5 training steps recorded' in (tmp_path / 'profile/summary.txt').read_text()


def test_a_run_that_ends_in_a_recording_leaves_no_profiler_behind(tmp_path: Path) -> None:
    hook, run = ProfileHook(), FakeRun(tmp_path, 40)
    hook.after_train_epoch = lambda runner: None  # type: ignore[method-assign]
    run.go(hook, gives=15)
    assert run.recorded is None and run.messages == []
    with torch.profiler.profile():  # raises if another one is at work
        pass


def test_a_folder_that_cannot_be_written_is_no_end(tmp_path: Path) -> None:
    (tmp_path / 'profile').write_text('in the way')
    run = FakeRun(tmp_path, 40)
    run.go(ProfileHook())
    (message,) = run.messages
    assert message.startswith(f'{tmp_path}/profile: the profile cannot be written (') and 'training goes on' in message


def test_a_profiler_that_cannot_start_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError('busy')

    monkeypatch.setattr(torch.profiler.profile, 'start', refuse)
    run = FakeRun(tmp_path, 40)
    run.go(ProfileHook())
    assert run.recorded is None
    assert run.messages == ['--profile: the profiler cannot start (busy); training goes on without it']


def test_a_run_is_recorded_and_not_changed(tiny_config: Path, tmp_path: Path) -> None:
    """Weights and optimiser are those of a run without it, bit for bit, and the config in checkpoints is the same."""
    options = {'train_cfg.max_epochs': 2, 'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None}
    options |= {'default_hooks.checkpoint.save_best': None}
    with_profile, without = (
        train(tiny_config, TrainFlags(work_dir=str(tmp_path / name), profile=name == 'with'), options)
        for name in ('with', 'without')
    )
    a, b = (read_checkpoint(run / 'epoch_2.pth') for run in (with_profile, without))
    assert a['state_dict'].keys() == b['state_dict'].keys()
    assert all(torch.equal(a['state_dict'][name], b['state_dict'][name]) for name in a['state_dict'])
    momenta = [each['optimizer']['state'] for each in (a, b)]
    assert all(torch.equal(momenta[0][k]['momentum_buffer'], momenta[1][k]['momentum_buffer']) for k in momenta[0])
    assert {**a['meta']['config'], 'work_dir': ''} == {**b['meta']['config'], 'work_dir': ''}

    assert not (without / 'profile').exists()
    text = (with_profile / 'profile/summary.txt').read_text()
    assert '4 training steps recorded, on a CPU' in text and 'aten::convolution_backward' in text
    assert 'profile: of ' in next(with_profile.glob('*/*.log')).read_text()


@pytest.mark.gpu
def test_a_gpu_is_seen(tiny_config: Path, tmp_path: Path) -> None:
    train(tiny_config, TrainFlags(profile=True, validate=False), {'train_cfg.max_epochs': 1})
    assert 'on a GPU' in (tmp_path / 'run/profile/summary.txt').read_text()
