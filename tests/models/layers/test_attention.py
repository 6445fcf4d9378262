"""Attention against the papers' formulas, in plain loops over float64 numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.layers import CBAM, ECA, SE, Attention, NonLocal

KINDS = [SE, CBAM, ECA, NonLocal]


def made(kind: type[Attention], channels: int = 24, **settings: object) -> tuple[Attention, torch.Tensor]:
    torch.manual_seed(0)
    module = kind(channels, **settings).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module, torch.randn(2, channels, 3, 5, dtype=torch.float64)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def dense(weight: torch.Tensor, vector: list[float], bias: torch.Tensor | None = None) -> list[float]:
    """A 1x1 convolution at one position."""
    rows = weight.flatten(1).tolist()
    offsets = [0.0] * len(rows) if bias is None else bias.tolist()
    return [sum(w * v for w, v in zip(row, vector)) + offset for row, offset in zip(rows, offsets)]


def means(image: torch.Tensor) -> list[float]:
    return [sum(map(sum, plane)) / (len(plane) * len(plane[0])) for plane in image.tolist()]


def peaks(image: torch.Tensor) -> list[float]:
    return [max(map(max, plane)) for plane in image.tolist()]


@torch.no_grad()
def test_se() -> None:
    module, x = made(SE, ratio=2)
    assert module.fc1.weight.shape == (16, 24, 1, 1)  # 12, rounded to a multiple of 8
    for image, out in zip(x, module(x)):
        hidden = [max(h, 0.0) for h in dense(module.fc1.weight, means(image), module.fc1.bias)]
        gates = [sigmoid(h) for h in dense(module.fc2.weight, hidden, module.fc2.bias)]
        torch.testing.assert_close(out, torch.stack([plane * gate for plane, gate in zip(image, gates)]))


@torch.no_grad()
def test_cbam() -> None:
    module, x = made(CBAM)
    weight = module.spatial.weight[0].tolist()
    assert module.spatial.weight.shape == (1, 2, 7, 7)
    for image, out in zip(x, module(x)):
        parts = []
        for pooled in (means(image), peaks(image)):
            parts.append(dense(module.fc2.weight, [max(h, 0.0) for h in dense(module.fc1.weight, pooled)]))
        scaled = [plane * sigmoid(a + b) for plane, a, b in zip(image, *parts)]
        height, width = image.shape[1:]
        expected = torch.empty_like(image)
        for row in range(height):
            for column in range(width):
                total = 0.0
                for i in range(7):
                    for j in range(7):
                        r, c = row + i - 3, column + j - 3
                        if 0 <= r < height and 0 <= c < width:
                            values = [float(plane[r, c]) for plane in scaled]
                            total += weight[0][i][j] * sum(values) / len(values) + weight[1][i][j] * max(values)
                for channel, plane in enumerate(scaled):
                    expected[channel, row, column] = plane[row, column] * sigmoid(total)
        torch.testing.assert_close(out, expected)


@torch.no_grad()
def test_eca() -> None:
    module, x = made(ECA, channels=64)
    weight = module.conv.weight.flatten().tolist()
    assert len(weight) == 3
    for image, out in zip(x, module(x)):
        pooled = [0.0, *means(image), 0.0]
        gates = [sigmoid(sum(w * pooled[c + k] for k, w in enumerate(weight))) for c in range(64)]
        torch.testing.assert_close(out, torch.stack([plane * gate for plane, gate in zip(image, gates)]))


@pytest.mark.parametrize('channels, size', [(8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_kernel_of_eca_follows_the_channels(channels: int, size: int) -> None:
    """(log2(C) + 1) / 2: 2 to 3, 3.5 to 3, 4 and 4.5 to 5, 5, 5.5 to 5, and 6 to 7."""
    assert ECA(channels).conv.kernel_size == (size,)


@torch.no_grad()
def test_non_local() -> None:
    module, x = made(NonLocal, channels=6)
    for image, out in zip(x, module(x)):
        positions = image.flatten(1).T.tolist()
        theta, phi, g = (
            [dense(part.weight, position, part.bias) for position in positions]
            for part in (module.theta, module.phi, module.g)
        )
        for index, position in enumerate(positions):
            powers = [math.exp(sum(a * b for a, b in zip(theta[index], key))) for key in phi]
            mixed = [sum(p * value[c] for p, value in zip(powers, g)) / sum(powers) for c in range(3)]
            expected = [a + b for a, b in zip(position, dense(module.out.weight, mixed, module.out.bias))]
            torch.testing.assert_close(out.flatten(1)[:, index], torch.tensor(expected, dtype=torch.float64))


def test_non_local_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(NonLocal(8)(x), x)


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_are_those_of_finite_differences(kind: type[Attention]) -> None:
    module, x = made(kind, channels=4)
    x = x[:, :, :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))


@pytest.mark.parametrize('kind', KINDS)
def test_low_precision_and_sizes(kind: type[Attention]) -> None:
    module, _ = made(kind)
    module = module.float()
    for shape in ((1, 24, 1, 1), (3, 24, 7, 2)):
        x = torch.randn(shape) * 0.3  # larger products, and rounding them moves the softmax of NonLocal
        expected = module(x)
        with torch.autocast('cpu', torch.bfloat16):
            rough = module(x)
        assert expected.shape == rough.shape == shape and expected.dtype == torch.float32
        torch.testing.assert_close(rough.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: SE(8, ratio=0), 'squeeze ratio must be at least 1, got 0'),
        (lambda: CBAM(8, kernel_size=4), 'CBAM: kernel_size must be odd and at least 1, got 4'),
        (lambda: ECA(8, kernel_size=2), 'ECA: kernel_size must be odd and at least 1, got 2'),
        (lambda: NonLocal(8, reduction=0), 'NonLocal: reduction must be at least 1, got 0'),
    ],
)
def test_refusals(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
