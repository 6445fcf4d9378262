"""ResNet-C, ResNet-D, ResNeXt and SE-ResNet against torchvision, timm and published numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mlcls.config.signatures import arguments_of
from mlcls.errors import ConfigError
from mlcls.models import ResNet, ResNetV1c, ResNetV1d, ResNeXt, SEResNet, SEResNeXt

SMALL: dict[str, Any] = dict(base_channels=8, stem_channels=8)
FAMILIES = {
    'ResNet-18': lambda **s: ResNet(18, **SMALL, **s),
    'ResNet-50': lambda **s: ResNet(50, **SMALL, **s),
    'ResNet-18, GN': lambda **s: ResNet(18, norm_cfg=dict(type='GN', num_groups=2), **SMALL, **s),
    'ResNetV1c': lambda **s: ResNetV1c(18, **SMALL, **s),
    'ResNetV1d': lambda **s: ResNetV1d(50, **SMALL, **s),
    'ResNeXt': lambda **s: ResNeXt(50, groups=4, width_per_group=2, **SMALL, **s),
    'SEResNet': lambda **s: SEResNet(18, **SMALL, **s),
    'SEResNeXt': lambda **s: SEResNeXt(50, groups=4, width_per_group=2, **SMALL, **s),
    'CBAM, ECA and NonLocal': lambda **s: ResNet(
        18, plugins=[dict(type='CBAM', stages=(0, 1)), dict(type='ECA'), dict(type='NonLocal')], **SMALL, **s
    ),
}


def randomised(make: Callable[..., nn.Module], *args: Any, **settings: Any) -> nn.Module:
    """A network with statistics and scales that a mistake could not hide behind."""
    torch.manual_seed(0)
    with torch.device('meta'):  # its own start would take longer than the test
        network = make(*args, **settings)
    network.to_empty(device='cpu')
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias)
    return network.eval()


def from_timm(name: str, short_cut: bool) -> str:
    """Name here of timm's name of a network with a deep stem."""
    found = re.match(r'conv1\.(\d+)\.(.*)', name)
    if found:
        number = int(found[1])
        return f'stem.{number // 3}.{"conv" if number % 3 == 0 else "bn"}.{found[2]}'
    if name.startswith('bn1.'):
        return f'stem.2.bn.{name[4:]}'
    return re.sub(r'(layer1\.0\.downsample)\.([12])', lambda m: f'{m[1]}.{int(m[2]) - 1}', name) if short_cut else name


