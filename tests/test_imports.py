"""Who may import whom (docs/architecture.md), and that importing mlcls stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mlcls'
BASE = {'errors', 'registry', 'structures', 'fileio'}
#: Room -> rooms it may import. A room may always import itself and the base.
ALLOWED = {
    'errors': set(),
    'registry': set(),
    'structures': {'errors'},
    'fileio': {'errors'},
    'config': BASE,
    'datasets': BASE,
    'models': BASE,
    'evaluation': BASE,
    'engine': BASE | {'config', 'datasets', 'models', 'evaluation'},
    'apis': BASE | {'config', 'datasets', 'models', 'evaluation', 'engine'},
}


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, at any depth of the code."""
    package = path.relative_to(PACKAGE.parent).with_suffix('').parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = '.'.join(package[: len(package) - node.level + 1]) if node.level else ''
            module = '.'.join(part for part in (prefix, node.module or '') if part)
            names |= {module} | {f'{module}.{alias.name}' for alias in node.names}
    return names


FILES = sorted(path for path in PACKAGE.rglob('*.py'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if room == '__init__':
        return
    used = {name.split('.')[1] for name in imported(path) if name.startswith('mlcls.')}
    used &= ALLOWED.keys()
    assert used <= ALLOWED[room] | {room}, f'{path.name} imports {used - ALLOWED[room] - {room}}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_engine_knows_the_runner(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    names = imported(path)
    assert not any(name.startswith('tools') for name in names)
    if room != 'engine':
        assert not any(name.startswith('mmengine.runner') for name in names)


@pytest.mark.parametrize(
    'module, heavy',
    [
        ('mlcls', {'torch', 'mmengine', 'cv2', 'sklearn', 'PIL'}),
        ('mlcls.datasets', {'cv2', 'sklearn', 'mmcv', 'simplejpeg', 'torchvision', 'mmengine.runner'}),
        ('mlcls.models', {'cv2', 'sklearn', 'mmcv', 'torchvision', 'mmengine.runner'}),
        ('mlcls.evaluation', {'sklearn', 'torchmetrics', 'mmcv', 'torchvision', 'mmengine.runner'}),
        ('mlcls.config', {'sklearn', 'mmcv', 'torchvision', 'mmengine.runner'}),
    ],
)
def test_importing_is_light(module: str, heavy: set[str]) -> None:
    code = f'import sys, {module}; print(*[n for n in {sorted(heavy)!r} if n in sys.modules])'
    loaded = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert not loaded
