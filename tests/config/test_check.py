"""Every message of ``check_config``: its place, its key, and what it suggests."""

from __future__ import annotations

from typing import Any

import mmengine.registry
import pytest

from mlcls import registry
from mlcls.config import Sources, check_config, load_config, load_resolved, to_plain

from .conftest import VALID, Write, ZooHead, problems_of


def test_valid(write: Write) -> None:
    assert problems_of(write({'a.py': VALID})) == []


def change(old: str, new: str) -> str:
    """The valid config with one thing changed."""
    assert old in VALID
    return VALID.replace(old, new, 1)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count('\n') + 1


def test_lines_are_exact(write: Write) -> None:
    text = VALID.replace('        thr=0.5', '        thrr=0.5')
    text = text.replace("type='ZooSet', ann_file='val.json'", "type='ZooSet'")
    problems = problems_of(write({'a.py': text}))
    assert [problem.split(': ')[0] for problem in problems] == [
        f'a.py:{line_of(text, "        thrr")}',
        f'a.py:{line_of(text, "    dataset=dict(type=")}',
    ]


def test_all_problems_at_once(write: Write) -> None:
    text = VALID.replace("'ZooHead'", "'ZooHaed'").replace('lr=0.1', 'lr=-1').replace('topk=3', 'topk=0')
    keys = [problem.split(': ')[1] for problem in problems_of(write({'a.py': text}))]
    assert keys == ['model.head.type', 'optim_wrapper.optimizer.lr', 'val_evaluator.1.topk']


def test_missing_model(write: Write) -> None:
    assert problems_of(write({'a.py': 'work_dir = "x"\n'})) == ['a.py: model: is missing']


def test_scheduler_without_optimizer(write: Write) -> None:
    path = write({'a.py': "model = dict(type='ZooLoss')\nparam_scheduler = dict(type='LinearLR')\n"})
    assert problems_of(path) == ['a.py:2: param_scheduler: given without optim_wrapper, whose learning rate it changes']


def test_data_preprocessor_at_the_top_needs_no_type(write: Write) -> None:
    model = "    data_preprocessor=dict(type='ZooPreprocessor', mean=[0, 0, 0], std=[1, 1, 1]),\n"
    assert model in VALID
    valid = VALID.replace(model, '')
    assert problems_of(write({'a.py': valid + "data_preprocessor = dict(type='ZooPreprocessor', mean=[0])\n"})) == []
    assert len(problems_of(write({'a.py': valid + "data_preprocessor = dict(typ='ZooPreprocessor')\n"}))) <= 1


def test_two_data_preprocessors(write: Write) -> None:
    (problem,) = problems_of(write({'a.py': VALID + 'data_preprocessor = dict(mean=[0])\n'}))
    assert 'data_preprocessor: has no effect, since model.data_preprocessor is set; write model = dict(' in problem


def test_evaluator_that_holds_metrics(write: Write) -> None:
    text = VALID.replace('val_evaluator = [', 'val_evaluator = dict(metrics=[')
    text = text.replace("prefix='top3')]", "prefix='top3')])")
    assert problems_of(write({'a.py': text})) == []
    problems = problems_of(write({'a.py': text.replace("type='ZooMetric', thr", "type='ZooMetrik', thr")}))
    assert len(problems) == 1 and 'val_evaluator.metrics.0.type: unknown metric' in problems[0]


