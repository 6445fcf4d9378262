"""Learning rates by depth: factors, groups, schedules, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mlcls.apis import TrainFlags, train
from mlcls.config import check_config, load_config
from mlcls.config.sources import Sources
from mlcls.engine import LayerDecayOptimWrapperConstructor
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint
from mlcls.models import ResNet
from mlcls.registry import OPTIM_WRAPPER_CONSTRUCTORS

NAMES = ('LayerDecayOptimWrapperConstructor', 'LearningRateDecayOptimWrapperConstructor')


class Backbone(nn.Module):
    """A stem and three blocks: five depths with the head's."""

    def __init__(self, depthwise: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=4 if depthwise else 1), nn.BatchNorm2d(4)) for _ in range(3)
        )

    def layer_depth(self, name: str) -> tuple[int, int]:
        return (0 if name.startswith('stem') else 1 + int(name.split('.')[1])), 5


class Model(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.backbone = Backbone(**settings)
        self.neck = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


def build(model: nn.Module, optimizer: dict[str, Any] | None = None, **paramwise: Any) -> Any:
    made = LayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01) if optimizer is None else optimizer),
        dict(layer_decay_rate=0.5, **paramwise),
    )
    return made(model)


def settings_of(model: nn.Module, wrapper: Any, key: str) -> dict[str, float]:
    by_id = {id(p): g[key] for g in wrapper.optimizer.param_groups for p in g['params']}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if id(p) in by_id}


def test_rates_fall_from_head_to_stem() -> None:
    model = Model()
    wrapper = build(model)
    rates = settings_of(model, wrapper, 'lr')
    assert rates.keys() == dict(model.named_parameters()).keys()
    expected = {'backbone.stem': 0.1 / 16, 'neck': 0.1, 'head': 0.1}
    expected |= {f'backbone.blocks.{n}': 0.1 * f for n, f in enumerate((1 / 8, 1 / 4, 1 / 2))}
    for prefix, rate in expected.items():
        found = {value for name, value in rates.items() if name.startswith(prefix)}
        assert list(found) == pytest.approx([rate], rel=1e-12), prefix
    assert len(wrapper.optimizer.param_groups) == 5  # not 18, one for each tensor
    assert {group['weight_decay'] for group in wrapper.optimizer.param_groups} == {0.01}


def test_weight_decay_rules_and_custom_keys() -> None:
    model = Model(depthwise=True)
    wrapper = build(
        model,
        norm_decay_mult=0.0,
        bias_decay_mult=0.5,
        dwconv_decay_mult=0.25,
        bias_lr_mult=2.0,
        custom_keys={
            'blocks.1': dict(lr_mult=10.0),
            'blocks.1.0.weight': dict(decay_mult=3.0),
            'head': dict(lr_mult=4),
        },
    )
    rates, decays = (settings_of(model, wrapper, key) for key in ('lr', 'weight_decay'))
    assert rates['backbone.blocks.0.1.bias'] == pytest.approx(0.1 / 8)  # not doubled: a normalisation's
    assert rates['backbone.stem.bias'] == pytest.approx(0.2 / 16) and rates['neck.bias'] == pytest.approx(0.2)
    assert rates['backbone.blocks.1.1.weight'] == pytest.approx(10 * 0.1 / 4)
    assert rates['backbone.blocks.1.0.weight'] == pytest.approx(0.1 / 4)  # the longer key counts alone
    assert rates['head.weight'] == pytest.approx(0.4)
    assert decays['backbone.blocks.0.1.weight'] == decays['backbone.blocks.0.1.bias'] == 0
    assert decays['backbone.stem.bias'] == decays['neck.bias'] == pytest.approx(0.005)
    assert decays['backbone.blocks.2.0.weight'] == pytest.approx(0.0025)
    assert decays['backbone.blocks.1.0.weight'] == pytest.approx(0.03) and decays['head.bias'] == 0.01


