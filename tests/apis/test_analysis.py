"""The commands of tools/analysis: what they write, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlcls.apis import CamFlags, ComplexityFlags, measure_complexity, train, visualize_cam
from mlcls.apis.cam_sheets import VERDICTS, MapRow, Tile, draw_rows, overlay
from mlcls.apis.cams import _verdicts
from mlcls.errors import CheckpointError, ConfigError, DataError
from tests.conftest import TINY_CONFIG, make_squares

COUNT = ComplexityFlags(speed=False)


def test_complexity_prints_a_table_and_writes_json(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / 'squares')  # no data are needed
    flags = ComplexityFlags([64, 32], batch_size=2, repeats=1, out=tmp_path / 'out.json')
    found = measure_complexity(tiny_config, flags)
    printed = capsys.readouterr().out
    assert f'{tiny_config}: 64 x 32 pixels' in printed and 'images/s' in printed
    assert 'forward and backward' in printed and str(flags.out) in printed
    written = json.loads((tmp_path / 'out.json').read_text())
    assert written['shape'] == [64, 32] and written['total']['parameters'] == found.total.parameters
    assert written['speed']['images_per_second'] == pytest.approx(2 / found.speed.forward)
    assert [stage['name'] for stage in written['stages']] == [stage.name for stage in found.stages]
    # 11,689,512 of ResNet-18 would be far too many; the head is 64 x 3 + 3.
    assert next(stage.parameters for stage in found.stages if stage.name == 'head') == 195


@pytest.mark.parametrize(
    'step, shape',
    [
        ("dict(type='Resize', scale=(48, 32))", (32, 48)),  # width first
        ("dict(type='ResizeEdge', scale=64), dict(type='CenterCrop', crop_size=40)", (40, 40)),
    ],
)
def test_the_size_is_that_of_the_test_pipeline(tiny_config: Path, step: str, shape: tuple[int, int]) -> None:
    text = tiny_config.read_text()
    old = "test_pipeline = [dict(type='LoadImageFromFile'), dict("
    assert old in text
    tiny_config.write_text(text.replace(old, f"test_pipeline = [dict(type='LoadImageFromFile'), {step}, dict("))
    assert measure_complexity(tiny_config, COUNT).shape == shape


def test_without_a_size_in_the_test_pipeline_the_one_of_training_counts(tiny_config: Path) -> None:
    assert measure_complexity(tiny_config, COUNT).shape == (32, 32)


def test_complexity_refuses(tiny_config: Path, tmp_path: Path) -> None:
    for bad in ([0, 3], [1, 2, 3]):
        with pytest.raises(ConfigError, match='--shape takes height and width, at least 1, got'):
            ComplexityFlags(bad)
    with pytest.raises(ConfigError, match='--batch-size must be at least 1, got 0'):
        ComplexityFlags(batch_size=0)
    with pytest.raises(ConfigError, match='--repeats must be at least 1, got 0'):
        ComplexityFlags(repeats=0)
    with pytest.raises(ConfigError, match='--out: .* is a folder'):
        measure_complexity(tiny_config, ComplexityFlags(out=tmp_path))
    with pytest.raises(ConfigError, match='ImageClassifier: a classifier with a backbone and a head is needed'):
        measure_complexity(tiny_config, COUNT, {'model.head': None})
    text = tiny_config.read_text().replace("dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.8, 1.0)),", '')
    tiny_config.write_text(text)
    with pytest.raises(ConfigError, match='do not fix the size of the images; say it with --shape H W'):
        measure_complexity(tiny_config, COUNT)
    backbone = "backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)"
    assert backbone in text
    tiny_config.write_text(text.replace(backbone, "backbone=dict(type='TorchvisionBackbone', name='alexnet')"))
    with pytest.raises(ConfigError, match=r'the network cannot take images of 16 x 16 pixels \('):
        measure_complexity(tiny_config, ComplexityFlags([16], speed=False))


@pytest.mark.parametrize(
    'head',
    [
        dict(type='ExclusiveGroupsHead', groups=[dict(labels=[0, 1])]),  # which made-up labels need not heed
        dict(type='ExclusiveGroupsHead', groups=[dict(labels=[0, 2], none=False)]),
        dict(type='LabelPowersetHead', min_count=3),
        dict(type='LabelPowersetHead', max_sets=2),
        dict(type='ClassifierChainHead', loss=dict(type='DistributionBalancedLoss')),  # of which it needs the link
    ],
)
def test_complexity_of_heads_that_take_something_from_labels(tiny_config: Path, head: dict[str, Any]) -> None:
    head = dict(_delete_=True, num_classes=3, in_channels=64, **head)
    assert measure_complexity(tiny_config, COUNT, {'model.head': head}).stages[-1].multiply_adds > 0
    single = dict(_delete_=True, type='LabelPowersetHead', num_classes=1, in_channels=64)
    assert measure_complexity(tiny_config, COUNT, {'model.head': single}).stages[-1].parameters == 2 * 64 + 2


@pytest.mark.parametrize(
    'backbone, out_channels',
    [
        (dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, in_channels=1), 64),
        (dict(type='TorchvisionBackbone', name='squeezenet1_1', in_channels=4), 512),
    ],
)
def test_complexity_of_images_of_other_channels(tiny_config: Path, backbone: dict[str, Any], out_channels: int) -> None:
    options = {'model.backbone': dict(_delete_=True, **backbone), 'model.head.in_channels': out_channels}
    assert measure_complexity(tiny_config, COUNT, options).total.multiply_adds > 0


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of seconds."""
    root = tmp_path_factory.mktemp('cam')
    make_squares(root / 'squares', train=48, val=20)
    config = root / 'tiny.py'
    config.write_text(TINY_CONFIG.format(root=str(root / 'squares'), work_dir=str(root / 'run')))
    train(config)
    return root / 'run'


