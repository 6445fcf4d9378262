"""The files that a test leaves: numbers, classes, predictions, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcls.apis.scoring import Member
from mlcls.apis.thresholds import Choice
from mlcls.datasets import innermost
from mlcls.errors import ConfigError
from mlcls.evaluation import EvaluationResult, Evaluator, Intervals, RunFacts, to_json
from mlcls.evaluation.metrics.decision import DecisionMetric
from mlcls.evaluation.per_class import write_per_class
from mlcls.evaluation.predictions import Predictions, predictions_of, write_predictions
from mlcls.fileio import write_atomic, write_json

if TYPE_CHECKING:
    from mlcls.apis.report_maps import ReportMaps
    from mlcls.apis.testing import TestFlags


@dataclass(frozen=True, eq=False)
class Run:
    """A finished test.

    Args:
        result: Its numbers and scores.
        evaluator: The metrics that gave them.
        choice: The thresholds asked for.
        members: The checkpoints.
        intervals: Of the headline numbers.
        maps: Where the network saw labels, for the report.
    """

    result: EvaluationResult
    evaluator: Evaluator
    choice: Choice
    members: Sequence[Member]
    intervals: Intervals
    maps: ReportMaps | None = None

    @property
    def dataset(self) -> Any:
        """The data that were tested."""
        return self.members[0].loop.dataloader.dataset

    @property
    def data_hash(self) -> str:
        """16 hex digits over classes, image names and labels."""
        return self.members[0].loop.data_hash

    @cached_property
    def predictions(self) -> Predictions:
        """Scores, labels and names of the images that were tested."""
        return predictions_of(self.result, self.dataset.image_names, self.thresholds, self.data_hash)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds in use, one a class: those chosen, else those of the first metric that has any, else 0.5."""
        return thresholds_in_use(self.choice, self.evaluator, len(self.result.classes))


def thresholds_in_use(choice: Choice, evaluator: Evaluator, num_classes: int) -> tuple[float, ...]:
    """One a class: those chosen, else those of the first metric that has any, else 0.5."""
    if choice.points is not None:
        return choice.points.thresholds
    found = (metric.thr for metric in evaluator.metrics if isinstance(metric, DecisionMetric))
    thr = next((thr for thr in found if thr is not None), 0.5)
    return tuple(thr) if isinstance(thr, list) else (thr,) * num_classes


def write_results(run: Run, flags: TestFlags) -> Iterator[str]:
    """Write the files that the flags ask for.

    Returns:
        A line about each, when it is written.

    Raises:
        ConfigError: A file cannot be written.
    """
    default = 'results.json' if len(run.members) == 1 else 'ensemble.json'
    target = Path(flags.out) if flags.out else run.members[0].path.parent / default
    stem = '' if target.name == 'results.json' else f'{target.stem}.'
    try:
        files = [
            target.with_name(f'{stem}predictions.{ending}') for ending in dict.fromkeys(['npz', *flags.predictions])
        ]
        for path in files:
            write_predictions(path, run.predictions)
        table = target.with_name(f'{stem}per_class.csv')
        write_per_class(table, run.result, run.thresholds, run.evaluator.dataset_meta.get('train_counts'))
        write_json(target, to_json(run.result, _facts(run, files[0].name)))
        yield f'results: {target}'
        yield f'classes: {table}; scores of every image: {", ".join(str(path) for path in files)}'
        if flags.report is not None:
            yield f'report: {write_report(run, Path(flags.report))}'
    except OSError as error:
        raise ConfigError(f'{error.filename or target}: cannot be written ({error.strerror})') from error


def _facts(run: Run, predictions: str) -> RunFacts:
    loop, names = run.members[0].loop, [member.path.name for member in run.members]
    hashes = [member.weights_hash for member in run.members]
    points = run.choice.points
    return RunFacts(
        checkpoint=names[0] if len(names) == 1 else names,
        thresholds={
            'source': run.choice.kind,
            'objective': '' if points is None else points.objective,
            'words': '' if points is None else points.source,
            'data_hash': '' if points is None else points.data_hash,
        },
        calibration=_calibration(run),
        tta=loop.tta_words,
        members=len(names),
        dtype=loop.dtype_words,
        data_hash=run.data_hash,
        weights_hash=hashes[0] if len(hashes) == 1 else hashes,
        predictions=predictions,
        intervals=run.intervals,
    )


def _calibration(run: Run) -> str:
    """The calibrations that were applied, in words."""
    used = (*run.choice.members, run.choice.points)
    kinds = {each.calibration.describe() for each in used if each is not None and each.calibration is not None}
    return ', '.join(sorted(kinds)) or 'none'


def write_report(run: Run, folder: Path) -> Path:
    """Write ``report.html``, pictures of curves and TensorBoard events into a folder; the path of the page."""
    from mlcls.apis.pictures import Originals
    from mlcls.evaluation.report import ReportSource, build_payload, render_page, write_plots, write_tensorboard

    dataset, maps = innermost(run.dataset), run.maps
    left_out = set(run.result.left_out)
    rows = [row for row in range(run.result.num_images + len(left_out)) if row not in left_out]
    pictures = Originals(dataset, '--report') if hasattr(dataset, 'pipeline') and hasattr(dataset, 'load') else None
    source = ReportSource(
        title=f'{run.members[0].path.parent.name}: {run.result.num_images} test images',
        names=run.predictions.names,
        load_image=lambda row: None if pictures is None else pictures.readable(rows[row]),
        facts=_shown_facts(run),
        thresholds=run.thresholds,
        points=run.choice.points,
        intervals=run.intervals.bounds,
        data_hash=run.data_hash,
        train_counts=run.evaluator.dataset_meta.get('train_counts'),
        calibration=_calibration(run),
        look=None if maps is None else lambda row, labels: maps.pictures(rows[row], labels),
        look_words='' if maps is None else maps.words,
    )
    payload = build_payload(run.result, source)
    page, text = folder / 'report.html', render_page(payload).encode()
    write_atomic(page, lambda file: file.write(text))
    write_plots(folder / 'plots', run.result, source)
    write_tensorboard(folder / 'tensorboard', run.result, source)
    return page


def _shown_facts(run: Run) -> list[tuple[str, str]]:
    loop = run.members[0].loop
    return [
        ('checkpoint', ', '.join(str(member.path) for member in run.members)),
        ('weights', ', '.join(member.weights_hash for member in run.members)),
        ('data', f'{run.result.num_images} images, {len(run.result.classes)} classes, {run.data_hash}'),
        ('precision', loop.dtype_words),
        ('test-time augmentation', loop.tta_words),
    ]
