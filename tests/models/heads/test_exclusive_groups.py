"""ExclusiveGroupsHead against the definition, one image, group and label at a time."""

from __future__ import annotations

import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mlcls.errors import ConfigError, DataError
from mlcls.models.fitting import fit_heads
from mlcls.models.heads import exclusive_groups
from mlcls.models.heads.exclusive_groups import ExclusiveGroupsHead
from mlcls.registry import MODELS
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, LabelMatrix, LabelStatistics

#: 0, 4, 2 with "none"; 5 and 1 without; 6 alone with "none"; 3 in no group.
GROUPS = [dict(labels=[0, 4, 2]), dict(labels=[5, 1], none=False), dict(labels=[6], none=True)]
NAMES = ['red', 'day', 'blue', 'car', 'green', 'night', 'rain']


def make(groups: Any = GROUPS, num_classes: int = 7, channels: int = 5, **others: Any) -> ExclusiveGroupsHead:
    torch.manual_seed(0)
    head = ExclusiveGroupsHead(num_classes, channels, groups, **others)
    torch.nn.init.normal_(head.fc.weight)
    return head


def vectors(images: int = 4, channels: int = 5) -> tuple[torch.Tensor]:
    return (torch.randn(images, channels, generator=torch.Generator().manual_seed(1)),)


def outputs_of(head: ExclusiveGroupsHead, features: tuple[torch.Tensor]) -> np.ndarray:
    weight, bias = (value.detach().double().numpy() for value in (head.fc.weight, head.fc.bias))
    return features[0].double().numpy() @ weight.T + bias


def members_of(head: ExclusiveGroupsHead) -> list[list[int]]:
    """Outputs of each group, "none" last."""
    members, output = [], head.num_classes
    for group in GROUPS:
        members.append(list(group['labels']))
        if group.get('none', True):
            members[-1].append(output)
            output += 1
    assert head.fc.out_features == output
    return members


def probabilities(z: np.ndarray, members: list[int]) -> dict[int, float]:
    powers = {i: np.exp(z[i]) for i in members}
    return {i: power / sum(powers.values()) for i, power in powers.items()}


def likelihood(z: np.ndarray, members: list[int], labels: np.ndarray) -> float:
    """Minus log of the probability of all outcomes of a group that agree with hard labels."""
    agreeing = 0.0
    for outcome, p in probabilities(z, members).items():
        named = [i for i in members if i < len(labels)]
        if all(labels[i] == UNKNOWN or labels[i] == (i == outcome) for i in named):
            agreeing += p
    return -np.log(agreeing)


def binary(z: float, label: float) -> float:
    return 0.0 if label < 0 else -label * np.log(1 / (1 + np.exp(-z))) - (1 - label) * np.log(1 / (1 + np.exp(z)))


def test_logits_are_log_odds() -> None:
    head = make()
    logits = head(vectors())
    assert logits.dtype == torch.float32 and logits.shape == (4, 7)
    for z, found in zip(outputs_of(head, vectors()), logits.detach().double().numpy()):
        assert found[3] == pytest.approx(z[3], rel=1e-5)
        for members in members_of(head):
            for i, p in probabilities(z, members).items():
                if i < 7:
                    assert found[i] == pytest.approx(np.log(p / (1 - p)), rel=1e-4, abs=1e-5)


def test_scores_of_a_group_sum_to_one() -> None:
    head = make()
    scores = head.predict(vectors())
    for features_z, found in zip(outputs_of(head, vectors()), scores.detach()):
        for members in members_of(head):
            shares = probabilities(features_z, members)
            none = sum(p for i, p in shares.items() if i >= 7)
            total = found[[i for i in members if i < 7]].sum().item()
            assert total == pytest.approx(1 - none, abs=1e-6)
    torch.testing.assert_close(scores[:, [5, 1]].sum(1), torch.ones(4))


@pytest.mark.parametrize('size', [1.0, 30.0, 1e3, 1e30])
def test_far_outputs_stay_exact_and_finite(size: float) -> None:
    head = make()
    with torch.no_grad():
        head.fc.weight.zero_()
        head.fc.bias.copy_(torch.tensor([1.0, -1, 0, 3, -1, 2, 1, -2, 0.5]) * size)
    logits = head(vectors(1))
    z = head.fc.bias.detach().double()
    expected = [
        z[c] - z[[i for i in group if i != c]].logsumexp(0) for group in members_of(head) for c in group if c < 7
    ]
    order = [c for group in members_of(head) for c in group if c < 7]
    np.testing.assert_allclose(logits[0, order].detach(), torch.stack(expected), rtol=1e-5)
    targets = torch.tensor([[0, 1, 1, 0, -1, -1, 0]])
    loss = head.loss(vectors(1), targets)['loss']
    loss.backward()
    assert loss.isfinite() and head.fc.bias.grad.isfinite().all()
    head.zero_grad()
    head(vectors(1)).sum().backward()
    assert head.fc.bias.grad.isfinite().all()


