"""Networks of timm as backbones, compared with timm's own networks."""

from __future__ import annotations

import builtins
import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcls.errors import CheckpointError, ConfigError
from mlcls.models import ImageClassifier, TimmBackbone, TimmWeights
from mlcls.models.initialize import initialize
from tests.models.backbones.quick import quick

timm = pytest.importorskip('timm')

VIT = ('vit_tiny_patch16_224', 32, {'img_size': 32})
# Name, image side, arguments, and the number of depths (blocks, stem and head).
FAMILIES: list[Any] = [
    ('resnet18', 32, {}, 10),
    ('mobilenetv3_small_050', 32, {}, 15),
    ('efficientnet_lite0', 32, {}, 19),
    ('convnext_atto', 32, {}, 17),
    (*VIT, 14),
    ('swin_tiny_patch4_window7_224', 64, {'img_size': 64, 'window_size': 2}, 17),
    pytest.param(('nasnetalarge', 96, {}, 24), marks=pytest.mark.slow),
    pytest.param(('inception_resnet_v2', 96, {}, 46), marks=pytest.mark.slow),
]


@functools.lru_cache(maxsize=1)
def make(name: str, **args: Any) -> TimmBackbone:
    """The last one is kept: all tests of a family follow each other."""
    model = quick(lambda: TimmBackbone(name, **args))
    assert isinstance(model, TimmBackbone)
    return model


@pytest.fixture(params=FAMILIES, ids=lambda case: case[0], scope='module')
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_agrees_with_timm(family: Any) -> None:
    """timm pools the maps and puts its classifier on them; the maps are what gives the same logits then."""
    name, side, args, _ = family
    model = make(name, **args).eval()
    network = quick(lambda: timm.create_model(name, pretrained=False, num_classes=5, **args)).eval()
    filled = network.load_state_dict(model.timm_model.state_dict(), strict=False)
    assert not filled.unexpected_keys
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (got,) = model(x)
        expected = network(x)
        classify = network.get_classifier()
        if name.startswith('vit'):  # it classifies the class token, so that only the map's place is left to compare
            tokens = network.forward_features(x)[:, 1:]
            assert torch.equal(got[0, :, 1, 0], tokens[0, 2])
            return
        pooled = got.mean((2, 3), keepdim=True)
        if name.startswith('mobilenetv3'):  # its convolution after the pooling comes before it here
            pooled = network.global_pool(network.forward_features(x))
            one = model.timm_model
            pooled = one.act2(one.norm_head(one.conv_head(pooled)))
        torch.testing.assert_close(classify(pooled.flatten(1)), expected, rtol=1e-4, atol=1e-4)


