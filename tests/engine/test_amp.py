"""What a device computes in."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from mlcls.engine import amp
from mlcls.engine.amp import AmpOptimWrapper, autocast_dtype


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """A CPU with (True) or without bfloat16 arithmetic."""
    monkeypatch.setattr(amp, 'cpu_has_bfloat16', lambda: request.param)
    return request.param


@pytest.mark.parametrize('processor', [True, False], indirect=True)
def test_a_cpu_takes_what_it_is_best_at(processor: bool) -> None:
    assert autocast_dtype(None, 'cpu') == (torch.bfloat16 if processor else None)
    assert autocast_dtype(None, 'cuda') == torch.float16
    assert autocast_dtype('bfloat16', 'cpu') == torch.bfloat16  # what is asked for is done


@pytest.mark.parametrize('processor', [True, False], indirect=True)
def test_one_line_says_so_where_bfloat16_is_missing(processor: bool, caplog: pytest.LogCaptureFixture) -> None:
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        autocast_dtype(None, 'cpu')
        autocast_dtype('bfloat16', 'cpu')
    finally:
        logger.removeHandler(caplog.handler)
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    if processor:
        assert messages == []
    else:
        (first, second) = messages
        assert first == ('INFO', 'mixed precision: this CPU has no bfloat16 arithmetic; computing in float32')
        assert second[0] == 'WARNING' and 'several times slower than float32; leave dtype out' in second[1]


@pytest.mark.parametrize('processor', [True, False], indirect=True)
def test_a_step_computes_in_that_type(processor: bool) -> None:
    model = nn.Linear(4, 2)
    wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(3, 4))
    assert output.dtype == (torch.bfloat16 if processor else torch.float32)
    wrapper.update_params(output.float().square().sum())
    assert not torch.equal(model.weight, before)
    wrapper.load_state_dict(wrapper.state_dict())


def test_what_torch_says_of_this_cpu_is_a_truth_value() -> None:
    assert amp.cpu_has_bfloat16() in (True, False)
