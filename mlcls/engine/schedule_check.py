"""Schedules that cannot be what was meant: refused, or said aloud, before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mlcls.errors import ConfigError

#: mmengine's "no end".
_NO_END = 10**9
#: Schedules that change the value only at single moments, or when a metric says so.
_SINGLE = ('MultiStep', 'Step', 'ReduceOnPlateau')
#: Schedules that end at another value than they begin with, so that it matters where they end.
_FALLING = ('CosineAnnealing', 'Poly', 'Linear')
#: The argument that says how long a schedule takes.
_LENGTHS = ('T_max', 'total_steps')


@dataclass(frozen=True)
class RunLength:
    """How long a training is.

    Args:
        epochs: Number of epochs.
        epoch_iters: Iterations (batches) of an epoch.
    """

    epochs: int
    epoch_iters: int

    @property
    def iters(self) -> int:
        """Iterations of the whole run."""
        return self.epochs * self.epoch_iters


@dataclass(frozen=True)
class Schedule:
    """One entry of ``param_scheduler``.

    Args:
        where: Its key and type, for messages.
        kind: Its type without the ending (``LR``, ``Momentum``, ``ParamScheduler``).
        param: What it changes: ``'lr'``, ``'momentum'`` or another entry of the optimiser's groups.
        config: Its config.
        begin: First moment, in its unit.
        end: Moment after its last, in its unit; the end of the run where the config says none.
        run: Length of the run.
    """

    where: str
    kind: str
    param: str
    config: Mapping[str, Any]
    begin: float
    end: float
    run: RunLength

    @property
    def by_epoch(self) -> bool:
        """Whether its numbers are epochs."""
        return bool(self.config.get('by_epoch', True))

    @property
    def limit(self) -> int:
        """Length of the run in its unit."""
        return self.run.epochs if self.by_epoch else self.run.iters

    @property
    def unit(self) -> str:
        """``'epoch'`` or ``'iteration'``."""
        return 'epoch' if self.by_epoch else 'iteration'

    @property
    def warms_up(self) -> bool:
        """Whether it leads from a small value to the full one."""
        default = 1.0 / 3 if self.kind in ('Linear', 'Constant') else 1.0
        if self.kind == 'Constant':
            return self.config.get('factor', default) < 1
        return self.kind == 'Linear' and self.config.get('start_factor', default) < self.config.get('end_factor', 1.0)

    @property
    def length(self) -> tuple[str, Any] | None:
        """The argument that says how long it takes, and its value; None without one."""
        return next(((key, self.config[key]) for key in _LENGTHS if self.config.get(key) is not None), None)

    @property
    def last(self) -> float:
        """Moment at which it has come to its final value, or that its ``end`` cuts off."""
        length = self.length
        return self.end if length is None else min(self.end, self.begin + length[1])

    def span(self) -> tuple[float, float]:
        """Begin and end in iterations, within the run."""
        scale = self.run.epoch_iters if self.by_epoch else 1
        return self.begin * scale, min(self.last * scale, self.run.iters)

    def moments(self) -> list[float]:
        """Of a schedule that changes the value at single moments: those, in iterations."""
        scale = self.run.epoch_iters if self.by_epoch else 1
        if self.kind == 'MultiStep':
            return [(self.begin + each) * scale for each in self.config.get('milestones', ())]
        size = self.config.get('step_size')
        if self.kind != 'Step' or not size or size < 1:
            return []
        count = int((min(self.end, self.limit) - self.begin - 1) // size)
        return [(self.begin + (number + 1) * size) * scale for number in range(max(0, count))]


def read_schedules(schedulers: Any, run: RunLength) -> list[Schedule]:
    """The entries of ``param_scheduler`` that are configs."""
    entries = [schedulers] if isinstance(schedulers, Mapping) else list(schedulers or [])
    return [_read(number, cfg, run) for number, cfg in enumerate(entries) if isinstance(cfg, Mapping)]


def _read(number: int, cfg: Mapping[str, Any], run: RunLength) -> Schedule:
    name = cfg['type'] if isinstance(cfg['type'], str) else cfg['type'].__name__
    name = name.rpartition('.')[2]
    kind, param = name, str(cfg.get('param_name', 'lr'))
    for ending in ('ParamScheduler', 'Momentum', 'LR'):
        if name.endswith(ending):
            kind = name.removesuffix(ending)
            param = 'momentum' if ending == 'Momentum' else param
            break
    begin, end = cfg.get('begin', 0), cfg.get('end')
    if end is None or end >= _NO_END:
        end = run.epochs if cfg.get('by_epoch', True) else run.iters
    return Schedule(f'param_scheduler.{number} ({name})', kind, param, cfg, begin, end, run)


def check_schedules(schedulers: Any, run: RunLength) -> list[str]:
    """Compare schedules with the length of the run and with each other.

    Args:
        schedulers: ``param_scheduler`` of the config.
        run: Length of the run.

    Returns:
        What is possible, but rarely meant, as sentences.

    Raises:
        ConfigError: A schedule cannot run, would fail on the way, or never lets the model train at its full rate.
    """
    schedules = read_schedules(schedulers, run)
    notes: list[str] = []
    for schedule in schedules:
        _check_numbers(schedule)
        notes += _long_warm_up(schedule)
        if schedule.kind == 'OneCycle':
            _check_one_cycle(schedule)
        notes += _beyond(schedule)
    for param in dict.fromkeys(schedule.param for schedule in schedules):
        of_param = [schedule for schedule in schedules if schedule.param == param]
        notes += [*_overlaps(of_param), *_gaps(of_param)]
    return notes


def _check_numbers(schedule: Schedule) -> None:
    begin, end, length = schedule.begin, schedule.config.get('end'), schedule.length
    if begin < 0:
        raise ConfigError(f'{schedule.where}: begin={begin} is below 0')
    if end is not None and end <= begin:
        raise ConfigError(f'{schedule.where}: end={end} is not after begin={begin}')
    if length is not None and length[1] < 1:
        raise ConfigError(f'{schedule.where}: {length[0]}={length[1]} must be at least 1')
    if schedule.kind == 'Step' and schedule.config.get('step_size', 1) < 1:
        raise ConfigError(f'{schedule.where}: step_size={schedule.config["step_size"]} must be at least 1')
    if schedule.by_epoch or schedule.run.epoch_iters == 1 or schedule.warms_up:
        return
    named = length if length is not None else ('end', end)
    if named[1] is not None and begin + named[1] == schedule.run.epochs:
        raise ConfigError(
            f'{schedule.where}: {named[0]}={named[1]} counts iterations (by_epoch=False), and the run has '
            f'{schedule.run.iters}, in {schedule.run.epochs} epochs; set by_epoch=True (with '
            f'convert_to_iter_based=True it still changes each iteration), or {named[0]}={schedule.run.iters - begin:g}'
        )


def _long_warm_up(schedule: Schedule) -> Iterator[str]:
    # No error: a short trial of a config is one.
    last = schedule.last if schedule.config.get('end') is not None or schedule.length else 0
    if schedule.warms_up and last > schedule.limit:
        yield (
            f'{schedule.where}: the warm-up takes until {schedule.unit} {last:g}, but training ends after '
            f'{schedule.unit} {schedule.limit}: the full {_words(schedule.param)} is never reached; lower its end or '
            'raise train_cfg.max_epochs'
        )


def _check_one_cycle(schedule: Schedule) -> None:
    peaks = schedule.config.get('eta_max', 0)
    if min(peaks if isinstance(peaks, Sequence) else [peaks]) <= 0:
        raise ConfigError(f'{schedule.where}: eta_max={peaks} must be above 0; it is the highest learning rate')
    steps = min(schedule.end, schedule.limit) - schedule.begin
    given = schedule.config.get('total_steps')
    total = schedule.end - schedule.begin if given is None else given
    if total == steps:
        return
    effect = 'training would stop with an error' if total < steps else 'its rate would not come down'
    raise ConfigError(
        f'{schedule.where}: its cycle has {total:g} {schedule.unit}s, but training makes {steps:g} of them: {effect}; '
        f'set total_steps={steps:g}, or leave total_steps and end out'
    )


def _beyond(schedule: Schedule) -> Iterator[str]:
    """What would come after the end of the run."""
    limit, unit = schedule.limit, schedule.unit
    if schedule.begin >= limit:
        yield (
            f'{schedule.where} begins at {unit} {schedule.begin:g}, but training ends after {unit} {limit}: it has no '
            'effect'
        )
        return
    late = [each for each in schedule.config.get('milestones') or () if schedule.begin + each >= limit]
    if late:
        yield (
            f'{schedule.where}: milestones {", ".join(f"{each:g}" for each in late)} lie at or after the end of the '
            f'training ({unit} {limit}) and are never reached'
        )
    length, end = schedule.length, schedule.config.get('end')
    if schedule.warms_up and schedule.last == limit:
        yield (
            f'{schedule.where}: the warm-up takes the whole training, up to {unit} {limit}; set its end, if '
            'that is not meant'
        )
    goals = [each for each in (end, None if length is None else schedule.begin + length[1]) if each is not None]
    if goals and limit < (goal := min(goals)) < _NO_END and schedule.kind not in (*_SINGLE, 'OneCycle'):
        yield (
            f'{schedule.where} goes on to {unit} {goal:g}, but training ends after {unit} {limit}: the '
            f'{_words(schedule.param)} stops on the way'
        )
    stop = min(schedule.end, limit)
    if schedule.kind == 'CosineAnnealing' and length is not None and schedule.begin + length[1] < stop:
        yield (
            f'{schedule.where}: comes down within {length[1]:g} {unit}s (T_max) but lasts until {unit} {stop:g}: its '
            f'cosine rises again; set T_max={stop - schedule.begin:g}'
        )


def _overlaps(schedules: list[Schedule]) -> Iterator[str]:
    for first, second in combinations(schedules, 2):
        if _meet(first, second):
            yield (
                f'{first.where} and {second.where} change {first.param} at the same time, and their effects '
                f'multiply; let one begin where the other ends'
            )


def _meet(first: Schedule, second: Schedule) -> bool:
    if first.kind in _SINGLE and second.kind in _SINGLE:
        return False  # steps at given moments multiply as meant
    if second.kind in _SINGLE:
        first, second = second, first
    start, end = second.span()
    if first.kind in _SINGLE:
        return any(start < moment < end for moment in first.moments())
    return max(start, first.span()[0]) < min(end, first.span()[1])


def _gaps(schedules: list[Schedule]) -> Iterator[str]:
    """Stretches between two schedules, or after the last, in which nothing changes."""
    lasting = sorted(
        (each for each in schedules if each.kind not in _SINGLE and each.begin < each.limit),
        key=lambda each: each.span(),
    )
    if not lasting:
        return
    last = lasting[0]
    for following in lasting[1:]:
        (_, end), (start, _) = last.span(), following.span()
        if start > end:
            yield (
                f'{last.param} stays as it is between {last.where}, which ends at iteration {end:g}, and '
                f'{following.where}, which begins at iteration {start:g}'
            )
        if following.span()[1] > end:
            last = following
    end, run = last.span()[1], last.run
    # A cosine without an end rises again, which is told elsewhere; a warm-up is meant to end.
    stays = last.kind in _FALLING and not last.warms_up and (last.kind != 'CosineAnnealing' or last.last == last.end)
    if stays and end < run.iters and not any(each.kind in _SINGLE for each in schedules):
        yield (
            f'{last.where} has ended at iteration {end:g} of {run.iters}: the rest is trained at its last '
            f'{_words(last.param)}'
        )


def _words(param: str) -> str:
    return 'learning rate' if param == 'lr' else param
