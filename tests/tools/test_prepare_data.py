"""The command that converts annotations."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from mlcls.apis.cli import parse_classes
from mlcls.errors import ConfigError

from .test_flags import load
from .test_user_errors import expect, run

TOOL = load('prepare_data')


def test_flags_are_frozen() -> None:
    found = {
        (action.option_strings or [action.dest])[0]: (action.nargs, action.default)
        for action in TOOL.make_parser()._actions
        if not isinstance(action, argparse._HelpAction)
    }
    assert found == {
        'src': (None, None),
        'dst': (None, None),
        '--format': (None, 'auto'),
        '--classes': (None, None),
        '--class-map': ('+', None),
        '--options': ('+', None),
        '--split': (None, None),
        '--images': (None, None),
        '--corrections': (None, None),
        '--force': (0, False),
    }


def test_classes_are_a_file_or_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a,b.txt').write_text('x\n')
    assert parse_classes('names.txt') == 'names.txt'
    assert parse_classes('a,b.txt') == 'a,b.txt'
    assert parse_classes('cat,hot dog,N/A') == ['cat', 'hot dog', 'N/A']
    assert parse_classes('cat,') == ['cat']


def test_class_maps_are_a_file_or_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a=b.yaml').write_text('x: y\n')
    assert TOOL.parse_class_map(None) is None
    assert TOOL.parse_class_map(['map.yaml']) == 'map.yaml'
    assert TOOL.parse_class_map(['a=b.yaml']) == 'a=b.yaml'
    assert TOOL.parse_class_map(['a=b', 'c=', 'd=None']) == {'a': 'b', 'c': None, 'd': 'None'}
    with pytest.raises(ConfigError, match="--class-map takes one file or old=new pairs, got 'c'"):
        TOOL.parse_class_map(['a=b', 'c'])
    with pytest.raises(ConfigError, match="--class-map gives 'a' twice"):
        TOOL.parse_class_map(['a=b', 'a=c'])


def test_it_converts_and_says_what_it_did(tmp_path: Path) -> None:
    for name in ('a', 'b', 'c'):
        (tmp_path / f'{name}.jpg').write_bytes(b'')
    source, target = tmp_path / 'labels.csv', tmp_path / 'out/new.json'
    source.write_text('filename,split,labels\na.jpg,train,cat/dog\nb.jpg,train,pup\nc.jpg,val,cow\n')
    options = ['--options', 'separator=/', '--class-map', 'pup=dog', '--split', 'train', '--classes', 'dog,cat']
    done = run('prepare_data', source, target, *options)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.split('\n') == [
        f"{source}: recognised as label_list: a CSV file with a column 'labels' of labels",
        '2 images, 2 classes, 3 present labels (1.50 an image), 0 unknown labels',
        '  dog: 2',
        '  cat: 1',
        f"note: {source}: the class map merges 'dog', 'pup' to 'dog'",
        f'note: {source}: the config lists the classes in another order, which the labels now follow',
        f'{target}: written, and reads back equal',
        '',
    ]
    content = json.loads(target.read_text())
    assert content['metainfo'] == {'classes': ['dog', 'cat']}
    assert [(entry['img_path'], sorted(entry['gt_label'])) for entry in content['data_list']] == [
        ('../a.jpg', [0, 1]),
        ('../b.jpg', [0]),
    ]
    expect(run('prepare_data', source, target, *options), r'^error: .*new\.json: exists; force=True \(--force\) replac')


def test_corrections(tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').write_bytes(b'')
    source, fix, target = (tmp_path / name for name in ('labels.csv', 'fix.csv', 'new.json'))
    source.write_text('filename,labels\na.jpg,cat/dog\n')
    fix.write_text('image,class,label,score,kind\na.jpg,dog,0,0.01,wrong\n')
    options = ['--options', 'separator=/', '--corrections', fix]
    done = run('prepare_data', source, target, *options)
    assert (done.returncode, done.stderr) == (0, '')
    assert f'note: {fix}: 1 label corrected (1 now absent)' in done.stdout.split('\n')
    assert json.loads(target.read_text())['data_list'] == [{'img_path': 'a.jpg', 'gt_label': [0]}]
    fix.write_text('image,class,label\na.jpg,dgo,0\n')
    expect(
        run('prepare_data', source, target, '--force', *options),
        r"^error: .*fix\.csv, line 2: no class 'dgo'; did you mean 'dog'\?",
    )


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    expect(run('prepare_data', tmp_path / 'none.csv', tmp_path / 'a.json'), r'^error: .*none\.csv: no such file')
