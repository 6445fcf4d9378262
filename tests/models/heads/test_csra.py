"""CSRAClsHead against the formula of the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mlcls.config.signatures import arguments_of
from mlcls.errors import ConfigError
from mlcls.models.heads.csra import CSRAClsHead
from mlcls.registry import MODELS

#: The paper's, section 3.3; 99 stands for infinity.
TEMPERATURES = {1: [1], 2: [1, 99], 4: [1, 2, 4, 99], 6: [1, 2, 3, 4, 5, 99], 8: [1, 2, 3, 4, 5, 6, 7, 99]}


def make(num_heads: int = 2, lam: float = 0.3, classes: int = 4, channels: int = 5, **others: Any) -> CSRAClsHead:
    torch.manual_seed(0)
    return CSRAClsHead(num_classes=classes, in_channels=channels, num_heads=num_heads, lam=lam, **others)


def maps(images: int = 2, channels: int = 5, height: int = 3, width: int = 4) -> tuple[torch.Tensor]:
    return (torch.randn(images, channels, height, width, generator=torch.Generator().manual_seed(1)),)


def formula(head: CSRAClsHead, image: np.ndarray, lam: float) -> np.ndarray:
    """Logits (C,) of one map (channels, h, w): one loop over heads, one over classes, one over places."""
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    temperatures = TEMPERATURES[sum(name.startswith('csra_heads') for name in state)]
    logits = np.zeros(head.num_classes)
    for number, temperature in enumerate(temperatures):
        for c in range(head.num_classes):
            weight = state[f'csra_heads.{number}.head.weight'][c, :, 0, 0]
            length = sum(w * w for w in weight) ** 0.5
            scores = [
                sum(weight * image[:, y, x]) / length for y in range(image.shape[1]) for x in range(image.shape[2])
            ]
            if temperature == 99:
                attended = max(scores)
            else:
                powers = [np.exp(temperature * s) for s in scores]
                attended = sum(p / sum(powers) * s for p, s in zip(powers, scores))
            logits[c] += sum(scores) / len(scores) + lam * attended
    return logits


@pytest.mark.parametrize('num_heads', TEMPERATURES)
def test_logits_are_those_of_the_formula(num_heads: int) -> None:
    head, features = make(num_heads), maps()
    logits = head(features)
    assert logits.dtype == torch.float32 and logits.shape == (2, 4)
    for image, found in zip(features[0].double().numpy(), logits.detach()):
        np.testing.assert_allclose(found, formula(head, image, 0.3), rtol=1e-5, atol=1e-5)


def test_without_attention_it_is_a_linear_layer_on_the_mean() -> None:
    head, features = make(1, lam=0), maps()
    weight = head.csra_heads[0].head.weight.detach().flatten(1)
    weight = weight / weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(features).detach(), features[0].mean((2, 3)) @ weight.T)


def test_the_last_head_takes_the_maximum() -> None:
    """What a finite T comes near as it grows."""
    head, features = make(2, lam=1), maps()
    with torch.no_grad():
        head.csra_heads[0].head.weight[:] = head.csra_heads[1].head.weight
        scores = head.activation_maps(features).flatten(2) / 2
        soft = (scores.softmax(2) * scores).sum(2)
        nearly = ((99 * scores).softmax(2) * scores).sum(2)
        torch.testing.assert_close(head(features), 2 * scores.mean(2) + soft + scores.amax(2))
        assert (nearly - scores.amax(2)).abs().max() < 0.02


def test_maps_are_the_scores_of_all_heads() -> None:
    head, features = make(4, lam=0), maps()
    found = head.activation_maps(features)
    assert found.shape == (2, 4, 3, 4)
    torch.testing.assert_close(found.mean((2, 3)), head(features))


def test_length_of_weights_does_not_matter() -> None:
    head, features = make(), maps()
    before = head(features)
    with torch.no_grad():
        for attention in head.csra_heads:
            attention.head.weight *= torch.tensor([0.1, 1, 7, 100]).view(-1, 1, 1, 1)
    torch.testing.assert_close(head(features), before)


def test_classes_are_alike() -> None:
    head, features, order = make(), maps(), torch.tensor([2, 0, 3, 1])
    before = head(features)
    with torch.no_grad():
        for attention in head.csra_heads:
            attention.head.weight[:] = attention.head.weight[order]
    torch.testing.assert_close(head(features), before[:, order])


@pytest.mark.parametrize('num_heads, lam', [(1, 0.0), (1, 0.5), (6, 0.1)])
def test_gradient_reaches_every_weight(num_heads: int, lam: float) -> None:
    head = make(num_heads, lam)
    soft = torch.tensor([[1, 0, -1, 0.3], [0, 1, 0.5, -1]])
    head.loss(maps(), soft)['loss'].backward()
    assert len(list(head.parameters())) == num_heads
    assert all((parameter.grad != 0).any() for parameter in head.parameters())


def test_gradient_is_that_of_finite_differences() -> None:
    head = make(4)
    weights = {name: value.detach() for name, value in head.named_parameters()}
    loss = head.loss(maps(), torch.ones(2, 4))['loss']
    (gradient,) = torch.autograd.grad(loss, [head.csra_heads[1].head.weight])
    for place in ((0, 0), (2, 3), (3, 4)):
        moved = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                weights['csra_heads.1.head.weight'][place] += step
                moved.append(head.loss(maps(), torch.ones(2, 4))['loss'].item())
                weights['csra_heads.1.head.weight'][place] -= step
        assert gradient[place].item() == pytest.approx((moved[0] - moved[1]) / 2e-3, rel=1e-2, abs=1e-3)


def test_state_goes_round_under_mmpretrains_names() -> None:
    source, target = make(), CSRAClsHead(4, 5, 2, 0.3)
    assert list(source.state_dict()) == ['csra_heads.0.head.weight', 'csra_heads.1.head.weight']
    assert source.state_dict()['csra_heads.0.head.weight'].shape == (4, 5, 1, 1)
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(maps()), target(maps()))


@pytest.mark.parametrize('channels_last', [False, True])
def test_autocast_computes_in_float32(channels_last: bool) -> None:
    head, (features,) = make(6), maps()
    coarse = features.bfloat16()
    if channels_last:
        coarse = coarse.contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16):
        logits = head((coarse * 100,))
    assert logits.dtype == torch.float32 and logits.isfinite().all()
    torch.testing.assert_close(logits, head((coarse.float() * 100,)), rtol=1e-2, atol=1)


def test_one_image_one_place_and_modes() -> None:
    head, features = make(), maps(1, height=1, width=1)
    torch.testing.assert_close(head.eval()(features), head.train()(features))
    # Mean, softmax sum and maximum of one place are that place.
    torch.testing.assert_close(head(features), 1.3 * head.activation_maps(features)[:, :, 0, 0])


def test_the_signature_is_mmpretrains() -> None:
    found = arguments_of(CSRAClsHead)
    assert found.required == {'num_classes', 'in_channels', 'num_heads', 'lam'} and not found.any_other
    assert MODELS.build(dict(type='CSRAClsHead', num_classes=20, in_channels=8, num_heads=1, lam=0.1)).thr == 0.5


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_heads=3), 'CSRAClsHead: num_heads must be 1, 2, 4, 6 or 8, got 3'),
        (dict(lam=-0.1), 'CSRAClsHead: lam must be at least 0, got -0.1'),
        (dict(lam=float('nan')), 'lam must be at least 0, got nan'),
        (dict(classes=0), 'num_classes and in_channels must be at least 1'),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_vectors_and_other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match='CSRAClsHead takes feature maps, got vectors .* remove the neck'):
        make()((torch.randn(2, 5),))
    with pytest.raises(ConfigError, match=r'set model\.head\.in_channels=7'):
        make()(maps(channels=7))
