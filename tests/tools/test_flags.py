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
        '--cfg-options': ('+', None),
        '--launcher': (None, 'none'),
        '--local-rank': (None, 0),
    },
    'test': {
        'paths': ('+', None),
        '--out': (None, None),
        '--cfg-options': ('+', None),
        '--launcher': (None, 'none'),
        '--local-rank': (None, 0),
    },
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'tool_{name}', TOOLS / f'{name}.py')
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
