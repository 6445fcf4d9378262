"""Exact statistics of batch normalisation: the numbers, what stays as it is, and with averaged weights."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mlcls.apis import TrainFlags, test, train
from mlcls.engine import reestimate_batch_norm
from mlcls.engine.batch_norm import random_state_kept
from mlcls.engine.hooks import PreciseBNHook
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint
from mlcls.models import ResNet

from .test_head_first import moved, state, with_hook


class Net(nn.Module):
    """Two normalised layers, one of them used twice, with dropout behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.bn2, self.dropout = nn.BatchNorm1d(5), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vector = self.bn1(self.conv1(x)).relu().mean((2, 3))
        return self.dropout(self.bn2(self.bn2(vector) * 3 + 1))


def batches(sizes: tuple[int, ...] = (4, 7, 3)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Means of batches that differ show whether the spread between batches counts.
    return [torch.randn(n, 3, 8, 8, generator=generator) * (1 + k) + k for k, n in enumerate(sizes)]


def in_float64(net: Net, images: list[torch.Tensor]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each layer sees, computed by itself in float64: (values, features)."""
    seen: dict[str, list[np.ndarray]] = {'bn1': [], 'bn2': []}
    weight, bias = net.conv1.weight.double(), net.conv1.bias.double()
    for batch in images:
        values = nn.functional.conv2d(batch.double(), weight, bias).movedim(1, -1)
        seen['bn1'].append(values.reshape(-1, 5).detach().numpy())
        maps = values.detach().numpy()
        flat = maps.reshape(-1, 5)
        maps = (maps - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
        vector = np.maximum(maps, 0).mean((1, 2))
        seen['bn2'].append(vector)
        vector = (vector - vector.mean(0)) / np.sqrt(vector.var(0) + 1e-5) * 3 + 1
        seen['bn2'].append(vector)
    return {name: (np.concatenate(v).mean(0), np.concatenate(v).var(0, ddof=1)) for name, v in seen.items()}


def test_statistics_are_those_of_all_values_in_float64() -> None:
    torch.manual_seed(1)
    net = Net().eval()
    images = batches()
    expected = in_float64(net, images)
    net.bn1.running_mean.fill_(float('nan'))  # what was there has no part in it
    assert reestimate_batch_norm(net, images) == 3
    for name, (mean, variance) in expected.items():
        norm = getattr(net, name)
        np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(norm.running_var, variance, rtol=1e-5)


def test_only_so_many_batches_are_taken() -> None:
    net, images = Net(), batches()
    expected = in_float64(net, images[:2])['bn1'][0]
    taken = iter(images)
    assert reestimate_batch_norm(net, taken, 2) == 2
    np.testing.assert_allclose(net.bn1.running_mean, expected, rtol=1e-5, atol=1e-6)
    assert len(list(taken)) == 1


def test_all_else_is_as_before() -> None:
    net = Net().train()
    net.bn1.momentum, net.bn2.momentum = 0.3, None
    net.bn1.num_batches_tracked.fill_(17)
    net.dropout.eval()
    before = copy.deepcopy(net.state_dict())
    drawn = torch.get_rng_state()
    reestimate_batch_norm(net, batches())
    assert torch.equal(torch.get_rng_state(), drawn)  # no dropout
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f'bn{n}.running_{which}' for n in (1, 2) for which in ('mean', 'var')}
    assert net.training and net.bn1.training and not net.dropout.training
    assert (net.bn1.momentum, net.bn2.momentum) == (0.3, None)
    assert not any(module._forward_hooks for module in net.modules())


def test_an_error_on_the_way_changes_nothing() -> None:
    net = Net().eval()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(RuntimeError):
        reestimate_batch_norm(net, [*batches(), torch.zeros(2, 4, 8, 8)])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.bn1.training and net.bn1.momentum == 0.1
    assert reestimate_batch_norm(net, []) == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_fixed_statistics_stay() -> None:
    net = ResNet(18, base_channels=4, stem_channels=4, frozen_stages=1)
    before = copy.deepcopy(net.state_dict())
    images = [torch.randn(4, 3, 64, 64) for _ in range(2)]
    reestimate_batch_norm(net, images)
    changed = {n.split('.')[0] for n, value in net.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {'layer2', 'layer3', 'layer4'}
    assert reestimate_batch_norm(nn.Conv2d(3, 3, 1), images) == 0


def test_training_is_the_same_bit_for_bit(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        'train_cfg.max_epochs': 2,
        'model.head.dropout': 0.5,
        'train_dataloader.num_workers': 1,
        'train_dataloader.persistent_workers': True,
    }
    plain = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'plain'), validate=False), options)
    path = with_hook(tiny_config, "dict(type='PreciseBNHook', num_batches=3)")
    precise = train(path, TrainFlags(work_dir=str(tmp_path / 'precise'), validate=False), options)
    assert 'exact statistics of the trained weights over 3 training batches' in capsys.readouterr().out
    changed = moved(state(plain, 2), state(precise, 2))
    assert len(changed) == 40 and all('running_' in name for name in changed)  # 20 layers


def test_random_states_are_put_back() -> None:
    def draw() -> tuple[Any, ...]:
        return random.random(), np.random.rand(), torch.rand(1).item(), torch.rand(1, generator=own).item()

    own = torch.Generator().manual_seed(3)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = draw()
    own.manual_seed(3)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    with pytest.raises(KeyError), random_state_kept(own, None):
        draw()
        raise KeyError
    assert draw() == expected


def test_the_interval_and_the_last_epoch(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = with_hook(tiny_config, "dict(type='PreciseBNHook', num_batches=100, interval=2)")
    train(path, TrainFlags(validate=False), {'train_cfg.max_epochs': 3})
    lines = capsys.readouterr().out.splitlines()
    told = [number for number, line in enumerate(lines) if 'exact statistics' in line]
    epochs = [number for number, line in enumerate(lines) if '[6/6]' in line]
    assert len(told) == 2 and epochs[1] < told[0] < epochs[2] < told[1]
    assert 'over 6 training batches' in lines[told[0]]  # an epoch has no more


@pytest.mark.parametrize('update_buffers', [False, True])
def test_averaged_weights_are_saved_and_validated_with_their_statistics(
    tiny_config: Path, tmp_path: Path, update_buffers: bool
) -> None:
    ema = f"dict(type='EMAHook', momentum=0.1, update_buffers={update_buffers}, evaluate_raw=False)"
    options = {'train_cfg.max_epochs': 2}
    plain = train(with_hook(tiny_config, ema), TrainFlags(work_dir=str(tmp_path / 'plain')), options)
    path = with_hook(tiny_config, ema, "dict(type='PreciseBNHook', num_batches=6)")
    run = train(path, TrainFlags(work_dir=str(tmp_path / 'run')), options)

    # Raw weights (kept in training_weights, for going on) and averaged weights are the same with and without.
    old, new = state(plain, 2), state(run, 2)
    assert all('running_' in name for name in moved(old, new)) and len(moved(old, new)) == 40
    raw = {'state_dict': old['training_weights']}, {'state_dict': new['training_weights']}
    assert not {name for name in moved(*raw) if 'running_' not in name}
    if not update_buffers:
        assert not moved(*raw)  # the trained weights keep their own statistics

    # The statistics in the file are those of a direct computation with the averaged weights over the epoch's images.
    found = read_checkpoint(run / 'epoch_2.pth')['state_dict']
    mean, variance = stem_statistics(path, found)
    np.testing.assert_allclose(found['backbone.bn1.running_mean'], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found['backbone.bn1.running_var'], variance, rtol=1e-4)

    # Validation scored the network that is saved: a test of the file gives its numbers (here val and test are one set).
    best = read_checkpoint(next(run.glob('best_*.pth')))
    score = best['best']['multi-label/mAP']
    tested = test(run / f'epoch_{score["epoch"]}.pth').metrics['multi-label/mAP']
    assert tested == pytest.approx(score['score'], abs=1e-4)
    assert not moved(best, state(run, score['epoch']))


def stem_statistics(config: Path, weights: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the first convolution's output over the second epoch's draws, in float64."""
    from mlcls.config import load_config
    from mlcls.engine import Runner
    from mlcls.engine.dataloader import order_of

    loader = Runner.build_dataloader(load_config(config)._to_lazy_dict()['train_dataloader'], seed=0)
    order_of(loader).set_epoch(1)
    values = []
    for batch in loader:
        images = (batch['inputs'].double() - 64) / 64
        maps = nn.functional.conv2d(images, weights['backbone.conv1.weight'].double(), stride=2, padding=3)
        values.append(maps.movedim(1, -1).reshape(-1, maps.shape[1]).numpy())
    flat = np.concatenate(values)
    return flat.mean(0), flat.var(0, ddof=1)


def test_resumed_equals_uninterrupted(tiny_config: Path, tmp_path: Path) -> None:
    path = with_hook(tiny_config, "dict(type='EMAHook', momentum=0.1)", "dict(type='PreciseBNHook', num_batches=2)")
    options = {'train_cfg.max_epochs': 2}
    run = train(path, TrainFlags(work_dir=str(tmp_path / 'run')), options)
    whole, best = state(run, 2), read_checkpoint(next(run.glob('best_*.pth')))
    (run / 'epoch_2.pth').unlink()
    next(run.glob('best_*.pth')).unlink()
    (run / 'last_checkpoint').write_text('epoch_1.pth\n')
    train(path, TrainFlags(work_dir=str(run), resume=True), options)
    again = state(run, 2)
    assert not moved(whole, again)
    assert not moved({'state_dict': whole['training_weights']}, {'state_dict': again['training_weights']})
    assert read_checkpoint(next(run.glob('best_*.pth')))['best'] == best['best']


@pytest.mark.parametrize('arguments', [dict(num_batches=0), dict(interval=0), dict(num_batches=1.5)])
def test_arguments_that_cannot_be(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigError, match=f'PreciseBNHook: {name} must be a whole number of at least 1, got'):
        PreciseBNHook(**arguments)


def test_nothing_to_estimate_is_refused(tiny_config: Path) -> None:
    path = with_hook(tiny_config, "dict(type='PreciseBNHook')")
    with pytest.raises(ConfigError, match='the model has no batch normalisation whose statistics are trained'):
        train(path, TrainFlags(validate=False), {'model.backbone.norm_eval': True})
