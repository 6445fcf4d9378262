"""tools/plot_log.py on a real run."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlcls.apis import TrainFlags, train

TOOL = Path(__file__).resolve().parents[2] / 'tools/plot_log.py'


def plot(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, cwd=folder)


def test_a_resumed_run_is_drawn_whole(tiny_config: Path, tmp_path: Path) -> None:
    """The curve of a run that was stopped and resumed has each step and each validation once."""
    run = train(tiny_config, options={'train_cfg.max_epochs': 2})
    train(tiny_config, TrainFlags(resume=True), options={'train_cfg.max_epochs': 3})
    assert len(list(run.glob('*/vis_data/scalars.json'))) == 2
    done = plot('run', '--csv', 'curves.csv', '--out', 'curves.png', '--smooth', '2', '--x', 'epoch', folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == 'wrote curves.csv\nwrote curves.png\n'
    assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')
    rows = list(csv.DictReader((tmp_path / 'curves.csv').open()))
    assert list(dict.fromkeys(row['key'] for row in rows)) == ['loss', 'lr', 'multi-label/mAP']
    assert [row['iter'] for row in rows if row['key'] == 'loss'] == ['3', '6', '9', '12', '15', '18']
    scores = [row for row in rows if row['key'] == 'multi-label/mAP']
    assert [(row['iter'], float(row['epoch'])) for row in scores] == [('6', 1), ('12', 2), ('18', 3)]
    newest = max(run.glob('*/vis_data/scalars.json'))
    last = [json.loads(line) for line in newest.read_text().splitlines()][-1]
    assert float(scores[-1]['value']) == last['multi-label/mAP']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['nowhere'], 'error: nowhere: there is no such file or folder'),
        (['log.json', '--keys', 'los'], "error: --keys los: nothing of that name was logged; did you mean 'loss'?"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / 'log.json').write_text('{"loss": 1.0, "iter": 1, "step": 1}\n')
    done = plot(*arguments, folder=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (2, message)


def test_help_needs_no_heavy_packages(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['plot_log.py', '--help']\n"
        f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
        'except SystemExit: pass\n'
        "sys.exit(bool({'torch', 'matplotlib', 'numpy'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
