"""The diagnosis of a loss: groups of classes, shares of the gradient, scores, and the warning of a collapse."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mlcls.apis import TrainFlags, train
from mlcls.engine.hooks import LossDiagnosisHook
from mlcls.engine.hooks.diagnosis import find_collapse, group_classes
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint
from mlcls.registry import HOOKS, MODELS
from mlcls.structures import LabelMatrix, LabelStatistics
from tests.engine.ranks import launch

# Groups.


@pytest.mark.parametrize(
    'counts, bounds, groups',
    [
        ([5, 90, 40, 7, 300, 20], None, dict(head=[1, 4], medium=[2, 5], tail=[0, 3])),
        ([1, 2, 3, 4], None, dict(head=[2, 3], medium=[1], tail=[0])),  # what is left over goes to the frequent ones
        ([5, 4, 3, 2, 1], None, dict(head=[0, 1], medium=[2, 3], tail=[4])),
        ([7, 7, 7], None, dict(head=[0], medium=[1], tail=[2])),  # ties: in class order
        ([3, 7, 7, 7, 9, 1], None, dict(head=[1, 4], medium=[2, 3], tail=[0, 5])),
        ([4], None, dict(head=[0])),
        ([4, 9], None, dict(head=[1], tail=[0])),
        ([0], None, dict(tail=[0])),
        ([0, 3], None, dict(head=[1], tail=[0])),
        ([9, 0, 0, 0, 0, 8], None, dict(head=[0, 5], tail=[1, 2, 3, 4])),
        ([0, 0, 0], None, dict(tail=[0, 1, 2])),
        ([100, 101, 20, 19, 0], (20, 101), dict(head=[1], medium=[0, 2], tail=[3, 4])),
        ([500, 300], (20, 101), dict(head=[0, 1])),
        ([1, 0], (1, 2), dict(medium=[0], tail=[1])),
    ],
)
def test_groups(counts: list[int], bounds: tuple[int, int] | None, groups: dict[str, list[int]]) -> None:
    found = group_classes(np.array(counts), bounds)
    assert list(found) == list(groups)
    assert {name: classes.tolist() for name, classes in found.items()} == groups


@pytest.mark.parametrize('number', range(3, 40))
def test_thirds_are_as_equal_as_can_be(number: int) -> None:
    counts = np.random.default_rng(number).permutation(number) + 1
    parts = np.array_split(np.sort(counts)[::-1], 3)
    for found, expected in zip(group_classes(counts).values(), parts):
        assert sorted(counts[found]) == sorted(expected)


# Settings.


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(interval=0), 'interval must be a whole number of at least 1, got 0'),
        (dict(interval=2.5), 'interval must be a whole number'),
        (dict(interval=True), 'interval must be a whole number'),
        (dict(patience=0), 'patience must be a whole number of at least 1, got 0'),
        (dict(bounds=(20,)), r'bounds must be the least positives of a medium and of a head class.*as in \(20, 101\)'),
        (dict(bounds=(101, 20)), 'rising'),
        (dict(bounds=(20, 20)), 'rising'),
        (dict(bounds=(0, 20)), 'at least 1'),
        (dict(bounds=(1.5, 20)), 'bounds must be'),
        (dict(bounds=20), 'bounds must be'),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f'LossDiagnosisHook: .*{message}'):
        HOOKS.build(dict(type='LossDiagnosisHook', **settings))


@pytest.mark.parametrize('head', [None, nn.Linear(2, 2)])
def test_a_model_without_what_is_watched_is_refused(head: nn.Module | None) -> None:
    model = nn.Module()
    model.head = head
    statistics = LabelStatistics(LabelMatrix.from_dense(np.eye(2)))
    with pytest.raises(ConfigError, match=rf'needs a model.head with loss_module and scores.*{type(head).__name__}'):
        LossDiagnosisHook().before_train(SimpleNamespace(model=model, _statistics=statistics))


# Figures of single steps.


class Model(nn.Module):
    """A head whose logits are the inputs, so that a test can choose them."""

    def __init__(self, **head: Any) -> None:
        super().__init__()
        self.head = MODELS.build({'type': 'MultiLabelClsHead', 'score': 'sigmoid', **head})
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if not len(inputs):
            raise RuntimeError('no images')
        return self.head.loss((inputs * self.scale,), targets)['loss']


class Bench:
    """A hook with a model and what it needs of a runner."""

    def __init__(self, labels: Any, steps: int = 4, head: dict[str, Any] | None = None, **settings: Any) -> None:
        self.model = Model(**(head or {}))
        self.scalars: dict[str, float] = {}
        self.warnings: list[str] = []
        self.lines: list[str] = []
        self.runner = SimpleNamespace(
            model=self.model,
            _statistics=LabelStatistics(LabelMatrix.from_dense(np.asarray(labels))),
            train_dataloader=range(steps),
            epoch=0,
            timestamp='now',
            logger=SimpleNamespace(info=self.lines.append, warning=self.warnings.append),
            visualizer=SimpleNamespace(add_scalars=self._add),
        )
        self.hook = LossDiagnosisHook(**settings)
        self.hook.before_train(self.runner)

    def _add(self, scalars: dict[str, float], step: int, file_path: str) -> None:
        assert step == self.runner.epoch + 1 and file_path == 'now.json'
        self.scalars = scalars

    def step(self, number: int, logits: Any, targets: Any, scale: float = 1.0) -> None:
        self.hook.before_train_iter(self.runner, number)
        (self.model(torch.as_tensor(logits).float(), torch.as_tensor(targets)) * scale).backward()

    def end(self) -> dict[str, float]:
        self.hook.after_train_epoch(self.runner)
        self.runner.epoch += 1
        return self.scalars

    def listeners(self) -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in self.model.modules())


#: Classes 0, 1 and 2 are head, medium and tail.
LABELS = [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
GROUPS = ('head', 'medium', 'tail')


def batches(number: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits and targets with present, absent, unknown and soft labels."""
    rng = np.random.default_rng(seed)
    values = np.array([1, 0, -1, 0.5, 0.75, 0.2])
    return [(rng.normal(0, 2, (6, 3)).astype(np.float32), values[rng.integers(0, 6, (6, 3))]) for _ in range(number)]


