"""Configs as plain data: what a checkpoint stores, and what is refused from one."""

from __future__ import annotations

import collections
import json
import sys
from pathlib import Path
from typing import Any

import mmengine.dataset
import numpy as np
import pytest
import torch
from mmengine import Config

from mlcls import registry
from mlcls.config import Sources, check_config, importable_names, load_config, load_resolved, to_plain
from mlcls.errors import ConfigError

from .conftest import VALID, Write, ZooHead, zoo_collate


def test_round_trip(write: Write) -> None:
    cfg = load_config(write({'a.py': 'size = 3\n_note = 1\n' + VALID}))
    plain = to_plain(cfg)
    text = json.dumps(plain)
    again = load_resolved(text)
    assert 'size' not in plain and '_note' not in plain
    assert to_plain(again) == plain == json.loads(text)
    assert again.model == cfg.model and again.default_scope == 'mlcls'
    check_config(again, Sources([]))


def test_values() -> None:
    cfg = Config(
        dict(
            model=dict(
                a=(1, (2, 3)),
                b=np.float32(0.5),
                c=np.arange(2),
                d=Path('x/y'),
                e={'q', 'p'},
                f=None,
                g=True,
                h=torch.tensor([1.5]),
                i=torch.bfloat16,
                j=float('inf'),
            )
        )
    )
    assert to_plain(cfg) == dict(
        model=dict(
            a=(1, (2, 3)), b=0.5, c=[0, 1], d='x/y', e=['p', 'q'], f=None, g=True, h=[1.5], i='bfloat16', j=float('inf')
        )
    )


def test_classes_become_names() -> None:
    cfg = Config(
        dict(
            model=dict(type=ZooHead, loss=dict(type='mlcls.ZooLoss')),
            custom_hooks=[dict(type=zoo_collate)],
            optim_wrapper=dict(optimizer=dict(type=torch.optim.SGD)),
            cfg=dict(type=collections.Counter),
        )
    )
    plain = to_plain(cfg)
    assert plain['model'] == dict(type='ZooHead', loss=dict(type='ZooLoss'))
    assert plain['custom_hooks'] == [dict(type='zoo_collate')]
    assert plain['optim_wrapper'] == dict(optimizer=dict(type='SGD'))
    assert plain['cfg'] == dict(type='collections.Counter')


def test_name_that_ours_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.DATASETS.module_dict, 'ConcatDataset', object())
    plain = to_plain(Config(dict(model=dict(type=mmengine.dataset.ConcatDataset))))
    assert plain['model']['type'] == 'mmengine.ConcatDataset'
    load_resolved(plain)


def test_python_style(write: Write) -> None:
    path = write(
        {
            'a.py': 'from torch.optim import SGD\nfrom collections import Counter\n'
            'model = dict(type=SGD, parts=[Counter])\n'
        }
    )
    plain = to_plain(load_config(path))
    assert plain['model'] == dict(type='SGD', parts=['collections.Counter'])
    assert set(plain) == {'model', 'default_scope'}


def test_python_style_with_a_missing_package(write: Write) -> None:
    path = write({'a.py': 'from no_such_package import Net\nmodel = dict(type=Net)\n'})
    with pytest.raises(ConfigError, match=r'model\.type: cannot be imported: .*no_such_package'):
        to_plain(load_config(path))


@pytest.mark.parametrize('value', [lambda x: x, object(), [dict(a=lambda: 1)]])
def test_values_without_a_plain_form(value: Any) -> None:
    with pytest.raises(ConfigError, match=r'^model\.x.*cannot be stored as plain data'):
        to_plain(Config(dict(model=dict(x=value))))


@pytest.mark.parametrize('key', [1, (1, 2), None])
def test_keys_that_are_no_strings(key: Any) -> None:
    with pytest.raises(ConfigError, match=r'model: the key .* is not a string'):
        to_plain(Config(dict(model={key: 1})))


# What a stored config may not do --------------------------------------------------------------------------------------

HOSTILE = [
    dict(model=dict(type='os.system', command='echo')),
    dict(model=dict(backbone=dict(type='subprocess.Popen', args=['echo']))),
    dict(train_dataloader=dict(dataset=dict(pipeline=[[dict(type='builtins.eval')]]))),
    dict(optim_wrapper=dict(constructor='os.system')),
    dict(custom_hooks=[dict(type='EMAHook', ema_type='os.system')]),
    dict(runner_type='os.system'),
    dict(model=dict(type='mmengine.track_progress')),
    dict(model=dict(type='mmengine.utils.call_command')),
    dict(model=dict(type='mlcls.fileio.read_checkpoint')),
    dict(model=dict(type='torch.hub.load')),
]


@pytest.mark.parametrize('data', HOSTILE, ids=str)
def test_names_to_import_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^the stored config: .*(type|constructor): '.*' is not a registered name"):
        load_resolved(data)
    names = importable_names(data)
    assert len(names) == 1
    load_resolved(json.dumps(data), names)  # trusted by name


@pytest.mark.parametrize('name', ['ResNet', 'mmengine.SGD', 'antigravity'])
def test_plain_names_pass(name: str) -> None:
    assert load_resolved(dict(model=dict(type=name))).model.type == name


def test_plain_names_are_not_imported(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write({'zoo_hostile.py': 'raise SystemExit("executed")\n'})
    monkeypatch.syspath_prepend(str(Path.cwd()))
    cfg = load_resolved(dict(model=dict(type='zoo_hostile'), custom_imports=dict(imports=['zoo_hostile'])))
    with pytest.raises(ConfigError, match=r"^model\.type: unknown model 'zoo_hostile'"):
        check_config(cfg, Sources([]))
    assert 'zoo_hostile' not in sys.modules


@pytest.mark.parametrize(
    'data, words',
    [
        ('{', 'is not JSON: line 1'),
        ('[1]', 'is not a dict but a list'),
        ('"x"', 'is not a dict but a str'),
        ('model = dict()', 'is not JSON'),
        (dict(default_scope='mmpretrain'), "set default_scope = 'mlcls'"),
        (dict(filename='x'), 'filename is reserved'),
    ],
)
def test_stored_configs_that_cannot_be_used(data: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=r'^the stored config') as caught:
        load_resolved(data)
    assert words in str(caught.value)


def test_given_data_are_not_changed() -> None:
    data = dict(train_dataloader=dict(num_workers=0, persistent_workers=True))
    load_resolved(data)
    assert data == dict(train_dataloader=dict(num_workers=0, persistent_workers=True))
