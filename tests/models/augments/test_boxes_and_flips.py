"""Flips, Cutout and random erasing: what they do, how often, and to which images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlcls.errors import ConfigError
from mlcls.models.augments import BatchCutout, BatchRandomErasing, BatchRandomFlip, DeviceAugment

from .conftest import Pictures

AUGMENTS: list[DeviceAugment] = [
    BatchRandomFlip(0.8, ['horizontal', 'vertical', 'diagonal']),
    BatchCutout(3, prob=0.7),
    BatchCutout((0.5, 1.0), pad_val=(1, 2, 3)),
    BatchRandomErasing(0.9),
    BatchRandomErasing(0.9, mode='rand'),
    BatchRandomErasing(0.9, mode='rand', fill_std=30),
]


@pytest.mark.parametrize('direction, axes', [('horizontal', [2]), ('vertical', [1]), ('diagonal', [1, 2])])
def test_flips_equal_numpys(pictures: Pictures, direction: str, axes: list[int]) -> None:
    images = pictures()
    made = BatchRandomFlip(1.0, direction)(images.clone())
    for image, one in zip(images.numpy(), made.numpy()):
        np.testing.assert_array_equal(one, np.flip(image, axes))
    assert torch.equal(BatchRandomFlip(0.0, direction)(images.clone()), images)


def test_flips_are_drawn_for_each_image_with_their_shares() -> None:
    images = torch.zeros(6000, 3, 2, 2)
    images[:, :, 0, 0] = 1
    torch.manual_seed(0)
    made = BatchRandomFlip([0.1, 0.2, 0.3], ['horizontal', 'vertical', 'diagonal'])(images)[:, 0]
    shares = made.mean(dim=0).flatten().tolist()  # none, horizontal, vertical, diagonal
    np.testing.assert_allclose(shares, [0.4, 0.1, 0.2, 0.3], atol=0.03)


def changed(images: torch.Tensor) -> torch.Tensor:
    """Pixels that are no longer 7, bool (N, H, W)."""
    return (images != 7).any(dim=1)


def is_box(mask: np.ndarray) -> bool:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask.sum() == len(rows) * len(columns) and all(
        len(line) == 0 or line[-1] - line[0] + 1 == len(line) for line in (rows, columns)
    )


def test_cutout_is_a_box_that_is_cut_off_at_the_border() -> None:
    torch.manual_seed(0)
    made = BatchCutout((6, 4), pad_val=(10, 20, 30), prob=0.75)(torch.full((2000, 3, 20, 12), 7.0))
    masks = changed(made).numpy()
    areas = masks.sum((1, 2))
    assert all(map(is_box, masks)) and areas.max() == 24
    assert (areas > 0).mean() == pytest.approx(0.75, abs=0.05)
    # Its centre is anywhere, so the middle of the image is covered with probability 6/20 * 4/12.
    assert masks[:, 10, 6].mean() == pytest.approx(0.75 * 0.1, abs=0.025)
    # The corner is covered by the boxes around rows 0 to 3 and columns 0 to 2.
    assert masks[:, 0, 0].mean() == pytest.approx(0.75 * (4 / 20) * (3 / 12), abs=0.015)
    for channel, level in enumerate((10, 20, 30)):
        assert set(made[:, channel].unique().tolist()) == {7, level}


def test_cutout_of_a_share_of_the_image() -> None:
    torch.manual_seed(0)
    areas = changed(BatchCutout(0.5, prob=1.0)(torch.full((500, 3, 20, 12), 7.0))).sum((1, 2))
    assert areas.max() == 10 * 6 and areas.min() >= 5 * 3


def test_erased_areas_and_shapes() -> None:
    torch.manual_seed(0)
    images = torch.full((3000, 3, 64, 64), 7.0)
    made = BatchRandomErasing(0.6, 0.1, 0.2, (0.5, 2), fill_color=(1, 2, 3))(images)
    masks = changed(made).numpy()
    areas = masks.sum((1, 2)) / 64**2
    assert all(map(is_box, masks[:300])) and (areas > 0).mean() == pytest.approx(0.6, abs=0.05)
    drawn = areas[areas > 0]
    assert 0.09 < drawn.min() < 0.11 and 0.19 < drawn.max() < 0.21  # sides are whole pixels
    assert drawn.mean() == pytest.approx(0.15, abs=0.005)
    aspects = np.log((masks.any(2).sum(1) / np.maximum(masks.any(1).sum(1), 1))[areas > 0])
    assert abs(aspects.mean()) < 0.05 and np.abs(aspects).max() < np.log(2.2)
    assert aspects.std() == pytest.approx(2 * np.log(2) / 12**0.5, abs=0.03)  # even on the logarithmic scale


def test_what_does_not_fit_is_not_erased() -> None:
    torch.manual_seed(0)
    made = BatchRandomErasing(1.0, 0.9, 1.0, (3, 3))(torch.full((200, 3, 32, 32), 7.0))
    assert not changed(made).any()


def test_noise() -> None:
    torch.manual_seed(0)
    plain = BatchRandomErasing(1.0, 0.5, 0.5, (1, 1), mode='rand')(torch.full((50, 3, 64, 64), 7.0))
    noise = plain[plain != 7]
    assert noise.mean() == pytest.approx(127.5, abs=2) and noise.std() == pytest.approx(255 / 12**0.5, abs=2)
    settings = dict(mode='rand', fill_color=(90, 120, 150), fill_std=10)
    normal = BatchRandomErasing(1.0, 0.5, 0.5, (1, 1), **settings)(torch.full((50, 3, 64, 64), 7.0))
    for channel, mean in enumerate((90, 120, 150)):
        noise = normal[:, channel][normal[:, channel] != 7]
        assert noise.mean() == pytest.approx(mean, abs=1) and noise.std() == pytest.approx(10, abs=0.5)


@given(
    st.sampled_from(AUGMENTS), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 9)
)
def test_any_shape(augment: DeviceAugment, n: int, height: int, width: int, channels_last: bool, seed: int) -> None:
    torch.manual_seed(seed)
    images = (torch.rand(n, 3, height, width) * 255).round()
    given_images = images.to(memory_format=torch.channels_last) if channels_last else images
    strides = given_images.stride()
    torch.manual_seed(seed)
    made = augment(given_images.clone(memory_format=torch.preserve_format))
    assert made.shape == images.shape and made.stride() == strides and made.dtype == torch.float32
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 255
    torch.manual_seed(seed)
    again = augment(given_images.clone(memory_format=torch.preserve_format))
    assert torch.equal(made, again)


def test_images_differ_from_each_other(pictures: Pictures) -> None:
    for augment in AUGMENTS:
        torch.manual_seed(1)
        made = augment(pictures(1).expand(40, -1, -1, -1).clone())
        assert len(made.flatten(1).unique(dim=0)) >= 4


@pytest.mark.parametrize(
    'build, words',
    [
        (lambda: BatchRandomFlip(1.2), r'BatchRandomFlip: prob must be a number in \[0, 1\], got 1.2'),
        (lambda: BatchRandomFlip('often'), "prob must be a number in .*, got 'often'"),
        (lambda: BatchRandomFlip([0.6, 0.6], ['vertical', 'diagonal']), 'prob must sum to at most 1'),
        (lambda: BatchRandomFlip([0.5], ['vertical', 'horizontal']), '1 probabilities for 2 directions'),
        (lambda: BatchRandomFlip(0.5, 'sideways'), "BatchRandomFlip: unknown direction 'sideways'; choose from"),
        (lambda: BatchCutout(0), 'BatchCutout: shape must be one or two lengths'),
        (lambda: BatchCutout(1.5), 'shape must be'),
        (lambda: BatchCutout((4, 4, 4)), 'shape must be'),
        (lambda: BatchCutout(4, pad_val=(1, 2)), 'pad_val must be one or three numbers from 0 to 255'),
        (lambda: BatchCutout(4, prob=2), r'prob must be a number in \[0, 1\]'),
        (
            lambda: BatchRandomErasing(0.5, 0.4, 0.1),
            r'\(min_area_ratio, max_area_ratio\) must be \(smallest, largest\)',
        ),
        (lambda: BatchRandomErasing(aspect_range=-1), 'aspect_range must be a number above 0'),
        (lambda: BatchRandomErasing(mode='noise'), "unknown mode 'noise'; choose from const, rand"),
        (lambda: BatchRandomErasing(fill_std='x'), 'fill_std must be'),
    ],
)
def test_settings_that_cannot_work_are_refused(build, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()
