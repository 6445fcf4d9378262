"""Contact sheets: the pictures and labels are those of a run, everything is legible, and mistakes are named."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlcls.apis import sheets
from mlcls.apis.browsing import BrowseFlags, browse
from mlcls.apis.sheets import Cell, Sheet, draw_page, draw_sheet, label_text
from mlcls.errors import ConfigError
from mlcls.models import ImageClassifier

AUGMENTS = dict(
    batch_augments=dict(augments=[dict(type='Mixup', alpha=1.0), dict(type='CutMix', alpha=1.0)]),
    device_augments=[dict(type='BatchRandomFlip', prob=0.5), dict(type='BatchRandAugment')],
)


def augment(config: Path) -> None:
    config.write_text(config.read_text().replace('to_rgb=True)', f'to_rgb=True, **{AUGMENTS!r})'))


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The cells of the sheets that are written, in order."""
    seen: list[Cell] = []
    write = sheets.WRITERS['.png']

    def keep(path: Path, sheet: Sheet) -> None:
        seen.extend(sheet.cells)
        write(path, sheet)

    monkeypatch.setitem(sheets.WRITERS, '.png', keep)
    return seen


def test_it_shows_what_a_run_trains_on(
    tiny_config: Path, tmp_path: Path, cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlcls.apis import TrainFlags, train

    augment(tiny_config)
    browse(tiny_config, BrowseFlags(number=48, out=tmp_path / 'a.png'))
    inputs, targets = [], []
    forward = ImageClassifier.forward

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get('mode') == 'loss':
            inputs.append(kwargs['inputs'].clone())
            targets.append(kwargs['targets'].clone())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(ImageClassifier, 'forward', spy)
    train(tiny_config, TrainFlags(validate=False), {'train_cfg.max_epochs': 1})
    trained = torch.cat(inputs).double() * 64 + 64
    assert len(cells) == 48 == len(trained)
    for cell, image, labels in zip(cells, trained, torch.cat(targets).tolist()):
        np.testing.assert_allclose(cell.picture, image.permute(1, 2, 0), atol=0.51)
        expected = {name: value for name, value in zip(('red', 'green', 'blue'), labels) if value != 0}
        assert dict(cell.labels) == pytest.approx(expected)
        values = [value for _, value in cell.labels]
        assert values == sorted(values, reverse=True)


def test_epochs_differ_and_repeat(tiny_config: Path, tmp_path: Path, cells: list[Cell]) -> None:
    augment(tiny_config)
    state = torch.get_rng_state()
    for epoch in (0, 1, 1):
        browse(tiny_config, BrowseFlags(number=8, epoch=epoch, out=tmp_path / 'a.png'))
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone
    first, second, again = (np.stack([cell.picture for cell in cells[i : i + 8]]) for i in (0, 8, 16))
    assert (first != second).any() and (second == again).all()


def test_validation_images_are_not_augmented(
    tiny_config: Path, tmp_path: Path, cells: list[Cell], capsys: pytest.CaptureFixture[str]
) -> None:
    augment(tiny_config)
    out = browse(tiny_config, BrowseFlags('val', number=30, out=tmp_path / 'new' / 'a.png', original=True))
    assert out == tmp_path / 'new' / 'a.png' and out.is_file()
    assert capsys.readouterr().out == f'sheet: {out}\n'  # one line
    content = json.loads((tmp_path / 'squares/val.json').read_text())
    assert len(cells) == 20  # all there are
    for cell, entry in zip(cells, content['data_list']):
        stored = np.asarray(Image.open(tmp_path / 'squares' / entry['img_path']))
        assert (cell.picture == stored).all() and (cell.original == stored).all()
        assert cell.name.endswith(entry['img_path'])
        assert {name for name, _ in cell.labels} == {('red', 'green', 'blue')[i] for i in entry['gt_label']}


def test_originals_of_a_wrapped_dataset(tiny_config: Path, tmp_path: Path, cells: list[Cell]) -> None:
    text = tiny_config.read_text()
    inner = text[text.index("dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json'") :]
    inner = inner[: inner.index('))') + 1]
    wrapped = f"dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset={inner})"
    tiny_config.write_text(text.replace(inner, wrapped))
    browse(tiny_config, BrowseFlags(number=20, out=tmp_path / 'a.png', original=True))
    for cell in cells:
        assert cell.original is not None and (cell.original == np.asarray(Image.open(cell.name))).all()


def test_unknown_labels_and_default_place(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[Cell]
) -> None:
    path = tmp_path / 'squares/val.json'
    content = json.loads(path.read_text())
    content['data_list'][0] |= {'gt_label': [1], 'gt_unknown': [0, 2]}
    path.write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert browse(tiny_config, BrowseFlags('val', number=1)) == Path('work_dirs/tiny/browse_val.png')
    assert [label_text(*label) for label in cells[0].labels] == ['green', 'red?', 'blue?']


# Sheets -------------------------------------------------------------------------------------------------------------


def cell(labels: Any, height: int = 20, width: int = 30) -> Cell:
    return Cell(np.full((height, width, 3), 90, np.uint8), labels)


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=60), st.one_of(st.just(-1.0), st.just(1.0), st.floats(0.01, 1))),
        max_size=90,
    ),
    st.integers(1, 700),
    st.integers(1, 700),
)
def test_no_line_is_wider_than_its_picture(labels: list[tuple[str, float]], height: int, width: int) -> None:
    lines = sheets._wrap(labels, 192)
    assert 1 <= len(lines) <= sheets.MAX_LINES
    assert all(sum(sheets.text_width(text) for text, _ in line) <= 192 for line in lines)
    words = [text for line in lines for text, _ in line]
    if labels and words[-1].startswith('+') and words[-1][1:].isdigit() and len(words) <= len(labels):
        assert len(words) - 1 + int(words[-1]) == len(labels)
    else:
        assert len(words) == max(len(labels), 1)
    page = draw_sheet(Sheet('title', 'about', [cell(labels, height, width)]))
    assert page.width >= 120 and page.height > sheets.MARGIN


