"""``tools/test.py --cam``: where the network looked, in the report."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mlcls.apis import TestFlags, test, train
from mlcls.apis.cam_sheets import overlay
from mlcls.apis.report_maps import ReportMaps
from mlcls.apis.scoring import Request, opened
from mlcls.errors import ConfigError
from mlcls.evaluation.report import maps as maps_module
from mlcls.evaluation.report.maps import add_maps
from mlcls.evaluation.report.source import ReportSource
from mlcls.models.cam import activation_maps, look, to_unit
from mlcls.structures import Batch
from tests.conftest import TINY_CONFIG, make_squares

KINDS = ('false_positives', 'false_negatives', 'uncertain')


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained checkpoint; its test data are 12 pictures of 32 pixels, of which the network gets the middle."""
    folder = tmp_path_factory.mktemp('report_cam')
    make_squares(folder / 'squares', train=24, val=12)
    config = folder / 'tiny.py'
    text = TINY_CONFIG.format(root=str(folder / 'squares'), work_dir=str(folder / 'run'))
    crop = "test_pipeline = [dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=24), "
    text = text.replace("test_pipeline = [dict(type='LoadImageFromFile'), ", crop)
    config.write_text(text.replace('stem_channels=8', 'stem_channels=8, strides=(1, 1, 1, 1)'))  # maps of 6 x 6 places
    train(config, options={'train_cfg.max_epochs': 1})
    return folder / 'run/best_multi-label_mAP.pth'


