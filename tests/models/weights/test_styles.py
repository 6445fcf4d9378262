"""Files of torchvision, timm and mmpretrain in our modules and in each other's: equal names, equal outputs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlcls.models import ImageClassifier, ResNet, ResNetV1d, SEResNet
from mlcls.models.weights import load_weights
from mlcls.models.weights.styles import common_names, looks_like, style_of

SMALL = dict(depth=18, base_channels=8, stem_channels=8)


def classifier(classes: int = 7, **backbone: Any) -> ImageClassifier:
    backbone = {'type': 'ResNet', **SMALL, **backbone}
    channels = 8 * backbone['base_channels']
    head = dict(type='MultiLabelLinearClsHead', num_classes=classes, in_channels=channels)
    return ImageClassifier(backbone, dict(type='GlobalAveragePooling'), head)


def shuffled(module: nn.Module) -> nn.Module:
    """Statistics and affine parameters away from their start, so that a forgotten one shows; in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            low, high = (0.5, 1.5) if name.endswith(('weight', 'var')) else (-0.1, 0.1)
            value.copy_(torch.empty(value.shape).uniform_(low, high, generator=generator))
    return module.eval()


def images(side: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))


def in_mmpretrain_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our names of a classifier as mmpretrain 1.x has them: only those of squeeze and excitation differ."""
    return {re.sub(r'\.se\.fc([12])\.', r'.se_layer.conv\1.conv.', name): value for name, value in weights.items()}


@pytest.mark.parametrize('kind', ['ResNet', 'ResNetV1d', 'SEResNet'])
def test_mmpretrain_classifier(kind: str) -> None:
    source, target = shuffled(classifier(type=kind)), classifier(type=kind).eval()
    weights = in_mmpretrain_names(source.state_dict())
    averaged = {f'ema_{name.replace(".", "_")}': value + 1 for name, value in weights.items()}
    statistics = {f'data_preprocessor.{name}': torch.zeros(3, 1, 1) for name in ('mean', 'std')}
    report = load_weights(target, {**averaged, **weights, **statistics}, 'mm.pth')
    assert report.complete and report.style == 'mmpretrain' and report.parameters == report.all_parameters
    with torch.inference_mode():
        assert torch.equal(target(images()), source(images()))
    backbone = source.backbone.__class__(**SMALL).eval()
    report = load_weights(backbone, weights, 'mm.pth')
    assert report.stripped == 'backbone.' and not report.missing and not report.unused
    with torch.inference_mode():
        assert torch.equal(backbone(images())[0], source.backbone(images())[0])


def test_group_normalisation_of_mmpretrain() -> None:
    norm = dict(norm_cfg=dict(type='GN', num_groups=4))
    source = shuffled(ResNet(**SMALL, **norm))  # type: ignore[arg-type]
    weights = {f'backbone.{re.sub(r"bn(.)", "gn" + chr(92) + "1", n)}': v for n, v in source.state_dict().items()}
    assert any('.gn1.' in name for name in weights)
    assert load_weights(ResNet(**SMALL, **norm), weights, 'gn.pth').complete  # type: ignore[arg-type]


def test_torchvision_resnet() -> None:
    source = shuffled(torchvision.models.resnet18(num_classes=7))
    backbone, whole = ResNet(18).eval(), classifier(base_channels=64, stem_channels=64).eval()
    report = load_weights(backbone, source.state_dict(), 'tv.pth')
    assert not report.missing and report.unused == ('fc.weight', 'fc.bias')
    report = load_weights(whole, source.state_dict(), 'tv.pth')
    assert report.complete and report.added == 'backbone.' and report.head == 'head: fc of the file fills head.fc'
    features = nn.Sequential(*list(source.children())[:-2])
    with torch.inference_mode():
        torch.testing.assert_close(backbone(images())[0], features(images()))
        torch.testing.assert_close(whole(images()), source(images()))


@pytest.mark.parametrize('name, kind', [('resnet18d', ResNetV1d), ('seresnet18', SEResNet), ('resnet18', ResNet)])
def test_timm_resnets(name: str, kind: type[ResNet]) -> None:
    source, target = shuffled(timm.create_model(name)), kind(18).eval()
    report = load_weights(target, source.state_dict(), 'timm.pth')
    assert not report.missing and not report.mismatched and report.unused == ('fc.weight', 'fc.bias')
    assert report.style == ('torchvision or timm' if name == 'resnet18' else 'timm')
    with torch.inference_mode():
        torch.testing.assert_close(target(images())[0], source.forward_features(images()), rtol=1e-4, atol=1e-4)


def test_timm_extractor_of_features() -> None:
    source = shuffled(timm.create_model('convnext_atto'))
    target = timm.create_model('convnext_atto', features_only=True).eval()
    assert any(name.startswith('stages_0.') for name in target.state_dict())
    report = load_weights(target, source.state_dict(), 'timm.pth')
    assert not report.missing and not report.mismatched and all(name.startswith('head.') for name in report.unused)
    with torch.inference_mode():
        wanted = source.forward_intermediates(images(), intermediates_only=True)
        for found, map_ in zip(target(images()), wanted, strict=True):
            torch.testing.assert_close(found, map_)


def vit_of_torchvision(side: int = 32, **settings: Any) -> nn.Module:
    vit = torchvision.models.VisionTransformer(
        image_size=side, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5, **settings
    )
    nn.init.normal_(vit.heads.head.weight)
    return shuffled(vit)


def vit_of_timm(side: int = 32, **settings: Any) -> nn.Module:
    return timm.models.VisionTransformer(
        img_size=side, patch_size=8, depth=2, num_heads=2, embed_dim=16, mlp_ratio=2, num_classes=5, **settings
    ).eval()


def as_mmpretrain_vit(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names as mmpretrain's VisionTransformer and VisionTransformerClsHead have them."""
    renamed = {}
    for name, value in weights.items():
        for old, new in (
            (r'^head\.', 'head.layers.head.'),
            (r'^blocks\.(\d+)\.norm', r'backbone.layers.\1.ln'),
            (r'^blocks\.', 'backbone.layers.'),
            (r'^norm\.', 'backbone.ln1.'),
            (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
            (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
            (r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
            (r'^(cls_token|pos_embed)$', r'backbone.\1'),
        ):
            name = re.sub(old, new, name)
        renamed[name] = value
    return renamed


def test_transformers_in_each_others_names() -> None:
    source, target, back = vit_of_torchvision(), vit_of_timm(), vit_of_torchvision()
    nn.init.normal_(source.encoder.pos_embedding)
    report = load_weights(target, source.state_dict(), 'tv.pth')
    assert report.style == 'torchvision' and report.missing == ('head.weight', 'head.bias')
    target.head.load_state_dict(source.heads.head.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(target(images(32)), source(images(32)), rtol=1e-4, atol=1e-4)

    weights = as_mmpretrain_vit(target.state_dict())
    assert all(name.startswith(('backbone.', 'head.layers.')) for name in weights)
    assert not load_weights(back, weights, 'mm.pth').mismatched
    back.heads.load_state_dict(source.heads.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(back(images(32)), source(images(32)), rtol=1e-4, atol=1e-4)

    # torchvision's own files of 2022 have other names for the layers of the MLP.
    old = {re.sub(r'mlp\.([03])\.', lambda m: f'mlp.linear_{"12"[m[1] == "3"]}.', n): v for n, v in weights_of(source)}
    assert load_weights(vit_of_torchvision(), old, 'old.pth').complete


def weights_of(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return list(module.state_dict().items())


def test_densenet_of_2017() -> None:
    with torch.device('meta'):
        source = torchvision.models.densenet121()
    old = {
        re.sub(r'(denselayer\d+\.(?:norm|conv))([12])\.', r'\1.\2.', name): tuple(v.shape)
        for name, v in weights_of(source)
    }
    today = {name: tuple(value.shape) for name, value in weights_of(source)}
    assert old.keys() != today.keys() and set(common_names(old).values()) == set(common_names(today).values())


parts = st.sampled_from(
    ['conv1', 'bn1', 'stem', 'se', 'se_layer', 'fc1', 'downsample', '0', '1', '6', 'gn', 'blocks', 'ln1']
)
some_names = st.lists(parts, min_size=1, max_size=5).map(lambda found: '.'.join([*found, 'weight']))


@given(st.dictionaries(some_names, st.sampled_from([(4,), (4, 4, 1, 1)]), max_size=12))
@settings(max_examples=150)
def test_common_names_never_collide(shapes: dict[str, tuple[int, ...]]) -> None:
    found = common_names(shapes)
    assert found.keys() == shapes.keys() and len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    'name', ['conv1.weight', 'bn1.weight', 'layer1.0.conv1.weight', 'stem.0.weight', 'features.0.0.bias']
)
def test_plain_stems_stay(name: str) -> None:
    assert common_names({name: (4,)}) == {name: name}


def names_of(build: Any) -> list[str]:
    try:
        with torch.device('meta'):
            return [*build().state_dict()]
    except NotImplementedError:  # RegNet computes its widths with tensors
        return [*build().state_dict()]


NETWORKS = [
    ('mobilenet_v2', 'MobileNetV2'), ('mobilenet_v3_small', 'MobileNetV3'), ('squeezenet1_1', 'SqueezeNet'),
    ('densenet121', 'DenseNet'), ('efficientnet_b0', 'EfficientNet'), ('convnext_tiny', 'ConvNeXt'),
    ('swin_t', 'Swin'), ('vit_b_16', 'ViT'), ('regnet_y_400mf', 'RegNet'), ('googlenet', 'GoogLeNet'),
    ('inception_v3', 'Inception v3'), ('vgg11', 'VGG'), ('alexnet', 'AlexNet'), ('resnet18', 'ResNet'),
]  # fmt: skip


@pytest.mark.parametrize('name, words', NETWORKS)
def test_networks_of_torchvision_are_recognised(name: str, words: str) -> None:
    settings: Any = dict(init_weights=False) if name in ('googlenet', 'inception_v3') else {}
    names = names_of(lambda: torchvision.models.get_model(name, weights=None, **settings))
    for prefix in ('', 'module.', 'backbone.'):
        assert words in looks_like(prefix + each for each in names)
    assert style_of(names) == ('torchvision or timm' if name == 'resnet18' else 'torchvision')
    assert style_of(f'backbone.{each}' for each in names) == 'mmpretrain'
    used = re.search(r"TorchvisionBackbone\(name='(\w+)'\)", looks_like(names))
    assert name == 'resnet18' or (used and used[1] in torchvision.models.list_models())


@pytest.mark.parametrize(
    'name, words',
    [
        ('vit_tiny_patch16_224', 'timm ViT'),
        ('swin_tiny_patch4_window7_224', 'timm Swin'),
        ('convnext_atto', 'timm ConvNeXt'),
        ('efficientnet_b0', 'timm EfficientNet'),
    ],
)
def test_networks_of_timm_are_recognised(name: str, words: str) -> None:
    names = names_of(lambda: timm.create_model(name))
    assert words in looks_like(names) and style_of(names) == 'timm'
    used = re.search(r"TimmBackbone\(name='(\w+)'\)", looks_like(names))
    assert used and timm.is_model(used[1])


def test_what_is_not_known() -> None:
    assert looks_like(['a.b', 'weight']) == '' and style_of(['a.b', 'weight']) == 'plain' and style_of([]) == 'plain'
