"""NaN and infinity, in a loss, a gradient or an input: they do not reach the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcls.fileio import read_checkpoint
from tests.faults.harness import FULL, LAST, Runs, difference, fault, outcome, place

KINDS = ['nan_loss', 'nan_gradient', 'nan_input']
SKIP = {'default_hooks__finite_loss': dict(type='FiniteLossHook', skip=2)}


def images_of_step(work: Path, runs: Runs, step: int) -> set[str]:
    """Names of the images of a step of the first epoch, told by the order in which a run's sampler draws them."""
    from mlcls.datasets.samplers import EpochSampler

    names = [entry['img_path'] for entry in json.loads((runs.folder / 'squares/train.json').read_text())['data_list']]
    sampler = EpochSampler(range(len(names)), shuffle=True, seed=0)
    sampler.set_epoch(0)
    return {names[index] for index in list(sampler)[4 * step : 4 * step + 4]}


@pytest.mark.parametrize('kind', KINDS if FULL else ['nan_input'])
def test_it_ends_before_the_step(runs: Runs, whole: dict[str, Any], work: Path, kind: str) -> None:
    with fault(f'{kind} in step 4'):
        child = runs.run(work, place(kind, iterations=[3]))
        assert child.code == 2 and 'Traceback' not in child.text, child.text
        assert child.says(
            r'error: the loss or a gradient became NaN or infinite in iteration 4 \(epoch 1\); the step was'
        )
        runs.check_alive(work)
        found = read_checkpoint(work / 'iter_2.pth')
        assert all(torch.isfinite(value).all() for value in found['state_dict'].values())
        report = json.loads((work / 'nonfinite_iter_4.json').read_text())
        assert {Path(name).name for name in report['images']} == {Path(n).name for n in images_of_step(work, runs, 3)}
        if kind == 'nan_input':
            assert report['first_not_finite'] == 'backbone.conv1'
        runs.finish(work)
        assert difference(outcome(work), whole) == ''


@pytest.mark.parametrize('kind', KINDS)
def test_steps_are_left_out(runs: Runs, tmp_path: Path, kind: str) -> None:
    """The result is that of a run in which these steps were not made at all."""
    if not (FULL or kind == 'nan_gradient'):
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault(f'{kind} in two steps, left out'):
        child = runs.run(tmp_path / 'run', place(kind, iterations=[3, 8]), **SKIP)
        assert child.code == 0, child.text
        assert child.says(r'iteration 4 .*the step is left out \(1 of 2') and child.says(r'iteration 9 .*\(2 of 2')
        reference = runs.run(tmp_path / 'reference', place('leave_out', iterations=[3, 8]), **SKIP)
        assert reference.code == 0, reference.text
        found, wanted = (read_checkpoint(tmp_path / name / LAST) for name in ('run', 'reference'))
        for content in (found, wanted):  # it has seen the batches, and counts them
            for name in [name for name in content['state_dict'] if name.endswith('num_batches_tracked')]:
                del content['state_dict'][name]
        for part in ('state_dict', 'optimizer', 'param_schedulers'):
            assert difference(found[part], wanted[part]) == ''
        assert outcome(tmp_path / 'run')['hooks']['FiniteLossHook'] == {'skipped': 2}


def test_the_third_is_too_many(runs: Runs, work: Path) -> None:
    if not FULL:
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault('NaN in three steps, two of which may be left out'):
        child = runs.run(work, place('nan_loss', iterations=[1, 4, 9]), **SKIP)
        assert child.code == 2 and 'Traceback' not in child.text, child.text
        assert child.says(r'error: .*in iteration 10 \(epoch 2\), after 2 that were left out; the step was not made')
        runs.check_alive(work)
        weights = read_checkpoint(work / 'iter_8.pth')['state_dict']
        assert all(torch.isfinite(value).all() for value in weights.values())


def test_how_many_were_left_out_is_kept(runs: Runs, work: Path) -> None:
    """A run that is resumed has no new allowance."""
    if not FULL:
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault('NaN in three steps, stopped in between'):
        child = runs.run(work, place('nan_loss', iterations=[1, 4]), place('step', nth=6, act=('SIGTERM',)), **SKIP)
        assert child.code == 75, child.text
        child = runs.run(work, place('nan_loss', iterations=[9]), resume=True, **SKIP)
        assert child.code == 2 and child.says('after 2 that were left out'), child.text
