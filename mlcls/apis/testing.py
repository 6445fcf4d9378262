"""Testing checkpoints: one, or the mean of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcls.apis.report_maps import ReportMaps, check_flags
from mlcls.apis.results import Run, write_results
from mlcls.apis.scoring import Member, Request, opened, score
from mlcls.apis.settings import check_writable
from mlcls.apis.thresholds import Choice, choose, refuse_test_data
from mlcls.errors import ConfigError
from mlcls.evaluation import (
    EvaluationResult,
    Evaluator,
    FittedThresholdMetric,
    ThresholdMetric,
    format_table,
    headline_intervals,
)
from mlcls.evaluation.intervals import FEWEST_DRAWS
from mlcls.evaluation.metrics.decision import DecisionMetric

#: First part of the names of what thresholds of 0.5 give, where others are used.
AT_HALF = 'at_0.5'


@dataclass(frozen=True)
class TestFlags:
    """What a test command may be told.

    Args:
        thresholds: See `mlcls.apis.thresholds.choose`.
        allow_fit_on_test: Use thresholds that were chosen on the very data that are tested.
        tta: Test-time augmentation: that of ``test_cfg.tta`` or, without one, the mirrored picture.
        report: Folder for the report: ``report.html``, pictures of curves, TensorBoard events.
        out: Results file (JSON); ``results.json`` beside the first checkpoint if None. Other files go beside it.
        predictions: Endings of prediction files to write besides ``npz``: ``'csv'``, ``'jsonl'``.
        order: Of the classes in the printed table: ``'support'``, ``'worst'`` or ``'data'``.
        bootstrap: Resamplings for the intervals; 0 gives none, None as many as the size allows.
        cam: Show in the report where the network saw the labels, by one of ``mlcls.models.cam.METHODS``.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """

    __test__ = False  # no test of pytest's

    thresholds: str | None = None
    allow_fit_on_test: bool = False
    tta: bool = False
    report: str | Path | None = None
    out: str | Path | None = None
    predictions: Sequence[str] = ()
    order: str = 'support'
    bootstrap: int | None = None
    cam: str | None = None
    launcher: str = 'none'


def test(
    checkpoints: str | Path | Sequence[str | Path],
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    flags: TestFlags = TestFlags(),
) -> EvaluationResult:
    """Test a checkpoint, or the mean score of several; print the table and write the results.

    Args:
        checkpoints: One or several checkpoint files or work folders (their best checkpoints).
        config: Config file; None takes the resolved config in the checkpoints, as data: no Python file is executed.
        options: Overrides of single settings, dotted keys to values.
        flags: How.

    Returns:
        The whole result.

    Raises:
        UserError: A checkpoint, the config, the data or the thresholds cannot be used.
    """
    if flags.bootstrap is not None and flags.bootstrap != 0 and flags.bootstrap < FEWEST_DRAWS:
        raise ConfigError(f'--bootstrap must be 0 or at least {FEWEST_DRAWS}, got {flags.bootstrap}')
    if flags.out is not None:
        check_writable(Path(flags.out))
    if flags.report is not None:
        check_writable(Path(flags.report) / 'report.html', '--report')
    check_flags(flags.cam, flags.report)
    paths = [checkpoints] if isinstance(checkpoints, (str, Path)) else list(checkpoints)
    with opened(Request(paths, config, options, 'test', flags.tta, flags.launcher)) as members:
        return _test(members, flags)


test.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _test(members: Sequence[Member], flags: TestFlags) -> EvaluationResult:
    evaluator = members[0].loop.evaluator
    dropped = '' if flags.allow_fit_on_test else drop_fitting(evaluator)
    choice, used = use_thresholds(evaluator, choose(flags.thresholds, members), forced=flags.thresholds is not None)
    refuse_test_data(choice, members[0].loop.data_hash, flags.allow_fit_on_test)
    maps = None if flags.cam is None else ReportMaps(members, flags.cam)
    rows = score(members, choice.members)
    if choice.points is not None and choice.points is not choice.members[0]:
        rows = rows._replace(scores=choice.points.calibrate(rows.scores))
    result = evaluator.result(rows)
    if members[0].runner.rank == 0:
        draws = 'auto' if flags.bootstrap is None else flags.bootstrap
        intervals = headline_intervals(result, evaluator.metrics, draws)
        run = Run(result, evaluator, choice, members, intervals, maps)
        names = ', '.join(str(member.path) for member in members)
        table = format_table(result, run.thresholds, intervals.bounds, flags.order)
        views = members[0].loop.tta_words
        augmented = '' if views == 'none' else f'\ntest-time augmentation: {views}'
        print(f'\n{names}\n\n{table}\n{used}{augmented}{dropped}')
        for line in write_results(run, flags):
            print(line)
    return result


def drop_fitting(evaluator: Evaluator) -> str:
    """Take out metrics that would choose thresholds on the test data; a line that says so, or nothing."""
    kept = [metric for metric in evaluator.metrics if not isinstance(metric, FittedThresholdMetric)]
    if len(kept) == len(evaluator.metrics):
        return ''
    if not kept:
        raise ConfigError(
            'test_evaluator has FittedThresholdMetric alone, which chooses thresholds on the data that it is given; '
            "add dict(type='ThresholdMetric'), or say --allow-fit-on-test"
        )
    evaluator.metrics[:] = kept
    return '\nFittedThresholdMetric is left out: it chooses thresholds on the data it is given (--allow-fit-on-test)'


def use_thresholds(evaluator: Evaluator, choice: Choice, forced: bool) -> tuple[Choice, str]:
    """Make the metrics decide by the chosen thresholds.

    Args:
        evaluator: Its metrics are changed in place. Where other thresholds than 0.5 are used, and scores are not
            calibrated, what 0.5 would give is measured too.
        choice: What was chosen.
        forced: Also metrics whose config names a threshold follow.

    Returns:
        What is really used, and a sentence about it.

    Raises:
        ConfigError: No metric can take the thresholds that are asked for.
    """
    metrics = [metric for metric in evaluator.metrics if isinstance(metric, DecisionMetric) and metric.topk is None]
    followers = [metric for metric in metrics if metric.follows_points or forced]
    if choice.points is None:
        return _without_points(choice, metrics)
    if not metrics and forced:
        raise ConfigError(
            "--thresholds: no metric of test_evaluator takes thresholds of classes; add dict(type='ThresholdMetric')"
        )
    if not followers:
        config = Choice('config', None, (None,) * len(choice.members))
        named = 'name their own' if metrics else 'take none'
        return config, f'thresholds are kept with this checkpoint, but the metrics of the config {named}' + (
            '; --thresholds fitted uses them' if metrics else ''
        )
    for metric in followers:
        metric.use_points(choice.points.thresholds, choice.kind, choice.points.objective, choice.points.source)
    calibrated = any(each is not None and each.calibration is not None for each in (choice.points, *choice.members))
    taken = any(metric.prefix == AT_HALF for metric in evaluator.metrics)
    if choice.kind != 'number' and not calibrated and not taken:
        evaluator.metrics.append(ThresholdMetric(thr=0.5, prefix=AT_HALF))
    return choice, f'thresholds: {choice.points.source}'


def _without_points(choice: Choice, metrics: Sequence[DecisionMetric]) -> tuple[Choice, str]:
    if choice.kind == 'default' and any(metric.follows_points for metric in metrics):
        which = 'none are kept' if len(choice.members) == 1 else 'not every checkpoint keeps some'
        return choice, f'thresholds: 0.5, since {which}; tools/fit_thresholds.py chooses them on validation data'
    return choice._replace(kind='config'), "thresholds: the config's"
