"""`pack_data` from annotations and from configs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mlcls.apis.packing import PackFlags, ProgressLines, describe, pack_data, verify_packed
from mlcls.datasets import MultiLabelDataset, read_annotations
from mlcls.datasets.packs import Packed, PackReader, PackSettings
from mlcls.datasets.shards import ShardSize, read_index
from mlcls.errors import ConfigError, DataError

SMALL = PackSettings(short_side=16)


def test_annotations_are_packed_as_they_are_read(tiny_data: Path, tmp_path: Path) -> None:
    packed = pack_data(tiny_data / 'train.json', tmp_path / 'new/a.pack', PackFlags(settings=SMALL))
    assert packed.images == 48
    found, expected = read_annotations(tmp_path / 'new/a.pack'), read_annotations(tiny_data / 'train.json')
    assert found.classes == expected.classes and list(found.img_paths) == list(expected.img_paths)
    assert np.array_equal(found.labels.dense(), expected.labels.dense())
    assert (PackReader(tmp_path / 'new/a.pack').sizes == 16).all()


def test_the_bytes_do_not_depend_on_where_the_data_lie(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_data(tiny_data / 'train.json', tmp_path / 'a.pack')
    moved = tiny_data.rename(tmp_path / 'moved')
    monkeypatch.chdir(moved)
    pack_data('train.json', tmp_path / 'b.pack')
    assert (tmp_path / 'a.pack').read_bytes() == (tmp_path / 'b.pack').read_bytes()
    assert all(note.startswith('train.json: ') for note in PackReader(tmp_path / 'b.pack').annotations.notes)


def test_a_config_names_the_data(tiny_config: Path, tmp_path: Path) -> None:
    """Both packs of a config, and what reads them: the config with another ``ann_file``, and nothing else."""
    for part, count in (('train', 48), ('val', 20)):
        assert pack_data(tiny_config, tmp_path / f'{part}.pack', PackFlags(part, settings=SMALL)).images == count
    text = tiny_config.read_text()
    assert text.count("ann_file='train.json'") == 1
    packs = text.replace("ann_file='train.json'", f'ann_file={str(tmp_path / "train.pack")!r}')
    tiny_config.write_text(packs)
    with pytest.raises(DataError, match='train.pack: is a pack already; pack the annotations that it was made of'):
        pack_data(tiny_config, tmp_path / 'again.pack')


def test_what_a_config_chooses_or_renames_is_left_to_the_config(
    tiny_config: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """It applies it when it reads the pack: done twice, it would be wrong."""
    old = "type='MultiLabelDataset', data_root=data_root, ann_file='train.json'"
    text = tiny_config.read_text()
    assert old in text
    tiny_config.write_text(text.replace(old, old + ", indices=[5, 3], classes=['blue', 'red', 'green']"))
    assert pack_data(tiny_config, tmp_path / 'a.pack').images == 48
    arguments = dict(indices=[5, 3], classes=['blue', 'red', 'green'])
    before = MultiLabelDataset(tiny_data / 'train.json', **arguments)
    after = MultiLabelDataset(tmp_path / 'a.pack', **arguments)
    assert list(after.annotations.img_paths) == list(before.annotations.img_paths)
    assert after.classes == before.classes == ('blue', 'red', 'green')
    assert np.array_equal(after.labels.dense(), before.labels.dense())


def test_splits_and_formats(tiny_data: Path, tmp_path: Path) -> None:
    rows = [f'train/{i}.png,{"train" if i < 5 else "val"},{i % 2}' for i in range(8)]
    (tiny_data / 'all.csv').write_text('\n'.join(['file,split,odd', *rows]))
    flags = PackFlags(dataset={'split': 'val', 'format': 'csv'})
    assert pack_data(tiny_data / 'all.csv', tmp_path / 'val.pack', flags).images == 3
    reader = PackReader(tmp_path / 'val.pack')
    assert reader.split == 'val'
    assert MultiLabelDataset(tmp_path / 'val.pack', split='val').labels.dense().tolist() == [[1], [0], [1]]
    with pytest.raises(DataError, match="holds the part 'val' of the data, not 'train'"):
        MultiLabelDataset(tmp_path / 'val.pack', split='train')
    (tiny_data / 'sub').mkdir()
    (tiny_data / 'all.csv').rename(tiny_data / 'sub/all.csv')
    flags = PackFlags(dataset={'split': 'val', 'data_prefix': str(tiny_data)})
    assert pack_data(tiny_data / 'sub/all.csv', tmp_path / 'other.pack', flags).images == 3


def test_missing_images_are_found_before_the_work_or_left_out(tiny_data: Path, tmp_path: Path) -> None:
    (tiny_data / 'train/7.png').unlink()
    with pytest.raises(DataError, match=r'1 of 48 images do not exist: .*train/7.png'):
        pack_data(tiny_data / 'train.json', tmp_path / 'a.pack')
    assert not list(tmp_path.glob('a.pack*'))
    packed = pack_data(tiny_data / 'train.json', tmp_path / 'a.pack', PackFlags(on_error='skip'))
    assert packed.left_out == [['train/7.png', 'no such file']]
    assert describe('a.pack', packed).endswith('left out 1 image that cannot be used:\n  train/7.png: no such file')


def test_shards(tiny_data: Path, tmp_path: Path) -> None:
    packed = pack_data(tiny_data / 'val.json', tmp_path / 'shards', PackFlags(shards=ShardSize(8), workers=1))
    assert packed.images == 20 == verify_packed(tmp_path / 'shards')
    assert [shard.images for shard in read_index(tmp_path / 'shards').shards] == [8, 8, 4]


def test_configs_that_cannot_be_packed(tiny_config: Path, tmp_path: Path) -> None:
    def refused(words: str, old: str, new: str) -> None:
        text = tiny_config.read_text()
        assert old in text
        tiny_config.write_text(text.replace(old, new))
        with pytest.raises((ConfigError, DataError), match=words):
            pack_data(tiny_config, tmp_path / 'a.pack')
        tiny_config.write_text(text)

    refused('has no train_dataloader; choose from test, val with --part', 'train_dataloader =', 'other =')
    kind = "type='MultiLabelDataset', data_root=data_root, ann_file='train.json'"
    refused('the train data are a ShardDataset; only a MultiLabelDataset', kind, "type='ShardDataset', root='x'")
    refused(r'the dataset cannot be built: .*anotation', kind, kind + ', anotation=1')
    refused(r'none.json', kind, kind.replace('train.json', 'none.json'))
    with pytest.raises(ConfigError, match="part must be one of train, val, test, got 'validation'"):
        PackFlags('validation')


def test_flags_win_over_the_config(tiny_config: Path, tiny_data: Path, tmp_path: Path) -> None:
    flags = PackFlags(dataset={'classes': ['green', 'blue', 'red']})
    pack_data(tiny_config, tmp_path / 'a.pack', flags)
    assert read_annotations(tmp_path / 'a.pack').classes == ('green', 'blue', 'red')


def test_what_is_said_at_the_end() -> None:
    size = 3 * 2**20
    assert describe('a', Packed(1200, size, 1200, [])) == 'a: 1,200 images, 3.0 MiB'
    assert describe('a', Packed(1200, size, 200, [])) == 'a: 1,200 images, 3.0 MiB, 1,000 of them from before'
    assert describe('a', Packed(1200, size, 0, [])) == 'a: 1,200 images, 3.0 MiB (already there)'
    said = describe('a', Packed(3, size, 5, [['b', 'empty'], ['c', 'gone']]))
    assert said.splitlines()[1:] == ['left out 2 images that cannot be used:', '  b: empty', '  c: gone']


def test_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr('time.monotonic', lambda: next(clock))
    progress = ProgressLines()
    for done in range(1, 11):
        progress(1000 * done, 10_000)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # ten calls, two seconds between them, a line each six
    assert re.fullmatch(r'  3,000 of 10,000 images \(500 images/s\)', lines[0])


def test_the_config_trains_from_its_packs(tiny_config: Path, tmp_path: Path) -> None:
    """The real thing: pixels of a raw pack are those of the files, so training ends the same."""
    from mlcls.apis import train
    from mlcls.fileio import read_checkpoint

    options = {'train_cfg.max_epochs': 1}
    before = read_checkpoint(train(tiny_config, options=options) / 'epoch_1.pth')
    for part in ('train', 'val'):
        settings = PackSettings(short_side=0, raw=True)
        pack_data(tiny_config, tmp_path / f'{part}.pack', PackFlags(part, settings=settings))
        options[f'{part}_dataloader.dataset.ann_file'] = str(tmp_path / f'{part}.pack')
    after = read_checkpoint(train(tiny_config, options=options) / 'epoch_1.pth')
    assert before['state_dict'].keys() == after['state_dict'].keys()
    assert all(bool((value == after['state_dict'][name]).all()) for name, value in before['state_dict'].items())
