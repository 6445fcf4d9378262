"""Files of predictions: everything comes back exactly, and what is damaged is refused with its place."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlcls.errors import DataError
from mlcls.evaluation.predictions import Predictions, predictions_of, read_predictions, write_predictions

ENDINGS = ('csv', 'jsonl', 'npz')
HASH = '0123456789abcdef'


def small(**changes: Any) -> Predictions:
    settings: dict[str, Any] = dict(
        scores=torch.tensor([[0.1, 0.5], [0.25, 1.0], [0.0, 0.75]]),
        targets=torch.tensor([[1, 0], [-1, 1], [0, 0]], dtype=torch.int8),
        names=['a.jpg', 'b.jpg', 'c.jpg'],
        classes=('cat', 'dog'),
        thresholds=(0.25, 0.6),
        data_hash=HASH,
    )
    return Predictions(**{**settings, **changes})


def assert_same(found: Predictions, given: Predictions, dtype: torch.dtype | None = None) -> None:
    assert found.scores.dtype == (dtype or given.scores.dtype) and found.targets.dtype == torch.int8
    assert torch.equal(found.scores, given.scores.to(found.scores.dtype)) and torch.equal(found.targets, given.targets)
    assert list(found.names) == list(given.names) and found.classes == given.classes
    assert found.thresholds == given.thresholds and found.data_hash == given.data_hash


# Names that break a careless format: separators, quotes, line ends, other columns' names, half surrogates, a BOM.
names = st.one_of(
    st.text(min_size=0, max_size=8).filter(lambda text: not text.endswith('\0')),
    st.sampled_from(
        [
            'image',
            'data_hash',
            'label:cat',
            'decision:cat>=0.5',
            'a,b',
            '"',
            '""',
            'a\nb',
            'a\r\nb',
            '\r',
            ' a ',
            '\ufeff',
        ]
    ),
    st.sampled_from([b'\xff\xfe.jpg'.decode('utf-8', 'surrogateescape'), '\ud800', '=1+1', '日本語/猫.png']),
)


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    width = draw(st.sampled_from([16, 32]))
    scores = draw(hnp.arrays(np.dtype(f'f{width // 8}'), (rows, columns), elements=st.floats(0, 1, width=width)))
    thresholds = draw(st.none() | st.lists(st.floats(0, 1), min_size=columns, max_size=columns))
    return Predictions(
        torch.from_numpy(scores),
        torch.from_numpy(draw(hnp.arrays(np.int8, (rows, columns), elements=st.integers(-1, 1)))),
        draw(st.lists(names, min_size=rows, max_size=rows)),
        tuple(draw(st.lists(names, min_size=columns, max_size=columns, unique=True))),
        None if thresholds is None else tuple(thresholds),
        draw(st.sampled_from(['', HASH])),
    )


@pytest.mark.parametrize('ending', ENDINGS)
@given(wanted=predictions())
def test_everything_comes_back(tmp_path_factory: pytest.TempPathFactory, ending: str, wanted: Predictions) -> None:
    path = tmp_path_factory.mktemp('p') / f'p.{ending}'
    write_predictions(path, wanted)
    assert_same(read_predictions(path), wanted, torch.float32 if ending == 'csv' else None)


@pytest.mark.parametrize('ending', ENDINGS)
def test_more_rows_than_a_block(tmp_path: Path, ending: str) -> None:
    generator = torch.Generator().manual_seed(0)
    count = 2500
    wanted = Predictions(
        torch.rand(count, 3, generator=generator),
        torch.randint(-1, 2, (count, 3), generator=generator).to(torch.int8),
        [f'{number}.jpg' for number in range(count)],
        ('a', 'b', 'c'),
        (0.5, 0.1, 0.9),
    )
    write_predictions(tmp_path / f'p.{ending}', wanted)
    assert_same(read_predictions(tmp_path / f'p.{ending}'), wanted)


def test_the_csv_is_one_that_others_read(tmp_path: Path) -> None:
    write_predictions(tmp_path / 'p.csv', small())
    with open(tmp_path / 'p.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        'image', 'cat', 'dog', 'label:cat', 'label:dog', 'decision:cat>=0.25', 'decision:dog>=0.600000024', 'data_hash'
    ]  # fmt: skip
    assert [row['label:cat'] for row in rows] == ['1', '-1', '0']
    assert [row['decision:cat>=0.25'] for row in rows] == ['0', '1', '0']  # a score at the threshold is decided
    assert float(rows[0]['cat']) == pytest.approx(0.1) and {row['data_hash'] for row in rows} == {HASH}


def test_the_json_lines_are_ones_that_others_read(tmp_path: Path) -> None:
    write_predictions(tmp_path / 'p.jsonl', small())
    head, *lines = [json.loads(line) for line in (tmp_path / 'p.jsonl').read_text().splitlines()]
    assert head['classes'] == ['cat', 'dog'] and head['num_images'] == 3 and head['data_hash'] == HASH
    assert lines[1] == {'image': 'b.jpg', 'scores': [0.25, 1], 'labels': [-1, 1], 'decided': ['cat', 'dog']}


def test_the_npz_needs_no_pickle(tmp_path: Path) -> None:
    write_predictions(tmp_path / 'p.npz', small())
    with np.load(tmp_path / 'p.npz', allow_pickle=False) as arrays:
        assert arrays['names'].tolist() == ['a.jpg', 'b.jpg', 'c.jpg'] and arrays['targets'].dtype == np.int8


def test_a_csv_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    write_predictions(tmp_path / 'p.csv', small())
    text = (tmp_path / 'p.csv').read_text()
    (tmp_path / 'q.csv').write_bytes(('\ufeff' + text.replace('\n', '\r\n')).encode())
    assert_same(read_predictions(tmp_path / 'q.csv'), small())


def test_an_older_file_stays_when_writing_fails(tmp_path: Path) -> None:
    write_predictions(tmp_path / 'p.npz', small())
    with pytest.raises(DataError, match='ends in a NUL character, which npz cannot hold'):
        write_predictions(tmp_path / 'p.npz', small(names=['a', 'b', 'c\0']))
    assert_same(read_predictions(tmp_path / 'p.npz'), small())
    assert [path.name for path in tmp_path.iterdir()] == ['p.npz']


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(scores=torch.tensor([[0.1, 0.5], [0.2, torch.nan], [0, 0]])),
         r"image 2 of 3 \('b.jpg'\), class 'dog': the score is nan"),
        (dict(scores=torch.tensor([[0.1, 0.5], [0.2, 0], [-3.0, 0]])),
         r"image 3 of 3 \('c.jpg'\), class 'cat': the score is -3"),
        (dict(scores=torch.full((3, 2), torch.inf)), 'the score is inf'),
        (dict(targets=torch.tensor([[1, 0], [2, 1], [0, 0]], dtype=torch.int8)),
         r"image 2 of 3 .*'cat': the label is 2"),
        (dict(targets=torch.tensor([[1, 0], [0, -128], [0, 0]], dtype=torch.int8)), 'the label is -128'),
        (dict(targets=torch.zeros(3, 3, dtype=torch.int8)), r'not \(3, 2\) and \(3, 3\)'),
        (dict(targets=torch.zeros(3, 2)), 'float32 or float16 and targets int8, not float32 and float32'),
        (dict(names=['a']), '1 image names do not fit scores of 3 images and 2 classes'),
        (dict(classes=('cat',)), '1 class names do not fit'),
        (dict(classes=('cat', 'cat')), "two classes are called 'cat'"),
        (dict(thresholds=(0.5,)), '1 thresholds do not fit'),
        (dict(thresholds=(0.5, 1.5)), "threshold of class 'dog' is 1.5"),
        (dict(thresholds=(0.5, float('nan'))), "threshold of class 'dog' is nan"),
        (dict(data_hash='xyz'), "16 hexadecimal digits, not 'xyz'"),
        (dict(scores=torch.zeros(0, 2), targets=torch.zeros(0, 2, dtype=torch.int8), names=[]),
         '0 images of 2 classes'),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        small(**changes)


def test_other_endings_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in .csv, .jsonl, .npz, not '.json'; did you mean '.jsonl'"):
        write_predictions(tmp_path / 'p.json', small())
    with pytest.raises(DataError, match="ends in .csv, .jsonl, .npz, not ''"):
        read_predictions(tmp_path / 'p')
    with pytest.raises(DataError, match='p.csv: no such file of predictions'):
        read_predictions(tmp_path / 'p.csv')


HEAD = 'image,cat,dog,label:cat,label:dog\n'


@pytest.mark.parametrize(
    'text, words',
    [
        ('', 'is empty or ends within a row'),
        (HEAD + 'a,0.5,0.5,1,0', 'ends within a row: the file was cut short'),
        (HEAD, 'holds a header and no image'),
        (HEAD + 'a,0.5,0.5,1\n', 'row 2: has 4 cells, the header 5'),
        (HEAD + 'a,0.5,0.5,1,0\nb,0.5,x,1,0\n', "row 3, column 'dog': 'x' is no number"),
        (HEAD + 'a,0.5,0.5,1,0\nb,0.5,,1,0\n', "row 3, column 'dog': '' is no number"),
        (HEAD + 'a,0.5,0.5,1,2\n', "row 2, column 'label:dog': '2' is no label"),
        (HEAD + 'a,0.5,0.5,1,1.0\n', "row 2, column 'label:dog': '1.0' is no label"),
        (HEAD + 'a,0.5,nan,1,0\n', r"image 1 of 1 \('a'\), class 'dog': the score is nan"),
        (HEAD + 'a,0.5,7,1,0\n', 'the score is 7'),
        ('image,cat,dog,label:dog,label:cat\na,1,1,1,1\n', 'the header is not that of a file of predictions'),
        ('image,cat,label:cat,decision:cat\na,1,1,1\n', 'the header is not that of a file of predictions'),
        ('image\na\n', 'the header is not that of a file of predictions'),
        ('image,cat,label:cat,decision:cat>=x\na,1,1,1\n', 'the header is not that of a file of predictions'),
        ('image,cat,label:cat,decision:cat>=2\na,1,1,1\n', "threshold of class 'cat' is 2"),
        (f'image,cat,label:cat,data_hash\na,1,1,{HASH}\nb,1,1,{HASH[::-1]}\n', 'row 3, .*predictions of two data sets'),
        ('image,cat,label:cat,data_hash\na,1,1,12\n', 'data hash must be 16 hexadecimal digits'),
        ('image,cat,label:cat\n"a"b,1,1\n', 'line 2: is not valid CSV'),
    ],
)
def test_damaged_csv(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / 'p.csv').write_text(text)
    with pytest.raises(DataError, match=rf'p\.csv.*{words}'):
        read_predictions(tmp_path / 'p.csv')


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / 'p.csv').write_bytes(HEAD.encode() + b'\xff\xfe,0.5,0.5,1,0\n')
    with pytest.raises(DataError, match=r'p\.csv: is not UTF-8 text'):
        read_predictions(tmp_path / 'p.csv')


def change_lines(lines: list[str], number: int, old: str, new: str) -> str:
    assert re.search(old, lines[number])
    return '\n'.join([*lines[:number], re.sub(old, new, lines[number]), *lines[number + 1 :]]) + '\n'


@pytest.mark.parametrize(
    'number, old, new, words',
    [
        (0, 'mlcls predictions', 'others', 'line 1: is not the head of a file of predictions'),
        (0, '"version": 1', '"version": 2', 'has version 2, this mlcls reads version 1'),
        (0, '"num_images": 3', '"num_images": 4', 'holds 3 images, but its first line says 4: was it cut short'),
        (0, r'"thresholds": \[0.25', '"thresholds": [7', r'thresholds must be null or a list of numbers in \[0, 1\]'),
        (0, r'"thresholds": \[0.25, ', '"thresholds": [', '1 thresholds do not fit'),
        (0, '"cat", "dog"', '"cat", "cat"', "two classes are called 'cat'"),
        (2, '"image"', '"img"', 'line 3: lacks the name of the image'),
        (2, '^.*$', '[1]', 'line 3: is a list, not an object'),
        (2, '}', '', 'line 3: is not valid JSON'),
        (2, r'"scores": \[', '"scores": [1, ', "line 3, 'scores': 3 values instead of one for each of the 2 classes"),
        (2, '"scores"', '"score"', "line 3, 'scores': none instead of one"),
        (2, r'"scores": \[0.25', '"scores": [NaN', r"image 2 of 3 \('b.jpg'\), class 'cat': the score is nan"),
        (2, r'"scores": \[0.25', '"scores": ["x"', "line 3, 'scores', value 1: 'x' is no number"),
        (2, r'"scores": \[0.25', '"scores": [1' + '0' * 400, "line 3, 'scores': holds a number out of all range"),
        (2, r'"labels": \[-1', '"labels": [true', "line 3, 'labels', value 1: True is no label"),
        (2, r'"labels": \[-1', '"labels": [5', "line 3, 'labels', value 1: 5 is no label"),
    ],
)
def test_damaged_json_lines(tmp_path: Path, number: int, old: str, new: str, words: str) -> None:
    write_predictions(tmp_path / 'p.jsonl', small())
    lines = (tmp_path / 'p.jsonl').read_text().splitlines()
    (tmp_path / 'p.jsonl').write_text(change_lines(lines, number, old, new))
    with pytest.raises(DataError, match=rf'p\.jsonl.*{words}'):
        read_predictions(tmp_path / 'p.jsonl')


def test_json_lines_without_images(tmp_path: Path) -> None:
    head = {'format': 'mlcls predictions', 'version': 1, 'classes': ['a'], 'num_images': 0}
    (tmp_path / 'p.jsonl').write_text(json.dumps(head) + '\n')
    with pytest.raises(DataError, match='holds no image'):
        read_predictions(tmp_path / 'p.jsonl')


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(scores=None), "the array 'scores' is missing"),
        (dict(names=np.arange(3)), "the array 'names' is of type int64"),
        (dict(names=np.array(['a', 'b', 'c'], object)), 'is damaged, or no file of predictions .*allow_pickle'),
        (dict(format='mlcls predictions 2'), "has the format 'mlcls predictions 2'"),
        (dict(names=np.array(['a'])), '1 image names do not fit'),
        (dict(scores=np.zeros((3, 2))), 'scores must be float32 or float16'),
        (dict(thresholds=np.array([1, 2])), "the array 'thresholds' is of type int64"),
        (dict(targets=np.full((3, 2), 3, np.int8)), 'the label is 3'),
    ],
)
def test_damaged_npz(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    write_predictions(tmp_path / 'p.npz', small())
    with np.load(tmp_path / 'p.npz') as stored:
        arrays = {**stored, **changes}
    np.savez(tmp_path / 'p.npz', **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(DataError, match=rf'p\.npz.*{words}'):
        read_predictions(tmp_path / 'p.npz')


def test_npz_that_is_cut_short_or_something_else(tmp_path: Path) -> None:
    path = tmp_path / 'p.npz'
    write_predictions(path, small())
    data = path.read_bytes()
    for content in (b'', data[: len(data) // 2], b'no zip at all', data[:100] + b'\xff' * 40 + data[140:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r'p\.npz'):
            read_predictions(path)
    with open(path, 'wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match='is no npz file, or was cut short'):
        read_predictions(path)


def test_predictions_of_a_result() -> None:
    given = small()
    result: Any = SimpleNamespace(
        scores=given.scores, targets=given.targets, classes=given.classes, num_images=3, left_out=(1,)
    )
    found = predictions_of(result, ['a.jpg', 'left out', 'b.jpg', 'c.jpg'], [0.25, 0.6], HASH)
    assert_same(found, given)
    with pytest.raises(DataError, match='3 image names do not fit 3 images that were evaluated and 1 left out'):
        predictions_of(result, ['a', 'b', 'c'])
