"""What the engine costs beside the network: the loop, the start, checkpoints, several processes, long runs.

    python tools/benchmarks/bench_engine.py
    python tools/benchmarks/bench_engine.py --only overhead first_step

``overhead_ms``: milliseconds that loop, hooks, a log line every 50 steps and the sums of losses add to a step, with a
network of two layers, beside a loop of a few lines over the same batches in the same run; ``overhead_vs_mmengine``:
that over what mmengine's own Runner with its default hooks adds. The three take turns of 10 steps; of a round the
median over groups of turns with one log line counts, and of the rounds the median.
``overhead_parts_us``: microseconds of what is added to a step, by part, with the timers' own microsecond each.
``first_step_s``: from the start of a fresh ``tools/train.py`` to the log line of its first step, which is then over;
``first_step_begins_s``: to the beginning of that step.
``checkpoint_stall_share``: time for which the loop stands still to save ResNet-50 with AdamW's state over the time that
the file's writing takes.
``ddp2_share``, ``ddp4_share``: throughput of two and four processes over that of one times the number of processes, or
of cores if there are fewer; ``ddp2_equal``: whether all ranks end with the same weights.
``log_cost_ratio``: what it costs to take in a step and to log every fiftieth after 1,000,000 steps over that after 100.
``memory_growth_mib``: growth of resident memory over 5,000 steps. With a GPU also ``gpu_*``, see engine_gpu.py. What
cannot be measured is named in ``left_out``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from engine_overhead import overhead, overhead_parts
from engine_rivals import INTERVAL, Clock, our_runner, ready_loader, residual_classifier
from mmengine.hooks import Hook
from seeds import hardware

ROOT = Path(__file__).resolve().parents[2]
Found = dict[str, Any]


def seconds_to(command: list[str], wanted: Sequence[str], log: Path) -> list[float]:
    """Seconds from the start of a process to its lines that match ``wanted``, one after the other; it is ended then.

    Raises:
        RuntimeError: It ended without such lines.
    """
    began = time.perf_counter()
    taken: list[float] = []
    environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
    with log.open('w') as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment)
        try:
            for line in process.stdout or ():
                if re.search(wanted[len(taken)], line):
                    taken.append(time.perf_counter() - began)
                    if len(taken) == len(wanted):
                        return taken
        finally:
            process.kill()
            process.communicate()
    raise RuntimeError(f'{" ".join(command)}: ended without its first step: {log.read_text()[-500:]}')


def first_step(folder: Path, quick: bool, options: argparse.Namespace) -> Found:
    """Seconds from the start of a process to its first step and to its end, to ``--help``, and to have torch."""
    script = [sys.executable, str(ROOT / 'tools/train.py')]
    logged = ['--cfg-options', 'default_hooks.logger.interval=1']
    names = ('first_step_s', 'first_step_begins_s', 'import_torch_s', 'help_s')
    taken: dict[str, list[float]] = {name: [] for name in names}
    log = folder / 'errors.txt'
    for number in range(1 if quick else 3):
        work = folder / f'run{number}'
        command = [*script, str(options.config), '--work-dir', str(work), *logged]
        over = seconds_to(command, [r'Epoch\(train\)'] * 2, log)[
            0
        ]  # with the second line, the first's numbers are kept
        numbers = json.loads(next(work.glob('*/vis_data/scalars.json')).read_text().splitlines()[0])
        taken['first_step_s'].append(over)
        taken['first_step_begins_s'].append(over - numbers['time'] + numbers['data_time'])
        taken['import_torch_s'] += seconds_to([sys.executable, '-c', 'import torch; print("done")'], ['done'], log)
        taken['help_s'] += seconds_to([*script, '--help'], ['usage'], log)
    return {name: round(statistics.median(values), 3) for name, values in taken.items()}


class Saves(Hook):
    """Saves now and then, and notes for how long the loop stands still and how long the file's writing takes."""

    priority = 'VERY_LOW'

    def __init__(self, every: int) -> None:
        self.every = every
        self.stalls: list[float] = []
        self.writes: list[float] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save if it is time."""
        if (batch_idx + 1) % self.every:
            return
        writer = getattr(runner, 'checkpoint_writer', None)
        if writer is not None:  # its last file is not part of this one's cost
            writer.settle()
        began = time.perf_counter()
        runner.save_checkpoint(str(runner.work_dir), 'bench.pth', background=True)
        self.stalls.append(time.perf_counter() - began)
        if writer is None:
            self.writes.append(self.stalls[-1])

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note how long the writing took, shortly before the next save."""
        writer = getattr(runner, 'checkpoint_writer', None)
        if writer is not None and len(self.writes) < len(self.stalls) and (batch_idx + 1) % self.every == 0:
            writer.settle()
            self.writes.append(writer.last_seconds)


