"""The label powerset against sums over its sets in float64, and through a whole run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mlcls.apis import TrainFlags, test, train
from mlcls.errors import CheckpointError, ConfigError, DataError
from mlcls.fileio import read_checkpoint
from mlcls.models import LabelPowersetHead
from mlcls.models.fitting import fit_heads
from mlcls.models.heads.label_sets import find_label_sets, most_labels
from mlcls.structures import LabelMatrix, LabelStatistics
from tests.models.conftest import warnings_in
from tests.models.heads import dependent_labels

C, F = 5, 4


def drawn_labels(images: int = 60, unknown: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = (rng.random((images, C)) < [0.5, 0.5, 0.3, 0.2, 0.0]).astype(np.int8)
    labels[rng.random((images, C)) < unknown] = -1
    return labels


def statistics(labels: np.ndarray) -> LabelStatistics:
    return LabelStatistics(LabelMatrix.from_dense(labels))


def make(labels: np.ndarray | None = None, **settings: object) -> LabelPowersetHead:
    head = LabelPowersetHead(C, F, **settings)
    head.fit(statistics(drawn_labels() if labels is None else labels))
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return head.eval()


def inputs(images: int = 7) -> torch.Tensor:
    return torch.randn(images, F, generator=torch.Generator().manual_seed(1))


def probabilities(head: LabelPowersetHead, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of the sets (N, S), and the sets, in float64."""
    logits = x.double().numpy() @ head.fc.weight.detach().double().numpy().T + head.fc.bias.detach().double().numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True), head.label_sets.numpy()


@pytest.mark.parametrize('default', [0, -1, 1])
def test_the_sets_are_those_of_the_labels(default: int) -> None:
    labels = drawn_labels(300, 0.1)
    rows, columns = np.nonzero(labels != default)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=300))])
    shuffled = np.random.default_rng(0).permutation(len(rows))  # entries of a row lie in any order
    shuffled = shuffled[np.argsort(rows[shuffled], kind='stable')]
    columns = columns[shuffled]
    matrix = LabelMatrix(indptr, columns.astype(np.int32), labels[rows, columns], C, default)
    found = find_label_sets(matrix)
    expected = Counter(tuple(row) for row in labels.tolist() if -1 not in row)
    sets = [tuple(row) for row in found.dense(matrix, len(found.counts)).astype(int).tolist()]
    assert dict(zip(sets, found.counts.tolist())) == dict(expected) and len(sets) == len(expected)
    assert (np.diff(found.counts) <= 0).all() and found.unknown == 300 - sum(expected.values())
    assert most_labels(matrix) == (labels == 1).sum(1).max()


def test_many_classes_need_no_dense_labels() -> None:
    rng = np.random.default_rng(0)
    present = [rng.choice(200_000, 3, replace=False).tolist() for _ in range(50)] * 40
    found = find_label_sets(LabelMatrix.from_lists([ids[::-1] for ids in present] + present, 200_000))
    assert found.counts.tolist() == [80] * 50  # as dense labels they would take 800 MB


def test_fit_tells_what_it_found() -> None:
    labels = np.repeat([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]], [5, 4, 1], axis=0).astype(np.int8)
    head = LabelPowersetHead(C, F, min_count=2)
    told = fit_heads(head, statistics(labels))
    assert told[0] == 'LabelPowersetHead: label sets from the training labels: 2'
    assert told[1] == 'LabelPowersetHead: share of images in them from the training labels: 0.9'
    assert head.label_sets.tolist() == labels[[0, 5]].astype(bool).tolist() and head.fc.weight.shape == (2, F)


def test_marginals() -> None:
    head, x = make(), inputs()
    p, sets = probabilities(head, x)
    with_label, without = p @ sets + 1e-8, p @ ~sets + 1e-8
    np.testing.assert_allclose(head([x]).detach(), np.log(with_label / without), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.predict([x]).detach(), p @ sets, atol=1e-6)
    assert (head([x])[:, 4] - np.log(1e-8)).abs().max() < 1e-3  # in no set


