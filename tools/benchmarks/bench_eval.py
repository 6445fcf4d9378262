"""Seconds and memory of an evaluation, beside scikit-learn, torchmetrics and mmpretrain on the same random scores.

    python tools/benchmarks/bench_eval.py --out docs/results/evaluation/bench_eval.json

Ours is everything at once, from rows that are held: mAP, CP to OF1 and macro F1 at a threshold of 0.5, the table per
class and the ranking measures, with all checks. scikit-learn and torchmetrics compute mAP alone; mmpretrain computes
its two metrics, batch by batch, and is set against ours batch by batch. One label in 28 is present (3.6 %, as in COCO).

Each method runs in a process of its own, in turn, several rounds at the small size; a ratio is the median over the
rounds of the ratios in a round. Memory is the peak of the process above what it held before, its copy of scores and
labels included there. A rival that is not installed is left out: mmpretrain, for its metrics alone, can be put in a
folder of its own with ``pip install --no-deps --target DIR mmpretrain==1.2.0`` and found there with PYTHONPATH=DIR.

The last line is JSON; sizes are named images x classes, and where a key names none, it is 40,000 x 80:

- ``vs_sklearn_map``, ``vs_torchmetrics_ap``, ``vs_mmpretrain``: how many times faster ours is; also with a size
- ``seconds_100k_x_9600``, ``gb_above_scores_100k_x_9600``: ours, scores float16 in memory; ``..._mapped``: in a file
- ``accumulate_us_per_image``: taking in batches of 64
- ``fit_thresholds_s``: F1 thresholds with a cross-fit on 5 folds; ``fit_thresholds_and_intervals_s``: and an interval
  for each of them
- ``bootstrap_s``: intervals of mAP, CF1 and the others from 1,000 draws
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from eval_rivals import BATCH, mmpretrain_both, sklearn_map, torchmetrics_ap

from mlcls.errors import UserError
from mlcls.evaluation import AveragePrecision, Evaluator, ThresholdMetric
from mlcls.evaluation.gather import Rows
from mlcls.evaluation.metrics.ranking import RankingMetric
from mlcls.fileio import write_json

PRESENT = 0.036
DRAWS = 1000
#: Percent by which the mAP of a rival may differ: torchmetrics and mmpretrain compute in float32.
TOLERANCE = 0.01


class Size(NamedTuple):
    """A set of scores; ``name`` as in the keys of the result."""

    name: str
    images: int
    classes: int
    half: bool


SIZES = (
    Size('40k_x_80', 40_000, 80, False),
    Size('100k_x_600', 100_000, 600, False),
    Size('20k_x_9600', 20_000, 9600, False),
    Size('100k_x_9600', 100_000, 9600, True),
)
SMALL, LARGE = SIZES[0], SIZES[-1]


def metrics() -> list[Any]:
    """Everything that is measured together."""
    return [AveragePrecision(absent='zero'), ThresholdMetric(), RankingMetric()]


def ours(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """All metrics of rows that are held."""
    return Evaluator(metrics()).result(Rows(scores, targets, ())).metrics['multi-label/mAP']


def ours_in_batches(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """The same, from batches."""
    evaluator = Evaluator(metrics())
    take_in(evaluator, scores, targets)
    return evaluator.evaluate(len(scores)).metrics['multi-label/mAP']


def take_in(evaluator: Evaluator, scores: torch.Tensor, targets: torch.Tensor) -> None:
    """Give the evaluator everything in batches."""
    evaluator.prepare(len(scores))
    parts = (rows.split(BATCH) for rows in (scores, targets, torch.arange(len(scores))))
    for batch in zip(*parts, strict=True):
        evaluator.process(*batch)


def accumulate(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """Batches alone."""
    take_in(Evaluator(metrics()), scores, targets)
    return float('nan')


def fit_thresholds(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """F1 thresholds, cross-fitted."""
    from mlcls.evaluation.operating_points.fit import FitSettings, fit_operating_points

    fit_operating_points(scores, targets, _names(scores), FitSettings(bootstrap=0))
    return float('nan')


def fit_thresholds_and_intervals(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """The same with the intervals of the thresholds."""
    from mlcls.evaluation.operating_points.fit import FitSettings, fit_operating_points

    fit_operating_points(scores, targets, _names(scores), FitSettings())
    return float('nan')


class Bootstrap:
    """The intervals of mAP and the measures at a threshold; the evaluation itself is not part of the time."""

    def __init__(self) -> None:
        self.result: Any = None

    def prepare(self, scores: torch.Tensor, targets: torch.Tensor) -> None:
        """Evaluate."""
        self.result = Evaluator(metrics()[:2]).result(Rows(scores, targets, ()))

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> float:
        from mlcls.evaluation.intervals import headline_intervals

        headline_intervals(self.result, metrics()[:2], draws=DRAWS)
        return float('nan')


def _names(scores: torch.Tensor) -> list[str]:
    return [str(number) for number in range(scores.shape[1])]


#: Methods that give mAP in percent, by their name in the result.
SIDE_BY_SIDE: dict[str, Callable[..., float]] = {
    'ours': ours,
    'ours_in_batches': ours_in_batches,
    'sklearn_map': sklearn_map,
    'torchmetrics_ap': torchmetrics_ap,
    'mmpretrain': mmpretrain_both,
}
#: What else is timed at the small size.
ALONE: dict[str, Callable[..., float]] = {
    'accumulate': accumulate,
    'fit_thresholds': fit_thresholds,
    'fit_thresholds_and_intervals': fit_thresholds_and_intervals,
    'bootstrap': Bootstrap(),
}
#: By rival: the method of ours that does as much or more.
AGAINST = {'sklearn_map': 'ours', 'torchmetrics_ap': 'ours', 'mmpretrain': 'ours_in_batches'}


class Run(NamedTuple):
    """One process: a method on the scores of a size; ``repeats`` runs, of which the median counts."""

    method: str
    size: Size
    folder: Path
    repeats: int
    threads: int | None
    mapped: bool = False


def write_data(folder: Path, size: Size, seed: int) -> None:
    """Write scores and labels to files, a part at a time."""
    rng = np.random.default_rng(seed)
    with (
        open(folder / f'{size.name}.scores', 'wb') as scores_file,
        open(folder / f'{size.name}.targets', 'wb') as targets_file,
    ):
        for start in range(0, size.images, 4000):
            shape = (min(4000, size.images - start), size.classes)
            targets = (rng.random(shape, np.float32) < PRESENT).astype(np.int8)
            logits = rng.standard_normal(shape, np.float32) + 2 * targets - 2
            scores = 1 / (1 + np.exp(-logits))
            scores.astype(np.float16 if size.half else np.float32).tofile(scores_file)
            targets.tofile(targets_file)


def read_data(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and targets, in memory or mapped from their files."""
    found = []
    for name, kind in (('scores', np.float16 if run.size.half else np.float32), ('targets', np.int8)):
        path, shape = run.folder / f'{run.size.name}.{name}', (run.size.images, run.size.classes)
        # Mapped for writing into copies of pages, which nobody does: torch warns of what can only be read.
        rows = np.memmap(path, kind, 'c', shape=shape) if run.mapped else np.fromfile(path, kind).reshape(shape)
        found.append(torch.from_numpy(rows))
    return found[0], found[1]


