"""Averaged weights: their numbers, when they are used, and going on from any checkpoint bit for bit."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import mmengine.hooks
import pytest
import torch
from mmengine.hooks import Hook
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mlcls.apis import TrainFlags, test, train
from mlcls.engine.averaging import WeightAverage, averaging_hook, ema_share, take_training_weights
from mlcls.engine.guard import StepGuard
from mlcls.engine.hooks import CheckpointHook, EMAHook, SWAHook
from mlcls.engine.optim import OptimWrapper
from mlcls.errors import CheckpointError, ConfigError, RunStopped
from mlcls.fileio import read_checkpoint
from mlcls.registry import HOOKS

from .collect_worker import open_runner
from .ranks import options_of, run
from .test_exact_resume import equal

EMA = dict(type='EMAHook', momentum=0.05)
SWA = dict(type='SWAHook', begin_epoch=1, swa_lr=0.01)
#: Keys of a checkpoint that say where a run has come to.
STATE = ('state_dict', 'training_weights', 'optimizer', 'param_schedulers', 'best', 'hooks')


@HOOKS.register_module(force=True)
class Keep(Hook):
    """Keeps the weights after each batch, and checks at the ends of epochs that all ranks have the same averages."""

    priority = 'LOWEST'
    kept: ClassVar[list[dict[str, torch.Tensor]]] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        model = getattr(runner.model, 'module', runner.model)
        if runner.world_size == 1:
            self.kept.append({name: each.detach().clone() for name, each in model.named_parameters()})

    def after_train_epoch(self, runner: Any) -> None:
        from mmengine.dist import all_gather

        state = averaging_hook(runner).average.state_dict()
        if runner.world_size > 1 and runner.cfg.get('model_wrapper_cfg') is None:
            for each in (*state['weights'].values(), *state['buffers'].values()):
                first, second = all_gather(each)
                assert torch.equal(first, second)
            print(f'{len(state["weights"])} weights and {len(state["buffers"])} buffers are equal')


class Net(nn.Module):
    """With statistics, and with one parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.last.bias = self.first.bias
        self.register_buffer('passing', torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)))


def run_of(net: nn.Module, *hooks: Any, **others: Any) -> Any:
    facts = dict(model=net, hooks=hooks, iter=0, epoch=0, max_epochs=4, max_iters=24, is_between_steps=True)
    return SimpleNamespace(**{**facts, 'optim_wrapper': SimpleNamespace(), **others})


def change(net: nn.Module, generator: torch.Generator) -> None:
    """A step of training: other weights, other statistics."""
    with torch.no_grad():
        for each in net.parameters():
            each += torch.randn(each.shape, generator=generator)
    net(torch.randn(8, 4, generator=generator))