def test_the_same_rules_as_the_plain_constructor_at_rate_1() -> None:
    rules: dict[str, Any] = dict(norm_decay_mult=0.1, bias_decay_mult=0.2, bias_lr_mult=0.0, flat_decay_mult=0.7)
    rules |= dict(dwconv_decay_mult=0.3, custom_keys={'blocks.2': dict(lr_mult=3.0), 'neck': dict(decay_mult=0.0)})
    model = Model(depthwise=True)
    cfg: dict[str, Any] = dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01), paramwise_cfg=rules)
    plain = build_optim_wrapper(model, cfg)
    own = LayerDecayOptimWrapperConstructor(dict(optimizer=cfg['optimizer']), {**rules, 'layer_decay_rate': 1.0})(model)
    for key in ('lr', 'weight_decay'):
        assert settings_of(model, own, key) == pytest.approx(settings_of(model, plain, key))
    assert len(own.optimizer.param_groups) <= len(plain.optimizer.param_groups)


def test_frozen_shared_and_wrapped_parameters() -> None:
    model = Model()
    model.backbone.stem.requires_grad_(False)
    model.neck.weight = model.head.weight = nn.Parameter(torch.zeros(4, 4))
    wrapped = nn.Module()
    wrapped.module = model  # as DDP has it
    rates = settings_of(model, build(wrapped), 'lr')
    assert not any(name.startswith('backbone.stem') for name in rates)
    assert rates['neck.weight'] == pytest.approx(0.1)


def test_groups_stay_few_and_large_and_step_as_formula() -> None:
    """A foreach step of the groups is the step of each parameter by itself."""
    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wrapper = build(model, dict(type='SGD', lr=0.1, weight_decay=0.01, foreach=True), norm_decay_mult=0.0)
    rates, decays = (settings_of(model, wrapper, key) for key in ('lr', 'weight_decay'))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    wrapper.optimizer.step()
    assert len(wrapper.optimizer.param_groups) == 8  # 5 depths, and 3 of them have normalisation
    for name, p in model.named_parameters():
        expected = before[name] - rates[name] * (1 + decays[name] * before[name])
        torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('name', NAMES)
def test_both_names_are_known(name: str) -> None:
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(name) is LayerDecayOptimWrapperConstructor


@pytest.mark.parametrize('rate', [0, -0.5, 1.5, None, True, '0.5'])
def test_rates_that_cannot_be(rate: Any) -> None:
    cfg = dict(optimizer=dict(type='SGD', lr=0.1))
    with pytest.raises(ConfigError, match=r'layer_decay_rate must be in \(0, 1\], got'):
        LayerDecayOptimWrapperConstructor(cfg, {} if rate is None else dict(layer_decay_rate=rate))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match='needs optim_wrapper.optimizer.lr, the learning rate of the head'):
        build(Model(), dict(type='SGD'))
    plain = dict(type='SGD', lr=0.1)
    for rules, key in (
        (dict(norm_decay_mult=0), 'norm_'),
        (dict(custom_keys={'a': dict(decay_mult=0)}), 'custom_keys.a'),
    ):
        with pytest.raises(ConfigError, match=f'paramwise_cfg.{key}.*multiplies a weight decay that is not given'):
            build(Model(), plain, **rules)
    model = Model()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r'model.backbone \(Linear\) does not tell the depth of its layers'):
        build(model)


CHANGE = (
    "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))",
    "optim_wrapper = dict(type='OptimWrapper', constructor={constructor!r}, paramwise_cfg={paramwise}, "
    "optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.01))",
)


def rewritten(config: Path, constructor: str, paramwise: str) -> Path:
    text = config.read_text()
    assert CHANGE[0] in text
    config.write_text(text.replace(CHANGE[0], CHANGE[1].format(constructor=constructor, paramwise=paramwise)))
    return config


@pytest.mark.parametrize('name', NAMES)
def test_the_config_check_knows_the_keys(tiny_config: Path, name: str) -> None:
    good = "dict(layer_decay_rate=0.5, norm_decay_mult=0, custom_keys={'head': dict(lr_mult=2)})"
    path = rewritten(tiny_config, name, good)
    check_config(load_config(path), Sources([path]))
    path.write_text(path.read_text().replace('layer_decay_rate', 'layer_decay_rates').replace('lr_mult', 'lr_mul'))
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(path), Sources([path]))
    text = str(caught.value)
    assert "paramwise_cfg.layer_decay_rates: unknown key; did you mean 'layer_decay_rate'" in text
    assert "custom_keys.head.lr_mul: unknown key; did you mean 'lr_mult'" in text


