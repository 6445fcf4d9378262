"""Classifier chains against plain loops over labels, and against all label sets."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from mlcls.errors import ConfigError
from mlcls.models import ClassifierChainHead
from mlcls.models.fitting import fit_heads
from mlcls.structures import LabelMatrix, LabelStatistics
from tests.models.heads import dependent_labels

C, F = 5, 4


def make(**settings: object) -> ClassifierChainHead:
    """A head with weights large enough to matter."""
    generator = torch.Generator().manual_seed(0)
    head = ClassifierChainHead(num_classes=C, in_channels=F, **{'order': [3, 0, 4, 1, 2], **settings})
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return head.eval()


def inputs(images: int = 3) -> torch.Tensor:
    return torch.randn(images, F, generator=torch.Generator().manual_seed(1))


def logit(head: ClassifierChainHead, chain: int, x: np.ndarray, codes: np.ndarray, label: int) -> float:
    """The formula, in float64, label by label."""
    w = {name: value.detach().double().numpy() for name, value in head.named_parameters()}
    order = head.order[chain].tolist()
    before = order[: order.index(label)]
    row = chain * C + label
    value = w['fc.weight'][row] @ x + w['fc.bias'][row]
    for j in before:
        value += w['label_weight'][chain, label, j] * codes[j]
    size = head.hidden_channels
    for unit in range(size):
        row = chain * size + unit
        inside = w['hidden.weight'][row] @ x + w['hidden.bias'][row]
        for j in before:
            inside += w['label_hidden'][chain, j, unit] * codes[j]
        value += w['hidden_out'][chain, label, unit] * max(inside, 0)
    return value


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize('settings', [{}, dict(hidden_channels=3), dict(num_chains=2, hidden_channels=2)])
def test_conditional_logits_and_loss(settings: dict) -> None:
    head, x = make(**settings), inputs()
    targets = torch.tensor([[1, 0, -1, 0, 1], [0.3, 1, 0, -1, 0.5], [0, 0, 0, 0, 0]])
    codes = np.where(targets < 0, 0, 2 * targets.numpy() - 1).astype(float)
    expected = np.array(
        [
            [[logit(head, k, x[n].double().numpy(), codes[n], c) for c in range(C)] for n in range(3)]
            for k in range(head.num_chains)
        ]
    )
    np.testing.assert_allclose(head.conditional_logits([x], targets).detach(), expected, rtol=1e-4, atol=1e-5)
    known, y, p = targets.numpy() >= 0, targets.numpy(), sigmoid(expected)
    losses = -(y * np.log(p) + (1 - y) * np.log(1 - p)) * known
    assert head.loss([x], targets)['loss'].item() == pytest.approx(losses.sum() / 3 / head.num_chains, rel=1e-4)


@pytest.mark.parametrize('hidden', [0, 3])
def test_the_joint_distribution_and_marginals_by_sampling(hidden: int) -> None:
    head = make(hidden_channels=hidden, inference='probabilistic', num_samples=4096)
    x = inputs(2)
    sets = np.array(list(product([0, 1], repeat=C)))
    logits = head.conditional_logits([x.repeat_interleave(len(sets), 0)], torch.from_numpy(np.tile(sets, (2, 1))))[0]
    p = logits.double().sigmoid().detach().numpy().reshape(2, len(sets), C)
    joint = np.where(sets, p, 1 - p).prod(2)
    np.testing.assert_allclose(joint.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(head.predict([x]).detach(), joint @ sets, atol=0.01)


@pytest.mark.parametrize('hidden', [0, 3])
@pytest.mark.parametrize('loss', [None, dict(type='AsymmetricLoss'), 'pos_weight'])
def test_greedy_is_a_loop_over_labels(hidden: int, loss: dict | None) -> None:
    if loss == 'pos_weight':
        loss = dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight=[1.0, 8.0, 1.0, 0.1, 3.0])
    head, x = make(hidden_channels=hidden, loss=loss), inputs(12)
    expected, decided = np.zeros((12, C)), np.zeros((12, C))
    for n, label in product(range(12), head.order[0].tolist()):
        expected[n, label] = logit(head, 0, x[n].double().numpy(), decided[n], label)
        link = head.loss_module.link(torch.full((1, C), expected[n, label], dtype=torch.float32))
        decided[n, label] = 1 if link[0, label] > 0.5 else -1
    np.testing.assert_allclose(head([x]).detach(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(head.predict([x]) > 0.5, torch.from_numpy(decided > 0))


def test_an_ensemble_averages_probabilities() -> None:
    head, x = make(num_chains=3), inputs(4)
    assert head.order[0].tolist() == [3, 0, 4, 1, 2] and len({tuple(row) for row in head.order.tolist()}) == 3
    p = np.zeros((3, 4, C))
    for k, n in product(range(3), range(4)):
        decided = np.zeros(C)
        for label in head.order[k].tolist():
            value = logit(head, k, x[n].double().numpy(), decided, label)
            p[k, n, label], decided[label] = sigmoid(value), np.sign(value)
    mean = p.mean(0)
    np.testing.assert_allclose(head([x]).detach(), np.log(mean / (1 - mean)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(head.predict([x]).detach(), mean, rtol=1e-4)


def test_sampling_repeats_and_does_not_depend_on_the_batch() -> None:
    settings = dict(inference='probabilistic', num_samples=8, num_chains=2)
    head, x = make(**settings), inputs(6)
    assert torch.equal(head([x]), head([x])) and torch.equal(head([x]), make(**settings)([x]))
    torch.testing.assert_close(head([x[2:3]]), head([x])[2:3])
    assert 'bars' not in head.state_dict()  # so that num_samples may change in a test
    assert not torch.equal(head([x]), make(**settings, seed=1)([x]))


def test_scores_through_a_link_are_used_for_sampling() -> None:
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight=[4.0] * C)
    weighted, plain = (make(inference='probabilistic', num_samples=16, loss=each) for each in (loss, None))
    plain.fc.bias.data -= np.log(4)
    torch.testing.assert_close(weighted.predict([inputs()]), plain.predict([inputs()]), atol=1e-4, rtol=1e-4)
    sigmoids = make(inference='probabilistic', num_samples=16, loss=loss, score='sigmoid')
    torch.testing.assert_close(
        sigmoids.predict([inputs()]), make(inference='probabilistic', num_samples=16).predict([inputs()])
    )


def test_orders_from_the_training_labels() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((400, C)) < [0.2, 0.5, 0.3, 0.4, 0.1]).astype(np.int8)
    labels[:, 4] = np.where(rng.random(400) < 0.9, labels[:, 2], labels[:, 4])
    labels[:, 0] = np.where(rng.random(400) < 0.4, labels[:, 4], labels[:, 0])
    labels[rng.random((400, C)) < 0.1] = -1
    statistics = LabelStatistics(LabelMatrix.from_dense(labels))
    head = make(order='frequency', num_chains=2)
    second = head.order[1].clone()
    told = fit_heads(head, statistics)
    assert head.order[0].tolist() == np.argsort(-(labels == 1).sum(0), kind='stable').tolist()
    assert torch.equal(head.order[1], second) and 'ClassifierChainHead: order from the training labels: ' in told[0]

    information = np.zeros((C, C))
    for a, b in product(range(C), repeat=2):
        known = (labels[:, a] >= 0) & (labels[:, b] >= 0)
        information[a, b] = mutual_info_score(labels[known, a], labels[known, b]) if a != b else 0
    expected = [int(information.sum(0).argmax())]
    while len(expected) < C:
        rest = [c for c in range(C) if c not in expected]
        expected.append(max(rest, key=lambda c: sum(information[c, j] for j in expected)))
    head = make(order='dependence')
    head.fit(statistics)
    assert head.order[0].tolist() == expected and set(expected[:2]) == {2, 4}
    assert not make(order='random').fit(statistics) and not make().fit(statistics)
    assert sorted(make(order='random').order[0].tolist()) == list(range(C))


def test_draws_weigh_images() -> None:
    labels = np.array([[1, 0], [0, 1], [0, 1]], np.int8)
    head = ClassifierChainHead(2, F)
    head.fit(LabelStatistics(LabelMatrix.from_dense(labels), np.array([5.0, 1.0, 1.0])))
    assert head.order[0].tolist() == [0, 1]


@pytest.mark.parametrize('settings', [{}, dict(hidden_channels=3, num_chains=2, inference='probabilistic')])
def test_gradients_round_trip_and_precision(settings: dict) -> None:
    head, x = make(**settings), inputs(8)
    targets = (torch.rand(8, C, generator=torch.Generator().manual_seed(2)) < 0.5).to(torch.int8)
    head.loss([x], targets)['loss'].backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    other = ClassifierChainHead(C, F, order='frequency', **settings).eval()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other([x]), head([x]))
    with torch.autocast('cpu', torch.bfloat16):
        low = head([x.bfloat16()])
        loss = head.loss([x.bfloat16()], targets)['loss']
    assert low.dtype == torch.float32 and low.isfinite().all() and loss.isfinite()
    assert head([x[:1]]).shape == (1, C)
    assert head([1e4 * x]).isfinite().all()
    assert ClassifierChainHead(1, F, **settings).eval()([x]).shape == (8, 1)


def test_dependence_pays() -> None:
    linear = dependent_labels.linear_accuracy()
    for inference in ('greedy', 'probabilistic'):
        torch.manual_seed(0)
        head = ClassifierChainHead(6, 6, order=[0, 1, 2, 3, 4, 5], inference=inference, num_samples=64)
        accuracy = dependent_labels.subset_accuracy(head)
        if inference == 'greedy':
            assert accuracy > linear + 0.08
        else:
            # Marginals are what independent classifiers give too.
            assert accuracy == pytest.approx(linear, abs=0.06)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(order='frequent'), "unknown order 'frequent'; did you mean 'frequency'"),
        (dict(order=[0, 1, 2, 3, 3]), r'order must hold each class number from 0 to 4 once, got \[0, 1, 2, 3, 3\]'),
        (dict(inference='greedi'), "unknown inference 'greedi'; did you mean 'greedy'"),
        (dict(num_chains=0), 'num_chains must be at least 1, got 0'),
        (dict(num_samples=0), 'num_samples must be at least 1, got 0'),
        (dict(hidden_channels=-1), 'hidden_channels must be at least 0, got -1'),
        (dict(num_classes=1001), 'too slow for 1001 classes .at most 1000.; use MLDecoderHead'),
        (dict(loss=dict(type='CrossEntropyLoss', use_soft=True)), 'a softmax over classes is no probability'),
    ],
)
def test_refusals(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f'ClassifierChainHead: .*{message}'):
        ClassifierChainHead(**{'num_classes': C, 'in_channels': F, **settings})


def test_targets_of_other_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match='gives 5 logits, the data have 3 classes; set model.head.num_classes=3'):
        make().loss([inputs()], torch.zeros(3, 3))
