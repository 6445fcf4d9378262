"""Pooling necks against plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models import GeneralizedMeanPooling, GlobalAveragePooling, GlobalMaxPooling

NECKS = [GlobalAveragePooling, GlobalMaxPooling, GeneralizedMeanPooling]


def gem(values: list[float], p: float, eps: float) -> float:
    raised = [max(value, eps) ** p for value in values]
    return (sum(raised) / len(raised)) ** (1 / p)


@pytest.mark.parametrize('p', [1.0, 2.5, 3.0, 12.0])
@pytest.mark.parametrize('eps', [1e-6, 0.3])
def test_generalised_mean(p: float, eps: float) -> None:
    torch.manual_seed(0)
    maps = (torch.randn(2, 3, 4, 5), torch.randn(2, 7, 1, 1).abs())
    pooled = GeneralizedMeanPooling(p, eps)(maps)
    for image, vector in zip(maps, pooled, strict=True):
        expected = [[gem(plane.flatten().tolist(), p, eps) for plane in planes] for planes in image]
        torch.testing.assert_close(vector, torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_generalised_mean_without_clamping() -> None:
    x = torch.rand(1, 2, 3, 3) * 1e-7
    expected = [[gem(plane.flatten().tolist(), 3.0, 0.0) for plane in x[0]]]
    (vector,) = GeneralizedMeanPooling(clamp=False)((x,))
    torch.testing.assert_close(vector, torch.tensor(expected), rtol=1e-5, atol=0)


def test_exponent_is_trained_or_not() -> None:
    assert {name: value.shape for name, value in GeneralizedMeanPooling().state_dict().items()} == {'p': (1,)}
    assert not list(GeneralizedMeanPooling(p_trainable=False).parameters())
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    neck = GeneralizedMeanPooling(4.0)
    neck(((x.float()),))[0].sum().backward()
    step = 1e-5
    sums = [sum(gem(plane.flatten().tolist(), p, 1e-6) for plane in x.flatten(0, 1)) for p in (4 - step, 4 + step)]
    assert float(neck.p.grad) == pytest.approx((sums[1] - sums[0]) / (2 * step), rel=1e-3)


def test_gradient_of_the_map() -> None:
    neck = GeneralizedMeanPooling(p_trainable=False)
    x = torch.rand(1, 1, 2, 3, dtype=torch.float64) + 0.1
    leaf = x.float().requires_grad_()
    neck((leaf,))[0].sum().backward()
    mean = gem(x.flatten().tolist(), 3.0, 1e-6)
    torch.testing.assert_close(leaf.grad.double(), x**2 * mean**-2 / 6, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('scale', [0.0, 1e-8, 1e6, 1e20])
@pytest.mark.parametrize('p', [3.0, 50.0])
def test_no_power_overflows_or_vanishes(scale: float, p: float) -> None:
    x = (torch.rand(2, 3, 4, 4) * scale).requires_grad_()
    neck = GeneralizedMeanPooling(p)
    (vector,) = neck((x,))
    vector.sum().backward()
    assert vector.isfinite().all() and x.grad.isfinite().all() and neck.p.grad.isfinite().all()
    assert (vector <= x.detach().amax((2, 3)).clamp(min=1.1e-6) * 1.001).all()
    assert (vector >= x.detach().mean((2, 3)) * 0.999).all()


def test_maximum() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert GlobalMaxPooling()((x, x[:, :1]))[1].tolist() == [[max(each[0].flatten().tolist())] for each in x]


@pytest.mark.parametrize('kind', NECKS)
def test_float32_under_autocast(kind: type) -> None:
    x = torch.rand(2, 8, 7, 7).bfloat16()
    neck = kind()
    with torch.autocast('cpu', torch.bfloat16):
        (rough,) = neck((x,))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, neck((x.float(),))[0])


@pytest.mark.parametrize(
    'settings, words', [(dict(p=0.5), 'p must be at least 1, got 0.5'), (dict(eps=0), 'eps must be above 0, got 0')]
)
def test_refusals(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=f'GeneralizedMeanPooling: {words}'):
        GeneralizedMeanPooling(**settings)
