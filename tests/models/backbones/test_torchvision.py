"""Networks of torchvision as backbones, compared with torchvision's own networks."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models import ImageClassifier, TorchvisionBackbone
from mlcls.models.initialize import initialize
from tests.models.backbones.quick import quick

# Name, image side, arguments, the module of torchvision's network that takes the last map, or whose output it is,
# and the number of depths (blocks, stem and head), counted in the papers.
IN, OUT = 'input', 'output'
FAMILIES: list[Any] = [
    ('alexnet', 64, {}, ('avgpool', IN), 6),
    ('vgg11_bn', 32, {}, ('avgpool', IN), 9),
    ('inception_v3', 75, {}, ('avgpool', IN), 13),
    ('googlenet', 32, {}, ('avgpool', IN), 11),
    ('resnet18', 32, {}, ('avgpool', IN), 10),
    ('mobilenet_v2', 32, {}, ('features', OUT), 20),
    ('mobilenet_v3_small', 32, {}, ('avgpool', IN), 14),
    ('mnasnet0_5', 32, {}, ('layers', OUT), 19),
    ('shufflenet_v2_x0_5', 32, {}, ('conv5', OUT), 19),
    ('squeezenet1_1', 32, {}, ('classifier.0', IN), 10),
    ('densenet121', 32, {}, ('features', OUT), 63),
    ('efficientnet_b0', 32, {}, ('avgpool', IN), 19),
    ('regnet_y_400mf', 32, {}, ('avgpool', IN), 18),
    ('convnext_tiny', 32, {}, ('avgpool', IN), 23),
    ('vit_b_32', 64, {'image_size': 64}, ('encoder', OUT), 14),
    ('swin_t', 32, {}, ('avgpool', IN), 17),
    pytest.param(('swin_v2_t', 32, {}, ('avgpool', IN), 17), marks=pytest.mark.slow),
    pytest.param(('resnext50_32x4d', 32, {}, ('avgpool', IN), 18), marks=pytest.mark.slow),
    pytest.param(('wide_resnet50_2', 32, {}, ('avgpool', IN), 18), marks=pytest.mark.slow),
    pytest.param(('efficientnet_v2_s', 32, {}, ('avgpool', IN), 43), marks=pytest.mark.slow),
    pytest.param(('maxvit_t', 224, {}, ('classifier', IN), 13), marks=pytest.mark.slow),
]
CLASSIFIERS = ('classifier.', 'fc.', 'head.', 'heads.', 'AuxLogits.', 'aux1.', 'aux2.')


@functools.lru_cache(maxsize=1)
def make(name: str, **args: Any) -> TorchvisionBackbone:
    """The last one is kept: all tests of a family follow each other."""
    model = quick(lambda: TorchvisionBackbone(name, **args))
    assert isinstance(model, TorchvisionBackbone)
    return model


def reference(name: str, weights: dict[str, torch.Tensor], **args: Any) -> nn.Module:
    """Torchvision's own network with given weights, its classifier without data."""
    builder = torchvision.models.get_model
    more = {'init_weights': True} if name in ('inception_v3', 'googlenet') else {}
    if name.startswith('regnet'):  # it computes its widths with tensors
        network = builder(name, weights=None, **args)
    else:
        with torch.device('meta'):
            network = builder(name, weights=None, **args, **more)
    state = OrderedDict(weights)
    state._metadata = {'': {'version': 2}}  # type: ignore[attr-defined]  # MNASNet had other widths in version 1
    network.load_state_dict(state, strict=False, assign=True)
    return network.eval()


class _Found(Exception):
    """Carries a tensor out of a network."""


