"""Nothing in this project reads a file that could run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for room in ('mlcls', 'tools') for path in (ROOT / room).rglob('*.py'))
#: Modules that read what could run code. `pickle` itself is needed for the name of its error.
FORBIDDEN = ('joblib', 'dill', 'cloudpickle', 'shelve', 'marshal', 'jsonpickle')
READERS = {'load', 'loads', 'Unpickler', 'read_pickle', '_load', '_legacy_load'}


def complaints(source: str, name: str) -> list[str]:
    """What a file does that it must not; each as ``line: what``."""
    tree, found = ast.parse(source), []
    pickles = {'pickle', '_pickle'}  # names by which pickle is known in this file
    torches = {'torch'}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split('.')[0]
                if root in FORBIDDEN:
                    found.append(f'{node.lineno}: imports {alias.name}')
                if root in ('pickle', '_pickle'):
                    pickles.add(alias.asname or alias.name)
                if alias.name == 'torch':
                    torches.add(alias.asname or 'torch')
        elif isinstance(node, ast.ImportFrom):
            root, taken = (node.module or '').split('.')[0], {alias.name for alias in node.names}
            if root in FORBIDDEN or (root in ('pickle', '_pickle') and taken & READERS):
                found.append(f'{node.lineno}: imports from {node.module}')
            if (root == 'torch' and 'load' in taken) or (root == 'mmengine' and taken & {'_load_checkpoint', 'load'}):
                found.append(f'{node.lineno}: imports a reader from {node.module}')
        elif isinstance(node, ast.Call):
            found += [f'{node.lineno}: {words}' for words in _of_call(node, name, pickles, torches)]
    return found


def _of_call(node: ast.Call, name: str, pickles: set[str], torches: set[str]) -> list[str]:
    found = []
    given = {word.arg: word.value for word in node.keywords}
    called = ast.unparse(node.func)
    owner, _, method = called.rpartition('.')
    if owner in torches and method == 'load':
        safe = isinstance(given.get('weights_only'), ast.Constant) and given['weights_only'].value is True  # type: ignore[union-attr]
        if name != 'mlcls/fileio.py' or not safe:
            found.append('torch.load outside fileio.py, or without weights_only=True')
    if owner in pickles and method in READERS:
        found.append(f'{called} reads a pickle')
    if method in ('read_pickle', 'load_state_dict_from_url', 'load_url', '_load_checkpoint'):
        found.append(f'{called} reads a pickle')
    for word, forbidden in (('weights_only', False), ('allow_pickle', True)):
        if word in given and not (isinstance(given[word], ast.Constant) and given[word].value is not forbidden):  # type: ignore[attr-defined]
            found.append(f'{called}({word}={ast.unparse(given[word])})')
    return found


@pytest.mark.parametrize('path', FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_no_file_reads_what_could_run_code(path: Path) -> None:
    assert complaints(path.read_text(), path.relative_to(ROOT).as_posix()) == []


def test_there_are_files() -> None:
    assert len(FILES) > 100
    assert 'torch.load(' in (ROOT / 'mlcls/fileio.py').read_text()


@pytest.mark.parametrize(
    'source',
    [
        'import torch\ntorch.load(p)',
        'import torch as t\nt.load(p, weights_only=True)',
        'from torch import load',
        'import torch\ntorch.load(p, weights_only=flag)',
        'import pickle\npickle.load(f)',
        'import pickle as p\np.loads(b)',
        'from pickle import Unpickler',
        'import pickle\npickle.Unpickler(f)',
        'import numpy as np\nnp.load(p, allow_pickle=True)',
        'import numpy as np\nnp.load(p, allow_pickle=flag)',
        'import joblib',
        'import dill as pickle',
        'import pandas as pd\npd.read_pickle(p)',
        'from mmengine.runner.checkpoint import _load_checkpoint',
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert complaints(source, 'mlcls/other.py')