def test_ties_have_their_log_odds() -> None:
    head = make([dict(labels=[0, 1, 2], none=False)], 3)
    torch.nn.init.zeros_(head.fc.weight)
    torch.nn.init.zeros_(head.fc.bias)
    torch.testing.assert_close(head(vectors()), torch.full((4, 3), -np.log(2).item()))


def test_likelihood_of_every_choice_of_labels() -> None:
    """All 3^3 labels of the first group that are possible, with unknown ones marginalised."""
    head = make()
    z = outputs_of(head, vectors(1))[0]
    members = members_of(head)
    for first in product((1, 0, -1), repeat=3):
        if first.count(1) > 1:
            continue
        labels = np.array([first[0], -1, first[2], 1, first[1], 1, 0])
        expected = sum(likelihood(z, group, labels) for group in members) + binary(z[3], 1)
        found = head.loss(vectors(1), torch.from_numpy(labels[None]).to(torch.int8))['loss'].item()
        assert found == pytest.approx(expected, rel=1e-5)


def test_loss_is_averaged_over_images() -> None:
    head = make()
    targets = np.array([[1, 0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 1], [0, -1, -1, -1, 0, 0, -1], [-1] * 7])
    z = outputs_of(head, vectors())
    single = [
        sum(likelihood(z[n], group, targets[n]) for group in members_of(head)) + binary(z[n, 3], targets[n, 3])
        for n in range(4)
    ]
    assert single[3] == 0
    found = head.loss(vectors(), torch.from_numpy(targets))['loss'].item()
    assert found == pytest.approx(sum(single) / 4, rel=1e-5)


#: Of 12, 2, 1, 4 and 2 labels, the last without "none", their labels in disorder; 0, 13 and 22 in no group.
UNEQUAL: list[dict[str, Any]] = [
    dict(labels=[20, 14, 19, 15, 18, 16, 17, 21, 1, 2, 3, 4]),
    dict(labels=[6, 5]),
    dict(labels=[7]),
    dict(labels=[12, 8, 10, 11], none=True),
    dict(labels=[23, 9], none=False),
]
LEFT = [0, 13, 22]


