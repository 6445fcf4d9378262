"""The command that compares two results files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mlcls.apis.comparing import CompareFlags, Comparison, compare, format_comparison, sentence, to_json
from mlcls.errors import ConfigError, DataError
from mlcls.evaluation import intervals
from mlcls.evaluation.comparison import ComparedNumber, Difference
from mlcls.evaluation.metrics import AveragePrecision, Metric, ThresholdMetric
from mlcls.evaluation.predictions import Predictions, write_predictions
from mlcls.evaluation.result import EvaluationResult, RunFacts
from mlcls.evaluation.result import to_json as results_to_json
from mlcls.evaluation.table import text_width

from .test_flags import load
from .test_user_errors import expect, run

CLASSES = ('cat', 'dog', 'a class with a long name — 猫と犬と蟻と牛と豚と鳥')


def write_run(
    folder: Path,
    quality: float = 0.4,
    metrics: tuple[Metric, ...] = (ThresholdMetric(), AveragePrecision()),
    num_images: int = 300,
    ending: str = 'npz',
    **facts: object,
) -> Path:
    """A folder with results.json and the predictions of a model; all see the same images."""
    targets = (np.random.default_rng(0).random((num_images, 3)) < 0.4).astype(np.int8)
    noise = np.random.default_rng(1).normal(0, 0.25, targets.shape)
    scores = torch.from_numpy(np.clip(0.5 + quality * (targets - 0.5) + noise, 0, 1)).float()
    labels = torch.from_numpy(targets)
    found = [metric.compute(scores, labels) for metric in metrics]
    protocol = [
        {'metric': type(metric).__name__, 'numbers': ', '.join(each.numbers), **metric.protocol()}
        for metric, each in zip(metrics, found)
    ]
    numbers = {name: value for each in found for name, value in each.numbers.items()}
    columns = {name: values.tolist() for each in found for name, values in each.per_class.items()}
    result = EvaluationResult(numbers, columns, scores, labels, CLASSES, num_images, protocol)
    thresholds = {'source': 'default', 'objective': '', 'words': '', 'data_hash': ''}
    given = {'checkpoint': f'{folder.name}.pth', 'data_hash': 'a' * 16, 'weights_hash': 'b' * 16}
    given |= {'thresholds': thresholds, 'predictions': f'predictions.{ending}', **facts}
    folder.mkdir(parents=True)
    (folder / 'results.json').write_text(json.dumps(results_to_json(result, RunFacts(**given))))
    names = [f'{number}.jpg' for number in range(num_images)]
    kept = Predictions(scores, labels, names, CLASSES, (0.5,) * 3, given['data_hash'])
    write_predictions(folder / f'predictions.{ending}', kept)
    return folder / 'results.json'


def edit(path: Path, change: Callable[[dict], object]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return write_run(tmp_path / 'A')


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return write_run(tmp_path / 'B', quality=0.5)


QUICK = CompareFlags(draws=100)


def test_flags_are_frozen() -> None:
    found = {
        (action.option_strings or [action.dest])[0]: (action.nargs, action.default)
        for action in load('compare').make_parser()._actions
        if not isinstance(action, argparse._HelpAction)
    }
    assert found == {
        'first': (None, None),
        'second': (None, None),
        '--any-protocol': (0, False),
        '--draws': (None, 1000),
        '--seed': (None, 0),
        '--out': (None, None),
    }


def test_it_says_which_is_better_by_how_much(a: Path, b: Path, tmp_path: Path) -> None:
    done = run('compare', a, b, '--out', tmp_path / 'deep' / 'out.json')
    assert (done.returncode, done.stderr) == (0, '')
    lines = done.stdout.rstrip('\n').split('\n')
    assert max(map(text_width, lines)) <= 100 and not any(line != line.rstrip() for line in lines)
    assert lines[:4] == [f'A: {a}', f'B: {b}', 'Different (A | B):', '  checkpoint: A.pth | B.pth'] or len(str(a)) > 97
    content = json.loads((tmp_path / 'deep' / 'out.json').read_text())
    stored = [json.loads(path.read_text())['metrics'] for path in (a, b)]
    number = content['numbers']['multi-label/CF1']
    assert number['first'] == stored[0]['multi-label/CF1'] and number['second'] == stored[1]['multi-label/CF1']
    assert number['difference'] == pytest.approx(number['second'] - number['first'])
    assert 0 < number['interval'][0] < number['difference'] < number['interval'][1]
    assert content['bootstrap']['draws'] == 1000 and content['bootstrap']['words'].startswith(
        '95 % intervals of the diff'
    )
    row = next(line for line in lines if line.startswith('multi-label/CF1')).split(maxsplit=4)
    assert row[1:4] == [
        f'{number[key]:{sign}.2f}' for key, sign in (('first', ''), ('second', ''), ('difference', '+'))
    ]
    assert row[4] == f'[{number["interval"][0]:.2f}, {number["interval"][1]:.2f}]'
    assert 'B is better in CF1 by ' in ' '.join(lines[-3:]) and lines[-1].endswith('.')
    assert any(line.startswith('Classes that differ most (3 of 3;') for line in lines)
    assert content['sentence'].startswith('B is better in ')


def test_the_direction_turns_and_the_seed_counts(a: Path, b: Path) -> None:
    there, back = compare(a, b, QUICK), compare(b, a, QUICK)
    for one, two in zip(there.numbers, back.numbers, strict=True):
        assert one.difference == -two.difference
        assert one.interval == pytest.approx((-two.interval[1], -two.interval[0]))
    assert sentence(back).startswith('A is better in ')
    assert compare(a, b, QUICK) == there
    assert compare(a, b, CompareFlags(draws=100, seed=1)).numbers != there.numbers


def test_a_run_is_the_same_as_itself(a: Path) -> None:
    text = format_comparison(compare(a, a, QUICK))
    assert text.endswith('CF1, OF1, macro_F1 and mAP are the same.')
    assert 'Different' not in text and 'Classes' not in text


@pytest.mark.parametrize('ending', ['csv', 'jsonl'])
def test_every_format_of_predictions(ending: str, a: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / 'C', quality=0.5, ending=ending)
    assert all(number.interval for number in compare(a, other, QUICK).numbers)


# --- refusals ---


def test_other_protocols_are_refused_and_named(a: Path, tmp_path: Path) -> None:
    metrics = (ThresholdMetric(thr=0.4), AveragePrecision(variant='voc07'))
    other = write_run(tmp_path / 'C', metrics=metrics)
    done = run('compare', a, other)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == (
        'error: these were measured under different protocols, so their numbers do not compare:\n'
        f'  A: {a}\n  B: {other}\nWhat differs (A | B):\n'
        '  ThresholdMetric: thresholds: 0.5 | 0.4\n'
        '  AveragePrecision: variant: exact | voc07\n'
        '--any-protocol compares them nevertheless\n'
    )
    found = compare(a, other, CompareFlags(any_protocol=True, draws=100))
    assert all(number.interval for number in found.numbers)  # the same images, so pairs
    text = format_comparison(found)
    assert 'Measured differently (A | B):\n  ThresholdMetric: thresholds: 0.5' in text
    assert text.endswith('models.')


def test_other_data_are_never_paired(a: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / 'C', num_images=299, data_hash='f' * 16)
    with pytest.raises(DataError, match=r'number of images: 300 \| 299\n  data \(hash'):
        compare(a, other, QUICK)
    found = compare(a, other, CompareFlags(any_protocol=True, draws=100))
    assert not any(number.interval for number in found.numbers) and found.draws == 0
    assert found.words == 'no intervals: images cannot be paired, since they are of other data'
    assert 'could be chance is not known. The protocols differ' in sentence(found)
    assert '95 % interval' not in format_comparison(found)


def test_other_classes_are_not_listed_side_by_side(a: Path, b: Path) -> None:
    edit(b, lambda content: content.update(classes=['cat', 'dog', 'cow'], predictions=None))
    with pytest.raises(DataError, match='classes that the other has not: a class .* cow'):
        compare(a, b, QUICK)
    assert compare(a, b, CompareFlags(any_protocol=True, draws=100)).classes == []


def test_results_of_an_older_version(a: Path, b: Path) -> None:
    def age(content: dict) -> None:
        for key in ('thresholds', 'data_hash', 'weights_hash', 'dtype'):
            del content['protocol'][key]

    edit(b, age)
    with pytest.raises(
        DataError,
        match=r'B/results\.json: was written by an older version, .*\(thresholds, data_hash, weights_hash, dtype\); '
        r'test the checkpoint again with tools/test\.py',
    ):
        compare(a, b, QUICK)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda content: content.pop('metrics'),
            r"results\.json: is no results file of tools/test\.py .no 'metrics'",
        ),
        (lambda content: content.update(classes='abc'), r"is no results file of tools/test\.py \(no 'classes'\)"),
        (lambda content: content['protocol'].update(metrics=3), r'results\.json: the protocol is damaged'),
        (lambda content: content['protocol'].update(thresholds=3), r'results\.json: the protocol is damaged'),
        (lambda content: content['protocol'].update(metrics=['x']), r'results\.json: the protocol is damaged'),
        (lambda content: content['metrics'].update({'multi-label/CP': 'x'}), "'multi-label/CP' is no number: 'x'"),
        (lambda content: content['per_class'].update(positives=[1]), "'positives' has not one value for each of the 3"),
        (lambda content: content.update(metrics={'x/y': 1.0}), 'have no number in common'),
    ],
)
def test_files_that_are_no_results(change: Callable[[dict], object], message: str, a: Path, b: Path) -> None:
    edit(b, change)
    with pytest.raises(DataError, match=message):
        compare(a, b, QUICK)


def test_files_that_cannot_be_read(a: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'none\.json: cannot be read'):
        compare(a, tmp_path / 'none.json', QUICK)
    (tmp_path / 'list.json').write_text('[1]')
    with pytest.raises(DataError, match=r"list\.json: is no results file of tools/test\.py \(no 'metrics'\)"):
        compare(a, tmp_path / 'list.json', QUICK)
    (tmp_path / 'text.json').write_text('hello')
    with pytest.raises(DataError, match=r'text\.json: is not valid JSON'):
        compare(a, tmp_path / 'text.json', QUICK)


def test_numbers_that_cannot_be(a: Path, b: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='--draws must be 0 or at least 100, got 99'):
        compare(a, b, CompareFlags(draws=99))
    with pytest.raises(ConfigError, match='--seed must be at least 0, got -1'):
        compare(a, b, CompareFlags(seed=-1))
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match=r'out\.json: cannot be written \(Not a directory\)|cannot be written'):
        compare(a, b, CompareFlags(draws=0, out=tmp_path / 'file' / 'out.json'))


# --- predictions ---


def test_without_predictions_there_are_differences_and_no_intervals(a: Path, b: Path) -> None:
    (b.parent / 'predictions.npz').unlink()
    words = ' '.join(format_comparison(compare(a, b)).split())
    assert f'no intervals: the predictions of {b} are missing ({b.parent / "predictions.npz"})' in words
    assert 'Whether the difference in CF1 (+' in words and words.endswith('could be chance is not known.')
    edit(a, lambda content: content.update(predictions=None))
    found = compare(a, b)
    assert found.words.startswith(f'no intervals: {a} names no file of predictions; the predictions of {b} are missing')
    assert compare(a, b, CompareFlags(draws=0)).words == 'no intervals: no resamplings were asked for'


def test_predictions_of_another_run_are_an_error(a: Path, b: Path) -> None:
    (b.parent / 'predictions.npz').write_bytes((a.parent / 'predictions.npz').read_bytes())
    message = r'B/predictions\.npz: these predictions give multi-label/CP .* are of another run'
    expect(run('compare', a, b), message)


def test_few_images_are_said(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name, quality, num_images=12) for name, quality in (('A', 0.3), ('B', 0.4))]
    assert compare(*paths, QUICK).words.endswith('; only 12 images: the intervals are unreliable')


def test_numbers_that_nothing_can_resample(a: Path, b: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mlcls.evaluation.comparison.resampler', lambda *arguments: None)
    found = compare(a, b, QUICK)
    assert found.words == 'no intervals: none of these numbers can be resampled' and found.draws == 0
    assert intervals.FEWEST_DRAWS == 100


def test_numbers_of_one_file_alone_are_named(a: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / 'C', metrics=(ThresholdMetric(), ThresholdMetric(topk=1)))
    found = compare(a, other, QUICK)
    assert found.only[0] == ['multi-label/mAP'] and 'multi-label/CF1_top1' in found.only[1]
    text = format_comparison(found)
    assert 'only in A: multi-label/mAP\n' in text and 'only in B: multi-label/CP_top1, ' in text


# --- the sentence ---


def number(name: str, first: float, second: float, interval: tuple[float, float] | None) -> ComparedNumber:
    return ComparedNumber(f'multi-label/{name}', first, second, interval)


@pytest.mark.parametrize(
    'numbers, words',
    [
        (
            [number('CF1', 60, 61.2, (0.4, 2.0)), number('mAP', 70, 70.5, (-0.5, 1.5)), number('CP', 1, 9, (7, 9))],
            'B is better in CF1 by 1.20 [0.40, 2.00]; the difference in mAP could be chance.',
        ),
        ([number('mAP', 70, 68, (-3, -1))], 'A is better in mAP by 2.00 [1.00, 3.00].'),
        (
            [number('CF1', 5, 6, (0.5, 2)), number('CF1_top3', 6, 5, (-2, -0.5)), number('OF1', 5, 7, (1, 3))],
            'A is better in CF1_top3 by 1.00 [0.50, 2.00]; B is better in CF1 by 1.00 [0.50, 2.00] and OF1 by 2.00 '
            '[1.00, 3.00].',
        ),
        ([number('mAP', 70, 70, (0, 0)), number('CF1', 1, 1, None)], 'mAP and CF1 are the same.'),
        ([number('mAP', 70, 70, (0, 0))], 'mAP is the same.'),
        ([number('mAP', 70, 70, (-1, 1))], 'The difference in mAP could be chance.'),
        ([number('mAP', 70, 71, None)], 'Whether the difference in mAP (+1.00) could be chance is not known.'),
        ([number('hamming_loss', 5, 4, (-2, -0.5))], 'B is better in hamming_loss by 1.00 [0.50, 2.00].'),
        ([number('mAP', float('nan'), 71, None)], 'No number is defined in both.'),
        (
            [ComparedNumber('x/mAP', 1, 2, (0.5, 2)), ComparedNumber('y/mAP', 1, 2, (0.5, 2))],
            'B is better in x/mAP by 1.00 [0.50, 2.00] and y/mAP by 1.00 [0.50, 2.00].',
        ),
    ],
)
def test_the_sentence(numbers: list[ComparedNumber], words: str) -> None:
    assert sentence(Comparison(('a', 'b'), numbers)) == words


def test_a_warning_follows_where_protocols_differ() -> None:
    found = Comparison(
        ('a', 'b'), [number('mAP', 70, float('nan'), None)], protocol=[Difference('variant', 'exact', 'voc07')]
    )
    assert sentence(found).endswith('The protocols differ: this may be no difference between the models.')
    assert to_json(found)['protocol_differences'] == [['variant', 'exact', 'voc07']]
    assert json.loads(json.dumps(to_json(found), allow_nan=False))['numbers']['multi-label/mAP']['second'] is None
    text = format_comparison(found)
    assert 'multi-label/mAP     70.00         -         -' in text
