"""ResNet against torchvision's on copied weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models import ResNet


def copied(depth: int, **settings: Any) -> tuple[ResNet, nn.Module]:
    torch.manual_seed(0)
    with torch.device('meta'):
        reference = getattr(torchvision.models, f'resnet{depth}')(weights=None)
        model = ResNet(depth, **settings)
    reference.to_empty(device='cpu')
    for module in reference.modules():  # statistics and scales that a mistake could not hide behind
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.zeros_(module.num_batches_tracked)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight)
    reference.fc = nn.Identity()
    for number in range(len(model.stages) + 1, 5):
        setattr(reference, f'layer{number}', nn.Identity())
    model.to_empty(device='cpu')
    assert model.load_state_dict(reference.state_dict(), strict=True)  # the very names, all of them
    return model.eval(), reference.eval()


@pytest.mark.parametrize('depth', [18, 50])
def test_outputs_of_all_stages_are_torchvisions(depth: int) -> None:
    model, reference = copied(depth, out_indices=(0, 1, 2, 3))
    x = torch.randn(2, 3, 71, 64)
    with torch.no_grad():
        y = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        for number, mine in enumerate(model(x), start=1):
            y = getattr(reference, f'layer{number}')(y)
            assert mine.shape == y.shape
            assert (mine - y).abs().max() <= 1e-5 * y.abs().max()


@pytest.mark.parametrize('depth', [34, 101])
def test_names_and_shapes_are_torchvisions(depth: int) -> None:
    with torch.device('meta'):
        mine = ResNet(depth).state_dict()
        reference = getattr(torchvision.models, f'resnet{depth}')(weights=None).state_dict()
    theirs = {name: value.shape for name, value in reference.items() if not name.startswith('fc.')}
    assert {name: value.shape for name, value in mine.items()} == theirs


@pytest.mark.parametrize('depth', [18, 50])
def test_gradients_are_torchvisions(depth: int) -> None:
    model, reference = copied(depth, num_stages=2, out_indices=(1,))
    model.train(), reference.train()
    x = torch.randn(4, 3, 64, 64)
    model(x)[-1].mean().backward()
    reference(x).mean().backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-6)


def test_caffe_style_moves_the_stride() -> None:
    model = ResNet(50, style='caffe', base_channels=8)
    block = model.layer2[0]
    assert block.conv1.stride == (2, 2) and block.conv2.stride == (1, 1)
    assert model(torch.randn(1, 3, 64, 64))[0].shape == (1, 256, 2, 2)


def test_recomputing_changes_nothing_but_memory() -> None:
    torch.manual_seed(0)
    model = ResNet(18, base_channels=8, stem_channels=8)
    x = torch.randn(2, 3, 64, 64)
    grads = []
    for with_cp in (False, True):
        model.with_cp = with_cp
        model.zero_grad()
        model(x)[0].sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads))


def test_frozen_stages_stay_as_they_are() -> None:
    model = ResNet(18, frozen_stages=2, base_channels=8, stem_channels=8, zero_init_residual=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(torch.randn(4, 3, 64, 64))[0].square().mean().backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        frozen = name.startswith(('conv1', 'bn1', 'layer1', 'layer2'))
        if frozen or ('weight' in name and 'conv' in name):
            assert torch.equal(before[name], value) == frozen, name


def test_norm_eval_keeps_statistics() -> None:
    model = ResNet(18, norm_eval=True, base_channels=8, stem_channels=8).train()
    model(torch.randn(4, 3, 64, 64))
    assert (model.bn1.running_mean == 0).all() and model.training


def test_zero_init_makes_blocks_the_identity() -> None:
    model = ResNet(50, base_channels=8)
    block = model.layer1[1].eval()
    x = torch.rand(1, 32, 8, 8)
    assert torch.equal(block(x), x)
    assert (ResNet(18, zero_init_residual=False).layer1[0].bn2.weight == 1).all()


def test_stages_strides_and_channels() -> None:
    model = ResNet(
        18,
        in_channels=4,
        stem_channels=16,
        base_channels=8,
        num_stages=3,
        strides=(1, 1, 2),
        dilations=(1, 1, 2),
        out_indices=(1, 2),
    )
    shapes = [tuple(y.shape) for y in model(torch.randn(1, 4, 64, 64))]
    assert shapes == [(1, 16, 16, 16), (1, 32, 8, 8)]
    assert not hasattr(model, 'layer4')


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(depth=42), 'no depth 42; choose from 18, 34, 50, 101, 152'),
        (dict(depth=18, num_stages=5), 'num_stages must be 1 to 4'),
        (dict(depth=18, strides=(1, 2)), 'strides and dilations'),
        (dict(depth=18, out_indices=(4,)), 'out_indices must lie in 0 to 3'),
        (dict(depth=18, style='tf'), "style must be 'pytorch' or 'caffe'"),
        (dict(depth=18, frozen_stages=9), 'frozen_stages must be -1 to 4'),
        (dict(depth=18, conv_cfg=dict(type='DCN')), 'only the default of conv_cfg is available; leave it out'),
        (dict(depth=18, expansion=2), 'only the default of expansion is available'),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ResNet(**settings)


def test_recomputing_counts_running_statistics_once() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 64, 64)
    states = []
    for with_cp in (False, True):
        torch.manual_seed(1)
        model = ResNet(18, base_channels=8, stem_channels=8, with_cp=with_cp)
        model(x)[0].sum().backward()
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        model(x)  # and the modules are as before afterwards
        assert model.layer1[0].bn1.momentum == 0.1 and model.layer1[0].bn1.num_batches_tracked == 2
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_blocks_behind_a_frozen_stem_are_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcls.models.backbones import resnet

    seen = []
    original = resnet.checkpoint
    monkeypatch.setattr(resnet, 'checkpoint', lambda block, *a, **k: seen.append(block) or original(block, *a, **k))
    model = ResNet(18, base_channels=8, stem_channels=8, with_cp=True, frozen_stages=0).train()
    model(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert len(seen) == 8
    assert all(p.grad is not None for p in model.layer1.parameters())


def test_stages_that_nothing_needs_are_not_built() -> None:
    model = ResNet(18, base_channels=8, stem_channels=8, out_indices=(0, 2))
    assert not hasattr(model, 'layer4') and model.out_channels == (8, 32)
    sum(y.sum() for y in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in model.parameters())  # DDP would wait for others
    assert model.layer_depth('layer3.1.conv2.weight') == (6, 8)
