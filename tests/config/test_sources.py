"""Finding keys in syntax trees."""

from __future__ import annotations

from typing import Any

import pytest

from mlcls.config import COMMAND_LINE, Place, Sources

from .conftest import Write

FILES = {
    'a.py': """_base_ = ['base/data.py', './base/model.py']
size = 64
model = dict(
    head=dict(
        thr=0.3),
    neck={'type': 'N',
          'width': size})
steps = [1, dict(a=1),
         (dict(b=2), dict(c=3))]
extra = dict(first, b=dict(
    d=1))
first = dict(c=1)
first['e'] = 5
both, = 1,
neck = {{ _base_.model.head }}
copied = _base_.model
unquoted = {{_base_.model.head}}
typed: dict = dict(k=1)
""",
    'base/data.py': """pipeline = [
    dict(type='A'),
]
loader = dict(
    dataset=dict(pipeline=pipeline))
""",
    'base/model.py': """model = dict(
    type='Net',
    head=dict(type='Head',
              thr=0.5))
""",
}


@pytest.mark.parametrize(
    'path, place',
    [
        (('model',), 'a.py:3'),
        (('model', 'type'), 'base/model.py:2'),
        (('model', 'head'), 'a.py:4'),
        (('model', 'head', 'thr'), 'a.py:5'),
        (('model', 'head', 'type'), 'base/model.py:3'),
        (('model', 'neck', 'type'), 'a.py:6'),
        (('model', 'neck', 'width'), 'a.py:7'),
        (('steps', 1, 'a'), 'a.py:8'),
        (('steps', 2, 1, 'c'), 'a.py:9'),
        (('steps', 7), None),
        (('extra', 'c'), 'a.py:12'),
        (('extra', 'e'), 'a.py:13'),
        (('extra', 'b', 'd'), 'a.py:11'),
        (('both',), 'a.py:14'),
        (('neck', 'thr'), 'base/model.py:4'),
        (('copied', 'head', 'type'), 'base/model.py:3'),
        (('unquoted', 'type'), 'base/model.py:3'),
        (('typed', 'k'), 'a.py:18'),
        (('loader', 'dataset', 'pipeline', 0, 'type'), 'base/data.py:2'),
        (('loader', 'dataset', 'pipeline', 0, 'nothing'), None),
        (('nothing',), None),
    ],
)
def test_locate(write: Write, path: tuple[Any, ...], place: str | None) -> None:
    found = Sources([write(FILES)]).locate(path)
    assert (None if found is None else str(found)) == place


def test_command_line_comes_first(write: Write) -> None:
    sources = Sources([write(FILES)], {'model.head.thr': 1, 'steps.0': 2, 'model.new': dict(a=1)})
    assert sources.locate(('model', 'head', 'thr')) == COMMAND_LINE == Place('--cfg-options')
    assert sources.locate(('steps', 0)) == COMMAND_LINE
    assert sources.locate(('model', 'new', 'a')) == COMMAND_LINE
    assert str(sources.locate(('model', 'head'))) == 'a.py:4'
    assert str(COMMAND_LINE) == '--cfg-options'


def test_nearest(write: Write) -> None:
    sources = Sources([write(FILES)])
    assert str(sources.nearest(('model', 'head', 'new', 'x'))) == 'a.py:4'
    assert str(sources.nearest(('nothing',))) == 'a.py'
    assert Sources([]).nearest(('model',)) is None


def test_python_style(write: Write) -> None:
    files = {
        'a.py': """from mmengine.config import read_base
with read_base():
    from ._base_.data import *
    from ._base_.model import model
from torch.optim import SGD
model.head.thr = .1
model['neck'] = dict(w=1)
model.update(dict(tail=dict(
    z=1)))
model.head.merge(dict(q=2))
model.update(y=1)
loader.dataset.pipeline = pipeline
if True:
    steps = [1]
steps += [2]
""",
        '_base_/data.py': FILES['base/data.py'],
        '_base_/model.py': FILES['base/model.py'],
    }
    sources = Sources([write(files)])
    for path, place in {
        ('model', 'head', 'thr'): 'a.py:6',
        ('model', 'neck', 'w'): 'a.py:7',
        ('model', 'tail', 'z'): 'a.py:9',
        ('model', 'head', 'q'): 'a.py:10',
        ('model', 'y'): 'a.py:11',
        ('model', 'head', 'type'): '_base_/model.py:3',
        ('loader', 'dataset', 'pipeline', 0, 'type'): '_base_/data.py:2',
        ('steps',): 'a.py:15',
    }.items():
        assert str(sources.locate(path)) == place
    assert sources.locate(('steps', 0)) is None  # changed in place: its parts cannot be followed
    assert sources.files[0].other_names == {'read_base', 'SGD'}


def test_code_that_cannot_be_followed(write: Write) -> None:
    path = write(
        {
            'a.py': "_base_ = 'b.py'\nx = [i for i in range(3)]\ny = dict(**make())\nz = w\nw = z\nd = {k: 1}\n"
            'e = dict(_delete_=True, a=1)\n',
            'b.py': 'x = [dict(a=1)]\ny = dict(a=1)\nd = dict(k=1)\ne = dict(b=2)\n',
        }
    )
    sources = Sources([path])
    for key in (('x', 0, 'a'), ('y', 'a'), ('z', 'a'), ('e', 'b')):
        assert sources.locate(key) is None  # not the base's: the child replaced it
    assert str(sources.locate(('d', 'k'))) == 'b.py:3'


def test_bases_of_bases_and_folders(write: Write) -> None:
    path = write(
        {
            'x/y/a.py': "_base_ = ['../b.py', '{{ fileDirname }}/d.py', 'mmpretrain::x/y.py']\n",
            'x/b.py': "_base_ = ('y/c.py')\n",
            'x/y/c.py': '\nkey = 1\n',
            'x/y/d.py': 'other = 1\n',
        }
    )
    sources = Sources([path])
    assert [file.shown for file in sources.files] == ['x/y/a.py', 'x/y/d.py', 'x/b.py', 'x/y/c.py']
    assert str(sources.locate(('key',))) == 'x/y/c.py:2'


def test_reads(write: Write) -> None:
    path = write(
        {
            'a.py': "_base_ = 'b.py'\nx = dict(a=_base_.one, b={{ _base_.two }}, c={{_base_.three.deep}})\n"
            'four = 4\nfor i in [four]:\n    pass\n',
            'b.py': 'one = two = three = four = 1\nfive = one\n',
        }
    )
    child, base = Sources([path]).files
    assert child.base_reads == {'one', 'two', 'three'}
    assert 'four' in child.reads and 'x' not in child.reads and 'i' in child.other_names
    assert base.reads == {'one'} and base.assigned == dict(one=1, two=1, three=1, four=1, five=2)


def test_uses_follow_variables(write: Write) -> None:
    path = write(
        {
            'a.py': 'pipeline = [1]\ndataset = dict(pipeline=pipeline)\ntrain = dict(dataset=dataset)\n'
            'val = dict(dataset=dict(datasets=[dict(pipeline=pipeline)]))\nloop = dict(x=loop)\n'
        }
    )
    sources = Sources([path])
    assert sources.uses(sources.files[0], 'pipeline') == [
        ('train', 'dataset', 'pipeline'),
        ('val', 'dataset', 'datasets', 0, 'pipeline'),
    ]
    assert sources.uses(sources.files[0], 'loop') == [('loop', 'x')]