def test_pictures_stand_on_the_sheet_pixel_by_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    page = np.asarray(draw_sheet(Sheet('t', 'a', [Cell(picture, [])] * 3)))
    large = picture.repeat(3, axis=0).repeat(3, axis=1)
    assert (page[sheets.MARGIN + 56 :, sheets.MARGIN :][:192, :144] == large).all()
    second = sheets.MARGIN + 144 + sheets.GAP
    assert (page[sheets.MARGIN + 56 :, second:][:192, :144] == large).all()


def test_letters_without_a_glyph_are_escaped_in_pictures_and_whole_on_pages() -> None:
    assert sheets.shown('Hündin, собака') == 'Hündin, собака'
    assert sheets.shown('猫\n') == r'\u732b\n'
    page = draw_page(Sheet('<t>', 'a & b', [cell([('猫 <b>', 1.0), ('x', 0.25), ('y', -1.0)])]))
    assert '猫&nbsp;&lt;b&gt;</span>' in page and '<b>' not in page and 'a &amp; b' in page and '&lt;t&gt;' in page
    assert '<span class="soft">x&nbsp;.25</span>' in page and '<span class="unknown">y?</span>' in page


def test_many_labels_on_a_page() -> None:
    page = draw_page(Sheet('t', 'a', [cell([(f'class{i}', 1.0) for i in range(90)])]))
    assert len(re.findall('class="present"', page)) == 40 and '>+50</span>' in page and 'title="class40, ' in page
    assert 'no label' in draw_page(Sheet('t', 'a', [cell([])]))


def test_a_page_holds_its_pictures(tiny_config: Path, tmp_path: Path, cells: list[Cell]) -> None:
    out = browse(tiny_config, BrowseFlags('val', number=3, out=tmp_path / 'a.html'))
    browse(tiny_config, BrowseFlags('val', number=3, out=tmp_path / 'a.png'))
    page = out.read_text(encoding='utf-8')
    stored = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(stored) == 3 and 'http' not in page  # nothing is fetched
    for data, shown in zip(stored, cells):
        assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) == shown.picture).all()


@pytest.mark.parametrize(
    'value, text',
    [(1.0, 'cat'), (-1.0, 'cat?'), (0.634, 'cat .63'), (0.0004, 'cat .01'), (0.9999, 'cat .99')],
)
def test_words(value: float, text: str) -> None:
    assert label_text('cat', value) == text


# Mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'flags, words',
    [
        (dict(split='tran'), "--split: there is no 'tran'; did you mean 'train'?"),
        (dict(split='images'), "there is no 'images'; choose from test, train, val"),
        (dict(number=0), '--number must be at least 1, got 0'),
        (dict(epoch=-1), '--epoch must be at least 0, got -1'),
        (dict(out='sheet.jpg'), "--out must end in .png or .html, got 'sheet.jpg'"),
        (dict(balance=['0.1', 'atuo']), "--balance takes numbers above 0 and at most 1, or auto, got 'atuo'"),
        (dict(balance=['2']), "or auto, got '2'"),
        (dict(balance=['nan']), "or auto, got 'nan'"),
    ],
)
def test_flags_that_cannot_work_are_refused(tiny_config: Path, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        browse(tiny_config, BrowseFlags(**flags))


def test_a_split_that_the_config_lacks(tiny_config: Path) -> None:
    options = {'test_dataloader': None, 'test_cfg': None, 'test_evaluator': None}
    words = 'tiny.py: has no test_dataloader; it has train_dataloader and val_dataloader'
    with pytest.raises(ConfigError, match=words):
        browse(tiny_config, BrowseFlags('test'), options)


def test_a_loader_without_batches(tiny_config: Path) -> None:
    options = {'train_dataloader.batch_size': 100, 'train_dataloader.drop_last': True}
    with pytest.raises(ConfigError, match='train_dataloader gives no batches; lower its batch_size'):
        browse(tiny_config, options=options)


def test_the_table_of_balancing(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    browse(tiny_config, BrowseFlags(number=1, out=tmp_path / 'a.png', balance=['0.9', 'auto']))
    table, _, rest = capsys.readouterr().out.rpartition('\n\n')
    assert rest == f'sheet: {tmp_path / "a.png"}\n'
    content = json.loads((tmp_path / 'squares/train.json').read_text())
    for number, name in enumerate(('red', 'green', 'blue')):
        count = sum(number in entry['gt_label'] for entry in content['data_list'])
        assert re.search(rf'^{name} +{count} +{count / 48:.2%}', table, re.MULTILINE), table


def test_the_command(tiny_config: Path, tmp_path: Path) -> None:
    tool = Path(__file__).resolve().parents[2] / 'tools/browse_dataset.py'

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, tool, tiny_config, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)

    done = run('--split', 'val', '--number', '2', '--out', 'a.html', '--cfg-options', 'val_dataloader.batch_size=1')
    assert done.returncode == 0 and done.stdout == 'sheet: a.html\n' and (tmp_path / 'a.html').is_file(), done.stderr
    done = run('--split', 'vall')
    assert done.returncode == 2 and done.stderr == "error: --split: there is no 'vall'; did you mean 'val'?\n"