def settings(*hooks: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {'custom_hooks': list(hooks), 'train_cfg.max_epochs': 3, **others}


def state(folder: Path, name: str = 'epoch_3.pth') -> dict[str, Any]:
    found = read_checkpoint(folder / name)
    return {key: found[key] for key in STATE}


@pytest.mark.parametrize('interval', [1, 3])
@pytest.mark.parametrize('update_buffers', [False, True])
@pytest.mark.parametrize('kind', ['ExponentialMovingAverage', 'MomentumAnnealingEMA', 'StochasticWeightAverage'])
def test_without_warm_up_the_numbers_are_those_of_mmengine(kind: str, update_buffers: bool, interval: int) -> None:
    others = {'ExponentialMovingAverage': dict(momentum=0.07), 'MomentumAnnealingEMA': dict(momentum=0.3, gamma=4)}
    arguments: dict[str, Any] = dict(ema_type=kind, interval=interval, begin_iter=3, update_buffers=update_buffers)
    arguments |= others.get(kind, {})
    net = Net()
    if update_buffers:  # mmengine then moves a parameter with two names twice
        net.last.bias = nn.Parameter(torch.ones(4))
    theirs, ours = mmengine.hooks.EMAHook(**arguments), EMAHook(**arguments, warm_up=False)
    runner, generator = run_of(net, ours), torch.Generator().manual_seed(0)
    theirs.before_run(runner), ours.before_run(runner)
    for number in range(14):
        runner.iter = number
        change(net, generator)
        theirs.after_train_iter(runner, number)
        ours.after_train_iter(runner, number)
        assert ours.average.is_started == (number >= 2)
        expected = theirs.ema_model.module.state_dict()
        with ours.average.in_model():
            for name, value in net.state_dict().items():
                if 'tracked' not in name:  # mmengine stops counting when it averages
                    torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('counts', [1, 4])
def test_warmed_up_average_of_a_run_in_float64(tiny_config: Path, counts: int) -> None:
    Keep.kept.clear()
    accumulate = {'optim_wrapper.accumulative_counts': counts, 'train_cfg.max_epochs': 2}
    folder = train(tiny_config, options={**settings(EMA, dict(type='Keep')), **accumulate})
    # Six batches an epoch; with cycles of 4 there are steps after the fourth and the last.
    steps = range(12) if counts == 1 else [3, 5, 9, 11]
    name = 'backbone.layer4.0.conv1.weight'
    average = Keep.kept[steps[0]][name].double()
    for count, number in enumerate(steps):
        if count == 0:
            continue
        decay = (1 + count) / (10 + count)
        decay = decay if decay < 0.95 else 0.95
        average = average * decay + Keep.kept[number][name].double() * (1 - decay)
    found = read_checkpoint(folder / 'epoch_2.pth')
    torch.testing.assert_close(found['state_dict'][name].double(), average, rtol=1e-5, atol=1e-7)
    assert torch.equal(found['training_weights'][name], Keep.kept[-1][name])
    assert found['hooks']['EMAHook']['steps'] == len(steps) and found['meta']['weights'] == 'averaged'
    assert found['hooks']['EMAHook']['weights'][name].dtype == torch.float32


def test_the_decay_is_warmed_up_and_then_constant() -> None:
    assert ema_share(1, 0.0002, True) == pytest.approx(9 / 11) and ema_share(1, 0.9, True) == pytest.approx(0.9)
    assert ema_share(90, 0.0002, True) == pytest.approx(0.09)
    assert ema_share(10**6, 0.0002, True) == pytest.approx(0.0002) and ema_share(1, 0.0002, False) == 0.0002


def test_ends_of_epochs_as_torch_averages_them_and_the_rates(tiny_config: Path) -> None:
    options = settings({**SWA, 'anneal_epochs': 2}, **{'train_cfg.max_epochs': 4})
    options['default_hooks.logger.interval'] = 1
    options['optim_wrapper.paramwise_cfg'] = dict(custom_keys={'head': dict(lr_mult=10)})
    folder = train(tiny_config, options=options)
    raw = [read_checkpoint(folder / f'epoch_{epoch}.pth') for epoch in (1, 2, 3, 4)]
    assert 'training_weights' not in raw[0] and raw[0]['meta']['weights'] == 'raw'
    name = 'backbone.layer4.0.conv1.weight'
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data = raw[1]['training_weights'][name].double()
    theirs = AveragedModel(layer)
    for each in raw[1:]:
        layer.weight.data = each['training_weights'][name].double()
        theirs.update_parameters(layer)
        torch.testing.assert_close(each['state_dict'][name].double(), theirs.module.weight.data, rtol=1e-5, atol=1e-7)
    assert int(theirs.n_averaged) == raw[-1]['hooks']['SWAHook']['steps'] == 3

    lines = [json.loads(line) for line in next(folder.rglob('scalars.json')).read_text().splitlines()]
    rates = [line['lr'] for line in lines if 'loss' in line]
    # The cosine of four epochs for six steps; then from there to 0.01 within twelve; then constant.
    before = [0.025 * (1 + math.cos(math.pi * step / 24)) for step in range(7)]
    after = [0.01 + (before[6] - 0.01) * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    assert rates == pytest.approx([*before[:6], *after, *[0.01] * 6], rel=1e-6)
    groups = raw[-1]['hooks']['SWAHook']['groups']
    assert {round(group['ratio'], 6) for group in groups} == {1.0, 10.0}


@pytest.mark.parametrize(('share', 'epochs', 'first'), [(0.75, 20, 15), (0.7, 10, 7), (0.29, 100, 29), (3, 20, 3)])
def test_a_share_of_the_run(share: float, epochs: int, first: int) -> None:
    assert SWAHook(begin_epoch=share).first_epoch(epochs) == first  # type: ignore[arg-type]


class Wrapper(SimpleNamespace):
    """An optimiser of groups with rates."""


@pytest.mark.parametrize('as_tensor', [False, True])
def test_schedules_do_not_act_any_more(as_tensor: bool) -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    groups = [dict(params=layers[0].parameters()), dict(params=layers[1].parameters(), lr=0.5)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    if as_tensor:
        for group in optimizer.param_groups:
            group['lr'] = torch.tensor(group['lr'])
    hook = SWAHook(begin_epoch=2, swa_lr=0.02)
    said: list[str] = []
    runner = run_of(nn.Module(), hook, optim_wrapper=Wrapper(optimizer=optimizer), train_dataloader=range(6))
    runner.logger = SimpleNamespace(info=said.append)
    for epoch in range(4):
        for batch in range(6):
            runner.epoch = epoch
            for group in optimizer.param_groups:  # a schedule
                group['momentum'] -= 0.01
            hook.before_train_iter(runner, batch)
    rates = [float(group['lr']) for group in optimizer.param_groups]
    assert rates == pytest.approx([0.02, 0.1]), 'groups keep their ratios'
    assert [group['momentum'] for group in optimizer.param_groups] == pytest.approx([0.9 - 0.13] * 2)
    assert said == ['SWAHook: from epoch 3 on weights are averaged; learning rate 0.02, constant']


def test_an_error_puts_the_weights_back_bit_for_bit() -> None:
    net, generator = Net(), torch.Generator().manual_seed(1)
    average = WeightAverage(net)
    with average.in_model():
        assert not average.is_started
    average.update(1.0)
    change(net, generator)
    before, averaged = copy.deepcopy(net.state_dict()), average.state_dict()['weights']
    assert averaged['first.bias'] is averaged['last.bias'], 'stored once'
    with pytest.raises(KeyError), average.in_model():
        assert all(torch.equal(net.state_dict()[name], value) for name, value in averaged.items())
        assert not torch.equal(net.first.weight, before['first.weight'])
        net(torch.randn(8, 4))  # moves the statistics
        raise KeyError
    assert equal(dict(net.state_dict()), dict(before))
    assert equal(average.state_dict()['weights'], averaged)


def test_statistics_of_its_own_are_kept_until_the_average_changes() -> None:
    net, generator = Net(), torch.Generator().manual_seed(2)
    average = WeightAverage(net)
    average.update(1.0)
    with average.in_model():
        net.norm.running_mean.fill_(7.0)
        average.keep_buffers([('norm', net.norm)])
    change(net, generator)
    own = net.norm.running_mean.clone()
    with average.in_model():
        assert net.norm.running_mean.tolist() == [7.0] * 4
    assert torch.equal(net.norm.running_mean, own)
    average.update(0.5)
    with average.in_model():
        assert torch.equal(net.norm.running_mean, own), 'those kept were of another average'


def test_half_types_are_averaged_in_float32() -> None:
    net = nn.Linear(3, 3).to(torch.bfloat16)
    average = WeightAverage(net)
    average.update(1.0)
    start = net.weight.detach().float()
    with torch.no_grad():
        net.weight.fill_(2.0)
    average.update(1e-3)  # less than bfloat16 could tell
    found = average.state_dict()['weights']['weight']
    torch.testing.assert_close(found.double(), start.double() + 1e-3 * (2 - start.double()), rtol=1e-6, atol=1e-6)
    with average.in_model():
        assert net.weight.dtype == torch.bfloat16 and torch.equal(net.weight, found.to(torch.bfloat16))


def test_a_step_that_was_left_out_is_none_of_the_average() -> None:
    net = Net()
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1))
    wrapper.guard = StepGuard(5)
    hook = EMAHook()
    runner = run_of(net, hook, optim_wrapper=wrapper)
    hook.before_run(runner)
    for factor, steps in ((1.0, 1), (math.nan, 1), (1.0, 2), (math.inf, 2)):
        wrapper.update_params(net(torch.randn(8, 4)).square().mean() * factor)
        hook.after_train_iter(runner, 0)
        assert hook.state_dict()['steps'] == steps


@pytest.fixture(scope='module')
def wholes() -> dict[str, dict[str, Any]]:
    """Ends of runs that were not stopped, by what they average."""
    return {}


FITTED = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='FittedThresholdMetric')]
RUNS: dict[str, dict[str, Any]] = {
    'ema': {'optim_wrapper.accumulative_counts': 4, 'custom_hooks': [EMA]},
    'buffers': {'custom_hooks': [{**EMA, 'update_buffers': True, 'interval': 2, 'begin_iter': 3}]},
    'swa': {'custom_hooks': [{**SWA, 'anneal_epochs': 1.5}, dict(type='PreciseBNHook', num_batches=2)]},
}