@pytest.mark.parametrize('part', [1, 1 << 17])
def test_joint(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mlcls.models.heads.label_powerset._PART', part)
    head, x = make(inference='joint'), inputs(20)
    p, sets = probabilities(head, x)
    logits = head([x]).detach()
    assert np.array_equal(logits.numpy() > 0, sets[p.argmax(1)])
    expected = [[np.log((p[n, sets[:, c]].max(initial=0) + 1e-8) / (p[n, ~sets[:, c]].max() + 1e-8)) for c in range(C)]
                for n in range(20)]  # fmt: skip
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_likelihood_with_unknown_labels_and_unseen_sets() -> None:
    labels = drawn_labels()
    head, x = make(labels), inputs(6)
    p, sets = probabilities(head, x)
    targets = torch.tensor(
        [
            labels[0].tolist(),
            [1, -1, -1, 0, -1],
            [-1] * C,
            [1, 1, 1, 1, 1],  # the last label is in no set
            [-1, -1, -1, -1, 1],
            [0, 1, 0, -1, 1],
        ],
        dtype=torch.int8,
    )
    expected = []
    for n, row in enumerate(targets.tolist()):
        away = [sum(y >= 0 and y != s for y, s in zip(row, each)) for each in sets.tolist()]
        expected.append(-np.log(sum(p[n, i] for i, d in enumerate(away) if d == min(away))))
    assert expected[2] == pytest.approx(0) and expected[0] == pytest.approx(-np.log(p[0, (sets == labels[0]).all(1)]))
    for n in range(6):
        assert head.loss([x[n : n + 1]], targets[n : n + 1])['loss'].item() == pytest.approx(expected[n], abs=1e-5)
    assert head.loss([x], targets)['loss'].item() == pytest.approx(np.mean(expected), rel=1e-5)
    torch.testing.assert_close(head.loss([x], targets.float())['loss'], head.loss([x], targets)['loss'])


def test_another_loss_trains_the_marginals() -> None:
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    head, x = make(loss=loss, inference='joint'), inputs()
    p, sets = probabilities(head, x)
    soft = np.random.default_rng(0).random((7, C))
    q = np.clip(p @ sets, 1e-8, 1 - 1e-8)
    expected = -(soft * np.log(q) + (1 - soft) * np.log(1 - q)).sum() / 7
    assert head.loss([x], torch.from_numpy(soft).float())['loss'].item() == pytest.approx(expected, rel=1e-4)
    weighted = make(loss=dict(**loss, pos_weight=[2.0] * C))
    torch.testing.assert_close(weighted.predict([x]), (weighted([x]) - np.log(2)).sigmoid())
    assert weighted.loss([x], torch.ones(7, C))['loss'].isfinite()


@pytest.mark.parametrize('inference', ['marginals', 'joint'])
def test_gradients_round_trip_and_precision(inference: str) -> None:
    head, x = make(inference=inference), inputs()
    targets = torch.from_numpy(drawn_labels(7, 0.3))
    head.loss([x], targets)['loss'].backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    other = LabelPowersetHead(C, F, inference=inference).eval()
    other.load_state_dict(head.state_dict())  # takes the sizes
    assert torch.equal(other([x]), head([x])) and torch.equal(other.label_sets, head.label_sets)
    with torch.autocast('cpu', torch.bfloat16):
        low = head([x.bfloat16()])
        loss = head.loss([x.bfloat16()], targets)['loss']
    assert low.dtype == torch.float32 and low.isfinite().all() and loss.isfinite()
    assert head([x[:1]]).shape == (1, C)
    far = (1e4 * x).requires_grad_()
    (head([far]).sum() + head.loss([far], targets)['loss']).backward()
    assert head([far]).isfinite().all() and far.grad.isfinite().all()
    assert head([far]).abs().max() < 19


def test_dependence_pays() -> None:
    linear = dependent_labels.linear_accuracy()
    torch.manual_seed(0)
    head = LabelPowersetHead(6, 6, inference='joint')
    head.fit(dependent_labels.statistics())
    assert len(head.label_sets) == 9
    assert dependent_labels.subset_accuracy(head) > linear + 0.08


@pytest.mark.parametrize(
    'settings, labels, message',
    [
        (
            dict(max_sets=2),
            np.repeat(np.eye(C, dtype=np.int8)[:4], [6, 2, 1, 1], axis=0),
            r'4 label sets in 10 images, more than max_sets=2; 50% of the 4 distinct sets occur once and can hardly '
            r'be learnt; set model.head.min_count=2 .keeps 2 sets of 80% of the images., raise model.head.max_sets, or',
        ),
        (dict(max_sets=2), np.eye(C, dtype=np.int8), 'hardly be learnt; raise model.head.max_sets, or use'),
        (dict(min_count=3), np.eye(C, dtype=np.int8), 'no label set occurs min_count=3 times; the most frequent one'),
        ({}, np.full((4, C), -1, np.int8), 'all 4 training images have unknown labels'),
    ],
)
def test_labels_that_cannot_be_listed(settings: dict, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=f'LabelPowersetHead: .*{message}'):
        LabelPowersetHead(C, F, **settings).fit(statistics(labels))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(inference='marginal'), "unknown inference 'marginal'; did you mean 'marginals'"),
        (dict(max_sets=0), 'max_sets must be at least 1, got 0'),
        (dict(min_count=0), 'min_count must be at least 1, got 0'),
    ],
)
def test_settings_that_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f'LabelPowersetHead: {message}'):
        LabelPowersetHead(C, F, **settings)


