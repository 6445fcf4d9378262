"""A learning rate from a range test (Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186,
section 3.3): the rate rises step by step, and the loss tells where training is fastest and where it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcls.apis.settings import check_writable
from mlcls.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from mlcls.engine import Runner

#: The test stops when the smoothed loss is this many times its best.
EXPLODED = 4.0


@dataclass(frozen=True)
class FindLrFlags:
    """How to search.

    Args:
        start: First rate, above 0.
        end: Last rate, above ``start``.
        steps: Optimiser steps, at least 20; the rate rises by the same factor at each.
        out: PNG file of the curve.

    Raises:
        ConfigError: A value outside these.
    """

    start: float = 1e-6
    end: float = 1.0
    steps: int = 100
    out: str | Path = 'lr.png'

    def __post_init__(self) -> None:
        if not 0 < self.start < self.end < math.inf:
            raise ConfigError(f'--start must be above 0 and below --end, got {self.start:g} and {self.end:g}')
        if self.steps < 20:
            raise ConfigError(f'--steps must be at least 20, got {self.steps}')
        if Path(self.out).suffix.lower() not in ('.png', '.svg', '.pdf'):
            raise ConfigError(f'--out must end in .png, .svg or .pdf, got {self.out}')

    def rates(self) -> list[float]:
        """The rates, from the first to the last."""
        return [float(rate) for rate in np.geomspace(self.start, self.end, self.steps)]


@dataclass(frozen=True)
class Suggestion:
    """What a curve says.

    Args:
        rates: Rates of the steps that were made, (S,).
        losses: Their losses, (S,).
        smooth: The smoothed losses, (S,).
        steepest: Rate of the steepest fall; None where the loss never fell.
        tenth: A tenth of the rate of the lowest loss; None likewise.
        recommended: One of the two, to two digits; None likewise.
        reason: Why this one, or why none.
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    steepest: float | None
    tenth: float | None
    recommended: float | None
    reason: str


def find_lr(
    config: str | Path, flags: FindLrFlags = FindLrFlags(), options: Mapping[str, Any] | None = None
) -> Suggestion:
    """Search a learning rate for a config, print it, and draw the curve. Nothing is written into the work folder.

    The config's schedules are off, and its rates of single parts (layer decay, ``lr_mult``) keep their ratios.

    Args:
        config: Path of the config file.
        flags: How to search.
        options: Overrides of single settings, dotted keys to values.

    Raises:
        UserError: Config or data cannot be used, or the loss is not finite from the start.
    """
    from mlcls.apis.trial_run import trial_config, trial_run

    check_writable(Path(flags.out))
    cfg = trial_config(config, options)
    schedulers = cfg.get('param_scheduler') or []
    with trial_run(cfg) as runner:
        found = analyse(*range_test(make_step(runner, flags.steps), flags.rates()), len(flags.rates()))
    draw(found, flags.out)
    print(describe(found, [schedulers] if isinstance(schedulers, Mapping) else schedulers))
    print(f'curve: {flags.out}')
    return found


def make_step(runner: Runner, steps: int) -> Callable[[float], float]:
    """One optimiser step at a given rate, on the next training batches; returns its loss.

    Args:
        runner: From `mlcls.apis.trial_run.trial_run`.
        steps: How often it will be called at most.
    """
    from mlcls.apis.trial_run import endless_batches

    wrapper: Any = runner.optim_wrapper
    counts, batches = max(1, wrapper._accumulative_counts), endless_batches(runner)
    wrapper.initialize_count_status(runner.model, 0, steps * counts)
    base = float(wrapper.optimizer.defaults['lr'])
    shares = [float(group['lr']) / base for group in wrapper.optimizer.param_groups]

    def step(rate: float) -> float:
        for group, share in zip(wrapper.optimizer.param_groups, shares):
            if hasattr(group['lr'], 'fill_'):  # a tensor
                group['lr'].fill_(rate * share)
            else:
                group['lr'] = rate * share
        outputs = [runner.model.train_step(next(batches), optim_wrapper=wrapper) for _ in range(counts)]
        return sum(float(output['loss'].detach()) for output in outputs) / counts

    return step


def range_test(step: Callable[[float], float], rates: Iterable[float]) -> tuple[list[float], list[float]]:
    """Make steps at rising rates until the loss explodes.

    Args:
        step: Makes one at the given rate, and returns its loss.
        rates: Rising.

    Returns:
        Rates and losses of the steps whose loss was finite.

    Raises:
        TrainingError: The first loss is not finite.
    """
    rates = list(rates)
    made: list[float] = []
    losses: list[float] = []
    best = math.inf
    for rate in rates:
        loss = step(rate)
        if not math.isfinite(loss):
            if not losses:
                raise TrainingError(f'the loss is {loss} at the first step, before any weight has changed')
            break
        made.append(rate)
        losses.append(loss)
        current = float(smoothed(losses, len(rates))[-1])
        best = min(best, current)
        # Near 0, or below, four times the best is nothing: then by what the loss was at first.
        if current > best + (EXPLODED - 1) * max(abs(best), 0.25 * abs(losses[0])):
            break
    return made, losses


def smoothed(losses: Sequence[float], steps: int) -> np.ndarray:
    """Exponential moving average, corrected for its start at 0, over about a tenth of the steps.

    Args:
        losses: (S,).
        steps: Of the whole test.
    """
    keep = _keep(steps)
    found, average = np.empty(len(losses)), 0.0
    for number, loss in enumerate(losses):
        average = keep * average + (1 - keep) * loss
        found[number] = average / (1 - keep ** (number + 1))
    return found


