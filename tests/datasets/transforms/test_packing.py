"""Packing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlcls.datasets.transforms import PackInputs
from mlcls.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def sample(image: object) -> dict:
    return {'img': image, 'targets': np.array([1, 0, -1], np.int8), 'index': np.int64(7), 'img_path': 'a.jpg'}


@pytest.mark.parametrize(
    'view',
    [
        lambda image: image,
        lambda image: image[5:20, 7:30],
        lambda image: image[::-1, ::-1],
        lambda image: image.transpose(1, 0, 2),
        lambda image: image[..., ::-1],
    ],
)
def test_pack(picture, view):
    image = view(picture)
    packed = PackInputs()(sample(image), RNG)
    assert set(packed) == {'inputs', 'targets', 'index'}
    assert packed['inputs'].dtype == torch.uint8 and packed['inputs'].permute(1, 2, 0).is_contiguous()
    assert not np.shares_memory(packed['inputs'].numpy(), picture)
    np.testing.assert_array_equal(packed['inputs'].numpy(), image.transpose(2, 0, 1))
    assert packed['targets'].tolist() == [1, 0, -1] and packed['targets'].dtype == torch.int8
    assert type(packed['index']) is int and packed['index'] == 7


def test_soft_targets_stay(picture):
    given = {**sample(picture), 'targets': np.array([0.5, 1.0], np.float32)}
    assert PackInputs()(given, RNG)['targets'].dtype == torch.float32


def test_another_key_and_ignored_keys(picture):
    pack = PackInputs(input_key='view', meta_keys=('img_path', 'ori_shape'))
    assert pack({**sample(None), 'view': picture}, RNG)['inputs'].shape == (3, 60, 90)


@pytest.mark.parametrize(
    'image, message',
    [
        (np.zeros((4, 4, 3), np.float32), r'images must be uint8 \(H, W, 3\), got float32 \(4, 4, 3\); normalisation'),
        (np.zeros((4, 4), np.uint8), r'got uint8 \(4, 4\)'),
        (np.zeros((4, 4, 4), np.uint8), r'got uint8 \(4, 4, 4\)'),
        (torch.zeros(3, 4, 4), 'got Tensor'),
    ],
)
def test_images_that_cannot_be_packed(image, message):
    with pytest.raises(DataError, match=message):
        PackInputs()(sample(image), RNG)


def test_no_image():
    with pytest.raises(DataError, match="has no 'img'; the pipeline must begin with LoadImageFromFile"):
        PackInputs()({'targets': None, 'index': 0}, RNG)


def test_algorithm_keys():
    with pytest.raises(ConfigError, match='algorithm_keys is not supported'):
        PackInputs(algorithm_keys=('mask',))


def test_into_the_place_in_a_batch(picture):
    for image in (picture, picture[::-1], picture.transpose(1, 0, 2)):
        place = np.zeros(image.shape, np.uint8)
        given = sample(image)
        packed = PackInputs()({**given, 'out': place}, RNG)
        assert packed['inputs'] is place and packed['targets'] is given['targets'] and packed['index'] == 7
        np.testing.assert_array_equal(place, image)


def test_what_lies_in_the_place_turned_round(picture):
    place = picture[:60, :60].copy()
    packed = PackInputs()({**sample(place.transpose(1, 0, 2)), 'out': place}, RNG)
    assert packed['inputs'] is place
    np.testing.assert_array_equal(place, picture[:60, :60].transpose(1, 0, 2))


def test_a_place_of_another_size_stays_empty(picture):
    place = np.zeros((60, 91, 3), np.uint8)
    packed = PackInputs()({**sample(picture), 'out': place}, RNG)
    assert isinstance(packed['inputs'], torch.Tensor) and not place.any()


def test_read_only_images(picture):
    picture = picture.copy()
    picture.flags.writeable = False
    packed = PackInputs()(sample(picture), RNG)
    packed['inputs'].zero_()
    assert picture.any()