def unequal_outputs(images: int, size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Float64 outputs of a head of the unequal groups, and labels: present, absent and unknown ones of each."""
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(images, 28, generator=generator, dtype=torch.float64) * size
    labels = torch.randint(-1, 1, (images, 24), generator=generator)
    for group in UNEQUAL:
        chosen = torch.randint(len(group['labels']), (images,), generator=generator)
        columns = torch.tensor(group['labels'])[chosen]
        labels[torch.arange(images), columns] = torch.randint(-1, 2, (images,), generator=generator)
    return outputs.float().double(), labels


@pytest.mark.parametrize('size', [0.1, 2.0, 20.0])
def test_unequal_groups_equal_the_definition_with_their_gradients(size: float) -> None:
    """Values and gradients of the float32 head against each group by itself in float64."""
    head = make(UNEQUAL, 24)
    outputs, labels = unequal_outputs(6, size)
    exact, found = outputs.clone().requires_grad_(), outputs.float().requires_grad_()
    odds, losses = exact[:, :24].clone(), []
    none = 24
    for group in UNEQUAL:
        members = [*group['labels'], *([none] if group.get('none', True) else [])]
        none += group.get('none', True)
        z = exact[:, members]
        for place, label in enumerate(group['labels']):
            others = [i for i in range(len(members)) if i != place]
            odds[:, label] = z[:, place] - z[:, others].logsumexp(1)
        for n, row in enumerate(z):
            possible = [
                k
                for k in range(len(members))
                if all(labels[n, c] in (-1, int(k == i)) for i, c in enumerate(group['labels']))
            ]
            possible = possible or list(range(len(members)))  # contradicting labels
            losses.append(row.logsumexp(0) - row[possible].logsumexp(0))
    own_odds, own_losses = head._log_odds(found), head._group_losses(found, labels)
    assert torch.equal(own_odds[:, LEFT], found[:, LEFT])
    torch.testing.assert_close(own_odds.double(), odds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own_losses.T.flatten().double(), torch.stack(losses), rtol=1e-5, atol=1e-5)
    weights = torch.linspace(-1, 2, odds.numel()).view_as(odds)
    for own, reference in ((own_odds * weights, odds * weights), (own_losses, torch.stack(losses))):
        (grad,) = torch.autograd.grad(own.sum(), found, retain_graph=True)
        (expected,) = torch.autograd.grad(reference.sum(), exact, retain_graph=True)
        torch.testing.assert_close(grad.double(), expected, rtol=1e-4, atol=1e-5)


def test_log_odds_are_exact_for_every_share() -> None:
    """Of two and of three, from a share of nearly 0 over all that may change the way it is computed to nearly 1."""
    lead = torch.linspace(-60, 60, 4801, dtype=torch.float64)
    zeros = torch.zeros_like(lead)
    pair = make([dict(labels=[0, 1], none=False)], 2)._log_odds(torch.stack([lead, zeros], 1).float())
    torch.testing.assert_close(pair.double(), torch.stack([lead, -lead], 1), rtol=3e-6, atol=3e-7)
    found = make([dict(labels=[0, 1, 2], none=False)], 3)._log_odds(torch.stack([lead, zeros, zeros], 1).float())
    other = -torch.logaddexp(lead, zeros)
    torch.testing.assert_close(found.double(), torch.stack([lead - np.log(2), other, other], 1), rtol=3e-6, atol=3e-7)


def test_a_wide_group_keeps_its_digits() -> None:
    """Sums of 5000 float32 exponentials, with and without one that outweighs the rest."""
    head = make([dict(labels=range(5000), none=False)], 5000, 1)
    outputs = torch.randn(3, 5000, generator=torch.Generator().manual_seed(5))
    outputs[1, 7], outputs[2] = 12, 3.7
    z = outputs.double()
    shares = z.softmax(1)
    expected = shares.log() - torch.log1p(-shares)
    torch.testing.assert_close(head._log_odds(outputs).double(), expected, rtol=2e-6, atol=2e-5)


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_a_wide_group_does_not_widen_the_others() -> None:
    """Nothing is as large as groups times widest group: about as many elements as there are outputs, an image."""
    groups = [dict(labels=range(1000)), *(dict(labels=[i, i + 1]) for i in range(1000, 2000, 2))]
    head = make(groups, 2000, 3)
    targets = torch.zeros(2, 2000)
    targets[:, [3, 1500]] = 1
    for compute in (lambda: head(vectors(2, 3)).sum(), lambda: head.loss(vectors(2, 3), targets)['loss']):
        with Largest() as largest:
            compute().backward()
        outputs = 2000 + len(groups)
        # Those of labels beside those of groups, and the weights, are the largest.
        assert 2 * outputs < largest.elements <= max(2 * (2000 + outputs), 3 * outputs)
    assert max(buffer.numel() for buffer in head.buffers()) <= outputs


def test_nothing_known_teaches_nothing() -> None:
    head = make()
    loss = head.loss(vectors(), torch.full((4, 7), -1))['loss']
    loss.backward()
    assert loss.item() == 0 and not head.fc.weight.grad.any()


def test_soft_targets_mix_hard_ones() -> None:
    """A mixture of two images' labels costs the mixture of what they cost."""
    head, features = make(), vectors(1)
    one = torch.tensor([[1.0, 0, 0, 1, 0, 1, 0]])
    for other in ([[0.0, 1, 1, 0, 0, 0, 1]], [[0.0, 0, 0, 0, 0, 1, 0]]):
        two = torch.tensor(other)
        parts = [head.loss(features, labels)['loss'] for labels in (one, two)]
        mixed = head.loss(features, 0.3 * one + 0.7 * two)['loss']
        torch.testing.assert_close(mixed, 0.3 * parts[0] + 0.7 * parts[1])


def test_contradicting_labels_stay_finite() -> None:
    """No label of a group without "none", or two: neither is in training data that were checked."""
    head = make()
    for labels in ([[0, 0, 0, 0, 0, 0, 0]], [[1, 1, 1, 0, 1, 1, 0]]):
        loss = head.loss(vectors(1), torch.tensor(labels))['loss']
        loss.backward()
        assert loss.isfinite() and head.fc.weight.grad.isfinite().all()


@pytest.mark.parametrize('loss', [None, dict(type='AsymmetricLoss')])
def test_gradient_reaches_every_weight(loss: dict[str, Any] | None) -> None:
    head = make(loss=loss)
    targets = torch.tensor(
        [[1, 0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 1], [0, 1, -1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 1, 0]]
    )
    head.loss(vectors(), targets)['loss'].backward()
    assert (head.fc.weight.grad != 0).any(1).all() and (head.fc.bias.grad != 0).all()


def test_gradient_of_log_odds_is_that_of_finite_differences() -> None:
    head = make()
    outputs = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(head._log_odds, outputs)
    targets = torch.tensor([[1, 0, 0, 1, 0, 1, 0], [0, 1, -1, 0, -1, 0, 1]])
    torch.autograd.gradcheck(lambda z: head._group_losses(z, targets), outputs)


def test_a_loss_trains_the_log_odds() -> None:
    head = make(loss=dict(type='AsymmetricLoss'))
    targets = torch.tensor([[1, 0, 0, 1, 0, 1, 0]] * 4)
    expected = head.loss_module(head(vectors()), targets, avg_factor=4)
    torch.testing.assert_close(head.loss(vectors(), targets)['loss'], expected)
    torch.testing.assert_close(head.predict(vectors()), head.loss_module.link(head(vectors())))
    torch.testing.assert_close(make().predict(vectors()), make()(vectors()).sigmoid())


def test_names_stand_for_indices() -> None:
    groups = [dict(labels=['red', 'green', 'blue']), dict(labels=['night', 1], none=False), dict(labels=['rain'])]
    named = make(groups, classes=NAMES)
    assert named.label_names == tuple(NAMES) and make().label_names is None
    assert torch.equal(named(vectors()), make()(vectors()))


def test_order_of_groups_and_labels_does_not_matter() -> None:
    one, other = make(), make([dict(labels=[6]), dict(labels=[2, 0, 4]), dict(labels=[1, 5], none=False)])
    with torch.no_grad():
        for name in ('weight', 'bias'):
            getattr(other.fc, name).copy_(getattr(one.fc, name)[[0, 1, 2, 3, 4, 5, 6, 8, 7]])
    torch.testing.assert_close(one(vectors()), other(vectors()))


def test_state_goes_round() -> None:
    source, target = make(), make()
    with torch.no_grad():
        source.fc.bias += 1
    assert list(source.state_dict()) == ['fc.weight', 'fc.bias']
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(vectors()), target(vectors()))
    torch.testing.assert_close(source.eval()(vectors(1)), source(vectors(2))[:1])


