"""The built-in data set: honest, deterministic, shaped like real multi-label data."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from mlcls.datasets.multidigits import (
    AFFINITIES,
    CLASSES,
    FREQUENCY_ORDER,
    MultiDigitsSpec,
    draw_digits,
    main,
    make_multidigits,
    split_scans,
)

SMALL = MultiDigitsSpec(seed=3, num_train=30, num_val=5, num_test=8)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def annotation(root: Path, split: str) -> dict:
    return json.loads((root / f'{split}.json').read_text())


def test_layout(tmp_path: Path) -> None:
    assert make_multidigits(tmp_path, SMALL)
    for split, count in (('train', 30), ('val', 5), ('test', 8)):
        content = annotation(tmp_path, split)
        assert content['metainfo']['classes'] == list(CLASSES) and len(content['data_list']) == count
        for item in content['data_list']:
            with Image.open(tmp_path / item['img_path']) as image:
                assert image.format == 'JPEG' and image.size == (64, 64) and image.mode == 'RGB'
            assert item['gt_label'] == sorted(set(item['gt_label'])) and 1 <= len(item['gt_label']) <= 5


def test_byte_identical_on_repeat_and_other_with_another_seed(tmp_path: Path) -> None:
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        make_multidigits(tmp_path / name, MultiDigitsSpec(seed, num_train=30, num_val=5, num_test=8))
    assert digests(tmp_path / 'a') == digests(tmp_path / 'b')
    assert digests(tmp_path / 'a').keys() == digests(tmp_path / 'c').keys()
    assert digests(tmp_path / 'a') != digests(tmp_path / 'c')


def test_made_once_and_again_only_if_something_changed(tmp_path: Path) -> None:
    assert make_multidigits(tmp_path, SMALL)
    stamp = os.stat(tmp_path / 'train/00000.jpg').st_mtime_ns
    assert not make_multidigits(tmp_path, SMALL)
    assert os.stat(tmp_path / 'train/00000.jpg').st_mtime_ns == stamp
    (tmp_path / 'test.json').unlink()  # as after a kill
    assert make_multidigits(tmp_path, SMALL)
    assert make_multidigits(tmp_path, MultiDigitsSpec(seed=9, num_train=30, num_val=5, num_test=8))


def test_no_scan_serves_two_parts() -> None:
    parts = split_scans(seed=0)
    sets = {split: {scan for scans in by_digit for scan in scans} for split, by_digit in parts.items()}
    assert not sets['train'] & sets['test'] and not sets['train'] & sets['val'] and not sets['val'] & sets['test']
    assert len(sets['train'] | sets['val'] | sets['test']) == 1797
    target = load_digits().target
    for by_digit in parts.values():
        for digit, scans in enumerate(by_digit):
            assert len(scans) > 10 and (target[scans] == digit).all()


def test_no_scan_of_test_is_a_copy_of_one_in_training() -> None:
    images, parts = load_digits().images, split_scans(seed=0)
    train = {images[scan].tobytes() for scans in parts['train'] for scan in scans}
    assert not any(images[scan].tobytes() in train for scans in parts['test'] for scan in scans)


def test_long_tail_and_rules() -> None:
    rng = np.random.default_rng(0)
    present = np.zeros((4000, 10), bool)
    for row in present:
        row[draw_digits(rng)] = True
    share = present.mean(0)
    assert share.max() / share.min() > 4
    assert set(np.argsort(-share)[:3]) <= set(FREQUENCY_ORDER[:4])
    for (a, b), factor in AFFINITIES.items():
        lift = (present[:, a] & present[:, b]).mean() / (share[a] * share[b])
        assert lift == 0 if factor == 0 else (lift > 1.15) == (factor > 1), (a, b, lift)
    assert 1.8 < present.sum(1).mean() < 3


@pytest.mark.slow
def test_pixels_alone_do_not_give_it_away(tmp_path: Path) -> None:
    make_multidigits(tmp_path, MultiDigitsSpec(num_train=3000, num_val=1, num_test=1000))

    def load(split: str) -> tuple[np.ndarray, np.ndarray]:
        items = annotation(tmp_path, split)['data_list']
        pixels = [np.asarray(Image.open(tmp_path / item['img_path']).resize((32, 32))).ravel() for item in items]
        labels = np.zeros((len(items), 10), int)
        for row, item in zip(labels, items):
            row[item['gt_label']] = 1
        return np.stack(pixels) / 255, labels

    (x, y), (x_test, y_test) = load('train'), load('test')
    scores = [LogisticRegression(C=1e-3, max_iter=200).fit(x, y[:, c]).decision_function(x_test) for c in range(10)]
    mean_ap = 100 * average_precision_score(y_test, np.stack(scores, 1), average='macro')
    assert y_test.mean() * 100 - 5 < mean_ap < 45


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path), '--num-train', '4', '--num-val', '2', '--num-test', '2', '--image-size', '40']
    main(arguments)
    main(arguments)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith('MultiDigits made') and out[1].startswith('MultiDigits already there')
    with pytest.raises(SystemExit):
        main([str(tmp_path), '--num-test', '0'])
    assert 'num_test must be at least 1' in capsys.readouterr().err


@pytest.mark.parametrize(
    'settings, words', [(dict(seed=-1), 'seed'), (dict(image_size=8), 'image_size'), (dict(num_val=0), 'num_val')]
)
def test_settings_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MultiDigitsSpec(**settings)
