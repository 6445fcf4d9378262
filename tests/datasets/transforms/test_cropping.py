"""Cropping, against torchvision and mmcv."""

from __future__ import annotations

import math

import mmcv
import numpy as np
import pytest
import torch
from mmcv import transforms as theirs
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop

from mlcls.datasets.transforms import CenterCrop, EfficientNetCenterCrop, RandomResizedCrop
from mlcls.errors import ConfigError

RNG = np.random.default_rng(0)


class Scripted:
    """A generator that gives prepared numbers."""

    def __init__(self, shares: list[float]) -> None:
        self.shares = iter(shares)

    def random(self) -> float:
        return next(self.shares)

    def uniform(self, low: float, high: float) -> float:
        return low + next(self.shares) * (high - low)

    def integers(self, high: int) -> int:
        return int(next(self.shares) * high)


@pytest.mark.parametrize(
    'shares', [[0.5, 0.5, 0.3, 0.9], [1.0, 0.0, *[0.9, 1.0] * 9], [0.99, 0.01, 0.1, 0.45, 0.6, 0.7]]
)
@pytest.mark.parametrize('size', [(60, 90), (90, 60), (375, 500)])
def test_the_same_numbers_give_the_crop_of_torchvision(monkeypatch, shares, size):
    shares = [*shares, *np.random.default_rng(1).random(40).tolist()]
    script = Scripted(shares)
    monkeypatch.setattr(
        torch,
        'empty',
        lambda n: type(
            'Drawn',
            (),
            {
                'uniform_': lambda self, low, high: torch.tensor(
                    [script.uniform(float(low), float(high))], dtype=torch.float64
                )
            },
        )(),
    )
    monkeypatch.setattr(torch, 'randint', lambda low, high, size: torch.tensor([script.integers(high)]))
    image = torch.zeros(3, 1, 1).expand(3, *size)
    expected = TorchvisionCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
    monkeypatch.undo()
    assert RandomResizedCrop(32).draw(*size, Scripted(shares)) == expected


@pytest.mark.parametrize('ranges', [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.5, 0.9), (0.5, 3.0))])
def test_distribution_of_torchvision(ranges):
    torch.manual_seed(0)
    image, rng = torch.zeros(3, 60, 90), np.random.default_rng(0)
    crop = RandomResizedCrop(32, *ranges)
    ours = np.array([crop.draw(60, 90, rng) for _ in range(3000)])
    expected = np.array([TorchvisionCrop.get_params(image, list(ranges[0]), list(ranges[1])) for _ in range(3000)])
    for column in range(4):
        assert ks_2samp(ours[:, column], expected[:, column]).pvalue > 0.001
    assert (ours[:, 0] + ours[:, 2]).max() <= 60 and (ours[:, 1] + ours[:, 3]).max() <= 90
    assert ours.min(axis=0)[:2].min() == 0


@pytest.mark.parametrize(
    'height, width, ratios',
    [
        (10, 300, (3 / 4, 4 / 3)),
        (300, 10, (3 / 4, 4 / 3)),
        (50, 60, (3 / 4, 4 / 3)),
        (1, 500, (0.5, 0.6)),
        (500, 2, (2, 3)),
    ],
)
def test_fallback(height, width, ratios):
    """With no attempts, or a share that never fits, the largest central crop of an allowed shape."""
    expected = TorchvisionCrop.get_params(torch.zeros(3, 1, 1).expand(3, height, width), [4.0, 4.0], list(ratios))
    assert RandomResizedCrop(8, aspect_ratio_range=ratios, max_attempts=0).draw(height, width, RNG) == expected
    assert RandomResizedCrop(8, (4.0, 4.0), ratios).draw(height, width, RNG) == expected


def test_crop_and_resize(picture):
    crop = RandomResizedCrop((20, 40))
    sample = crop({'img': picture}, np.random.default_rng(3))
    top, left, height, width = crop.draw(60, 90, np.random.default_rng(3))
    expected = mmcv.imresize(picture[top : top + height, left : left + width], (40, 20))
    np.testing.assert_array_equal(sample['img'], expected)
    assert sample['img_shape'] == (20, 40)


