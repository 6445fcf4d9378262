"""The benchmark of evaluation runs, compares what is comparable, and says what it leaves out."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module('bench_eval')
    for name in ('bench_eval', 'eval_rivals', 'seeds'):
        sys.modules.pop(name, None)


@pytest.fixture
def run_main(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the script with some arguments, its measurements in this process; gives the last line."""

    def run(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(bench, 'in_a_process', bench.measure)
        monkeypatch.setattr(sys, 'argv', ['bench_eval.py', *arguments])
        bench.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_ends_in_one_line_of_json(run_main: Any, tmp_path: Path) -> None:
    out = tmp_path / 'results' / 'speed.json'
    options = ('--divide', '100', '--rounds', '2', '--repeats', '1', '--folder', str(tmp_path), '--out', str(out))
    figures = run_main(*options)
    assert figures == json.loads(out.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ['results'], 'what it made is gone'
    keys = ['vs_sklearn_map', 'vs_torchmetrics_ap', 'seconds_100k_x_9600', 'gb_above_scores_100k_x_9600']
    keys += ['accumulate_us_per_image', 'fit_thresholds_s', 'bootstrap_s', 'seconds_100k_x_9600_mapped']
    keys += [
        f'vs_{rival}_{size}' for rival in ('sklearn_map', 'torchmetrics_ap') for size in ('100k_x_600', '20k_x_9600')
    ]
    for key in keys:
        assert figures[key] >= 0, key
    for size in ('40k_x_80', '100k_x_600', '20k_x_9600'):
        found = figures['mAP'][size]
        assert found['ours'] == found['ours_in_batches'] == pytest.approx(found['sklearn_map'], abs=1e-5)
    if importlib.util.find_spec('mmpretrain') is None:
        assert 'vs_mmpretrain' not in figures
        assert figures['left_out']['mmpretrain 40k_x_80'] == 'mmpretrain is not installed'
    else:
        assert figures['vs_mmpretrain'] > 0


def test_a_process_of_its_own_measures_time_and_memory(bench: ModuleType, tmp_path: Path) -> None:
    size = bench.Size('some', 3000, 400, False)
    bench.write_data(tmp_path, size, seed=0)
    found = bench.in_a_process(bench.Run('ours', size, tmp_path, 1, 1))
    scores, targets = bench.read_data(bench.Run('ours', size, tmp_path, 1, 1))
    assert found['mAP'] == bench.ours(scores, targets)
    assert found['seconds'] > 0 and 0 <= found['gb_above'] < 1


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='reads the memory of processes from Linux')
def test_peak_counts_what_a_method_takes_and_gives_back(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    size = bench.Size('some', 100, 8, False)
    bench.write_data(tmp_path, size, seed=0)
    monkeypatch.setitem(bench.SIDE_BY_SIDE, 'ours', lambda *_: float(np.ones(25_000_000).sum()))
    assert bench.measure(bench.Run('ours', size, tmp_path, 1, None))['gb_above'] == pytest.approx(0.2, abs=0.03)


def test_data_are_as_asked_whatever_is_held(bench: ModuleType, tmp_path: Path) -> None:
    size = bench.Size('some', 5000, 40, True)
    bench.write_data(tmp_path, size, seed=0)
    held, mapped = (bench.read_data(bench.Run('ours', size, tmp_path, 1, None, way)) for way in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(held, mapped, strict=True))
    scores, targets = held
    assert (scores.dtype, targets.dtype, tuple(scores.shape)) == (torch.float16, torch.int8, (5000, 40))
    assert float(targets.float().mean()) == pytest.approx(0.036, abs=0.003)
    assert 0 <= float(scores.min()) < float(scores.max()) <= 1


def test_another_result_is_refused(bench: ModuleType) -> None:
    figures: dict[str, Any] = {name: {'40k_x_80': {}} for name in ('seconds', 'gb_above', 'mAP')}
    run = {'seconds': 1.0, 'gb_above': 0.0}
    rounds = [{'ours': {**run, 'mAP': 50.0}, 'sklearn_map': {**run, 'seconds': 3.0, 'mAP': 50.0}}]
    bench.summarise(bench.SMALL, rounds, figures)
    assert figures['vs_sklearn_map'] == 3.0
    rounds[0]['sklearn_map']['mAP'] = 50.1
    with pytest.raises(RuntimeError, match=r'sklearn_map finds an mAP of 50\.1 at 40k_x_80, ours 50\.0'):
        bench.summarise(bench.SMALL, rounds, figures)


def test_ours_must_run(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    received = SimpleNamespace(recv=lambda: {'left_out': 'ImportError: gone'})
    process = SimpleNamespace(start=lambda: None, join=lambda: None)
    context = SimpleNamespace(
        Pipe=lambda duplex: (received, SimpleNamespace(close=lambda: None)), Process=lambda **_: process
    )
    monkeypatch.setattr(bench.multiprocessing, 'get_context', lambda kind: context)
    with pytest.raises(RuntimeError, match='ours, 40k_x_80: ImportError: gone'):
        bench.in_a_process(bench.Run('ours', bench.SMALL, tmp_path, 1, None))
    assert 'left_out' in bench.in_a_process(bench.Run('mmpretrain', bench.SMALL, tmp_path, 1, None))


@pytest.mark.parametrize('option', ['--rounds', '--repeats', '--divide', '--threads'])
def test_refuses_what_is_below_1(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, 'argv', ['bench_eval.py', option, '-1'])
    with pytest.raises(SystemExit):
        bench.main()
    assert '--rounds, --repeats, --divide and --threads must be at least 1' in capsys.readouterr().err
