"""The benchmark of annotations runs, and what it says of memory and labels is so."""

from __future__ import annotations

import argparse
import importlib
import json
import mmap
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))  # spawned processes find it by name
    return importlib.import_module('bench_annotations')


@pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='reads the memory of processes from Linux')
def test_ends_in_one_line_of_json(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, 'START', 'fork')  # without seconds of imports in each process
    out = tmp_path / 'results' / 'annotations.json'
    options = ('--images', '2000', '--classes', '50', '--labels', '3', '--workers', '1', '--draws', '1500')
    argv = ['bench_annotations.py', *options, '--folder', str(tmp_path), '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', argv)
    bench.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures == json.loads(out.read_text())
    labels = sum(len(ids) for _, ids in bench.make_lines(2000, 50, 3))
    for name in ('first', 'cached'):
        assert (figures[name]['images'], figures[name]['labels']) == (2000, labels)
        # A class each, and a row's end for each image.
        assert figures[name]['label_bytes'] == pytest.approx(4 + 8 * 2000 / labels, abs=0.02)
    assert set(figures['workers']) == {'mapped, fork', 'mapped, spawn', 'copied, spawn'}
    for found in figures['workers'].values():
        for when in ('before', 'after'):
            total = found[when]['main']['pss'] + found[when]['worker']['pss']
            assert found[when]['pss_of_all'] == pytest.approx(total, abs=0.2)
    assert os.listdir(tmp_path) == ['results']  # what it made is gone


@pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='reads the memory of processes from Linux')
def test_reads_in_a_process_of_its_own(bench: ModuleType, tmp_path: Path) -> None:
    options = argparse.Namespace(images=2000, classes=50, labels=3.0, format='native')
    bench.make_file(tmp_path / 'annotations.json', options)
    found = bench.in_a_process(bench.time_reading, tmp_path / 'annotations.json', options)
    assert found['images'] == 2000 and found['peak_mib'] < 64
    assert os.environ.get('MLCLS_CACHE') != str(tmp_path)  # is set there only


@pytest.mark.parametrize('option', ['--images', '--labels', '--workers'])
def test_refuses_what_is_not_above_0(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, 'argv', ['bench_annotations.py', option, '0'])
    with pytest.raises(SystemExit):
        bench.main()
    assert '--workers and --draws must be above 0' in capsys.readouterr().err


def test_images_are_as_asked(bench: ModuleType) -> None:
    lines = list(bench.make_lines(70_000, 100, 4))
    assert len({path for path, _ in lines}) == len(lines) == 70_000
    # A few of the drawn classes are drawn twice.
    assert 3.6 < np.mean([len(ids) for _, ids in lines]) < 4
    counts = np.bincount([number for _, ids in lines for number in ids], minlength=100)
    assert len(counts) == 100 and counts[0] > 2 * counts[50] > 0


def test_memory_counts_what_is_allocated(bench: ModuleType) -> None:
    if not Path('/proc/self/smaps_rollup').exists():
        pytest.skip('reads the memory of processes from Linux')
    before = bench.memory(os.getpid())
    # Memory from the system, not from what this process has kept.
    block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, len(block), mmap.PAGESIZE):
        block[start] = 1
    after = bench.memory(os.getpid())
    block.close()
    for kind in ('rss', 'pss', 'uss', 'anonymous'):
        assert after[kind] - before[kind] == pytest.approx(64, abs=4)
