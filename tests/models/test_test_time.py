"""Views of test-time augmentation, against torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from mlcls.errors import ConfigError, TrainingError
from mlcls.models.test_time import TestTimeViews


def pictures(height: int = 33, width: int = 46, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def test_views_in_order_and_as_torchvision_makes_them() -> None:
    images = pictures()
    views = TestTimeViews(flip=True, scales=[0.8, 1.25], five_crops=0.75)
    found = dict(views.views(images))
    assert list(found)[:6] == [
        'the picture', 'mirrored', 'scaled by 0.8', 'scaled by 0.8, mirrored', 'scaled by 1.25',
        'scaled by 1.25, mirrored',
    ]  # fmt: skip
    assert len(found) == len(views) == 16
    assert found['the picture'] is images  # not even a copy
    assert torch.equal(found['mirrored'], tv.hflip(images))
    crops = dict(
        zip(['top left', 'top right', 'bottom left', 'bottom right', 'centre'], tv.five_crop(images, [25, 34]))
    )
    for name, crop in crops.items():
        assert torch.equal(found[f'{name} crop'], crop), name
        assert torch.equal(found[f'{name} crop, mirrored'], tv.hflip(crop)), name
    for scale, size in ((0.8, [26, 37]), (1.25, [41, 58])):
        reference = tv.resize(images.double(), size, antialias=True).round().clamp(0, 255)
        view = found[f'scaled by {scale}']
        assert view.dtype == torch.uint8 and view.shape[-2:] == tuple(size)
        assert (view.double() - reference).abs().max() <= 1  # float32 may round a half the other way
        assert (view.double() == reference).double().mean() > 0.999
        assert (view.int() - tv.resize(images, size, antialias=True).int()).abs().max() <= 1
        assert torch.equal(found[f'scaled by {scale}, mirrored'], tv.hflip(view))
    assert torch.equal(images, pictures())


@pytest.mark.parametrize('height, width', [(1, 1), (2, 7), (224, 224), (225, 223)])
@pytest.mark.parametrize('share', [0.001, 0.5, 0.875, 0.999])
def test_five_crops_of_any_size(height: int, width: int, share: float) -> None:
    images = pictures(height, width)
    size = [max(1, round(height * share)), max(1, round(width * share))]
    found = [view for name, view in TestTimeViews(flip=False, five_crops=share).views(images)][1:]
    for view, crop in zip(found, tv.five_crop(images, size), strict=True):
        assert torch.equal(view, crop)


def test_scales_that_leave_nothing_leave_a_pixel() -> None:
    (_, view) = list(TestTimeViews(flip=False, scales=[0.001]).views(pictures()))[1]
    assert view.shape == (2, 3, 1, 1)


def test_the_mean_is_that_of_probabilities() -> None:
    images = pictures()
    views = TestTimeViews(scales=[0.5], five_crops=0.5)

    def score(view: torch.Tensor) -> torch.Tensor:
        """Depends on the left half alone, so that mirrored views differ."""
        left = view[..., : view.shape[-1] // 2].float().mean(dim=(2, 3)) / 255
        return left.to(torch.bfloat16)

    expected = np.mean([score(view).double().numpy() for _, view in views.views(images)], axis=0)
    found = views.mean_scores(images, score)
    assert found.dtype == torch.float32 and found.shape == (2, 3)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize('value', [0.0, 1.0, 0.1])
@pytest.mark.parametrize('settings', [{}, {'scales': [0.5, 0.8]}, {'five_crops': 0.9, 'scales': [2.0]}])
def test_scores_stay_probabilities(value: float, settings: dict[str, Any]) -> None:
    found = TestTimeViews(**settings).mean_scores(pictures(), lambda view: torch.full((2, 1), value))
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    torch.testing.assert_close(found, torch.full((2, 1), value))


@pytest.mark.parametrize(
    'config, count', [(None, None), (False, None), (True, 2), ({}, 2), ({'flip': False, 'scales': (0.5,)}, 2)]
)
def test_from_a_config(config: Any, count: int | None) -> None:
    views = TestTimeViews.from_config(config)
    assert (views if views is None else len(views)) == count
    assert TestTimeViews.from_config(views) is views


@pytest.mark.parametrize(
    'config, words',
    [
        ({'flips': True}, "tta has no setting 'flips'; did you mean 'flip'"),
        ({'type': 'TestTimeViews'}, "tta has no setting 'type'; choose from five_crops, flip, scales"),
        ('flip', r"tta must be True, or a dict such as dict\(flip=True, scales=\[0.8, 1.25\]\), not 'flip'"),
        ({'flip': 1}, 'flip must be True or False, not 1'),
        ({'scales': 0.8}, r'scales must be a list of factors such as \[0.8, 1.25\], not 0.8'),
        ({'scales': 'ab'}, "scales must be a list of factors such as .* not 'ab'"),
        ({'scales': [0.8, 0]}, 'scales must be factors above 0, not 0'),
        ({'scales': [-1]}, 'scales must be factors above 0, not -1'),
        ({'scales': [float('nan')]}, 'scales must be factors above 0, not nan'),
        ({'scales': [float('inf')]}, 'scales must be factors above 0, not inf'),
        ({'scales': ['x']}, "scales must be factors above 0, not 'x'"),
        ({'scales': [True]}, 'scales must be factors above 0, not True'),
        ({'scales': [0.8, 1]}, 'the scale 1 is the picture itself'),
        ({'scales': [0.8, 0.8]}, r'a scale is given twice in \[0.8, 0.8\]'),
        ({'five_crops': 1}, r'share of height and width of each crop, in \(0, 1\), not 1'),
        ({'five_crops': True}, r'in \(0, 1\), not True'),
        ({'five_crops': 224}, r'in \(0, 1\), not 224'),
        ({'flip': False}, 'flip=False leaves the picture itself as the only view; give scales or five_crops'),
    ],
)
def test_what_cannot_be(config: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TestTimeViews.from_config(config)


@pytest.mark.parametrize('error', [RuntimeError, ValueError, AssertionError, IndexError])
def test_a_network_that_refuses_a_size(error: type[Exception]) -> None:
    def score(view: torch.Tensor) -> torch.Tensor:
        if view.shape[-2:] != (33, 46):
            raise error('expected 33 x 46.\nand a long story')
        return torch.zeros(2, 1)

    words = (
        r"tta: the network cannot score the view 'scaled by 0.5' of 23 x 16 pixels \(the pictures have 46 x 33\): "
        'expected 33 x 46; leave this view out'
    )
    with pytest.raises(ConfigError, match=words):
        TestTimeViews(scales=[0.5]).mean_scores(pictures(), score)
    with pytest.raises(ConfigError, match="the view 'top left crop' of"):
        TestTimeViews(five_crops=0.5).mean_scores(pictures(), score)


def test_other_errors_stay_what_they_are() -> None:
    def fail(error: Exception) -> Any:
        def score(view: torch.Tensor) -> torch.Tensor:
            raise error

        return score

    for error in (RuntimeError('at the picture itself'), TrainingError('ours'), torch.OutOfMemoryError('full')):
        with pytest.raises(type(error), match=str(error)):
            TestTimeViews(scales=[0.5]).mean_scores(pictures(), fail(error))


def test_views_in_words() -> None:
    assert TestTimeViews(flip=False, scales=[0.8]).describe() == 'mean score of 2 views: the picture, scaled by 0.8'
    assert TestTimeViews(five_crops=0.875).describe() == (
        'mean score of 12 views: the picture, five crops of 0.875 of height and width, each also mirrored'
    )
