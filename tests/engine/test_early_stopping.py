"""Training that no longer gets better ends, also after it was resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlcls.apis import TrainFlags, train
from mlcls.engine.hooks import EarlyStoppingHook
from mlcls.errors import ConfigError, TrainingError
from mlcls.fileio import read_checkpoint

LONG = {'train_cfg.max_epochs': 9, 'param_scheduler.T_max': 9, 'optim_wrapper.optimizer.lr': 1e-9}


def stopping(**settings: Any) -> dict[str, Any]:
    return {'custom_hooks': [dict(type='EarlyStoppingHook', **settings)], **LONG}


def test_a_run_that_learns_nothing_ends_after_its_patience(tiny_config: Path) -> None:
    run = train(tiny_config, options=stopping(patience=3, min_delta=50))
    assert sorted(path.name for path in run.glob('epoch_*.pth'))[-1] == 'epoch_4.pth'  # the first, and three more
    (log,) = run.glob('*/*.log')
    assert 'stopped early after epoch 4: multi-label/mAP has not improved on' in log.read_text()


def test_a_resumed_run_goes_on_counting(tiny_config: Path) -> None:
    run = train(tiny_config, options={**stopping(patience=3, min_delta=50), 'train_cfg.max_epochs': 2})
    stored = read_checkpoint(run / 'epoch_2.pth')['hooks']['EarlyStoppingHook']
    assert stored['waited'] == 0 and stored['best'] is not None  # written before the validation of its epoch
    run = train(tiny_config, TrainFlags(resume=True), stopping(patience=3, min_delta=50))
    assert (run / 'epoch_4.pth').exists() and not (run / 'epoch_5.pth').exists()


def test_a_threshold_that_is_reached(tiny_config: Path) -> None:
    run = train(tiny_config, options=stopping(stopping_threshold=1.0))
    assert [path.name for path in run.glob('epoch_*.pth')] == ['epoch_1.pth']
    assert 'has reached 1' in next(run.glob('*/*.log')).read_text()


def test_lower_is_better_for_errors_and_the_rule_counts() -> None:
    lower = EarlyStoppingHook('multi-label/hamming', patience=1, min_delta=0)
    assert not lower._judge(3.0) and not lower._judge(2.0) and 'has not improved on 2.00' in lower._judge(2.5)
    higher = EarlyStoppingHook('loss', rule='greater', patience=1, min_delta=0)
    assert not higher._judge(3.0) and not higher._judge(4.0) and higher._judge(3.5)
    assert 'is not finite' in EarlyStoppingHook()._judge(float('nan'))
    assert EarlyStoppingHook(check_finite=False)._judge(float('nan')) == ''


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(rule='more'), "rule must be 'greater' or 'less', got 'more'"),
        (dict(patience=0), 'patience must be a whole number of at least 1, got 0'),
        (dict(min_delta=-1), 'min_delta must be at least 0, got -1'),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EarlyStoppingHook(**settings)


def test_metrics_that_do_not_exist_and_runs_without_validation(tiny_config: Path) -> None:
    with pytest.raises(TrainingError, match="no evaluator gives 'multi-label/mAPP'; did you mean 'multi-label/mAP'"):
        train(tiny_config, options=stopping(monitor='multi-label/mAPP'))
    with pytest.raises(ConfigError, match="EarlyStoppingHook: monitor='multi-label/mAP' needs validation"):
        train(tiny_config, TrainFlags(validate=False), stopping())
    flags = TrainFlags(work_dir=str(tiny_config.parent / 'lenient'))
    run = train(tiny_config, flags, stopping(monitor='nothing', strict=False))
    assert next(run.glob('*/*.log')).read_text().count("no evaluator gives 'nothing'") == 1
