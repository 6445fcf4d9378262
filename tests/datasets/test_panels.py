"""Panels: what is drawn follows the rule, and the posterior is the truth about it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from mlcls.datasets import MultiLabelDataset, panels
from mlcls.datasets.panels import CLASSES, FIRST, LABEL_SETS, NEXT, PanelsSpec, draw_colours, draw_shades, posterior


def test_colours_follow_the_rule() -> None:
    colours = draw_colours(np.random.default_rng(0), 40_000)
    shares = np.bincount(colours[:, 0], minlength=3) / len(colours)
    assert shares == pytest.approx(FIRST, abs=0.01)
    for place in range(3):
        for colour in range(3):
            after = colours[colours[:, place] == colour, place + 1]
            assert np.bincount(after, minlength=3) / len(after) == pytest.approx(NEXT[colour], abs=0.02)


def test_posterior_is_bayes_rule_written_out() -> None:
    shades = np.random.default_rng(1).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    found = posterior(shades)
    assert found.sum(1) == pytest.approx(np.ones(5))
    for row, picture in zip(found, shades.astype(float)):
        weights = []
        for colouring in itertools.product(range(3), repeat=4):
            weight = FIRST[colouring[0]]
            for a, b in itertools.pairwise(colouring):
                weight *= NEXT[a][b]
            for panel, colour in zip(picture, colouring):
                for channel in range(3):
                    mean = panels.GREY + (panels.STEP if channel == colour else 0)
                    weight *= math.exp(-((panel[channel] - mean) ** 2) / (2 * panels.NOISE**2))
            weights.append(weight)
        assert row == pytest.approx(np.array(weights) / sum(weights), rel=1e-9)


def test_posterior_is_calibrated_and_knows_more_than_single_labels() -> None:
    rng = np.random.default_rng(2)
    colours = draw_colours(rng, 20_000)
    found = posterior(draw_shades(rng, colours))
    truth = np.eye(3, dtype=np.int8)[colours].reshape(-1, 12)
    joint = (LABEL_SETS[found.argmax(1)] == truth).all(1).mean()
    assert joint == pytest.approx(found.max(1).mean(), abs=0.02)
    single = ((found @ LABEL_SETS >= 0.5) == truth).all(1).mean()
    assert joint - single > 0.08  # what there is to gain by looking at labels together


def test_files_are_read_back(tmp_path: Path) -> None:
    spec = PanelsSpec(num_train=20, num_val=3, num_test=4)
    assert panels.make_panels(tmp_path, spec) and not panels.make_panels(tmp_path, spec)
    assert panels.make_panels(tmp_path, PanelsSpec(seed=1, num_train=20, num_val=3, num_test=4))
    panels.make_panels(tmp_path, spec)
    rng = np.random.default_rng([0, 1])
    colours = draw_colours(rng, 20)
    shades = draw_shades(rng, colours)
    data = MultiLabelDataset(data_root=str(tmp_path), ann_file='train.json', pipeline=[dict(type='LoadImageFromFile')])
    assert tuple(data.metainfo['classes']) == CLASSES and len(data) == 20
    import cv2

    for index, (own, painted) in enumerate(zip(colours, shades)):
        picture = cv2.imread(str(tmp_path / f'train/{index:05d}.png'))[..., ::-1]
        corners = picture[[0, 0, -1, -1], [0, -1, -1, 0]]  # clockwise from the top left
        assert np.array_equal(corners, painted)
        labels = json.loads((tmp_path / 'train.json').read_text())['data_list'][index]['gt_label']
        names = [f'{place}_{panels.COLOURS[colour]}' for place, colour in zip(panels.PLACES, own)]
        assert [CLASSES[label] for label in labels] == names


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(seed=-1), 'seed must be at least 0'),
        (dict(image_size=9), 'even number of pixels'),
        (dict(num_val=0), 'num_val must be at least 1'),
    ],
)
def test_refusals(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PanelsSpec(**settings)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PanelsSpec, 'count', lambda self, split: 2)
    panels.main([str(tmp_path / 'p')])
    panels.main([str(tmp_path / 'p')])
    assert capsys.readouterr().out.splitlines() == [
        f'Panels made: {tmp_path / "p"}',
        f'Panels is already there: {tmp_path / "p"}',
    ]
    with pytest.raises(SystemExit):
        panels.main([str(tmp_path / 'q'), '--seed', '-1'])
    assert 'seed must be at least 0' in capsys.readouterr().err