def expected(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """All scalars of a binary cross entropy, label by label in float64."""
    shares: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    for logits, targets in pairs:
        masses = {f'{group}/gradient_{sign}': 0.0 for group in GROUPS for sign in ('positive', 'negative')}
        for logit, target, group in zip(logits.ravel().tolist(), targets.ravel().tolist(), GROUPS * len(logits)):
            if target == -1:
                continue
            probability = 1 / (1 + math.exp(-logit))
            sign = 'positive' if target > 0.5 else 'negative'
            masses[f'{group}/gradient_{sign}'] += abs(probability - target) / len(logits)
            for name in (f'{group}/score_{sign}', f'{group}/score'):
                scores.setdefault(name, []).append(probability)
        for name, mass in masses.items():
            shares.setdefault(name, []).append(mass / sum(masses.values()))
    return {f'diagnosis/{name}': sum(values) / len(values) for name, values in {**shares, **scores}.items()}


@pytest.mark.parametrize('seed', range(3))
def test_shares_and_scores_agree_with_a_formula(seed: int) -> None:
    pairs = batches(4, seed)
    bench = Bench(LABELS, interval=1)
    for number, (logits, targets) in enumerate(pairs):
        bench.step(number, logits, targets, scale=65536.0 / 2**number)  # a loss scaler changes its mind
    found = bench.end()
    assert found == pytest.approx(expected(pairs), rel=1e-5)
    assert sum(value for name, value in found.items() if 'gradient' in name) == pytest.approx(1, abs=1e-12)
    assert [line.split()[2] for line in bench.lines] == ['head', 'medium', 'tail']
    assert '(1 classes)' in bench.lines[0] and f'score {found["diagnosis/head/score"]:.3f}' in bench.lines[0]


def test_epochs_do_not_mix() -> None:
    first, second = batches(1, 3), batches(1, 4)
    bench = Bench(LABELS, steps=1)
    bench.step(0, *first[0])
    bench.end()
    bench.step(0, *second[0])
    assert bench.end() == pytest.approx(expected(second), rel=1e-5)


@pytest.mark.parametrize(
    'interval, steps, looked_at', [(1, 3, [0, 1, 2]), (2, 5, [1, 3]), (3, 3, [2]), (20, 4, [3]), (20, 1, [0])]
)
def test_steps_that_are_looked_at(interval: int, steps: int, looked_at: list[int]) -> None:
    pairs = batches(steps)
    bench = Bench(LABELS, steps=steps, interval=interval)
    for number, pair in enumerate(pairs):
        bench.step(number, *pair)
        assert bench.listeners() == 0
    assert bench.end() == pytest.approx(expected([pairs[number] for number in looked_at]), rel=1e-5)


def test_what_there_is_none_of_is_left_out() -> None:
    bench = Bench(LABELS, steps=2, interval=1)
    bench.step(0, np.zeros((2, 3)), [[1, 0, -1], [1, 1, -1]])
    bench.step(1, np.zeros((2, 3)), np.full((2, 3), -1))  # nothing known: no share of nothing
    found = {name.removeprefix('diagnosis/'): value for name, value in bench.end().items()}
    assert found == {
        **{'head/gradient_positive': 0.5, 'head/gradient_negative': 0, 'head/score_positive': 0.5, 'head/score': 0.5},
        **{'medium/gradient_positive': 0.25, 'medium/gradient_negative': 0.25, 'medium/score_positive': 0.5},
        **{'medium/score_negative': 0.5, 'medium/score': 0.5, 'tail/gradient_positive': 0, 'tail/gradient_negative': 0},
    }
    assert bench.end() == {}  # an epoch in which nothing was seen


def test_scores_are_those_of_the_head() -> None:
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight=3.0)
    bench = Bench(LABELS, steps=1, head=dict(score='calibrated', loss=loss))
    bench.step(0, np.full((1, 3), math.log(3)), [[1, 0, 0]])
    found = bench.end()
    assert [found[f'diagnosis/{group}/score'] for group in GROUPS] == pytest.approx([0.5] * 3, rel=1e-6)


