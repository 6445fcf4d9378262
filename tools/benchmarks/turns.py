"""Loops that take turns of a few steps: where the speed of a machine changes from second to second, it does so for
all of them alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook

#: Steps of a turn. The first is not timed: caches are full of what the others need.
TURN = 10


class Turns(Hook):
    """One loop's place in the round; as a hook of a runner or by its `tick`, it is told of each step that is over."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        #: Seconds of the timed steps of each turn.
        self.seconds: list[float] = []
        self.after: Turns | None = None
        self.is_over = False
        self._may_go = threading.Semaphore(0)
        self._steps, self._began = 0, 0.0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """A step of a runner is over."""
        self.tick()

    def tick(self) -> None:
        """A step is over; at the end of a turn, wait for the next one."""
        now = time.perf_counter()
        self._steps += 1
        if self._steps % TURN == 1:
            self._began = now
        elif self._steps % TURN == 0:
            self.seconds.append(now - self._began)
            self.pass_on()
            self.wait()

    def wait(self) -> None:
        """Until it is this loop's turn."""
        self._may_go.acquire()

    def pass_on(self) -> None:
        """Let the next loop go that is not over."""
        following = self.after
        while following is not None and following.is_over and following is not self:
            following = following.after
        if following is not None:
            following._may_go.release()


def race(loops: Mapping[str, Callable[[Turns], Any]]) -> dict[str, list[float]]:
    """Run loops in threads of one process, one at a time, ``TURN`` steps each.

    Args:
        loops: Called with what has to be told of each step.

    Returns:
        Seconds of ``TURN - 1`` steps, of each turn, by name.

    Raises:
        Exception: What a loop raised.
    """
    places = {name: Turns() for name in loops}
    row = list(places.values())
    for place, after in zip(row, [*row[1:], row[0]]):
        place.after = after
    errors: list[Exception] = []

    def run(name: str) -> None:
        places[name].wait()
        torch.set_num_threads(1)  # threads have their own number
        try:
            loops[name](places[name])
        except Exception as error:
            errors.append(error)
        places[name].is_over = True
        places[name].pass_on()

    threads = [threading.Thread(target=run, args=(name,)) for name in loops]
    for thread in threads:
        thread.start()
    row[0]._may_go.release()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return {name: place.seconds for name, place in places.items()}