def tap(network: nn.Module, x: torch.Tensor, place: str, side: str) -> torch.Tensor:
    """What goes into or comes out of a part of a network."""

    def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise _Found(inputs[0])

    def after(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        raise _Found(output)

    part = network.get_submodule(place)
    handle = part.register_forward_pre_hook(before) if side == IN else part.register_forward_hook(after)
    try:
        network(x)
    except _Found as found:
        return found.args[0]
    finally:
        handle.remove()
    raise AssertionError('the part was not reached')


@pytest.fixture(params=FAMILIES, ids=lambda case: case[0], scope='module')
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_agrees_with_torchvision(family: Any) -> None:
    name, side, args, (place, where), _ = family
    model = make(name, **args).eval()
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    network = reference(name, model.state_dict(), **args)
    with torch.no_grad():
        (got,) = model(x)
        expected = tap(network, x, place, where)
    if name == 'densenet121':
        expected = torch.relu(expected)
    if name == 'vit_b_32':  # tokens of rows of patches, after the class token
        expected = expected[:, 1:].reshape(1, 2, 2, 768).permute(0, 3, 1, 2)
    assert got.shape[1:2] == model.out_channels
    assert expected.std() > 0
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_names_and_numbers_are_torchvisions(family: Any) -> None:
    name, _, args, _, _ = family
    model = make(name, **args)
    network = reference(name, model.state_dict(), **args)
    names = {key: value.shape for key, value in network.state_dict().items() if not key.startswith(CLASSIFIERS)}
    assert {key: value.shape for key, value in model.state_dict().items()} == names
    if not args:
        published = torchvision.models.get_model_weights(name).DEFAULT.meta['num_params']
        heads = [c for c in CLASSIFIERS if (name, c[:3]) != ('googlenet', 'aux')]  # published without them
        rest = sum(p.numel() for key, p in network.named_parameters() if key.startswith(tuple(heads)))
        assert sum(p.numel() for p in model.parameters()) + rest == published


def test_gradient_reaches_every_parameter(family: Any) -> None:
    name, side, args, _, _ = family
    model = make(name, **args).train()
    state = {key: value.clone() for key, value in model.state_dict().items() if 'running' in key or 'batches' in key}
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    for module in model.modules():  # a block that is skipped has no gradient
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    (feature,) = model(x)
    (feature * torch.randn(feature.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.zero_grad(set_to_none=True)
    changed = [key for key, value in state.items() if not torch.equal(value, model.state_dict()[key])]
    assert len(changed) == len(state)  # training updates the statistics of all normalisations
    model.load_state_dict(state, strict=False)


def test_depths_count_blocks(family: Any) -> None:
    name, _, args, _, total = family
    model = make(name, **args)
    depths = {key: model.layer_depth(key) for key, _ in model.named_parameters()}
    assert {number for _, number in depths.values()} == {total}
    assert {depth for depth, _ in depths.values()} == set(range(total - 1))
    assert next(iter(depths.values()))[0] == 0


def test_depths_of_resnet_and_vit() -> None:
    with torch.device('meta'):
        resnet = TorchvisionBackbone('resnet18')
        vit = TorchvisionBackbone('vit_b_32', image_size=64)
    assert [resnet.layer_depth(key)[0] for key in ('conv1.weight', 'bn1.bias', 'layer1.0.conv1.weight')] == [0, 0, 1]
    assert resnet.layer_depth('layer2.0.downsample.1.weight') == (3, 10)
    keys = ('class_token', 'conv_proj.weight', 'encoder.pos_embedding', 'encoder.layers.encoder_layer_0.ln_1.weight')
    assert [vit.layer_depth(key)[0] for key in keys] == [0, 0, 0, 1]
    assert vit.layer_depth('encoder.ln.weight') == (12, 14)
    with pytest.raises(ConfigError, match="no parameter 'encoder.ln.weigth'; did you mean 'encoder.ln.weight'"):
        vit.layer_depth('encoder.ln.weigth')


def test_state_dict_round_trip(tmp_path: Path) -> None:
    model = make('resnet18').eval()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    other = TorchvisionBackbone('resnet18').eval()
    x = torch.randn(1, 3, 32, 32)
    assert not torch.equal(other(x)[0], model(x)[0])
    other.load_state_dict(torch.load(tmp_path / 'weights.pth', weights_only=True))
    assert torch.equal(other(x)[0], model(x)[0])
    assert torch.equal(copy.deepcopy(other)(x)[0], model(x)[0])


def test_copies_do_not_share_weights() -> None:
    model = make('resnet18').eval()
    other = copy.deepcopy(model)
    x = torch.randn(1, 3, 32, 32)
    before = model(x)[0]
    for parameter in other.parameters():
        parameter.data.zero_()
    assert torch.equal(model(x)[0], before)
    assert other(x)[0].abs().sum() == 0


@pytest.mark.parametrize(
    'name, channels, strides',
    [
        ('resnet18', (64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
        ('mobilenet_v2', (16, 24, 32, 96, 1280), (2, 4, 8, 16, 32)),
        ('densenet121', (64, 256, 512, 1024, 1024), (2, 4, 8, 16, 32)),
        ('swin_t', (96, 192, 384, 768), (4, 8, 16, 32)),
    ],
)
def test_maps_of_all_scales(name: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Channels before each subsampling are those of the papers' tables."""
    model = quick(lambda: TorchvisionBackbone(name, out_indices=range(len(channels)))).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 96))
    assert [each.shape[1:] for each in maps] == [(c, 64 // s, 96 // s) for c, s in zip(channels, strides)]
    assert model.out_channels == channels
    if name == 'resnet18':
        network = reference(name, {k: v for k, v in model.state_dict().items()})
        x = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(model(x)[2], tap(network, x, 'layer2', OUT), rtol=0, atol=0)
            torch.testing.assert_close(model(x)[0], tap(network, x, 'maxpool', IN), rtol=0, atol=0)


def test_maps_that_come_early_leave_the_rest_out() -> None:
    model = TorchvisionBackbone('resnet18', out_indices=2)
    assert model.out_channels == (128,)
    assert {name.split('.')[0] for name, _ in model.named_parameters()} == {'conv1', 'bn1', 'layer1', 'layer2'}


def test_frozen_network_is_a_fixed_extractor() -> None:
    model = quick(lambda: TorchvisionBackbone('resnet18', frozen=True))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(4, 3, 32, 32, requires_grad=True)
    (training,) = model.train()(x)
    assert not training.requires_grad
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert torch.equal(training, model.eval()(x)[0])
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())


def test_norm_eval_keeps_statistics_and_trains_the_rest() -> None:
    model = quick(lambda: TorchvisionBackbone('resnet18', norm_eval=True)).train()
    assert model.training
    mean = model.bn1.running_mean.clone()
    model(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert torch.equal(mean, model.bn1.running_mean)
    assert all(p.grad is not None for p in model.parameters())
    kinds = {type(module) for module in model.modules() if not module.training}
    assert kinds == {nn.BatchNorm2d}


@pytest.mark.parametrize('channels', [1, 4])
def test_other_channels(channels: int) -> None:
    model = TorchvisionBackbone('resnet18', in_channels=channels).eval()
    assert model(torch.randn(1, channels, 32, 32))[0].shape[1] == 512
    three = TorchvisionBackbone('resnet18')
    got, expected = (each.conv1.weight for each in (model, three))
    # The variance of a sum over the inputs stays.
    assert (got.std() * channels**0.5 / (expected.std() * 3**0.5)).item() == pytest.approx(1, abs=0.3)


def test_dropout_of_depth_works_in_training_only() -> None:
    model = quick(lambda: TorchvisionBackbone('efficientnet_b0', stochastic_depth_prob=0.9))
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(x)[0], model(x)[0])
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
        assert not torch.equal(model.train()(x)[0], model(x)[0])


def test_compiles_to_the_same() -> None:
    model = make('squeezenet1_1').eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)
        assert torch.equal(compiled(x)[0], model(x)[0])


@pytest.mark.parametrize(
    'name, args',
    [
        ('resnet18', {}),
        pytest.param('vit_b_32', {'image_size': 64}, marks=pytest.mark.slow),
        pytest.param('swin_t', {}, marks=pytest.mark.slow),
    ],
)
def test_exports(name: str, args: dict[str, Any]) -> None:
    model = make(name, **args).eval()
    x = torch.randn(1, 3, 64, 64)
    program = torch.export.export(model, (x,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x)[0], model(x)[0])


def test_imagenet_weights_fill_it(test_data: Path) -> None:
    path = test_data / 'weights/mobilenet_v2_features_torchvision.pth'
    model = TorchvisionBackbone('mobilenet_v2', weights=str(path))
    initialize(model, model.init_cfg)
    network = torchvision.models.mobilenet_v2(weights=None)
    network.load_state_dict(torch.load(path, weights_only=True), strict=False)
    x = torch.randn(1, 3, 96, 96)
    assert torch.equal(model.eval()(x)[0], network.eval().features(x))


def test_imagenet_weights_of_a_whole_network_fill_it(test_data: Path) -> None:
    path = test_data / 'weights/squeezenet1_1_torchvision.pth'
    model = TorchvisionBackbone('squeezenet1_1', weights=str(path))
    initialize(model, model.init_cfg)
    network = torchvision.models.squeezenet1_1(weights=None)
    network.load_state_dict(torch.load(path, weights_only=True))
    x = torch.randn(1, 3, 96, 96)
    assert torch.equal(model.eval()(x)[0], network.eval().features(x))


@pytest.mark.parametrize('given', ['IMAGENET1K_V2', 'DEFAULT', 'MobileNet_V2_Weights.IMAGENET1K_V2'])
def test_names_of_weights(given: str) -> None:
    model = TorchvisionBackbone('mobilenet_v2', weights=given)
    name = given.removeprefix('MobileNet_V2_Weights.')
    assert model.init_cfg == dict(type='Pretrained', checkpoint=f'torchvision://mobilenet_v2.{name}')


def test_files_of_weights_are_taken_as_they_are() -> None:
    for path in ('torchvision://mobilenet_v2', 'weights.pth', 'a/b', '~/x.safetensors'):
        model = TorchvisionBackbone('squeezenet1_1', weights=path)
        assert model.init_cfg == dict(type='Pretrained', checkpoint=path)


def test_input_is_transformed_where_torchvisions_weights_need_it() -> None:
    """Weights of GoogLeNet expect images normalised with mean and deviation 0.5, which torchvision does inside."""
    model = quick(lambda: TorchvisionBackbone('googlenet', weights='DEFAULT')).eval()
    network = reference('googlenet', model.state_dict(), transform_input=True)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x)[0], tap(network, x, 'avgpool', IN))
        plain = tap(reference('googlenet', model.state_dict()), x, 'avgpool', IN)
        assert not torch.equal(model(x)[0], plain)


def test_classifier_takes_a_file_for_it(test_data: Path) -> None:
    path = str(test_data / 'weights/squeezenet1_1_torchvision.pth')
    model = ImageClassifier(backbone=dict(type='TorchvisionBackbone', name='squeezenet1_1'), pretrained=path)
    model.init_weights()
    weights = torch.load(path, weights_only=True)
    assert torch.equal(model.backbone.features[0].weight, weights['features.0.weight'])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="no network 'mobilenetv2'; did you mean 'mobilenet_v2'"):
        TorchvisionBackbone('mobilenetv2')
    for name in ('fasterrcnn_resnet50_fpn', 'r3d_18', 'raft_large', 'fcn_resnet50', 'quantized_resnet18'):
        with pytest.raises(ConfigError, match=f"no network '{name}'"):
            TorchvisionBackbone(name)
    with pytest.raises(ConfigError, match="'resnet18' has no weights 'IMAGENET1K_V3', and no such file is here; did"):
        TorchvisionBackbone('resnet18', weights='IMAGENET1K_V3')
    with pytest.raises(ConfigError, match="'squeezenet1_1' has no argument 'drop_out'; did you mean 'dropout'"):
        TorchvisionBackbone('squeezenet1_1', drop_out=0.1)
    with pytest.raises(ConfigError, match=r"cannot make 'mnasnet0_5' with .*alpha=1.0"):
        TorchvisionBackbone('mnasnet0_5', alpha=1.0)
    with pytest.raises(ConfigError, match="'squeezenet1_1' takes images of any size; leave out image_size=64"):
        TorchvisionBackbone('squeezenet1_1', image_size=64)


@pytest.mark.parametrize('out_indices', [(5,), (-6,), (), (0, -5), 7])
def test_maps_that_do_not_exist_are_refused(out_indices: Any) -> None:
    with pytest.raises(ConfigError, match=r'out_indices=.* must be different positions out of \d maps'):
        TorchvisionBackbone('shufflenet_v2_x0_5', out_indices=out_indices)


def test_images_of_another_size_are_refused() -> None:
    with torch.device('meta'):
        model = TorchvisionBackbone('vit_b_32', image_size=64)
    with pytest.raises(ConfigError, match="'vit_b_32' is built for images of 64 x 64 pixels, got 64 x 96; resize"):
        model(torch.empty(1, 3, 64, 96, device='meta'))