def test_positional_arguments_of_a_loss() -> None:
    logits, targets = (torch.as_tensor(values) for values in batches(1)[0])
    bench = Bench(LABELS, steps=1)
    bench.hook.before_train_iter(bench.runner, 0)
    logits.requires_grad_()
    bench.model.head.loss_module(logits * 1, targets).backward()
    assert bench.end() == pytest.approx(expected(batches(1)), rel=1e-5)


@pytest.mark.parametrize('place', ['network', 'loss', 'backward'])
def test_nothing_is_left_on_the_model_after_an_error(place: str) -> None:
    bench = Bench(LABELS, steps=1)
    logits, targets = np.zeros((2, 3)), np.zeros((2, 3))
    if place == 'network':
        with pytest.raises(RuntimeError, match='no images'):
            bench.step(0, logits[:0], targets[:0])
    elif place == 'loss':
        with pytest.raises(ValueError, match='targets must be 1'):
            bench.step(0, logits, targets + 7)
    else:
        bench.model.scale.register_hook(lambda gradient: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bench.step(0, logits, targets)
    assert bench.listeners() == 0


def test_an_armed_hook_can_be_closed() -> None:
    bench = Bench(LABELS, steps=1)
    bench.hook.before_train_iter(bench.runner, 0)
    assert bench.listeners() == 2
    bench.hook.after_train(bench.runner)
    assert bench.listeners() == 0


# Collapses.


@pytest.mark.parametrize(
    'above, scores, collapse',
    [
        ((1.0, 0.96), (0.9, 0.9), 'all-positive'),
        ((1.0, 0.95), (0.9, 0.9), None),
        ((math.nan, 1.0), (math.nan, 0.9), 'all-positive'),
        ((1.0, math.nan), (0.9, math.nan), None),  # no negatives: yes to everything is right
        ((0.0, 0.0), (0.1, 0.06), 'all-negative'),
        ((0.0, 0.0), (0.1, 0.04), None),
        ((0.01, 0.0), (0.1, 0.1), None),
        ((0.0, math.nan), (0.1, math.nan), None),
        ((math.nan, 0.0), (math.nan, 0.1), None),
        ((math.nan, math.nan), (math.nan, math.nan), None),
    ],
)
def test_what_a_collapse_is(above: tuple[float, float], scores: tuple[float, float], collapse: str | None) -> None:
    assert find_collapse(above, scores) == collapse


def warned(head: dict[str, Any], logit: float, epochs: int = 4, **settings: Any) -> list[str]:
    """Warnings of epochs in which every logit is the same, with the epoch of the first in front."""
    bench = Bench(LABELS, steps=1, head=head, **settings)
    first = None
    for epoch in range(1, epochs + 1):
        bench.step(0, np.full((4, 3), logit), LABELS)
        bench.end()
        first = first or (epoch if bench.warnings else None)
    return [] if first is None else [str(first), *bench.warnings]


@pytest.mark.parametrize('patience', [1, 2, 3])
@pytest.mark.parametrize('logit, collapse', [(4.0, 'all-positive'), (-4.0, 'all-negative')])
def test_it_warns_once_when_its_patience_is_over(patience: int, logit: float, collapse: str) -> None:
    epoch, message = warned({}, logit, patience=patience)
    assert int(epoch) == patience and f'training collapses into {collapse} in epoch {patience}' in message


@pytest.mark.parametrize('thr, logit, count', [(None, 0.0, 1), (0.6, 0.0, 0), (0.6, 1.0, 1)])
def test_the_threshold_is_the_heads(thr: float | None, logit: float, count: int) -> None:
    messages = warned(dict(thr=thr), logit)[1:]
    assert len([message for message in messages if 'all-positive' in message]) == count


BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)


