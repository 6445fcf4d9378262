"""The benchmark of loading runs, and compares like with like."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'
KEYS = {
    'vs_torchvision',
    'vs_mmcv',
    'vs_limit',
    'large_vs_mmcv',
    'large_zoom_vs_mmcv',
    'jpeg_pack_vs_mmcv',
    'raw_pack_vs_mmcv',
    'dataloader_vs_mmcv',
    'dataloader_raw_vs_mmcv',
}


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_ends_in_one_line_of_json():
    done = subprocess.run(
        [sys.executable, str(FOLDER / 'bench_loader.py'), '--quick'], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= KEYS and all(figures[key] > 0 for key in KEYS)
    assert set(figures['images_per_second']) == {'small', 'large', 'zoom', 'loader'}


def test_ratios_are_medians_of_pairs(load):
    bench = load('bench_loader')
    speeds = {'ours': [10.0, 30.0, 8.0], 'mmcv': [5.0, 10.0, 8.0]}
    found = bench.summary({'large': speeds})
    assert found == {'large_vs_mmcv': 2.0, 'images_per_second': {'large': {'ours': 10.0, 'mmcv': 8.0}}}


def test_runs_take_turns(load):
    order = []

    def run(name):
        order.append(name)
        return 6, 2.0

    found = load('bench_loader').measure({name: lambda name=name: run(name) for name in 'ab'}, 2)
    assert order == ['a', 'b'] * 3 and found == {'a': [3.0, 3.0], 'b': [3.0, 3.0]}


def test_pictures_are_like_photographs(load):
    pictures = load('loader_pictures')
    image = pictures.make_picture(500, 375, 0)
    assert image.shape == (375, 500, 3) and image.dtype == np.uint8 and 40 < image.std() < 90
    assert 45_000 < len(simplejpeg.encode_jpeg(image, pictures.QUALITY, 'RGB', '420')) < 90_000
    assert (image == pictures.make_picture(500, 375, 0)).all() and (image != pictures.make_picture(500, 375, 1)).any()


def test_all_read_the_same_files(load, tmp_path):
    """The mean of many crops of a picture is about the mean of the picture, whoever crops."""
    bench, pictures = load('bench_loader'), load('loader_pictures')
    ann_file = pictures.write_pictures(tmp_path / 'small', 96, 80, 2)
    expected = cv2.imread(str(tmp_path / 'small' / '1.jpg'))[..., ::-1].mean(axis=(0, 1))
    rivals = bench.rivals(ann_file, (0.5, 1.0))
    ours = bench.our_dataset(ann_file, (0.5, 1.0))

    def mean(load):
        return np.mean([np.asarray(load(1)).mean(axis=(1, 2)) for _ in range(20)], axis=0)

    found = mean(lambda index: ours[index]['inputs'])
    assert np.abs(found - expected).max() < 25
    assert np.abs(mean(lambda index: rivals['torchvision'][index][0]) - expected).max() < 25
    assert np.abs(mean(lambda index: rivals['mmcv'][index]['inputs'])[::-1] - expected).max() < 25  # BGR
    assert set(rivals['mmcv'][1]['data_samples'].gt_label.tolist()) == set(ours.get_cat_ids(1))
    rivals['limit'](1)
    assert rivals['limit'].out.any()
