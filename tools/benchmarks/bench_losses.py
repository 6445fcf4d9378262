"""Time and memory of the losses, forward plus backward, beside binary cross entropy and eager transcriptions.

    python tools/benchmarks/bench_losses.py --shapes 256x1000 64x9600 --rounds 31 --threads 1

float32 on the CPU and, where there is one, bfloat16 logits on the GPU. Every round runs each method once, in an order
of its own, so that a busy moment or a neighbour's leftovers in the cache hit all of them. A ratio is the median of the
rounds' ratios, not the ratio of the medians. 'floor' is one sigmoid, one log and one copy by torch over the same shape,
about the least that a loss of separate operations must do; only fused loops go below it. Memory is the peak above the
start of forward plus backward, the gradient of the logits included. The last line is JSON; its top-level figures are
the worst of the shapes on the CPU. ``--all`` adds every registered loss, with its default settings, in its second
epoch.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from mlcls.models.losses import AsymmetricLoss, FocalLoss, MultiLabelLoss
from mlcls.registry import MODELS
from mlcls.structures import LabelMatrix, LabelStatistics

#: Forward and backward of one method.
Step = Callable[[], object]
#: Loss of (N, C) logits and targets, a scalar.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

WARM_UPS = 5
BASE, FLOOR, EAGER, OURS = 'bce', 'floor', 'asymmetric eager', 'asymmetric'
#: Losses that cannot be built from their name alone.
ARGUMENTS: dict[str, dict[str, Any]] = {
    'CrossEntropyLoss': {'use_sigmoid': True},
    'WeightedSum': {'losses': [{'type': 'AsymmetricLoss'}, {'type': 'FocalLoss'}]},
}


def make_data(images: int, classes: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (N, C), float32 on the CPU and bfloat16 elsewhere, targets of 3.6 % positives as float32, and as int8."""
    made = torch.Generator().manual_seed(0)
    labels = (torch.rand(images, classes, generator=made) < 0.036).to(torch.int8)
    logits = torch.randn(images, classes, generator=made) + 2 * labels - 2
    logits = logits.to(device, torch.float32 if device == 'cpu' else torch.bfloat16).requires_grad_()
    return logits, labels.to(device, torch.float32), labels.to(device)


# What ours are compared with. Logits are made float32 first, as autocast does and as ours do themselves.


def bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """torch's own, the mean."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets)


def eager_asymmetric(
    logits: torch.Tensor,
    targets: torch.Tensor,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    eps: float = 1e-8,
) -> torch.Tensor:
    """Asymmetric loss in the steps of its authors (arXiv 2009.14119): constant weights in the gradient, the sum."""
    logits = logits.float()
    p = torch.sigmoid(logits)
    xs_neg = 1 - p
    if clip > 0:
        xs_neg = (xs_neg + clip).clamp(max=1)
    loss = targets * torch.log(p.clamp(min=eps)) + (1 - targets) * torch.log(xs_neg.clamp(min=eps))
    with torch.no_grad():
        pt = p * targets + xs_neg * (1 - targets)
        one_sided_gamma = gamma_pos * targets + gamma_neg * (1 - targets)
        weight = torch.pow(1 - pt, one_sided_gamma)
    return -(loss * weight).sum()


def eager_focal(logits: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0, alpha: float = 0.25) -> torch.Tensor:
    """Focal loss as it is usually written: weights times binary cross entropy, the mean."""
    logits = logits.float()
    p = torch.sigmoid(logits)
    missed = (1 - p) * targets + p * (1 - targets)
    weight = (alpha * targets + (1 - alpha) * (1 - targets)) * missed.pow(gamma)
    return (F.binary_cross_entropy_with_logits(logits, targets, reduction='none') * weight).mean()


# Measuring.


def settle() -> None:
    """Bring the process into the state in which the baselines are fastest, so that no figure hangs on its history."""
    # On some processors torch's vectorised log1p, which binary cross entropy runs on, is several times slower until
    # another vector routine has run in the process (3.0 ms instead of .9 at 256 x 1000).
    torch.rand(99_999).pow(3.7)
    # glibc hands freed blocks of this size back to the system now and then and gets them again page by page, which
    # doubles the time of whatever makes many tensors, depending on what ran before. Here it keeps them.
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library
    trim_threshold, mmap_threshold = -1, -3  # numbers of malloc.h
    mallopt(trim_threshold, 2**30)
    mallopt(mmap_threshold, 2**25)


def step_of(loss: Loss, logits: torch.Tensor, targets: torch.Tensor) -> Step:
    """Forward and backward of a loss."""
    return lambda: loss(logits, targets).backward()


def floor_of(logits: torch.Tensor) -> Step:
    """One sigmoid, one log and one copy (as of a gradient), without autograd."""
    values = logits.detach()

    def step() -> object:
        values.sigmoid().log_()
        return values.clone()

    return step


def peak_memory(step: Step, device: str = 'cpu') -> int:
    """Most bytes that were allocated at once above the start of ``step``, as its operations asked for them."""
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        kept = step()
        torch.cuda.synchronize()
        del kept
        return torch.cuda.max_memory_allocated() - start
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0))


def measure(steps: dict[str, Step], logits: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each step; the gradient of the logits is always made anew."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order, shuffled = list(steps), random.Random(0)
    on_gpu = logits.device.type == 'cuda'
    for number in range(WARM_UPS + rounds):
        shuffled.shuffle(order)
        for name in order:
            logits.grad = None
            if on_gpu:
                torch.cuda.synchronize()
            started = time.perf_counter()
            steps[name]()
            if on_gpu:
                torch.cuda.synchronize()
            if number >= WARM_UPS:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def summary(steps: dict[str, Step], logits: torch.Tensor, rounds: int) -> dict[str, Any]:
    """Times, ratios and memory of all steps."""
    seconds = measure(steps, logits, rounds)
    memory = {}
    for name, step in steps.items():
        logits.grad = None
        memory[name] = peak_memory(step, logits.device.type)

    def ratios(to: str) -> dict[str, float]:
        return {
            name: round(statistics.median(own / other for own, other in zip(taken, seconds[to])), 3)
            for name, taken in seconds.items()
        }

    return {
        'median_ms': {name: round(1000 * statistics.median(taken), 4) for name, taken in seconds.items()},
        'min_ms': {name: round(1000 * min(taken), 4) for name, taken in seconds.items()},
        'vs_bce': ratios(BASE),
        'vs_floor': ratios(FLOOR),
        'memory_bytes': memory,
        'asymmetric_memory_vs_eager': round(memory[OURS] / memory[EAGER], 3),
    }


# The methods.


def plain_steps(logits: torch.Tensor, targets: torch.Tensor, int8: torch.Tensor) -> dict[str, Step]:
    """The baselines, and our two losses uncompiled."""
    return {
        FLOOR: floor_of(logits),
        BASE: step_of(bce, logits, targets),
        EAGER: step_of(eager_asymmetric, logits, targets),
        OURS: step_of(AsymmetricLoss(), logits, targets),
        'asymmetric int8': step_of(AsymmetricLoss(), logits, int8),
        'focal eager': step_of(eager_focal, logits, targets),
        'focal': step_of(FocalLoss(), logits, targets),
        'focal int8': step_of(FocalLoss(), logits, int8),
    }


def compiled_steps(
    logits: torch.Tensor, targets: torch.Tensor, int8: torch.Tensor
) -> tuple[dict[str, Step], str | None]:
    """Our two losses compiled for these shapes, or none and the reason."""
    torch.compiler.reset()  # a second shape would be compiled for sizes in general
    steps = {
        f'{name} compiled{kind}': step_of(loss, logits, labels)
        for name, loss in ((OURS, AsymmetricLoss(compile=True)), ('focal', FocalLoss(compile=True)))
        for kind, labels in (('', targets), (' int8', int8))
    }
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter('always')
        for step in steps.values():
            step()
    failed = [str(warning.message) for warning in raised if 'compile=True does not work' in str(warning.message)]
    return ({}, failed[0]) if failed else (steps, None)


def registered_steps(logits: torch.Tensor, targets: torch.Tensor) -> tuple[dict[str, Step], dict[str, str]]:
    """Every registered loss with its default settings, those from data fitted to these targets; and what failed why."""
    statistics_of = LabelStatistics(LabelMatrix.from_dense(targets.to('cpu', torch.int8).numpy()))
    index = torch.arange(len(logits), device=logits.device)
    steps: dict[str, Step] = {}
    failed: dict[str, str] = {}
    for name, kind in sorted(MODELS.module_dict.items()):
        if not (isinstance(kind, type) and issubclass(kind, MultiLabelLoss)):
            continue
        try:
            loss = kind(**ARGUMENTS.get(name, {}))
            loss.set_classes(logits.shape[1])
            loss.fit(statistics_of)
            loss.to(logits.device)
            loss.start_epoch(1)  # some do nothing of their own in the first
            step = _with_index(loss, logits, targets, index)
            step()
            steps[name] = step
        except Exception as error:  # one broken loss must not hide the figures of the others
            failed[name] = f'{type(error).__name__}: {error}'
    return steps, failed


def _with_index(loss: MultiLabelLoss, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor) -> Step:
    def step() -> None:
        loss(logits, targets, index=index).backward()
        loss.zero_grad()  # some have parameters

    return step


# The report.


def run_shape(shape: tuple[int, int], device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all methods at one shape, print the table, give what goes into the JSON."""
    logits, targets, int8 = make_data(*shape, device)
    steps, reason = plain_steps(logits, targets, int8), '--no-compile'
    if not options.no_compile:
        more, reason = compiled_steps(logits, targets, int8)
        steps |= more
    extra, failed = registered_steps(logits, targets) if options.all else ({}, {})
    result = summary(steps | extra, logits, options.rounds)
    print(f'\n{device}, {shape[0]} x {shape[1]}, {str(logits.dtype).removeprefix("torch.")} logits')
    print(f'{"method":26} {"median ms":>10} {"min ms":>10} {"/ bce":>8} {"/ floor":>8} {"peak MB":>9}')
    for name in steps | extra:
        print(
            f'{name:26} {result["median_ms"][name]:10.3f} {result["min_ms"][name]:10.3f} '
            f'{result["vs_bce"][name]:8.2f} {result["vs_floor"][name]:8.2f} {result["memory_bytes"][name] / 1e6:9.2f}'
        )
    if reason:
        print(f'compiled: not measured ({reason})')
    for name, error in failed.items():
        print(f'{name}: not measured ({error})')
    return result | {'not_compiled': reason} | ({'failed': failed} if failed else {})