def checkpoint(folder: Path, quick: bool, options: argparse.Namespace) -> Found:
    """The share of a checkpoint's writing for which the loop stands still."""
    depth, side, every, saves = (18, 32, 2, 2) if quick else (50, 64, 12, 7)
    model = residual_classifier(depth, 64)
    hook, clock = Saves(every), Clock()
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, fused=True))
    loader = ready_loader(folder, every * (saves + 1), side=side)
    our_runner(folder / 'saves', loader, [hook, clock], model=model, optim_wrapper=wrapper).train()
    stalls, writes = hook.stalls[1 : len(hook.writes)], hook.writes[1:]  # the first makes the copies' memory
    steps = [b - a for a, b in pairwise(clock.times)]
    return {
        'checkpoint_stall_share': round(statistics.median(a / b for a, b in zip(stalls, writes)), 4),
        'checkpoint_stall_ms': round(1000 * statistics.median(stalls), 2),
        'checkpoint_write_s': round(statistics.median(writes), 3),
        'checkpoint_mib': round((folder / 'saves/bench.pth').stat().st_size / 2**20, 1),
        'checkpoint_step_s': round(statistics.median(steps), 3),
    }


def rank_run(folder: Path, steps: int) -> None:
    """One rank's part of a training with several processes; rank 0 writes the time, all their weights' hash."""
    from mlcls.engine.checkpoint import unwrap
    from mlcls.engine.distributed import init_distributed

    torch.set_num_threads(1)
    rank, world = (int(os.environ.get(name, default)) for name, default in (('RANK', '0'), ('WORLD_SIZE', '1')))
    launcher, clock = 'pytorch' if world > 1 else 'none', Clock()
    if world > 1:  # the sampler takes its share by rank
        init_distributed(launcher)
    (folder / f'data{rank}').mkdir(parents=True, exist_ok=True)
    loader = ready_loader(folder / f'data{rank}', steps * world, size=16, side=64, seed=rank)
    runner = our_runner(folder / 'run', loader, [clock], model=residual_classifier(18, 32), launcher=launcher)
    runner.train()
    digest = hashlib.sha256()
    for parameter in unwrap(runner.model).parameters():
        digest.update(parameter.detach().contiguous().numpy().tobytes())
    taken = [b - a for a, b in pairwise(clock.times[2:])]
    found = {'seconds': statistics.median(taken), 'weights': digest.hexdigest()}
    (folder / f'rank{rank}.json').write_text(json.dumps(found))


def several(folder: Path, quick: bool, options: argparse.Namespace) -> Found:
    """Throughput of two and four processes on this machine, and whether their weights are the same at the end."""
    steps, counts = (5, (1, 2)) if quick else (40, (1, 2, 4))
    cores = len(os.sched_getaffinity(0))
    found: Found = {}
    seconds = {}
    for count in counts:
        place = folder / f'of{count}'
        arguments = [str(Path(__file__).resolve()), '--rank-run', str(place), '--steps', str(steps)]
        launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={count}'] if count > 1 else []
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        done = subprocess.run([sys.executable, *launch, *arguments], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'{count} processes: {done.stderr[-1000:]}')
        ranks = [json.loads((place / f'rank{rank}.json').read_text()) for rank in range(count)]
        seconds[count] = max(rank['seconds'] for rank in ranks)
        if count > 1:
            share = count * seconds[1] / seconds[count] / min(count, cores)
            found[f'ddp{count}_share'] = round(share, 3)
            found[f'ddp{count}_equal'] = len({rank['weights'] for rank in ranks}) == 1
    return found