def assert_same(kind: type[ResNet], depth: int, weights: dict[str, torch.Tensor], reference: nn.Module) -> None:
    """Same names, and same outputs of the four stages."""
    with torch.device('meta'):
        model = kind(depth, out_indices=(0, 1, 2, 3))
    model.to_empty(device='cpu')
    assert model.load_state_dict(weights)
    maps = maps_of(reference)
    torch.manual_seed(1)
    with torch.no_grad():
        mine = model.eval()(torch.randn(2, 3, 65, 64))
    for a, b in zip(mine, maps, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def maps_of(reference: nn.Module) -> list[torch.Tensor]:
    """Outputs of the four stages of a torchvision or timm network, taken where they arise."""
    found: list[torch.Tensor] = []
    for number in range(1, 5):
        getattr(reference, f'layer{number}').register_forward_hook(lambda module, args, out: found.append(out.clone()))
    torch.manual_seed(1)
    with torch.no_grad():
        reference(torch.randn(2, 3, 65, 64))
    return found


def test_resnext_is_torchvisions() -> None:
    reference = randomised(torchvision.models.resnext50_32x4d, weights=None)
    weights = {name: value for name, value in reference.state_dict().items() if not name.startswith('fc.')}
    assert_same(ResNeXt, 50, weights, reference)


@pytest.mark.parametrize('name, kind', [('resnet18d', ResNetV1d), ('resnet50d', ResNetV1d), ('seresnet18', SEResNet)])
def test_networks_of_timm(name: str, kind: type[ResNet]) -> None:
    timm = pytest.importorskip('timm')
    reference = randomised(timm.create_model, name, num_classes=0)
    weights = reference.state_dict()
    if name.endswith('d'):
        weights = {from_timm(key, name == 'resnet50d'): value for key, value in weights.items()}
    assert_same(kind, 50 if '50' in name else 18, weights, reference)


@pytest.mark.parametrize(
    'kind, depth, millions',
    [
        (ResNet, 18, 11.690),
        (ResNet, 34, 21.798),
        (ResNet, 50, 25.557),
        (ResNet, 101, 44.549),
        (ResNet, 152, 60.193),
        (ResNetV1d, 50, 25.576),
        (ResNeXt, 50, 25.029),
        (ResNeXt, 101, 44.178),
        (SEResNet, 50, 28.088),
        (SEResNeXt, 50, 27.560),
    ],
)
def test_parameters_are_as_published(kind: type[ResNet], depth: int, millions: float) -> None:
    with torch.device('meta'):
        model = kind(depth)
    (width,) = model.out_channels
    count = sum(parameter.numel() for parameter in model.parameters()) + (width + 1) * 1000
    assert count / 1e6 == pytest.approx(millions, abs=5.1e-4)


@pytest.mark.parametrize('depth, billions', [(18, 1.814), (50, 4.089)])
def test_multiply_adds_are_as_published(depth: int, billions: float) -> None:
    """torchvision gives 1.81 and 4.09 at 224 pixels, with the classifier."""
    with torch.device('meta'):
        model, x = ResNet(depth), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        model(x)
    multiply_adds = counter.get_total_flops() / 2 + model.out_channels[0] * 1000
    assert multiply_adds / 1e9 == pytest.approx(billions, abs=1e-3)


@pytest.mark.parametrize('name', ['ResNetV1d', 'SEResNet', 'CBAM, ECA and NonLocal'])
def test_recomputing_changes_nothing(name: str) -> None:
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = FAMILIES[name](with_cp=with_cp, drop_path_rate=0.3, zero_init_residual=False)
        (out,) = model(torch.randn(2, 3, 32, 32))
        out.square().sum().backward()
        results.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize('name', FAMILIES)
def test_every_family(name: str) -> None:
    """Gradients, state dict, modes and a batch of one."""
    torch.manual_seed(0)
    model = FAMILIES[name](out_indices=(1, 3), zero_init_residual=False)
    for key, parameter in model.named_parameters():
        if key.endswith('non_local.out.weight'):
            nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 3, 64, 48)
    maps = model.train()(x)
    assert [each.shape[1] for each in maps] == list(model.out_channels)
    assert [each.shape[2:] for each in maps] == [(8, 6), (2, 2)]
    sum((each * torch.randn_like(each)).sum() for each in maps).backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Softmax does not change when all of its inputs move alike, so this bias has no say.
    assert [key for key in idle if not key.endswith('non_local.phi.bias')] == []

    model.eval()
    again = FAMILIES[name](out_indices=(1, 3))
    assert again.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = model(x)
        for a, b in zip(again.eval()(x), expected):
            assert torch.equal(a, b)
        for a, b in zip(model(x[:1]), expected):
            torch.testing.assert_close(a, b[:1], rtol=1e-4, atol=1e-5)
    if 'GN' not in name:
        assert not torch.allclose(model.train()(x)[1], expected[1])


@pytest.mark.parametrize('name', FAMILIES)
def test_depth_of_each_parameter(name: str) -> None:
    model = FAMILIES[name]()
    blocks = [
        f'layer{stage}.{index}.' for stage in range(1, 5) for index in range(len(getattr(model, f'layer{stage}')))
    ]
    for key, _ in model.named_parameters():
        depth, total = model.layer_depth(key)
        assert total == len(blocks) + 2
        assert not key.startswith('layer') if depth == 0 else key.startswith(blocks[depth - 1])
    with pytest.raises(ValueError, match="has no parameter 'fc.weight'"):
        model.layer_depth('fc.weight')