def _smoothed_both_ways(values: np.ndarray, steps: int) -> np.ndarray:
    """Mean with weights that fall by the same factor with each step of distance, to both sides."""
    keep = _keep(steps)

    def sums(items: np.ndarray) -> np.ndarray:
        found, total = np.empty(len(items)), 0.0
        for number, item in enumerate(items):
            found[number] = total = keep * total + item
        return found

    ones = np.ones(len(values))
    both = [sums(each) + sums(each[::-1])[::-1] - each for each in (values, ones)]
    return both[0] / both[1]


def _keep(steps: int) -> float:
    return min(0.98, max(0.5, 1 - 10 / steps))


def analyse(rates: Sequence[float], losses: Sequence[float], steps: int) -> Suggestion:
    """Read a rate off a curve.

    The average of `smoothed` lags behind, so for this one is taken that looks as far ahead as back.

    Args:
        rates: Rising, (S,).
        losses: Finite, (S,).
        steps: Of the whole test; more than S if it was stopped.
    """
    values = np.asarray(losses, float)
    first = max(3, len(values) // 10)
    initial = float(values[:first].mean())
    capped = np.minimum(values, initial + 0.5 * abs(initial))  # the explosion must not reach back to the minimum
    smooth = _smoothed_both_ways(capped, steps)
    shown = (list(rates), list(values), [float(each) for each in smooth])
    lowest = int(smooth.argmin())
    keep = _keep(steps)
    # Noise of a single loss, from the differences of neighbours; their median does not see the explosion.
    noise = float(np.median(np.abs(np.diff(values)))) / 0.954 if len(values) > 1 else 0.0
    chance = 3 * noise * math.sqrt(1 / first + (1 - keep) / (1 + keep))
    fall = initial - float(smooth[lowest])
    if len(values) < 10 or not fall > max(chance, 0.01 * abs(initial)):
        return Suggestion(*shown, None, None, None, _why_none(rates, len(values) < steps))
    logs = np.log10(np.asarray(rates, float))
    slopes = np.gradient(smooth, logs)
    steepest = float(rates[int(slopes[: lowest + 1].argmin())])
    tenth = float(rates[lowest]) / 10
    if tenth / 3 <= steepest <= tenth * 3:
        chosen, reason = steepest, 'the steepest fall, where a step gains most; a tenth of the minimum agrees with it'
    elif steepest > tenth:
        chosen, reason = tenth, 'a tenth of the minimum: the steepest fall lies near the rate at which training breaks'
    else:
        chosen, reason = tenth, 'a tenth of the minimum: the steepest fall lies far below it, likely by a chance batch'
    if lowest == len(values) - 1 and len(values) == steps:
        reason += f'; the loss still fell at {rates[-1]:.2g}, so a higher --end may give a higher rate'
    return Suggestion(*shown, steepest, tenth, float(f'{chosen:.1e}'), reason)


def _why_none(rates: Sequence[float], stopped: bool) -> str:
    if stopped:
        return (
            f'the loss rose from {rates[0]:.2g} on, up to {rates[-1]:.2g}, and never fell before; try a lower --start'
        )
    return (
        f'the loss never fell between {rates[0]:.2g} and {rates[-1]:.2g}, beyond what chance does: no rate can be '
        'told; try a higher --end, more --steps, or a larger batch, and check that weights are trained at all'
    )


def describe(found: Suggestion, schedulers: Sequence[Mapping[str, Any]] = ()) -> str:
    """The result in words, with the settings to change.

    Args:
        found: Of `analyse`.
        schedulers: Of the config; those that name rates themselves are to be changed too.
    """
    made = f'{len(found.rates)} steps, rates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}'
    if found.recommended is None:
        return f'{made}\nno suggestion: {found.reason}'
    lines = [
        made,
        f'steepest fall of the loss at {found.steepest:.2g}',
        f'a tenth of the rate of the lowest loss: {found.tenth:.2g}',
        f'recommended: {found.recommended:g} ({found.reason})',
        'set: ' + ' '.join(settings(found.recommended, schedulers)),
    ]
    return '\n'.join(lines)


def settings(rate: float, schedulers: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """``key=value`` of the settings that hold the learning rate."""
    cycles = [number for number, each in enumerate(schedulers) if str(each.get('type')).endswith('OneCycleLR')]
    return [
        f'optim_wrapper.optimizer.lr={rate:g}',
        *(f'param_scheduler.{number}.eta_max={rate:g}' for number in cycles),
    ]


def draw(found: Suggestion, path: str | Path) -> None:
    """Draw the curve: loss against rate, with what was read off it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color='0.75', linewidth=0.8, label='loss of a step')
    axes.plot(found.rates, found.smooth, color='C0', label='smoothed')
    for rate, color, label in (
        (found.steepest, 'C1', 'steepest fall'),
        (found.tenth, 'C2', 'tenth of the minimum'),
    ):
        if rate is not None:
            axes.axvline(rate, color=color, linestyle='--', linewidth=1, label=f'{label}: {rate:.2g}')
    axes.set_xscale('log')
    low, high = min(*found.losses, *found.smooth), max(found.smooth)
    margin = 0.08 * (high - low or 1)
    axes.set_ylim(low - margin, high + 3 * margin)
    axes.set_xlabel('learning rate')
    axes.set_ylabel('training loss')
    if found.recommended is None:
        axes.set_title('no suggestion: the loss never fell', fontsize=10)
    else:
        axes.set_title(f'recommended: {found.recommended:g}', fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(str(path), dpi=150)