@pytest.fixture
def best(run: Path, tmp_path: Path) -> Path:
    """A copy in a folder of its own."""
    path = tmp_path / run.name
    path.write_bytes(run.read_bytes())
    return path


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves take longer than all else here."""
    monkeypatch.setattr('mlcls.evaluation.report.write_plots', lambda *_: None)
    monkeypatch.setattr('mlcls.evaluation.report.write_tensorboard', lambda *_: None)


def payload_of(folder: Path) -> dict[str, Any]:
    page = (folder / 'report.html').read_text()
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def shown_pairs(payload: dict[str, Any]) -> set[tuple[int, int]]:
    galleries = payload['galleries']
    pairs = {(image, int(c)) for c in galleries for kind in KINDS for image, _ in galleries[c][kind]}
    return pairs | {(entry['image'], entry['class']) for entry in payload['suspects'] if entry['image'] is not None}


def pairs_with_maps(payload: dict[str, Any]) -> set[tuple[int, int]]:
    return {(int(image), int(c)) for image, found in payload['maps']['pictures'].items() for c in found}


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1]))))


@pytest.mark.parametrize('method', ['auto', 'layercam'])
def test_every_picture_has_the_map_of_the_label_it_is_shown_under(best: Path, method: str) -> None:
    pytest.importorskip('matplotlib')
    test(best, flags=TestFlags(report=best.parent / 'report', cam=method, bootstrap=0))
    payload = payload_of(best.parent / 'report')
    assert pairs_with_maps(payload) == shown_pairs(payload) != set()
    assert payload['maps']['words'].startswith({'auto': 'Grad-CAM: ', 'layercam': 'LayerCAM: '}[method])
    assert not any('looked' in note for note in payload['notes'])

    # The same from the files, by the functions alone.
    with opened(Request([best])) as members:
        model = members[0].runner.model.eval()
        root = Path(members[0].loop.dataloader.dataset.img_path(0)).parents[1]
    for image, found in payload['maps']['pictures'].items():
        whole = np.asarray(Image.open(root / payload['images'][int(image)]['name']).convert('RGB'))
        cropped = np.ascontiguousarray(whole[4:28, 4:28])
        batch = torch.from_numpy(cropped).permute(2, 0, 1)[None]
        empty = torch.zeros(1, 3, dtype=torch.int8), torch.zeros(1, dtype=torch.int64)
        inputs = model.data_preprocessor(Batch(inputs=batch, targets=empty[0], index=empty[1]))['inputs']
        seen = look(model, inputs)
        assert seen.features[-1].shape[2:] == (6, 6)
        for c, uri in found.items():
            values = to_unit(activation_maps(model, seen, [0], [int(c)], method), own_zero=True)[0].numpy()
            wanted = overlay(np.asarray(Image.fromarray(cropped).resize((112, 112))), values)
            got = pixels(uri)
            assert got.shape == wanted.shape
            # What is lost in JPEG.
            assert np.abs(got.astype(int) - wanted).mean() < 4


def test_without_the_flag_there_are_none(best: Path) -> None:
    test(best, flags=TestFlags(report=best.parent / 'report', bootstrap=0))
    assert payload_of(best.parent / 'report')['maps'] is None


def test_of_several_checkpoints_the_first_is_shown_and_named(best: Path, tmp_path: Path) -> None:
    pytest.importorskip('matplotlib')
    other = tmp_path / 'other.pth'
    checkpoint = torch.load(best, weights_only=False)
    checkpoint['state_dict'] = {
        name: torch.zeros_like(value) if name == 'head.fc.weight' else value
        for name, value in checkpoint['state_dict'].items()
    }
    torch.save(checkpoint, other)
    for number, paths in enumerate(([best], [best, other])):
        flags = TestFlags(report=tmp_path / f'{number}', cam='gradcam', bootstrap=0, tta=True)
        test(paths, flags=flags)
    alone, both = (payload_of(tmp_path / f'{number}') for number in range(2))
    assert f'of {best}, the first of 2 checkpoints, without test-time augmentation' in both['maps']['words']
    assert 'checkpoints' not in alone['maps']['words']
    names = [{each['name']: number for number, each in enumerate(payload['images'])} for payload in (alone, both)]
    common = 0
    for name in names[0].keys() & names[1].keys():
        one, two = (payload['maps']['pictures'][str(found[name])] for payload, found in zip((alone, both), names))
        for c in one.keys() & two.keys():
            assert one[c] == two[c]
            common += 1
    assert common


def test_images_that_are_left_out_shift_nothing(best: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip('matplotlib')
    root = tmp_path / 'squares'
    shutil.copytree(run.parents[1] / 'squares', root)
    (root / 'val/0.png').write_bytes(b'no picture')
    options = {'test_dataloader.dataset.on_error': 'skip'}
    for name, folder in (('whole', run.parents[1] / 'squares'), ('damaged', root)):
        where = {**options, 'test_dataloader.dataset.data_root': str(folder)}
        test(best, options=where, flags=TestFlags(report=tmp_path / name, cam='gradcam', bootstrap=0))
    found = []
    for payload in (payload_of(tmp_path / 'whole'), payload_of(tmp_path / 'damaged')):
        assert pairs_with_maps(payload) == shown_pairs(payload)
        names = [image['name'] for image in payload['images']]
        maps = payload['maps']['pictures']
        found.append({(names[int(image)], c): uri for image in maps for c, uri in maps[image].items()})
    common = found[0].keys() & found[1].keys()
    assert len(common) > 5 and not any(name == 'val/0.png' for name, _ in found[1])
    assert all(found[0][pair] == found[1][pair] for pair in common)


@pytest.mark.parametrize(
    ('cam', 'report', 'message'),
    [
        ('gradcm', True, "--cam: there is no 'gradcm'; did you mean 'gradcam'?"),
        ('zzz', True, "--cam: there is no 'zzz'; choose from attention, auto, gradcam, gradcam++, layercam"),
        ('auto', False, '--cam shows its maps in the report; add --report DIR'),
    ],
)
def test_refused_before_anything_is_read(cam: str, report: bool, message: str, tmp_path: Path) -> None:
    flags = TestFlags(cam=cam, report=tmp_path / 'report' if report else None)
    with pytest.raises(ConfigError, match=re.escape(message)):
        test(tmp_path / 'no such checkpoint.pth', flags=flags)


def test_a_head_without_maps_of_its_own_is_refused_before_scoring(best: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mlcls.apis.testing.score', lambda *_: pytest.fail('scored'))
    with pytest.raises(ConfigError, match="--cam: method 'attention': MultiLabelLinearClsHead has no maps of its own"):
        test(best, flags=TestFlags(cam='attention', report=best.parent / 'report'))


def test_a_network_without_a_feature_map_is_refused_before_scoring(best: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mlcls.apis.testing.score', lambda *_: pytest.fail('scored'))
    vector = lambda model, images: SimpleNamespace(features=(torch.zeros(1, 64),), logits=torch.zeros(1, 3))  # noqa: E731
    monkeypatch.setattr('mlcls.apis.cams.look', vector)
    with pytest.raises(ConfigError, match='--cam: ResNet gives no feature map but .1, 64.'):
        test(best, flags=TestFlags(cam='auto', report=best.parent / 'report'))


def test_data_that_come_in_turn_are_refused() -> None:
    member = SimpleNamespace(loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=object())))
    with pytest.raises(ConfigError, match='--cam: object does not give its images by number; leave --cam out'):
        ReportMaps([member], 'auto')  # type: ignore[list-item]


# What the page takes --------------------------------------------------------------------------------------------------


def made_up(images: int, classes: int) -> dict[str, Any]:
    galleries = {
        str(c): {kind: [[image, 0.5] for image in range(images)] for kind in ('false_positives', 'uncertain')}
        | {'false_negatives': []}
        for c in range(classes)
    }
    suspects = [{'image': None, 'class': 0}, {'image': 0, 'class': 0}, {'image': images, 'class': 1}]
    return {'galleries': galleries, 'suspects': suspects, 'maps': None}


def source_of(look: Any) -> ReportSource:
    return ReportSource('', [], lambda row: None, [], [], look=look, look_words='words')


def test_each_image_is_asked_for_once_with_all_its_labels() -> None:
    asked = []

    def look(row: int, columns: list[int]) -> list[np.ndarray] | None:
        asked.append((row, list(columns)))
        return None if row == 102 else [np.full((20, 30, 3), 10 * c, np.uint8) for c in columns]

    payload = made_up(3, 2)
    notes = add_maps(payload, source_of(look), [100, 101, 102, 103], 10**6)
    assert asked == [(100, [0, 1]), (101, [0, 1]), (102, [0, 1]), (103, [1])]
    found = payload['maps']['pictures']
    assert {image: list(each) for image, each in found.items()} == {'0': ['0', '1'], '1': ['0', '1'], '3': ['1']}
    assert payload['maps']['words'] == 'words'
    assert pixels(found['1']['1']).shape == (20, 30, 3)
    assert pixels(found['1']['1']).mean() == pytest.approx(10, abs=1)
    assert notes == ['Where the network looked is shown for 5 of 7 pairs of a picture and a label.']


def test_the_first_of_every_gallery_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps_module, 'MAX_MAPS', 4)
    payload = made_up(5, 3)
    notes = add_maps(
        payload, source_of(lambda row, columns: [np.zeros((9, 9, 3), np.uint8)] * len(columns)), range(9), 10**6
    )
    assert pairs_with_maps(payload) == {(0, 0), (0, 1), (0, 2), (1, 0)}
    assert notes == ['Where the network looked is shown for 4 of 16 pairs of a picture and a label.']


@pytest.mark.parametrize('room', [-5, 0, 5_999, 6_000, 20_000])
def test_the_room_is_kept(room: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)  # the largest there can be
    payload = made_up(6, 2)
    add_maps(payload, source_of(lambda row, columns: [noise] * len(columns)), range(9), room)
    assert payload['maps'] is None or len(json.dumps(payload['maps']['pictures'])) <= room + 2


def test_nothing_is_made_where_nothing_is_asked_for() -> None:
    payload = made_up(3, 2)
    assert add_maps(payload, source_of(None), range(9), 10**6) == [] and payload['maps'] is None
