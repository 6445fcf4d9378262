"""Resizing and flipping, against mmcv and Pillow."""

from __future__ import annotations

import mmcv
import numpy as np
import pytest
from mmcv import transforms as theirs
from PIL import Image

from mlcls.datasets.transforms import RandomFlip, Resize, ResizeEdge
from mlcls.errors import ConfigError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    'arguments',
    [
        {'scale': 32},
        {'scale': (40, 20)},
        {'scale': [40, 20]},
        {'scale': (40, 20), 'keep_ratio': True},
        {'scale': (20, 40), 'keep_ratio': True},
        {'scale': 200, 'keep_ratio': True},
        {'scale_factor': 0.5},
        {'scale_factor': (0.5, 1.7)},
        {'scale_factor': 0.33, 'keep_ratio': True},
        {'scale': 32, 'scale_factor': 3.0},
        {'scale': 32, 'interpolation': 'nearest'},
        {'scale': 32, 'interpolation': 'bicubic'},
        {'scale': 32, 'interpolation': 'area'},
        {'scale': 32, 'interpolation': 'lanczos'},
        {'scale': 32, 'backend': 'pillow'},
        {'scale': 32, 'backend': 'pillow', 'interpolation': 'nearest'},
    ],
)
@pytest.mark.parametrize('turned', [False, True])
def test_resize_as_mmcv(picture, arguments, turned):
    image = np.ascontiguousarray(picture.transpose(1, 0, 2)) if turned else picture
    mmcv_arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    expected = theirs.Resize(**mmcv_arguments)({'img': image})
    sample = Resize(**arguments)({'img': image}, RNG)
    np.testing.assert_array_equal(sample['img'], expected['img'])
    assert sample['img_shape'] == expected['img_shape']
    assert sample['scale_factor'] == pytest.approx(expected['scale_factor'])


def test_resize_never_gives_an_empty_image():
    assert Resize(scale_factor=0.01)({'img': np.zeros((20, 300, 3), np.uint8)}, RNG)['img'].shape == (1, 3, 3)
    assert ResizeEdge(4, 'long')({'img': np.zeros((2, 900, 3), np.uint8)}, RNG)['img'].shape == (1, 4, 3)


@pytest.mark.parametrize(
    'edge, shape', [('short', (40, 60)), ('long', (26, 40)), ('width', (26, 40)), ('height', (40, 60))]
)
def test_resize_edge_wide(picture, edge, shape):
    sample = ResizeEdge(40, edge)({'img': picture}, RNG)
    assert sample['img'].shape == (*shape, 3) and sample['img_shape'] == shape
    np.testing.assert_array_equal(sample['img'], mmcv.imresize(picture, shape[::-1]))


@pytest.mark.parametrize(
    'edge, shape', [('short', (60, 40)), ('long', (40, 26)), ('width', (60, 40)), ('height', (40, 26))]
)
def test_resize_edge_tall(picture, edge, shape):
    assert ResizeEdge(40, edge)({'img': np.rot90(picture).copy()}, RNG)['img'].shape == (*shape, 3)


def test_resize_edge_with_pillow(picture):
    expected = np.array(Image.fromarray(picture).resize((60, 40), Image.Resampling.BICUBIC))
    sample = ResizeEdge(40, backend='pillow', interpolation='bicubic')({'img': picture}, RNG)
    np.testing.assert_array_equal(sample['img'], expected)


@pytest.mark.parametrize(
    'direction, flip',
    [('horizontal', np.fliplr), ('vertical', np.flipud), ('diagonal', lambda image: image[::-1, ::-1])],
)
def test_flip(picture, direction, flip):
    sample = RandomFlip(1.0, direction)({'img': picture}, RNG)
    np.testing.assert_array_equal(sample['img'], flip(picture))
    assert sample['flip'] is True and sample['flip_direction'] == direction
    sample = RandomFlip(0, direction)({'img': picture}, RNG)
    np.testing.assert_array_equal(sample['img'], picture)
    assert sample['flip'] is False and sample['flip_direction'] is None


@pytest.mark.parametrize(
    'prob, direction, expected',
    [
        (0.4, 'vertical', {'vertical': 0.4}),
        (0.6, ['horizontal', 'vertical'], {'horizontal': 0.3, 'vertical': 0.3}),
        ([0.3, 0.5], ['horizontal', 'vertical'], {'horizontal': 0.3, 'vertical': 0.5}),
        (1, ['horizontal', 'vertical', 'diagonal'], {'horizontal': 1 / 3, 'vertical': 1 / 3, 'diagonal': 1 / 3}),
    ],
)
def test_flip_probabilities(prob, direction, expected):
    flip, rng, image = RandomFlip(prob, direction), np.random.default_rng(0), np.zeros((2, 2, 3), np.uint8)
    drawn = [flip({'img': image}, rng)['flip_direction'] for _ in range(4000)]
    for name in ('horizontal', 'vertical', 'diagonal'):
        assert drawn.count(name) / 4000 == pytest.approx(expected.get(name, 0), abs=0.03)


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: Resize(), 'Resize needs scale or scale_factor'),
        (lambda: Resize(0), 'Resize: scale must be one or two positive whole numbers, got 0'),
        (lambda: Resize((3, 4, 5)), 'Resize: scale must be one or two positive whole numbers'),
        (lambda: Resize(2.5), 'Resize: scale must be one or two positive whole numbers'),
        (lambda: Resize(True), 'Resize: scale must be one or two positive whole numbers'),
        (lambda: Resize('224'), 'Resize: scale must be one or two positive whole numbers'),
        (lambda: Resize(scale_factor=-1), 'Resize: scale_factor must be two positive numbers'),
        (lambda: Resize(scale_factor=(1, 2, 3)), 'Resize: scale_factor must be two positive numbers'),
        (
            lambda: Resize(3, interpolation='bilinaer'),
            "Resize: unknown interpolation 'bilinaer'; did you mean 'bilinear'",
        ),
        (lambda: Resize(3, backend='cv'), "Resize: unknown backend 'cv'; did you mean 'cv2'"),
        (lambda: ResizeEdge(3, 'shortest'), "ResizeEdge: unknown edge 'shortest'; did you mean 'short'"),
        (lambda: ResizeEdge((3, 3)), 'ResizeEdge: scale must be a whole number of at least 1'),
        (lambda: RandomFlip(1.5), 'RandomFlip: prob must lie in'),
        (lambda: RandomFlip(-0.1), 'RandomFlip: prob must lie in'),
        (lambda: RandomFlip([0.6, 0.6], ['horizontal', 'vertical']), 'RandomFlip: prob must lie in'),
        (lambda: RandomFlip([0.6], ['horizontal', 'vertical']), 'RandomFlip: 1 probabilities for 2 directions'),
        (lambda: RandomFlip(0.5, 'horizontl'), "RandomFlip: unknown direction 'horizontl'; did you mean 'horizontal'"),
    ],
)
def test_arguments_that_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