def test_sheets_of_the_test_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheets = visualize_cam(run, flags=CamFlags(number=9, out=tmp_path / 'out', singles=True))
    assert [sheet.name for sheet in sheets] == ['cam_1.png', 'cam_2.png']
    printed = capsys.readouterr().out
    assert 'Grad-CAM: ' in printed and 'maps of 9 images' in printed and f'sheet: {sheets[0]}' in printed
    with Image.open(sheets[0]) as image:
        assert image.width > 400 and image.height > 8 * 192
    singles = list((tmp_path / 'out/singles').iterdir())
    assert len(singles) >= 9 and {path.stem.split('_')[1] for path in singles} <= {'red', 'green', 'blue'}


def test_chosen_images(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / 'own.png'
    Image.fromarray(np.full((32, 32, 3), 40, np.uint8)).save(own)
    rows: list[MapRow] = []
    monkeypatch.setattr('mlcls.apis.cams.write_sheets', lambda folder, title, about, found: rows.extend(found) or [])
    by_path = str(run.parent / 'squares/val/3.png')
    names = ['val/3.png', by_path, str(own)]
    visualize_cam(run, flags=CamFlags(images=names, out=tmp_path / 'out', method='layercam', thresholds='0.0', top=2))
    labels = json.loads((run.parent / 'squares/val.json').read_text())['data_list'][3]['gt_label']
    truth = [['red', 'green', 'blue'][c] for c in labels]
    assert [row.truth for row in rows] == [truth, truth, None]
    assert np.array_equal(rows[0].picture, np.asarray(Image.open(by_path)))
    assert all(len(row.tiles) == 2 for row in rows)
    for row in rows[:2]:
        for tile in row.tiles:
            assert tile.verdict == ('true positive' if tile.label in truth else 'false positive')
            assert tile.map.min() >= 0 and tile.map.max() <= 1
    assert {tile.verdict for tile in rows[2].tiles} == {'decided'}


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'method': 'grad-cam'}, r"--method: there is no 'grad-cam'; did you mean 'gradcam'\?"),
        ({'number': 0}, '--num must be at least 1, got 0'),
        ({'top': 0}, '--top must be at least 1, got 0'),
        ({'out': __file__}, '--out: .* is a file; name a folder'),
    ],
)
def test_flags_outside_their_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CamFlags(**arguments)


def test_images_and_checkpoints_that_cannot_be_used(run: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], message: str, config: Path | None = None, **flags: Any) -> None:
        with pytest.raises(kind, match=message):
            visualize_cam(run, config, flags=CamFlags(out=tmp_path / 'out', **flags))
        assert not (tmp_path / 'out').exists()

    refused(DataError, r"no file 'val/33.png', and no image .*; did you mean 'val/3.png'\?", images=['val/33.png'])
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'nothing')
    refused(DataError, 'broken.png', images=[str(broken)])
    refused(ConfigError, "method 'attention': MultiLabelLinearClsHead has no maps of its own", method='attention')
    other = tmp_path / 'other.py'
    text = TINY_CONFIG.format(root=str(run.parent / 'squares'), work_dir=str(tmp_path / 'w'))
    other.write_text(text.replace('num_classes=3', 'num_classes=4'))
    refused((CheckpointError, ConfigError), '4', other)


def test_which_labels_are_shown() -> None:
    values, limits = np.float32([0.9, 0.2, 0.6, 0.4, 0.8]), np.float32([0.5] * 5)
    targets = np.int8([0, 1, 1, 0, -1])
    assert _verdicts(values, limits, targets, 5) == {
        0: 'false positive',
        4: 'decided',
        2: 'true positive',
        1: 'missed',
    }
    assert list(_verdicts(values, limits, targets, 1)) == [0, 1]
    assert _verdicts(values, limits, None, 2) == {0: 'decided', 4: 'decided'}
    high = np.float32([1.0] * 5)
    assert _verdicts(values, high, np.int8([0] * 5), 3) == {0: 'highest, not decided'}
    assert _verdicts(values, high, np.int8([1, 0, 0, 0, 0]), 3) == {0: 'missed'}


def test_an_overlay_is_dark_where_the_map_is_low() -> None:
    picture = np.full((40, 40, 3), 120, np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[0, 3] = 1
    drawn = overlay(picture, values)
    assert drawn.shape == picture.shape and drawn.dtype == np.uint8
    light = drawn.mean(axis=2)
    assert np.unravel_index(light.argmax(), light.shape)[0] < 8 and light[3, 36] > 150
    assert (light[20:, :20] < 120).all()


def test_rows_are_drawn_with_any_names() -> None:
    tiles = [
        Tile('a very long name of a class ' * 3, 0.5, 0.5, word, np.zeros((2, 2), np.float32)) for word in VERDICTS
    ]
    rows = [MapRow('猫/' * 40, np.zeros((50, 300, 3), np.uint8), names, tiles) for names in (None, [], ['猫'] * 50)]
    image = draw_rows('title', 'about', rows)
    assert image.width > 6 * 200 and image.height > 3 * 50