def test_gradient_reaches_every_parameter(family: Any) -> None:
    name, side, args, _ = family
    model = make(name, **args).train()
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    (feature,) = model(x)
    assert feature.shape[:2] == (2, *model.out_channels)
    (feature * torch.randn(feature.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None]
    model.zero_grad(set_to_none=True)


def test_depths_count_blocks(family: Any) -> None:
    name, _, args, total = family
    depths = [make(name, **args).layer_depth(key) for key, _ in make(name, **args).named_parameters()]
    assert {number for _, number in depths} == {total}
    assert {depth for depth, _ in depths} == set(range(total - 1))


@pytest.mark.parametrize(
    'name, published',
    [
        ('nasnetalarge', 88_753_150),
        pytest.param('inception_resnet_v2', 55_843_464, marks=pytest.mark.slow),
    ],
)
def test_parameters_of_large_networks(name: str, published: int) -> None:
    """The numbers of Cadene's pretrained-models, from which timm's ports come, with classifiers of 1000 classes."""
    with torch.device('meta'):
        model = TimmBackbone(name)
        classifier = timm.create_model(name, pretrained=False, num_classes=1000).get_classifier()
    own = sum(p.numel() for p in model.parameters())
    assert own + sum(p.numel() for p in classifier.parameters()) == published
    assert model.out_channels == ({'nasnetalarge': 4032, 'inception_resnet_v2': 1536}[name],)


def test_depths_of_vit() -> None:
    with torch.device('meta'):
        model = TimmBackbone('vit_tiny_patch16_224')
    keys = ('timm_model.cls_token', 'timm_model.pos_embed', 'timm_model.patch_embed.proj.bias')
    assert [model.layer_depth(key) for key in keys] == [(0, 14)] * 3
    assert model.layer_depth('timm_model.blocks.0.norm1.weight') == (1, 14)
    assert model.layer_depth('timm_model.norm.weight') == (12, 14)


@pytest.mark.parametrize(
    'name, args, channels, strides',
    [
        ('resnet18', {}, (64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
        ('mobilenetv3_small_050', {}, (16, 8, 16, 24, 288), (2, 4, 8, 16, 32)),
        ('convnext_atto', {}, (40, 80, 160, 320), (4, 8, 16, 32)),
        pytest.param(
            *('swin_tiny_patch4_window7_224', {'img_size': 64}, (96, 192, 384, 768), (4, 8, 16, 32)),
            marks=pytest.mark.slow,
        ),
        ('vit_tiny_patch16_224', {'img_size': 64}, (192, 192), (16, 16)),
    ],
)
def test_maps_of_all_scales(name: str, args: dict[str, Any], channels: Any, strides: Any) -> None:
    model = quick(lambda: TimmBackbone(name, out_indices=range(len(channels)), **args)).train()
    maps = model(torch.randn(2, 3, 64, 64))
    assert [each.shape[1:] for each in maps] == [(c, 64 // s, 64 // s) for c, s in zip(channels, strides)]
    assert model.out_channels == channels
    sum(each.square().sum() for each in maps).backward()
    # Parts after the last map are left out.
    assert not [key for key, p in model.named_parameters() if p.grad is None]


def test_oblong_images_of_tokens() -> None:
    model = quick(lambda: TimmBackbone('vit_tiny_patch16_224', dynamic_img_size=True)).eval()
    with torch.no_grad():
        (got,) = model(torch.randn(1, 3, 32, 96))
    assert got.shape == (1, 192, 2, 6)


def test_frozen_and_norm_eval() -> None:
    model = quick(lambda: TimmBackbone('mobilenetv3_small_050', frozen=True)).train()
    assert not model(torch.randn(2, 3, 32, 32))[0].requires_grad
    assert not any(module.training for module in model.modules())
    model = quick(lambda: TimmBackbone('mobilenetv3_small_050', norm_eval=True)).train()
    norm = model.timm_model.bn1
    mean = norm.running_mean.clone()
    assert model(torch.randn(2, 3, 32, 32))[0].requires_grad
    assert torch.equal(norm.running_mean, mean)
    assert model.timm_model.training


def test_other_channels() -> None:
    model = TimmBackbone('mobilenetv3_small_050', in_channels=5).eval()
    assert model(torch.randn(1, 5, 32, 32))[0].shape[1] == 1024


@pytest.mark.parametrize(
    'name, args, suffix',
    [
        ('mobilenetv3_small_050', {}, '.pth'),
        ('mobilenetv3_small_050', {'out_indices': (1, -1)}, '.safetensors'),
        ('vit_tiny_patch16_224', {'img_size': 32}, '.safetensors'),
        ('vit_tiny_patch16_224', {'img_size': 32, 'out_indices': (-1,)}, '.pth'),
    ],
)
def test_files_of_timm_fill_it(tmp_path: Path, name: str, args: dict[str, Any], suffix: str) -> None:
    """A file as timm writes it, with its classifier, under timm's names."""
    size = {'img_size': 32} if name.startswith('vit') else {}
    network = quick(lambda: timm.create_model(name, pretrained=False, **size)).eval()
    path = tmp_path / f'weights{suffix}'
    if suffix == '.pth':
        torch.save(network.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), str(path))
    model = TimmBackbone(name, weights=str(path), **args).eval()
    initialize(model, model.init_cfg)
    assert model.loaded_weights[0]['num_missing'] == 0 and len(model.loaded_weights[0]['sha256']) == 64
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        got = model(x)[-1]
        if 'out_indices' in args:
            expected = network.forward_intermediates(x, indices=1, norm=False, intermediates_only=True)[-1]
        elif name.startswith('vit'):
            expected = network.forward_features(x)[:, 1:].transpose(1, 2).unflatten(2, (2, 2))
        else:
            expected = network.act2(network.norm_head(network.conv_head(network.forward_features(x))))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_state_dict_round_trip() -> None:
    model = make('mobilenetv3_small_050').eval()
    other = TimmBackbone('mobilenetv3_small_050').eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(other(x)[0], model(x)[0])
    assert torch.equal(copy.deepcopy(other)(x)[0], model(x)[0])


def test_classifier_takes_a_file_for_it(tmp_path: Path) -> None:
    network = quick(lambda: timm.create_model('mobilenetv3_small_050', pretrained=False))
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    backbone = dict(type='TimmBackbone', name='mobilenetv3_small_050')
    model = ImageClassifier(backbone=backbone, pretrained=str(tmp_path / 'weights.pth'))
    model.init_weights()
    assert torch.equal(model.backbone.timm_model.conv_stem.weight, network.conv_stem.weight)


def test_own_weights_come_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    network = quick(lambda: timm.create_model('mobilenetv3_small_050', pretrained=False))
    asked = []

    def fetch(hub: str, **others: Any) -> dict[str, torch.Tensor]:
        asked.append(hub)
        return network.state_dict()

    monkeypatch.setattr(timm.models, 'load_state_dict_from_hf', fetch)
    model = TimmBackbone('mobilenetv3_small_050.lamb_in1k', pretrained=True)
    assert not asked  # a model that is built for a checkpoint fetches nothing
    initialize(model, model.init_cfg)
    assert asked == ['timm/mobilenetv3_small_050.lamb_in1k']
    assert torch.equal(model.timm_model.conv_stem.weight, network.conv_stem.weight)


def test_without_network_the_message_says_which_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(hub: str, **others: Any) -> None:
        raise OSError('no route to host')

    monkeypatch.setattr(timm.models, 'load_state_dict_from_hf', fetch)
    model = TimmBackbone('mobilenetv3_small_050', pretrained=True)
    address = 'https://huggingface.co/timm/mobilenetv3_small_050.lamb_in1k/resolve/main/model.safetensors'
    words = (
        rf"could not get the weights of 'mobilenetv3_small_050' \(OSError: no route to host\); fetch {address} on a "
        r"machine with network access and give its path: weights='/path/model.safetensors'"
    )
    with pytest.raises(CheckpointError, match=words):
        initialize(model, model.init_cfg)


def test_networks_without_weights_are_refused() -> None:
    with torch.device('meta'):
        model = TimmBackbone('mixer_s32_224', pretrained=True)
    with pytest.raises(CheckpointError, match="timm has no weights for 'mixer_s32_224'"):
        initialize(model, model.init_cfg)


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    torch.save({'nothing.weight': torch.zeros(2)}, tmp_path / 'weights.pth')
    model = TimmBackbone('mobilenetv3_small_050', weights=str(tmp_path / 'weights.pth'))
    with pytest.raises(CheckpointError, match='nothing in it fits TimmBackbone'):
        initialize(model, model.init_cfg)
    with pytest.raises(ConfigError, match='TimmWeights fills a TimmBackbone, not Linear; use Pretrained'):
        TimmWeights('weights.pth')(torch.nn.Linear(1, 1))


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="timm has no network 'resnet_18'; did you mean 'resnet18'"):
        TimmBackbone('resnet_18')
    with pytest.raises(ConfigError, match=r"timm has no weights 'resnet18.a9_in1k'; did you mean 'resnet18.a"):
        TimmBackbone('resnet18.a9_in1k')
    with pytest.raises(ConfigError, match='give pretrained=True .* or weights .*, not both'):
        TimmBackbone('resnet18', pretrained=True, weights='a.pth')
    with pytest.raises(ConfigError, match="'num_classes' is set by the backbone itself; leave it out"):
        TimmBackbone('resnet18', num_classes=3)
    with pytest.raises(ConfigError, match=r"timm cannot make 'resnet18' with .*drop_paths=0.1: "):
        TimmBackbone('resnet18', drop_paths=0.1)
    with pytest.raises(ConfigError, match=r"timm cannot make 'resnet18' with .*out_indices=\(7,\)"):
        TimmBackbone('resnet18', out_indices=7)
    with pytest.raises(ConfigError, match=r"cannot make 'deit_tiny_distilled_patch16_224' with .*distilled head"):
        TimmBackbone('deit_tiny_distilled_patch16_224')


def test_networks_that_give_vectors_are_refused() -> None:
    model = make('mobilenetv3_small_050')
    with pytest.raises(ConfigError, match='gives no feature maps without its pooling; try out_indices'):
        model._to_map(torch.zeros(2, 8), torch.Size((2, 3, 32, 32)))
    with pytest.raises(ConfigError, match="the 7 tokens of 'mobilenetv3_small_050' are no grid of the image's shape"):
        model._to_map(torch.zeros(2, 7, 8), torch.Size((2, 3, 32, 32)))


def test_missing_timm_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == 'timm':
            raise ImportError('No module named timm')
        return real(name, *args)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ConfigError, match=r"TimmBackbone needs timm; pip install 'mlcls\[timm\]'"):
        TimmBackbone('resnet18')


def test_images_of_another_size_than_the_network_is_built_for() -> None:
    model = make(VIT[0], **VIT[2])
    with pytest.raises(
        ConfigError, match=r'built for images of 32 x 32 pixels, got 48 x 48; .* model.backbone.img_size=48'
    ):
        model(torch.zeros(1, 3, 48, 48))
