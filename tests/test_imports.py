"""Who may import whom (docs/architecture.md), and that importing mlcls stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mlcls'
BASE = {'errors', 'registry', 'structures', 'fileio', 'startup'}
#: Room -> rooms it may import. A room may always import itself and the base.
ALLOWED = {
    'errors': set(),
    'registry': set(),
    'structures': {'errors'},
    'fileio': {'errors'},
    'startup': set(),
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
        ('mlcls.startup', {'torch', 'mmengine'}),
        (
            'mlcls.engine',
            {
                *('torchvision', 'matplotlib', 'tensorboard', 'torch.utils.tensorboard', 'mmcv', 'sklearn', 'pandas'),
                *('scipy', 'timm', 'onnx', 'torch._dynamo', 'wandb', 'mlflow'),
            },
        ),
    ],
)
def test_importing_is_light(module: str, heavy: set[str]) -> None:
    code = f'import sys, {module}; print(*[n for n in {sorted(heavy)!r} if n in sys.modules])'
    loaded = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert not loaded


#: A step of an optimiser, as all runs take it.
STEP = """
import sys
from mlcls.startup import import_late
import_late()
import torch, mlcls.engine
layer = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
layer(torch.ones(1, 2)).sum().backward()
optimizer.step()
optimizer.zero_grad()
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout


def test_commands_leave_out_compiler_and_sharding() -> None:
    heavy = ('torch._dynamo.eval_frame', 'torch._inductor', 'torch.distributed.fsdp', 'torchvision', 'sympy')
    assert run(f'{STEP}print(*[name for name in {heavy!r} if name in sys.modules])') == '\n'


def test_what_is_left_out_comes_when_it_is_asked_for() -> None:
    """The compiler compiles, and keeps out of its graphs what it otherwise does; classes for sharding are the real."""
    code = f"""{STEP}
from mmengine.registry import MODEL_WRAPPERS, OPTIMIZERS
import mmengine.model
assert torch._dynamo.__name__ == 'torch._dynamo' and 'torch._dynamo.eval_frame' not in sys.modules
zero_grad = torch.optim.Optimizer.zero_grad.__wrapped__
assert vars(zero_grad)['__dynamo_disable'] is zero_grad
compiled = torch.compile(lambda x: x * 2 + 1, backend='eager')
assert compiled(torch.ones(2)).tolist() == [3, 3]
assert torch._dynamo is sys.modules['torch._dynamo'] and torch._dynamo.__file__
optimizer.zero_grad()
assert vars(zero_grad)['__dynamo_disable'] is not zero_grad
try:
    MODEL_WRAPPERS.build(dict(type='MMFullyShardedDataParallel', module=layer))
except Exception as error:
    print(type(error).__name__)
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.optim import ZeroRedundancyOptimizer
from mmengine.optim.optimizer.zero_optimizer import digit_version  # not the class: the module itself
assert issubclass(mmengine.model.MMFullyShardedDataParallel, FullyShardedDataParallel)
assert MODEL_WRAPPERS.get('MMFullyShardedDataParallel') is mmengine.model.MMFullyShardedDataParallel
assert issubclass(OPTIMIZERS.get('ZeroRedundancyOptimizer'), ZeroRedundancyOptimizer)
print('done')
"""
    assert run(code).split()[-1] == 'done'


def test_what_is_imported_already_stays() -> None:
    code = """
import sys, torch._dynamo, mmengine.model
from mlcls.startup import import_late
before = dict(sys.modules)
import_late()
assert sys.modules == before
print('same')
"""
    assert run(code) == 'same\n'
