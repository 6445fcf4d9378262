"""The flags of the command lines are a promise; changing one is a decision, made here."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mlcls.apis.cli import parse_value

TOOLS = Path(__file__).resolve().parents[2] / 'tools'

FLAGS = {
    'train': {
        'config': (None, None),
        '--work-dir': (None, None),
        '--resume': ('?', None),
        '--amp': (0, False),
        '--no-validate': (0, False),
        '--auto-scale-lr': (0, False),
        '--no-pin-memory': (0, False),
        '--no-persistent-workers': (0, False),
        '--seed': (None, None),
        '--load-from': (None, None),
        '--profile': (0, False),
        '--dry-run': (0, False),
        '--cfg-options': ('+', None),
        '--launcher': (None, 'none'),
        '--local-rank': (None, 0),
    },
    'test': {
        'paths': ('+', None),
        '--thresholds': (None, None),
        '--allow-fit-on-test': (0, False),
        '--tta': (0, False),
        '--report': (None, None),
        '--cam': ('?', None),
        '--out': (None, None),
        '--predictions': ('+', []),
        '--order': (None, 'support'),
        '--bootstrap': (None, None),
        '--cfg-options': ('+', None),
        '--launcher': (None, 'none'),
        '--local-rank': (None, 0),
    },
    'compare': {
        'first': (None, None),
        'second': (None, None),
        '--any-protocol': (0, False),
        '--draws': (None, 1000),
        '--seed': (None, 0),
        '--out': (None, None),
    },
    'plot_log': {
        'paths': ('+', None),
        '--keys': ('+', None),
        '--out': (None, None),
        '--csv': (None, None),
        '--smooth': (None, 1),
        '--x': (None, 'iter'),
    },
    'fit_thresholds': {
        'paths': ('+', None),
        '--objective': (None, 'f1'),
        '--calibration': (None, None),
        '--no-shrink': (0, False),
        '--folds': (None, 5),
        '--bootstrap': (None, 200),
        '--seed': (None, 0),
        '--data': (None, 'val'),
        '--allow-fit-on-test': (0, False),
        '--tta': (0, False),
        '--out': (None, None),
        '--cfg-options': ('+', None),
        '--launcher': (None, 'none'),
        '--local-rank': (None, 0),
    },
    'analysis/complexity': {
        'config': (None, None),
        '--shape': ('+', None),
        '--batch-size': (None, 8),
        '--repeats': (None, 5),
        '--no-speed': (0, False),
        '--out': (None, None),
        '--cfg-options': ('+', None),
    },
    'analysis/visualize_cam': {
        'paths': ('+', None),
        '--images': ('+', None),
        '--num': (None, 16),
        '--method': (None, 'auto'),
        '--top': (None, 5),
        '--thresholds': (None, None),
        '--out': (None, None),
        '--singles': (0, False),
        '--cfg-options': ('+', None),
    },
    'find_lr': {
        'config': (None, None),
        '--start': (None, 1e-6),
        '--end': (None, 1.0),
        '--steps': (None, 100),
        '--out': (None, 'lr.png'),
        '--cfg-options': ('+', None),
    },
    'find_batch_size': {
        'config': (None, None),
        '--max': (None, None),
        '--target-memory': (None, 0.9),
        '--cfg-options': ('+', None),
    },
    'browse_dataset': {
        'config': (None, None),
        '--split': (None, 'train'),
        '--number': (None, 32),
        '--epoch': (None, 0),
        '--out': (None, None),
        '--original': (0, False),
        '--balance': ('*', None),
        '--cfg-options': ('+', None),
    },
    'split_data': {
        'source': (None, None),
        '--out': (None, None),
        '--parts': ('+', None),
        '--folds': (None, None),
        '--group-column': (None, None),
        '--group-regex': (None, None),
        '--group-file': (None, None),
        '--keep-duplicates-together': (0, False),
        '--workers': (None, 0),
        '--seed': (None, 0),
        '--format': (None, 'auto'),
        '--split': (None, None),
        '--classes': (None, None),
        '--images': (None, None),
        '--options': ('+', None),
        '--force': (0, False),
    },
    'check_data': {
        'source': (None, None),
        '--html': (None, None),
        '--json': (None, None),
        '--workers': (None, None),
        '--format': (None, 'auto'),
        '--split': (None, None),
        '--classes': (None, None),
        '--images': (None, None),
        '--options': ('+', None),
        '--no-images': (0, False),
        '--fail-on': (None, 'warning'),
        '--cfg-options': ('+', None),
    },
    'pack_data': {
        'paths': ('+', None),
        '--part': (None, 'train'),
        '--format': (None, 'auto'),
        '--split': (None, None),
        '--classes': (None, None),
        '--images': (None, None),
        '--options': ('+', None),
        '--short-side': (None, 256),
        '--raw': (0, False),
        '--quality': (None, 90),
        '--workers': (None, 0),
        '--on-error': (None, 'raise'),
        '--shards': (0, False),
        '--shard-size': (None, '1000'),
        '--verify': (0, False),
    },
    'start_project': {
        'source': (None, None),
        'name': (None, None),
        '--format': (None, 'auto'),
        '--classes': (None, None),
        '--images': (None, ''),
        '--options': ('+', None),
        '--image-size': (None, 224),
        '--weights': (None, 'torchvision://mobilenet_v2'),
        '--seed': (None, 0),
        '--split-anew': (0, False),
        '--force': (0, False),
        '--train': (0, False),
    },
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'tool_{Path(name).name}', TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('name', FLAGS)
def test_flags_are_frozen(name: str) -> None:
    parser = load(name).make_parser()
    found = {
        (action.option_strings or [action.dest])[0]: (action.nargs, action.default)
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    }
    assert found == FLAGS[name]


@pytest.mark.parametrize('arguments, resume', [([], None), (['--resume'], 'auto'), (['--resume', 'a.pth'], 'a.pth')])
def test_resume_takes_a_path_or_none(arguments: list[str], resume: str | None) -> None:
    assert load('train').make_parser().parse_args(['c.py', *arguments]).resume == resume


def test_launchers() -> None:
    for launcher in ('none', 'pytorch', 'slurm', 'mpi'):
        assert load('train').make_parser().parse_args(['c.py', '--launcher', launcher]).launcher == launcher
    assert load('train').make_parser().parse_args(['c.py', '--local_rank', '3']).local_rank == 3


@pytest.mark.parametrize(
    'text, value',
    [
        ('3', 3),
        ('1e-3', 1e-3),
        ('true', True),
        ('False', False),
        ('None', None),
        ('null', None),
        ('SGD', 'SGD'),
        ('[1,2]', [1, 2]),
        ('(0.9,0.999)', (0.9, 0.999)),
        ('1,2', (1, 2)),
        ('a,b', ['a', 'b']),
        ("'3'", '3'),
        ('{"a": 1}', {'a': 1}),
        ('multi-label/mAP', 'multi-label/mAP'),
        ('', ''),
    ],
)
def test_option_values(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_options_accumulate_and_want_an_equals_sign(capsys: pytest.CaptureFixture[str]) -> None:
    parser = load('train').make_parser()
    args = parser.parse_args(['c.py', '--cfg-options', 'a.b=1', 'c=x=y', '--cfg-options', 'd=2'])
    assert args.cfg_options == {'a.b': 1, 'c': 'x=y', 'd': 2}
    with pytest.raises(SystemExit):
        parser.parse_args(['c.py', '--cfg-options', 'a.b'])
    assert "--cfg-options takes key=value, got 'a.b'" in capsys.readouterr().err


@pytest.mark.parametrize('script', ['dist_train.sh', 'slurm_train.sh'])
def test_shell_wrappers_say_how_they_are_used(script: str) -> None:
    import subprocess

    done = subprocess.run([TOOLS / script], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith('usage:')