def test_autocast_computes_in_float32() -> None:
    head, features = make(), (vectors()[0].bfloat16() * 50,)
    targets = torch.tensor([[1, 0, 0, 1, 0, 1, 0]] * 4, dtype=torch.int8)
    with torch.autocast('cpu', torch.bfloat16):
        logits, loss = head(features), head.loss(features, targets)['loss']
    assert logits.dtype == loss.dtype == torch.float32 and loss.isfinite()
    torch.testing.assert_close(logits, head((features[0].float(),)))


def statistics(*rows: list[int], default: int = ABSENT, times: int = 1) -> LabelStatistics:
    labels = np.array(rows * times, np.int8)
    chosen = [np.flatnonzero(row != default) for row in labels]
    indptr = np.cumsum([0, *map(len, chosen)])
    values = np.concatenate([row[places] for row, places in zip(labels, chosen)])
    matrix = LabelMatrix(indptr, np.concatenate(chosen).astype(np.int32), values, labels.shape[1], default)
    np.testing.assert_array_equal(matrix.dense(), labels)
    return LabelStatistics(matrix)


@pytest.mark.parametrize('default', [ABSENT, UNKNOWN, PRESENT])
def test_training_labels_are_checked(default: int) -> None:
    fine = ([1, 0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 1], [-1, -1, -1, -1, -1, -1, -1], [0, -1, 0, 0, 0, 0, 0])
    assert fit_heads(make(), statistics(*fine, default=default)) == []
    two = ([1, 1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 0, 0])
    with pytest.raises(DataError, match=r'2 training images have two labels or more of groups\[0\] \(0, 4, 2\)'):
        make().fit(statistics(*fine, *two, default=default))
    nothing = [1, 0, 0, 1, 0, 0, 0]
    with pytest.raises(DataError, match=r'1 training images have no label of groups\[1\] \(5, 1\); set none=True in'):
        make().fit(statistics(*fine, nothing, default=default))


