"""Arguments of classes and functions."""

from __future__ import annotations

import functools
from typing import Any

import mmengine.optim
import pytest
import torch
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import BaseModule, MMDistributedDataParallel
from mmengine.model.weight_init import ConstantInit

from mlcls.config.signatures import arguments_of


class Plain:
    def __init__(self, a: int, *, b: int = 0) -> None: ...


class Through(Plain):
    def __init__(self, c: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Filling(Plain):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(1, **kwargs)


class Naming(Plain):
    def __init__(self, **rest: Any) -> None:
        Plain.__init__(self, b=3, **rest)


class Popping(Plain):
    def __init__(self, **kwargs: Any) -> None:
        self.extra = kwargs.pop('extra', None)
        kwargs.setdefault('a', 1)
        if 'seen' in kwargs:
            kwargs['b'] = 2
        super().__init__(**kwargs)


class Elsewhere(Plain):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(1)
        self.settings = kwargs


class Inherits(Through):
    pass


class Module(torch.nn.Module):
    def __init__(self, a: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Bare:
    pass


def function(batch: Any, pad: int = 0, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    'target, names, required, any_other',
    [
        (Plain, {'a', 'b'}, {'a'}, False),
        (Through, {'a', 'b', 'c'}, {'a', 'c'}, False),
        (Inherits, {'a', 'b', 'c'}, {'a', 'c'}, False),
        (Filling, {'b'}, set(), False),
        (Naming, {'a'}, {'a'}, False),
        (Popping, {'a', 'b', 'extra', 'seen'}, set(), False),
        (Elsewhere, set(), set(), True),
        (Module, {'a'}, {'a'}, False),
        (torch.nn.Module, set(), set(), False),
        (BaseModule, {'init_cfg'}, set(), False),
        (Bare, set(), set(), False),
        (function, {'batch', 'pad'}, {'batch'}, True),
        (functools.partial(function, pad=1), {'batch', 'pad'}, {'batch'}, True),
        (ConstantInit, {'val', 'bias', 'bias_prob', 'layer'}, {'val'}, False),
        (
            mmengine.optim.LinearLR,
            {'optimizer', 'start_factor', 'end_factor', 'begin', 'end', 'last_step', 'by_epoch', 'verbose'},
            {'optimizer'},
            False,
        ),
    ],
)
def test_arguments(target: Any, names: set[str], required: set[str], any_other: bool) -> None:
    found = arguments_of(target)
    assert (found.names, found.required, found.any_other) == (names, required, any_other)


@pytest.mark.parametrize(
    'target, some',
    [
        (torch.optim.SGD, {'lr', 'momentum', 'nesterov'}),
        (torch.optim.AdamW, {'lr', 'betas', 'fused'}),
        (mmengine.optim.OneCycleLR, {'eta_max', 'total_steps', 'pct_start', 'by_epoch'}),
        (mmengine.optim.CosineAnnealingLR, {'T_max', 'eta_min', 'eta_min_ratio', 'begin'}),
        (mmengine.optim.AmpOptimWrapper, {'loss_scale', 'dtype', 'clip_grad', 'optimizer'}),
        (MMDistributedDataParallel, {'module', 'find_unused_parameters', 'static_graph'}),
    ],
)
def test_parts_of_torch_and_mmengine_are_known_exactly(target: Any, some: set[str]) -> None:
    found = arguments_of(target)
    assert some <= found.names and not found.any_other


@pytest.mark.parametrize('target', [EMAHook, CheckpointHook, dict])
def test_arguments_that_cannot_be_known(target: Any) -> None:
    assert arguments_of(target).any_other


def test_first_positional() -> None:
    assert arguments_of(function).first == 'batch'