def log_cost(folder: Path, quick: bool, options: argparse.Namespace) -> Found:
    """What a step's numbers cost late in a run over what they cost at its beginning; ours and mmengine's."""
    from mmengine.logging import HistoryBuffer

    late = 20_000 if quick else 1_000_000
    loss = torch.tensor(0.5)

    def of_history(length: int) -> float:
        # Sums, and not appends one by one: filling it would take minutes.
        history = HistoryBuffer([0.5] * length, [1] * length, max_length=10 * late)
        return seconds_a_step(lambda n: history.update(0.5, 1), lambda: history.mean(INTERVAL), steps=5 * INTERVAL)

    found = {'mmengine_log_cost_ratio': round(of_history(late) / of_history(100), 2)}
    try:
        from mlcls.engine.meter import StepMeter
    except ImportError:  # scalars are kept in mmengine's buffers
        return {'log_cost_ratio': found['mmengine_log_cost_ratio'], **found}

    def of_meter(length: int) -> float:
        meter = StepMeter()
        seconds_a_step(lambda n: meter.add({'loss': loss}, 4), lambda: meter.take(), steps=length)
        return seconds_a_step(lambda n: meter.add({'loss': loss}, 4), lambda: meter.take(), steps=40 * INTERVAL)

    of_meter(100)
    return {'log_cost_ratio': round(of_meter(late) / of_meter(100), 2), **found}


def seconds_a_step(add: Callable[[int], object], log: Callable[[], object], steps: int) -> float:
    """Median over windows of ``INTERVAL`` steps, each with one log line, of the seconds a step."""
    taken = []
    for start in range(0, steps, INTERVAL):
        began = time.perf_counter()
        for number in range(start, start + INTERVAL):
            add(number)
        log()
        taken.append((time.perf_counter() - began) / INTERVAL)
    return statistics.median(taken)


class Resident(Hook):
    """Notes this process's resident memory at two steps."""

    def __init__(self, steps: tuple[int, int]) -> None:
        self.steps, self.mib = steps, []  # type: ignore[var-annotated]

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look, if it is one of the two."""
        if batch_idx + 1 in self.steps:
            gc.collect()
            pages = int(Path('/proc/self/statm').read_text().split()[1])
            self.mib.append(pages * os.sysconf('SC_PAGE_SIZE') / 2**20)


def memory(folder: Path, quick: bool, options: argparse.Namespace) -> Found:
    """Growth of resident memory over 5,000 steps, in MiB, after 1,000 to settle."""
    hook = Resident((100, 200) if quick else (1000, 6000))
    our_runner(folder / 'long', ready_loader(folder, hook.steps[1]), [hook]).train()
    return {'memory_growth_mib': round(hook.mib[1] - hook.mib[0], 2), 'memory_steps': hook.steps[1] - hook.steps[0]}


def gpu(folder: Path, quick: bool, options: argparse.Namespace) -> Found:
    """Throughput on a GPU; see engine_gpu.py."""
    if not torch.cuda.is_available():
        raise RuntimeError('no GPU on this machine')
    from engine_gpu import measure

    return measure(folder, quick)


MEASURES: dict[str, Callable[[Path, bool, argparse.Namespace], Found]] = {
    'overhead': lambda folder, quick, options: overhead(folder, *((2, 300) if quick else (9, 1600))),
    'overhead_parts': lambda folder, quick, options: overhead_parts(folder, 300 if quick else 3000),
    'first_step': first_step,
    'checkpoint': checkpoint,
    'ddp': several,
    'log_cost': log_cost,
    'memory': memory,
    'gpu': gpu,
}


def main() -> None:
    """Parse the flags and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', choices=MEASURES, metavar='KEY', help=f'of {", ".join(MEASURES)}')
    parser.add_argument('--config', default='configs/resnet50_ml.py', help='whose first step is waited for')
    parser.add_argument('--quick', action='store_true', help='few steps and rounds: to try whether it runs')
    parser.add_argument('--out', type=Path, help='file for the JSON line too')
    parser.add_argument('--rank-run', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--steps', type=int, default=40, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank_run:
        rank_run(args.rank_run, args.steps)
        return
    found: Found = {'benchmark': 'engine'}
    left_out: dict[str, str] = {}
    for name in args.only or MEASURES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                new = MEASURES[name](Path(folder), args.quick, args)
            except Exception as error:  # the others are still worth knowing
                new, left_out[name] = {}, f'{type(error).__name__}: {error}'
        print(f'{name}: {new or left_out[name]}', flush=True)
        found |= new
    found |= {'left_out': left_out, 'quick': args.quick, 'hardware': hardware(), 'torch': torch.__version__}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + '\n')
    print(json.dumps(found))


if __name__ == '__main__':
    main()