@pytest.mark.parametrize('default', [ABSENT, UNKNOWN, PRESENT])
@pytest.mark.parametrize('entries', [1, 7, 1 << 20])
def test_counts_of_images_equal_those_of_dense_labels(
    default: int, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive_groups, '_ENTRIES', entries)
    rng = np.random.default_rng(6)
    for odds in ([0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6]):
        labels = rng.choice([default, *({-1, 0, 1} - {default})], (30, 7), p=odds)
        labels[[4, 5, 29]] = default  # images without stored labels
        groups = make().groups
        several, nothing = exclusive_groups._count_images(statistics(*labels, default=default).labels, groups)
        for number, group in enumerate(groups):
            assert several[number] == sum(list(row[group]).count(1) > 1 for row in labels)
            assert nothing[number] == sum(row[group].tolist().count(0) == len(group) for row in labels)


def test_counting_takes_no_memory_for_what_is_not_stored() -> None:
    """4000 images of 1000 groups: as a table they are 32 MB."""
    labels = LabelMatrix.from_lists([[number % 2000] for number in range(4000)], 2000)
    groups = [[label, label + 1] for label in range(0, 2000, 2)]
    tracemalloc.start()
    several, nothing = exclusive_groups._count_images(labels, groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6
    assert not several.any() and (nothing == 3996).all()


def test_many_training_images_and_names() -> None:
    groups = [dict(labels=['red', 'green'])]
    with pytest.raises(DataError, match=r'40000 training images have two .* groups\[0\] \(red, green\)'):
        make(groups, classes=NAMES).fit(statistics([1, 0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0], times=40000))
    assert make().fit(LabelStatistics(LabelMatrix.from_dense(np.zeros((0, 7), np.int8)))) == {}


@pytest.mark.parametrize(
    'groups, message',
    [
        ([], 'groups is empty; without groups use MultiLabelLinearClsHead'),
        ([[0, 1]], r'groups\[0\] must be dict\(labels=\[\.\.\.\], none=True or False\), got \[0, 1\]'),
        ([dict(label=[0, 1])], r'groups\[0\] must be dict\(labels='),
        ([dict(labels='red')], r'groups\[0\]: labels must be a list of indices or names, got'),
        ([dict(labels=[0, 1], non=True)], r"groups\[0\] has no setting 'non'; did you mean 'none'\?"),
        ([dict(labels=[0, 1]), dict(labels=[2, 7])], r'groups\[1\]: label 7 is out of range, classes are 0 to 6'),
        ([dict(labels=[-1, 1])], r'groups\[0\]: label -1 is out of range'),
        ([dict(labels=[0, True])], r'groups\[0\]: a label must be an index or a name, got True'),
        ([dict(labels=[0, 0.5])], r'groups\[0\]: a label must be an index or a name, got 0\.5'),
        ([dict(labels=[0, 1]), dict(labels=[2, 1])], r'groups\[1\] has label 1 in groups\[0\] as well'),
        ([dict(labels=[0, 1, 0])], r'groups\[0\] has label 0 twice'),
        ([dict(labels=[0], none=False)], r'groups\[0\] has 1 labels and none=False: there is nothing to choose from'),
        ([dict(labels=[])], r'groups\[0\] has 0 labels and none=True: there is nothing to choose from'),
        ([dict(labels=['red', 'blue'])], r"groups\[0\] names label 'red': the head needs classes=\[\.\.\.\]"),
    ],
)
def test_bad_groups(groups: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f'ExclusiveGroupsHead: {message}'):
        make(groups)


def test_names_and_sizes_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"groups\[0\]: no class 'gren'; did you mean 'green'\?"):
        make([dict(labels=['red', 'gren'])], classes=NAMES)
    with pytest.raises(ConfigError, match='classes has 6 names, num_classes is 7'):
        make(classes=NAMES[1:])
    with pytest.raises(ConfigError, match=r'the data have 6 classes; set model\.head\.num_classes=6'):
        make().loss(vectors(), torch.zeros(4, 6))
    with pytest.raises(ConfigError, match='takes feature vectors, got a map'):
        make()((torch.randn(2, 5, 3, 3),))


def test_it_is_built_from_a_config() -> None:
    head = MODELS.build(dict(type='ExclusiveGroupsHead', num_classes=7, in_channels=5, groups=GROUPS))
    assert head(vectors()).shape == (4, 7)
