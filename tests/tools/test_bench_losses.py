"""The benchmark of the losses compares like with like, and its count of memory is right."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mlcls.models.losses import AsymmetricLoss, FocalLoss

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks' / 'bench_losses.py'
KEYS = {
    'asymmetric_vs_bce',
    'asymmetric_compiled_vs_bce',
    'focal_vs_bce',
    'asymmetric_memory_vs_eager',
    'asymmetric_vs_floor',
    'torch',
    'threads',
    'devices',
    'rounds',
    'results',
}


@pytest.fixture(scope='module')
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location('bench_losses', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ends_in_one_line_of_json() -> None:
    arguments = ('--shapes', '4x3', '3x5', '--rounds', '2', '--no-compile', '--all')
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= KEYS
    assert figures['rounds'] == 2 and figures['threads'] == 1
    assert figures['asymmetric_compiled_vs_bce'] is None and 'not measured (--no-compile)' in done.stdout
    shapes = figures['results']['cpu']
    assert list(shapes) == ['4x3', '3x5']
    for result in shapes.values():
        assert 'failed' not in result
        assert {'bce', 'floor', 'asymmetric', 'focal', 'CrossEntropyLoss', 'RoleLoss'} <= set(result['median_ms'])
        assert result['vs_bce']['bce'] == 1
    assert figures['focal_vs_bce'] == max(result['vs_bce']['focal'] for result in shapes.values())


@pytest.mark.parametrize('shape', ['256', '0x5', 'axb', '1x2x3'])
def test_refuses_what_is_no_shape(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shape: str
) -> None:
    monkeypatch.setattr(sys, 'argv', ['bench_losses.py', '--shapes', shape])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2
    assert f"'{shape}' is no shape; write images x classes, like 256x1000" in capsys.readouterr().err


def test_memory_of_known_cases(bench: ModuleType) -> None:
    x = torch.rand(250, 400)
    size = 4 * x.numel()
    assert bench.peak_memory(lambda: x * x) == size
    assert bench.peak_memory(lambda: x.mul_(x)) == 0
    # A product, then a second beside it; the first is gone when the third is made.
    assert bench.peak_memory(lambda: (x * x * x).mul(x)) == 2 * size
    # torch makes tensors of the number 2 too: 8 bytes, and 4 as float32.
    assert size <= bench.peak_memory(lambda: x * 2) <= size + 16
    # Backward makes the gradient while the result, which it is made of, is still there; the gradient of a sum is one
    # number.
    x.requires_grad_()
    assert 2 * size <= bench.peak_memory(lambda: x.exp().sum().backward()) <= 2 * size + 64


@pytest.mark.parametrize('settings', [{}, {'gamma_pos': 1.0}, {'gamma_pos': 2.0, 'gamma_neg': 3.0, 'clip': 0.0}])
def test_eager_asymmetric_is_ours(bench: ModuleType, settings: dict[str, float]) -> None:
    loss = AsymmetricLoss(**settings, detach_weight=True, reduction='sum')
    compare(loss, lambda x, y: bench.eager_asymmetric(x, y, **settings), bench)


@pytest.mark.parametrize('settings', [{}, {'gamma': 3.0, 'alpha': 0.6}])
def test_eager_focal_is_ours(bench: ModuleType, settings: dict[str, float]) -> None:
    compare(FocalLoss(**settings), lambda x, y: bench.eager_focal(x, y, **settings), bench)


def compare(ours, theirs, bench: ModuleType) -> None:
    logits, targets, int8 = bench.make_data(64, 50, 'cpu')
    assert targets.sum() > 50 and torch.equal(targets, int8.float())
    expected = theirs(logits, targets)
    (expected_slope,) = torch.autograd.grad(expected, logits)
    for labels in (targets, int8):
        value = ours(logits, labels)
        (slope,) = torch.autograd.grad(value, logits)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(slope, expected_slope)