@pytest.mark.parametrize(
    ('kind', 'stop'),
    [
        ('ema', dict(iteration=1)),
        ('ema', dict(iteration=10)),
        ('buffers', dict(iteration=8)),
        ('swa', dict(iteration=8)),
        ('swa', dict(in_val_of=2)),
    ],
)
def test_a_signal_in_any_step(
    tiny_config: Path, tmp_path: Path, wholes: dict[str, dict[str, Any]], kind: str, stop: dict[str, int]
) -> None:
    options = settings(**RUNS[kind], **{'model.backbone.drop_path_rate': 0.2})
    if kind not in wholes:
        wholes[kind] = state(train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), options))
    folder = tmp_path / 'run'
    stopping = {**options, 'custom_hooks': [*RUNS[kind]['custom_hooks'], dict(type='SignalAt', **stop)]}
    with pytest.raises(RunStopped, match='everything is in'):
        train(tiny_config, TrainFlags(work_dir=str(folder)), stopping)
    train(tiny_config, TrainFlags(work_dir=str(folder), resume=True), options)
    assert equal(state(folder), wholes[kind])


def test_both_are_validated_and_the_better_is_kept(tiny_config: Path) -> None:
    folder = train(
        tiny_config,
        options=settings({**EMA, 'momentum': 0.02, 'warm_up': False}, val_evaluator=FITTED, test_evaluator=FITTED),
    )
    lines = [json.loads(line) for line in next(folder.rglob('scalars.json')).read_text().splitlines()]
    scores = [(line['multi-label/mAP'], line['raw/multi-label/mAP']) for line in lines if 'multi-label/mAP' in line]
    assert len(scores) == 3 and all(own != raw for own, raw in scores)
    files = [read_checkpoint(folder / f'epoch_{epoch}.pth') for epoch in (1, 2, 3)]
    best = read_checkpoint(folder / 'best_multi-label_mAP.pth')
    told = best['best']['multi-label/mAP']
    assert told['score'] == pytest.approx(max(max(pair) for pair in scores))
    # The average of few steps forgets nothing, and lags behind: here the weights in training are better.
    assert told['weights'] == best['meta']['weights'] == 'raw'
    source = files[told['epoch'] - 1]
    assert equal(best['state_dict'], source['training_weights']) and equal(best['training_weights'], best['state_dict'])
    assert equal(best['hooks']['EMAHook'], source['hooks']['EMAHook']), 'the average goes on from here, too'
    assert not equal(best['state_dict'], source['state_dict'])
    # What a test uses: the weights that were chosen, with thresholds fitted to them; an epoch's file has the average.
    for name, score in (('best_multi-label_mAP.pth', told['score']), ('epoch_3.pth', scores[-1][0])):
        runner = open_runner(folder / name)
        with runner.closing():
            loop = runner.open_test()
            again = loop.evaluator.result(runner.collect())
        assert again.metrics['multi-label/mAP'] == pytest.approx(score, abs=1e-3)
        if name[:4] == 'best':
            assert list(again.points.thresholds) == pytest.approx(
                list(best['operating_points']['thresholds'].values()), abs=1e-5
            )
    # From the best file, as from any, training goes on bit for bit.
    flags = TrainFlags(work_dir=str(folder.parent / 'longer'), resume=str(folder / 'best_multi-label_mAP.pth'))
    options = settings({**EMA, 'momentum': 0.02, 'warm_up': False}, val_evaluator=FITTED, test_evaluator=FITTED)
    options['train_cfg.max_epochs'] = 4
    longer = train(tiny_config, flags, options)
    options['default_hooks.checkpoint.save_best'] = None
    flags = TrainFlags(work_dir=str(folder.parent / 'third'), resume=str(folder / f'epoch_{told["epoch"]}.pth'))
    third = train(tiny_config, flags, options)
    a, b = (read_checkpoint(each / 'epoch_4.pth') for each in (longer, third))
    assert all(equal(a[key], b[key]) for key in ('state_dict', 'training_weights', 'optimizer'))


