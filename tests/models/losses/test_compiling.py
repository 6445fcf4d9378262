"""``compile=True``: the same numbers, and the plain function where there is no compiler."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mlcls.errors import ConfigError

from .cases import build, call, every_loss, example, gradient

#: Two with kernels of their own, one ordinary loss, one that depends on the epoch.
COMPILED = [
    dict(type='AsymmetricLoss'),
    dict(type='FocalLoss', gamma=1.5),
    dict(type='HillLoss'),
    dict(type='SPLCLoss'),
]
compiling = pytest.mark.parametrize('cfg', COMPILED, ids=[cfg['type'] for cfg in COMPILED])


@pytest.mark.slow
@compiling
def test_same_values_and_gradients(cfg: dict[str, Any]) -> None:
    logits, targets = example('unknown')
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*it runs uncompiled')
        loss, plain = build({**cfg, 'compile': True}), build(cfg)
        for epoch in (0, 1):
            loss.start_epoch(epoch)
            plain.start_epoch(epoch)
            for reduction in ('none', 'mean', 'sum'):
                options = {'reduction_override': reduction}
                torch.testing.assert_close(
                    call(loss, logits, targets, **options), call(plain, logits, targets, **options)
                )
            torch.testing.assert_close(gradient(loss, logits, targets), gradient(plain, logits, targets))
            torch.testing.assert_close(call(loss, logits[:3], targets[:3]), call(plain, logits[:3], targets[:3]))


def broken(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        raise RuntimeError('no compiler\nand more lines')

    return run


@every_loss(without=('WeightedSum',))
def test_falls_back_with_one_warning(cfg: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, 'compile', broken)
    logits, targets = example('unknown')
    expected, slope = call(build(cfg), logits, targets), gradient(build(cfg), logits, targets)
    loss = build({**cfg, 'compile': True})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(3):
            torch.testing.assert_close(call(loss, logits, targets), expected)
        torch.testing.assert_close(gradient(loss, logits, targets), slope)
    told = [str(warning.message) for warning in caught if 'uncompiled' in str(warning.message)]
    if cfg['type'] == 'RoleLoss' or cfg.get('mode') == 'correct_permanent':
        assert len(told) <= 1  # they remember images, and are never compiled
    else:
        assert told == [f'{cfg["type"]}: compile=True does not work here (no compiler); it runs uncompiled']


@compiling
def test_falls_back_where_compile_itself_is_refused(cfg: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Python or a system that torch.compile does not support, the call of torch.compile raises."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError('torch.compile is not supported on this Python')

    monkeypatch.setattr(torch, 'compile', refuse)
    logits, targets = example('unknown')
    with pytest.warns(UserWarning, match=rf'{cfg["type"]}: compile=True does not work here.*not supported'):
        loss = build({**cfg, 'compile': True})
        got = call(loss, logits, targets)
    torch.testing.assert_close(got, call(build(cfg), logits, targets))


def test_errors_of_the_user_are_not_taken_for_the_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, 'compile', broken)
    from mlcls.registry import MODELS

    loss = MODELS.build(dict(type='ClassBalancedLoss', compile=True))
    with warnings.catch_warnings(), pytest.raises(ConfigError, match='comes from the training labels'):
        warnings.simplefilter('error')
        call(loss, *example('hard'))