def test_uses_that_are_refused() -> None:
    head, x = make(), inputs()
    with pytest.raises(ConfigError, match='has no label sets yet; they come from the training labels'):
        LabelPowersetHead(C, F)([x])
    with pytest.raises(DataError, match=r'soft targets are no label set; remove data_preprocessor\.batch_augments'):
        head.loss([x], torch.full((7, C), 0.5))
    with pytest.raises(ConfigError, match='the data have 3 classes; set model.head.num_classes=3'):
        head.loss([x], torch.zeros(7, 3))
    state = head.state_dict()
    state['label_sets'] = ~state['label_sets']
    with pytest.raises(CheckpointError, match='label sets of the checkpoint are not those of the training labels'):
        head.load_state_dict(state)


def test_a_run_its_test_and_its_resumption(tiny_config: Path) -> None:
    options = {
        'model.head': dict(_delete_=True, type='LabelPowersetHead', num_classes=3, in_channels=64),
        'train_cfg.max_epochs': 1,
    }
    run = train(tiny_config, options=options)
    stored = read_checkpoint(run / 'epoch_1.pth')['state_dict']
    assert stored['head.label_sets'].shape[1] == 3 and len(stored['head.fc.weight']) == len(stored['head.label_sets'])
    assert 'LabelPowersetHead: label sets from the training labels: ' in next(run.glob('*/*.log')).read_text()
    assert test(run).num_images == 20  # without the training data
    train(tiny_config, TrainFlags(resume=True), {**options, 'train_cfg.max_epochs': 2})
    assert (run / 'epoch_2.pth').exists()


def test_sets_of_single_images_are_a_warning(records: pytest.LogCaptureFixture) -> None:
    rows = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 0]]
    statistics = LabelStatistics(LabelMatrix.from_dense(np.array(rows, np.int8)))
    LabelPowersetHead(3, 4).fit(statistics)
    assert '3 of the 4 label sets are of a single training image' in warnings_in(records)[0]
    twice = LabelStatistics(LabelMatrix.from_dense(np.array(rows + rows, np.int8)))
    LabelPowersetHead(3, 4).fit(twice)
    assert len(warnings_in(records)) == 1