@pytest.mark.parametrize(
    ('metrics', 'expected'),
    [
        ({'mAP': 60.0, 'raw/mAP': 61.0}, (61.0, 'raw')),
        ({'mAP': 60.0, 'raw/mAP': 60.0}, (60.0, 'averaged')),
        ({'mAP': 60.0}, (60.0, 'averaged')),
        ({'mAP': math.nan, 'raw/mAP': 5.0}, (5.0, 'raw')),
        ({'mAP': 60.0, 'raw/mAP': math.nan}, (60.0, 'averaged')),
    ],
)
def test_the_choice(metrics: dict[str, float], expected: tuple[float, str]) -> None:
    assert CheckpointHook()._choose('mAP', metrics) == expected
    lower = {name.replace('mAP', 'ece'): -value for name, value in metrics.items()}
    assert CheckpointHook()._choose('ece', lower) == (-expected[0], expected[1])
    assert CheckpointHook()._choose('raw/mAP', {'raw/mAP': 1.0, 'mAP': 2.0}) == (1.0, 'raw')


def test_switched_on_and_off_at_a_resume(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def take_up(name: str, source: Path, *hooks: dict[str, Any]) -> dict[str, Any]:
        flags = TrainFlags(work_dir=str(tmp_path / name), resume=str(source / 'epoch_1.pth'))
        return read_checkpoint(train(tiny_config, flags, {'train_cfg.max_epochs': 2, **settings_of(*hooks)}) / LAST)

    def settings_of(*hooks: dict[str, Any]) -> dict[str, Any]:
        return {**settings(*hooks), 'train_cfg.max_epochs': 2}

    quiet = {**EMA, 'evaluate_raw': False}
    plain = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'plain')), settings_of())
    averaged = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'averaged')), settings_of(quiet))
    assert 'raw/' not in capsys.readouterr().out
    expected = read_checkpoint(plain / LAST)['state_dict']
    off = take_up('off', averaged)
    assert equal(off['state_dict'], expected), 'it goes on from the weights in training'
    assert 'training_weights' not in off and 'weights' not in off['meta']
    assert 'begins with its weights in training' not in capsys.readouterr().out
    on = take_up('on', plain, quiet)
    words = 'EMAHook: the checkpoint has no average of this kind: averaging begins with its weights in training'
    assert words in capsys.readouterr().out
    assert equal(on['training_weights'], expected) and on['hooks']['EMAHook']['steps'] == 7  # its start, and six
    assert not equal(on['state_dict'], expected)


