"""Colour operations against torchvision's, image by image, and what must hold of any.

Bounds: .05 of 255 levels against torchvision's arithmetic in float (its weights of grey have four digits, ours three);
1.95 against its arithmetic in uint8, which cuts off the fractions of the grey (times at most .9) and of the result;
operations on whole levels are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from mlcls.errors import ConfigError
from mlcls.models.augments import BatchColorJitter, color

from .conftest import Pictures

Op = Callable[..., torch.Tensor]
#: (ours, torchvision's, amounts)
AMOUNTS: list[tuple[Op, Op, list[float]]] = [
    (color.adjust_brightness, reference.adjust_brightness, [0.0, 0.37, 1.0, 1.9]),
    (color.adjust_contrast, reference.adjust_contrast, [0.0, 0.37, 1.0, 1.9]),
    (color.adjust_saturation, reference.adjust_saturation, [0.0, 0.37, 1.0, 1.9]),
    (color.adjust_sharpness, reference.adjust_sharpness, [0.0, 0.37, 1.0, 1.9]),
    (color.adjust_hue, reference.adjust_hue, [-0.5, -0.21, 0.0, 0.1, 0.5]),
]
WHOLE: list[tuple[Op, Op, list[int]]] = [
    (color.posterize, reference.posterize, list(range(9))),
    (color.solarize, reference.solarize, [0, 1, 97, 255]),
    (lambda images, _: color.equalize(images), lambda image, _: reference.equalize(image), [0]),
]


def four(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), float(value))


def each(op: Op, images: torch.Tensor, amount: float) -> torch.Tensor:
    return torch.stack([op(image, amount) for image in images])


@pytest.mark.parametrize('ours, theirs, amounts', AMOUNTS, ids=lambda value: getattr(value, '__name__', ''))
def test_amounts_equal_torchvision(pictures: Pictures, ours: Op, theirs: Op, amounts: list[float]) -> None:
    for amount in amounts:
        images = pictures()
        made = ours(images.clone(), four(amount))
        torch.testing.assert_close(made, each(theirs, images / 255, amount) * 255, rtol=0, atol=0.05)
        in_bytes = each(theirs, images.byte(), amount).float()
        torch.testing.assert_close(made, in_bytes, rtol=0, atol=1.95)


@pytest.mark.parametrize('ours, theirs, amounts', WHOLE)
def test_whole_levels_equal_torchvision(pictures: Pictures, ours: Op, theirs: Op, amounts: list[int]) -> None:
    images = torch.cat([pictures(), torch.full((1, 3, 19, 26), 77.0), pictures(2, seed=3) // 90 * 90])
    for amount in amounts:
        made = ours(images.clone(), four(amount))
        torch.testing.assert_close(made, each(theirs, images.byte(), amount).float(), rtol=0, atol=0)


def test_autocontrast_equals_torchvision(pictures: Pictures) -> None:
    images = torch.cat([pictures() * 0.5 + 30, torch.full((1, 3, 19, 26), 77.0)])
    images[0, 1] = 9  # one flat channel
    made = color.autocontrast(images.clone())
    torch.testing.assert_close(made, each(lambda image, _: reference.autocontrast(image), images / 255, 0) * 255)
    assert torch.equal(made[-1], images[-1]) and torch.equal(made[0, 1], images[0, 1])


@pytest.mark.parametrize('op', [row[0] for row in AMOUNTS[:4]])
def test_factor_one_changes_nothing_at_all(pictures: Pictures, op: Op) -> None:
    images = pictures() + 0.3
    images.clamp_(0, 255)
    assert torch.equal(op(images.clone(), four(1)), images)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_images_do_not_see_each_other(n: int, height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    images, factors = torch.rand(n, 3, height, width) * 255, torch.rand(n, 1, 1, 1) * 2
    ops: list[Op] = [row[0] for row in AMOUNTS]
    ops += [lambda images, _: color.equalize(images), lambda images, _: color.autocontrast(images), color.solarize]
    for op in ops:
        together = op(images.clone(), factors)
        assert together.shape == images.shape and together.min() >= -1e-3 and together.max() <= 255 + 1e-3
        for row in range(n):
            alone = op(images[row : row + 1].clone(), factors[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-3)


def test_jitter_of_nothing_is_the_image(pictures: Pictures) -> None:
    images = pictures()
    assert torch.equal(BatchColorJitter()(images.clone()), images)
    assert torch.equal(BatchColorJitter(brightness=(1, 1), hue=(0, 0))(images.clone()), images)


def test_jitter_draws_within_its_range_and_anew_for_each_image() -> None:
    torch.manual_seed(0)
    made = BatchColorJitter(brightness=0.4)(torch.full((2000, 3, 1, 1), 100.0))[:, 0, 0, 0] / 100
    assert 0.6 <= made.min() < 0.61 and 1.39 < made.max() <= 1.4
    assert made.unique().numel() > 1900 and abs(made.mean() - 1) < 0.02
    assert (BatchColorJitter(brightness=3)(torch.full((500, 3, 1, 1), 10.0)) >= 0).all()  # a factor is never negative


def test_jitter_uses_any_order() -> None:
    grey = torch.full((1, 3, 2, 2), 200.0)
    grey[:, :, 0] = 100
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        seen.add(tuple(BatchColorJitter(brightness=(2, 2), contrast=(0.5, 0.5))(grey.clone())[0, 0, :, 0].tolist()))
    # Bright first: (200, 255) then towards their mean; contrast first: (125, 175) then doubled.
    assert seen == {(213.75, 241.25), (250.0, 255.0)}


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(brightness=-1), 'BatchColorJitter: brightness must be a number at least 0, got -1'),
        (dict(hue=0.6), r'hue must be a number in \[0, 0.5\], got 0.6'),
        (dict(hue=(-0.6, 0)), r'hue must be \(smallest, largest\), within \[-0.5, 0.5\]'),
        (dict(contrast=(2, 1)), r'contrast must be \(smallest, largest\), at least 0, got \(2, 1\)'),
        (dict(saturation='much'), 'saturation must be'),
        (dict(saturation=float('nan')), 'saturation must be'),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BatchColorJitter(**settings)


def test_jitter_keeps_the_memory_format(pictures: Pictures) -> None:
    images = pictures().to(memory_format=torch.channels_last)
    made = BatchColorJitter(0.4, 0.4, 0.4, 0.1)(images.clone(memory_format=torch.preserve_format))
    assert made.stride() == images.stride()
    apply = partial(BatchColorJitter(0.4, 0.4, 0.4, 0.1))
    torch.manual_seed(1)
    plain = apply(pictures())
    torch.manual_seed(1)
    torch.testing.assert_close(apply(images.clone(memory_format=torch.preserve_format)), plain, rtol=0, atol=1e-3)