def test_several_optimizers(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    class ZooConstructor:
        def __init__(self, optim_wrapper_cfg: Any, paramwise_cfg: Any = None) -> None: ...

    monkeypatch.setitem(registry.OPTIM_WRAPPER_CONSTRUCTORS.module_dict, 'ZooConstructor', ZooConstructor)
    text = change(
        VALID[VALID.index('optim_wrapper = ') : VALID.index('val_dataloader')],
        """
one = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
optim_wrapper = dict(constructor='ZooConstructor', first=one, second=one)
param_scheduler = dict(first=[dict(type='LinearLR')], second=dict(type='LinearLR', end=3))
""",
    )
    assert problems_of(write({'a.py': text})) == []
    problems = problems_of(write({'a.py': text.replace('end=3', 'edn=3').replace("type='SGD'", "type='SDG'")}))
    assert [problem.split(': ')[1] for problem in problems] == [
        'optim_wrapper.first.optimizer.type',
        'param_scheduler.second.edn',
    ]
    own_rules = change('    clip_grad=', "    constructor='ZooConstructor', clip_grad=")
    assert problems_of(write({'a.py': own_rules.replace('norm_decay_mult', 'mine')})) == []


def test_parts_belong_to_the_registry_around_them(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    class ZooTwo:
        def __init__(self, branch: Any = None, settings: Any = None) -> None: ...

    monkeypatch.setitem(registry.MODELS.module_dict, 'ZooTwo', ZooTwo)
    text = "model = dict(type='ZooTwo', settings=dict(types=3, thr=2), branch=dict(type='ZooHaed'))\n"
    assert [line.split(': ', 1)[1] for line in problems_of(write({'a.py': text}))] == [
        'model.settings.thr: must be in [0, 1], not 2',
        "model.branch.type: unknown model 'ZooHaed'; did you mean 'ZooHead'?",
    ]
    # The part around it may add arguments, so none are missing; but a misspelt type shows.
    assert problems_of(write({'a.py': "model = dict(type='ZooTwo', branch=dict(type='ZooHead'))\n"})) == []
    problems = problems_of(write({'a.py': "model = dict(type='ZooTwo', branch=dict(typ='ZooHead'))\n"}))
    assert problems == ["a.py:1: model.branch.typ: unknown key; did you mean 'type'?"]


def test_open_arguments(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    class ZooOpen:
        def __init__(self, interval: int = 1, **kwargs: Any) -> None:
            self.kwargs = kwargs

    monkeypatch.setitem(registry.MODELS.module_dict, 'ZooOpen', ZooOpen)
    path = write({'a.py': "model = dict(type='ZooOpen', anything=1, intervall=2)\n"})
    assert problems_of(path) == [
        "a.py:1: model.intervall: ZooOpen has no argument 'intervall'; did you mean 'interval'?"
    ]


def test_transforms_of_mmcv_are_known(write: Write) -> None:
    pytest.importorskip('mmcv.transforms')
    text = change("dict(type='ZooLoad', color='rgb')", "dict(type='RandomGrayscale', prob=0.1)")
    assert problems_of(write({'a.py': text})) == []
    problems = problems_of(write({'a.py': text.replace('prob=0.1', 'prb=0.1')}))
    assert len(problems) == 1 and "RandomGrayscale has no argument 'prb'; did you mean 'prob'?" in problems[0]


def test_names_of_other_packages(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmengine.registry.MODELS, '_children', dict(mmengine.registry.MODELS.children))
    other = mmengine.registry.Registry('model', parent=mmengine.registry.MODELS, scope='zoo_package')
    other.register_module(name='ZooGuest', module=ZooHead)
    text = VALID.replace("type='ZooHead'", "type='zoo_package.ZooGuest'")
    assert problems_of(write({'a.py': text})) == []
    assert len(problems_of(write({'a.py': text.replace('ZooGuest', 'ZooGest')}))) == 1
    assert len(problems_of(write({'a.py': VALID.replace("type='ZooHead'", "type='ZooGuest'")}))) == 1


def test_names_with_a_scope_or_to_import(write: Write) -> None:
    text = VALID.replace("type='ZooHead'", "type='mlcls.ZooHead'").replace("type='SGD'", "type='torch.optim.SGD'")
    text = text.replace("type='DefaultSampler'", "type='mmengine.DefaultSampler'")
    assert problems_of(write({'a.py': text})) == []
    problems = problems_of(write({'a.py': text.replace("'torch.optim.SGD'", "'torch.optim.SDG'")}))
    assert len(problems) == 1 and "unknown optimizer 'torch.optim.SDG'; did you mean 'SGD'?" in problems[0]


# Classes in Python style ----------------------------------------------------------------------------------------------

PYTHON_STYLE = """from torch.optim import SGD
import tests.config.conftest as zoo
from tests.config.conftest import ZooHead as Head

steps = 8
""" + VALID.replace("'ZooHead'", 'Head').replace("'SGD'", 'SGD').replace("'ZooNet'", 'zoo.ZooNet').replace(
    'T_max=8', 'T_max=steps'
)


def test_classes_as_types(write: Write) -> None:
    assert problems_of(write({'a.py': PYTHON_STYLE})) == []
    problems = problems_of(write({'a.py': PYTHON_STYLE.replace('        thr=', '        thrr=')}))
    assert len(problems) == 1 and "ZooHead has no argument 'thrr'; did you mean 'thr'?" in problems[0]


def test_class_objects_of_text_style(write: Write) -> None:
    text = VALID.replace("type='ZooHead'", 'type=Head').replace('        thr=', '        thrr=')
    path = write({'a.py': "_base_ = 'b.py'\n", 'b.py': 'from tests.config.conftest import ZooHead as Head\n' + text})
    problems = problems_of(path)
    assert len(problems) == 1 and "model.head.thrr: ZooHead has no argument 'thrr'; did you mean" in problems[0]


@pytest.mark.parametrize(
    'line, words',
    [
        ('from torch.optim import NoSuchOptimizer', 'Failed to import NoSuchOptimizer'),
        ('from no_such_package import NoSuchOptimizer', "No module named 'no_such_package'"),
    ],
)
def test_class_that_cannot_be_imported(write: Write, line: str, words: str) -> None:
    path = write({'a.py': line + VALID.replace("'SGD'", 'NoSuchOptimizer')})
    problems = problems_of(path)
    assert len(problems) == 1 and problems[0].startswith('a.py:') and words in problems[0]
    assert 'optim_wrapper.optimizer.type: cannot be imported' in problems[0]


# Inheritance ----------------------------------------------------------------------------------------------------------


def test_stale_arguments(write: Write) -> None:
    files = {'a.py': "_base_ = 'base/b.py'\nmodel = dict(\n    head=dict(type='ZooOtherHead'))\n", 'base/b.py': VALID}
    problems = problems_of(write(files))
    assert len(problems) == 2
    line = line_of(VALID, '        num_classes=20')
    assert problems[0] == (
        "a.py:3: model.head.num_classes: ZooOtherHead has no argument 'num_classes', which is inherited from "
        f'base/b.py:{line}, where the type was another; add _delete_=True to model.head'
    )
    assert problems[1].startswith('a.py:3: model.head.in_channels: ')
    files['a.py'] = files['a.py'].replace("type='ZooOtherHead'", "_delete_=True, type='ZooOtherHead'")
    assert problems_of(write(files)) == []


def test_stale_arguments_by_option(write: Write) -> None:
    path = write({'a.py': VALID})
    problems = problems_of(path, {'model.head.type': 'ZooOtherHead'})
    assert len(problems) == 2 and all(problem.startswith('--cfg-options: model.head.') for problem in problems)
    assert problems[0].endswith('add --cfg-options model.head._delete_=True')
    assert problems_of(path, {'model.head.type': 'ZooOtherHead', 'model.head._delete_': True}) == []


def test_argument_of_the_child_is_not_stale(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.py'\nmodel = dict(head=dict(thrr=0.1))\n", 'b.py': VALID})
    assert problems_of(path) == ["a.py:2: model.head.thrr: ZooHead has no argument 'thrr'; did you mean 'thr'?"]


PIPELINE = VALID.replace("[dict(type='ZooLoad')]", 'val_pipeline')


@pytest.mark.parametrize(
    'helper',
    [
        '_note = 3',
        'size = 4\nwork_dir = str(size)',
        'import os',
        'def f():\n    return 1',
        'class A:\n    pass',
        'for i in range(3):\n    pass',
        'from math import pi',
        'x = 3\nwork_dir = f"runs/{x}"',
        'a, b = 1, 2\nwork_dir = str(a + b)',
        'x = [1]\nx.append(2)\nwork_dir = str(x)',
    ],
)
def test_helper_variables(write: Write, helper: str) -> None:
    assert problems_of(write({'a.py': VALID + helper + '\n'})) == []


@pytest.mark.parametrize('read', ['_base_.size', '{{_base_.size}}', '{{ _base_.size }}'])
def test_helper_variable_of_a_base_that_the_child_reads(write: Write, read: str) -> None:
    path = write({'a.py': f"_base_ = 'b.py'\nload_from = {read}\n", 'b.py': VALID + "size = 'x'\n"})
    assert problems_of(path) == []
    assert load_config(path).load_from == 'x'


def test_helper_variable_of_a_base_that_nobody_reads(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.py'\n", 'b.py': VALID + 'size = 3\n'})
    lines = VALID.count('\n')
    assert problems_of(path) == [
        f'b.py:{lines + 1}: size: unknown key, and no file reads it; remove it or, if it is a '
        "note, start its name with '_'"
    ]


def test_pipeline_that_is_redefined_in_vain(write: Write) -> None:
    files = {
        'a.py': "_base_ = 'base/b.py'\nval_pipeline = [dict(type='ZooLoad', color='bgr')]\n",
        'base/b.py': "val_pipeline = [dict(type='ZooLoad')]" + PIPELINE,
    }
    assert problems_of(write(files)) == [
        'a.py:2: val_pipeline: has no effect: base/b.py:1 sets it and has already used its own value; set '
        "val_dataloader.dataset.pipeline instead (the base's own value is _base_.val_pipeline here)"
    ]
    files['a.py'] += 'val_dataloader = dict(dataset=dict(pipeline=val_pipeline))\n'
    assert problems_of(write(files)) == []


@pytest.mark.parametrize(
    'change',
    [
        "val_pipeline = [dict(type='ZooLoad', color='bgr')]",
        "val_pipeline.append(dict(type='ZooLoad'))",
        "val_pipeline[0] = dict(type='ZooLoad')",
        "val_pipeline += [dict(type='ZooLoad')]",
        "val_pipeline[0].color = 'bgr'",
    ],
)
def test_the_same_in_python_style(write: Write, change: str) -> None:
    start = 'from mmengine.config import read_base\nwith read_base():\n    from .b import *\n'
    files = {'a.py': start + change + '\n', 'b.py': "val_pipeline = [dict(type='ZooLoad')]" + PIPELINE}
    assert problems_of(write(files)) == [
        'a.py:4: val_pipeline: has no effect: b.py:1 sets it and has already used its own value; set '
        'val_dataloader.dataset.pipeline instead'
    ]
    files['a.py'] += 'val_dataloader.dataset.pipeline = val_pipeline\n'
    assert problems_of(write(files)) == []


def test_problems_are_in_the_order_of_inheritance(write: Write) -> None:
    path = write({'a.py': "_base_ = 'b.py'\nx = 1\n", 'b.py': '\n\ny = 1\n' + VALID.replace('lr=0.1', 'lr=0')})
    places = [problem.split(': ')[0] for problem in problems_of(path, {'z': 1})]
    assert places == ['--cfg-options', 'a.py:2', 'b.py:3', f'b.py:{3 + line_of(VALID, "    optimizer=")}']


def test_what_two_loaders_share_is_wrong_once(write: Write) -> None:
    text = VALID + ('test_dataloader = val_dataloader\ntest_evaluator = val_evaluator\ntest_cfg = dict()\n')
    assert problems_of(write({'a.py': text})) == []
    problems = problems_of(write({'a.py': text.replace('batch_size=32', 'batch_size=0')}))
    assert len(problems) == 1 and 'val_dataloader.batch_size' in problems[0]


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'option, value, words',
    [
        ('modle.head.thr', 0.3, "modle: unknown key; did you mean 'model'?"),
        ('model.haed.thr', 0.3, "model.haed: ZooNet has no argument 'haed'; did you mean 'head'?"),
        ('model.head.tr', 0.3, "model.head.tr: ZooHead has no argument 'tr'; did you mean 'thr'?"),
        ('model.head.thr', 3, 'model.head.thr: must be in [0, 1], not 3'),
        ('model.head.type', 'ZooHaed', "model.head.type: unknown model 'ZooHaed'; did you mean 'ZooHead'?"),
        ('param_scheduler.0.edn', 3, "param_scheduler.0.edn: LinearLR has no argument 'edn'; did you mean 'end'?"),
        ('imgsize', 3, 'imgsize: unknown key'),
    ],
)
def test_option_that_means_nothing(write: Write, option: str, value: Any, words: str) -> None:
    assert problems_of(write({'a.py': VALID}), {option: value}) == [f'--cfg-options: {words}']


@pytest.mark.parametrize(
    'option, value',
    [
        ('model.head.topk', 3),
        ('model.backbone.init_cfg.mean', 0.1),
        ('param_scheduler.1.eta_min', 0.0),
        ('load_from', 'x'),
        ('train_cfg.val_begin', 2),
        ('val_evaluator.0.prefix', 'x'),
        ('optim_wrapper.accumulative_counts', 2),
    ],
)
def test_option_that_sets_something_new(write: Write, option: str, value: Any) -> None:
    assert problems_of(write({'a.py': VALID}), {option: value}) == []


def test_option_that_comes_too_late(write: Write) -> None:
    path = write({'a.py': "val_pipeline = [dict(type='ZooLoad')]" + PIPELINE})
    assert problems_of(path, {'val_pipeline.0.color': 'bgr'}) == [
        '--cfg-options: val_pipeline: has no effect here: a.py:1 sets it and its value is already used; set '
        'val_dataloader.dataset.pipeline instead'
    ]


# Without files --------------------------------------------------------------------------------------------------------


def test_resolved_configs_have_no_places(write: Write) -> None:
    cfg = load_resolved(to_plain(load_config(write({'a.py': 'size = 3\n' + VALID}))))
    check_config(cfg, Sources([]))
    cfg.helper = 3
    check_config(cfg, Sources([]))
    cfg.model.head.thrr = 3
    with pytest.raises(ValueError, match=r"^model.head.thrr: ZooHead has no argument 'thrr'; did you mean 'thr'\?$"):
        check_config(cfg, Sources([]))
    with pytest.raises(ValueError, match=r'^--cfg-options: model.head.thrr: ZooHead has no argument'):
        check_config(cfg, Sources([], {'model.head.thrr': 3}))
