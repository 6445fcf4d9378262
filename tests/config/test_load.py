"""Loading: both styles, options, and every way in which a file can be wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlcls.config import apply_options, load_config, load_resolved, normalise
from mlcls.errors import ConfigError

from .conftest import Write

BASE = "model = dict(type='ZooNet', head=dict(type='ZooHead', thr=0.5))\n"


def error_of(path: str | Path, options: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, options)
    message = str(caught.value)
    assert '\n' not in message
    return message


def test_text_style(write: Write) -> None:
    path = write(
        {
            'a.py': "_base_ = ['base/b.py']\nmodel = dict(head=dict(thr=0.3))\nwork_dir = "
            "'runs/{{ fileBasenameNoExtension }}'\n",
            'base/b.py': BASE,
        }
    )
    cfg = load_config(path)
    assert cfg.model.head == dict(type='ZooHead', thr=0.3)
    assert cfg.work_dir == 'runs/a'
    assert cfg.default_scope == 'mlcls'


def test_python_style(write: Write) -> None:
    path = write(
        {
            'a.py': 'from mmengine.config import read_base\nwith read_base():\n    from .base.b import *\n'
            'model.head.thr = 0.3\n',
            'base/b.py': BASE,
        }
    )
    assert load_config(str(path)).model.head.thr == 0.3


def test_python_style_imports_nothing(write: Write) -> None:
    path = write({'a.py': 'from no_such_package import Net\nmodel = dict(type=Net)\n'})
    assert load_config(path, {'model.depth': 3}).default_scope == 'mlcls'


def test_importing_is_light() -> None:
    code = "import sys, mlcls.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True)


# Options --------------------------------------------------------------------------------------------------------------

OPTIONS = [
    ({'model.head.thr': 0.3}, lambda cfg: cfg.model.head.thr, 0.3),
    ({'model.head.topk': 3}, lambda cfg: cfg.model.head.topk, 3),
    ({'brand.new.key': 1}, lambda cfg: cfg.brand.new.key, 1),
    ({'param_scheduler.0.end': 5}, lambda cfg: cfg.param_scheduler[0].end, 5),
    ({'param_scheduler.0.milestones.1': 7}, lambda cfg: cfg.param_scheduler[0].milestones, [1, 7]),
    ({'scale.1': 9}, lambda cfg: cfg.scale, (1, 9)),
    ({'steps.0.x': 9}, lambda cfg: cfg.steps, (dict(x=9),)),
    ({'model.head': dict(topk=1)}, lambda cfg: cfg.model.head, dict(type='ZooHead', thr=0.5, topk=1)),
    ({'model.head': dict(_delete_=True, topk=1)}, lambda cfg: cfg.model.head, dict(topk=1)),
    ({'model.head.topk': 1, 'model.head._delete_': True}, lambda cfg: cfg.model.head, dict(topk=1)),
    ({'model.head._delete_': False}, lambda cfg: cfg.model.head, dict(type='ZooHead', thr=0.5)),
    ({'model.head': None}, lambda cfg: cfg.model.head, None),
    ({'default_scope': 'mlcls'}, lambda cfg: cfg.default_scope, 'mlcls'),
]


@pytest.mark.parametrize('options, get, value', OPTIONS, ids=[str(option[0]) for option in OPTIONS])
def test_options(write: Write, options: dict[str, Any], get: Any, value: Any) -> None:
    path = write(
        {
            'a.py': BASE + "param_scheduler = [dict(type='X', milestones=[1, 2], end=2)]\nscale = (1, 2)\n"
            'steps = (dict(x=1), )\n'
        }
    )
    assert get(load_config(path, options)) == value


@pytest.mark.parametrize(
    'option, words',
    [
        ('model.head.thr.x', 'model.head.thr is 0.5 and has no keys'),
        ('steps.1', "steps is a list of 1; '1' is not a position in it"),
        ('steps.last', "steps is a list of 1; 'last' is not a position in it"),
        ('steps.-1', "steps is a list of 1; '-1' is not a position in it"),
        ('nothing.type', 'nothing is None and has no keys'),
        ('model..thr', "'model..thr' is not a dotted key"),
        ('', "'' is not a dotted key"),
    ],
)
def test_option_that_does_not_fit(write: Write, option: str, words: str) -> None:
    path = write({'a.py': BASE + 'steps = [1]\nnothing = None\n'})
    message = error_of(path, {option: 3})
    assert message.startswith('--cfg-options: ') and words in message


def test_options_do_not_load_classes(write: Write) -> None:
    path = write({'a.py': 'from no_such_package import Net\nmodel = dict(type=Net, parts=[Net, dict(a=1)])\n'})
    cfg = load_config(path)
    apply_options(cfg, {'model.parts.1.a': 2})
    assert cfg._to_lazy_dict()['model']['parts'][1] == dict(a=2)


# Files that cannot be loaded -----------------------------------------------------------------------------------------


def test_missing_file_names_the_nearest(write: Write) -> None:
    write({'configs/resnet18_voc.py': BASE, 'configs/notes.txt': ''})
    message = error_of('configs/resnet18_vco.py')
    assert message == "configs/resnet18_vco.py: there is no such config file; did you mean 'resnet18_voc.py'?"


def test_missing_folder(write: Write) -> None:
    write({'a.py': BASE})
    assert error_of('confgs/a.py') == "confgs/a.py: there is no such config file; there is no folder 'confgs'"


def test_folder(write: Write) -> None:
    write({'configs/a.py': BASE})
    assert error_of('configs') == 'configs: is a folder, not a config file'


@pytest.mark.parametrize('name', ['a.yaml', 'a.json', 'a', 'a.pyc'])
def test_not_python(write: Write, name: str) -> None:
    assert error_of(write({name: BASE})) == f'{name}: a config is a .py file'


@pytest.mark.parametrize('text', ['model = dict(\n', 'model = = 3', 'model = dict(a=1, a=2)', 'def f(:\n  pass'])
def test_syntax_error(write: Write, text: str) -> None:
    message = error_of(write({'a.py': '\n' + text}))
    assert message.startswith('a.py:2: ')


def test_syntax_error_in_base(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.py'\n", 'b.py': 'x = 1\ny = (\n'})
    assert error_of(path).startswith("b.py:2: '(' was never closed")


def test_bytes_that_are_no_text(write: Write) -> None:
    path = write({'a.py': ''})
    path.write_bytes(b'x = "\xff\xfe"')
    assert error_of(path).startswith('a.py: cannot be read: ')
    path.write_bytes(b'x = 1\x00')
    assert error_of(path).startswith('a.py')


@pytest.mark.parametrize(
    'text, words',
    [
        ('x = undefined', "NameError: name 'undefined' is not defined"),
        ('x = dict(a=1)["b"]', 'KeyError: b'),
        ('raise ValueError("two\\nlines")', 'ValueError: two lines'),
        ('assert False', 'AssertionError'),
        ('def f():\n    return 1 / 0\nx = f()', 'ZeroDivisionError: division by zero'),
    ],
)
@pytest.mark.parametrize('start', ['\n', "_base_ = 'b.py'\n", 'from no_such_package import Net\n'])
def test_exception_inside(write: Write, text: str, words: str, start: str) -> None:
    path = write({'a.py': start + text + '\n', 'b.py': ''})
    line = 3 if text.startswith('def') else 2
    message = error_of(path)
    assert message.startswith(f'a.py:{line}: ') and words in message


def test_exception_inside_base(write: Write) -> None:
    path = write({'a.py': "_base_ = ['base/b.py']\n", 'base/b.py': '\n\nx = undefined\n'})
    assert error_of(path) == "base/b.py:3: NameError: name 'undefined' is not defined"
    path = write({'c.py': 'from mmengine.config import read_base\nwith read_base():\n    from .base.b import *\n'})
    assert error_of(path) == "base/b.py:3: NameError: name 'undefined' is not defined"


def test_missing_base(write: Write) -> None:
    path = write({'a.py': "x = 1\n_base_ = [\n    'base/scedule.py',\n]\n", 'base/schedule.py': ''})
    assert error_of(path) == "a.py:3: base file base/scedule.py does not exist; did you mean 'schedule.py'?"


def test_missing_base_of_python_style(write: Write) -> None:
    path = write(
        {
            'a.py': 'from mmengine.config import read_base\nwith read_base():\n    from .base.scedule import *\n',
            'base/schedule.py': '',
        }
    )
    assert error_of(path) == "a.py:3: base file base/scedule.py does not exist; did you mean 'schedule.py'?"


def test_base_that_is_not_python(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.yaml'\n", 'b.yaml': 'a: 1'})
    assert error_of(path) == 'a.py:1: base file b.yaml: a base file must be a .py file'


def test_link_to_a_config(write: Write) -> None:
    write({'real/a.py': "_base_ = 'b.py'\nx = undefined\n", 'linked/b.py': 'y = 1\n'})
    Path('linked/a.py').symlink_to(Path('real/a.py').resolve())
    assert error_of('linked/a.py').startswith('linked/a.py:2: NameError')  # its base is the one beside the link
    assert error_of('real/a.py').startswith('real/a.py:1: base file real/b.py does not exist')


def test_circle(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.py'\n", 'b.py': "\n_base_ = ['a.py']\n"})
    assert error_of(path) == 'b.py:2: inherits from itself: a.py -> b.py -> a.py'
    path = write({'c.py': "_base_ = 'c.py'\n"})
    assert error_of(path) == 'c.py:1: inherits from itself: c.py -> c.py'


def test_key_in_two_bases(write: Write) -> None:
    path = write({'a.py': "_base_ = ['b.py', 'c.py']\n", 'b.py': 'x = 1\ny = 1\n', 'c.py': '\n\ny = 2\n'})
    message = error_of(path)
    assert message.startswith("a.py: 'y' is set by two of its base files (")
    assert 'b.py:2' in message and 'c.py:3' in message


def test_dict_over_something_else(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.py'\nmodel = dict(\n    head=dict(thr=dict(a=1)))\n", 'b.py': BASE})
    message = error_of(path)
    assert message.startswith('a.py:3: model.head.thr: a dict here, but something else in the base file')
    assert 'add _delete_=True' in message


def test_mixed_styles(write: Write) -> None:
    lazy = 'from mmengine.config import read_base\nwith read_base():\n    from .c import *\n'
    message = error_of(write({'a.py': "_base_ = 'b.py'\n", 'b.py': lazy, 'c.py': BASE}))
    assert message == 'a.py inherits by _base_ and b.py by read_base(); use one style in all files of a config'


def test_modules_of_python_itself(write: Write) -> None:
    assert load_config(write({'a.py': 'import math\nx = math.ceil(2.5)\n'})).x == 3
    assert load_config(write({'b.py': "import math\n_base_ = 'a.py'\ny = math.ceil(2.5)\n"})).y == 3


def test_classes_of_text_style(write: Write) -> None:
    files = {
        'a.py': "_base_ = 'b.py'\n",
        'b.py': 'from collections import Counter\nimport torch\nmodel = dict(type=torch.optim.SGD, x=Counter)\n',
    }
    assert load_config(write(files)).model.type.__name__ == 'SGD'


def test_imports_of_python_style_are_not_called(write: Write) -> None:
    message = error_of(write({'a.py': 'from no_such_package import ceil\nx = ceil(2)\n'}))
    assert message == ('a.py:2: RuntimeError: a config of Python style can name what it imports, but not call it')


@pytest.mark.parametrize('text', ["x = '{{_base_.root}}/images'", "x = '{{ _base_.root }}'", 'x = ["{{_base_.root}}"]'])
def test_reference_in_quotes(write: Write, text: str) -> None:
    path = write({'a.py': f"_base_ = 'b.py'\n{text}\n", 'b.py': "root = 'data'\n"})
    message = error_of(path)
    assert message.startswith('a.py:2: ') and message.endswith('write _base_.root without quotes')
    path = write({'a.py': "'''Not {{_base_.root}}.'''\n_base_ = 'b.py'\nx = _base_.root + '/images'\n"})
    assert load_config(path).x == 'data/images'


def test_environment_variable_that_is_not_set(write: Write) -> None:
    message = error_of(write({'a.py': "x = '{{$MLCLS_NO_SUCH_VARIABLE:}}'\n"}))
    assert message.startswith('a.py: ') and 'MLCLS_NO_SUCH_VARIABLE' in message


def test_reserved_name(write: Write) -> None:
    message = error_of(write({'a.py': "text = 'x'\n"}))
    assert message.startswith('a.py: ') and 'text is reserved' in message


# Scope, custom imports, repairs ---------------------------------------------------------------------------------------


def test_other_scope(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.py'\n", 'b.py': "x = 1\ndefault_scope = 'mmpretrain'\n"})
    message = error_of(path)
    assert message.startswith("b.py:2: default_scope is 'mmpretrain'")
    assert message.endswith("set default_scope = 'mlcls'")
    assert error_of(path, {'default_scope': 'mmcls'}).startswith("--cfg-options: default_scope is 'mmcls'")
    assert load_config(path, {'default_scope': 'mlcls'}).default_scope == 'mlcls'


@pytest.mark.parametrize('style', ['', 'from no_such_package import Net\n'])
def test_custom_imports(write: Write, monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    path = write(
        {
            'a.py': style + "custom_imports = dict(\n    imports=['zoo_extra'])\n",
            'zoo_extra.py': 'VALUE = 1\n',
            'zoo_broken.py': 'raise RuntimeError("no")\n',
        }
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(sys.modules, 'zoo_extra', raising=False)
    load_config(path)
    assert sys.modules['zoo_extra'].VALUE == 1
    message = error_of(path, {'custom_imports.imports': ['zoo_missing']})
    assert message.startswith("--cfg-options: custom_imports: cannot import 'zoo_missing': ModuleNotFoundError")
    assert "cannot import 'zoo_broken': RuntimeError: no" in error_of(path, {'custom_imports.imports': 'zoo_broken'})
    with pytest.warns(UserWarning, match='zoo_missing'):
        load_config(path, {'custom_imports': dict(imports=['zoo_missing'], allow_failed_imports=True)})


def test_custom_import_that_fails_names_its_line(write: Write) -> None:
    path = write({'a.py': "custom_imports = dict(\n    imports=['zoo_missing'])\n"})
    assert error_of(path).startswith('a.py:2: custom_imports: ')


@pytest.mark.parametrize(
    'loader, repaired',
    [
        (
            dict(num_workers=0, persistent_workers=True, prefetch_factor=2),
            dict(num_workers=0, persistent_workers=False),
        ),
        (dict(persistent_workers=True), dict(persistent_workers=False)),
        (
            dict(num_workers=2, persistent_workers=True, prefetch_factor=2),
            dict(num_workers=2, persistent_workers=True, prefetch_factor=2),
        ),
        (dict(num_workers=0), dict(num_workers=0)),
    ],
)
def test_workers_are_normalised(loader: dict[str, Any], repaired: dict[str, Any]) -> None:
    cfg = load_resolved(dict(train_dataloader=loader, val_dataloader=loader, test_dataloader=None))
    assert cfg.train_dataloader == cfg.val_dataloader == repaired
    assert normalise(cfg) is cfg


@pytest.mark.parametrize(
    'train_cfg, by_epoch',
    [
        (dict(max_epochs=1), True),
        (dict(max_iters=1), False),
        (dict(by_epoch=False, max_iters=1), False),
        (dict(type='X', max_epochs=1), None),
    ],
)
def test_training_counts_epochs_unless_told(train_cfg: dict[str, Any], by_epoch: bool | None) -> None:
    assert load_resolved(dict(train_cfg=train_cfg)).train_cfg.get('by_epoch') is by_epoch
