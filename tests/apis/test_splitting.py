"""Splitting on disk: files that read back, paths that resolve, groups that stay together, and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcls.apis.splitting import Grouping, SplitFlags, describe_split, split_data
from mlcls.datasets import MultiLabelDataset
from mlcls.errors import ConfigError, DataError

TOOL = Path(__file__).resolve().parents[2] / 'tools/split_data.py'
HALVES = {'one': 0.5, 'two': 0.5}


def labels_by_file(ann_file: Path) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Present and unknown classes of every image, by the real path of its file."""
    data = MultiLabelDataset(ann_file=ann_file)
    infos = [data.get_data_info(number) for number in range(len(data))]
    assert all(os.path.isfile(info['img_path']) for info in infos)
    return {os.path.realpath(i['img_path']): (tuple(i['gt_label']), tuple(i['gt_unknown'])) for i in infos}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file with 24 images of 6 patients, unknown labels, and one image without a patient."""
    rng = np.random.default_rng(0)
    lines = ['filename,cat,dog,patient']
    (tmp_path / 'data/img').mkdir(parents=True)
    for number in range(24):
        name = f'img/p{number % 6}_{number}.png'
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp_path / 'data' / name)
        dog = -1 if number == 5 else int(number % 4 == 0)
        lines.append(f'{name},{int(number % 2)},{dog},{"" if number == 23 else f"patient {number % 6}"}')
    path = tmp_path / 'data/labels.csv'
    path.write_text('\n'.join(lines))
    return path


def without_patients(table: Path) -> Path:
    path = table.with_name('plain.csv')
    path.write_text('\n'.join(line.rpartition(',')[0] for line in table.read_text().splitlines()))
    return path


def test_parts_hold_every_image_once_with_its_labels(table, tmp_path):
    source = without_patients(table)
    split = split_data(source, tmp_path / 'far/away', SplitFlags({'train': 0.75, 'val': 0.25}))
    assert [path.name for path in split.files] == ['train.json', 'val.json']
    train, val = map(labels_by_file, split.files)
    assert len(train) == 18 and len(val) == 6 and not set(train) & set(val)
    assert {**train, **val} == labels_by_file(source)
    assert [unknown for _, unknown in {**train, **val}.values() if unknown] == [(1,)]
    for path in split.files:
        for entry in json.loads(path.read_text())['data_list']:
            assert not os.path.isabs(entry['img_path'])


def test_the_file_says_how_it_was_made(table, tmp_path):
    source = without_patients(table)
    flags = SplitFlags(HALVES, seed=7, command='split_data.py x', grouping=Grouping(regex='p[0-9]'))
    for path in split_data(source, tmp_path / 'out', flags).files:
        record = json.loads(path.read_text())['metainfo']['split']
        assert record.pop('algorithm').startswith('iterative stratification')
        assert record == {
            'part': path.stem,
            'shares': HALVES,
            'folds': None,
            'seed': 7,
            'groups': {'regex': 'p[0-9]', 'number': 6},
            'source': str(source),
            'source_sha256': hashlib.sha256(source.read_bytes()).hexdigest(),
            'command': 'split_data.py x',
        }


def test_folds(table, tmp_path):
    source = without_patients(table)
    split = split_data(source, tmp_path / 'out', SplitFlags(folds=3))
    everything = labels_by_file(source)
    assert sorted(path.name for path in split.files) == [
        f'fold{i}_{part}.json' for i in range(3) for part in ('train', 'val')
    ]
    held_out = []
    for number in range(3):
        train, val = (labels_by_file(tmp_path / f'out/fold{number}_{part}.json') for part in ('train', 'val'))
        assert {**train, **val} == everything and len(train) == 16 and len(val) == 8
        held_out += val
    assert sorted(held_out) == sorted(everything)


def test_the_same_seed_gives_the_same_files(table, tmp_path):
    source = without_patients(table)
    first, again, other = (split_data(source, tmp_path / f'o/{i}', SplitFlags(HALVES, seed=i // 2)) for i in range(3))
    assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in again.files]
    assert (first.parts != other.parts).any()


def patients(path: Path) -> set[str]:
    return {Path(name).name[:2] for name in labels_by_file(path) if not name.endswith('_23.png')}


def test_groups_of_a_column(table, tmp_path):
    split = split_data(table, tmp_path / 'out', SplitFlags(HALVES, grouping=Grouping(column='patient')))
    assert split.classes == ('cat', 'dog')
    one, two = map(patients, split.files)
    assert len(one | two) == 6 and not one & two
    assert split.quality.sizes.tolist() == [12, 12]


def test_the_column_of_paths_can_be_named(table, tmp_path):
    table.write_text(table.read_text().replace('filename', 'photograph', 1))
    dataset = {'format_options': {'path_column': 'photograph'}}
    flags = SplitFlags(HALVES, grouping=Grouping(column='patient'), dataset=dataset)
    one, two = map(patients, split_data(table, tmp_path / 'out', flags).files)
    assert len(one | two) == 6 and not one & two


def test_groups_of_a_pattern(table, tmp_path):
    source = without_patients(table)
    for pattern in (r'(p\d)_', r'p\d', r'(?P<patient>p\d)_(\d+)'):
        flags = SplitFlags(HALVES, grouping=Grouping(regex=pattern), force=True)
        one, two = map(patients, split_data(source, tmp_path / 'out', flags).files)
        assert len(one | two) == 6 and not one & two


def test_groups_of_a_file(table, tmp_path):
    rows = [line.split(',') for line in table.read_text().splitlines()[1:]]
    file = tmp_path / 'groups.csv'
    file.write_text('image,group\n' + '\n'.join(f'./{row[0]},{row[3]}' for row in rows) + '\nother.png,x\n')
    flags = SplitFlags(HALVES, grouping=Grouping(file=str(file)))
    one, two = map(patients, split_data(without_patients(table), tmp_path / 'out', flags).files)
    assert len(one | two) == 6 and not one & two


def test_near_duplicates_stay_together(tmp_path):
    """Each scene twice, the second time recompressed; copies join the groups that are given."""
    rng = np.random.default_rng(0)
    data_list = []
    for number in range(16):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((96, 96), Image.BICUBIC)
        for copy, quality in (('a', 95), ('b', 60)):
            coarse.save(tmp_path / f'{number}{copy}.jpg', quality=quality)
            data_list.append({'img_path': f'{number}{copy}.jpg', 'gt_label': [number % 2]})
    content = {'metainfo': {'classes': ['x', 'y']}, 'data_list': data_list}
    (tmp_path / 'all.json').write_text(json.dumps(content))
    flags = SplitFlags(HALVES, grouping=Grouping(duplicates=True))
    split = split_data(tmp_path / 'all.json', tmp_path / 'out', flags)
    assert (split.parts[::2] == split.parts[1::2]).all() and split.quality.sizes.tolist() == [16, 16]
    joined = SplitFlags(HALVES, grouping=Grouping(regex='[ab]', duplicates=True), force=True)
    with pytest.raises(DataError, match='1 group of images cannot be shared out over 2 parts'):
        split_data(tmp_path / 'all.json', tmp_path / 'out', joined)


def test_absolute_paths_stay(tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    Image.new('RGB', (8, 8)).save(tmp_path / 'b.png')
    (tmp_path / 'all.txt').write_text(f'{tmp_path}/a.png 0\nb.png 1\n')
    flags = SplitFlags(HALVES, dataset={'classes': ['x', 'y']})
    files = split_data(tmp_path / 'all.txt', tmp_path / 'out', flags).files
    found = {json.loads(path.read_text())['data_list'][0]['img_path'] for path in files}
    assert found == {f'{tmp_path}/a.png', '../b.png'}


def test_labels_unknown_by_default_stay_so(tmp_path):
    content = {
        'metainfo': {'classes': ['x', 'y', 'z'], 'default': 'unknown'},
        'data_list': [{'img_path': f'{i}.png', 'gt_label': [i % 2], 'gt_absent': [2]} for i in range(8)],
    }
    for number in range(8):
        Image.new('RGB', (8, 8)).save(tmp_path / f'{number}.png')
    (tmp_path / 'all.json').write_text(json.dumps(content))
    files = split_data(tmp_path / 'all.json', tmp_path / 'out', SplitFlags(HALVES)).files
    one, two = map(labels_by_file, files)
    assert {**one, **two} == labels_by_file(tmp_path / 'all.json')
    assert set(one.values()) == {((0,), (1,)), ((1,), (0,))}


def test_nothing_is_overwritten_unasked(table, tmp_path):
    source, out = without_patients(table), tmp_path / 'out'
    split_data(source, out, SplitFlags(HALVES))
    (out / 'one.json').unlink()
    with pytest.raises(DataError, match='two.json: is there already; --force replaces it'):
        split_data(source, out, SplitFlags(HALVES))
    assert not (out / 'one.json').exists()
    split_data(source, out, SplitFlags(HALVES, force=True))
    with pytest.raises(DataError, match='one.json: is the source itself; write to another folder'):
        split_data(out / 'one.json', out, SplitFlags(HALVES, force=True))


def test_what_is_said(table, tmp_path):
    split = split_data(without_patients(table), tmp_path / 'out', SplitFlags({'a': 0.5, 'b': 0.25, 'c': 0.25}))
    lines = describe_split(split).splitlines()
    header = next(number for number, line in enumerate(lines) if line.split() == ['all', 'a', 'b', 'c'])
    rows = {cells[0]: list(map(int, cells[-4:])) for cells in (line.split() for line in lines[header + 1 : header + 4])}
    assert list(rows) == ['dog', 'cat', 'all'] and rows['all'] == [24, 12, 6, 6]
    for number, name in enumerate(('cat', 'dog')):
        assert rows[name][0] == sum(rows[name][1:]) and rows[name][1:] == split.quality.counts[:, number].tolist()
    assert 'every class is in every part, and sizes are exact' in lines
    assert lines[-1] == 'wrote ' + ', '.join(str(tmp_path / f'out/{name}.json') for name in 'abc')


def test_long_lists_of_shortcomings_are_cut(tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    Image.new('RGB', (8, 8)).save(tmp_path / 'b.png')
    (tmp_path / 'all.txt').write_text('a.png 0\nb.png 1\n')
    flags = SplitFlags(HALVES, dataset={'classes': [f'c{number}' for number in range(30)]})
    text = describe_split(split_data(tmp_path / 'all.txt', tmp_path / 'out', flags))
    assert "class 'c0' is not in " in text and "class 'c5' has no images" in text and 'and 10 more' in text


@pytest.mark.parametrize(
    'flags, message',
    [
        (lambda: SplitFlags({'train': 0.8, 'val': 0.1}), 'must add up to 1, those of train=0.8 val=0.1 add up to 0.9'),
        (lambda: SplitFlags({'../up': 1.0}), "letters, digits, _ and - only, got '../up'"),
        (
            lambda: Grouping(column='a', regex='b'),
            'groups come from a column, a pattern or a file, got column and regex',
        ),
    ],
)
def test_flags_that_are_refused(flags, message):
    with pytest.raises(ConfigError, match=message):
        flags()


@pytest.mark.parametrize(
    'flags, message',
    [
        (dict(parts={'a': 0.99, 'b': 0.01}), "plain.csv: part 'b', a share of 0.01, would have none of the 24 images"),
        (dict(folds=1), '24 images can make 2 to 24 folds, not 1'),
        (dict(parts={'a': 1.5, 'b': -0.5}), 'shares of parts must be above 0, got 1.5, -0.5'),
        (dict(grouping=Grouping(column='pateint')), "has no column 'pateint'"),
        (dict(grouping=Grouping(regex='(')), r"the pattern of groups '\(' is not a regular expression: missing \)"),
        (dict(grouping=Grouping(regex='p[0-4]')), 'does not match 4 of 24 image paths, first .img/p5_5.png'),
        (dict(grouping=Grouping(regex='img')), '1 group of images cannot be shared out over 3 parts'),
    ],
)
def test_splits_that_are_refused(table, tmp_path, flags, message):
    with pytest.raises((DataError, ConfigError), match=message):
        split_data(without_patients(table), tmp_path / 'out', SplitFlags(**flags))
    assert not (tmp_path / 'out').exists()


def test_a_column_needs_a_csv_file(tiny_data, tmp_path):
    with pytest.raises(DataError, match="train.json: is no CSV file, so it has no column 'patient'"):
        split_data(tiny_data / 'train.json', tmp_path / 'out', SplitFlags(grouping=Grouping(column='patient')))


def test_a_file_of_groups_must_know_every_image_once(table, tmp_path):
    file, flags = tmp_path / 'groups.csv', SplitFlags(grouping=Grouping(file=str(tmp_path / 'groups.csv')))
    file.write_text('image,group\nimg/p0_0.png,a\n')
    with pytest.raises(DataError, match='groups.csv: 23 of 24 images are not in it, first .img/p1_1.png'):
        split_data(without_patients(table), tmp_path / 'out', flags)
    file.write_text('image,group\nimg/p0_0.png,a\n./img/p0_0.png,b\n')
    with pytest.raises(DataError, match="line 3 .image './img/p0_0.png'.: group 'b', but 'a' before"):
        split_data(without_patients(table), tmp_path / 'out', flags)
    file.write_text('image,patient\nimg/p0_0.png,a\n')
    with pytest.raises(DataError, match="has no column 'group'"):
        split_data(without_patients(table), tmp_path / 'out', flags)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line in this process; gives the exit code."""

    def _command(*arguments: object) -> int:
        spec = importlib.util.spec_from_file_location('split_data', TOOL)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        try:
            tool.run_command(tool.main)
        except SystemExit as stopped:
            return stopped.code
        return 0

    return _command


