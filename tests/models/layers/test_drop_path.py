"""Stochastic depth."""

from __future__ import annotations

import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models.layers import DropPath
from mlcls.models.layers.drop_path import linear_rates


def test_whole_images_are_dropped_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    x = torch.rand(20000, 3, 2, 2) + 0.5
    out = DropPath(0.3).train()(x)
    dropped = (out == 0).flatten(1)
    assert torch.equal(dropped.all(1), dropped.any(1))  # all of an image, or nothing
    share = float(dropped[:, 0].double().mean())
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / 20000) ** 0.5
    torch.testing.assert_close(out[~dropped[:, 0]], x[~dropped[:, 0]] / 0.7)
    assert abs(float(out.mean() / x.mean()) - 1) < 0.03


def test_mean_stays_in_bfloat16() -> None:
    out = DropPath(0.3).train()(torch.ones(64, 1, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert set(out.flatten().tolist()) == {0.0, float(torch.tensor(1 / 0.7).bfloat16())}


def test_nothing_happens_in_evaluation_or_at_rate_0() -> None:
    x = torch.randn(8, 2)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_gradient_of_dropped_images_is_zero() -> None:
    torch.manual_seed(1)
    x = torch.randn(32, 2, requires_grad=True)
    out = DropPath(0.5)(x)
    out.sum().backward()
    kept = out[:, 0] != 0
    assert kept.any() and not kept.all()
    assert torch.equal(x.grad, torch.where(kept[:, None], 2.0, 0.0).expand(32, 2))


def test_rates_grow_in_a_line() -> None:
    assert linear_rates(0.4, 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize('rate', [-0.1, 1.0, float('nan')])
def test_rate_out_of_range(rate: float) -> None:
    with pytest.raises(ConfigError, match=r'DropPath: rate must be in \[0, 1\), got'):
        DropPath(rate)