def test_the_plain_constructor_takes_no_layer_decay(tiny_config: Path) -> None:
    path = rewritten(tiny_config, 'DefaultOptimWrapperConstructor', 'dict(layer_decay_rate=0.5)')
    with pytest.raises(ConfigError, match="layer_decay_rate: needs optim_wrapper.constructor='LayerDecay"):
        check_config(load_config(path), Sources([path]))


def groups_after(config: Path, epoch: int) -> list[dict[str, Any]]:
    return read_checkpoint(config.parent / f'run/epoch_{epoch}.pth')['optimizer']['param_groups']


def test_a_resnet_learns_faster_stage_by_stage() -> None:
    model = Model()
    model.backbone = ResNet(18, base_channels=4, stem_channels=4, frozen_stages=0)
    wrapper = build(model, norm_decay_mult=0.0)
    rates = settings_of(model, wrapper, 'lr')
    assert not any(name.startswith(('backbone.conv1', 'backbone.bn1')) for name in rates)
    blocks = [rates[f'backbone.layer{stage}.{block}.conv1.weight'] for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert blocks == sorted(blocks) and blocks[-1] == pytest.approx(0.05) and blocks[0] < blocks[-1] / 4
    assert len(wrapper.optimizer.param_groups) <= 2 * (len(set(rates.values())))


def test_a_run_scales_all_groups_and_says_the_range(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rewritten(tiny_config, NAMES[0], "dict(layer_decay_rate=0.5, custom_keys={'layer4.1': dict(lr_mult=0.1)})")
    train(path, TrainFlags(validate=False), {'train_cfg.max_epochs': 2})
    out = capsys.readouterr().out
    assert 'layer decay 0.5: learning rates from ' in out and ' to 0.05 in ' in out
    first, last = groups_after(path, 1), groups_after(path, 2)
    assert 3 <= len(first) <= 20
    rates = [group['initial_lr'] for group in first]
    assert max(rates) == 0.05 and min(rates) < 0.05 / 4
    for groups in (first, last):
        factors = [group['lr'] / group['initial_lr'] for group in groups]
        assert factors == pytest.approx([factors[0]] * len(factors), rel=1e-6, abs=1e-9)
    assert first[0]['lr'] < first[0]['initial_lr'] and last[0]['lr'] < first[0]['lr']


@pytest.mark.parametrize('decay', [False, True], ids=['plain', 'layer decay'])
def test_backbone_and_head_at_different_rates(tiny_config: Path, decay: bool) -> None:
    """As mmengine documents it; the factor 0 shows that it is the backbone, and all of it, that the factor reaches."""
    rate = 'layer_decay_rate=0.5, ' if decay else ''
    constructor = NAMES[0] if decay else 'DefaultOptimWrapperConstructor'
    path = rewritten(tiny_config, constructor, f"dict({rate}custom_keys={{'backbone': dict(lr_mult=0.0)}})")
    run = train(path, TrainFlags(validate=False), {'train_cfg.max_epochs': 2})
    first, second = (read_checkpoint(run / f'epoch_{epoch}.pth')['state_dict'] for epoch in (1, 2))
    for name in first:
        trained = 'running' not in name and 'num_batches' not in name
        if trained:
            assert torch.equal(first[name], second[name]) == name.startswith('backbone.'), name
    rates = {group['lr'] for group in groups_after(path, 2)}
    assert 0 in rates and len(rates) == 2


def test_factors_of_backbone_and_layer_are_multiplied() -> None:
    model = Model()
    rates = settings_of(model, build(model, custom_keys={'backbone': dict(lr_mult=0.1)}), 'lr')
    assert rates['backbone.stem.weight'] == pytest.approx(0.1 * 0.1 / 16)
    assert rates['backbone.blocks.2.1.bias'] == pytest.approx(0.1 * 0.1 / 2) and rates['head.bias'] == 0.1
