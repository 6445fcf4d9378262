"""Reading the logs of runs, resumed and damaged ones too, and drawing them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlcls.apis.log_curves import CurveFlags, choose_keys, draw_figure, draw_runs, running_mean
from mlcls.apis.run_logs import read_run
from mlcls.errors import ConfigError, DataError


def step(iteration: int, loss: float, epoch: int, **others: Any) -> dict[str, Any]:
    return {'lr': 0.1, 'loss': loss, 'time': 2.0, 'epoch': epoch, 'iter': iteration, 'step': iteration, **others}


def validation(epoch: int, value: float) -> dict[str, Any]:
    return {'multi-label/CF1': value - 1, 'multi-label/mAP': value, 'step': epoch}


def write_log(work_dir: Path, start: str, records: list[Any], both: bool = True) -> Path:
    """A log as a run leaves it: the same lines in two files, beside a config that is no log."""
    folder = work_dir / start / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(f'{json.dumps(record)}\n' for record in records)
    (folder / f'{start}.json').write_text(text)
    if both:
        (folder / 'scalars.json').write_text(text)
    (folder / 'config.py').write_text('raise SystemExit')
    return folder / 'scalars.json'


def test_a_resumed_run_is_one_curve(tmp_path: Path) -> None:
    """Stopped in epoch 3, resumed from epoch 2: what the second log says counts from its first step on."""
    first = [step(5, 9, 1), step(10, 8, 1), validation(1, 50), step(15, 7, 2), step(20, 6, 2), validation(2, 60)]
    write_log(tmp_path, '20300101_000000', [*first, step(25, 99, 3), step(30, 99, 3), validation(3, 99)])
    second = [validation(2, 61), step(25, 5, 3), step(30, 4, 3), validation(3, 70)]
    write_log(tmp_path, '20300101_000000_2', second)
    (tmp_path / 'best_multi-label_CF1.pth').touch()
    run = read_run(tmp_path)
    assert run.name == tmp_path.name and run.main == 'multi-label/CF1'
    loss, score = run.curves['loss'], run.curves['multi-label/mAP']
    assert loss.iterations.tolist() == [5, 10, 15, 20, 25, 30] and loss.values.tolist() == [9, 8, 7, 6, 5, 4]
    assert loss.epochs.tolist() == [0.5, 1, 1.5, 2, 2.5, 3] and loss.seconds.tolist() == [10, 20, 30, 40, 50, 60]
    assert score.values.tolist() == [50, 61, 70] and score.iterations.tolist() == [10, 20, 30]
    assert score.epochs.tolist() == [1, 2, 3] and score.seconds.tolist() == [20, 40, 60]
    assert loss.in_training and not score.in_training and 'step' not in run.curves


def test_starts_are_ordered_as_numbers_and_a_start_from_scratch_replaces_all(tmp_path: Path) -> None:
    for number in (2, 9, 10):
        write_log(
            tmp_path, f'20300101_000000_{number}', [step(1, number, 1), *([step(2, 2, 1)] if number == 2 else [])]
        )
    assert read_run(tmp_path).curves['loss'].values.tolist() == [10]


def test_a_start_that_logged_nothing_changes_nothing(tmp_path: Path) -> None:
    write_log(tmp_path, '20300101_000000', [step(1, 3, 1), validation(1, 5)])
    write_log(tmp_path, '20300102_000000', [])
    run = read_run(tmp_path)
    assert run.curves['loss'].values.tolist() == [3] and run.curves['multi-label/mAP'].values.tolist() == [5]


def test_resumed_inside_an_epoch(tmp_path: Path) -> None:
    write_log(tmp_path, '20300101_000000', [step(10, 3, 1), validation(1, 5), step(15, 2, 2), step(20, 99, 2)])
    write_log(tmp_path, '20300102_000000', [step(20, 1, 2), validation(2, 6)])
    run = read_run(tmp_path)
    assert run.curves['loss'].values.tolist() == [3, 2, 1]
    assert run.curves['multi-label/mAP'].values.tolist() == [5, 6]


def test_what_may_be_given_as_a_run(tmp_path: Path) -> None:
    file = write_log(tmp_path / 'run', '20300101_000000', [step(1, 3, 1)])
    for path in (tmp_path / 'run', tmp_path / 'run/20300101_000000', file.parent, file):
        assert read_run(path).curves['loss'].values.tolist() == [3], path
    file.unlink()  # the other file says the same
    assert read_run(tmp_path / 'run').curves['loss'].values.tolist() == [3]


def test_what_a_kill_and_odd_values_leave(tmp_path: Path) -> None:
    file = tmp_path / 'log.json'
    file.write_text(
        '{"loss": NaN, "iter": 1, "step": 1, "note": "text", "flag": true, "part": null}\n'
        '\n[1, 2]\n{"loss": 2.0, "iter": 2, "step": 2}\n{"loss": 1.0, "it'
    )
    run = read_run(file)
    assert run.torn == 2 and set(run.curves) == {'loss', 'part'}
    assert math.isnan(run.curves['loss'].values[0]) and run.curves['loss'].values[1] == 2
    assert np.isnan(run.curves['loss'].epochs).all() and np.isnan(run.curves['loss'].seconds).all()


def test_validations_between_log_lines_far_apart(tmp_path: Path) -> None:
    """Epochs of 3 steps, a line every 10: a validation is placed by the length of an epoch."""
    file = tmp_path / 'log.json'
    records = [validation(1, 1), validation(2, 2), validation(3, 3), step(10, 1, 4), validation(4, 4)]
    file.write_text('\n'.join(json.dumps(record) for record in records))
    assert read_run(file).curves['multi-label/mAP'].iterations.tolist() == [3, 6, 9, 10]


def test_only_validations(tmp_path: Path) -> None:
    write_log(tmp_path, '20300101_000000', [validation(1, 5), validation(2, 6)])
    run = read_run(tmp_path)
    assert run.curves['multi-label/mAP'].epochs.tolist() == [1, 2]
    assert choose_keys([run], None) == ['multi-label/mAP']


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'there is no such file or folder'),
        ({}, r'has no log \(<time>/vis_data/scalars.json\); is it the work folder of a run'),
        ({'20300101_000000/vis_data/scalars.json': ''}, 'nothing was logged yet'),
        ({'20300101_000000/vis_data/scalars.json': 'a,b\n1,2\n'}, 'is not a log: .* a JSON object in each line'),
        ({'20300101_000000/vis_data/scalars.json': '{"a": 1}\n'}, 'nothing was logged yet'),
    ],
)
def test_what_is_no_run(tmp_path: Path, content: dict[str, str] | None, message: str) -> None:
    folder = tmp_path / 'run'
    for name, text in (content or {}).items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    if content == {}:
        folder.mkdir()
    with pytest.raises(DataError, match=message):
        read_run(folder)


def test_keys(tmp_path: Path) -> None:
    write_log(tmp_path, '20300101_000000', [step(1, 3, 1, **{'head/loss_a': 1.0, 'b/AP': 1.0}), validation(1, 5)])
    runs = [read_run(tmp_path)]
    assert choose_keys(runs, None) == ['loss', 'lr', 'multi-label/mAP']
    assert choose_keys(runs, ['mAP', 'loss', 'multi-label/mAP']) == ['multi-label/mAP', 'loss']
    with pytest.raises(ConfigError, match=r"--keys los: nothing of that name was logged; did you mean 'loss'\?"):
        choose_keys(runs, ['los'])
    with pytest.raises(ConfigError, match=r"did you mean 'mAP'\?"):
        choose_keys(runs, ['map'])
    (tmp_path / 'two').mkdir()
    write_log(tmp_path / 'two', '20300101_000000', [{'val/CF1': 1.0, 'test/CF1': 2.0, 'step': 1}])
    with pytest.raises(ConfigError, match='--keys CF1: could be any of val/CF1, test/CF1; give the whole name'):
        choose_keys([read_run(tmp_path / 'two')], ['CF1'])


def test_running_mean() -> None:
    values = np.array([1.0, 3.0, np.nan, 5.0, 7.0])
    np.testing.assert_array_equal(running_mean(values, 1), values)
    np.testing.assert_allclose(running_mean(values, 2), [1, 2, np.nan, 5, 6])
    np.testing.assert_allclose(running_mean(values, 99), [1, 2, np.nan, 3, 4])
    rng = np.random.default_rng(0)
    long = rng.normal(size=200)
    expected = [np.mean(long[max(0, n - 6) : n + 1]) for n in range(200)]
    np.testing.assert_allclose(running_mean(long, 7), expected)


def test_figure(tmp_path: Path) -> None:
    """What is drawn is what was logged: points, labels, one legend, and one stretch of the run in all panels."""
    records = [step(10 * n, 2.0 + (-1) ** n, 1, lr=1.0 / n) for n in range(1, 8)]
    write_log(tmp_path / 'a', '20300101_000000', [*records, validation(1, 50)])
    write_log(tmp_path / '_b$', '20300101_000000', records[:1])
    runs = [read_run(tmp_path / name) for name in ('a', '_b$')]
    figure = draw_figure(runs, ['loss', 'lr', 'multi-label/mAP'], CurveFlags(smooth=2))
    loss, rate, score = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ['loss', 'lr', 'multi-label/mAP']
    assert loss.get_xlabel() == 'iteration' and loss.get_xlim() == rate.get_xlim() == score.get_xlim()
    raw, smooth, *_ = (line.get_ydata() for line in loss.lines)
    assert raw.tolist() == [1, 3] * 3 + [1] and smooth.tolist() == [1] + [2] * 6
    assert [len(line.get_xdata()) for line in rate.lines] == [7, 1] and rate.lines[1].get_marker() == 'o'
    assert rate.lines[0].get_ydata().tolist() == [record['lr'] for record in records]  # set, not smoothed
    (legend,) = figure.legends
    assert [text.get_text().strip() for text in legend.get_texts()] == ['a', r'_b\$']
    colors = {line.get_color() for line in rate.lines}
    assert len(colors) == 2


@pytest.mark.parametrize('axis, label, last', [('epoch', 'epoch', 3), ('time', 'training time (min)', 5)])
def test_axes(tmp_path: Path, axis: str, label: str, last: float) -> None:
    write_log(tmp_path, '20300101_000000', [step(50 * n, 1, n, time=2.0) for n in (1, 2, 3)])
    figure = draw_figure([read_run(tmp_path)], ['loss'], CurveFlags(axis=axis))
    assert figure.axes[0].get_xlabel() == label and figure.axes[0].lines[0].get_xdata()[-1] == last


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for parent in ('x', 'y'):
        write_log(tmp_path / parent / 'run', '20300101_000000', [step(1, 0.1, 1), step(2, math.nan, 1)])
    write_log(tmp_path / 'other', '20300101_000000', [validation(1, 50)])
    lines = draw_runs(['x/run', 'y/run', 'other'], CurveFlags(keys=['loss', 'mAP'], out='out/c.png', csv='c.csv'))
    assert lines == [
        'x/run: has no multi-label/mAP',
        'y/run: has no multi-label/mAP',
        'other: has no loss',
        'wrote c.csv',
        'wrote out/c.png',
    ]
    with Image.open('out/c.png') as picture:
        assert picture.width > 600 and len(picture.convert('RGB').getcolors(1 << 24)) > 10
    with open('c.csv', newline='') as file:
        rows = list(csv.reader(file))
    assert rows == [
        ['run', 'key', 'iter', 'epoch', 'seconds', 'value'],
        ['x/run', 'loss', '1', '0.5', '2.0', '0.1'],
        ['x/run', 'loss', '2', '1.0', '4.0', ''],
        ['y/run', 'loss', '1', '0.5', '2.0', '0.1'],
        ['y/run', 'loss', '2', '1.0', '4.0', ''],
        ['other', 'multi-label/mAP', '1', '1.0', '', '50.0'],
    ]
    assert draw_runs(['other'], CurveFlags(csv='d.csv')) == ['wrote d.csv'] and not Path('curves.png').exists()
    assert draw_runs(['other']) == ['wrote curves.png'] and Path('curves.png').stat().st_size > 5000


@pytest.mark.parametrize(
    'flags, message',
    [
        (CurveFlags(axis='epochs'), r"--x: there is no axis 'epochs'; did you mean 'epoch'\?"),
        (CurveFlags(smooth=0), '--smooth must be at least 1, a number of log lines; got 0'),
        (CurveFlags(out='curves.txt'), r'--out curves.txt: a picture ends in .png, .pdf or .svg'),
        (CurveFlags(axis='time'), "--x time: the log of run has no 'time'; draw it by iter or epoch"),
    ],
)
def test_flags_that_cannot_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: CurveFlags, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / 'run', '20300101_000000', [{'loss': 1.0, 'iter': 1, 'epoch': 1, 'step': 1}])
    with pytest.raises(ConfigError, match=message):
        draw_runs(['run'], flags)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    write_log(tmp_path / 'run', '20300101_000000', [step(1, 1, 1)])
    (tmp_path / 'file').touch()
    with pytest.raises(DataError, match='c.png: cannot be written'):
        draw_runs([tmp_path / 'run'], CurveFlags(out=str(tmp_path / 'file/c.png')))
