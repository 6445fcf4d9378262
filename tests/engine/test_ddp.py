"""Training in copies: what torch's wrapper can be told by config, and that the number of ranks does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mlcls.apis import TrainFlags, train
from mlcls.engine.ddp import check_compression
from mlcls.errors import ConfigError

from .ranks import LossLines, losses_in, options_of, run

#: Without statistics of batches: each rank would see its own share of them, and exchanging them needs GPUs.
STEADY: dict[str, Any] = {
    'model__backbone__norm_eval': True,
    'optim_wrapper__optimizer__lr': 0.01,
    'val_evaluator': [dict(type='ThresholdMetric')],
    'default_hooks__checkpoint__save_best': None,
}


def steady(path: Path, batch_size: int, epochs: int, **others: Any) -> list[str]:
    hooks = [dict(type=LossLines.__name__, file=str(path))]
    size = {'train_dataloader__batch_size': batch_size, 'train_cfg__max_epochs': epochs}
    return ['--no-validate', *options_of(**{**STEADY, **size, **others}, custom_hooks=hooks)]


def one(tiny_config: Path, folder: Path, epochs: int, **others: Any) -> list[float]:
    options = {name.replace('__', '.'): value for name, value in {**STEADY, **others}.items()}
    options['train_cfg.max_epochs'] = epochs
    options['custom_hooks'] = [dict(type='LossLines', file=str(folder / 'one.txt'))]
    train(tiny_config, TrainFlags(work_dir=str(folder / 'one'), validate=False), options)
    return losses_in(folder / 'one.txt')


@pytest.mark.slow
def test_two_of_four_and_four_of_two_are_one_of_eight(tiny_config: Path, tmp_path: Path) -> None:
    expected = one(tiny_config, tmp_path, epochs=4)
    assert len(expected) == 24 and len(set(expected)) == 24
    for ranks in (2, 4):
        run(ranks, tiny_config, '--work-dir', tmp_path / f'{ranks}', *steady(tmp_path / f'{ranks}.txt', 8 // ranks, 4))
        assert losses_in(tmp_path / f'{ranks}.txt') == pytest.approx(expected, rel=1e-4), ranks


def test_wrapper_settings_and_compression(tiny_config: Path, tmp_path: Path) -> None:
    expected = one(tiny_config, tmp_path, epochs=2)
    plans = {
        'planned': (dict(static_graph=True, gradient_as_bucket_view=True, bucket_cap_mb=0.05), 1e-4),
        'bf16': (dict(gradient_compression='bf16'), 0.02),
    }
    for name, (wrapper, tolerance) in plans.items():
        run(
            2,
            tiny_config,
            '--work-dir',
            tmp_path / name,
            *steady(tmp_path / f'{name}.txt', 4, 2, model_wrapper_cfg=wrapper),
        )
        losses = losses_in(tmp_path / f'{name}.txt')
        assert losses == pytest.approx(expected, rel=tolerance), name
        assert name == 'planned' or losses != pytest.approx(expected, rel=1e-6), 'it is rounded'


@pytest.mark.slow
@pytest.mark.parametrize(
    'wrapper',
    [
        dict(gradient_compression='fp16', static_graph=True),
        dict(gradient_compression='powersgd', powersgd_start=3, powersgd_rank=2, exact_resume=False),
    ],
)
def test_more_compression(tiny_config: Path, tmp_path: Path, wrapper: dict[str, Any]) -> None:
    expected = one(tiny_config, tmp_path, epochs=2)
    run(2, tiny_config, '--work-dir', tmp_path / 'two', *steady(tmp_path / 'two.txt', 4, 2, model_wrapper_cfg=wrapper))
    losses = losses_in(tmp_path / 'two.txt')
    assert losses == pytest.approx(expected, rel=0.05) and losses != pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        (dict(name='fp61'), "gradient_compression: there is no 'fp61'; did you mean 'fp16'"),
        (
            dict(name='powersgd'),
            "'powersgd': each rank keeps what it did not send.*add exact_resume=False, or use bf16",
        ),
        (dict(name='powersgd', rank=0), 'powersgd_rank must be a whole number of at least 1, got 0'),
        (dict(name='powersgd', start=1), 'powersgd_start must be a whole number of at least 2, got 1'),
    ],
)
def test_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_compression(**given)


def test_buckets_of_nothing_are_refused() -> None:
    from mlcls.engine.ddp import MMDistributedDataParallel

    for size in (0, -1, True):
        with pytest.raises(ConfigError, match='bucket_cap_mb must be above 0, or None; got'):
            MMDistributedDataParallel(torch.nn.Linear(2, 2), bucket_cap_mb=size)


def test_names_of_settings_are_checked_before_anything_runs(tiny_config: Path) -> None:
    with pytest.raises(ConfigError, match='model_wrapper_cfg.*static_grap.*static_graph'):
        train(tiny_config, options={'model_wrapper_cfg': dict(static_grap=True)})
    with pytest.raises(ConfigError, match='model_wrapper_cfg.*FullyShardDataParallel'):
        train(tiny_config, options={'model_wrapper_cfg': dict(type='FullyShardDataParallel')})