LAST = 'epoch_2.pth'


@pytest.mark.parametrize(
    ('kind', 'wrong', 'words'),
    [
        (EMAHook, dict(ema_type='Exponential'), "there is no ema_type='Exponential'"),
        (EMAHook, dict(momentum=0), 'momentum must be above 0 and below 1, got 0; it is 1 less the decay'),
        (EMAHook, dict(momentum=1.0), 'momentum must be above 0 and below 1, got 1.0'),
        (EMAHook, dict(begin_iter=-1), 'begin_iter must be a whole number of at least 0, got -1'),
        (EMAHook, dict(begin_epoch=1.5), 'begin_epoch must be a whole number of at least 0, got 1.5'),
        (EMAHook, dict(gamma=0), 'gamma must be a whole number of at least 1, got 0'),
        (EMAHook, dict(interval=True), 'interval must be a whole number of at least 1, got True'),
        (EMAHook, dict(begin_iter=1, begin_epoch=1), 'give begin_iter or begin_epoch, not both'),
        (SWAHook, dict(begin_epoch=1.5), 'or a share of the run above 0 and below 1; got 1.5'),
        (SWAHook, dict(begin_epoch=-1), 'begin_epoch must be a whole number of at least 0'),
        (SWAHook, dict(swa_lr=0), 'swa_lr must be above 0, or None; got 0'),
        (SWAHook, dict(anneal_epochs=-1), 'anneal_epochs must be 0 or more, got -1'),
    ],
)
def test_arguments_that_cannot_be(kind: type, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        kind(**wrong)
    assert str(refused.value).startswith(kind.__name__) and words in str(refused.value)


def test_refused_as_the_run_begins() -> None:
    ema, swa, said = EMAHook(), SWAHook(begin_epoch=9), []
    runner = run_of(Net(), ema, swa, logger=SimpleNamespace(warning=said.append))
    with pytest.raises(ConfigError, match='EMAHook and SWAHook would both average the weights; remove one of them'):
        ema.before_run(runner)
    runner.hooks = (swa,)
    swa.before_run(runner)
    with pytest.raises(ConfigError, match='begin_epoch=9 leaves no epoch of 4 to average; lower it'):
        swa.before_train(runner)
    SWAHook(begin_epoch=0.5).before_train(runner)
    assert len(said) == 1 and "which are not theirs; add dict(type='PreciseBNHook')" in said[0]


def test_stored_averages_of_another_network() -> None:
    hook, net = EMAHook(strict_load=True), Net()
    hook.before_run(run_of(net, hook))
    hook.average.update(1.0)
    stored = hook.state_dict()
    stored['weights'] = {name: value for name, value in stored['weights'].items() if 'norm' not in name}
    with pytest.raises(CheckpointError, match=r'no average of norm.weight \(2 in all\); set strict_load=False'):
        hook.load_state_dict(stored)
    assert hook.average.load_state_dict(stored) == ['norm.weight', 'norm.bias']
    with pytest.raises(CheckpointError, match=r'a.pth: training_weights are of another model \('):
        take_training_weights(net, {'training_weights': {'first.weight': torch.zeros(3)}}, 'a.pth')


def of_ranks(**others: Any) -> list[str]:
    """Arguments of a run of two epochs with two ranks."""
    hooks = [{**EMA, 'update_buffers': True}, dict(type='Keep')]
    imports = dict(imports=['tests.engine.test_averaging'])
    common = dict(train_cfg__max_epochs=2, train_dataloader__batch_size=4, custom_hooks=hooks)
    return options_of(**{**common, 'custom_imports': imports, **others})


def test_ranks_have_the_same_averages_and_go_on_from_inside_an_epoch(tiny_config: Path, tmp_path: Path) -> None:
    folder, again = tmp_path / 'whole', tmp_path / 'again'
    often = dict(default_hooks__checkpoint__by_epoch=False, default_hooks__checkpoint__interval=4)
    said = run(2, tiny_config, '--work-dir', folder, *of_ranks(**often))
    assert said.count('62 weights and 60 buffers are equal') == 2, said
    run(2, tiny_config, '--work-dir', again, '--resume', folder / 'iter_4.pth', *of_ranks())
    ours, theirs = (read_checkpoint(each / LAST) for each in (folder, again))
    assert all(equal(ours[key], theirs[key]) for key in ('state_dict', 'training_weights', 'optimizer'))
    assert equal(ours['hooks']['EMAHook'], theirs['hooks']['EMAHook'])


@pytest.mark.slow
def test_each_rank_averages_its_part_of_weights_that_are_shared_out(tiny_config: Path, tmp_path: Path) -> None:
    copies, sharded, again = (tmp_path / name for name in ('copies', 'sharded', 'again'))
    wrapper = dict(type='FullyShardedDataParallel', min_params=2000)
    shared = of_ranks(model_wrapper_cfg=wrapper, custom_hooks=[EMA])
    run(2, tiny_config, '--work-dir', copies, *of_ranks(custom_hooks=[EMA]))
    run(2, tiny_config, '--work-dir', sharded, *shared)
    ours, found = (read_checkpoint(each / LAST) for each in (copies, sharded))
    for key in ('state_dict', 'training_weights'):
        assert found[key].keys() == ours[key].keys()
    averaged = found['hooks']['EMAHook']['weights']
    for name, value in averaged.items():
        torch.testing.assert_close(value, ours['hooks']['EMAHook']['weights'][name], rtol=1e-3, atol=1e-4)
    assert equal({name: found['state_dict'][name] for name in averaged}, averaged)
    # The validation has scored these weights.
    lines = [json.loads(line) for line in next(sharded.rglob('scalars.json')).read_text().splitlines()]
    told = [line['multi-label/mAP'] for line in lines if 'raw/multi-label/mAP' in line][-1]
    assert test(sharded / LAST).metrics['multi-label/mAP'] == pytest.approx(told, abs=1e-2)
    run(2, tiny_config, '--work-dir', again, '--resume', sharded / 'epoch_1.pth', *shared)
    assert equal(read_checkpoint(again / LAST)['state_dict'], found['state_dict'])


@pytest.mark.gpu
def test_the_host_does_not_wait_for_a_gpu() -> None:
    net = Net().cuda()
    hook = EMAHook(update_buffers=True)
    runner = run_of(net, hook)
    hook.before_run(runner)
    hook.after_train_iter(runner, 0)
    torch.cuda.set_sync_debug_mode('error')
    try:
        for _ in range(3):
            hook.after_train_iter(runner, 0)
    finally:
        torch.cuda.set_sync_debug_mode('default')
