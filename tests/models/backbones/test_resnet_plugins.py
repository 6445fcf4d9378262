"""Attention in stages of a ResNet, by config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mlcls.config import Sources, check_config, load_config
from mlcls.errors import ConfigError
from mlcls.models import ResNet, SEResNet
from mlcls.models.layers import Attention
from mlcls.registry import MODELS

SMALL: dict[str, Any] = dict(base_channels=8, stem_channels=8)


def places(model: nn.Module, name: str) -> list[str]:
    return [key.rpartition('.')[0] for key, _ in model.named_modules() if key.endswith(f'.{name}')]


@pytest.mark.parametrize(
    'plugin, name, expected',
    [
        (dict(type='CBAM', stages=(2, 3)), 'cbam', ['layer3.0', 'layer3.1', 'layer4.0', 'layer4.1']),
        (dict(type='ECA', stages=(0,), position='after_stage'), 'eca', ['layer1.1']),
        (dict(type='SE', stages=[1], position='after_block'), 'se', ['layer2.0', 'layer2.1']),
        (dict(type='NonLocal', stages=(2,)), 'non_local', ['layer3.1']),
        (dict(type='NonLocal'), 'non_local', ['layer1.1', 'layer2.1', 'layer3.1', 'layer4.1']),
    ],
)
def test_where_they_stand(plugin: dict[str, Any], name: str, expected: list[str]) -> None:
    assert places(ResNet(18, plugins=[plugin], **SMALL), name) == expected


class Constant(Attention):
    """Shows where it stands: its output is negative whatever its input."""

    name = 'constant'

    def __init__(self, channels: int, value: float = -2.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, self.value)


def test_before_the_sum_and_after_the_block() -> None:
    x = torch.rand(1, 8, 4, 4) * 4
    plugin: dict[str, Any] = dict(type=Constant, stages=(0,))
    block = ResNet(18, plugins=[plugin], **SMALL).layer1[0].eval()
    assert torch.equal(block(x), (x - 2).relu())  # on the branch, and under the ReLU
    block = ResNet(18, plugins=[dict(plugin, position='after_block')], **SMALL).layer1[0].eval()
    assert (block(x) == -2).all()


def test_order_is_that_of_the_config() -> None:
    plugins = [dict(type='ECA', stages=(3,)), dict(type='CBAM', stages=(3,))]
    assert ResNet(18, plugins=plugins, **SMALL).layer4[0].before_sum == ['eca', 'cbam']
    assert SEResNet(18, plugins=plugins, **SMALL).layer4[0].before_sum == ['se', 'eca', 'cbam']


def test_non_local_starts_without_effect() -> None:
    torch.manual_seed(0)
    plain = ResNet(18, **SMALL).eval()
    model = ResNet(18, plugins=[dict(type='NonLocal', stages=(1, 2))], **SMALL).eval()
    left = model.load_state_dict(plain.state_dict(), strict=False)
    assert not left.unexpected_keys and all('.non_local.' in key for key in left.missing_keys)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(x)[0], plain(x)[0])


def test_own_plugins_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS.module_dict, 'Constant', Constant)
    model = ResNet(18, plugins=[dict(type='Constant', value=1.0)], **SMALL)
    assert model.layer1[0].constant.value == 1.0


@pytest.mark.parametrize(
    'plugins, words',
    [
        ([dict(type='CBM')], r"ResNet: plugins\.0: no plugin 'CBM'; did you mean 'CBAM'\?"),
        ([dict(type='ResNeXt')], r"plugins\.0: no plugin 'ResNeXt'; choose from CBAM, ECA, NonLocal, SE"),
        ([dict(stages=(1,))], r'plugins\.0: no plugin None; choose from'),
        ([dict(type='SE'), dict(type='ECA', stages=(4,))], r'plugins\.1: stages must lie in 0 to 3, got \(4,\)'),
        ([dict(type='SE', stages=(-1,))], r'plugins\.0: stages must lie in 0 to 3, got \(-1,\)'),
        ([dict(type='SE', stages=())], r'plugins\.0: stages must lie in 0 to 3, got \(\)'),
        ([dict(type='SE', stages=(False, True))], r'stages must lie in 0 to 3, got \(False, True\)'),
        ([dict(type='SE', stages=2)], r'plugins\.0: stages must lie in 0 to 3, got 2'),
        ([dict(type='SE', position='afterblock')], r"unknown position 'afterblock'; did you mean 'after_block'\?"),
        ([dict(type='SE', channels=8)], r'plugins\.0: channels are those of the stage; leave them out'),
        ([dict(type='SE', rato=8)], r"plugins\.0: SE: .*'rato'"),
        ([dict(type='SE', stages=(1, 2)), dict(type='SE', stages=(2,))], 'plugins: SE stands twice in stage 2'),
        ('SE', 'plugins must be a list of dicts'),
        (dict(type='SE'), 'plugins must be a list of dicts'),
    ],
)
def test_refusals(plugins: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ResNet(18, plugins=plugins, **SMALL)


def test_a_name_that_is_taken() -> None:
    class Taken(Constant):
        name = 'conv1'

    with pytest.raises(ConfigError, match="plugins: a block already has a part 'conv1'"):
        ResNet(18, plugins=[dict(type=Taken)], **SMALL)


CONFIG = """
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, plugins=[dict(type='CBAM', stages=(2, 3), ratio=8, position='before_sum')]))
"""


@pytest.mark.parametrize(
    'old, new, problem',
    [
        ('', '', None),
        ('ratio=8', 'rato=8', "plugins.0.rato: CBAM has no argument 'rato'; did you mean 'ratio'?"),
        ('stages=', 'stage=', "plugins.0.stage: CBAM has no argument 'stage'; did you mean 'stages'?"),
        ("'CBAM'", "'CBMA'", "plugins.0.type: unknown model 'CBMA'; did you mean 'CBAM'?"),
        ("type='CBAM', ", '', 'plugins.0: has no type'),
    ],
)
def test_configs_are_checked_before_data(tmp_path: Path, old: str, new: str, problem: str | None) -> None:
    path = tmp_path / 'a.py'
    path.write_text(CONFIG.replace(old, new))
    if problem is None:
        check_config(load_config(path), Sources([path]))
        return
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(path), Sources([path]))
    assert f'model.backbone.{problem}' in str(caught.value)