@pytest.mark.parametrize(
    'logit, score, loss, told, untold',
    [
        (
            99,
            'sigmoid',
            {**BCE, 'pos_weight': 9.0},
            ["score='calibrated'", 'a lower model.head.loss.pos_weight'],
            ['w_neg'],
        ),
        (99, 'calibrated', BCE, ['a lower optim_wrapper.optimizer.lr'], ['calibrated', 'pos_weight', 'gamma_neg']),
        (99, 'sigmoid', dict(type='WeightedBCELoss'), ['a higher model.head.loss.w_neg', 'calibrated'], ['pos_weight']),
        (
            99,
            'calibrated',
            dict(type='AsymmetricLoss'),
            ['gamma_neg=2, gamma_pos=2, clip=0', '(0, 0, 0), (2, 2, 0), (2, 1, 0), (4, 1, 0), (4, 1, .05)'],
            ['pos_weight', 'w_neg', 'calibrated'],
        ),
        (
            -99,
            'calibrated',
            BCE,
            ["pos_weight='auto'", 'ClassBalancedDataset', 'another optim'],
            ['prior_bias', 'gamma'],
        ),
        (-99, 'sigmoid', dict(type='FocalLoss'), ["score='calibrated'", 'ClassBalancedDataset'], ['pos_weight']),
        (-99, 'calibrated', {**BCE, 'pos_weight': [2.0, 3.0, 4.0]}, ['ClassBalancedDataset'], ['pos_weight']),
        (-99, 'sigmoid', dict(type='CrossEntropyLoss', use_soft=True), ['use_sigmoid=True'], ['pos_weight', 'calibr']),
    ],
)
def test_advice_fits_the_model(logit: float, score: str, loss: dict, told: list[str], untold: list[str]) -> None:
    _, message = warned(dict(score=score, loss=loss), logit)
    assert loss['type'] in message
    advice = message.partition('Try ')[2]
    assert all(word in advice for word in told) and not any(word in advice for word in untold)


def test_figures_in_the_warning() -> None:
    bench = Bench(LABELS, steps=1, patience=1)
    bench.step(0, np.where(np.array(LABELS) == 1, 3.0, 1.0), LABELS)
    bench.end()
    assert '100.0% of the positives and 100.0% of the negatives score 0.5 or more (means 0.953 and 0.731)' in str(
        bench.warnings
    )


# Whole runs.

HOOK = {'custom_hooks': [dict(type='LossDiagnosisHook')]}