def worst(results: dict[str, dict[str, Any]], table: str, method: str) -> float | None:
    """Largest ratio of a method over the shapes; None where it was not measured at all of them."""
    found = [result[table].get(method) for result in results.values()]
    return None if None in found else max(found)


def device_names() -> dict[str, str]:
    """Names of the processors that are measured."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    names = {'cpu': named[0] if named else platform.processor() or platform.machine()}
    return names | ({'cuda': torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def parse_shape(text: str) -> tuple[int, int]:
    """``'256x1000'`` as (256, 1000)."""
    try:
        images, classes = (int(part) for part in text.lower().split('x'))
    except ValueError:
        images = classes = 0
    if images < 1 or classes < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no shape; write images x classes, like 256x1000")
    return images, classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shapes', type=parse_shape, nargs='+', default=[(256, 1000), (64, 9600)])
    parser.add_argument('--rounds', type=int, default=31)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--no-compile', action='store_true')
    parser.add_argument('--all', action='store_true', help='also every registered loss')
    parser.add_argument('--out', type=Path, help='also write the last line to this file, for docs/losses.md')
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        parser.error('--rounds and --threads must be at least 1')
    torch.set_num_threads(options.threads)
    settle()
    names = device_names()
    results = {
        device: {f'{shape[0]}x{shape[1]}': run_shape(shape, device, options) for shape in options.shapes}
        for device in names
    }
    on_cpu = results['cpu']
    figures = {
        'benchmark': 'losses',
        'asymmetric_vs_bce': worst(on_cpu, 'vs_bce', OURS),
        'asymmetric_compiled_vs_bce': worst(on_cpu, 'vs_bce', 'asymmetric compiled'),
        'focal_vs_bce': worst(on_cpu, 'vs_bce', 'focal'),
        'focal_compiled_vs_bce': worst(on_cpu, 'vs_bce', 'focal compiled'),
        'asymmetric_memory_vs_eager': max(result['asymmetric_memory_vs_eager'] for result in on_cpu.values()),
        'asymmetric_vs_floor': worst(on_cpu, 'vs_floor', OURS),
        'torch': torch.__version__,
        'threads': options.threads,
        'devices': names,
        'rounds': options.rounds,
        'results': results,
    }
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + '\n')
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