@pytest.mark.parametrize('side', [1, 2, 3])
def test_tiny_images(side):
    image = np.zeros((side, 1, 3), np.uint8)
    for seed in range(20):
        assert RandomResizedCrop(8)({'img': image}, np.random.default_rng(seed))['img'].shape == (8, 8, 3)


@pytest.mark.parametrize(
    'arguments',
    [
        {'crop_size': 32},
        {'crop_size': (40, 20)},
        {'crop_size': (31, 57)},
        {'crop_size': 500},
        {'crop_size': (500, 20)},
        {'crop_size': 75, 'auto_pad': True},
        {'crop_size': (300, 200), 'auto_pad': True},
        {'crop_size': 100, 'auto_pad': True, 'pad_cfg': {'type': 'Pad', 'pad_val': {'img': (1, 2, 3)}}},
    ],
)
def test_center_crop_as_mmcv(picture, arguments):
    expected = theirs.CenterCrop(**arguments)({'img': picture})['img']
    sample = CenterCrop(**arguments)({'img': picture}, RNG)
    np.testing.assert_array_equal(sample['img'], expected)
    assert sample['img_shape'] == expected.shape[:2]


@pytest.mark.parametrize('height, width', [(60, 90), (91, 61), (33, 33), (7, 200)])
def test_efficientnet_center_crop(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = 24 / (24 + 8) * min(height, width)
    top, left = max(0, round((height - side) / 2)), max(0, round((width - side) / 2))
    expected = mmcv.imresize(
        mmcv.imcrop(image, np.array([left, top, left + side - 1, top + side - 1])), (24, 24), interpolation='bicubic'
    )
    sample = EfficientNetCenterCrop(24, 8)({'img': image}, RNG)
    np.testing.assert_array_equal(sample['img'], expected)


def test_area_and_ratio_are_drawn_as_said():
    """The share of the area is uniform, the aspect ratio is uniform in its logarithm, where nothing is rejected."""
    crop, rng = RandomResizedCrop(8, (0.2, 0.3), (0.8, 1.25)), np.random.default_rng(0)
    drawn = np.array([crop.draw(1000, 1000, rng) for _ in range(4000)])
    shares, ratios = drawn[:, 2] * drawn[:, 3] / 1e6, np.log(drawn[:, 3] / drawn[:, 2])
    assert ks_2samp(shares, np.linspace(0.2, 0.3, 4000)).pvalue > 0.001
    assert ks_2samp(ratios, np.linspace(math.log(0.8), math.log(1.25), 4000)).pvalue > 0.001


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: RandomResizedCrop(0), 'RandomResizedCrop: scale must be one or two positive whole numbers'),
        (
            lambda: RandomResizedCrop(8, (0.9, 0.1)),
            r'RandomResizedCrop: crop_ratio_range must be \(smallest, largest\)',
        ),
        (lambda: RandomResizedCrop(8, 0.5), 'RandomResizedCrop: crop_ratio_range must be two positive numbers'),
        (lambda: RandomResizedCrop(8, aspect_ratio_range=(0, 1)), 'aspect_ratio_range must be two positive numbers'),
        (lambda: RandomResizedCrop(8, max_attempts=-1), 'max_attempts must be a whole number of at least 0'),
        (lambda: RandomResizedCrop(8, interpolation='x'), "RandomResizedCrop: unknown interpolation 'x'"),
        (lambda: CenterCrop((1, 2, 3)), 'CenterCrop: crop_size must be one or two positive whole numbers'),
        (lambda: CenterCrop(8, True, {'type': 'Pad', 'padding_mode': 'edge'}), "pad_cfg may set 'pad_val' alone"),
        (lambda: EfficientNetCenterCrop(8, -1), 'crop_padding must be a whole number of at least 0'),
        (lambda: EfficientNetCenterCrop((8, 8)), 'crop_size must be a whole number of at least 1'),
    ],
)
def test_arguments_that_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