def measure(run: Run) -> dict[str, Any]:
    """In a process of its own: seconds, GB at the peak above what was held, and mAP; why not, where it cannot run."""
    warnings.filterwarnings('ignore')
    if run.threads:
        torch.set_num_threads(run.threads)
    method = {**SIDE_BY_SIDE, **ALONE}[run.method]
    prepare = getattr(method, 'prepare', lambda scores, targets: None)
    try:
        # A little data loads and warms up whatever the method needs.
        few = torch.rand(64, 8), torch.eye(8, dtype=torch.int8).repeat(8, 1)
        prepare(*few)
        method(*few)
    except ImportError as error:
        return {'left_out': str(error)}
    scores, targets = read_data(run)
    prepare(scores, targets)
    held = _memory('VmRSS')
    _forget_peak()
    seconds = []
    for repeat in range(run.repeats):
        started = time.perf_counter()
        found = method(scores, targets)
        seconds.append(time.perf_counter() - started)
        if not repeat:
            peak = _memory('VmHWM')
    return {'seconds': statistics.median(seconds), 'gb_above': max(0.0, peak - held), 'mAP': found}


def _forget_peak() -> None:
    """Let the kernel start anew with the peak of this process, where it can; else the peak counts from its start."""
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


def _memory(key: str) -> float:
    """VmRSS or VmHWM of this process in GB; where there is no /proc, its peak for both."""
    status = Path('/proc/self/status')
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f'{key}:'))
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def in_a_process(run: Run) -> dict[str, Any]:
    """``measure`` in a process of its own; why not, where a rival is not installed or the memory is short.

    Raises:
        RuntimeError: Ours failed.
    """
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, run))
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        found = {'left_out': 'the process ended without a result'}
    process.join()
    if 'left_out' in found and run.method.startswith('ours'):
        raise RuntimeError(f'{run.method}, {run.size.name}: {found["left_out"]}')
    text = f'{found["seconds"]:9.3f} s {found["gb_above"]:7.3f} GB' if 'seconds' in found else f'   {found["left_out"]}'
    print(f'{run.size.name:12} {run.method + " mapped" * run.mapped:30} {text}', flush=True)
    return found


def _send(sender: Any, run: Run) -> None:
    try:
        found = measure(run)
    except (UserError, RuntimeError, MemoryError) as error:
        found = {'left_out': f'{type(error).__name__}: {error}'}
    sender.send(found)


