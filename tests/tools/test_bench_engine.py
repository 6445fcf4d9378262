"""The benchmark of the engine runs, and measures what it says."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module('bench_engine')
    for name in ('bench_engine', 'seeds'):  # not the parts that are registered
        sys.modules.pop(name, None)


def test_ends_in_one_line_of_json(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'results' / 'engine.json'
    arguments = ['--quick', '--only', 'overhead', 'checkpoint', 'log_cost', 'memory', 'gpu', '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['bench_engine.py', *arguments])
    bench.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures == json.loads(out.read_text()) and figures['quick']
    assert {'overhead_ms', 'overhead_vs_mmengine', 'log_cost_ratio', 'memory_growth_mib'} <= figures.keys()
    assert figures['bare_step_ms'] > 0 and figures['mmengine_log_cost_ratio'] > 0
    assert figures['checkpoint_stall_share'] > 0 and figures['checkpoint_write_s'] > 0
    # Weights and two moments of 11.2 million numbers of four bytes.
    assert figures['checkpoint_mib'] == pytest.approx(3 * 11.18e6 * 4 / 2**20, rel=0.01)
    if not torch.cuda.is_available():
        assert figures['left_out'] == {'gpu': 'RuntimeError: no GPU on this machine'}


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(bench: ModuleType, tmp_path: Path) -> None:
    found = bench.several(tmp_path, True, argparse.Namespace())
    assert found['ddp2_equal'] and found['ddp2_share'] > 0
    assert len(json.loads((tmp_path / 'of2' / 'rank1.json').read_text())['weights']) == 64


def test_the_first_step_is_awaited_and_the_process_ended(bench: ModuleType, tmp_path: Path) -> None:
    code = "import time; print('starting'); time.sleep(0.2); print('Epoch(train) [1]'); time.sleep(600)"
    taken = bench.seconds_to([sys.executable, '-c', code], [r'Epoch\(train\)'], tmp_path / 'log')
    assert len(taken) == 1 and 0.2 <= taken[0] < 60


def test_a_process_that_fails_is_told(bench: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match='ended without its first step: no data here'):
        bench.seconds_to([sys.executable, '-c', "import sys; sys.exit('no data here')"], ['Epoch'], tmp_path / 'log')


@pytest.mark.slow
def test_the_first_step_of_a_config(bench: ModuleType, tmp_path: Path, tiny_config: Path) -> None:
    found = bench.first_step(tmp_path, True, argparse.Namespace(config=tiny_config))
    assert 0 < found['import_torch_s'] < found['first_step_begins_s'] < found['first_step_s']


def test_windows(bench: ModuleType) -> None:
    # 50 steps of 1 ms, with a pause of 25 ms at the log line of each window, and a slow start.
    times, now = [], 0.0
    for step in range(501):
        now += 0.2 if step < 60 else 0.001 + (0.025 if step % 50 == 25 else 0)
        times.append(now)
    assert bench.window_ms(times) == pytest.approx(1.5)


def test_all_three_train_alike(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared is the same work: from the same weights, the same come out of both runners and the bare loop."""
    rivals = importlib.import_module('engine_rivals')
    loader, seen = rivals.ready_loader(tmp_path, 60), {}
    models = iter([rivals.small_model() for _ in range(3)])
    kept: list[Any] = []

    def keep() -> Any:
        kept.append(next(models))
        kept[-1].init_weights = lambda: None  # runners fill weights anew, and set biases
        return kept[-1]

    untrained = torch.cat([p.detach().flatten() for p in rivals.small_model().parameters()])
    monkeypatch.setattr(rivals, 'small_model', keep)
    monkeypatch.setattr('mlcls.engine.runner.start_biases', lambda *given: [])
    rivals.train_bare(loader, rivals.Clock())
    for name in ('mmengine_runner', 'our_runner'):
        clock = rivals.Clock()
        getattr(rivals, name)(tmp_path / name, loader, [clock]).train()
        seen[name] = len(clock.times)
    assert seen == {'mmengine_runner': 60, 'our_runner': 60}
    bare, theirs, ours = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in kept)
    assert (bare - untrained).abs().max() > 1e-2
    # Both runners have a schedule, of whose million steps 60 change next to nothing.
    assert torch.allclose(bare, theirs, atol=1e-5)
    assert torch.allclose(bare, ours, atol=1e-5)


def test_saves_are_timed(bench: ModuleType) -> None:
    saved: list[int] = []
    writer = SimpleNamespace(last_seconds=2.0, settle=lambda: None)
    runner = SimpleNamespace(
        checkpoint_writer=writer, work_dir='.', save_checkpoint=lambda *given, **others: saved.append(1)
    )
    hook = bench.Saves(3)
    for step in range(9):
        hook.before_train_iter(runner, step)
        hook.after_train_iter(runner, step)
    assert len(saved) == len(hook.stalls) == 3 and hook.writes == [2.0, 2.0]
    del runner.checkpoint_writer  # where saving is done when the call returns
    hook = bench.Saves(3)
    for step in range(6):
        hook.before_train_iter(runner, step)
        hook.after_train_iter(runner, step)
    assert hook.writes == hook.stalls and len(hook.writes) == 2
