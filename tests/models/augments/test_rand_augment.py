"""RandAugment: each operation at each magnitude against torchvision's class, and what is drawn.

Geometric operations are equal but for pixels whose source lies exactly between two (at most 1 % of them) with
``'nearest'``, and within 1 level (torchvision rounds to whole ones) with ``'bilinear'``. Bounds of the others: see
test_color.py.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import RandAugment as Reference
from torchvision.transforms.autoaugment import _apply_op

from mlcls.errors import ConfigError
from mlcls.models.augments import BatchRandAugment
from mlcls.models.augments.rand_augment import GEOMETRIC, OPERATIONS, amounts

from .conftest import Pictures


def test_the_operations_are_torchvisions() -> None:
    assert set(OPERATIONS) == set(Reference()._augmentation_space(31, (32, 32)))


@given(st.integers(0, 30), st.integers(1, 700), st.integers(1, 700))
def test_amounts_are_torchvisions(magnitude: int, height: int, width: int) -> None:
    space = Reference()._augmentation_space(31, (height, width))
    for name, amount in amounts(magnitude / 30, height, width).items():
        expected = space[name][0][magnitude].item()
        assert amount == pytest.approx(int(expected) if name.startswith('Translate') else expected, abs=1e-4), name


@pytest.mark.parametrize('interpolation', ['nearest', 'bilinear'])
@pytest.mark.parametrize('magnitude', [0, 4, 9, 30])
@pytest.mark.parametrize('name', OPERATIONS)
def test_each_operation_equals_torchvision(pictures: Pictures, name: str, magnitude: int, interpolation: str) -> None:
    images, signs = pictures(), torch.tensor([-1, 1, 1, -1])
    augment = BatchRandAugment(magnitude=magnitude, interpolation=interpolation)
    made = augment.apply(images.clone(), torch.full((4,), OPERATIONS.index(name)), signs)
    values, signed = Reference()._augmentation_space(31, (19, 26))[name]
    strength = values[magnitude].item() if values.ndim else 0.0
    expected = torch.stack(
        [
            _apply_op(image, name, strength * (int(sign) if signed else 1), InterpolationMode(interpolation), None)
            for image, sign in zip(images.byte(), signs)
        ]
    ).float()
    difference = (made - expected).abs()
    if name in GEOMETRIC and interpolation == 'nearest':
        assert (difference > 0).float().mean() <= 0.01
    else:
        assert difference.max() <= (1.001 if name in GEOMETRIC else 1.95)


def test_fill_is_seen_where_the_image_has_left() -> None:
    images = torch.full((2, 3, 331, 331), 50.0)
    augment = BatchRandAugment(magnitude=30, fill=(10, 20, 30))
    made = augment.apply(images, torch.full((2,), OPERATIONS.index('TranslateX')), torch.tensor([1, -1]))
    assert made[0, :, 5, :150].unique(dim=1).flatten().tolist() == [10, 20, 30]
    assert (made[0, :, :, 150:] == 50).all() and (made[1, :, :, :181] == 50).all()
    assert made[1, :, 5, 181:].unique(dim=1).flatten().tolist() == [10, 20, 30]


def test_magnitude_zero_leaves_what_has_a_magnitude(pictures: Pictures) -> None:
    images = pictures()
    for name in (*GEOMETRIC, 'Brightness', 'Color', 'Contrast', 'Sharpness', 'Posterize', 'Identity'):
        operations = torch.full((4,), OPERATIONS.index(name))
        made = BatchRandAugment(magnitude=0).apply(images.clone(), operations, torch.tensor([1, -1, 1, -1]))
        assert torch.equal(made, images), name
    assert torch.equal(BatchRandAugment(num_ops=0)(images.clone()), images)


def test_a_batch_is_what_its_images_are_alone(pictures: Pictures) -> None:
    images, signs = pictures(28), torch.ones(28, dtype=torch.int64)
    signs[::3] = -1
    operations = torch.arange(28) % 14
    augment = BatchRandAugment(magnitude=12, interpolation='bilinear')
    together = augment.apply(images.clone(), operations, signs)
    for row in range(28):
        part = slice(row, row + 1)
        alone = augment.apply(images[part].clone(), operations[part], signs[part])
        torch.testing.assert_close(together[part], alone, rtol=0, atol=1e-3)


def test_every_operation_and_sign_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(BatchRandAugment, 'apply', lambda self, images, ops, signs: seen.append((ops, signs)))
    torch.manual_seed(0)
    BatchRandAugment(num_ops=3)(torch.zeros(4000, 3, 1, 1))
    assert len(seen) == 3 and not torch.equal(seen[0][0], seen[1][0])
    counts = torch.bincount(seen[0][0], minlength=14)
    assert len(counts) == 14 and (counts - 4000 / 14).abs().max() < 80  # five standard deviations
    assert abs(seen[0][1].float().mean()) < 0.08 and seen[0][1].abs().eq(1).all()


@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.booleans(), st.integers(0, 30))
def test_any_shape(n: int, height: int, width: int, channels_last: bool, seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.rand(n, 3, height, width) * 255
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    strides = images.stride()
    made = BatchRandAugment(num_ops=4, magnitude=20)(images)
    assert made.shape == (n, 3, height, width) and made.stride() == strides and made.dtype == torch.float32
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 255


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(magnitude=31), r'BatchRandAugment: magnitude must be a number in \[0, 30\], got 31'),
        (dict(num_ops=-1), 'num_ops must be a whole number of at least 0'),
        (dict(num_magnitude_bins=1), 'num_magnitude_bins must be a whole number of at least 2'),
        (dict(interpolation='bilinaer'), "unknown interpolation 'bilinaer'; did you mean 'bilinear'?"),
        (dict(fill=300), 'fill must be one or three numbers from 0 to 255'),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace('?', r'\?')):
        BatchRandAugment(**settings)
