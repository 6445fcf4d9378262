"""What the engine adds to a training step, beside mmengine's own Runner, and which part of it adds how much."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from engine_rivals import INTERVAL, mmengine_runner, our_runner, ready_loader, train_bare
from mmengine.hooks import Hook
from turns import TURN, Turns, race


def overhead(folder: Path, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds a step of our loop and of mmengine's beyond a bare one.

    Args:
        folder: For data and runs.
        rounds: Races; the median over them counts.
        steps: Of each loop in a race.
    """
    loader = ready_loader(folder, steps)
    taken: dict[str, list[float]] = {}
    works = (folder / str(number) for number in range(2 * rounds))
    loops: list[tuple[str, Callable[[Turns], Any]]] = [
        ('bare', lambda turns: train_bare(loader, turns.tick)),
        ('mmengine', lambda turns: mmengine_runner(next(works), loader, [turns]).train()),
        ('mlcls', lambda turns: our_runner(next(works), loader, [turns]).train()),
    ]
    for _ in range(rounds):
        gc.collect()
        for name, seconds in race(dict(loops)).items():
            taken.setdefault(name, []).append(line_ms(seconds))
        loops.reverse()  # each has had each other before it
    added = {name: statistics.median(a - b for a, b in zip(values, taken['bare'])) for name, values in taken.items()}
    return {
        'overhead_ms': round(added['mlcls'], 4),
        'overhead_vs_mmengine': round(added['mlcls'] / added['mmengine'], 3),
        'mmengine_overhead_ms': round(added['mmengine'], 4),
        'bare_step_ms': round(statistics.median(taken['bare']), 4),
        'overhead_ms_of_rounds': [round(a - b, 3) for a, b in zip(taken['mlcls'], taken['bare'])],
    }


def line_ms(seconds: list[float], skipped: int = 1) -> float:
    """Milliseconds a step, the median over groups of turns with one log line each; the first groups warm up."""
    turns = INTERVAL // TURN
    groups = [seconds[at : at + turns] for at in range(skipped * turns, len(seconds) - turns + 1, turns)]
    return statistics.median(sum(group) for group in groups) / (turns * (TURN - 1)) * 1000


class Parts(Hook):
    """Times, in each step, what a bare loop does not do."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def before_train(self, runner: Any) -> None:
        """Put timers around the parts."""
        from mlcls.engine import step

        wrapper = runner.optim_wrapper
        for part, owner, name in (
            ('gradient norm and clipping', wrapper, 'clip_gradients'),
            ('is the loss finite', wrapper.guard, 'mark'),
            ('is the gradient finite', wrapper.guard, 'admits'),
            ('sums of losses', runner.meter, 'add'),
            ('wishes to stop or save', runner, 'decide'),
            ('seed of the step', step, 'seed_step'),
        ):
            setattr(owner, name, self._timed(part, getattr(owner, name)))
        for hook in runner.hooks:
            for stage in ('before_train_iter', 'after_train_iter'):
                if hook is not self and getattr(type(hook), stage) is not getattr(Hook, stage):
                    setattr(hook, stage, self._timed(type(hook).__name__, getattr(hook, stage)))

    def _timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        taken = self.seconds.setdefault(part, [])

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                taken.append(time.perf_counter() - began)

        return timed


def overhead_parts(folder: Path, steps: int) -> dict[str, Any]:
    """Microseconds a step of each part: the mean over all steps, without the slowest hundredth but for log lines."""
    from mlcls.engine import step

    parts, seed_step, threads = Parts(), step.seed_step, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        our_runner(folder / 'parts', ready_loader(folder, steps), [parts]).train()
    finally:
        step.seed_step = seed_step
        torch.set_num_threads(threads)
    found = {}
    for part, taken in parts.seconds.items():
        kept = sorted(taken) if part == 'LoggerHook' else sorted(taken)[: -len(taken) // 100]
        found[part] = round(1e6 * sum(kept) / len(kept) * len(taken) / steps, 1)
    return {'overhead_parts_us': dict(sorted(found.items(), key=lambda pair: -pair[1]))}