def scalars_of(run: Path) -> list[dict[str, float]]:
    (path,) = run.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def warnings_of(run: Path) -> list[str]:
    (log,) = run.glob('*/*.log')
    return [line for line in log.read_text().splitlines() if 'training collapses' in line]


def test_a_run_is_the_same_with_it_and_has_its_scalars(tiny_config: Path, tmp_path: Path) -> None:
    text = tiny_config.read_text().replace("'CrossEntropyLoss', use_sigmoid=True", "'FocalLoss'")
    tiny_config.write_text(text)  # a loss whose link is tabulated at its first use
    without = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'without')))
    options = {'custom_hooks': [dict(type='LossDiagnosisHook', interval=2)]}
    run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'with')), options)
    a, b = (read_checkpoint(folder / 'epoch_4.pth')['state_dict'] for folder in (without, run))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    epochs = [line for line in scalars_of(run) if 'diagnosis/head/score' in line]
    assert [line['step'] for line in epochs] == [1, 2, 3, 4]
    for line in epochs:
        assert len(line) == 3 * 5 + 1
        assert sum(value for name, value in line.items() if 'gradient' in name) == pytest.approx(1, abs=1e-9)
    assert all(0 <= value <= 1 for line in epochs for name, value in line.items() if name != 'step')
    (log,) = run.glob('*/*.log')
    assert log.read_text().count('Diagnosis    [') == 12
    assert not any('diagnosis/head/score' in line for line in scalars_of(without))
    assert not warnings_of(run)


COLLAPSE = {**HOOK, 'model.head.score': 'sigmoid', 'train_cfg.max_epochs': 8, 'param_scheduler.T_max': 8}


@pytest.mark.parametrize(
    'pos_weight, collapse, advice',
    [(1e4, 'all-positive', 'a lower model.head.loss.pos_weight'), (1e-4, 'all-negative', 'model.head.prior_bias=True')],
)
def test_a_run_that_collapses_warns_once(tiny_config: Path, pos_weight: float, collapse: str, advice: str) -> None:
    run = train(tiny_config, TrainFlags(validate=False), {**COLLAPSE, 'model.head.loss.pos_weight': pos_weight})
    (line,) = warnings_of(run)
    assert collapse in line and "Try model.head.score='calibrated'; or" in line and advice in line


def test_a_healthy_run_does_not_warn(tiny_config: Path) -> None:
    assert not warnings_of(train(tiny_config, TrainFlags(validate=False), COLLAPSE))


def test_a_run_under_autocast(tiny_config: Path) -> None:
    run = train(tiny_config, TrainFlags(amp=True, validate=False), {**HOOK, 'train_cfg.max_epochs': 1})
    (epoch,) = [line for line in scalars_of(run) if 'diagnosis/head/score' in line]
    assert sum(value for name, value in epoch.items() if 'gradient' in name) == pytest.approx(1, abs=1e-9)


def test_two_processes_count_together(tiny_config: Path, tmp_path: Path) -> None:
    # Nothing is learnt and normalisation is fixed, so that a score depends on its image alone.
    text = tiny_config.read_text().replace('depth=18,', 'depth=18, norm_eval=True,').replace('lr=0.05', 'lr=1e-30')
    tiny_config.write_text(text + "custom_hooks = [dict(type='LossDiagnosisHook', interval=1, patience=1)]\n")
    one = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'one'), validate=False), {'train_cfg.max_epochs': 1})
    two, tool = tmp_path / 'two', Path(__file__).resolve().parents[2] / 'tools/train.py'
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=1']
    done = launch(tool, tiny_config, '--work-dir', two, '--launcher', 'pytorch', *options)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count('Diagnosis    [1]  head') == 1  # one rank talks
    (a,), (b,) = ([line for line in scalars_of(run) if 'diagnosis/head/score' in line] for run in (one, two))
    assert a.keys() == b.keys() and sum(b[name] for name in b if 'gradient' in name) == pytest.approx(1, abs=1e-9)
    scores = [name for name in a if 'score' in name]
    assert len(scores) == 9 and [a[name] for name in scores] == pytest.approx([b[name] for name in scores], abs=1e-6)
