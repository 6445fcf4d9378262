"""The benchmark of the models compares like with like."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools/benchmarks/bench_models.py'
sys.path.insert(0, str(SCRIPT.parent))
import bench_models  # noqa: E402

KEYS = {
    'resnet50_fp32_vs_bare',
    'resnet50_bf16_vs_bare',
    'ml_decoder_9600_overhead',
    'csra_overhead',
    'gcn_overhead',
    'bf16_is_emulated',
    'threads',
    'torch',
}


@pytest.mark.slow
def test_ends_in_one_line_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'argv', ['bench_models.py', '--quick', '--out', str(tmp_path / 'o.json')])
    bench_models.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures) >= KEYS
    assert json.loads((tmp_path / 'o.json').read_text()) == figures
    assert set(figures['median_seconds']) == {*bench_models.HEADS, 'bare', 'bf16', 'bare bf16'}


def test_ratios_are_medians_of_rounds() -> None:
    assert bench_models.ratio({'a': [1.0, 2.0, 30.0], 'b': [1.0, 1.0, 10.0]}, 'a', 'b') == 2.0


def test_both_steps_train_the_same_way() -> None:
    raw, ready = bench_models.pictures(2, 32, torch.device('cpu'))
    mean = torch.tensor(bench_models.MEAN).view(3, 1, 1)
    std = torch.tensor(bench_models.STD).view(3, 1, 1)
    assert torch.allclose(ready[1], (raw[1].float() - mean) / std)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, bench_models.CLASSES)
    )
    before = [p.detach().clone() for p in network.parameters()]
    bench_models.bare_step(network, ready, None)()
    assert all(not torch.equal(a, b) for a, b in zip(before, network.parameters()))


def test_traffic_of_one_layer() -> None:
    # 3 x 8 x 8 in, 4 x 8 x 8 out: input twice and its gradient, output and its gradient, two bytes each.
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    assert bench_models.least_traffic(model, torch.zeros(2, 3, 8, 8)) == 2 * (3 * 3 * 64 + 2 * 4 * 64)