def test_the_command(table, tmp_path, command, capsys):
    arguments = [table, '--out', tmp_path / 'out', '--parts', 'train=0.5', 'val=0.5', '--group-column', 'patient']
    assert command(*arguments) == 0
    shown = capsys.readouterr().out
    assert 'all images' in shown and str(tmp_path / 'out/val.json') in shown
    record = json.loads((tmp_path / 'out/val.json').read_text())['metainfo']['split']
    assert record['command'].startswith('split_data.py ') and '--group-column patient' in record['command']
    assert command(*arguments) == 2
    assert 'is there already; --force replaces it' in capsys.readouterr().err
    assert command(*arguments, '--force', '--seed', 3, '--format', 'csv') == 0
    assert json.loads((tmp_path / 'out/val.json').read_text())['metainfo']['split']['seed'] == 3


def test_the_command_knows_the_readers_arguments(table, tmp_path, command):
    source = tmp_path / 'elsewhere.csv'
    lines = without_patients(table).read_text().splitlines()
    source.write_text('\n'.join(f'{line},{"train" if number % 2 else "split"}' for number, line in enumerate(lines)))
    (tmp_path / 'names.txt').write_text('dog\ncat\n')
    given = [
        '--split',
        'train',
        '--images',
        tmp_path / 'data',
        '--classes',
        tmp_path / 'names.txt',
        '--folds',
        '2',
    ]
    assert command(source, '--out', tmp_path / 'out', *given) == 0
    assert len(labels_by_file(tmp_path / 'out/fold1_train.json')) == 6
    assert json.loads((tmp_path / 'out/fold0_val.json').read_text())['metainfo']['classes'] == ['dog', 'cat']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--parts', 'train'], "--parts takes name=share such as val=0.1, got 'train'"),
        (['--parts', 'a=0.5', 'a=0.5'], "--parts names 'a' twice"),
        (['--folds', '3', '--parts', 'a=1'], 'not allowed with argument'),
        (['--group-column', 'a', '--group-file', 'b'], 'not allowed with argument'),
    ],
)
def test_command_lines_that_are_refused(tmp_path, command, capsys, arguments, message):
    assert command('x.csv', '--out', tmp_path / 'out', *arguments) == 2
    assert message in capsys.readouterr().err