def test_depth_where_stages_are_left_out() -> None:
    model = ResNet(18, num_stages=2, out_indices=(1,), **SMALL)
    assert model.layer_depth('layer2.1.conv2.weight') == (4, 6)
    with pytest.raises(ValueError, match='has no parameter'):
        model.layer_depth('layer3.0.conv1.weight')


def test_deep_stem_is_frozen_too() -> None:
    model = ResNetV1d(18, frozen_stages=1, **SMALL).train()
    frozen = {name.split('.')[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'stem', 'layer1'}
    assert not model.stem.training and not model.layer1.training and model.layer2.training


def test_normalisation_is_not_trained() -> None:
    model = ResNet(18, norm_cfg=dict(type='BN', requires_grad=False), **SMALL)
    assert all(p.requires_grad == (p.ndim == 4) for p in model.parameters())


def test_stochastic_depth_grows_and_leaves_evaluation_alone() -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = dict(zero_init_residual=False, **SMALL)
    model = ResNet(18, drop_path_rate=0.4, **settings)
    rates = [model.get_submodule(f'layer{s}.{i}').drop_path.rate for s in range(1, 5) for i in range(2)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
    plain = ResNet(18, **settings)
    assert plain.load_state_dict(model.state_dict())
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(model.eval()(x)[0], plain.eval()(x)[0])
    block = model.layer4[1].train()
    y = torch.rand(64, 64, 2, 2)
    unchanged = (block(y) == y).flatten(1).all(1)  # inputs are not negative, so the ReLU keeps them
    assert 0.1 < float(unchanged.float().mean()) < 0.7


@pytest.mark.parametrize(
    'kind, more, less',
    [
        (ResNet, set(), set()),
        (ResNetV1c, set(), {'deep_stem', 'avg_down'}),
        (ResNetV1d, set(), {'deep_stem', 'avg_down'}),
        (ResNeXt, {'groups', 'width_per_group'}, set()),
        (SEResNet, {'se_ratio'}, set()),
        (SEResNeXt, {'se_ratio', 'groups', 'width_per_group'}, set()),
    ],
)
def test_arguments_of_mmpretrain_are_known(kind: type[ResNet], more: set[str], less: set[str]) -> None:
    resnet = """depth in_channels stem_channels base_channels expansion num_stages strides dilations out_indices style
        deep_stem avg_down frozen_stages conv_cfg norm_cfg norm_eval with_cp zero_init_residual init_cfg
        drop_path_rate"""
    found = arguments_of(kind)
    assert (set(resnet.split()) | more) - less <= found.names
    assert not less & found.names and found.required == {'depth'} and not found.any_other


def test_se_resnet_is_a_resnet_with_the_plugin() -> None:
    with torch.device('meta'):
        one, other = SEResNet(50, se_ratio=8), ResNet(50, plugins=[dict(type='SE', ratio=8)])
    assert str(one).replace('SEResNet', 'ResNet') == str(other)
    assert one.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(drop_path_rate=1.0), r'ResNet: drop_path_rate must be in \[0, 1\), got 1'),
        (dict(drop_path_rate=-0.1), r'ResNet: drop_path_rate must be in \[0, 1\), got -0.1'),
        (dict(groups=2), 'groups and width_per_group need bottlenecks'),
        (dict(out_indices=(-1,)), 'out_indices must lie in 0 to 3'),
        (dict(out_indices=()), 'out_indices must lie in 0 to 3'),
        (dict(norm_cfg=dict(type='IN')), "norm_cfg: unknown type 'IN'"),
    ],
)
def test_refusals(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ResNet(18, **settings)


def test_refusals_name_the_class() -> None:
    with pytest.raises(ConfigError, match='SEResNet: no depth 42'):
        SEResNet(42)
    with pytest.raises(ConfigError, match='groups and width_per_group need bottlenecks, which depths 50, 101 and 152'):
        ResNeXt(18)
