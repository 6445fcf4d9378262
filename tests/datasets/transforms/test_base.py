"""Transforms of others in our pipelines."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile as MmcvLoad

from mlcls.datasets.transforms import Adapter, Transform
from mlcls.errors import DataError
from tests.datasets.conftest import encode


def noisy(results: dict) -> dict:
    results['drawn'] = [np.random.rand(), random.random(), torch.rand(1).item()]
    return results


def test_all_global_generators_follow_the_key():
    draws = [Adapter(noisy)({}, np.random.default_rng(seed))['drawn'] for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2]))


def test_torch_is_put_back_for_the_model():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Adapter(noisy)({}, np.random.default_rng(0))
    assert torch.equal(torch.rand(3), expected)


def test_torch_is_put_back_after_an_error():
    torch.manual_seed(5)
    before = torch.default_generator.get_state()
    with pytest.raises(ZeroDivisionError):
        Adapter(lambda results: 1 / 0)({}, np.random.default_rng(0))
    assert torch.equal(torch.default_generator.get_state(), before)


def test_none_is_an_error():
    with pytest.raises(DataError, match='function returned None; images are never dropped silently'):
        Adapter(lambda results: None)({}, np.random.default_rng(0))


class TheirLoader(MmcvLoad):
    """Derived from mmcv's, as plug-ins do."""


@pytest.mark.parametrize('loader', [MmcvLoad, TheirLoader])
@pytest.mark.parametrize('options', [{}, {'imdecode_backend': 'pillow'}])
def test_mmcv_loader_gives_rgb(picture, write, loader, options):
    path = str(write('a.png', encode(picture, 'PNG')))
    image = Adapter(loader(**options))({'img_path': path}, np.random.default_rng(0))['img']
    np.testing.assert_array_equal(image, picture)
    assert image.flags.c_contiguous


def test_mmcv_loader_with_grey_and_alpha(picture, write):
    path = str(write('a.png', encode(picture[..., 0], 'PNG')))
    load = Adapter(MmcvLoad(color_type='grayscale'))
    image = load({'img_path': path}, np.random.default_rng(0))['img']
    np.testing.assert_array_equal(image, np.repeat(picture[..., :1], 3, axis=2))
    alpha = np.dstack([picture, np.full((60, 90), 9, np.uint8)])
    load = Adapter(MmcvLoad(color_type='unchanged'))
    path = str(write('b.png', encode(alpha, 'PNG')))
    np.testing.assert_array_equal(load({'img_path': path}, np.random.default_rng(0))['img'], picture)


def test_base_class_does_nothing_by_itself():
    with pytest.raises(TypeError, match='abstract'):
        Transform()


def test_repr():
    class Blur(Transform):
        def __init__(self) -> None:
            self.sigma, self._kernel = 2.0, None

        def __call__(self, sample, rng):
            return sample

    assert repr(Blur()) == 'Blur(sigma=2.0)'
    assert repr(Adapter(MmcvLoad())).startswith('LoadImageFromFile(')


def test_read_only_images_may_be_written_into(picture):
    """As they come from a pack; the pack stays as it is."""

    def darken(results):
        results['img'] //= 2
        return results

    given = picture.copy()
    given.flags.writeable = False
    result = Adapter(darken)({'img': given}, np.random.default_rng(0))['img']
    np.testing.assert_array_equal(result, picture // 2)
    np.testing.assert_array_equal(given, picture)
