"""Building pipelines from configs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from mmengine import registry as root
from mmengine.config import ConfigDict

from mlcls.datasets.transforms import Adapter, Compose, Resize, Transform, build_pipeline, build_transform
from mlcls.errors import ConfigError, DataError
from mlcls.registry import TRANSFORMS
from tests.datasets.conftest import encode


def sample(path: object = 'a.jpg') -> dict:
    return {'img_path': str(path), 'targets': np.zeros(2, np.int8), 'index': 0}


def run(pipeline: list, given: dict, seed: int = 0) -> dict:
    return build_pipeline(pipeline)(given, np.random.default_rng(seed))


@TRANSFORMS.register_module(name='TestInvert')
class Invert(Transform):
    def __call__(self, sample, rng):
        sample['img'] = 255 - sample['img']
        return sample


@root.TRANSFORMS.register_module(name='TestNoise')
class Noise:
    """Of mmengine's kind, with global randomness."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, results):
        results['img'] = results['img'] + np.random.randint(0, self.strength, results['img'].shape).astype(np.uint8)
        return results


class Failing:
    def __call__(self, results):
        raise RuntimeError('it is broken')


def test_ours_by_name_scope_class_and_instance(picture):
    for step in (
        dict(type='Resize', scale=8),
        dict(type='mlcls.Resize', scale=8),
        dict(type=Resize, scale=8),
        Resize(8),
        ConfigDict(type='Resize', scale=8),
        dict(type='mlcls.datasets.transforms.Resize', scale=8),
    ):
        assert type(build_transform(step)) is Resize
        assert run([step], {**sample(), 'img': picture})['img'].shape == (8, 8, 3)


def test_plug_ins(picture):
    assert run([dict(type='TestInvert')], {**sample(), 'img': picture})['img'][0, 0, 0] == 255 - picture[0, 0, 0]
    pipeline = [dict(type='TestNoise', strength=9)]
    first, again, other = (run(pipeline, {**sample(), 'img': picture}, seed)['img'] for seed in (0, 0, 1))
    assert (first == again).all() and not (first == other).all()


def test_mmcv_by_name_in_a_whole_pipeline(picture, write):
    path = write('a.png', encode(picture, 'PNG'))
    for load, pad in (
        ('LoadImageFromFile', 'Pad'),
        ('mmcv.LoadImageFromFile', 'mmcv.Pad'),
        ('mmengine.LoadImageFromFile', 'mmengine.Pad'),
    ):
        packed = run([dict(type=load), dict(type=pad, size=(100, 80)), dict(type='PackInputs')], sample(path))
        assert packed['inputs'].shape == (3, 80, 100)
        np.testing.assert_array_equal(packed['inputs'][:, :60, :90].numpy(), picture.transpose(2, 0, 1))


def test_names_that_both_have_are_ours_unless_scoped():
    assert not isinstance(build_transform(dict(type='Resize', scale=8)), Adapter)
    assert type(build_transform(dict(type='mmcv.Resize', scale=8)).transform).__module__ == 'mmcv.transforms.processing'


def test_random_mmcv_transforms_follow_the_key(picture):
    pipeline = [dict(type='mmcv.RandomFlip', prob=0.5), dict(type='RandomGrayscale', prob=0.5)]
    results = [run(pipeline, {**sample(), 'img': picture.copy()}, seed)['img'] for seed in [*range(12), *range(12)]]
    assert all((a == b).all() for a, b in zip(results[:12], results[12:]))
    assert len({result.tobytes() for result in results}) > 2


@pytest.mark.parametrize(
    'pipeline, message',
    [
        ([dict(type='Resise', scale=8)], r"pipeline\[0\]: no transform is called 'Resise'; did you mean 'Resize'"),
        (
            [dict(type='PackInputs'), dict(type='mmcv.Padd')],
            r"pipeline\[1\]: no transform is called 'mmcv.Padd'; did you",
        ),
        ([dict(type='mmpretrain.RandomFlip', prob=1)], "no transform is called 'mmpretrain.RandomFlip'; did you mean"),
        ([dict(type='nowhere.at.all.Thing')], "no transform is called 'nowhere.at.all.Thing'"),
        ([dict(type='mlcls.Pad', size=(8, 8))], "no transform is called 'mlcls.Pad'"),
        ([dict(scale=8)], r"pipeline\[0\]: a transform needs a 'type', got {'scale': 8}"),
        ([Resize], 'a transform must be a dict with a type, or a transform, got <class'),
        (['Resize'], "a transform must be a dict with a type, or a transform, got 'Resize'"),
        ([dict(type='Resize', scael=8)], r"pipeline\[0\]: Resize has no argument 'scael'; did you mean 'scale'"),
        ([dict(type='RandomResizedCrop')], "RandomResizedCrop needs the argument 'scale'"),
        ([dict(type='Resize', scale=-8)], r'pipeline\[0\]: Resize: scale must be'),
        ([dict(type='mmcv.Pad')], r'pipeline\[0\]: Pad: '),
        (dict(type='Resize', scale=8), 'a pipeline must be a list of transforms'),
        ('Resize', 'a pipeline must be a list of transforms'),
        (None, 'a pipeline must be a list of transforms'),
    ],
)
def test_pipelines_that_cannot_be_built(pipeline, message):
    with pytest.raises(ConfigError, match=message):
        build_pipeline(pipeline)


def test_a_failing_transform_is_named(picture):
    with pytest.raises(DataError, match='Failing failed: RuntimeError: it is broken') as caught:
        run([Failing()], sample())
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(DataError, match='Resize failed: KeyError'):
        run([Resize(8)], sample())


def test_memory_errors_stay_what_they_are():
    def greedy(results):
        raise MemoryError

    with pytest.raises(MemoryError):
        run([greedy], sample())


def test_compose_counts_and_shows_itself():
    pipeline = Compose([dict(type='Resize', scale=8), dict(type='PackInputs')])
    assert len(pipeline) == 2 and 'Resize(' in repr(pipeline)
    assert len(build_pipeline(())) == 0


def test_mmcv_and_image_libraries_stay_away_until_used():
    code = (
        'import sys, mlcls.datasets as d\n'
        'd.build_pipeline([dict(type="LoadImageFromFile"), dict(type="PackInputs")])\n'
        'print([name for name in ("cv2", "PIL", "mmcv", "simplejpeg", "torchvision") if name in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_without_mmcv_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv.transforms', None)
    monkeypatch.setattr(root.TRANSFORMS, '_module_dict', {})
    with pytest.raises(ConfigError, match=r"transform 'Pad' is not one of ours.*for mmcv's own, install mmcv or mmc"):
        build_transform(dict(type='Pad', size=(8, 8)))
