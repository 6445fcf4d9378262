"""Colour, against torchvision's functions on uint8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from mlcls.datasets.transforms import ColorJitter
from mlcls.datasets.transforms.color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation
from mlcls.errors import ConfigError

PAIRS = {
    'brightness': (adjust_brightness, F.adjust_brightness),
    'contrast': (adjust_contrast, F.adjust_contrast),
    'saturation': (adjust_saturation, F.adjust_saturation),
    'hue': (adjust_hue, F.adjust_hue),
}


def images(picture: np.ndarray) -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    grey = np.repeat(noise[..., :1], 3, axis=2)
    return [picture, noise, grey, np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 255, np.uint8)]


def torchvision(function, image: np.ndarray, amount: float) -> np.ndarray:
    return function(torch.from_numpy(image).permute(2, 0, 1), amount).permute(1, 2, 0).numpy()


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('amount', [0.0, 0.1, 0.5, 0.93, 1.0, 1.4, 2.0])
def test_adjustments(picture, name, amount):
    ours, theirs = PAIRS[name]
    amount = amount / 2 - 0.5 if name == 'hue' else amount
    for image in images(picture):
        result = ours(image, amount)
        assert result.dtype == np.uint8 and result.shape == image.shape
        assert np.abs(result.astype(int) - torchvision(theirs, image, amount)).max() <= 2


@pytest.mark.parametrize('factor', [0.3, 0.77, 1.31])
def test_results_are_rounded_not_cut_off(picture, factor):
    exact = np.clip(picture * factor, 0, 255)
    assert np.abs(adjust_brightness(picture, factor) - exact).max() <= 0.5 + 1e-6
    grey = picture @ np.array([0.299, 0.587, 0.114])
    exact = np.clip(picture * factor + (1 - factor) * grey[..., None], 0, 255)
    assert np.abs(adjust_saturation(picture, factor) - exact).max() <= 0.75  # cv2 computes with 10 bits


@pytest.mark.parametrize('name', PAIRS)
def test_nothing_to_do_changes_nothing(picture, name):
    for image in images(picture):
        np.testing.assert_array_equal(PAIRS[name][0](image, 0.0 if name == 'hue' else 1.0), image)


def test_jitter_is_a_chain_of_adjustments_in_drawn_order(picture):
    jitter = ColorJitter(0.4, (0.5, 1.2), 0.3, 0.2)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        order = rng.permutation(4)
        amounts = [rng.uniform(*limits) for limits in ((0.6, 1.4), (0.5, 1.2), (0.7, 1.3), (-0.2, 0.2))]
        expected = picture
        for number in order:
            expected = torchvision(list(PAIRS.values())[number][1], expected, amounts[number])
        result = jitter({'img': picture}, np.random.default_rng(seed))['img']
        # Each of the four steps may differ by 2, and the following ones may widen that.
        assert np.abs(result.astype(int) - expected).mean() < 2
        assert np.abs(result.astype(int) - expected).max() <= 8


def test_jitter_of_nothing(picture):
    for jitter in (ColorJitter(), ColorJitter((1, 1), hue=(0, 0))):
        np.testing.assert_array_equal(jitter({'img': picture}, np.random.default_rng(0))['img'], picture)


def test_ranges():
    jitter = ColorJitter(1.5, 0.25, (0.5, 2), 0.5)
    assert (jitter.brightness, jitter.contrast) == ((0, 2.5), (0.75, 1.25))
    assert (jitter.saturation, jitter.hue) == ((0.5, 2), (-0.5, 0.5))


def test_the_input_is_left_alone(picture):
    before = picture.copy()
    ColorJitter(0.4, 0.4, 0.4, 0.1)({'img': picture}, np.random.default_rng(0))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'brightness': -0.1}, 'ColorJitter: brightness must be a number from 0 to inf, got -0.1'),
        ({'hue': 0.6}, 'ColorJitter: hue must be a number from 0 to 0.5, got 0.6'),
        ({'hue': (-0.6, 0)}, r'ColorJitter: hue must be \(smallest, largest\) within'),
        ({'contrast': (1.2, 0.5)}, r'ColorJitter: contrast must be \(smallest, largest\) within'),
        ({'saturation': (1, 2, 3)}, r'ColorJitter: saturation must be \(smallest, largest\)'),
        ({'saturation': (-1, 2)}, r'ColorJitter: saturation must be \(smallest, largest\)'),
        ({'saturation': 'strong'}, r'ColorJitter: saturation must be'),
        ({'backend': 'torch'}, "ColorJitter: unknown backend 'torch'"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ColorJitter(**arguments)
