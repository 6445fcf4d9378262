"""The benchmark of the engine runs, and measures what it says."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
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
    for name in ('bench_engine', 'engine_overhead', 'turns', 'seeds'):  # not the parts that are registered
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


def test_a_step_with_its_share_of_a_log_line(bench: ModuleType) -> None:
    overhead = importlib.import_module('engine_overhead')
    # Turns of nine timed steps of 1 ms, with 45 ms more at the log line of every fifth;
    # a slow start, a disturbed group.
    seconds = [1.0] * 5 + [0.009, 0.009, 0.009, 0.009, 0.054] * 8
    seconds[17] += 3
    assert overhead.line_ms(seconds) == pytest.approx(2.0)


def test_loops_take_turns(bench: ModuleType) -> None:
    turns = importlib.import_module('turns')
    seen: list[str] = []

    def loop(name: str, steps: int, pause: float) -> Any:
        def body(place: Any) -> None:
            for _ in range(steps):
                seen.append(name)
                time.sleep(pause)
                place.tick()

        return body

    taken = turns.race({'a': loop('a', 30, 0.0), 'b': loop('b', 14, 0.004), 'c': loop('c', 20, 0.0)})
    one = turns.TURN
    expected = 'abcabca'
    counts = [one, one, one, one, 4, one, one]
    assert seen == [name for name, count in zip(expected, counts) for _ in range(count)]
    assert [len(taken[name]) for name in 'abc'] == [3, 1, 2]
    assert 0.004 * (one - 1) <= taken['b'][0] < 5  # the first step of a turn is not timed


def test_an_error_in_a_loop_ends_the_race(bench: ModuleType) -> None:
    turns = importlib.import_module('turns')

    def broken(place: Any) -> None:
        place.tick()
        raise ValueError('broken')

    with pytest.raises(ValueError, match='broken'):
        turns.race({'a': broken, 'b': lambda place: [place.tick() for _ in range(25)]})


def test_the_parts_of_the_overhead(bench: ModuleType, tmp_path: Path) -> None:
    from mlcls.engine import step

    plain = step.seed_step
    found = bench.overhead_parts(tmp_path, 120)['overhead_parts_us']
    assert {'gradient norm and clipping', 'sums of losses', 'LoggerHook', 'ParamSchedulerHook'} <= found.keys()
    assert all(0 < taken < 1e5 for taken in found.values()) and step.seed_step is plain


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
    rivals.train_bare(loader, lambda: None)
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