def side_by_side(size: Size, rounds: int, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """What each method gave in each round."""
    found, usable = [], list(SIDE_BY_SIDE if options.rivals else ('ours', 'ours_in_batches'))
    for _ in range(rounds):
        results = {}
        for name in tuple(usable):
            results[name] = in_a_process(
                Run(name, size, folder, options.repeats if size is SMALL else 1, options.threads)
            )
            if 'left_out' in results[name]:
                usable.remove(name)
        found.append(results)
    return found


def summarise(size: Size, rounds: Sequence[dict[str, Any]], figures: dict[str, Any]) -> None:
    """Put the figures of a size in.

    Raises:
        RuntimeError: A method found another mAP than ours; its time would say nothing.
    """
    for name in rounds[0]:
        runs = [results[name] for results in rounds if 'seconds' in results.get(name, {})]
        if not runs:
            figures['left_out'][f'{name} {size.name}'] = rounds[0][name]['left_out']
            continue
        figures['seconds'][size.name][name] = round(statistics.median(run['seconds'] for run in runs), 4)
        figures['gb_above'][size.name][name] = round(max(run['gb_above'] for run in runs), 4)
        figures['mAP'][size.name][name] = round(runs[0]['mAP'], 6)
        if abs(runs[0]['mAP'] - rounds[0]['ours']['mAP']) > TOLERANCE:
            raise RuntimeError(
                f'{name} finds an mAP of {runs[0]["mAP"]} at {size.name}, ours {rounds[0]["ours"]["mAP"]}'
            )
        if name in AGAINST:
            ratios = [
                results[name]['seconds'] / results[AGAINST[name]]['seconds']
                for results in rounds
                if all('seconds' in results.get(each, {}) for each in (name, AGAINST[name]))
            ]
            if ratios:
                figures[f'vs_{name}' + f'_{size.name}' * (size is not SMALL)] = round(statistics.median(ratios), 2)


def measure_alone(size: Size, options: argparse.Namespace, folder: Path, figures: dict[str, Any]) -> None:
    """What has no rival, at the small size."""
    for name in ALONE:
        found = in_a_process(Run(name, size, folder, options.repeats if name == 'accumulate' else 1, options.threads))
        if 'left_out' in found:
            figures['left_out'][name] = found['left_out']
        elif name == 'accumulate':
            figures['accumulate_us_per_image'] = round(1e6 * found['seconds'] / size.images, 2)
        else:
            figures[f'{name}_s'] = round(found['seconds'], 3)


def measure_large(size: Size, options: argparse.Namespace, folder: Path, figures: dict[str, Any]) -> None:
    """Ours alone, in memory and mapped: the rivals need tens of GB."""
    for mapped in (False, True):
        found = in_a_process(Run('ours', size, folder, 1, options.threads, mapped))
        key = f'{size.name}_mapped' if mapped else size.name
        figures[f'seconds_{key}'] = round(found['seconds'], 2)
        if not mapped:  # pages of a mapped file count as the process's while they are looked at
            figures[f'gb_above_scores_{key}'] = round(found['gb_above'], 4)


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    from seeds import hardware  # beside this script

    figures: dict[str, Any] = {
        'benchmark': 'evaluation',
        'hardware': hardware(),
        'threads': options.threads or torch.get_num_threads(),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'python': platform.python_version(),
        'present': PRESENT,
        'rounds': options.rounds,
        'seconds': {},
        'gb_above': {},
        'mAP': {},
        'left_out': {},
    }
    for place, full in enumerate(SIZES):
        if options.sizes and full.name not in options.sizes:
            continue
        size = full._replace(
            images=max(64, full.images // options.divide), classes=max(8, full.classes // options.divide)
        )
        write_data(folder, size, seed=place)
        if full is LARGE:
            measure_large(size, options, folder, figures)
        else:
            for table in ('seconds', 'gb_above', 'mAP'):
                figures[table][size.name] = {}
            small = full is SMALL
            summarise(full, side_by_side(size, options.rounds if small else 1, options, folder), figures)
            if small:
                measure_alone(size, options, folder, figures)
        for path in folder.glob(f'{size.name}.*'):
            path.unlink()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', nargs='+', choices=[size.name for size in SIZES], help='all where not given')
    parser.add_argument('--rounds', type=int, default=3, help='of the small size')
    parser.add_argument('--repeats', type=int, default=3, help='of a method in a round of the small size')
    parser.add_argument('--no-rivals', dest='rivals', action='store_false', help='only ours')
    parser.add_argument('--threads', type=int, help="torch's own number where not given")
    parser.add_argument('--divide', type=int, default=1, help='images and classes by this, to try the script')
    parser.add_argument(
        '--folder', type=Path, help='for scores, up to 3 GB; the temporary one of the system if not given'
    )
    parser.add_argument('--out', type=Path, help='also write the last line to this file')
    options = parser.parse_args()
    if min(options.rounds, options.repeats, options.divide, options.threads or 1) < 1:
        parser.error('--rounds, --repeats, --divide and --threads must be at least 1')
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = run(Path(folder), options)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, figures)
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
