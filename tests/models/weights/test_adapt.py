"""Other channels, other image sizes: against torch, timm and plain loops."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models._manipulate import adapt_input_conv
from torch import nn
from torch.nn import functional as F

from mlcls.models import ResNet
from mlcls.models.weights import load_weights
from mlcls.models.weights.adapt import adapt_channels, resize_table, square_grid
from tests.models.weights.test_styles import SMALL, classifier, images, shuffled, vit_of_timm, vit_of_torchvision


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 6, 7, 12])
def test_channels_as_timm_does(channels: int) -> None:
    weight = torch.randn(4, 3, 5, 5)
    found = adapt_channels(weight, channels)
    assert found is not None and found.shape == (4, channels, 5, 5)
    torch.testing.assert_close(found, adapt_input_conv(channels, weight))


@pytest.mark.parametrize('channels', [1, 6, 9])
def test_equal_channels_give_what_they_gave(channels: int) -> None:
    weight, grey = torch.randn(4, 3, 5, 5, dtype=torch.float64), torch.randn(1, 1, 9, 9, dtype=torch.float64)
    found = adapt_channels(weight, channels)
    assert found is not None and found.dtype == torch.float64
    for given, wanted in ((grey.expand(1, channels, 9, 9), grey.expand(1, 3, 9, 9)),):
        torch.testing.assert_close(F.conv2d(given, found), F.conv2d(wanted, weight), rtol=1e-5, atol=1e-5)


def test_grey_to_colour_and_what_is_refused() -> None:
    weight = torch.randn(4, 1, 3, 3)
    found = adapt_channels(weight, 3)
    assert found is not None
    torch.testing.assert_close(found.sum(1, keepdim=True), weight)
    assert adapt_channels(torch.zeros(4, 4, 3, 3), 3) is None and adapt_channels(torch.zeros(4, 5, 3, 3), 7) is None
    assert adapt_channels(torch.zeros(4, 1, 3, 3), 6) is None


@pytest.mark.parametrize('channels', [1, 4])
@pytest.mark.parametrize('stem', ['ResNet', 'ResNetV1d'])
def test_first_convolution_of_a_classifier(channels: int, stem: str) -> None:
    source = shuffled(classifier(type=stem))
    target = classifier(type=stem, in_channels=channels).eval()
    report = load_weights(target, source.state_dict(), 'rgb.pth')
    name = 'backbone.conv1.weight' if stem == 'ResNet' else 'backbone.stem.0.conv.weight'
    assert report.adapted == (f'{name}: first convolution from 3 to {channels} input channels',)
    assert not report.mismatched and f'adapted {name}' in str(report) and not report.complete
    if channels == 1:
        grey = images(channels=1)
        with torch.inference_mode():
            torch.testing.assert_close(target(grey), source(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_no_other_convolution_is_adapted() -> None:
    class Net(nn.Module):
        def __init__(self, first: int, second: int) -> None:
            super().__init__()
            self.a = nn.Conv2d(first, 3, 1)
            self.b = nn.Conv2d(second, 2, 1)

    report = load_weights(Net(3, 1), Net(3, 3).state_dict(), 'f')
    assert not report.adapted and report.mismatched == ('b.weight (file (2, 3, 1, 1), model (2, 1, 1, 1))',)
    report = load_weights(Net(1, 3), Net(3, 3).state_dict(), 'f')
    assert report.adapted == ('a.weight: first convolution from 3 to 1 input channels',) and not report.mismatched


def test_first_convolution_of_another_kernel_stays_a_mismatch() -> None:
    weights = ResNet(**SMALL).state_dict()  # type: ignore[arg-type]
    weights['conv1.weight'] = torch.zeros(8, 1, 3, 3)
    report = load_weights(ResNet(**SMALL), weights, 'f')  # type: ignore[arg-type]
    assert report.mismatched == ('conv1.weight (file (8, 1, 3, 3), model (8, 3, 7, 7))',) and not report.adapted


@pytest.mark.parametrize('side', [16, 24, 56])
def test_position_embeddings_as_timm_resizes_them(side: int) -> None:
    source, target = vit_of_timm(), vit_of_timm(side)
    nn.init.normal_(source.pos_embed)
    report = load_weights(target, source.state_dict(), 'vit.pth')
    assert report.adapted == (
        f'pos_embed: position embeddings resized from 4x4 to {side // 8}x{side // 8} (bicubic), 1 kept before the grid',
    )
    wanted = resample_abs_pos_embed(source.pos_embed, [side // 8] * 2, num_prefix_tokens=1)
    torch.testing.assert_close(target.pos_embed, wanted)
    assert not report.mismatched and not report.missing


def test_position_embeddings_of_torchvision_and_of_oblong_images() -> None:
    source = vit_of_torchvision()
    nn.init.normal_(source.encoder.pos_embedding)
    target = vit_of_torchvision(48)
    report = load_weights(target, source.state_dict(), 'vit.pth')
    wanted = resample_abs_pos_embed(source.encoder.pos_embedding, [6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(target.encoder.pos_embedding, wanted)
    assert 'from 4x4 to 6x6' in report.adapted[0] and not report.missing
    oblong = vit_of_timm(side=(24, 48))  # type: ignore[arg-type]
    report = load_weights(oblong, source.state_dict(), 'vit.pth')
    torch.testing.assert_close(
        oblong.pos_embed, resample_abs_pos_embed(source.encoder.pos_embedding, [3, 6], num_prefix_tokens=1)
    )
    assert 'from 4x4 to 3x6' in report.adapted[0]


def test_tokens_before_the_grid_that_one_side_lacks() -> None:
    with_class, without = vit_of_timm(), vit_of_timm(class_token=False, global_pool='avg')
    for vit in (with_class, without):
        nn.init.normal_(vit.pos_embed)
    start = with_class.pos_embed.detach().clone()
    report = load_weights(with_class, without.state_dict(), 'vit.pth')
    assert report.adapted[0].endswith('0 kept, 1 stay as initialised before the grid')
    assert torch.equal(with_class.pos_embed[:, :1], start[:, :1])
    assert torch.equal(with_class.pos_embed[:, 1:], without.pos_embed)
    with torch.no_grad():
        with_class.pos_embed.copy_(start)
    report = load_weights(without, with_class.state_dict(), 'vit.pth')
    assert report.adapted[0].endswith('0 kept, 1 of the file left out before the grid')
    assert torch.equal(without.pos_embed, start[:, 1:])


def test_registers_before_the_grid() -> None:
    source, target = vit_of_timm(reg_tokens=4), vit_of_timm(64, reg_tokens=4)
    nn.init.normal_(source.pos_embed)
    report = load_weights(target, source.state_dict(), 'vit.pth')
    assert 'from 4x4 to 8x8 (bicubic), 5 kept' in report.adapted[0]
    assert torch.equal(target.pos_embed[:, :5], source.pos_embed[:, :5])
    torch.testing.assert_close(target.pos_embed, resample_abs_pos_embed(source.pos_embed, [8, 8], num_prefix_tokens=5))


def test_embeddings_without_a_grid_stay_a_mismatch() -> None:
    weights = vit_of_timm().state_dict()
    weights['pos_embed'] = torch.zeros(1, 23, 16)
    report = load_weights(vit_of_timm(), weights, 'vit.pth')
    assert report.mismatched == ('pos_embed (file (1, 23, 16), model (1, 17, 16))',)
    assert square_grid(23, (1, 0)) is None and square_grid(1, (1,)) is None and square_grid(17, (1, 0)) == (1, (4, 4))


def test_relative_positions_of_swin() -> None:
    def swin(window: int) -> nn.Module:
        return timm.models.SwinTransformer(
            img_size=64, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=window, num_classes=2
        )

    source, target = swin(4), swin(8)
    report = load_weights(target, source.state_dict(), 'swin.pth')
    assert len(report.adapted) == 2 and not report.missing and not report.mismatched
    assert 'relative positions resized from 49 to 225 entries (bicubic)' in report.adapted[0]
    table = source.layers[0].blocks[0].attn.relative_position_bias_table
    for head in range(2):
        wanted = F.interpolate(table[:, head].reshape(1, 1, 7, 7), (15, 15), mode='bicubic')
        torch.testing.assert_close(
            target.layers[0].blocks[0].attn.relative_position_bias_table[:, head], wanted.flatten()
        )
    assert resize_table(torch.zeros(48, 2), 225) is None and resize_table(torch.zeros(49, 2), 224) is None
    assert math.isqrt(225) == 15


def test_one_by_one_convolutions_and_linear_layers() -> None:
    linear, conv = nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Conv2d(3, 4, 1))
    report = load_weights(linear, conv.state_dict(), 'f')
    assert report.adapted == ('0.weight: (4, 3, 1, 1) taken as (4, 3)',)
    assert torch.equal(linear[0].weight, conv[0].weight[:, :, 0, 0])
    other = nn.Sequential(nn.Linear(3, 4))
    assert load_weights(conv, other.state_dict(), 'f').adapted == ('0.weight: (4, 3) taken as (4, 3, 1, 1)',)
    assert torch.equal(other[0].weight, conv[0].weight[:, :, 0, 0])


def test_half_precision_files() -> None:
    source, target = ResNet(**SMALL), ResNet(**SMALL, in_channels=1)  # type: ignore[arg-type]
    weights = {
        name: value.bfloat16() if value.is_floating_point() else value for name, value in source.state_dict().items()
    }
    assert not load_weights(target, weights, 'f').mismatched
    assert target.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(target.conv1.weight, source.conv1.weight.sum(1, keepdim=True), rtol=0.05, atol=0.05)
